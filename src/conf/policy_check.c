/* What the parts of a route may look like; shared by the manifest and by the JSON form. */
#include "conf/policy.h"

#include "base/clean.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>

static const char *const scheme_names[] = {
	[POLICY_AUTH_NONE] = "none",
	[POLICY_AUTH_BEARER] = "bearer",
	[POLICY_AUTH_BASIC] = "basic",
	[POLICY_AUTH_HEADER] = "header",
};

static const char *const on_match_names[] = {
	[POLICY_MATCH_BLOCK] = "block",
	[POLICY_MATCH_REDACT] = "redact",
	[POLICY_MATCH_SUPERVISE] = "supervise",
};
static_assert(ARRAY_LEN(scheme_names) == POLICY_AUTH_HEADER + 1, "one name for each scheme");
static_assert(ARRAY_LEN(on_match_names) == POLICY_MATCH_SUPERVISE + 1, "one name for each");

const char *policy_scheme_name(enum policy_auth_scheme s)
{
	return s < ARRAY_LEN(scheme_names) ? scheme_names[s] : "unknown";
}

const char *policy_on_match_name(enum policy_on_match m)
{
	return m < ARRAY_LEN(on_match_names) ? on_match_names[m] : "unknown";
}

static bool name_parse(struct str name, const char *const *names, size_t n, size_t *out)
{
	for (size_t i = 0; i < n; i++) {
		if (!str_eq(name, str_of(names[i])))
			continue;
		*out = i;
		return true;
	}
	return false;
}

bool policy_scheme_parse(struct str name, enum policy_auth_scheme *out)
{
	size_t i;

	if (!name_parse(name, scheme_names, ARRAY_LEN(scheme_names), &i))
		return false;
	*out = (enum policy_auth_scheme)i;
	return true;
}

bool policy_on_match_parse(struct str name, enum policy_on_match *out)
{
	size_t i;

	if (!name_parse(name, on_match_names, ARRAY_LEN(on_match_names), &i))
		return false;
	*out = (enum policy_on_match)i;
	return true;
}

int policy_path_pattern_check(struct str pattern, struct err *e)
{
	char shown[256];
	struct str rest = pattern;
	bool more;

	text_visible_cstr(shown, sizeof(shown), pattern);
	if (pattern.n == 0 || pattern.p[0] != '/')
		return err_set(e, -EINVAL, "path \"%s\" must start with \"/\"", shown);
	if (pattern.n > POLICY_PATH_MAX)
		return err_set(e, -EINVAL, "path is longer than %d bytes", POLICY_PATH_MAX);
	if (str_chr(pattern, '?') < pattern.n || str_chr(pattern, '#') < pattern.n)
		return err_set(
			e, -EINVAL,
			"path \"%s\" must not have a query or fragment; the query is not matched",
			shown);
	if (str_chr(pattern, '%') < pattern.n)
		return err_set(
			e, -EINVAL,
			"path \"%s\" must not have escapes; write the character itself, or \"*\"",
			shown);
	if (!policy_path_is_canonical(pattern))
		return err_set(
			e, -EINVAL,
			"path \"%s\" is not canonical: no \"//\", \".\" or \"..\" segment, \";\", "
			"\"\\\", space, control or non-ASCII character",
			shown);
	do {
		struct str seg;

		rest = str_cut(rest, '/', &seg, &more);
		if (str_find(seg, STR_LIT("**")) < seg.n && (seg.n != 2 || more))
			return err_set(
				e, -EINVAL,
				"path \"%s\": \"**\" may only be the whole last segment, like "
				"\"/v1/**\"",
				shown);
	} while (more);
	return 0;
}

/* RFC 9110 section 5.6.2. */
static bool is_token_char(char c)
{
	return ascii_is_alnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

int policy_header_check(struct str header, struct err *e)
{
	/* A credential in one of these would change what the message is, or where it goes. */
	static const char *const framing[] = {
		"connection",
		"content-encoding",
		"content-length",
		"content-type",
		"expect",
		"host",
		"keep-alive",
		"proxy-authenticate",
		"proxy-authorization",
		"proxy-connection",
		"te",
		"trailer",
		"transfer-encoding",
		"upgrade",
		"via",
		"forwarded",
		"x-forwarded-for",
	};
	size_t ignored;
	char shown[128];

	text_visible_cstr(shown, sizeof(shown), header);
	if (header.n == 0 || header.n > POLICY_HEADER_MAX)
		return err_set(e, -EINVAL, "header name must have 1 to %d bytes",
			       POLICY_HEADER_MAX);
	for (size_t i = 0; i < header.n; i++)
		if (!is_token_char(header.p[i]) || ascii_lower(header.p[i]) != header.p[i])
			return err_set(e, -EINVAL, "\"%s\" is not a header name in lower case",
				       shown);
	if (name_parse(header, framing, ARRAY_LEN(framing), &ignored))
		return err_set(e, -EINVAL, "header \"%s\" cannot carry a credential", shown);
	return 0;
}

int policy_user_check(struct str user, struct err *e)
{
	if (user.n == 0 || user.n > POLICY_USER_MAX)
		return err_set(e, -EINVAL, "user must have 1 to %d bytes", POLICY_USER_MAX);
	for (size_t i = 0; i < user.n; i++)
		if (user.p[i] <= 0x20 || user.p[i] >= 0x7f || user.p[i] == ':')
			return err_set(e, -EINVAL,
				       "user must be printable ASCII without space and \":\"");
	return 0;
}

int policy_placeholder_check(struct str placeholder, struct err *e)
{
	if (placeholder.n < POLICY_PLACEHOLDER_MIN || placeholder.n > POLICY_PLACEHOLDER_MAX)
		return err_set(e, -EINVAL, "placeholder must have %d to %d bytes",
			       POLICY_PLACEHOLDER_MIN, POLICY_PLACEHOLDER_MAX);
	for (size_t i = 0; i < placeholder.n; i++)
		if (!ascii_is_alnum(placeholder.p[i]) && placeholder.p[i] != '-' &&
		    placeholder.p[i] != '_')
			return err_set(e, -EINVAL,
				       "placeholder must be letters, digits, \"-\", \"_\"");
	return 0;
}

static int address_refuse(struct str text, struct err *e)
{
	char shown[128];

	text_visible_cstr(shown, sizeof(shown), text);
	return err_set(e, -EINVAL,
		       "\"%s\" is not an address: expected \"192.0.2.1\", \"192.0.2.1:8443\", "
		       "\"2001:db8::1\" or \"[2001:db8::1]:8443\"",
		       shown);
}

int policy_address_parse(struct str text, struct sockaddr_storage *out, struct err *e)
{
	struct str host = text, port_text = STR_NULL;
	char host_c[INET6_ADDRSTRLEN];
	uint64_t port = 0;
	bool has_port = false, is_v6 = false;

	*out = (struct sockaddr_storage){0};
	if (text.n > 0 && text.p[0] == '[') {
		size_t end = str_chr(text, ']');

		if (end == text.n || (end + 1 < text.n && text.p[end + 1] != ':'))
			return address_refuse(text, e);
		host = str_sub(text, 1, end);
		has_port = end + 1 < text.n;
		port_text = str_sub(text, end + 2, text.n);
		is_v6 = true;
	} else if (str_chr(text, '.') < text.n && str_find(text, STR_LIT("::")) == text.n) {
		port_text = str_cut(text, ':', &host, &has_port);
	} else {
		is_v6 = true;
	}
	if (has_port && (str_to_u64(port_text, 65535, &port) < 0 || port == 0))
		return address_refuse(text, e);
	if (!str_to_cstr(host_c, sizeof(host_c), host))
		return address_refuse(text, e);
	if (is_v6) {
		struct sockaddr_in6 *a = (struct sockaddr_in6 *)out;

		a->sin6_family = AF_INET6;
		a->sin6_port = htons((uint16_t)port);
		return inet_pton(AF_INET6, host_c, &a->sin6_addr) == 1 ? 0
								       : address_refuse(text, e);
	}
	struct sockaddr_in *a = (struct sockaddr_in *)out;

	a->sin_family = AF_INET;
	a->sin_port = htons((uint16_t)port);
	return inet_pton(AF_INET, host_c, &a->sin_addr) == 1 ? 0 : address_refuse(text, e);
}

void policy_address_format(const struct sockaddr_storage *a, char out[POLICY_ADDRESS_SIZE])
{
	char host[INET6_ADDRSTRLEN] = "";
	bool is_v6 = a->ss_family == AF_INET6;
	unsigned port;

	if (is_v6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;

		port = ntohs(v6->sin6_port);
		(void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
	} else {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)a;

		port = ntohs(v4->sin_port);
		(void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
	}
	if (port == 0)
		(void)snprintf(out, POLICY_ADDRESS_SIZE, "%s", host);
	else
		(void)snprintf(out, POLICY_ADDRESS_SIZE, is_v6 ? "[%s]:%u" : "%s:%u", host, port);
}
