#include "cli/workspace_report.h"

#include "base/io.h"
#include "cli/cli.h"
#include "workspace/report.h"

#include <errno.h>

#define SHOWN_BYTES_MAX (8u << 20)

void workspace_report_show(int dir, const char *slug)
{
	_cleanup_(buf_free) struct buf out = BUF_INIT(SHOWN_BYTES_MAX);
	_cleanup_free_ char *text = NULL;
	struct err e = ERR_INIT;
	struct str json;
	size_t n = 0;
	int r = report_load(dir, &json, &e);

	text = (char *)(uintptr_t)json.p;
	if (r == -ENOENT && !e.code)
		return;
	if (r == 0)
		r = report_print(json, slug, slug ? REPORT_LINES_SHOWN : 0, &n, &out, &e);
	if (r < 0)
		cli_note("what changed in the workspace cannot be said: %s", e.text);
	else if (buf_len(&out))
		(void)!io_write_all(STDERR_FILENO, buf_str(&out).p, buf_len(&out));
}
