/*
 * Archives of any bytes, in pieces of any size. Texts open and close in order, each level at most
 * one; nothing expands past the limits; and a plain file comes out as it went in.
 */
#include "fuzz.h"

#include "gitgate/archive.h"

#include <stdlib.h>

struct seen {
	bool is_open[ARCHIVE_DEPTH + 1];
	uint64_t out_n;
	size_t plain_n, at;
	const uint8_t *data;
	size_t n;
	bool is_plain, has_limit;
};

static int on_event(void *ctx, enum archive_event event, unsigned level, struct str text)
{
	struct seen *s = ctx;

	if (level > ARCHIVE_DEPTH)
		abort();
	switch (event) {
	case ARCHIVE_OPEN:
		if (s->is_open[level])
			abort();
		s->is_open[level] = true;
		break;
	case ARCHIVE_DATA:
		if (!s->is_open[level] || text.n == 0)
			abort();
		if (s->is_plain && (level > 0 || s->at + text.n > s->n ||
				    memcmp(s->data + s->at, text.p, text.n) != 0))
			abort();
		s->at += text.n;
		s->out_n += text.n;
		break;
	case ARCHIVE_CLOSE:
		if (!s->is_open[level])
			abort();
		s->is_open[level] = false;
		break;
	case ARCHIVE_NAME:
		if (text.n == 0)
			abort();
		break;
	case ARCHIVE_LIMIT:
		s->has_limit = true;
		break;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct seen s = {.data = data + 1, .n = n ? n - 1 : 0};
	struct archive *a = archive_new(on_event, &s);
	size_t piece = n && data[0] ? data[0] : 4096;

	s.is_plain = !archive_is_any(str_slice(s.data, s.n));
	/* Twice: nothing is left of the file before. */
	for (int i = 0; i < 2; i++) {
		s.at = 0;
		s.out_n = 0;
		archive_begin(a);
		for (size_t k = 0; k < s.n; k += piece)
			if (archive_feed(a, str_slice(s.data + k,
						      s.n - k < piece ? s.n - k : piece)) < 0)
				abort();
		if (archive_end(a) < 0)
			abort();
		for (size_t k = 0; k <= ARCHIVE_DEPTH; k++)
			if (s.is_open[k])
				abort();
		if (s.is_plain && s.at != s.n)
			abort();
		if (s.out_n > ARCHIVE_FREE_BYTES + (s.n + 1) * (ARCHIVE_RATIO_MAX + 4) + (1u << 20))
			abort();
	}
	archive_free(a);
	return 0;
}
