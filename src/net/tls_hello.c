/*
 * The ClientHello, read for three things only: is it one, which names does it ask for, does it try
 * to hide them. OpenSSL parses it again and has the last word; this parser exists so that bytes
 * that are not TLS at all are refused at once, with a reason.
 */
#include "net/tls.h"

#include "base/clean.h"

#include <assert.h>

#define RECORD_HEADER	       5
#define RECORD_MAX_BYTES       16384
#define CONTENT_HANDSHAKE      0x16
#define HANDSHAKE_CLIENT_HELLO 1
#define EXT_SERVER_NAME	       0
#define EXT_ECH		       0xfe0d
#define EXT_ESNI	       0xffce

static const char *const names[] = {
#define X(constant, text) [TLS_##constant] = (text),
	TLS_REASONS(X)
#undef X
};
static_assert(ARRAY_LEN(names) == TLS_REASON_COUNT, "a reason without a name");

const char *tls_reason_name(enum tls_reason r)
{
	return (size_t)r < ARRAY_LEN(names) ? names[r] : "unknown";
}

static size_t be(struct str s, size_t at, size_t n)
{
	size_t value = 0;

	for (size_t i = 0; i < n; i++)
		value = value << 8 | (unsigned char)s.p[at + i];
	return value;
}

/* Takes a vector with a length prefix of `prefix` bytes off the front of *s. */
static bool vector_take(struct str *s, size_t prefix, struct str *out)
{
	size_t n;

	if (s->n < prefix)
		return false;
	n = be(*s, 0, prefix);
	if (s->n - prefix < n)
		return false;
	*out = str_sub(*s, prefix, prefix + n);
	*s = str_sub(*s, prefix + n, s->n);
	return true;
}

/* RFC 6066 section 3: ServerNameList. Names of other types are counted, too: nobody sends any. */
static enum tls_reason names_parse(struct str ext, struct tls_client_hello *out)
{
	struct str list;

	if (!vector_take(&ext, 2, &list) || ext.n != 0 || list.n == 0)
		return TLS_HELLO_MALFORMED;
	while (list.n > 0) {
		bool is_host = list.p[0] == 0;
		struct str name;

		list = str_sub(list, 1, list.n);
		if (!vector_take(&list, 2, &name))
			return TLS_HELLO_MALFORMED;
		if (!is_host || name.n == 0 || name.n > TLS_HOST_MAX || memchr(name.p, 0, name.n))
			return TLS_SNI_SYNTAX;
		if (out->n_names++ > 0)
			continue;
		str_lower_into(out->name, name);
		out->name[name.n] = '\0';
	}
	return TLS_OK;
}

static enum tls_reason extensions_parse(struct str all, struct tls_client_hello *out)
{
	while (all.n > 0) {
		enum tls_reason r = TLS_OK;
		struct str body;
		size_t type;

		if (all.n < 4)
			return TLS_HELLO_MALFORMED;
		type = be(all, 0, 2);
		all = str_sub(all, 2, all.n);
		if (!vector_take(&all, 2, &body))
			return TLS_HELLO_MALFORMED;
		if (type == EXT_SERVER_NAME)
			r = names_parse(body, out);
		else if (type == EXT_ECH || type == EXT_ESNI)
			out->has_ech = true;
		if (r != TLS_OK)
			return r;
	}
	return TLS_OK;
}

/* The body of the handshake message (RFC 8446 section 4.1.2). */
static enum tls_reason hello_parse(struct str s, struct tls_client_hello *out)
{
	struct str skipped, extensions;

	if (s.n < 34)
		return TLS_HELLO_MALFORMED;
	out->legacy_version = (uint16_t)be(s, 0, 2);
	s = str_sub(s, 34, s.n);
	if (!vector_take(&s, 1, &skipped) || skipped.n > 32 || !vector_take(&s, 2, &skipped) ||
	    skipped.n < 2 || skipped.n % 2 != 0 || !vector_take(&s, 1, &skipped) || skipped.n < 1)
		return TLS_HELLO_MALFORMED;
	if (s.n == 0)
		return TLS_OK;
	if (!vector_take(&s, 2, &extensions) || s.n != 0)
		return TLS_HELLO_MALFORMED;
	return extensions_parse(extensions, out);
}

/* What can be said of a record's header when only the first bytes of it are there. */
static enum tls_reason record_check(struct str in)
{
	size_t n;

	if (in.n >= 1 && (unsigned char)in.p[0] != CONTENT_HANDSHAKE)
		return TLS_NOT_TLS;
	if (in.n >= 2 && in.p[1] != 3)
		return TLS_NOT_TLS;
	if (in.n >= 3 && (unsigned char)in.p[2] > 4)
		return TLS_NOT_TLS;
	if (in.n < RECORD_HEADER)
		return TLS_INCOMPLETE;
	n = be(in, 3, 2);
	if (n == 0 || n > RECORD_MAX_BYTES)
		return TLS_NOT_TLS;
	return in.n - RECORD_HEADER < n ? TLS_INCOMPLETE : TLS_OK;
}

/* The type and length of the handshake message, from the first bytes of the first record. */
static enum tls_reason message_check(struct str in)
{
	if (in.n > RECORD_HEADER && in.p[RECORD_HEADER] != HANDSHAKE_CLIENT_HELLO)
		return TLS_NOT_TLS;
	return TLS_OK;
}

enum tls_reason tls_client_hello_parse(struct str in, struct tls_client_hello *out)
{
	/* Only a hello that is spread over records is put together here; RFC 8446 section 5.1. */
	unsigned char joined[TLS_HELLO_MAX_BYTES];
	struct str rest = in, message;
	size_t have = 0, need = 0;
	enum tls_reason r;

	memset(out, 0, sizeof(*out));
	if (message_check(in) != TLS_OK && record_check(str_sub(in, 0, 3)) == TLS_INCOMPLETE)
		return TLS_NOT_TLS;
	for (;;) {
		size_t n;

		r = record_check(rest);
		if (r == TLS_INCOMPLETE && in.n > TLS_HELLO_MAX_BYTES + 1024)
			return TLS_HELLO_TOO_LARGE;
		if (r != TLS_OK)
			return r;
		n = be(rest, 3, 2);
		if (n > sizeof(joined) - have)
			return TLS_HELLO_TOO_LARGE;
		memcpy(joined + have, rest.p + RECORD_HEADER, n);
		have += n;
		rest = str_sub(rest, RECORD_HEADER + n, rest.n);
		if (have >= 4)
			need = 4 + be(str_slice(joined, have), 1, 3);
		if (need > sizeof(joined))
			return TLS_HELLO_TOO_LARGE;
		if (need > 0 && have >= need)
			break;
	}
	if (have != need) /* more in the record than the hello: no client may send that yet */
		return TLS_HELLO_MALFORMED;
	out->raw_bytes = in.n - rest.n;
	message = str_slice(joined + 4, need - 4);
	return hello_parse(message, out);
}

enum tls_reason tls_client_hello_check(const struct tls_client_hello *h, struct str expected)
{
	if (h->has_ech)
		return TLS_ECH;
	if (h->n_names == 0)
		return TLS_NO_SNI;
	if (h->n_names > 1)
		return TLS_SNI_SEVERAL;
	return str_ieq(str_of(h->name), expected) ? TLS_OK : TLS_SNI_MISMATCH;
}
