#include "probe/canary_dns.h"

#include "probe/canary.h"

#include "base/io.h"
#include "base/str.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define DNS_HEAD   12
#define DNS_TYPE_A 1
#define DNS_AAAA   28

/* The first question's name as text, and the end of the question; 0 if malformed. */
static size_t dns_question(const uint8_t *q, size_t n, char name[256], unsigned *type)
{
	size_t at = DNS_HEAD, out = 0;

	while (at < n && q[at] != 0) {
		size_t label = q[at++];

		if (label > 63 || at + label > n || out + label + 2 > 256)
			return 0;
		memcpy(name + out, q + at, label);
		out += label;
		name[out++] = '.';
		at += label;
	}
	name[out] = '\0';
	if (at + 5 > n)
		return 0;
	*type = (unsigned)(q[at + 1] << 8 | q[at + 2]);
	return at + 5;
}

static size_t dns_add_address(uint8_t *p, unsigned type, const uint8_t *address, size_t n)
{
	const uint8_t head[] = {0xc0, DNS_HEAD, 0, (uint8_t)type, 0, 1, 0, 0, 0, 0, 0, (uint8_t)n};

	memcpy(p, head, sizeof(head));
	memcpy(p + sizeof(head), address, n);
	return sizeof(head) + n;
}

size_t canary_dns_answer(const char *listener, const uint8_t *question, size_t n, uint8_t *answer,
			 size_t size)
{
	static const uint8_t loopback[] = {127, 0, 0, 1}, metadata[] = {169, 254, 169, 254},
			     public[] = {93, 184, 215, 14},
			     mapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
	char name[256];
	unsigned type = 0;
	size_t end = n >= DNS_HEAD ? dns_question(question, n, name, &type) : 0;
	uint8_t count = 0;

	if (end == 0 || end + 64 > size) {
		canary_saw(listener, question, n);
		return 0;
	}
	canary_saw(listener, name, strlen(name));
	memcpy(answer, question, end);
	answer[2] = 0x84; /* an answer, authoritative */
	answer[3] = 0;
	memset(answer + 4, 0, 8);
	answer[5] = 1;
	if (strncmp(name, "inside-", 7) == 0 && type == DNS_TYPE_A) {
		end += dns_add_address(answer + end, type, loopback, 4);
		count = 1;
	} else if (strncmp(name, "mixed-", 6) == 0 && type == DNS_TYPE_A) {
		end += dns_add_address(answer + end, type, public, 4);
		end += dns_add_address(answer + end, type, metadata, 4);
		count = 2;
	} else if (strncmp(name, "mapped-", 7) == 0 && type == DNS_AAAA) {
		end += dns_add_address(answer + end, type, mapped, 16);
		count = 1;
	} else if (strncmp(name, "inside-", 7) != 0 && strncmp(name, "mixed-", 6) != 0 &&
		   strncmp(name, "mapped-", 7) != 0) {
		answer[3] = 3; /* NXDOMAIN */
	}
	answer[7] = count;
	return end;
}

void canary_dns_serve_tcp(const char *listener, int fd)
{
	uint8_t question[4096], answer[514];
	size_t n = 0;

	while (n < sizeof(question) && io_wait(fd, POLLIN, 500) == 1) {
		ssize_t got = recv(fd, question + n, sizeof(question) - n, 0);
		size_t answer_n;

		if (got <= 0)
			break;
		n += (size_t)got;
		if (n < 2 || n < 2u + (size_t)(question[0] << 8 | question[1]))
			continue;
		answer_n = canary_dns_answer(listener, question + 2, n - 2, answer + 2,
					     sizeof(answer) - 2);
		answer[0] = (uint8_t)(answer_n >> 8);
		answer[1] = (uint8_t)answer_n;
		(void)send(fd, answer, answer_n + 2, MSG_NOSIGNAL);
		return;
	}
	canary_saw(listener, question, n);
}
