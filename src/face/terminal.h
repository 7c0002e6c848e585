/*
 * The face on a terminal: a full-screen program over the stores (terminal_ui.h says what it shows
 * and does; docs/SUPERVISE.md what a decision is).
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>

struct face_terminal_options {
	const char *slug; /* the bottle that is selected first; NULL: all */
	bool rings;	  /* the bell at a new request, at most once in a few seconds */
};

/* Until the human leaves. -ENOTTY where standard input or output is no terminal that can be drawn
 * on. *signal: the one that ended it, with 0 returned, or 0. The terminal is as it was on every way
 * out, but for a SIGKILL. */
int face_terminal(const struct face_terminal_options *o, int *signal, struct err *e) _fallible_;
