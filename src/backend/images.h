/*
 * What backends keep on this host beyond a bottle's life: images, and what is made of them. Such a
 * store may be several backends' own: those of the microVMs start from the same files.
 */
#pragma once

#include "backend/backend.h"

struct backend_image {
	char kind[16];
	char reference[BACKEND_PATH_MAX]; /* by which people know it; "": it has no name any more.
					     Not made visible */
	char id[256];			  /* of this one alone */
	uint64_t size_bytes;
	int64_t created; /* seconds since 1970 */
	int64_t used;	 /* last; likewise; 0: not known */
	bool is_current; /* a start may ask for it */
	bool is_used;	 /* just now, by a bottle or a container */
};

struct backend_images {
	const char *name;
	/* Ours, newest first; the caller frees *list. -ENODEV: this host has no such store to be
	 * asked, and why. */
	int (*list)(struct backend_image **list, size_t *n, struct err *e);
	/* Holds off who makes images, until *fd is closed (-1: goes without): before the list that
	 * is removed from. */
	int (*lock)(const struct progress *progress, int *fd, struct err *e);
	/* With what stands on it and is of no use without. 0 also if it is gone by now. -EBUSY: it
	 * is used, or another stands on it; then nothing has happened. */
	int (*remove)(const struct backend_image *x, struct err *e);
	/* Removes (is_dry: counts) what makings have left that were broken off. May be NULL. */
	int (*sweep)(bool is_dry, size_t *n, struct err *e);
};

extern const struct backend_images backend_images_docker, backend_images_machines;
/* The stores of all backends of this build, each once. Returns how many. */
size_t backend_images_all(const struct backend_images *out[PLAN_BACKEND_COUNT]);
