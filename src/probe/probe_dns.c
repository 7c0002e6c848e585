/* Questions to whoever might answer them, as no resolver library would put them. */
#include "probe/probe.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#define DNS_WAIT_MS 400

/* A question for a dotted name; its length, 0 when a label or the name is too long. */
static size_t dns_question(const char *name, unsigned type, uint8_t out[PROBE_DNS_MAX])
{
	static const uint8_t head[] = {0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
	struct str rest = str_of(name), label;
	size_t at = sizeof(head);
	bool more = true;

	memcpy(out, head, sizeof(head));
	while (more) {
		rest = str_cut(rest, '.', &label, &more);
		if (label.n == 0 || label.n > 63 || at + label.n > sizeof(head) + 250)
			return 0;
		out[at++] = (uint8_t)label.n;
		memcpy(out + at, label.p, label.n);
		at += label.n;
	}
	out[at++] = 0;
	out[at++] = (uint8_t)(type >> 8);
	out[at++] = (uint8_t)type;
	out[at++] = 0;
	out[at++] = 1;
	return at;
}

int probe_ask_dns(const char *address, uint16_t port, bool is_tcp, const char *name, unsigned type,
		  uint8_t answer[PROBE_DNS_MAX])
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	uint8_t question[PROBE_DNS_MAX + 2];
	size_t n = dns_question(name, type, question + 2);
	_cleanup_close_ int fd = -1;
	ssize_t got;

	if (n == 0 || inet_pton(AF_INET, address, &sa.sin_addr) != 1)
		return -EINVAL;
	question[0] = (uint8_t)(n >> 8);
	question[1] = (uint8_t)n;
	fd = is_tcp ? probe_connect(address, port, 500)
		    : socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return is_tcp ? fd : -errno;
	if (is_tcp ? send(fd, question, n + 2, MSG_NOSIGNAL) < 0
		   : sendto(fd, question + 2, n, 0, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	if (io_wait(fd, POLLIN, DNS_WAIT_MS) != 1)
		return 0;
	got = recv(fd, answer, PROBE_DNS_MAX, 0);
	if (got < 0)
		return -errno;
	if (!is_tcp)
		return (int)got;
	memmove(answer, answer + 2, PROBE_DNS_MAX - 2);
	return got > 2 ? (int)got - 2 : 0;
}

void probe_try_dns(const struct probe_env *env, const char *id, const char *label,
		   const char *below, const char *address, uint16_t port, bool is_tcp,
		   unsigned type)
{
	char token[PROBE_TOKEN_SIZE], detail[96];
	uint8_t answer[PROBE_DNS_MAX];
	_cleanup_free_ char *name = NULL;
	int got;

	probe_token(env, id, label, token);
	name = mem_printf("%s%s%s.selftest.example", below ? below : "", below ? "." : "", token);
	got = probe_ask_dns(address, port, is_tcp, name, type, answer);
	(void)snprintf(detail, sizeof(detail), "%s port %u: %s", address, port,
		       got < 0		       ? strerror(-got)
		       : got < 4	       ? "no answer"
		       : (answer[3] & 15) == 5 ? "refused by the sink"
					       : "answered");
	/* An answer of the bundle's own sink is no way out; what the canary saw decides. */
	probe_report(id, label, token, false, 0, detail);
}
