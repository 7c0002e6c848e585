/*
 * What goes on, on standard error: on a terminal one line that is written over, elsewhere a line
 * for each step, and for a step that goes on another one every PROGRESS_PERIOD_MS. Its texts are
 * an engine's or a build's words: control bytes are made visible.
 */
#pragma once

#include "base/progress.h"

#include <stdbool.h>
#include <stddef.h>

#define PROGRESS_LINE_MAX  512
#define PROGRESS_PERIOD_MS 5000
#define PROGRESS_FRAME_MS  100 /* between two writings of the same terminal line */

struct progress_view {
	int fd;
	bool may_rewrite;
	bool is_shown;	   /* a line stands on the terminal */
	size_t columns;	   /* of the terminal: what is longer would not be written over */
	uint64_t shown_ns; /* when the last line was written */
	char step[64];
};

/* A terminal that understands how to clear a line. */
bool progress_may_rewrite(int fd);
/* Borrows fd. may_rewrite: it is a terminal and a human watches. */
void progress_view_init(struct progress_view *v, int fd, bool may_rewrite);
/* The sink for who works; valid as long as v. */
struct progress progress_view_sink(struct progress_view *v);
/* Takes the terminal's line away again, so that the next message stands alone. */
void progress_view_end(struct progress_view *v);
