/*
 * Long exchanges: a body of any length goes up while the answer already comes down, since the
 * engine tells of a build as it reads its context, and may refuse before it has read it all.
 */
#include "engine/engine_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#define STREAM_CHUNK_BYTES 65536
#define STREAM_CHUNK_HEAD  8 /* "10000\r\n" with room */

struct stream {
	const char *what;
	int fd, body_fd; /* body_fd: -1 when all of it was read */
	struct buf up, in;
	struct engine_answer answer;
	struct engine_events events;
	struct buf refused; /* the text of an answer that is an error */
	engine_event_fn fn;
	void *ctx;
};

static void stream_free(struct stream *s)
{
	close_fd(&s->fd);
	if (s->up.p)
		mem_wipe(s->up.p, s->up.size);
	buf_free(&s->up);
	buf_free(&s->in);
	buf_free(&s->refused);
	engine_events_free(&s->events);
}

/* The next chunk (RFC 9112 section 7.1), or the last one. */
static int stream_read_body(struct stream *s, struct err *e)
{
	char head[STREAM_CHUNK_HEAD + 8];
	char *p = buf_reserve(&s->up, STREAM_CHUNK_HEAD + STREAM_CHUNK_BYTES + 2);
	ssize_t got;
	int n;

	if (!p)
		return engine_fail(e, -ENOBUFS, s->what, "no room for a chunk");
	got = read(s->body_fd, p + STREAM_CHUNK_HEAD, STREAM_CHUNK_BYTES);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR
			       ? 0
			       : engine_fail(e, -errno, s->what, "read what is sent: %s",
					     strerror(errno));
	if (got == 0) {
		s->body_fd = -1;
		return buf_append(&s->up, "0\r\n\r\n", 5);
	}
	n = snprintf(head, sizeof(head), "%06zx\r\n", (size_t)got);
	static_assert(STREAM_CHUNK_HEAD == 8 && STREAM_CHUNK_BYTES <= 0xffffff, "six digits");
	memcpy(p, head, (size_t)n);
	memcpy(p + STREAM_CHUNK_HEAD + got, "\r\n", 2);
	buf_commit(&s->up, STREAM_CHUNK_HEAD + (size_t)got + 2);
	return 0;
}

static int stream_write(struct stream *s, struct err *e)
{
	ssize_t put;

	if (buf_len(&s->up) == 0)
		return 0;
	put = send(s->fd, buf_str(&s->up).p, buf_len(&s->up), MSG_NOSIGNAL | MSG_DONTWAIT);
	if (put >= 0) {
		buf_consume(&s->up, (size_t)put);
		return 0;
	}
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	if (errno != EPIPE && errno != ECONNRESET)
		return engine_fail_io(e, -errno, s->what);
	/* It wants no more; what it says about that is still to be read. */
	buf_reset(&s->up);
	s->body_fd = -1;
	return 0;
}

static int stream_take(struct stream *s, struct str data, struct err *e)
{
	if (engine_answer_is_good(&s->answer))
		return engine_events_take(&s->events, data, s->what, s->fn, s->ctx, e);
	if (buf_append_str(&s->refused, data) < 0)
		s->answer.is_done = true; /* enough to tell by */
	return 0;
}

static int stream_read(struct stream *s, struct err *e)
{
	ssize_t got = engine_receive(s->fd, &s->in);
	int ret;

	if (got == -EAGAIN)
		return 0;
	/* An engine that refuses and closes while more was sent to it leaves its words, then a
	 * reset. */
	if (got < 0 && (!s->answer.has_head || engine_answer_is_good(&s->answer)))
		return engine_fail_io(e, (int)got, s->what);
	do {
		struct str data;

		ret = engine_answer_next(&s->answer, &s->in, &data);
		if (ret < 0)
			return engine_fail_parse(&s->answer, s->what, e);
		if (data.n > 0 && stream_take(s, data, e) < 0)
			return e ? e->code : -EIO;
	} while (ret > 0);
	if (got <= 0 && engine_answer_eof(&s->answer) < 0) {
		/* An error's text need not be whole. */
		if (s->answer.has_head && !engine_answer_is_good(&s->answer))
			s->answer.is_done = true;
		else
			return engine_fail_io(e, -EPIPE, s->what);
	}
	return 0;
}

static int stream_loop(struct stream *s, int silence_ms, struct err *e)
{
	uint64_t deadline_ns = engine_deadline(silence_ms);
	int ret = 0;

	while (ret == 0 && !s->answer.is_done) {
		struct pollfd p[2] = {
			{.fd = s->fd, .events = POLLIN},
			{.fd = buf_len(&s->up) > 0 ? -1 : s->body_fd, .events = POLLIN},
		};
		int n;

		if (buf_len(&s->up) > 0)
			p[0].events = POLLIN | POLLOUT;
		n = poll(p, 2, engine_left_ms(deadline_ns));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return engine_fail_io(e, -errno, s->what);
		if (n == 0 && engine_left_ms(deadline_ns) == 0)
			return engine_fail_io(e, -ETIMEDOUT, s->what);
		if (n > 0)
			deadline_ns = engine_deadline(silence_ms);
		if (p[1].revents)
			ret = stream_read_body(s, e);
		if (ret == 0 && (p[0].revents & (POLLOUT | POLLERR)))
			ret = stream_write(s, e);
		if (ret == 0 && (p[0].revents & (POLLIN | POLLHUP | POLLERR)))
			ret = stream_read(s, e);
	}
	if (ret < 0)
		return ret;
	if (!engine_answer_is_good(&s->answer))
		return engine_fail_status(e, s->answer.status, s->what, buf_str(&s->refused));
	return engine_events_end(&s->events, s->what, e);
}

int engine_stream(const struct engine *en, const char *method, const char *path, int body_fd,
		  const char *type, const char *const *headers, const char *what,
		  engine_event_fn fn, void *ctx, struct err *e)
{
	struct engine_request r = {.method = method,
				   .path = path,
				   .type = body_fd >= 0 ? type : NULL,
				   .headers = headers,
				   .body = body_fd >= 0 ? ENGINE_BODY_CHUNKED : ENGINE_BODY_NONE};
	_cleanup_(stream_free) struct stream s = {
		.what = what, .fd = -1, .body_fd = body_fd, .fn = fn, .ctx = ctx};
	struct err own = ERR_INIT;
	int ret;

	if (!e)
		e = &own;
	buf_init(&s.up, STREAM_CHUNK_BYTES + ENGINE_REQUEST_MAX);
	buf_init(&s.in, ENGINE_IN_MAX);
	buf_init(&s.refused, ENGINE_ERROR_BODY_MAX);
	engine_events_init(&s.events);
	engine_answer_init(&s.answer, engine_method(method));
	/* Once for all that follows; see engine_write_head(). */
	if (!buf_reserve(&s.up, STREAM_CHUNK_HEAD + STREAM_CHUNK_BYTES + 2))
		return engine_fail(e, -ENOMEM, what, "no memory");
	ret = engine_write_head(&s.up, en, &r, what, e);
	if (ret < 0)
		return ret;
	s.fd = engine_dial(en, engine_deadline(ENGINE_TIMEOUT_MS), e);
	if (s.fd < 0)
		return s.fd;
	return stream_loop(&s, en->silence_ms > 0 ? en->silence_ms : ENGINE_SLOW_MS, e);
}

static int fetch_body(struct engine_answer *a, int fd, struct buf *in, int out_fd,
		      uint64_t max_bytes, const char *what, struct err *e)
{
	uint64_t n = 0;

	for (;;) {
		struct str data;
		int ret = engine_answer_body(a, fd, in, &data, what,
					     engine_deadline(ENGINE_SLOW_MS), e);

		if (ret <= 0)
			return ret;
		if (data.n > max_bytes - n)
			return engine_fail(e, -EFBIG, what, "its answer is larger than %llu bytes",
					   (unsigned long long)max_bytes);
		n += data.n;
		ret = io_write_all(out_fd, data.p, data.n);
		if (ret < 0)
			return err_set(e, ret, "write what the Docker engine sends (%s): %s", what,
				       strerror(-ret));
	}
}

int engine_fetch(const struct engine *en, const char *path, int out_fd, uint64_t max_bytes,
		 const char *what, struct err *e)
{
	struct engine_request r = {.method = "GET", .path = path};
	_cleanup_(buf_free) struct buf in;
	_cleanup_close_ int fd = -1;
	struct engine_answer a;
	int ret;

	buf_init(&in, ENGINE_IN_MAX);
	engine_answer_init(&a, HTTP1_GET);
	fd = engine_request(en, &r, STR_NULL, what, engine_deadline(ENGINE_TIMEOUT_MS), e);
	if (fd < 0)
		return fd;
	ret = engine_answer_head(&a, fd, &in, what, engine_deadline(ENGINE_SLOW_MS), e);
	if (ret < 0)
		return ret;
	if (!engine_answer_is_good(&a))
		return engine_answer_refused(&a, fd, &in, what, engine_deadline(ENGINE_TIMEOUT_MS),
					     e);
	return fetch_body(&a, fd, &in, out_fd, max_bytes, what, e);
}
