#include "seen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static struct scan_engine *engine;

static bool collect(const struct scan_finding *f, void *ctx)
{
	struct seen *s = ctx;

	s->n++;
	s->has_own |= f->kind == SCAN_KIND_SECRET;
	s->has_placeholder |= f->kind == SCAN_KIND_PLACEHOLDER;
	s->has_token |= f->kind == SCAN_KIND_RULE && strcmp(f->rule, "github-token") == 0;
	if (f->kind == SCAN_KIND_LIMIT) {
		if (s->has_limit)
			return true;
		s->has_limit = true;
		memcpy(s->limit, f->rule, sizeof(s->limit));
	} else {
		memcpy(s->decoders, f->decoders, sizeof(s->decoders));
		s->from = f->from;
		s->to = f->to;
	}
	return true;
}

struct seen scan(enum scan_place place, const void *p, size_t n)
{
	struct seen s = {0};

	assert_int_equal(scan_text(engine, place, str_slice(p, n), collect, &s), 0);
	return s;
}

struct seen scan_cstr(enum scan_place place, const char *text)
{
	return scan(place, text, strlen(text));
}

struct seen scan_cut(const void *p, size_t n, size_t piece)
{
	struct seen s = {0};
	struct scan_stream *st = scan_stream_open(engine, SCAN_PLACE_BODY, collect, &s);

	for (size_t at = 0; at < n; at += piece)
		assert_int_equal(scan_stream_feed(st, str_sub(str_slice(p, n), at, at + piece)), 0);
	assert_int_equal(scan_stream_end(st), 0);
	scan_stream_close(st);
	return s;
}

int seen_setup(void **state)
{
	const struct scan_print_key key = {.multiplier = 0xD6E8FEB86659FD93u, .mac_key = {3, 1, 4}};
	struct scan_print prints[2];
	struct err e = ERR_INIT;

	(void)state;
	if (scan_engine_new(&engine, STR_NULL, &e) < 0 ||
	    scan_print_make(&prints[0], &key, SCAN_KIND_SECRET, 0, str_of(OWN), &e) < 0 ||
	    scan_print_make(&prints[1], &key, SCAN_KIND_PLACEHOLDER, 1,
			    STR_LIT("cbph-abcdefghijklmnop234567qrstuv"), &e) < 0 ||
	    scan_engine_set_prints(engine, &key, prints, 2, &e) < 0)
		fail_msg("%s", e.text);
	return 0;
}

int seen_teardown(void **state)
{
	(void)state;
	scan_engine_free(engine);
	return 0;
}
