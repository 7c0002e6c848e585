/*
 * Debian's tree, made on this host with mmdebstrap out of Debian's archive as apt here reaches it:
 * what the images of a container engine stand on where no registry answers, and what a microVM's
 * disk is made of.
 */
#pragma once

#include "base/tool.h"

/* The arguments without further ones, which are for the tag of what is made; ends with NULL. */
extern const char *const bootstrap_recipe[];

/* Starts mmdebstrap, which writes the tree as a tar to out_fd. packages: further ones, between
 * blanks or lines; settle: a shell script that is run in the tree when they are there; either may
 * be NULL.
 */
int bootstrap_start(struct tool_run *r, const char *packages, const char *settle, int out_fd,
		    struct err *e) _fallible_;
/* Whether this user has what mmdebstrap needs beside itself. -EPERM: the commands for root. */
int bootstrap_check(struct err *e) _fallible_;
/* tool_end(), and what to do where an ordinary user may not make a tree. */
int bootstrap_end(struct tool_run *r, bool must_die, struct err *e) _fallible_;
