/*
 * Theory of operation: a head is looked at only when it is complete and contiguous. head_lines()
 * cuts it into lines with every byte checked against a class table, head_fields() sorts the fields
 * (framing and hop-by-hop ones are taken out), then the message's framing is decided from what is
 * left to decide on. A head that passes is shown to llhttp in its strict build: where the two
 * disagree, some server would disagree too, and the message is refused.
 */
#include "net/http1.h"

#include "net/http1_priv.h"

#include "base/clean.h"

#include <assert.h>
#include <errno.h>

#define LENGTH_DIGITS_MAX     18
#define CONNECTION_TOKENS_MAX 16
#define REQUEST_LINE_MAX      (HTTP1_TARGET_MAX_BYTES + 32) /* method, spaces and version beside it */

static const struct {
	const char *name;
	unsigned status;
} reasons[] = {
#define X(constant, text, code) [HTTP1_##constant] = {text, code},
	HTTP1_REASONS(X)
#undef X
};
static_assert(ARRAY_LEN(reasons) == HTTP1_REASON_COUNT, "a reason without a name");

const char *http1_reason_name(enum http1_reason r)
{
	return (size_t)r < ARRAY_LEN(reasons) ? reasons[r].name : "unknown";
}

unsigned http1_reason_status(enum http1_reason r)
{
	return (size_t)r < ARRAY_LEN(reasons) ? reasons[r].status : 400;
}

/* Fields that the parser has a use for, or that end at each hop. */
enum known {
	KNOWN_NONE,
	KNOWN_HOP, /* dropped without a look */
	KNOWN_HOST,
	KNOWN_LENGTH,
	KNOWN_CODING,
	KNOWN_CONNECTION,
	KNOWN_EXPECT,
	KNOWN_UPGRADE,
	KNOWN_TRAILER
};

static const struct {
	struct str name;
	enum known known;
} known_fields[] = {
	{{"host", 4}, KNOWN_HOST},
	{{"te", 2}, KNOWN_HOP},
	{{"connection", 10}, KNOWN_CONNECTION},
	{{"content-length", 14}, KNOWN_LENGTH},
	{{"transfer-encoding", 17}, KNOWN_CODING},
	{{"expect", 6}, KNOWN_EXPECT},
	{{"upgrade", 7}, KNOWN_UPGRADE},
	{{"trailer", 7}, KNOWN_TRAILER},
	{{"keep-alive", 10}, KNOWN_HOP},
	{{"proxy-connection", 16}, KNOWN_HOP},
	{{"proxy-authorization", 19}, KNOWN_HOP},
	{{"proxy-authenticate", 18}, KNOWN_HOP},
	{{"proxy-authentication-info", 25}, KNOWN_HOP},
	{{"http2-settings", 14}, KNOWN_HOP},
};

/* Nomination by Connection must not take these away: the next hop would read another message. */
static const struct str not_nominable[] = {
	{"host", 4},	       {"content-length", 14},
	{"content-type", 12},  {"content-encoding", 16},
	{"authorization", 13}, {"cookie", 6},
	{"set-cookie", 10},    {"expect", 6},
	{"x-api-key", 9},      {"cache-control", 13},
	{"content-range", 13},
};

static enum known known_of(struct str name)
{
	if (name.n == 0 || name.n > 25)
		return KNOWN_NONE;
	for (size_t i = 0; i < ARRAY_LEN(known_fields); i++) {
		if (known_fields[i].name.n == name.n &&
		    ascii_lower(name.p[0]) == known_fields[i].name.p[0] &&
		    str_ieq(name, known_fields[i].name))
			return known_fields[i].known;
	}
	return KNOWN_NONE;
}

/* What stands in a head beside fields[]. */
struct head_facts {
	struct str host, length, coding, expect;
	unsigned n_host, n_length, n_coding, n_expect;
	bool has_upgrade;
	struct str connection[CONNECTION_TOKENS_MAX];
	size_t n_connection, n_fields_raw;
};

static enum http1_reason line_check(struct str line)
{
	if (http1_all(line, HTTP1_CLASS_VALUE))
		return HTTP1_OK;
	for (size_t i = 0; i < line.n; i++) {
		if (http1_class[(unsigned char)line.p[i]] & HTTP1_CLASS_VALUE)
			continue;
		if (line.p[i] == '\0')
			return HTTP1_NUL;
		return line.p[i] == '\r' ? HTTP1_BARE_CR : HTTP1_CONTROL;
	}
	return HTTP1_OK;
}

size_t http1_head_length(struct str in, size_t from, bool is_request, enum http1_reason *reason)
{
	size_t at = from > in.n ? in.n : from;

	*reason = HTTP1_OK;
	if (in.n == 0)
		return 0;
	if (!(http1_class[(unsigned char)in.p[0]] & HTTP1_CLASS_TOKEN)) {
		*reason = HTTP1_SYNTAX;
		return 0;
	}
	if (memchr(in.p + at, 0, in.n - at)) {
		/* Perhaps of the body: then the head ends before it. */
		size_t nul = (size_t)((const char *)memchr(in.p + at, 0, in.n - at) - in.p);
		size_t end = str_find(str_sub(in, at > 3 ? at - 3 : 0, nul), STR_LIT("\r\n\r\n"));

		if (end == nul - (at > 3 ? at - 3 : 0)) {
			*reason = HTTP1_NUL;
			return 0;
		}
	}
	for (;;) {
		const char *lf = memchr(in.p + at, '\n', in.n - at);

		if (!lf)
			break;
		at = (size_t)(lf - in.p) + 1;
		if (at < 2 || in.p[at - 2] != '\r') {
			*reason = HTTP1_BARE_LF;
			return 0;
		}
		if (at >= 4 && in.p[at - 3] == '\n') {
			if (at > HTTP1_HEAD_MAX_BYTES)
				*reason = HTTP1_HEAD_TOO_LARGE;
			return at > HTTP1_HEAD_MAX_BYTES ? 0 : at;
		}
	}
	if (in.n >= HTTP1_HEAD_MAX_BYTES)
		*reason = HTTP1_HEAD_TOO_LARGE;
	if (is_request && *reason == HTTP1_OK) {
		size_t line = str_chr(in, '\n');

		if (line >= REQUEST_LINE_MAX) {
			*reason = HTTP1_TARGET_TOO_LONG;
		} else if (line < in.n) {
			/* Said now rather than after a time-out: it may be HTTP/0.9. */
			struct str first = str_sub(in, 0, line - 1), target;
			struct http1_head h;

			*reason = line_check(first);
			if (*reason == HTTP1_OK)
				*reason = http1_request_line(&h, first, &target);
		}
	}
	return 0;
}

/* The next line without its CRLF; *rest moves behind it. */
static enum http1_reason line_next(struct str *rest, struct str *line)
{
	const char *lf = rest->n ? memchr(rest->p, '\n', rest->n) : NULL;
	size_t n;

	if (!lf)
		return HTTP1_SYNTAX;
	n = (size_t)(lf - rest->p);
	if (n == 0 || rest->p[n - 1] != '\r')
		return HTTP1_BARE_LF;
	*line = str_sub(*rest, 0, n - 1);
	*rest = str_sub(*rest, n + 1, rest->n);
	return line_check(*line);
}

static enum http1_reason connection_tokens(struct head_facts *facts, struct str value)
{
	bool more = true;

	while (more) {
		struct str token;

		value = str_cut(value, ',', &token, &more);
		token = str_trim(token);
		if (token.n == 0)
			continue;
		if (!http1_is_token(token) || facts->n_connection == CONNECTION_TOKENS_MAX)
			return HTTP1_CONNECTION;
		for (size_t i = 0; i < ARRAY_LEN(not_nominable); i++) {
			if (str_ieq(token, not_nominable[i]))
				return HTTP1_CONNECTION;
		}
		facts->connection[facts->n_connection++] = token;
	}
	return HTTP1_OK;
}

static enum http1_reason field_take(struct http1_head *h, struct head_facts *facts,
				    struct http1_field field)
{
	switch (known_of(field.name)) {
	case KNOWN_HOST:
		facts->host = field.value;
		facts->n_host++;
		return h->is_request ? HTTP1_OK : HTTP1_SYNTAX;
	case KNOWN_LENGTH:
		facts->length = field.value;
		facts->n_length++;
		return HTTP1_OK;
	case KNOWN_CODING:
		facts->coding = field.value;
		facts->n_coding++;
		return HTTP1_OK;
	case KNOWN_EXPECT:
		facts->expect = field.value;
		facts->n_expect++;
		return HTTP1_OK;
	case KNOWN_CONNECTION:
		return connection_tokens(facts, field.value);
	case KNOWN_UPGRADE:
		facts->has_upgrade = true;
		return HTTP1_OK;
	case KNOWN_TRAILER:
		h->has_trailer = true;
		return HTTP1_OK;
	case KNOWN_HOP:
		return HTTP1_OK;
	case KNOWN_NONE:
		break;
	}
	h->fields[h->n_fields++] = field;
	return HTTP1_OK;
}

static enum http1_reason field_parse(struct str line, struct http1_field *field)
{
	size_t colon = str_chr(line, ':');

	if (line.p[0] == ' ' || line.p[0] == '\t')
		return HTTP1_OBS_FOLD;
	if (colon == line.n)
		return HTTP1_SYNTAX;
	if (colon == 0)
		return HTTP1_FIELD_NAME;
	if (line.p[colon - 1] == ' ' || line.p[colon - 1] == '\t')
		return HTTP1_SPACE_BEFORE_COLON;
	field->name = str_sub(line, 0, colon);
	if (!http1_is_token(field->name))
		return HTTP1_FIELD_NAME;
	field->value = str_trim(str_sub(line, colon + 1, line.n));
	return HTTP1_OK;
}

static void drop_nominated(struct http1_head *h, const struct head_facts *facts)
{
	h->may_keep_alive = h->minor == 1;
	for (size_t i = 0; i < facts->n_connection; i++) {
		if (str_ieq(facts->connection[i], STR_LIT("close")))
			h->may_keep_alive = false;
		else if (!str_ieq(facts->connection[i], STR_LIT("keep-alive")))
			(void)http1_remove(h, facts->connection[i]);
	}
}

/* The lines after the first. raw begins there and ends with the blank line. */
static enum http1_reason head_fields(struct http1_head *h, struct str rest,
				     struct head_facts *facts)
{
	enum http1_reason r;

	h->n_fields = 0;
	for (;;) {
		struct http1_field field;
		struct str line;

		r = line_next(&rest, &line);
		if (r != HTTP1_OK)
			return r;
		if (line.n == 0)
			break;
		if (++facts->n_fields_raw > HTTP1_FIELDS_MAX)
			return HTTP1_TOO_MANY_FIELDS;
		r = field_parse(line, &field);
		if (r == HTTP1_OK)
			r = field_take(h, facts, field);
		if (r != HTTP1_OK)
			return r;
	}
	if (rest.n != 0)
		return HTTP1_SYNTAX;
	drop_nominated(h, facts);
	return HTTP1_OK;
}

/* What Content-Length and Transfer-Encoding say together (RFC 9112 sections 6.1-6.3). */
static enum http1_reason framing_parse(struct http1_head *h, const struct head_facts *facts)
{
	h->framing = HTTP1_BODY_NONE;
	if (facts->n_length > 0 && facts->n_coding > 0)
		return HTTP1_LENGTH_AND_CODING;
	if (facts->n_length > 1)
		return HTTP1_LENGTH_DUPLICATE;
	if (facts->n_coding > 1)
		return HTTP1_CODING_DUPLICATE;
	if (facts->n_coding == 1) {
		if (h->minor == 0)
			return HTTP1_CODING_HTTP10;
		if (!str_ieq(facts->coding, STR_LIT("chunked")))
			return HTTP1_CODING;
		h->framing = HTTP1_BODY_CHUNKED;
	}
	if (facts->n_length == 1) {
		if (facts->length.n > LENGTH_DIGITS_MAX ||
		    str_to_u64(facts->length, UINT64_MAX, &h->content_length) != 0)
			return HTTP1_LENGTH_SYNTAX;
		h->has_length = true;
		if (h->content_length > 0)
			h->framing = HTTP1_BODY_LENGTH;
	}
	return HTTP1_OK;
}

static enum http1_reason host_check(struct http1_head *h, const struct head_facts *facts)
{
	uint16_t default_port = h->scheme == HTTP1_SCHEME_HTTPS ? 443 : 80;
	bool is_connect = h->form == HTTP1_FORM_AUTHORITY;
	enum http1_reason r;
	struct str host;
	uint16_t port;

	if (facts->n_host > 1)
		return HTTP1_HOST_DUPLICATE;
	if (facts->n_host == 0)
		return is_connect && h->minor == 0 ? HTTP1_OK : HTTP1_HOST_MISSING;
	r = http1_parse_authority(facts->host, is_connect ? h->port : default_port, &host, &port);
	if (r != HTTP1_OK)
		return r;
	if (h->form == HTTP1_FORM_ORIGIN) {
		h->host = host;
		h->port = port;
		return HTTP1_OK;
	}
	return str_ieq(host, h->host) && port == h->port ? HTTP1_OK : HTTP1_HOST_MISMATCH;
}

static enum http1_reason expect_check(struct http1_head *h, const struct head_facts *facts)
{
	if (facts->n_expect == 0)
		return HTTP1_OK;
	if (facts->n_expect > 1 || !str_ieq(facts->expect, STR_LIT("100-continue")))
		return HTTP1_EXPECT;
	h->expects_continue = h->framing != HTTP1_BODY_NONE;
	return HTTP1_OK;
}

/* All but the field array, which is too large to clear for every message. */
static void head_clear(struct http1_head *h)
{
	memset(h, 0, offsetof(struct http1_head, fields));
}

enum http1_reason http1_parse_request(struct http1_head *h, struct str raw,
				      enum http1_scheme default_scheme)
{
	struct head_facts facts = {0};
	struct str line, target, rest = raw;
	enum http1_reason r;

	head_clear(h);
	h->is_request = true;
	if (raw.n > HTTP1_HEAD_MAX_BYTES)
		return HTTP1_HEAD_TOO_LARGE;
	r = line_next(&rest, &line);
	if (r == HTTP1_OK)
		r = http1_request_line(h, line, &target);
	if (r != HTTP1_OK)
		return r;
	h->scheme = default_scheme;
	r = http1_target(h, target);
	if (r == HTTP1_OK)
		r = head_fields(h, rest, &facts);
	if (r == HTTP1_OK)
		r = framing_parse(h, &facts);
	if (r == HTTP1_OK)
		r = host_check(h, &facts);
	if (r == HTTP1_OK)
		r = expect_check(h, &facts);
	if (r != HTTP1_OK)
		return r;
	if (facts.has_upgrade)
		return HTTP1_UPGRADE;
	if (h->method == HTTP1_CONNECT && (facts.n_length > 0 || facts.n_coding > 0))
		return HTTP1_LENGTH_FORBIDDEN;
	if (!http1_second_opinion(h, raw, facts.n_fields_raw))
		return HTTP1_SYNTAX;
	return HTTP1_OK;
}

/* "HTTP/1.1 200 phrase" */
static enum http1_reason status_line(struct http1_head *h, struct str line)
{
	if (!str_starts(line, STR_LIT("HTTP/")) || line.n < 12 || line.p[8] != ' ')
		return HTTP1_STATUS;
	if (line.p[5] != '1' || line.p[6] != '.' || (line.p[7] != '0' && line.p[7] != '1'))
		return HTTP1_VERSION;
	h->minor = (uint8_t)(line.p[7] - '0');
	for (size_t i = 9; i < 12; i++) {
		if (!ascii_is_digit(line.p[i]))
			return HTTP1_STATUS;
		h->status = h->status * 10 + (unsigned)(line.p[i] - '0');
	}
	if (h->status < 100 || h->status > 599)
		return HTTP1_STATUS;
	if (line.n > 12 && line.p[12] != ' ')
		return HTTP1_STATUS;
	h->phrase = str_sub(line, 13, line.n);
	return HTTP1_OK;
}

static enum http1_reason response_framing(struct http1_head *h, const struct head_facts *facts,
					  enum http1_method request)
{
	enum http1_reason r = framing_parse(h, facts);

	if (r != HTTP1_OK)
		return r;
	if (h->status < 200 || h->status == 204) {
		/* RFC 9110 section 8.6: not allowed; a reader that heeds it waits for a body, or
		 * takes the next answer for one. */
		if (h->framing != HTTP1_BODY_NONE)
			return HTTP1_LENGTH_FORBIDDEN;
		h->has_length = false;
		return HTTP1_OK;
	}
	if (request == HTTP1_HEAD || h->status == 304)
		h->framing = HTTP1_BODY_NONE;
	else if (h->framing == HTTP1_BODY_NONE && !h->has_length)
		h->framing = HTTP1_BODY_CLOSE;
	if (h->framing == HTTP1_BODY_CLOSE)
		h->may_keep_alive = false;
	return HTTP1_OK;
}

enum http1_reason http1_parse_response(struct http1_head *h, struct str raw,
				       enum http1_method request)
{
	struct head_facts facts = {0};
	struct str line, rest = raw;
	enum http1_reason r;

	head_clear(h);
	h->method = request;
	if (raw.n > HTTP1_HEAD_MAX_BYTES)
		return HTTP1_HEAD_TOO_LARGE;
	r = line_next(&rest, &line);
	if (r == HTTP1_OK)
		r = status_line(h, line);
	if (r == HTTP1_OK)
		r = head_fields(h, rest, &facts);
	if (r == HTTP1_OK)
		r = response_framing(h, &facts, request);
	if (r != HTTP1_OK)
		return r;
	if (h->status == 101)
		return HTTP1_UPGRADE; /* nobody asked for one */
	if (!http1_second_opinion(h, raw, facts.n_fields_raw))
		return HTTP1_SYNTAX;
	return HTTP1_OK;
}

struct http1_field *http1_find(struct http1_head *h, struct str name)
{
	for (size_t i = 0; i < h->n_fields; i++) {
		if (str_ieq(h->fields[i].name, name))
			return &h->fields[i];
	}
	return NULL;
}

size_t http1_count(const struct http1_head *h, struct str name)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n_fields; i++)
		n += str_ieq(h->fields[i].name, name);
	return n;
}

size_t http1_remove(struct http1_head *h, struct str name)
{
	size_t kept = 0, removed;

	for (size_t i = 0; i < h->n_fields; i++) {
		if (!str_ieq(h->fields[i].name, name))
			h->fields[kept++] = h->fields[i];
	}
	removed = h->n_fields - kept;
	h->n_fields = kept;
	return removed;
}

int http1_add(struct http1_head *h, struct str name, struct str value)
{
	if (!http1_is_token(name) || !http1_all(value, HTTP1_CLASS_VALUE))
		return -EINVAL;
	if (h->n_fields == HTTP1_FIELDS_MAX)
		return -ENOBUFS;
	h->fields[h->n_fields++] = (struct http1_field){name, value};
	return 0;
}

int http1_set(struct http1_head *h, struct str name, struct str value)
{
	if (!http1_is_token(name) || !http1_all(value, HTTP1_CLASS_VALUE))
		return -EINVAL;
	(void)http1_remove(h, name);
	return http1_add(h, name, value);
}
