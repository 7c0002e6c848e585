/* The report of a bottle's workspace: report.json in its state folder, and its lines for people. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "workspace/inventory.h"

#define REPORT_LINES_SHOWN 20
#define REPORT_ROWS_MAX	   10000

/* {"version":1,"path":…,"cut":…,"changes":[{"change","kind","path","why","host","executable"}],
 * "total":N} */
int report_to_json(const char *path, const struct inventory *before, const struct inventory *after,
		   struct buf *out) _fallible_;
/* For people, one line for each change, at most max (0: all), then how many more there are and how
 * to see them. Nothing is appended when nothing has changed. *n: changes. slug: may be NULL. */
int report_print(struct str json, const char *slug, size_t max, size_t *n, struct buf *out,
		 struct err *e) _fallible_;
/* The text of report.json; the caller frees. -ENOENT (without an error): there is none. */
int report_load(int state_fd, struct str *json, struct err *e) _fallible_;
