/* A process that is called like one of a bundle's: /bin/sh under that name, which waits. */
#pragma once

#include <sys/types.h>

/* `folder/claude-bottle-bundle WORD ARGUMENT`, behind these words (NULL at the end; NULL: none),
 * which execute it. It dies with the test. */
pid_t double_start(const char *folder, const char *word, const char *argument,
		   const char *const *before);
/* The folder, with what was made for it. */
void double_remove(const char *folder, const char *word);
