/*
 * Text from a repository on its way to a human: nothing in it reaches the terminal but what it
 * shows. Control, bidirectional and invisible characters become <U+202E>, bytes that are no UTF-8
 * <9B>; tabs and line ends stay. Colours are ours, put around whole lines afterwards. On a terminal
 * a pager gets it.
 */
#pragma once

#include "base/buf.h"

#include <sys/types.h>

#define SHOWN_LINE_MAX 8192 /* of input; a longer one is shown in pieces */

struct shown {
	int fd;
	pid_t pager; /* 0: none */
	bool has_colour, is_diff, is_begun, has_failed;
	char line[SHOWN_LINE_MAX];
	size_t n;
};

/* Standard output, or a pager (PAGER, else less) when that is a terminal and may_page. */
void shown_open(struct shown *s, bool may_page);
/* is_diff: lines are coloured as a diff's. Ends an unfinished line. */
void shown_mode(struct shown *s, bool is_diff);
/* -EPIPE when nobody reads any more. For user_git_stream(). */
int shown_put(void *shown, struct str piece);
/* Our own line; colour as of table.h or 0. The text is made visible too. */
void shown_note(struct shown *s, unsigned colour, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Waits for the pager. */
void shown_close(struct shown *s);
/* The conversion, of one line without its end. -ENOBUFS. */
int shown_line(struct buf *out, struct str line) _fallible_;
