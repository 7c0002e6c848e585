#include "egress/dns_answer.h"

#define NAME_MAX_BYTES 255
#define POINTERS_MAX   64

/* A name in uncompressed wire form, lower-cased, so that a dot inside a label is no separator. */
struct name {
	uint8_t p[NAME_MAX_BYTES];
	size_t n; /* with the root label */
};

struct reader {
	const uint8_t *p;
	size_t n, at;
	bool is_bad; /* sticky */
};

static unsigned read_number(struct reader *r, unsigned bytes)
{
	unsigned v = 0;

	if (r->is_bad || r->n - r->at < bytes) {
		r->is_bad = true;
		return 0;
	}
	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | r->p[r->at++];
	return v;
}

/* Pointers may lead only backwards, which also ends every loop (RFC 1035 section 4.1.4). */
static void read_name(struct reader *r, struct name *out)
{
	size_t at = r->at, end = 0, limit = r->at, pointers = 0;

	out->n = 0;
	while (!r->is_bad) {
		uint8_t length = at < r->n ? r->p[at] : 0xff;

		if (at < r->n && (length & 0xc0) == 0xc0) {
			size_t to =
				at + 1 < r->n ? (size_t)(length & 0x3f) << 8 | r->p[at + 1] : r->n;

			end = end ? end : at + 2;
			r->is_bad = to >= limit || ++pointers > POINTERS_MAX;
			at = limit = to;
			continue;
		}
		if (length > 63 || r->n - at < 1u + length ||
		    out->n + 1u + length > NAME_MAX_BYTES) {
			r->is_bad = true;
			break;
		}
		out->p[out->n++] = length;
		for (size_t i = 1; i <= length; i++)
			out->p[out->n++] = (uint8_t)ascii_lower((char)r->p[at + i]);
		at += 1u + length;
		if (length == 0)
			break;
	}
	r->at = end ? end : at;
}

static bool name_from_host(struct name *out, struct str host)
{
	size_t from = 0;

	out->n = 0;
	if (host.n == 0 || host.n > NAME_MAX_BYTES - 2)
		return false;
	for (size_t i = 0; i <= host.n; i++) {
		size_t length = i - from;

		if (i < host.n && host.p[i] != '.')
			continue;
		if (length == 0 || length > 63)
			return false;
		out->p[out->n++] = (uint8_t)length;
		for (size_t k = from; k < i; k++)
			out->p[out->n++] = (uint8_t)ascii_lower(host.p[k]);
		from = i + 1;
	}
	out->p[out->n++] = 0;
	return true;
}

static bool name_eq(const struct name *a, const struct name *b)
{
	return a->n == b->n && memcmp(a->p, b->p, a->n) == 0;
}

struct rr {
	struct name owner;
	uint16_t type, class, size;
	uint32_t ttl;
	size_t data_at;
};

static void read_rr(struct reader *r, struct rr *out)
{
	read_name(r, &out->owner);
	out->type = (uint16_t)read_number(r, 2);
	out->class = (uint16_t)read_number(r, 2);
	out->ttl = read_number(r, 4);
	out->size = (uint16_t)read_number(r, 2);
	out->data_at = r->at;
	if (r->is_bad || r->n - r->at < out->size)
		r->is_bad = true;
	else
		r->at += out->size;
	if (out->ttl > INT32_MAX) /* RFC 2181 section 8 */
		out->ttl = 0;
}

/* The end of the chain of aliases, in whatever order they stand. False for a loop, a chain that is
 * too long, or two aliases of one name. */
static bool follow_aliases(struct reader start, unsigned n_records, struct name *target,
			   uint32_t *ttl)
{
	for (unsigned step = 0; step <= DNS_ANSWER_ALIASES_MAX; step++) {
		struct reader r = start;
		struct name next = {0};
		unsigned found = 0;

		for (unsigned i = 0; i < n_records && !r.is_bad; i++) {
			struct rr rr;
			struct reader data;

			read_rr(&r, &rr);
			if (r.is_bad || rr.type != DNS_TYPE_CNAME || rr.class != 1 ||
			    !name_eq(&rr.owner, target))
				continue;
			data = (struct reader){.p = r.p, .n = r.at, .at = rr.data_at};
			read_name(&data, &next);
			if (data.is_bad || data.at != r.at || found++ > 0)
				return false;
			*ttl = rr.ttl < *ttl ? rr.ttl : *ttl;
		}
		if (r.is_bad)
			return false;
		if (found == 0)
			return true;
		*target = next;
	}
	return false;
}

static void take_address(struct dns_answer *out, const struct reader *r, const struct rr *rr)
{
	struct sockaddr_storage *a = &out->addresses[out->n++];

	*a = (struct sockaddr_storage){0};
	if (rr->type == DNS_TYPE_A) {
		struct sockaddr_in v4 = {.sin_family = AF_INET};

		memcpy(&v4.sin_addr, r->p + rr->data_at, 4);
		memcpy(a, &v4, sizeof(v4));
	} else {
		struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

		memcpy(&v6.sin6_addr, r->p + rr->data_at, 16);
		memcpy(a, &v6, sizeof(v6));
	}
	out->ttl_seconds = rr->ttl < out->ttl_seconds ? rr->ttl : out->ttl_seconds;
}

static enum dns_answer_status read_addresses(struct dns_answer *out, struct reader r,
					     unsigned n_records, const struct name *target,
					     uint16_t type)
{
	size_t size = type == DNS_TYPE_A ? 4 : 16;

	for (unsigned i = 0; i < n_records; i++) {
		struct rr rr;

		read_rr(&r, &rr);
		if (r.is_bad)
			return DNS_ANSWER_MALFORMED;
		if (rr.type != DNS_TYPE_A && rr.type != DNS_TYPE_AAAA)
			continue;
		/* An address of somebody else, of the other family or of another class has no
		 * business in this answer. */
		if (rr.type != type || rr.class != 1 || rr.size != size ||
		    !name_eq(&rr.owner, target) || out->n == DNS_ANSWER_ADDRESSES_MAX)
			return DNS_ANSWER_MALFORMED;
		take_address(out, &r, &rr);
	}
	return out->n > 0 ? DNS_ANSWER_OK : DNS_ANSWER_NO_ADDRESS;
}

enum dns_answer_status dns_answer_parse(struct dns_answer *out, struct str packet, struct str host,
					uint16_t type)
{
	struct reader r = {.p = (const uint8_t *)packet.p, .n = packet.n};
	unsigned flags, n_questions, n_answers;
	struct name asked, target;
	enum dns_answer_status status;

	*out = (struct dns_answer){.ttl_seconds = INT32_MAX};
	(void)read_number(&r, 2); /* the identifier was compared by whoever asked */
	flags = read_number(&r, 2);
	n_questions = read_number(&r, 2);
	n_answers = read_number(&r, 2);
	(void)read_number(&r, 4);
	/* A response to a standard query, not truncated, with our question in it. */
	if (r.is_bad || !(flags & 0x8000) || (flags & 0x7a00) || n_questions != 1 ||
	    n_answers > DNS_ANSWER_RECORDS_MAX || !name_from_host(&target, host))
		return DNS_ANSWER_MALFORMED;
	read_name(&r, &asked);
	if (read_number(&r, 2) != type || read_number(&r, 2) != 1 || r.is_bad ||
	    !name_eq(&asked, &target))
		return DNS_ANSWER_MALFORMED;
	if ((flags & 0xf) == 3)
		return DNS_ANSWER_NO_ADDRESS;
	if ((flags & 0xf) != 0)
		return DNS_ANSWER_FAILED;
	if (!follow_aliases(r, n_answers, &target, &out->ttl_seconds))
		return DNS_ANSWER_MALFORMED;
	status = read_addresses(out, r, n_answers, &target, type);
	if (status != DNS_ANSWER_OK)
		out->n = 0;
	return status;
}
