/*
 * The answer of a name server (RFC 1035, 3596), read strictly: it must answer exactly the question
 * that was asked, and every address in it must belong to the end of the chain of aliases that
 * starts at that name. What does not fit makes the whole answer unusable.
 */
#pragma once

#include "base/str.h"

#include <netinet/in.h>

#define DNS_ANSWER_ADDRESSES_MAX 32
#define DNS_ANSWER_ALIASES_MAX	 8
#define DNS_ANSWER_RECORDS_MAX	 128

#define DNS_TYPE_A     1
#define DNS_TYPE_CNAME 5
#define DNS_TYPE_AAAA  28

enum dns_answer_status {
	DNS_ANSWER_OK,	       /* at least one address */
	DNS_ANSWER_NO_ADDRESS, /* the name has none of that type, or does not exist */
	DNS_ANSWER_FAILED,     /* the server says that it could not (SERVFAIL, REFUSED, …) */
	DNS_ANSWER_MALFORMED
};

struct dns_answer {
	size_t n;
	struct sockaddr_storage addresses[DNS_ANSWER_ADDRESSES_MAX]; /* port 0 */
	uint32_t ttl_seconds; /* the smallest of what was used */
};

/* host in canonical form; type DNS_TYPE_A or DNS_TYPE_AAAA. */
enum dns_answer_status dns_answer_parse(struct dns_answer *out, struct str packet, struct str host,
					uint16_t type) __attribute__((warn_unused_result));
