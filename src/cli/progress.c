#include "cli/progress.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/str.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PREFIX	     "claude-bottle: "
#define CLEAR_LINE   "\r\x1b[K"
#define COLUMNS_MIN  40
#define COLUMNS_ELSE 80

static size_t columns_of(int fd)
{
	struct winsize size;

	if (ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_col < COLUMNS_MIN)
		return COLUMNS_ELSE;
	return size.ws_col;
}

bool progress_may_rewrite(int fd)
{
	const char *term = getenv("TERM");

	return isatty(fd) && term && term[0] && strcmp(term, "dumb") != 0;
}

void progress_view_init(struct progress_view *v, int fd, bool may_rewrite)
{
	*v = (struct progress_view){.fd = fd, .may_rewrite = may_rewrite};
	v->columns = may_rewrite ? columns_of(fd) : PROGRESS_LINE_MAX;
}

/* Cuts by code points what would run over the terminal's edge. */
static size_t cut(const char *line, size_t n, size_t columns)
{
	size_t width = 0;

	for (size_t i = 0; i < n; i++) {
		bool is_begin = ((unsigned char)line[i] & 0xc0) != 0x80;

		if (is_begin && width++ == columns)
			return i;
	}
	return n;
}

static void write_line(struct progress_view *v, const char *text)
{
	char line[PROGRESS_LINE_MAX + 32];
	int n = snprintf(line, sizeof(line), PREFIX "%s", text);
	/* The last column stays free: writing there wraps on some terminals. */
	size_t kept = n > 0 ? cut(line, strnlen(line, sizeof(line)), v->columns - 1) : 0;

	if (v->may_rewrite)
		(void)!io_write_all(v->fd, CLEAR_LINE, sizeof(CLEAR_LINE) - 1);
	(void)!io_write_all(v->fd, line, kept);
	if (!v->may_rewrite)
		(void)!io_write_all(v->fd, "\n", 1);
	v->is_shown = v->may_rewrite;
	v->shown_ns = time_monotonic_ns();
}

static void on_progress(void *ctx, const char *step, const char *text, uint64_t done,
			uint64_t total)
{
	struct progress_view *v = ctx;
	uint64_t period_ms = v->may_rewrite ? PROGRESS_FRAME_MS : PROGRESS_PERIOD_MS;
	char shown[PROGRESS_LINE_MAX / 2], name[sizeof(v->step)], line[PROGRESS_LINE_MAX];
	char part[16] = "";
	bool is_new;

	text_visible_cstr(name, sizeof(name), str_of(step ? step : ""));
	is_new = strcmp(name, v->step) != 0;
	if (!is_new && time_monotonic_ns() - v->shown_ns < period_ms * TIME_NS_PER_MS)
		return;
	memcpy(v->step, name, sizeof(name));
	text_visible_cstr(shown, sizeof(shown), str_of(text ? text : ""));
	if (total > 0)
		(void)snprintf(
			part, sizeof(part), " %u %%",
			(unsigned)(done >= total ? 100 : (double)done * 100 / (double)total));
	(void)snprintf(line, sizeof(line), "%s%s%s%s", name, part, shown[0] ? ": " : "", shown);
	write_line(v, line);
}

struct progress progress_view_sink(struct progress_view *v)
{
	return (struct progress){.fn = on_progress, .ctx = v};
}

void progress_view_end(struct progress_view *v)
{
	if (v->is_shown)
		(void)!io_write_all(v->fd, CLEAR_LINE, sizeof(CLEAR_LINE) - 1);
	v->is_shown = false;
	v->step[0] = '\0';
}
