/*
 * Texts in pieces. A piece is scanned together with the last SCAN_HOLDBACK_BYTES before it: the
 * expressions go on where they stopped (Hyperscan's stream state), the rest looks at both. Each
 * stream keeps only that tail and the engine's state of some hundred bytes; the window that joins
 * tail and piece is the engine's.
 */
#include "scan/scan_int.h"
#include "base/mem.h"

#include <errno.h>

/* A text's budget: enough for every decoder on ordinary text, far from enough for a text that was
 * made to be slow. Units are about a nanosecond. */
#define WORK_BASE     UINT64_C(3000000)
#define WORK_PER_BYTE 100

static void work_grant(struct scan_work *w, size_t n)
{
	w->units_max += (uint64_t)n * WORK_PER_BYTE;
}

int scan_text(struct scan_engine *en, enum scan_place place, struct str text, scan_finding_fn fn,
	      void *ctx)
{
	struct scan_work work = {.units_max = WORK_BASE};
	struct scan_told told;
	struct scan_pass ps = {
		.en = en, .place = place, .fn = fn, .ctx = ctx, .work = &work, .is_last = true};
	struct scan_view v = {.p = (const uint8_t *)text.p, .n = text.n};
	int r;

	if (text.n == 0)
		return 0;
	if (text.n > SCAN_WINDOW_BYTES) {
		struct scan_stream *s = scan_stream_open(en, place, fn, ctx);

		if (!s)
			return -ENOBUFS;
		r = scan_stream_feed(s, text);
		if (r == 0)
			r = scan_stream_end(s);
		scan_stream_close(s);
		return r;
	}
	memset(&told, 0, sizeof(told));
	ps.told = &told;
	work_grant(&work, text.n);
	scan_view(&ps, &v);
	return ps.error;
}

struct scan_stream *scan_stream_open(struct scan_engine *en, enum scan_place place,
				     scan_finding_fn fn, void *ctx)
{
	enum scan_way way = scan_way_of(place);
	struct scan_stream *s = en->free_streams[way];

	if (s) {
		en->free_streams[way] = s->next_free;
	} else {
		if (en->streams_n == SCAN_STREAMS_MAX)
			return NULL;
		s = mem_zalloc(sizeof(*s));
		if (hs_open_stream(en->db.hs[way], 0, &s->hs) != HS_SUCCESS) {
			free(s);
			return NULL;
		}
		s->en = en;
		s->way = way;
		s->is_fresh = true;
		en->streams_n++;
	}
	s->place = place;
	s->fn = fn;
	s->ctx = ctx;
	s->taken = 0;
	s->tail_n = 0;
	s->is_stopped = false;
	s->is_open = true;
	s->work = (struct scan_work){.units_max = WORK_BASE};
	memset(&s->told, 0, sizeof(s->told));
	s->pending_n = 0;
	s->next_free = NULL;
	return s;
}

static int stream_scan(struct scan_stream *s, const uint8_t *p, size_t n, bool is_last)
{
	struct scan_engine *en = s->en;
	struct scan_pass ps = {.en = en,
			       .place = s->place,
			       .fn = s->fn,
			       .ctx = s->ctx,
			       .work = &s->work,
			       .told = &s->told,
			       .stream = s,
			       .base = s->taken - s->tail_n,
			       .old_n = s->tail_n,
			       .is_last = is_last};
	struct scan_view v = {.p = en->window, .n = s->tail_n + n};
	size_t keep;

	memcpy(en->window, s->tail, s->tail_n);
	if (n)
		memcpy(en->window + s->tail_n, p, n);
	work_grant(&s->work, n);
	s->work.views = 0;
	if (s->pending_n)
		scan_settle_pending(&ps, &v);
	scan_view(&ps, &v);
	keep = v.n < SCAN_HOLDBACK_BYTES ? v.n : SCAN_HOLDBACK_BYTES;
	memcpy(s->tail, en->window + v.n - keep, keep);
	s->tail_n = keep;
	s->taken += n;
	s->is_stopped = ps.is_stopped;
	return ps.error;
}

int scan_stream_feed(struct scan_stream *s, struct str piece)
{
	int r = 0;

	while (piece.n > 0 && !s->is_stopped && r == 0) {
		size_t n = piece.n < SCAN_PIECE_BYTES ? piece.n : SCAN_PIECE_BYTES;

		r = stream_scan(s, (const uint8_t *)piece.p, n, false);
		piece = str_sub(piece, n, piece.n);
	}
	return r;
}

int scan_stream_end(struct scan_stream *s)
{
	/* A last pass over the tail alone: what waited for more is decided, what ends with the text
	 * matches now. */
	return s->is_stopped || s->taken == 0 ? 0 : stream_scan(s, NULL, 0, true);
}

void scan_stream_close(struct scan_stream *s)
{
	if (!s || !s->is_open)
		return;
	/* The next text starts from nothing. A failure shows as a stream that cannot be used. */
	if (!s->is_fresh)
		(void)hs_reset_stream(s->hs, 0, s->en->scratch, NULL, NULL);
	s->is_fresh = true;
	mem_wipe(s->tail, s->tail_n);
	s->is_open = false;
	s->next_free = s->en->free_streams[s->way];
	s->en->free_streams[s->way] = s;
}
