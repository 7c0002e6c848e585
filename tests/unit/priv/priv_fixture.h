/* Children that give powers away, and how they end. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define skip_because(why)                                                                          \
	do {                                                                                       \
		print_message("skipped: %s\n", (why));                                             \
		skip();                                                                            \
	} while (0)

#define NO_FILTERS "the sanitizers' runtime needs calls that the filters refuse"

/* Runs fn in a child; its status as of waitpid. */
int in_child(int (*fn)(void));
/* By SIGSYS. */
int is_killed_by_filter(int status);
