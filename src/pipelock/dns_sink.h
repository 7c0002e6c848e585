/*
 * The bottle's only name server. It answers the bundle's own name with the pinned address and
 * refuses every other question, after telling its owner: a name that is asked for inside the wall
 * is either a client that ignores the proxy or data on its way out (the question itself is the
 * channel). Nothing is ever asked of another server.
 *
 * RFC 1035 (messages, names, TCP framing), RFC 6891 (an OPT record in the question is tolerated and
 * not answered), RFC 8482 in spirit: one question, one answer.
 */
#pragma once

#include "base/err.h"
#include "net/loop.h"

#include <netinet/in.h>

#define DNS_SINK_QUERY_MAX   1024 /* a longer datagram or frame is dropped */
#define DNS_SINK_REPLY_MAX   (DNS_SINK_QUERY_MAX + 32)
#define DNS_SINK_TCP_MAX     16	  /* connections at once */
#define DNS_SINK_TCP_MS	     5000 /* whole life of one */
#define DNS_SINK_NAME_MAX    255  /* RFC 1035 section 3.1, on the wire */
#define DNS_SINK_TTL_SECONDS 60

/* A name as asked, dots between labels, no final dot. Bytes are the agent's: not for display. */
struct dns_sink_question {
	char name[DNS_SINK_NAME_MAX + 1];
	size_t name_n;
	uint16_t type, class_;
};

enum dns_sink_result {
	DNS_SINK_DROP,	  /* not a question at all: answering would make loops between servers */
	DNS_SINK_FORMERR, /* answered so, and worth an attempt: no ordinary client sends it */
	DNS_SINK_NOTIMP,
	DNS_SINK_REFUSED, /* a name of somebody else's */
	DNS_SINK_ANSWERED
};

/* Pure: one query in, one reply of *out_n bytes in out (at least DNS_SINK_REPLY_MAX; 0 bytes for
 * DROP). pinned has family AF_INET or AF_INET6. q is filled as far as it could be parsed. */
enum dns_sink_result dns_sink_reply(struct str query, const struct sockaddr_storage *pinned,
				    uint8_t *out, size_t *out_n, struct dns_sink_question *q);

/* An attempt, at most one call a second: count says how many stand for it; question is the last. */
struct dns_sink_attempt {
	const struct dns_sink_question *question;
	enum dns_sink_result result;
	uint64_t count;
	bool is_tcp;
};
typedef void (*dns_sink_attempt_fn)(const struct dns_sink_attempt *a, void *ctx);

struct dns_sink;

/* The descriptors (-1 for none) are borrowed and made non-blocking; udp_fd is a bound datagram
 * socket, tcp_fd a listening one. pinned is the numeric address. NULL with *e filled. */
struct dns_sink *dns_sink_new(struct loop *l, int udp_fd, int tcp_fd, const char *pinned,
			      dns_sink_attempt_fn fn, void *ctx, struct err *e) _fallible_;
void dns_sink_free(struct dns_sink *s);
