#include "conf/url.h"

#include <errno.h>

static size_t authority_end(struct str s)
{
	size_t i = 0;

	while (i < s.n && s.p[i] != '/' && s.p[i] != '?' && s.p[i] != '#')
		i++;
	return i;
}

/* The host and what follows its last colon; a bracketed address keeps its colons. */
static int split_port(struct str authority, struct url *out, struct err *e)
{
	size_t from = authority.n > 0 && authority.p[0] == '[' ? str_chr(authority, ']') : 0;
	size_t colon = from;
	uint64_t port;

	while (colon < authority.n && authority.p[colon] != ':')
		colon++;
	out->host = str_sub(authority, 0, colon);
	if (colon == authority.n)
		return 0;
	if (str_to_u64(str_sub(authority, colon + 1, authority.n), 65535, &port) < 0 || port == 0)
		return err_set(e, -EINVAL, "the URL's port is not a number from 1 to 65535");
	out->port = (uint16_t)port;
	return 0;
}

int url_parse(struct str text, struct url *out, struct err *e)
{
	struct str rest = text;
	size_t scheme = str_find(text, STR_LIT("://")), end;
	int ret;

	*out = (struct url){.port = 443, .path = STR_LIT("/")};
	if (scheme < authority_end(text)) {
		struct str name = str_sub(text, 0, scheme);

		if (str_ieq(name, STR_LIT("http")))
			out->port = 80;
		else if (!str_ieq(name, STR_LIT("https")))
			return err_set(e, -EINVAL, "the URL's scheme must be https or http");
		rest = str_sub(text, scheme + 3, text.n);
	}
	end = authority_end(rest);
	ret = split_port(str_sub(rest, 0, end), out, e);
	if (ret < 0)
		return ret;
	rest = str_sub(rest, end, rest.n);
	rest = str_sub(rest, 0, str_chr(rest, '#'));
	if (rest.n > 0 && rest.p[0] == '/')
		out->path = rest;
	else if (rest.n > 0)
		return err_set(e, -EINVAL, "the URL has a query but no path; write \"/?…\"");
	return 0;
}
