/* The first process of a microVM (init.c), as the executable that it is: /init of an initramfs. */
#pragma once

#include <stddef.h>

extern const unsigned char machine_init[];
extern const size_t machine_init_size;
