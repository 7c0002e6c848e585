/*
 * Why a machine has ended, out of what it and its QEMU have said. The last line is rarely the one:
 * a kernel that panics says why and then lists its registers; one that was told to power off says
 * so.
 */
#include "backend/qemu/qemu_int.h"

#include "base/text.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define WORDS_CHUNK 4096
#define WORDS_QEMU  "qemu-system-"

/* Of two of the same worth the later one is kept, but for a panic, of which each follows from the
 * first. */
enum worth {
	WORTH_NOTHING,
	WORTH_LAST,    /* any line that says something */
	WORTH_QEMU,    /* a complaint of QEMU's */
	WORTH_PANIC,   /* of the kernel */
	WORTH_MACHINE, /* of the programs in there that end the machine: a kernel panics after it */
};

void qemu_words_init(struct qemu_words *w)
{
	*w = (struct qemu_words){.console = {.n = 0}};
}

/* "[    2.582249] text": without the time. */
static struct str without_time(struct str line)
{
	struct str time, rest;
	bool found;

	if (!str_starts(line, STR_LIT("[")))
		return line;
	rest = str_cut(line, ']', &time, &found);
	return found ? str_trim(rest) : line;
}

/* Of a line, which it shortens to what is to be shown of it. */
static enum worth worth_of(struct str *line)
{
	const struct str own = STR_LIT(MACHINE_SAYS);
	size_t panic;

	while (line->n > 0 && line->p[line->n - 1] == '\r')
		line->n--;
	*line = without_time(str_trim(*line));
	if (line->n == 0)
		return WORTH_NOTHING;
	if (str_starts(*line, own)) {
		*line = str_sub(*line, own.n, line->n);
		return WORTH_MACHINE;
	}
	if (str_starts(*line, STR_LIT("claude-bottle")))
		return WORTH_MACHINE;
	panic = str_find(*line, STR_LIT("Kernel panic - not syncing"));
	if (panic < line->n) {
		*line = str_sub(*line, panic, line->n);
		return WORTH_PANIC;
	}
	if (str_starts(*line, STR_LIT("reboot: ")))
		return WORTH_NOTHING;
	if (str_starts(*line, STR_LIT(WORDS_QEMU)) &&
	    str_find(*line, STR_LIT(": warning: ")) == line->n)
		return WORTH_QEMU;
	return WORTH_LAST;
}

/* The end of the line, or of what there is room for. */
static void weigh(struct qemu_heard *h)
{
	struct str line = str_slice(h->line, h->n);
	enum worth worth = worth_of(&line);

	h->n = 0;
	if (worth == WORTH_NOTHING || worth < h->worth ||
	    (worth == WORTH_PANIC && h->worth == WORTH_PANIC))
		return;
	memcpy(h->best, line.p, line.n);
	h->best_n = line.n;
	h->worth = worth;
}

static void hear(struct qemu_heard *h, struct str text)
{
	bool found = true;

	while (found) {
		size_t room = sizeof(h->line) - h->n;
		struct str part;

		text = str_cut(text, '\n', &part, &found);
		if (part.n > 0)
			memcpy(h->line + h->n, part.p, part.n < room ? part.n : room);
		h->n += part.n < room ? part.n : room;
		if (found)
			weigh(h);
	}
}

bool qemu_words_read(struct qemu_heard *h, int fd)
{
	char chunk[WORDS_CHUNK];
	ssize_t got = read(fd, chunk, sizeof(chunk));

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	hear(h, str_slice(chunk, (size_t)got));
	return got > 0;
}

/* What is unfinished counts: nothing comes after it. */
void qemu_words_best(const struct qemu_words *w, char *out, size_t size)
{
	struct qemu_words all = *w;
	const struct qemu_heard *best = &all.console;

	weigh(&all.console);
	weigh(&all.said);
	/* QEMU's at the same worth: it has outlived its machine. */
	if (all.said.worth >= best->worth)
		best = &all.said;
	text_visible_cstr(out, size, str_slice(best->best, best->best_n));
}
