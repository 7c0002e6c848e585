/*
 * The decoder chain: any text, at any place, whole or in pieces. Nothing may be reported outside
 * the text, and the secret that stands plainly at its end must be found, whatever came before it.
 */
#include "fuzz.h"

#include "scan/scan_int.h"

#include <stdlib.h>

static const char secret[] = "fuzz-own-secret/0123456789";

struct seen {
	uint64_t n;
	bool has_secret, has_limit;
};

static bool collect(const struct scan_finding *f, void *ctx)
{
	struct seen *s = ctx;

	if (f->from > f->to || f->to > s->n)
		abort();
	s->has_secret |= f->kind == SCAN_KIND_SECRET;
	s->has_limit |= f->kind == SCAN_KIND_LIMIT;
	return true;
}

static struct scan_engine *engine_open(void)
{
	const struct scan_print_key key = {.multiplier = 0xD6E8FEB86659FD93u, .mac_key = {9}};
	struct scan_engine *en = NULL;
	struct scan_print print;
	struct err e = ERR_INIT;

	if (scan_engine_new(&en, STR_NULL, &e) < 0 ||
	    scan_print_make(&print, &key, SCAN_KIND_SECRET, 0, str_of(secret), &e) < 0 ||
	    scan_engine_set_prints(en, &key, &print, 1, &e) < 0)
		abort();
	return en;
}

static void feed(struct scan_engine *en, enum scan_place place, struct str text, size_t piece)
{
	struct seen s = {.n = text.n};
	struct scan_stream *st = scan_stream_open(en, place, collect, &s);

	if (!st)
		abort();
	for (size_t at = 0; at < text.n; at += piece)
		if (scan_stream_feed(st, str_sub(text, at, at + piece)) < 0)
			abort();
	if (scan_stream_end(st) < 0 || (!s.has_secret && !s.has_limit))
		abort();
	scan_stream_close(st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct scan_engine *en;
	enum scan_place place;
	struct seen s;
	size_t piece;
	char *text;

	if (!en)
		en = engine_open();
	if (n < 2 || n > 65536)
		return 0;
	place = (enum scan_place)(data[0] % SCAN_PLACE_COUNT);
	piece = data[1] ? data[1] * 7u : 1;
	text = malloc(n - 2 + sizeof(secret));
	if (!text)
		return 0;
	memcpy(text, data + 2, n - 2);
	memcpy(text + n - 2, secret, sizeof(secret) - 1);
	s = (struct seen){.n = n - 2 + sizeof(secret) - 1};
	if (scan_text(en, place, str_slice(text, s.n), collect, &s) < 0)
		abort();
	if (!s.has_secret && !s.has_limit)
		abort();
	feed(en, place, str_slice(text, s.n), piece);
	free(text);
	return 0;
}
