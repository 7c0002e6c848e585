/*
 * Theory of operation: the reply is the query's header and question with other flags, so nothing
 * is serialised but one address record. Datagrams are read with recvmsg and answered with sendmsg
 * (the role's filter has no sendto), a bounded number per wake-up so that a flood cannot starve the
 * proxy. TCP connections are slots in a fixed table, each with one deadline for its whole life.
 */
#include "pipelock/dns_sink.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

#define DNS_HEADER_BYTES  12
#define DNS_UDP_BURST	  32
#define DNS_FLAG_QR	  0x8000u
#define DNS_FLAG_AA	  0x0400u
#define DNS_FLAG_RD	  0x0100u
#define DNS_OPCODE_MASK	  0x7800u
#define DNS_RCODE_FORMERR 1u
#define DNS_RCODE_NOTIMP  4u
#define DNS_RCODE_REFUSED 5u
#define DNS_TYPE_A	  1u
#define DNS_TYPE_AAAA	  28u
#define DNS_CLASS_IN	  1u
#define DNS_REPORT_MS	  1000

static const char *const dns_own_names[] = {"bundle", "claude-bottle"};

static unsigned dns_u16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static void dns_put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Parses the name at at; the end offset, or 0 when it is malformed. A compression pointer in a
 * question has no honest use. */
static size_t dns_parse_name(const uint8_t *m, size_t n, size_t at, struct dns_sink_question *q)
{
	size_t wire = 0;

	q->name_n = 0;
	for (;;) {
		size_t label;

		if (at >= n)
			return 0;
		label = m[at++];
		wire += label + 1;
		if (label == 0)
			break;
		if (label > 63 || label > n - at || wire >= DNS_SINK_NAME_MAX)
			return 0;
		if (q->name_n > 0)
			q->name[q->name_n++] = '.';
		memcpy(q->name + q->name_n, m + at, label);
		q->name_n += label;
		at += label;
	}
	q->name[q->name_n] = '\0';
	return at;
}

static bool dns_is_own_name(const struct dns_sink_question *q)
{
	for (size_t i = 0; i < ARRAY_LEN(dns_own_names); i++) {
		if (str_ieq(str_slice(q->name, q->name_n), str_of(dns_own_names[i])))
			return true;
	}
	return false;
}

/* The address record for the question's name (RFC 1035 section 4.1.3), its owner a pointer to the
 * question. Bytes written; 0 when the name has no record of that type. */
static size_t dns_put_address(uint8_t *p, unsigned type, const struct sockaddr_storage *pinned)
{
	const void *address;
	size_t n;

	if (type == DNS_TYPE_A && pinned->ss_family == AF_INET) {
		address = &((const struct sockaddr_in *)pinned)->sin_addr;
		n = 4;
	} else if (type == DNS_TYPE_AAAA && pinned->ss_family == AF_INET6) {
		address = &((const struct sockaddr_in6 *)pinned)->sin6_addr;
		n = 16;
	} else {
		return 0;
	}
	dns_put16(p, 0xc000u | DNS_HEADER_BYTES);
	dns_put16(p + 2, type);
	dns_put16(p + 4, DNS_CLASS_IN);
	dns_put16(p + 6, 0);
	dns_put16(p + 8, DNS_SINK_TTL_SECONDS);
	dns_put16(p + 10, (unsigned)n);
	memcpy(p + 12, address, n);
	return 12 + n;
}

static void dns_put_header(uint8_t *out, const uint8_t *query, unsigned rcode, bool is_own,
			   unsigned questions, unsigned answers)
{
	unsigned flags =
		DNS_FLAG_QR | (dns_u16(query + 2) & (DNS_OPCODE_MASK | DNS_FLAG_RD)) | rcode;

	memcpy(out, query, 2);
	dns_put16(out + 2, flags | (is_own ? DNS_FLAG_AA : 0));
	dns_put16(out + 4, questions);
	dns_put16(out + 6, answers);
	dns_put16(out + 8, 0);
	dns_put16(out + 10, 0);
}

enum dns_sink_result dns_sink_reply(struct str query, const struct sockaddr_storage *pinned,
				    uint8_t *out, size_t *out_n, struct dns_sink_question *q)
{
	const uint8_t *m = (const uint8_t *)query.p;
	size_t end, answer;

	*out_n = 0;
	*q = (struct dns_sink_question){0};
	if (query.n < DNS_HEADER_BYTES || query.n > DNS_SINK_QUERY_MAX ||
	    (dns_u16(m + 2) & DNS_FLAG_QR) != 0)
		return DNS_SINK_DROP;
	*out_n = DNS_HEADER_BYTES;
	if ((dns_u16(m + 2) & DNS_OPCODE_MASK) != 0) {
		dns_put_header(out, m, DNS_RCODE_NOTIMP, false, 0, 0);
		return DNS_SINK_NOTIMP;
	}
	/* One question, nothing else but an OPT record, which is not looked at. */
	end = dns_u16(m + 4) == 1 && dns_u16(m + 6) == 0 && dns_u16(m + 8) == 0 &&
			      dns_u16(m + 10) <= 1
		      ? dns_parse_name(m, query.n, DNS_HEADER_BYTES, q)
		      : 0;
	if (end == 0 || query.n - end < 4) {
		dns_put_header(out, m, DNS_RCODE_FORMERR, false, 0, 0);
		return DNS_SINK_FORMERR;
	}
	q->type = (uint16_t)dns_u16(m + end);
	q->class_ = (uint16_t)dns_u16(m + end + 2);
	end += 4;
	memcpy(out + DNS_HEADER_BYTES, m + DNS_HEADER_BYTES, end - DNS_HEADER_BYTES);
	*out_n = end;
	if (q->class_ != DNS_CLASS_IN || !dns_is_own_name(q)) {
		dns_put_header(out, m, DNS_RCODE_REFUSED, false, 1, 0);
		return DNS_SINK_REFUSED;
	}
	answer = dns_put_address(out + end, q->type, pinned);
	dns_put_header(out, m, 0, true, 1, answer > 0);
	*out_n = end + answer;
	return DNS_SINK_ANSWERED;
}

struct dns_tcp {
	struct dns_sink *sink;
	struct loop_watch watch;
	struct loop_timer timer;
	size_t in_n;
	uint8_t in[2 + DNS_SINK_QUERY_MAX];
};

struct dns_sink {
	struct loop *loop;
	struct sockaddr_storage pinned;
	struct loop_watch udp, tcp;
	struct dns_tcp conns[DNS_SINK_TCP_MAX];
	struct loop_timer report; /* armed: within a second of the last report */
	uint64_t unreported;
	struct dns_sink_question last;
	enum dns_sink_result last_result;
	bool last_is_tcp;
	dns_sink_attempt_fn fn;
	void *ctx;
};

#define SINK_OF(member, ptr) ((struct dns_sink *)((char *)(ptr)-offsetof(struct dns_sink, member)))
#define CONN_OF(member, ptr) ((struct dns_tcp *)((char *)(ptr)-offsetof(struct dns_tcp, member)))

static void dns_report(struct dns_sink *s)
{
	struct dns_sink_attempt a = {.question = &s->last,
				     .result = s->last_result,
				     .count = s->unreported,
				     .is_tcp = s->last_is_tcp};

	s->unreported = 0;
	loop_timer_set(s->loop, &s->report, DNS_REPORT_MS);
	s->fn(&a, s->ctx);
}

static void dns_on_report(struct loop_timer *t)
{
	struct dns_sink *s = SINK_OF(report, t);

	if (s->unreported > 0)
		dns_report(s);
}

static void dns_note(struct dns_sink *s, enum dns_sink_result result, bool is_tcp,
		     const struct dns_sink_question *q)
{
	if (result == DNS_SINK_ANSWERED || result == DNS_SINK_DROP)
		return;
	s->unreported++;
	s->last = *q;
	s->last_result = result;
	s->last_is_tcp = is_tcp;
	if (s->report.due_ns == 0)
		dns_report(s);
}

static void dns_on_udp(struct loop_watch *w, uint32_t events)
{
	struct dns_sink *s = SINK_OF(udp, w);

	(void)events;
	for (int i = 0; i < DNS_UDP_BURST; i++) {
		uint8_t in[DNS_SINK_QUERY_MAX], out[DNS_SINK_REPLY_MAX];
		struct sockaddr_storage from;
		struct iovec iov = {in, sizeof(in)};
		struct msghdr msg = {.msg_name = &from,
				     .msg_namelen = sizeof(from),
				     .msg_iov = &iov,
				     .msg_iovlen = 1};
		struct dns_sink_question q;
		enum dns_sink_result result;
		ssize_t n = recvmsg(w->fd, &msg, MSG_DONTWAIT);
		size_t out_n;

		if (n < 0)
			return;
		if ((msg.msg_flags & MSG_TRUNC) != 0)
			continue;
		result = dns_sink_reply(str_slice(in, (size_t)n), &s->pinned, out, &out_n, &q);
		dns_note(s, result, false, &q);
		if (out_n == 0)
			continue;
		iov = (struct iovec){out, out_n};
		(void)sendmsg(w->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

static void dns_tcp_close(struct dns_tcp *c)
{
	int fd = c->watch.fd;

	loop_timer_del(c->sink->loop, &c->timer);
	loop_del(c->sink->loop, &c->watch);
	if (fd >= 0)
		(void)close(fd);
	c->in_n = 0;
}

static void dns_on_tcp_timer(struct loop_timer *t)
{
	dns_tcp_close(CONN_OF(timer, t));
}

static bool dns_tcp_send(int fd, void *data, size_t n)
{
	struct iovec iov = {data, n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
}

/* Answers each whole frame; false when the connection is to be closed. A reply that does not fit
 * the socket's buffer at once closes it: nobody waits on a client that does not read. */
static bool dns_tcp_serve(struct dns_tcp *c)
{
	while (c->in_n >= 2) {
		size_t frame = dns_u16(c->in), out_n;
		uint8_t out[2 + DNS_SINK_REPLY_MAX];
		struct dns_sink_question q;
		enum dns_sink_result result;

		if (frame > DNS_SINK_QUERY_MAX)
			return false;
		if (c->in_n < 2 + frame)
			return true;
		result = dns_sink_reply(str_slice(c->in + 2, frame), &c->sink->pinned, out + 2,
					&out_n, &q);
		dns_note(c->sink, result, true, &q);
		if (out_n == 0)
			return false;
		dns_put16(out, (unsigned)out_n);
		if (!dns_tcp_send(c->watch.fd, out, out_n + 2))
			return false;
		c->in_n -= 2 + frame;
		memmove(c->in, c->in + 2 + frame, c->in_n);
	}
	return true;
}

static void dns_on_tcp_data(struct loop_watch *w, uint32_t events)
{
	struct dns_tcp *c = CONN_OF(watch, w);
	ssize_t n = read(w->fd, c->in + c->in_n, sizeof(c->in) - c->in_n);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		dns_tcp_close(c);
		return;
	}
	c->in_n += (size_t)n;
	if (!dns_tcp_serve(c))
		dns_tcp_close(c);
}

static struct dns_tcp *dns_tcp_slot(struct dns_sink *s)
{
	for (size_t i = 0; i < DNS_SINK_TCP_MAX; i++) {
		if (s->conns[i].watch.fd < 0)
			return &s->conns[i];
	}
	return NULL;
}

static void dns_on_accept(struct loop_watch *w, uint32_t events)
{
	struct dns_sink *s = SINK_OF(tcp, w);
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct dns_tcp *c = dns_tcp_slot(s);

	(void)events;
	if (fd < 0)
		return;
	/* Past the cap a connection is closed rather than left waiting: a refusal is fast. */
	if (!c || loop_add(s->loop, &c->watch, fd, EPOLLIN, NULL) < 0) {
		(void)close(fd);
		return;
	}
	c->in_n = 0;
	loop_timer_set(s->loop, &c->timer, DNS_SINK_TCP_MS);
}

static int dns_parse_pinned(struct sockaddr_storage *out, const char *text, struct err *e)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	*out = (struct sockaddr_storage){0};
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
		out->ss_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
		out->ss_family = AF_INET6;
	else
		return err_set(e, -EINVAL, "the pinned address is not an address");
	return 0;
}

static int dns_watch(struct dns_sink *s, struct loop_watch *w, int fd, struct err *e)
{
	if (fd < 0)
		return 0;
	if (io_set_nonblock(fd, true) < 0)
		return err_set(e, -EIO, "make the DNS socket non-blocking");
	return loop_add(s->loop, w, fd, EPOLLIN, e);
}

struct dns_sink *dns_sink_new(struct loop *l, int udp_fd, int tcp_fd, const char *pinned,
			      dns_sink_attempt_fn fn, void *ctx, struct err *e)
{
	struct dns_sink *s = mem_zalloc(sizeof(*s));

	s->loop = l;
	s->fn = fn;
	s->ctx = ctx;
	s->udp = (struct loop_watch){.fd = -1, .fn = dns_on_udp};
	s->tcp = (struct loop_watch){.fd = -1, .fn = dns_on_accept};
	s->report.fn = dns_on_report;
	for (size_t i = 0; i < DNS_SINK_TCP_MAX; i++) {
		s->conns[i].sink = s;
		s->conns[i].watch = (struct loop_watch){.fd = -1, .fn = dns_on_tcp_data};
		s->conns[i].timer.fn = dns_on_tcp_timer;
	}
	if (dns_parse_pinned(&s->pinned, pinned, e) < 0 || dns_watch(s, &s->udp, udp_fd, e) < 0 ||
	    dns_watch(s, &s->tcp, tcp_fd, e) < 0) {
		dns_sink_free(s);
		return NULL;
	}
	return s;
}

void dns_sink_free(struct dns_sink *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < DNS_SINK_TCP_MAX; i++)
		dns_tcp_close(&s->conns[i]);
	loop_timer_del(s->loop, &s->report);
	loop_del(s->loop, &s->udp);
	loop_del(s->loop, &s->tcp);
	free(s);
}
