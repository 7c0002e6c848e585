#include "gitgate/wire.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "gitgate/pkt.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>

#define READER_BYTES (256u << 10) /* some lines; what is read at once */
#define READER_PIECE 65536

/* --- lines --- */

/* The length that four digits say, or -EPROTO. */
static int length_of(const char head[4])
{
	unsigned n = 0;

	for (int i = 0; i < 4; i++) {
		int digit = ascii_hex_value(head[i]);

		if (digit < 0)
			return -EPROTO;
		n = n << 4 | (unsigned)digit;
	}
	/* 2 ends an answer between git and its own remote helpers, 3 means nothing. */
	if (n == 2 || n == 3 || n > PKT_MAX_BYTES)
		return -EPROTO;
	return (int)n;
}

ssize_t wire_next(struct str s, enum wire_kind *kind, struct str *payload)
{
	size_t used = 0;

	*payload = STR_NULL;
	*kind = WIRE_DATA;
	switch (pkt_next(s, payload, &used)) {
	case PKT_MORE:
	case PKT_DATA:
		return (ssize_t)used;
	case PKT_FLUSH:
		*kind = WIRE_FLUSH;
		return (ssize_t)used;
	case PKT_DELIM:
		*kind = WIRE_DELIM;
		return (ssize_t)used;
	case PKT_END:
	case PKT_BAD:
	default:
		return -EPROTO;
	}
}

int wire_put(struct buf *out, struct str payload)
{
	return pkt_write(out, payload);
}

int wire_printf(struct buf *out, const char *fmt, ...)
{
	char line[2048];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(line))
		return -ENOBUFS;
	return wire_put(out, str_slice(line, (size_t)n));
}

int wire_flush(struct buf *out)
{
	return pkt_write_flush(out);
}

int wire_delim(struct buf *out)
{
	return buf_append(out, "0001", 4);
}

struct str wire_chomp(struct str payload)
{
	if (payload.n > 0 && payload.p[payload.n - 1] == '\n')
		payload.n--;
	return payload;
}

/* --- waiting --- */

int wire_wait(const struct wire_clock *c, int fd, short events, struct err *e)
{
	uint64_t start = time_monotonic_ns(), until = start + c->silence_ms * TIME_NS_PER_MS;

	if (until > c->deadline_ns)
		until = c->deadline_ns;
	for (;;) {
		struct pollfd p[2] = {{fd, events, 0}, {c->life_fd, 0, 0}};
		uint64_t now = time_monotonic_ns();
		int n, left = now >= until ? 0 : (int)((until - now) / TIME_NS_PER_MS + 1);

		n = poll(p, 2, left);
		if (n < 0 && errno != EINTR)
			return err_errno(e, "poll");
		if (n > 0 && p[1].revents)
			return err_set(e, -ECANCELED, "nobody waits for it any more");
		if (n > 0 && p[0].revents)
			return 1;
		if (left == 0)
			return until == c->deadline_ns
				       ? err_set(e, -ETIMEDOUT, "it took too long")
				       : err_set(e, -ETIMEDOUT, "silent for %u seconds",
						 c->silence_ms / 1000);
	}
}

int wire_write(const struct wire_clock *c, int fd, struct str data, struct err *e)
{
	while (data.n > 0) {
		ssize_t n = write(fd, data.p, data.n);
		int ret;

		if (n > 0) {
			data = str_sub(data, (size_t)n, data.n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return -EPIPE;
		if (n < 0 && errno != EAGAIN)
			return err_errno(e, "write");
		ret = wire_wait(c, fd, POLLOUT, e);
		if (ret < 0)
			return ret;
	}
	return 0;
}

void wire_reader_init(struct wire_reader *r, const struct wire_clock *c, int fd)
{
	*r = (struct wire_reader){.clock = c, .fd = fd};
	buf_init(&r->in, READER_BYTES);
}

void wire_reader_free(struct wire_reader *r)
{
	buf_free(&r->in);
}

/* 1 when there is more, 0 at the end. */
static int reader_fill(struct wire_reader *r, struct err *e)
{
	for (;;) {
		char *at = buf_reserve(&r->in, READER_PIECE);
		ssize_t n;
		int ret;

		if (!at)
			return err_set(e, -ENOBUFS, "a line is too long");
		n = read(r->fd, at, READER_PIECE);
		if (n > 0) {
			buf_commit(&r->in, (size_t)n);
			r->n_bytes += (uint64_t)n;
			return 1;
		}
		/* A peer that closes with something unread looks like a reset: its end all the
		 * same. */
		if (n == 0 || errno == ECONNRESET)
			return 0;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return err_errno(e, "read");
		ret = wire_wait(r->clock, r->fd, POLLIN, e);
		if (ret < 0)
			return ret;
	}
}

int wire_read(struct wire_reader *r, enum wire_kind *kind, struct str *payload, struct err *e)
{
	buf_consume(&r->in, r->taken);
	r->taken = 0;
	for (;;) {
		ssize_t n = wire_next(buf_str(&r->in), kind, payload);
		int ret;

		if (n < 0)
			return err_set(e, -EPROTO, "what it says is not git's protocol");
		if (n > 0) {
			r->taken = (size_t)n;
			return 0;
		}
		ret = reader_fill(r, e);
		if (ret < 0)
			return ret;
		if (ret == 0)
			return buf_len(&r->in) == 0
				       ? err_set(e, -ENODATA, "it closed the connection")
				       : err_set(e, -ECONNRESET,
						 "it closed the connection in "
						 "the middle of a line");
	}
}

struct str wire_reader_rest(struct wire_reader *r)
{
	buf_consume(&r->in, r->taken);
	r->taken = 0;
	return buf_str(&r->in);
}

/* --- looking at what passes through --- */

void wire_walk_init(struct wire_walk *w, uint64_t max_bytes)
{
	*w = (struct wire_walk){.max_bytes = max_bytes};
}

/* git allots memory for as many objects as the pack's head says, before it has seen one. */
static int walk_pack(struct wire_walk *w, struct str piece, struct err *e)
{
	uint32_t n;

	for (size_t i = 0; i < piece.n && w->n_pack < sizeof(w->pack); i++) {
		w->pack[w->n_pack++] = (unsigned char)piece.p[i];
		if (w->n_pack < sizeof(w->pack))
			continue;
		if (memcmp(w->pack, "PACK", 4) != 0)
			return err_set(e, -EPROTO, "what it sends is not a pack");
		n = (uint32_t)w->pack[8] << 24 | (uint32_t)w->pack[9] << 16 |
		    (uint32_t)w->pack[10] << 8 | w->pack[11];
		if (n > WIRE_OBJECTS_MAX)
			return err_set(e, -EFBIG, "its pack has %u objects; the limit is %u", n,
				       WIRE_OBJECTS_MAX);
	}
	return 0;
}

/* The bytes of a payload that begins with band 1 (a pack) flow; of others the beginning is kept. */
static int walk_payload(struct wire_walk *w, struct str piece, struct err *e)
{
	size_t n = sizeof(w->first) - w->n_first;

	if (w->n_first == 0) {
		w->first[w->n_first++] = piece.p[0];
		piece = str_sub(piece, 1, piece.n);
		n--;
	}
	if (w->first[0] == 1)
		return walk_pack(w, piece, e);
	n = piece.n < n ? piece.n : n;
	if (n > 0)
		memcpy(w->first + w->n_first, piece.p, n);
	w->n_first += (unsigned)n;
	return 0;
}

/* A whole payload: of version 2 perhaps a heading, of version 0 a line. */
static int walk_line(const struct wire_walk *w, struct err *e)
{
	struct str line = wire_chomp(str_slice(w->first, w->n_first));
	char shown[300];

	if (str_starts(line, STR_LIT("shallow-info")) || str_starts(line, STR_LIT("shallow ")) ||
	    str_starts(line, STR_LIT("unshallow ")))
		return err_set(e, -ENOTSUP,
			       "it is a shallow repository, which has no whole history");
	if (!str_starts(line, STR_LIT("ERR ")) && !str_starts(line, STR_LIT("\3")))
		return 0;
	text_visible_cstr(shown, sizeof(shown), str_sub(line, line.p[0] == 3 ? 1 : 4, line.n));
	return err_set(e, -EREMOTEIO, "it says: %s", shown);
}

int wire_walk(struct wire_walk *w, struct str piece, struct err *e)
{
	w->n_bytes += piece.n;
	if (w->n_bytes > w->max_bytes)
		return err_set(e, -EFBIG, "it sends more than %llu MiB",
			       (unsigned long long)(w->max_bytes >> 20));
	while (piece.n > 0) {
		size_t n;
		int ret;

		if (w->left > 0) {
			n = piece.n < w->left ? piece.n : w->left;
			ret = walk_payload(w, str_sub(piece, 0, n), e);
			if (ret < 0)
				return ret;
			w->left -= n;
			piece = str_sub(piece, n, piece.n);
			ret = w->left == 0 ? walk_line(w, e) : 0;
			if (ret < 0)
				return ret;
			continue;
		}
		w->head[w->n_head++] = piece.p[0];
		w->is_flushed = false;
		piece = str_sub(piece, 1, piece.n);
		if (w->n_head < 4)
			continue;
		ret = length_of(w->head);
		if (ret < 0)
			return err_set(e, -EPROTO, "what it says is not git's protocol");
		w->left = ret > 4 ? (size_t)ret - 4 : 0;
		w->is_flushed = ret == 0;
		w->n_head = w->n_first = 0;
	}
	return 0;
}
