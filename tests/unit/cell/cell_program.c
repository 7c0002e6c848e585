/* What the tests run in place of the bundle's executable: process 1 of a cell. */
#include "cell/cell.h"

#include <string.h>

/* The leak checker traces its own process, which a process that is not dumpable does not allow. */
const char *__asan_default_options(void); /* NOLINT: the sanitizer's name */
const char *__asan_default_options(void)  /* NOLINT */
{
	return "detect_leaks=0";
}

int main(int argc, char **argv)
{
	return argc > 1 && strcmp(argv[1], "cell") == 0 ? cell_main(argc - 2, argv + 2) : 99;
}
