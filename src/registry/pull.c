/*
 * Theory of operation: a connection is either reading a request's head or sending an answer, which
 * is a head in memory and then, perhaps, a part of a blob, which the kernel moves from its file to
 * the socket. Requests have no body; one after the other they are answered, and what comes behind a
 * request waits until that is done. Each state has its time-out. There is a fixed number of
 * connections, made at the start; who comes when all are taken is hung up on.
 *
 * Nothing that a peer sends is kept, decoded or repeated in an answer.
 */
#include "registry/pull.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "net/http1.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#define PULL_IN_MAX	16384 /* a head; pullers ask shortly */
#define PULL_OUT_MAX	2048
#define PULL_READ_BYTES 4096
#define PULL_PIECE	((size_t)1 << 20) /* sent before others have their turn */

struct pull_conn {
	struct pull *pull;
	struct loop_watch watch;
	struct loop_timer timer;
	struct buf in, out;
	const struct blobs_one *blob; /* what follows out; NULL: nothing */
	uint64_t from, to;	      /* of it */
	bool is_sending;
	bool is_last; /* the connection ends after this answer */
	size_t seen;  /* of in, without a head's end in it */
};

struct pull {
	struct loop *loop;
	const struct blobs *blobs;
	struct pull_limits limits;
	struct loop_watch listener;
	struct pull_conn conns[REGISTRY_CONNECTIONS_MAX];
};

static void conn_close(struct pull_conn *c)
{
	int fd = c->watch.fd;

	loop_timer_del(c->pull->loop, &c->timer);
	loop_del(c->pull->loop, &c->watch);
	close_fd(&fd);
	buf_reset(&c->in);
	buf_reset(&c->out);
	c->blob = NULL;
	c->is_sending = c->is_last = false;
	c->seen = 0;
}

/* --- answers --- */

/* OCI distribution specification 1.1, "Error Codes". */
static const struct {
	unsigned status;
	const char *code, *message;
} refusals[BLOBS_ANSWER_COUNT] = {
	[BLOBS_NOTHING] = {404, "UNSUPPORTED", "nothing is here"},
	[BLOBS_NAME_UNKNOWN] = {404, "NAME_UNKNOWN", "there is one image, and not of this name"},
	[BLOBS_DIGEST_INVALID] = {400, "DIGEST_INVALID", "a digest is sha256: and 64 digits"},
	[BLOBS_MANIFEST_UNKNOWN] = {404, "MANIFEST_UNKNOWN", "no manifest of this name"},
	[BLOBS_BLOB_UNKNOWN] = {404, "BLOB_UNKNOWN", "no blob of this digest"},
};

/* What every answer begins with. */
static struct http1_head answer_head(unsigned status, const char *type)
{
	struct http1_head h = {.status = status, .phrase = http1_status_phrase(status)};

	if (http1_add(&h, STR_LIT("Docker-Distribution-API-Version"), STR_LIT("registry/2.0")) <
		    0 ||
	    http1_add(&h, STR_LIT("Content-Type"), str_of(type)) < 0)
		h.status = 0;
	return h;
}

/* The head, then body, which is not sent in answer to HEAD. What cannot be written ends the
 * connection: nothing of ours is as long as that. */
static void conn_answer(struct pull_conn *c, const struct http1_head *h, uint64_t length,
			bool has_body, struct str body)
{
	const struct http1_out_framing f = {
		.framing = has_body ? HTTP1_BODY_LENGTH : HTTP1_BODY_NONE,
		.content_length = length,
		.writes_length = true,
	};

	c->is_sending = true;
	if (http1_write_response(&c->out, h, f, c->is_last) < 0 ||
	    (has_body && body.n > 0 && buf_append_str(&c->out, body) < 0)) {
		buf_reset(&c->out);
		c->blob = NULL;
		c->is_last = true;
	}
}

static void conn_refuse(struct pull_conn *c, unsigned status, const char *code, const char *message,
			bool has_body)
{
	struct http1_head h = answer_head(status, "application/json");
	char body[256];
	int n = snprintf(body, sizeof(body),
			 "{\"errors\":[{\"code\":\"%s\",\"message\":\"%s\"}]}\n", code, message);

	if (status == 405 && http1_add(&h, STR_LIT("Allow"), STR_LIT("GET, HEAD")) < 0)
		c->is_last = true;
	conn_answer(c, &h, (uint64_t)n, has_body, str_slice(body, (size_t)n));
}

static void conn_send_blob(struct pull_conn *c, struct http1_head *req, const struct blobs_one *b,
			   bool has_body)
{
	struct http1_head h = answer_head(
		200, b->kind == BLOBS_MANIFEST ? "application/vnd.oci.image.manifest.v1+json"
					       : "application/octet-stream");
	const struct http1_field *range = http1_find(req, STR_LIT("range"));
	enum blobs_range asked = BLOBS_WHOLE;
	uint64_t from = 0, to = b->size;
	char where[64] = "";
	int bad = 0;

	/* Range is of GET alone; If-Range asks for a validator, and no answer has one. */
	if (range && has_body && http1_count(req, STR_LIT("range")) == 1 &&
	    http1_count(req, STR_LIT("if-range")) == 0)
		asked = blobs_range(range->value, b->size, &from, &to);
	if (asked == BLOBS_OUTSIDE) {
		conn_refuse(c, 416, "SIZE_INVALID", "no byte of this range is there", has_body);
		return;
	}
	if (asked == BLOBS_PART) {
		h.status = 206;
		h.phrase = http1_status_phrase(206);
		(void)snprintf(where, sizeof(where), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, from,
			       to - 1, b->size);
		bad |= http1_add(&h, STR_LIT("Content-Range"), str_of(where));
	}
	bad |= http1_add(&h, STR_LIT("Docker-Content-Digest"), str_of(b->digest));
	bad |= http1_add(&h, STR_LIT("Accept-Ranges"), STR_LIT("bytes"));
	if (bad < 0) {
		conn_refuse(c, 500, "UNSUPPORTED", "no answer can be made", has_body);
		return;
	}
	if (has_body && to > from) {
		c->blob = b;
		c->from = from;
		c->to = to;
	}
	conn_answer(c, &h, to - from, has_body, STR_NULL);
}

static void conn_request(struct pull_conn *c, struct http1_head *req)
{
	bool has_body = req->method != HTTP1_HEAD;
	const struct blobs_one *blob;
	enum blobs_answer found;

	c->is_last |= !req->may_keep_alive;
	if (req->framing != HTTP1_BODY_NONE || req->expects_continue) {
		c->is_last = true; /* what follows is no request */
		conn_refuse(c, 400, "UNSUPPORTED", "no request here has a body", has_body);
		return;
	}
	if (req->form != HTTP1_FORM_ORIGIN || req->has_query) {
		conn_refuse(c, 400, "UNSUPPORTED", "a path, and nothing else", has_body);
		return;
	}
	if (req->method != HTTP1_GET && req->method != HTTP1_HEAD) {
		conn_refuse(c, 405, "UNSUPPORTED", "this registry only hands out", has_body);
		return;
	}
	found = blobs_find(c->pull->blobs, req->path, &blob);
	if (found == BLOBS_FOUND) {
		conn_send_blob(c, req, blob, has_body);
	} else if (found == BLOBS_BASE) {
		struct http1_head h = answer_head(200, "application/json");

		conn_answer(c, &h, 2, has_body, STR_LIT("{}"));
	} else {
		conn_refuse(c, refusals[found].status, refusals[found].code,
			    refusals[found].message, has_body);
	}
}

/* --- moving bytes --- */

/* What is waited for now, and how long. */
static void conn_wait(struct pull_conn *c)
{
	const struct pull_limits *l = &c->pull->limits;
	unsigned ms = c->is_sending ? l->send_ms : buf_len(&c->in) > 0 ? l->head_ms : l->idle_ms;

	if (loop_set(c->pull->loop, &c->watch, c->is_sending ? EPOLLOUT : EPOLLIN) < 0)
		conn_close(c);
	else
		loop_timer_set(c->pull->loop, &c->timer, ms);
}

/* 1: something was sent; 0: the socket is full; -errno. */
static int conn_send_some(struct pull_conn *c)
{
	struct str head = buf_str(&c->out);
	ssize_t n;

	if (head.n > 0) {
		n = send(c->watch.fd, head.p, head.n, MSG_NOSIGNAL | (c->blob ? MSG_MORE : 0));
		if (n > 0)
			buf_consume(&c->out, (size_t)n);
	} else {
		off_t at = (off_t)c->from;
		uint64_t left = c->to - c->from;

		n = sendfile(c->watch.fd, c->blob->fd, &at,
			     left < PULL_PIECE ? (size_t)left : PULL_PIECE);
		if (n == 0) /* the file has become shorter */
			return -EIO;
		if (n > 0)
			c->from += (uint64_t)n;
		if (c->from == c->to)
			c->blob = NULL;
	}
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return 1;
}

/* True: the answer is out. The connection may be gone otherwise. */
static bool conn_send(struct pull_conn *c)
{
	bool was_any = false;

	for (int turns = 0; buf_len(&c->out) > 0 || c->blob; turns++) {
		int ret = turns < 4 ? conn_send_some(c) : 0;

		if (ret < 0)
			conn_close(c);
		else if (ret == 0 && was_any)
			conn_wait(c); /* afresh: it reads */
		if (ret <= 0)
			return false;
		was_any = true;
	}
	c->is_sending = false;
	if (c->is_last)
		conn_close(c);
	return !c->is_last && c->watch.fd >= 0;
}

/* Not acceptable HTTP: nobody knows where the next request would begin. */
static void conn_refuse_head(struct pull_conn *c, enum http1_reason reason)
{
	unsigned status = http1_reason_status(reason);

	c->is_last = true;
	conn_refuse(c, status ? status : 400, "UNSUPPORTED", http1_reason_name(reason), true);
}

/* Answers the request at the front of c->in, or begins to. False: it is not whole yet. */
static bool conn_take(struct pull_conn *c)
{
	enum http1_reason reason = HTTP1_OK;
	struct http1_head req;
	size_t n = http1_head_length(buf_str(&c->in), c->seen, true, &reason);

	if (n == 0 && buf_room(&c->in) == 0)
		reason = HTTP1_HEAD_TOO_LARGE;
	if (n == 0 && (reason == HTTP1_OK || reason == HTTP1_INCOMPLETE)) {
		c->seen = buf_len(&c->in);
		return false;
	}
	c->seen = 0;
	if (n > 0)
		reason = http1_parse_request(&req, str_sub(buf_str(&c->in), 0, n),
					     HTTP1_SCHEME_HTTP);
	if (reason == HTTP1_OK)
		conn_request(c, &req);
	else
		conn_refuse_head(c, reason);
	buf_consume(&c->in, n);
	return true;
}

/* Everything that can be done without waiting. */
static void conn_go_on(struct pull_conn *c)
{
	while (c->watch.fd >= 0) {
		if (c->is_sending ? !conn_send(c) : !conn_take(c))
			return;
		conn_wait(c);
	}
}

static void conn_read(struct pull_conn *c)
{
	size_t room = buf_room(&c->in) < PULL_READ_BYTES ? buf_room(&c->in) : PULL_READ_BYTES;
	char *at = buf_reserve(&c->in, room);
	ssize_t n = at ? recv(c->watch.fd, at, room, 0) : 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_close(c);
		return;
	}
	if (buf_len(&c->in) == 0) /* from now on the head has its time, however it drips */
		loop_timer_set(c->pull->loop, &c->timer, c->pull->limits.head_ms);
	buf_commit(&c->in, (size_t)n);
	conn_go_on(c);
}

static void conn_on_event(struct loop_watch *w, uint32_t events)
{
	struct pull_conn *c =
		(struct pull_conn *)(void *)((char *)w - offsetof(struct pull_conn, watch));

	if (!c->is_sending)
		conn_read(c);
	else if (events & (EPOLLERR | EPOLLHUP))
		conn_close(c);
	else
		conn_go_on(c);
}

static void conn_on_timer(struct loop_timer *t)
{
	conn_close((struct pull_conn *)(void *)((char *)t - offsetof(struct pull_conn, timer)));
}

/* --- the server --- */

static struct pull_conn *conn_vacant(struct pull *p)
{
	for (size_t i = 0; i < ARRAY_LEN(p->conns); i++) {
		if (p->conns[i].watch.fd < 0)
			return &p->conns[i];
	}
	return NULL;
}

static void pull_on_accept(struct loop_watch *w, uint32_t events)
{
	struct pull *p = (struct pull *)(void *)((char *)w - offsetof(struct pull, listener));
	_cleanup_close_ int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct pull_conn *c = conn_vacant(p);
	struct err e = ERR_INIT;

	(void)events;
	if (fd < 0 || !c)
		return;
	if (loop_add(p->loop, &c->watch, fd, EPOLLIN, &e) < 0)
		return;
	(void)take_fd(&fd);
	loop_timer_set(p->loop, &c->timer, p->limits.idle_ms);
}

static unsigned or_default(unsigned ms, unsigned otherwise)
{
	return ms > 0 ? ms : otherwise;
}

struct pull *pull_new(struct loop *l, const struct blobs *blobs, const struct pull_limits *limits)
{
	struct pull *p = mem_zalloc(sizeof(*p));

	p->loop = l;
	p->blobs = blobs;
	p->limits = (struct pull_limits){
		.head_ms = or_default(limits->head_ms, 10000),
		.idle_ms = or_default(limits->idle_ms, 30000),
		.send_ms = or_default(limits->send_ms, 30000),
	};
	p->listener = (struct loop_watch){.fd = -1, .fn = pull_on_accept};
	for (size_t i = 0; i < ARRAY_LEN(p->conns); i++) {
		struct pull_conn *c = &p->conns[i];

		c->pull = p;
		c->watch = (struct loop_watch){.fd = -1, .fn = conn_on_event};
		c->timer.fn = conn_on_timer;
		buf_init(&c->in, PULL_IN_MAX);
		buf_init(&c->out, PULL_OUT_MAX);
	}
	return p;
}

int pull_listen(struct pull *p, int fd, struct err *e)
{
	if (io_set_nonblock(fd, true) < 0)
		return err_errno(e, "the listening socket");
	return loop_add(p->loop, &p->listener, fd, EPOLLIN, e);
}

void pull_free(struct pull *p)
{
	if (!p)
		return;
	loop_del(p->loop, &p->listener);
	for (size_t i = 0; i < ARRAY_LEN(p->conns); i++) {
		if (p->conns[i].watch.fd >= 0)
			conn_close(&p->conns[i]);
		buf_free(&p->conns[i].in);
		buf_free(&p->conns[i].out);
	}
	free(p);
}
