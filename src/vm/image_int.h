/* Between the files that make an image's root file system. */
#pragma once

#include "vm/vm_int.h"

#include "engine/engine.h"

struct vm_source {
	const char *provider, *named;
	const struct progress *progress;
	int folder;	/* the store */
	char stem[160]; /* of the names of its files in the store: "shell-KEY" */
	char group[96]; /* what all that this one stands in the place of begin with */
	char image[80]; /* of an engine's, when it is known: its id */
};

/* The tar of an image of a Docker engine's, into the file fd. */
int vm_image_export(const struct engine *en, const char *id, const struct progress *progress,
		    int fd, struct err *e) _fallible_;
