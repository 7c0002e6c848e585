/*
 * Debian's tree, made on this host with mmdebstrap out of Debian's archive as apt here reaches it:
 * what the images of a container engine stand on where no registry answers, and what a microVM's
 * disk is made of.
 */
#pragma once

#include "base/tool.h"

/* The arguments without further ones, which are for the tag of what is made; ends with NULL. */
extern const char *const bootstrap_recipe[];

/* Starts mmdebstrap, which writes the tree as a tar to out_fd; more: further options, ends with
 * NULL, or NULL. tool_end() tells how it went. */
int bootstrap_start(struct tool_run *r, const char *const *more, int out_fd,
		    struct err *e) _fallible_;
