/* H08: the records of a bottle that has ended are changed in every way, and `logs --verify` is
 * asked about it. The control is that it is content with what nobody has touched. */
#include "selftest/supervise.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define TAMPER_MAX (16u << 20)

enum how { UNTOUCHED, EDITED, REORDERED, LEFT_OUT, HEADLESS, CUT, FORGED };

static const struct {
	const char *label;
	enum how how;
} ways[] = {
	{"edited", EDITED},	{"reordered", REORDERED},
	{"left-out", LEFT_OUT}, {"headless", HEADLESS},
	{"cut", CUT},		{"forged", FORGED},
};

/* The line that begins at or after from. */
static struct str line_at(struct str text, size_t from)
{
	struct str rest = str_sub(text, from, text.n);

	rest = str_sub(rest, from ? str_chr(rest, '\n') + 1 : 0, rest.n);
	return str_sub(rest, 0, str_chr(rest, '\n') + 1);
}

static int append_many(struct buf *out, const struct str *parts, size_t n)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < n; i++)
		ret = buf_append_str(out, parts[i]);
	return ret;
}

/* Around a line in the middle, and the one behind it. */
static int tamper(struct str text, enum how how, struct buf *out)
{
	struct str line = line_at(text, text.n / 2), next;
	size_t at = (size_t)(line.p - text.p);
	struct str before = str_sub(text, 0, at), after = str_sub(text, at + line.n, text.n), rest;

	next = str_sub(after, 0, str_chr(after, '\n') + 1);
	rest = str_sub(after, next.n, after.n);
	switch (how) {
	case EDITED:
		/* One more digit, or letter. */
		return append_many(out,
				   (struct str[]){before, str_sub(line, 0, line.n / 2),
						  STR_LIT("0"), str_sub(line, line.n / 2, line.n),
						  after},
				   5);
	case REORDERED:
		return append_many(out, (struct str[]){before, next, line, rest}, 4);
	case LEFT_OUT:
		return append_many(out, (struct str[]){before, after}, 2);
	case HEADLESS:
		next = line_at(text, 0);
		return buf_append_str(out, str_sub(text, next.n, text.n));
	case CUT:
		return append_many(out, (struct str[]){before, str_sub(line, 0, line.n / 2)}, 2);
	case FORGED:
		return append_many(out, (struct str[]){before, line, line, after}, 4);
	case UNTOUCHED:
		break;
	}
	return buf_append_str(out, text);
}

/* True when it is content. */
static bool verify(struct suite *s, const char *slug, const char *path, struct str text, char *said,
		   size_t size)
{
	struct err e = ERR_INIT;
	bool is_content = io_write_file_atomic(AT_FDCWD, path, text, 0600, &e) == 0 &&
			  human_run(s, HUMAN_WORDS("logs", slug, "--verify"), NULL, &e) == 0;

	scratch_last_words(&s->scratch, "human", said, size);
	return is_content;
}

int tamper_run(struct suite *s, const char *slug, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/state/claude-bottle/bottles/%s/records.jsonl",
					       s->scratch.root, slug);
	struct str text;
	int ret = io_read_file(AT_FDCWD, path, TAMPER_MAX, &text, e);
	char said[200];
	bool is_content;

	if (ret < 0)
		return ret;
	is_content = verify(s, slug, path, text, said, sizeof(said));
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(ways); i++) {
		struct selftest_try *control =
			suite_try(s, SELFTEST_RUN_CONTROL, "H08", ways[i].label);
		struct selftest_try *t = suite_try(s, SELFTEST_RUN_AGENT, "H08", ways[i].label);
		struct buf changed = BUF_INIT(TAMPER_MAX);

		control->is_through = is_content;
		(void)snprintf(control->detail, sizeof(control->detail), "%s", said);
		ret = tamper(text, ways[i].how, &changed);
		if (ret == 0)
			t->is_through = verify(s, slug, path, buf_str(&changed), t->detail,
					       sizeof(t->detail));
		buf_free(&changed);
	}
	free((char *)(uintptr_t)text.p);
	return ret < 0 ? err_set(e, ret, "the records are too long to be changed") : 0;
}
