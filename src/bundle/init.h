/* The bundle's first process. */
#pragma once

/* argv: NAME=FD arguments as listed in bundle.h. The exit status: 0 stopped as told, 1 failed. */
int init_main(char **argv);
