#include "dns_stub.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static size_t put_number(uint8_t *p, size_t n, uint32_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		p[n + i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
	return n + bytes;
}

size_t dns_put_head(uint8_t *p, uint16_t id, uint16_t flags, uint16_t n_answers)
{
	size_t n = put_number(p, 0, id, 2);

	n = put_number(p, n, flags, 2);
	n = put_number(p, n, 1, 2);
	n = put_number(p, n, n_answers, 2);
	return put_number(p, n, 0, 4);
}

size_t dns_put_name(uint8_t *p, size_t n, const char *name)
{
	struct str rest = str_of(name), label;
	bool more = true;

	while (more && rest.n > 0) {
		rest = str_cut(rest, '.', &label, &more);
		p[n++] = (uint8_t)label.n;
		memcpy(p + n, label.p, label.n);
		n += label.n;
	}
	p[n++] = 0;
	return n;
}

size_t dns_put_question(uint8_t *p, size_t n, const char *name, uint16_t type)
{
	n = dns_put_name(p, n, name);
	n = put_number(p, n, type, 2);
	return put_number(p, n, 1, 2);
}

size_t dns_put_rr(uint8_t *p, size_t n, const char *owner, uint16_t type, uint32_t ttl,
		  const void *data, size_t size)
{
	n = dns_put_name(p, n, owner);
	n = put_number(p, n, type, 2);
	n = put_number(p, n, 1, 2);
	n = put_number(p, n, ttl, 4);
	n = put_number(p, n, (uint32_t)size, 2);
	memcpy(p + n, data, size);
	return n + size;
}

size_t dns_put_address(uint8_t *p, size_t n, const char *owner, uint32_t ttl, const char *address)
{
	uint8_t a[16];

	if (inet_pton(AF_INET, address, a) == 1)
		return dns_put_rr(p, n, owner, 1, ttl, a, 4);
	if (inet_pton(AF_INET6, address, a) != 1)
		abort();
	return dns_put_rr(p, n, owner, 28, ttl, a, 16);
}

size_t dns_put_alias(uint8_t *p, size_t n, const char *owner, const char *target)
{
	uint8_t data[256];

	return dns_put_rr(p, n, owner, 5, 60, data, dns_put_name(data, 0, target));
}

/* X(first label, answer to A, answer to AAAA, TTL); NULL: no such address; "-": silence. */
static const struct {
	const char *label;
	const char *v4[3], *v6[2];
	uint32_t ttl;
} zone[] = {
	{"public", {"44.1.1.1", "44.1.1.2"}, {"2606:4700::1"}, 0},
	{"onlyv4", {"44.1.1.1"}, {NULL}, 0},
	{"cached", {"44.1.1.1"}, {NULL}, 3600},
	{"mixed", {"44.1.1.1", "127.0.0.1"}, {NULL}, 0},
	{"mapped", {"44.1.1.1"}, {"::ffff:127.0.0.1"}, 0},
	{"tcp", {"44.1.1.5"}, {NULL}, 0}, /* over UDP it does not fit */
	{"own", {"44.1.1.9"}, {NULL}, 0},
	{"metadata", {"169.254.169.254"}, {NULL}, 0},
	{"latev6", {"44.1.1.1"}, {"-"}, 0},
	{"silent", {"-"}, {"-"}, 0},
	{"empty", {NULL}, {NULL}, 0},
};

static size_t answer(bool is_tcp, uint16_t id, const char *name, uint16_t type, uint8_t *out)
{
	static const char *const none[1] = {NULL};
	const char *const *list = none;
	size_t max = 0, n, count = 0;
	uint32_t ttl = 0;
	static unsigned flips;

	if (strncmp(name, "nx.", 3) == 0 || strncmp(name, "servfail.", 9) == 0) {
		n = dns_put_head(out, id, name[0] == 'n' ? 0x8183 : 0x8182, 0);
		return dns_put_question(out, n, name, type);
	}
	if (strncmp(name, "flip.", 5) == 0) {
		/* Public for the first pair of questions, then inside. */
		bool is_first = flips++ < 2;

		n = dns_put_head(out, id, 0x8180, type == 1);
		n = dns_put_question(out, n, name, type);
		return type != 1 ? n
				 : dns_put_address(out, n, name, 0,
						   is_first ? "44.1.1.1" : "127.0.0.1");
	}
	if (strncmp(name, "tcp.", 4) == 0 && !is_tcp) {
		n = dns_put_head(out, id, 0x8380, 0);
		return dns_put_question(out, n, name, type);
	}
	if (strncmp(name, "stray.", 6) == 0) {
		n = dns_put_head(out, id, 0x8180, 1);
		n = dns_put_question(out, n, name, type);
		return dns_put_address(out, n, "other.test", 0,
				       type == 1 ? "44.1.1.1" : "2606:4700::1");
	}
	for (size_t i = 0; i < sizeof(zone) / sizeof(zone[0]); i++) {
		size_t length = strlen(zone[i].label);

		if (strncmp(name, zone[i].label, length) != 0 || name[length] != '.')
			continue;
		list = type == 1 ? zone[i].v4 : zone[i].v6;
		max = type == 1 ? 3 : 2;
		ttl = zone[i].ttl;
	}
	while (count < max && list[count])
		count++;
	if (count > 0 && strcmp(list[0], "-") == 0)
		return 0;
	n = dns_put_head(out, id, 0x8180, (uint16_t)count);
	n = dns_put_question(out, n, name, type);
	for (size_t i = 0; i < count; i++)
		n = dns_put_address(out, n, name, ttl, list[i]);
	return n;
}

static size_t answer_to(struct dns_stub *s, const uint8_t *q, size_t n, bool is_tcp, uint8_t *out)
{
	char name[256] = "";
	size_t at = 12, name_n = 0;

	while (at < n && q[at] != 0 && name_n + q[at] + 2 < sizeof(name)) {
		memcpy(name + name_n, q + at + 1, q[at]);
		name_n += q[at];
		name[name_n++] = '.';
		at += q[at] + 1u;
	}
	name[name_n ? name_n - 1 : 0] = '\0';
	atomic_fetch_add(&s->n_asked, 1);
	return answer(is_tcp, (uint16_t)(q[0] << 8 | q[1]), name,
		      (uint16_t)(q[at + 1] << 8 | q[at + 2]), out);
}

static void *run(void *arg)
{
	struct dns_stub *s = arg;

	for (;;) {
		uint8_t q[512], out[1024];
		struct sockaddr_storage from;
		socklen_t from_n = sizeof(from);
		ssize_t n = recvfrom(s->fd, q, sizeof(q), 0, (struct sockaddr *)&from, &from_n);

		if (n <= 0)
			return NULL;
		n = (ssize_t)answer_to(s, q, (size_t)n, false, out);
		if (n > 0)
			(void)sendto(s->fd, out, (size_t)n, 0, (struct sockaddr *)&from, from_n);
	}
}

/* One connection after the other, one message after the other (RFC 1035 section 4.2.2). */
static void *run_tcp(void *arg)
{
	struct dns_stub *s = arg;

	for (;;) {
		uint8_t q[512], out[1024];
		int c = accept4(s->tcp_fd, NULL, NULL, SOCK_CLOEXEC);

		if (c < 0)
			return NULL;
		atomic_fetch_add(&s->n_tcp, 1);
		while (recv(c, q, 2, MSG_WAITALL) == 2) {
			size_t n = (size_t)(q[0] << 8 | q[1]);

			if (n > sizeof(q) || recv(c, q, n, MSG_WAITALL) != (ssize_t)n)
				break;
			n = answer_to(s, q, n, true, out + 2);
			(void)put_number(out, 0, (uint32_t)n, 2);
			if (n > 0)
				(void)send(c, out, n + 2, MSG_NOSIGNAL);
		}
		(void)close(c);
	}
}

/* False when TCP has somebody else at the port that UDP was given. */
static bool listen_on_both(struct dns_stub *s)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(s->address);

	s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	s->tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || s->tcp_fd < 0 || bind(s->fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    getsockname(s->fd, (struct sockaddr *)&s->address, &n) < 0)
		abort();
	if (bind(s->tcp_fd, (struct sockaddr *)&s->address, n) == 0 && listen(s->tcp_fd, 16) == 0)
		return true;
	(void)close(s->fd);
	(void)close(s->tcp_fd);
	return false;
}

void dns_stub_start(struct dns_stub *s)
{
	int tries = 0;

	memset(s, 0, sizeof(*s));
	while (!listen_on_both(s)) {
		if (++tries == 10)
			abort();
	}
	if (pthread_create(&s->thread, NULL, run, s) != 0 ||
	    pthread_create(&s->tcp_thread, NULL, run_tcp, s) != 0)
		abort();
}

void dns_stub_stop(struct dns_stub *s)
{
	(void)shutdown(s->fd, SHUT_RDWR);
	(void)shutdown(s->tcp_fd, SHUT_RDWR);
	(void)pthread_join(s->thread, NULL);
	(void)pthread_join(s->tcp_thread, NULL);
	(void)close(s->fd);
	(void)close(s->tcp_fd);
}
