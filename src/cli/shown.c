#include "cli/shown.h"

#include "cli/table.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/signals.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

#define SHOWN_GROWTH 8 /* a byte becomes "<U+202E>" at most */

int shown_line(struct buf *out, struct str line)
{
	int ret = 0;

	while (ret == 0 && line.n > 0) {
		uint32_t c = 0;
		size_t n = text_utf8_next(line, &c);

		if (n == 0)
			ret = buf_printf(out, "<%02X>", (unsigned)(unsigned char)line.p[0]);
		else if (c != '\t' && (c < 0x20 || (c >= 0x7f && text_is_deceptive(c))))
			ret = buf_printf(out, "<U+%04X>", c);
		else
			ret = buf_append(out, line.p, n);
		line = str_sub(line, n ? n : 1, line.n);
	}
	return ret;
}

static _Noreturn void pager_exec(int in)
{
	const char *pager = getenv("PAGER");

	signals_reset();
	(void)setenv("LESS", "FRX", 0);
	if (dup2(in, 0) < 0)
		_exit(127);
	if (pager && pager[0])
		(void)execl("/bin/sh", "sh", "-c", pager, (char *)NULL);
	else
		(void)execlp("less", "less", "-FRX", (char *)NULL);
	(void)execlp("cat", "cat", (char *)NULL);
	_exit(127);
}

void shown_open(struct shown *s, bool may_page)
{
	int pair[2];

	*s = (struct shown){.fd = STDOUT_FILENO, .has_colour = table_may_colour(STDOUT_FILENO)};
	(void)signal(SIGPIPE, SIG_IGN);
	if (!may_page || !isatty(STDOUT_FILENO) || pipe2(pair, O_CLOEXEC) < 0)
		return;
	s->pager = fork();
	if (s->pager == 0)
		pager_exec(pair[0]);
	(void)close(pair[0]);
	if (s->pager < 0) {
		s->pager = 0;
		(void)close(pair[1]);
		return;
	}
	s->fd = pair[1];
	/* ^C is the pager's. */
	(void)signal(SIGINT, SIG_IGN);
}

static const char *colour_of(const struct shown *s)
{
	struct str line = str_slice(s->line, s->n);

	if (!s->has_colour || !s->is_diff)
		return NULL;
	if (str_starts(line, STR_LIT("diff ")) || str_starts(line, STR_LIT("+++ ")) ||
	    str_starts(line, STR_LIT("--- ")))
		return table_colour_start(TABLE_BOLD);
	if (str_starts(line, STR_LIT("@@")))
		return table_colour_start(TABLE_DIM);
	if (str_starts(line, STR_LIT("+")))
		return table_colour_start(TABLE_GREEN);
	return str_starts(line, STR_LIT("-")) ? table_colour_start(TABLE_RED) : NULL;
}

static void write_out(struct shown *s, struct str text)
{
	if (!s->has_failed && io_write_all(s->fd, text.p, text.n) < 0)
		s->has_failed = true;
}

/* n bytes of the line; the rest stays. */
static void flush_line(struct shown *s, size_t n, bool is_end, const char *colour)
{
	_cleanup_(buf_free) struct buf out;
	int ret = 0;

	buf_init(&out, SHOWN_LINE_MAX * SHOWN_GROWTH + 64);
	if (colour)
		ret = buf_append_str(&out, str_of(colour));
	if (ret == 0)
		ret = shown_line(&out, str_slice(s->line, n));
	if (ret == 0 && colour)
		ret = buf_append_str(&out, STR_LIT("\x1b[0m"));
	if (ret == 0 && is_end)
		ret = buf_append(&out, "\n", 1);
	if (ret == 0)
		write_out(s, buf_str(&out));
	memmove(s->line, s->line + n, s->n - n);
	s->n -= n;
}

/* How much of a full line may be shown: what may be the beginning of a character waits. */
static size_t whole_part(const struct shown *s)
{
	for (size_t back = 1; back <= 3; back++) {
		unsigned char c = (unsigned char)s->line[s->n - back];

		if (c >= 0xc0)
			return s->n - back;
		if (c < 0x80)
			break;
	}
	return s->n;
}

int shown_put(void *shown, struct str piece)
{
	struct shown *s = shown;

	while (piece.n > 0 && !s->has_failed) {
		size_t end = str_chr(piece, '\n'), room = sizeof(s->line) - s->n;
		bool is_whole = end < piece.n && end <= room;
		size_t n = end < room ? end : room;

		memcpy(s->line + s->n, piece.p, n);
		s->n += n;
		piece = str_sub(piece, n + is_whole, piece.n);
		if (is_whole)
			flush_line(s, s->n, true, colour_of(s));
		else if (s->n == sizeof(s->line))
			flush_line(s, whole_part(s), false, colour_of(s));
	}
	return s->has_failed ? -EPIPE : 0;
}

void shown_mode(struct shown *s, bool is_diff)
{
	if (s->n > 0)
		flush_line(s, s->n, true, colour_of(s));
	s->is_diff = is_diff;
}

void shown_note(struct shown *s, unsigned colour, const char *fmt, ...)
{
	char text[SHOWN_LINE_MAX];
	va_list ap;
	int n;

	shown_mode(s, false);
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	s->n = strlen(text);
	memcpy(s->line, text, s->n);
	flush_line(s, s->n, true,
		   s->has_colour && colour ? table_colour_start((enum table_colour)colour) : NULL);
}

void shown_close(struct shown *s)
{
	shown_mode(s, false);
	if (s->pager <= 0)
		return;
	(void)close(s->fd);
	while (waitpid(s->pager, NULL, 0) < 0 && errno == EINTR)
		;
	(void)signal(SIGINT, SIG_DFL);
}
