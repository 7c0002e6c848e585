/* The images of all backends, for `image list` and `image remove` (backend/images.h). */
#pragma once

#include "cli/cli.h"

struct images_removal {
	const char *const *names; /* references or ids; none: by what they are */
	size_t n_names;
	bool is_all; /* also those that a start would use */
	bool is_json;
};

/* These return a verb's exit status. A store that this host has not got is a line for people, and
 * no failure. */
int images_list(bool is_json);
int images_remove(const struct images_removal *what);
/* "12.3 MB" */
void images_size(char *out, size_t size, uint64_t bytes);
