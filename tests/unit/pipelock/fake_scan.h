/*
 * A scan engine and a content decoder that know a few marks, so that the gate is tested for what it
 * makes of findings and not for what is found. Marks: RULE!, SECRET!, CANARY!, LIMIT!, HOME7! and
 * HOME9! (placeholders 7 and 9); the same in lower case stands for one under base64. ERROR! makes
 * the call fail. Coding "gzip" is undone by lowering every byte by one; "broken" fails.
 */
#pragma once

#include "base/mem.h"
#include "scan/content.h"
#include "scan/scan.h"

#include <errno.h>
#include <stdio.h>

struct scan_stream {
	enum scan_place place;
	scan_finding_fn fn;
	void *ctx;
	uint64_t scanned;
	unsigned fed;
	struct buf tail;
};

static unsigned fake_streams_open, fake_texts;
static unsigned fake_worn_after; /* pieces that a stream may be fed, 0: any number */

static int fake_scan(enum scan_place place, struct str text, uint64_t base, uint64_t skip,
		     scan_finding_fn fn, void *ctx)
{
	static const struct {
		const char *mark;
		enum scan_kind kind;
		unsigned secret;
		const char *rule;
	} marks[] = {
		{"RULE!", SCAN_KIND_RULE, 0, "test-rule"},
		{"SECRET!", SCAN_KIND_SECRET, 3, "bottle-secret"},
		{"CANARY!", SCAN_KIND_CANARY, 0, "canary"},
		{"LIMIT!", SCAN_KIND_LIMIT, 0, "depth"},
		{"HOME7!", SCAN_KIND_PLACEHOLDER, 7, "placeholder"},
		{"HOME9!", SCAN_KIND_PLACEHOLDER, 9, "placeholder"},
		/* A placeholder in the shape of a key. */
		{"SHAPE7!", SCAN_KIND_PLACEHOLDER, 7, "placeholder"},
		{"SHAPE7!", SCAN_KIND_RULE, 0, "test-rule"},
	};

	for (size_t at = 0; at < text.n; at++) {
		struct str rest = str_sub(text, at, text.n);

		if (str_starts(rest, STR_LIT("ERROR!")))
			return -EIO;
		for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
			struct scan_finding f = {.kind = marks[i].kind,
						 .secret = marks[i].secret,
						 .from = base + at,
						 .place = place};
			struct str mark = str_of(marks[i].mark);

			if (!str_istarts(rest, mark) || base + at + mark.n <= skip)
				continue;
			f.to = f.from + mark.n;
			(void)snprintf(f.rule, sizeof(f.rule), "%s", marks[i].rule);
			if (!str_starts(rest, mark))
				(void)snprintf(f.decoders, sizeof(f.decoders), "base64");
			if (!fn(&f, ctx))
				return 0;
		}
	}
	return 0;
}

bool scan_rule_is_block(const char *id)
{
	(void)id;
	return false;
}

int scan_text(struct scan_engine *en, enum scan_place place, struct str text, scan_finding_fn fn,
	      void *ctx)
{
	(void)en;
	fake_texts++;
	return fake_scan(place, text, 0, 0, fn, ctx);
}

struct scan_stream *scan_stream_open(struct scan_engine *en, enum scan_place place,
				     scan_finding_fn fn, void *ctx)
{
	struct scan_stream *s = mem_zalloc(sizeof(*s));

	(void)en;
	*s = (struct scan_stream){.place = place, .fn = fn, .ctx = ctx};
	buf_init(&s->tail, 16u << 20);
	fake_streams_open++;
	return s;
}

int scan_stream_feed(struct scan_stream *s, struct str piece)
{
	uint64_t seen = s->scanned + buf_len(&s->tail);
	int ret;

	if (fake_worn_after && ++s->fed >= fake_worn_after) {
		(void)fake_scan(s->place, STR_LIT("LIMIT!"), seen, 0, s->fn, s->ctx);
		return 0;
	}
	if (buf_append_str(&s->tail, piece) < 0)
		return -ENOBUFS;
	ret = fake_scan(s->place, buf_str(&s->tail), s->scanned, seen, s->fn, s->ctx);
	if (buf_len(&s->tail) > 64) {
		s->scanned += buf_len(&s->tail) - 64;
		buf_consume(&s->tail, buf_len(&s->tail) - 64);
	}
	return ret;
}

int scan_stream_end(struct scan_stream *s)
{
	(void)s;
	return 0;
}

void scan_stream_close(struct scan_stream *s)
{
	fake_streams_open--;
	buf_free(&s->tail);
	free(s);
}

struct content_decoder {
	bool is_broken;
};

int content_decoder_new(struct content_decoder **out, struct str coding, struct err *e)
{
	*out = NULL;
	if (coding.n == 0 || str_ieq(coding, STR_LIT("identity")))
		return 0;
	if (!str_eq(coding, STR_LIT("gzip")) && !str_eq(coding, STR_LIT("broken")))
		return err_set(e, -ENOTSUP, "fake");
	*out = mem_zalloc(sizeof(**out));
	(*out)->is_broken = str_eq(coding, STR_LIT("broken"));
	return 0;
}

/* A byte at a time past the first, so that callers have to loop. */
int content_decode(struct content_decoder *d, struct str in, bool is_last, struct buf *out,
		   size_t *used, struct err *e)
{
	(void)is_last;
	*used = 0;
	if (d->is_broken)
		return err_set(e, -EPROTO, "fake");
	while (*used < in.n && buf_room(out) > 0 && *used < 1000) {
		char c = (char)(in.p[(*used)++] - 1);

		if (buf_append(out, &c, 1) < 0)
			return -ENOBUFS;
	}
	return 0;
}

void content_decoder_free(struct content_decoder *d)
{
	free(d);
}
