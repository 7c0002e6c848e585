#include "backend/qemu/qemu_int.h"

#include "base/text.h"

#include <errno.h>
#include <unistd.h>

#define WORDS_LINE_MAX 300

void qemu_words_init(struct qemu_words *w)
{
	buf_init(&w->console, QEMU_WORDS_MAX);
	buf_init(&w->said, QEMU_WORDS_MAX);
}

void qemu_words_free(struct qemu_words *w)
{
	buf_free(&w->console);
	buf_free(&w->said);
}

bool qemu_words_read(struct buf *b, int fd)
{
	char chunk[QEMU_WORDS_MAX];
	ssize_t got = read(fd, chunk, sizeof(chunk));

	if (got <= 0)
		return got < 0 && (errno == EAGAIN || errno == EINTR);
	if (buf_room(b) < (size_t)got)
		buf_consume(b, (size_t)got - buf_room(b));
	return buf_append(b, chunk, (size_t)got) == 0;
}

/* The last line with more in it than space. */
static struct str last_line(struct str text)
{
	struct str last = STR_NULL;

	while (text.n > 0) {
		struct str line;
		bool found;

		text = str_cut(text, '\n', &line, &found);
		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		line = str_trim(line);
		if (line.n > 0)
			last = line;
	}
	return last;
}

void qemu_words_last(const struct qemu_words *w, char *out, size_t size)
{
	struct str line = last_line(buf_str(&w->said));

	if (line.n == 0)
		line = last_line(buf_str(&w->console));
	text_visible_cstr(out, size < WORDS_LINE_MAX ? size : WORDS_LINE_MAX, line);
}
