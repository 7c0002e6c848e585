/* Between the files that make an image's root file system. */
#pragma once

#include "vm/vm_int.h"

#include "engine/engine.h"

#define VM_IMAGE_STEP  "machine image"
#define VM_IMAGE_LOCK  "image.lock" /* of who makes one, or removes what was made */
#define VM_MAKING      "making"	    /* its file */
#define VM_FETCHING    "fetching"   /* its folder */
#define VM_TAR_SUFFIX  ".tar"
#define VM_NAME_SUFFIX ".name" /* what people called it */

struct vm_source {
	const char *provider, *named;
	const struct progress *progress;
	int folder;	 /* the store */
	char stem[160];	 /* of the names of its files in the store: "shell-KEY" */
	char group[96];	 /* what the names of all that it takes the place of begin with */
	const char *tar; /* what it is made of */
	/* Of an engine's, when that has it. */
	struct engine engine;
	char image[80]; /* its id */
};

/* Writes what it makes into the empty file fd. */
typedef int (*vm_make_fn)(const struct vm_source *s, int fd, struct err *e);

/* --- image.c --- */

/* Might a start ask for it? named: as of vm_image_ensure(), NULL where nobody named it or it is not
 * known any more. Where that cannot be told, yes. */
bool vm_image_is_wanted(const char *group, const char *stem, const char *named);

/* --- image_make.c --- */

/* Debian with the packages of images/shell. */
int vm_image_bootstrap(const struct vm_source *s, int fd, struct err *e) _fallible_;
/* s->tar and the provider's executable. */
int vm_image_add_agent(const struct vm_source *s, int fd, struct err *e) _fallible_;

/* --- image_engine.c --- */

/* Fills in engine and image, if an engine answers and has it, or, if may_make, can have it.
 * -ENODEV: no engine answers. */
int vm_image_of_engine(struct vm_source *s, bool may_make, struct err *e) _fallible_;
int vm_image_export(const struct vm_source *s, int fd, struct err *e) _fallible_;
