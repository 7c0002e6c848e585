/*
 * The one clean-up idiom: variables that release themselves at the end of their scope, and
 * take_*() to hand them on.
 */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void clean_free_p(void *p)
{
	free(*(void **)p);
}

static inline void clean_close_p(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

static inline void clean_fclose_p(FILE **f)
{
	if (*f)
		(void)fclose(*f);
}

static inline void clean_closedir_p(DIR **d)
{
	if (*d)
		(void)closedir(*d);
}

#define _cleanup_(fn)	   __attribute__((cleanup(fn)))
#define _cleanup_free_	   _cleanup_(clean_free_p)
#define _cleanup_close_	   _cleanup_(clean_close_p)
#define _cleanup_fclose_   _cleanup_(clean_fclose_p)
#define _cleanup_closedir_ _cleanup_(clean_closedir_p)

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

static inline void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

#define take_ptr(pp)                                                                               \
	({                                                                                         \
		__typeof__(*(pp)) t_ = *(pp);                                                      \
		*(pp) = NULL;                                                                      \
		t_;                                                                                \
	})

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
