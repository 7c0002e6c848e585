/* The request line: method, target, version. */
#include "net/http1_priv.h"

#include "base/clean.h"

#include <assert.h>

static const struct str methods[] = {
	[HTTP1_GET] = {"GET", 3},	  [HTTP1_HEAD] = {"HEAD", 4},
	[HTTP1_POST] = {"POST", 4},	  [HTTP1_PUT] = {"PUT", 3},
	[HTTP1_PATCH] = {"PATCH", 5},	  [HTTP1_DELETE] = {"DELETE", 6},
	[HTTP1_OPTIONS] = {"OPTIONS", 7}, [HTTP1_CONNECT] = {"CONNECT", 7},
};
static_assert(ARRAY_LEN(methods) == HTTP1_METHOD_COUNT, "a method without a name");

#define T HTTP1_CLASS_TOKEN
#define V HTTP1_CLASS_VALUE
#define G HTTP1_CLASS_TARGET
#define H HTTP1_CLASS_HOST
/* clang-format off */
const uint8_t http1_class[256] = {
	['\t'] = V, [' '] = V,
	['!'] = T|V|G, ['"'] = V|G, ['#'] = T|V, ['$'] = T|V|G, ['%'] = T|V|G, ['&'] = T|V|G,
	['\''] = T|V|G, ['('] = V|G, [')'] = V|G, ['*'] = T|V|G, ['+'] = T|V|G, [','] = V|G,
	['-'] = T|V|G|H, ['.'] = T|V|G|H, ['/'] = V|G,
	['0' ... '9'] = T|V|G|H,
	[':'] = V|G, [';'] = V|G, ['<'] = V|G, ['='] = V|G, ['>'] = V|G, ['?'] = V|G, ['@'] = V|G,
	['A' ... 'Z'] = T|V|G|H,
	['['] = V|G, ['\\'] = V|G, [']'] = V|G, ['^'] = T|V|G, ['_'] = T|V|G|H, ['`'] = T|V|G,
	['a' ... 'z'] = T|V|G|H,
	['{'] = V|G, ['|'] = T|V|G, ['}'] = V|G, ['~'] = T|V|G,
	[0x80 ... 0xff] = V,
};
/* clang-format on */
#undef T
#undef V
#undef G
#undef H

struct str http1_method_name(enum http1_method m)
{
	return (size_t)m < ARRAY_LEN(methods) ? methods[m] : STR_NULL;
}

bool http1_method_is_idempotent(enum http1_method m)
{
	return m == HTTP1_GET || m == HTTP1_HEAD || m == HTTP1_PUT || m == HTTP1_DELETE ||
	       m == HTTP1_OPTIONS;
}

static enum http1_reason version_parse(struct http1_head *h, struct str v)
{
	if (v.n != 8 || !str_starts(v, STR_LIT("HTTP/")) || !ascii_is_digit(v.p[5]) ||
	    v.p[6] != '.' || !ascii_is_digit(v.p[7]))
		return HTTP1_SYNTAX;
	if (v.p[5] != '1' || v.p[7] > '1')
		return HTTP1_VERSION;
	h->minor = (uint8_t)(v.p[7] - '0');
	/* Python's http.client (before 3.12) and `openssl s_client -proxy` send CONNECT so. */
	return h->minor == 0 && h->method != HTTP1_CONNECT ? HTTP1_VERSION : HTTP1_OK;
}

enum http1_reason http1_request_line(struct http1_head *h, struct str line, struct str *target)
{
	struct str method, rest, version;
	size_t m;
	bool found;

	rest = str_cut(line, ' ', &method, &found);
	if (!found || !http1_is_token(method))
		return HTTP1_SYNTAX;
	if (str_eq(line, STR_LIT("PRI * HTTP/2.0")))
		return HTTP1_H2_PREFACE;
	for (m = 0; m < ARRAY_LEN(methods); m++) {
		if (str_eq(method, methods[m]))
			break;
	}
	if (m == ARRAY_LEN(methods))
		return HTTP1_METHOD;
	h->method = (enum http1_method)m;
	version = str_cut(rest, ' ', target, &found);
	if (!found)
		return HTTP1_VERSION; /* HTTP/0.9 */
	if (target->n == 0 || str_chr(version, ' ') != version.n)
		return HTTP1_TARGET;
	if (target->n > HTTP1_TARGET_MAX_BYTES)
		return HTTP1_TARGET_TOO_LONG;
	if (str_chr(*target, '#') != target->n)
		return HTTP1_FRAGMENT;
	if (!http1_all(*target, HTTP1_CLASS_TARGET))
		return HTTP1_TARGET;
	return version_parse(h, version);
}

static enum http1_reason port_parse(struct str s, uint16_t *port)
{
	uint64_t value;

	if (s.n == 0 || s.n > 5 || s.p[0] == '0' || str_to_u64(s, UINT16_MAX, &value) != 0)
		return HTTP1_PORT;
	*port = (uint16_t)value;
	return HTTP1_OK;
}

/* "[" 2001:db8::1 "]"; whether that is an address is the policy's question. */
static bool is_bracketed(struct str s)
{
	if (s.n < 4 || s.p[0] != '[' || s.p[s.n - 1] != ']')
		return false;
	for (size_t i = 1; i + 1 < s.n; i++) {
		if (ascii_hex_value(s.p[i]) < 0 && s.p[i] != ':' && s.p[i] != '.')
			return false;
	}
	return true;
}

enum http1_reason http1_parse_authority(struct str s, uint16_t default_port, struct str *host,
					uint16_t *port)
{
	size_t colon;

	if (str_chr(s, '@') != s.n)
		return HTTP1_USERINFO;
	if (s.n > 0 && s.p[0] == '[')
		colon = str_chr(s, ']') + 1;
	else
		colon = str_chr(s, ':');
	*host = str_sub(s, 0, colon);
	*port = default_port;
	if (host->n == 0 || host->n > HTTP1_HOST_MAX_BYTES)
		return HTTP1_HOST_SYNTAX;
	if (!is_bracketed(*host) && !http1_all(*host, HTTP1_CLASS_HOST))
		return HTTP1_HOST_SYNTAX;
	if (colon >= s.n)
		return default_port ? HTTP1_OK : HTTP1_PORT;
	if (s.p[colon] != ':')
		return HTTP1_HOST_SYNTAX;
	return port_parse(str_sub(s, colon + 1, s.n), port);
}

static void path_split(struct http1_head *h, struct str s)
{
	h->query = str_cut(s, '?', &h->path, &h->has_query);
	if (!h->has_query)
		h->query = STR_NULL;
	if (h->path.n == 0)
		h->path = STR_LIT("/");
}

static enum http1_reason absolute_parse(struct http1_head *h, struct str target)
{
	struct str rest;
	size_t end;

	if (str_istarts(target, STR_LIT("http://"))) {
		h->scheme = HTTP1_SCHEME_HTTP;
		rest = str_sub(target, 7, target.n);
	} else if (str_istarts(target, STR_LIT("https://"))) {
		h->scheme = HTTP1_SCHEME_HTTPS;
		rest = str_sub(target, 8, target.n);
	} else {
		return str_find(target, STR_LIT("://")) != target.n ? HTTP1_SCHEME : HTTP1_TARGET;
	}
	for (end = 0; end < rest.n && rest.p[end] != '/' && rest.p[end] != '?'; end++)
		;
	h->form = HTTP1_FORM_ABSOLUTE;
	path_split(h, str_sub(rest, end, rest.n));
	return http1_parse_authority(str_sub(rest, 0, end),
				     h->scheme == HTTP1_SCHEME_HTTPS ? 443 : 80, &h->host,
				     &h->port);
}

enum http1_reason http1_target(struct http1_head *h, struct str target)
{
	if (h->method == HTTP1_CONNECT) {
		h->form = HTTP1_FORM_AUTHORITY;
		return http1_parse_authority(target, 0, &h->host, &h->port);
	}
	if (target.p[0] == '/') {
		h->form = HTTP1_FORM_ORIGIN;
		path_split(h, target);
		return HTTP1_OK;
	}
	if (str_eq(target, STR_LIT("*")))
		return HTTP1_ASTERISK;
	return absolute_parse(h, target);
}
