#include "workspace/report.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/json.h"
#include "base/text.h"
#include "conf/risky_path.h"
#include "workspace/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define REPORT_JSON_MAX (32u << 20)
#define REPORT_PATH_MAX 300

struct report_writer {
	struct buf *out;
	size_t n;
	int ret;
};

static void report_row(void *ctx, enum inventory_change c, const struct inventory_item *i)
{
	struct report_writer *w = ctx;

	if (w->ret < 0 || w->n >= REPORT_ROWS_MAX) {
		w->n++;
		return;
	}
	w->ret = buf_printf(w->out,
			    "%s{\"change\":\"%s\",\"kind\":\"%s\",\"path\":", w->n ? ",\n" : "\n",
			    inventory_change_name(c), inventory_kind_name(i));
	if (w->ret == 0)
		w->ret = text_json(w->out, str_of(i->path));
	if (w->ret == 0)
		w->ret = buf_printf(w->out, ",\"why\":");
	if (w->ret == 0)
		w->ret = text_json(w->out, str_of(inventory_why(i)));
	/* Executable is said where it matters: a hook without the bit is not run. */
	if (w->ret == 0)
		w->ret = buf_printf(w->out, ",\"host\":%s,\"executable\":%s}",
				    i->risk & RISKY_HOST || i->kinds != INVENTORY_RISKY ? "true"
											: "false",
				    S_ISREG(i->mode) && i->mode & 0111 ? "true" : "false");
	w->n++;
}

int report_to_json(const char *path, const struct inventory *before, const struct inventory *after,
		   struct buf *out)
{
	struct report_writer w = {.out = out};
	bool was_cut = before->was_cut || after->was_cut;

	w.ret = buf_printf(out, "{\"version\":1,\"path\":");
	if (w.ret == 0)
		w.ret = text_json(out, str_of(path));
	if (w.ret == 0)
		w.ret = buf_printf(out, ",\"changes\":[");
	if (w.ret == 0)
		inventory_compare(before, after, report_row, &w);
	was_cut |= w.n > REPORT_ROWS_MAX;
	return w.ret == 0 ? buf_printf(out, "],\"total\":%zu,\"cut\":%s}\n", w.n,
				       was_cut ? "true" : "false")
			  : w.ret;
}

static int print_row(const json_t *row, struct buf *out)
{
	const char *change = json_string_value(json_object_get(row, "change"));
	const char *path = json_string_value(json_object_get(row, "path"));
	const char *why = json_string_value(json_object_get(row, "why"));
	bool is_executable = json_is_true(json_object_get(row, "executable"));
	int ret;

	if (!change || !path || !why)
		return -EBADMSG;
	ret = buf_printf(out, "  %-7s  ", change);
	if (ret == 0)
		ret = text_visible(out, str_of(path), REPORT_PATH_MAX);
	if (ret == 0 && is_executable && strcmp(change, "deleted") != 0)
		ret = buf_printf(out, " (executable)");
	return ret == 0 ? buf_printf(out, "  %s\n", why) : ret;
}

int report_print(struct str json, const char *slug, size_t max, size_t *n, struct buf *out,
		 struct err *e)
{
	_cleanup_json_ json_t *root = json_loadb(json.p, json.n, JSON_REJECT_DUPLICATES, NULL);
	const json_t *rows = json_object_get(root, "changes");
	const json_t *total = json_object_get(root, "total");
	size_t shown = json_array_size(rows);
	int ret = 0;

	*n = 0;
	if (!json_is_array(rows) || !json_is_integer(total))
		return err_set(e, -EBADMSG, "the report is damaged");
	*n = (size_t)json_integer_value(total);
	if (max && shown > max)
		shown = max;
	if (*n)
		ret = buf_printf(out, "changed in the workspace, and executed or obeyed by the "
				      "host (look before you use it):\n");
	for (size_t i = 0; ret == 0 && i < shown; i++)
		ret = print_row(json_array_get(rows, i), out);
	if (ret == 0 && *n > shown && slug)
		ret = buf_printf(out, "  … and %zu more; see claude-bottle diff %s\n", *n - shown,
				 slug);
	else if (ret == 0 && *n > shown)
		ret = buf_printf(out, "  … and %zu more\n", *n - shown);
	if (ret == 0 && json_is_true(json_object_get(root, "cut")))
		ret = buf_printf(out, "  (the folder is too large to have been looked at in "
				      "whole)\n");
	return ret < 0 ? err_set(e, ret, "the report cannot be shown") : 0;
}

int report_load(int state_fd, struct str *json, struct err *e)
{
	_cleanup_close_ int dir =
		openat(state_fd, WORKSPACE_STATE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_close_ int fd = -1;

	*json = STR_NULL;
	if (dir < 0)
		return errno == ENOENT ? -ENOENT : err_errno(e, "open the workspace's state");
	fd = openat(dir, "report.json", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : err_errno(e, "open the report");
	return io_read_all(fd, REPORT_JSON_MAX, json, e);
}
