/*
 * Theory of operation: git believes that it speaks with a server that remembers it, as over ssh.
 * Over HTTP nothing is remembered, but with version 2 that makes no difference for fetches: each of
 * git's requests holds all that the answer depends on, and ends with a flush. So one request is one
 * POST, and the answer's body is what git reads next. Its ls-refs is never sent: we ask for what is
 * mirrored, and for HEAD, and give git a list of our own. With version 0 it takes more
 * (connect_stateless.c). A push is one request in any case: the
 * commands and the pack, whose end upstream_push() says by ending its side of the stream.
 *
 * Requests are held until they are complete or larger than git's own limit (http.postBuffer), below
 * which servers may count on a Content-Length; larger ones are chunked and are never whole in
 * memory.
 */
#include "gitgate/connect_http.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#define REQUEST_MAX (32u << 20) /* of a fetch: wants and haves */
#define POST_BUFFER (1u << 20)
#define PIECE	    65536

static void http_start(const struct connector *k, enum git_service service, struct connect_http *h)
{
	connect_http_init(h, k->place, k->remote, service, &k->clock);
}

static bool is_word(struct str line, const char *word)
{
	return str_starts(line, str_of(word)) &&
	       (line.n == strlen(word) || line.p[strlen(word)] == '=' ||
		line.p[strlen(word)] == ' ');
}

/* --- what the upstream can do --- */

struct https_caps {
	unsigned n_lines;
	bool is_announced; /* "# service=…" came, whose flush is not the end */
	bool is_v2, has_refs, has_fetch, has_format, has_agent, is_complete;
	struct advert advert; /* of an upstream with version 0 */
};

static void https_caps_free(struct https_caps *c)
{
	advert_free(&c->advert);
}

static int caps_line(void *ctx, enum wire_kind kind, struct str payload, struct err *e)
{
	struct https_caps *c = ctx;
	struct str line = wire_chomp(payload);

	if (kind == WIRE_DELIM)
		return err_set(e, -EPROTO, "what it says is not git's protocol");
	if (kind == WIRE_FLUSH && c->n_lines == 0)
		return err_set(e, -EPROTO, "it says nothing about its refs");
	if (kind == WIRE_FLUSH) {
		if (!c->is_announced || c->is_v2 || c->advert.n_lines > 0) {
			c->is_complete = true;
			return 1;
		}
		c->is_announced = false;
		return 0;
	}
	c->n_lines++;
	if (c->n_lines == 1 && str_starts(line, STR_LIT("# service="))) {
		c->is_announced = true;
		return 0;
	}
	if (!c->is_v2 && (c->advert.n_lines > 0 || !str_eq(line, STR_LIT("version 2"))))
		return advert_take_v0(&c->advert, line, e);
	c->is_v2 = true;
	c->has_refs |= is_word(line, "ls-refs");
	c->has_fetch |= is_word(line, "fetch");
	c->has_agent |= is_word(line, "agent");
	if (is_word(line, "object-format")) {
		c->has_format = true;
		if (!str_eq(line, STR_LIT("object-format=sha1")))
			return err_set(e, -ENOTSUP,
				       "its objects are named by SHA-256, and only SHA-1 is "
				       "supported");
	}
	return 0;
}

static int ask_caps(struct connector *k, struct https_caps *c, struct err *e)
{
	_cleanup_(connect_http_free) struct connect_http h;
	int ret;

	http_start(k, GIT_UPLOAD_PACK, &h);
	ret = connect_http_get(&h, e);
	if (ret == 0)
		ret = connect_http_answer(&h, e);
	if (ret == 0)
		ret = connect_http_lines(&h, ADVERT_OUT_MAX * 4ull, caps_line, c, e);
	if (ret < 0)
		return ret;
	if (!c->is_complete)
		return err_set(e, -ECONNRESET, "its answer was cut off");
	if (c->is_v2 && (!c->has_refs || !c->has_fetch))
		return err_set(e, -ENOTSUP, "it does not let anything be fetched");
	return 0;
}

/* Only what is understood here: no shallow boundaries, filters, packs from elsewhere. */
static int give_caps(struct connector *k, const struct https_caps *c, struct err *e)
{
	struct buf out;
	int ret;

	buf_init(&out, 4096);
	ret = wire_printf(&out, "version 2\n");
	if (ret == 0 && c->has_agent)
		ret = wire_printf(&out, "agent=git/git-gate\n");
	if (ret == 0)
		ret = wire_printf(&out, "ls-refs\n");
	if (ret == 0)
		ret = wire_printf(&out, "fetch\n");
	if (ret == 0 && c->has_format)
		ret = wire_printf(&out, "object-format=sha1\n");
	if (ret == 0)
		ret = wire_flush(&out);
	ret = ret < 0 ? err_set(e, ret, "capabilities")
		      : wire_write(&k->clock, k->git_fd, buf_str(&out), e);
	buf_free(&out);
	return ret;
}

/* --- refs --- */

static int refs_request(const struct https_caps *c, struct buf *q)
{
	int ret = wire_printf(q, "command=ls-refs\n");

	if (ret == 0 && c->has_agent)
		ret = wire_printf(q, "agent=git/git-gate");
	if (ret == 0 && c->has_format)
		ret = wire_printf(q, "object-format=sha1");
	if (ret == 0)
		ret = wire_delim(q);
	if (ret == 0)
		ret = wire_printf(q, "symrefs\n");
	if (ret == 0)
		ret = wire_printf(q, "ref-prefix HEAD\n");
	if (ret == 0)
		ret = wire_printf(q, "ref-prefix refs/heads/\n");
	if (ret == 0)
		ret = wire_printf(q, "ref-prefix refs/tags/\n");
	return ret == 0 ? wire_flush(q) : ret;
}

static int refs_line(void *ctx, enum wire_kind kind, struct str payload, struct err *e)
{
	if (kind == WIRE_DELIM)
		return err_set(e, -EPROTO, "what it says is not git's protocol");
	return kind == WIRE_FLUSH ? 1 : advert_take_v2(ctx, wire_chomp(payload), e);
}

static int ask_refs(struct connector *k, const struct https_caps *c, struct advert *a,
		    struct err *e)
{
	_cleanup_(connect_http_free) struct connect_http h;
	struct buf q;
	int ret;

	http_start(k, GIT_UPLOAD_PACK, &h);
	buf_init(&q, 4096);
	ret = refs_request(c, &q) < 0 ? err_set(e, -ENOBUFS, "ls-refs")
				      : connect_http_post_whole(&h, buf_str(&q), e);
	buf_free(&q);
	if (ret == 0)
		ret = connect_http_lines(&h, ADVERT_OUT_MAX * 4ull, refs_line, a, e);
	if (ret == 0)
		return err_set(e, -ECONNRESET, "its answer was cut off");
	return ret < 0 ? ret : connect_advert_finish(k, a, e);
}

static int give_refs(struct connector *k, const struct https_caps *c, struct err *e)
{
	_cleanup_(advert_free) struct advert a = {0};
	struct buf out;
	int ret = ask_refs(k, c, &a, e);

	buf_init(&out, ADVERT_OUT_MAX);
	if (ret == 0)
		ret = advert_put_v2(&a, &out, e);
	if (ret == 0)
		ret = wire_write(&k->clock, k->git_fd, buf_str(&out), e);
	buf_free(&out);
	return ret;
}

/* --- objects --- */

static int give_objects(struct connector *k, struct str request, uint64_t *n_bytes, struct err *e)
{
	_cleanup_(connect_http_free) struct connect_http h;
	struct wire_walk walk;
	struct str piece;
	int ret;

	http_start(k, GIT_UPLOAD_PACK, &h);
	ret = connect_http_post_whole(&h, request, e);
	wire_walk_init(&walk, CONNECT_MAX_BYTES - *n_bytes);
	while (ret >= 0 && (ret = connect_http_read(&h, &piece, e)) == 1) {
		ret = wire_walk(&walk, piece, e);
		if (ret == 0)
			ret = wire_write(&k->clock, k->git_fd, piece, e);
	}
	*n_bytes += walk.n_bytes;
	/* git would wait for the rest, and we for its next request. */
	if (ret == 0 && !walk.is_flushed)
		return err_set(e, -ECONNRESET, "its answer was cut off");
	return ret;
}

/* --- git's requests --- */

struct https_request {
	struct buf text;
	bool is_refs, is_fetch;
};

/* 1 when there is one, 0 when git is done. */
static int next_request(struct wire_reader *r, struct https_request *q, struct err *e)
{
	enum wire_kind kind;
	struct str payload;

	buf_reset(&q->text);
	q->is_refs = q->is_fetch = false;
	for (size_t n = 0;; n++) {
		int ret = wire_read(r, &kind, &payload, e);

		if (ret < 0)
			return ret == -ENODATA && n == 0 ? 0 : ret;
		if (kind == WIRE_FLUSH && n == 0)
			return 0;
		if (n == 0) {
			q->is_refs = str_eq(wire_chomp(payload), STR_LIT("command=ls-refs"));
			q->is_fetch = str_eq(wire_chomp(payload), STR_LIT("command=fetch"));
		}
		ret = kind == WIRE_FLUSH   ? wire_flush(&q->text)
		      : kind == WIRE_DELIM ? wire_delim(&q->text)
					   : wire_put(&q->text, payload);
		if (ret < 0)
			return err_set(e, -EFBIG, "git asks for too much at once");
		if (kind == WIRE_FLUSH)
			return 1;
	}
}

static int https_session(struct connector *k, const struct https_caps *c, struct wire_reader *r,
			 struct https_request *q, struct err *e)
{
	uint64_t n_bytes = 0;

	for (;;) {
		int ret = next_request(r, q, e);

		if (ret <= 0)
			return ret;
		if (q->is_refs)
			ret = give_refs(k, c, e);
		else if (q->is_fetch)
			ret = give_objects(k, buf_str(&q->text), &n_bytes, e);
		else
			ret = err_set(e, -EPROTO, "git asks for what was not offered");
		if (ret < 0)
			return ret;
	}
}

static int give_refs_v0(struct connector *k, struct advert *a, struct err *e)
{
	struct buf out;
	int ret = advert_check_v0(a, e);

	buf_init(&out, ADVERT_OUT_MAX);
	if (ret == 0)
		ret = connect_advert_finish(k, a, e);
	if (ret == 0)
		ret = advert_put_v0(a, true, &out, e);
	if (ret == 0)
		ret = wire_write(&k->clock, k->git_fd, buf_str(&out), e);
	buf_free(&out);
	return ret;
}

int connect_https_fetch(struct connector *k, struct err *e)
{
	_cleanup_(https_caps_free) struct https_caps caps = {0};
	struct wire_clock patient = k->clock;
	struct https_request q;
	struct wire_reader r;
	int ret;

	/* Between two requests git may index a pack for as long as it takes. */
	patient.silence_ms = UPSTREAM_FETCH_MS;
	wire_reader_init(&r, &patient, k->git_fd);
	buf_init(&q.text, REQUEST_MAX);
	ret = ask_caps(k, &caps, e);
	if (ret == 0)
		ret = caps.is_v2 ? give_caps(k, &caps, e) : give_refs_v0(k, &caps.advert, e);
	if (ret == 0)
		ret = caps.is_v2 ? https_session(k, &caps, &r, &q, e)
				 : connect_stateless_fetch(k, &r, e);
	buf_free(&q.text);
	wire_reader_free(&r);
	return ret == -EPIPE ? 0 : ret;
}

/* --- push --- */

struct https_push {
	struct connector *k;
	bool is_announced;
	unsigned n_lines;
};

/* The refs go on as they are; upstream_push() reads them. */
static int push_line(void *ctx, enum wire_kind kind, struct str payload, struct err *e)
{
	struct https_push *p = ctx;
	_cleanup_free_ char *memory = NULL;
	struct buf out;
	int ret;

	if (p->n_lines++ == 0 && kind == WIRE_DATA && str_starts(payload, STR_LIT("# service="))) {
		p->is_announced = true;
		return 0;
	}
	if (kind == WIRE_FLUSH && p->is_announced) {
		p->is_announced = false;
		return 0;
	}
	if (kind == WIRE_DELIM)
		return err_set(e, -EPROTO, "what it says is not git's protocol");
	buf_init(&out, WIRE_LINE_MAX);
	ret = kind == WIRE_FLUSH ? wire_flush(&out) : wire_put(&out, payload);
	memory = out.p;
	if (ret < 0)
		return err_set(e, ret, "a line is too long");
	ret = wire_write(&p->k->clock, p->k->git_fd, buf_str(&out), e);
	return ret < 0 ? ret : kind == WIRE_FLUSH;
}

static int push_refs(struct connector *k, struct err *e)
{
	_cleanup_(connect_http_free) struct connect_http h;
	struct https_push p = {.k = k};
	int ret;

	http_start(k, GIT_RECEIVE_PACK, &h);
	ret = connect_http_get(&h, e);
	if (ret == 0)
		ret = connect_http_answer(&h, e);
	if (ret == 0)
		ret = connect_http_lines(&h, ADVERT_OUT_MAX * 4ull, push_line, &p, e);
	return ret == 0 ? err_set(e, -ECONNRESET, "its answer was cut off") : ret < 0 ? ret : 0;
}

/* 1 with something, 0 at the end. */
static int push_take(struct connector *k, struct buf *out, struct err *e)
{
	for (;;) {
		char *at = buf_reserve(out, PIECE);
		ssize_t n;
		int ret;

		if (!at)
			return err_set(e, -ENOBUFS, "a piece is too large");
		n = read(k->git_fd, at, PIECE);
		if (n > 0) {
			buf_commit(out, (size_t)n);
			return 1;
		}
		if (n == 0 || errno == ECONNRESET)
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return err_errno(e, "read");
		ret = wire_wait(&k->clock, k->git_fd, POLLIN, e);
		if (ret < 0)
			return ret;
	}
}

/* What is there already, then the rest as it comes. */
static int push_send(struct connector *k, struct connect_http *h, struct buf *held, bool is_whole,
		     struct err *e)
{
	int ret = connect_http_post(h, is_whole ? buf_len(held) : CONNECT_HTTP_CHUNKED, e);

	while (ret == 0) {
		ret = connect_http_send(h, buf_str(held), e);
		buf_reset(held);
		if (ret != 0 || is_whole)
			return ret;
		ret = push_take(k, held, e);
		if (ret == 0)
			return connect_http_send_end(h, e);
		if (ret == 1)
			ret = 0;
	}
	return ret;
}

static int push_report(struct connector *k, struct connect_http *h, struct err *e)
{
	struct str piece;
	int ret = connect_http_answer(h, e);

	while (ret == 0 && (ret = connect_http_read(h, &piece, e)) == 1)
		ret = wire_write(&k->clock, k->git_fd, piece, e);
	k->report.is_certain = h->is_certain;
	return ret;
}

int connect_https_push(struct connector *k, struct err *e)
{
	_cleanup_(connect_http_free) struct connect_http h;
	struct buf held;
	int ret;

	k->clock.silence_ms = CONNECT_PUSH_MS;
	k->report.is_certain = true;
	http_start(k, GIT_RECEIVE_PACK, &h);
	buf_init(&held, POST_BUFFER + PIECE);
	ret = push_refs(k, e);
	while (ret >= 0 && buf_len(&held) < POST_BUFFER && (ret = push_take(k, &held, e)) == 1)
		;
	/* Nothing: the worker has seen the refs and left. */
	if (ret >= 0 && buf_len(&held) > 0) {
		k->report.is_certain = false;
		ret = push_send(k, &h, &held, ret == 0, e);
		if (ret >= 0)
			ret = push_report(k, &h, e);
	}
	buf_free(&held);
	return ret == -EPIPE ? 0 : ret;
}
