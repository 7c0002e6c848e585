/*
 * What a Docker engine may send: an answer, a stream of events in its body, frames of a container's
 * output. How the bytes are cut into reads must not matter, and what is said of a failure must be
 * one visible line. The first byte chooses the cuts, the second the request's method.
 */
#include "fuzz.h"

#include "engine/engine_int.h"

#include <errno.h>
#include <stdlib.h>

#define CONTENT_MAX (1u << 20)

#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)

static void require_visible(const struct err *e)
{
	REQUIRE(e->code < 0 && e->text[0]);
	for (const char *p = e->text; *p; p++)
		REQUIRE((unsigned char)*p >= 0x20 && *p != 0x7f);
}

/* A piece in memory of its own, so that a read past it is seen. */
static struct str piece_of(struct str in, size_t at, size_t cut)
{
	struct str piece = str_sub(in, at, at + cut);
	char *copy = malloc(piece.n ? piece.n : 1);

	REQUIRE(copy);
	if (piece.n > 0)
		memcpy(copy, piece.p, piece.n);
	return str_slice(copy, piece.n);
}

static void free_piece(struct str piece)
{
	free((void *)(uintptr_t)piece.p);
}

/* --- answers --- */

static int answer(struct engine_answer *a, struct str in, enum http1_method method, size_t cut,
		  struct buf *body)
{
	int ret = 0;
	struct buf held;
	struct str data;

	buf_init(&held, ENGINE_IN_MAX);
	engine_answer_init(a, method);
	for (size_t at = 0; at < in.n && ret == 0 && !a->is_done; at += cut) {
		struct str piece = str_sub(in, at, at + cut);

		REQUIRE(buf_append_str(&held, piece) == 0);
		while ((ret = engine_answer_next(a, &held, &data)) > 0)
			REQUIRE(buf_append_str(body, data) == 0);
		/* Only an incomplete head is held. */
		REQUIRE(ret < 0 || a->is_done || buf_len(&held) == 0 ||
			(!a->has_head && buf_len(&held) < HTTP1_HEAD_MAX_BYTES));
	}
	if (ret == 0)
		ret = engine_answer_eof(a);
	REQUIRE(ret <= 0 && a->n_interim <= ENGINE_INTERIM_MAX + 1);
	buf_free(&held);
	return ret;
}

/* --- events --- */

static int remember(void *ctx, const json_t *event)
{
	char *text = json_dumps(event, JSON_COMPACT | JSON_SORT_KEYS);

	REQUIRE(json_is_object(event) && text);
	REQUIRE(buf_append(ctx, text, strlen(text)) == 0);
	free(text);
	return 0;
}

static int events(struct str in, size_t cut, struct buf *out)
{
	struct engine_events ev;
	struct err e = ERR_INIT;
	int ret = 0;

	engine_events_init(&ev);
	for (size_t at = 0; at < in.n && ret == 0; at += cut) {
		struct str piece = piece_of(in, at, cut);

		ret = engine_events_take(&ev, piece, "build", remember, out, &e);
		free_piece(piece);
	}
	if (ret == 0)
		ret = engine_events_end(&ev, "build", &e);
	if (ret < 0)
		require_visible(&e);
	engine_events_free(&ev);
	return ret;
}

/* --- frames --- */

static ssize_t frames(struct str in, size_t cut, struct buf *out)
{
	struct engine_demux d = {0};
	enum engine_stream_id id, last = ENGINE_STDIN;

	for (size_t at = 0; at < in.n; at += cut) {
		struct str whole = piece_of(in, at, cut), piece = whole, data;
		ssize_t used = 0;

		while (piece.n > 0 && (used = engine_demux_next(&d, piece, &id, &data)) >= 0) {
			REQUIRE(used > 0 && (size_t)used <= piece.n && id <= ENGINE_STDERR);
			REQUIRE(data.n == 0 || data.p + data.n == piece.p + used);
			if (data.n > 0 && id != last)
				REQUIRE(buf_printf(out, "<%d>", id) == 0);
			if (data.n > 0)
				last = id;
			REQUIRE(buf_append_str(out, data) == 0);
			piece = str_sub(piece, (size_t)used, piece.n);
		}
		free_piece(whole);
		if (used < 0)
			return used;
	}
	return 0;
}

/* --- all of it --- */

static void answers(struct str in, enum http1_method method, size_t cut, struct buf *body)
{
	struct engine_answer whole, pieces;
	struct buf other;
	struct err e = ERR_INIT;
	json_t *j = NULL;
	int ret;

	buf_init(&other, CONTENT_MAX);
	ret = answer(&whole, in, method, SIZE_MAX / 2, body);
	REQUIRE(ret == answer(&pieces, in, method, cut, &other));
	REQUIRE(whole.has_head == pieces.has_head || ret == -EPROTO);
	if (ret == 0) {
		REQUIRE(whole.status == pieces.status && whole.status >= 200);
		REQUIRE(strcmp(whole.type, pieces.type) == 0);
		REQUIRE(str_eq(buf_str(body), buf_str(&other)));
	}
	buf_free(&other);
	(void)engine_fail_status(&e, whole.status, "ask", buf_str(body));
	require_visible(&e);
	if (engine_parse_json(buf_str(body), "ask", &j, &e) < 0)
		require_visible(&e);
	json_decref(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t cut = size > 0 && data[0] > 0 ? data[0] : 1;
	enum http1_method method =
		size > 1 ? (enum http1_method)(data[1] % HTTP1_CONNECT) : HTTP1_GET;
	struct str in = str_sub(str_slice(data, size), 2, size);
	struct buf body, whole, pieces;

	buf_init(&body, CONTENT_MAX);
	buf_init(&whole, CONTENT_MAX);
	buf_init(&pieces, CONTENT_MAX);
	if (in.n < ENGINE_IN_MAX)
		answers(in, method, cut, &body);
	if (buf_len(&body) == 0)
		REQUIRE(buf_append_str(&body, in) == 0 || in.n > CONTENT_MAX);
	REQUIRE(events(buf_str(&body), SIZE_MAX / 2, &whole) ==
		events(buf_str(&body), cut, &pieces));
	REQUIRE(str_eq(buf_str(&whole), buf_str(&pieces)));
	buf_reset(&whole);
	buf_reset(&pieces);
	REQUIRE(frames(in, SIZE_MAX / 2, &whole) == frames(in, cut, &pieces));
	REQUIRE(str_eq(buf_str(&whole), buf_str(&pieces)));
	buf_free(&body);
	buf_free(&whole);
	buf_free(&pieces);
	return 0;
}
