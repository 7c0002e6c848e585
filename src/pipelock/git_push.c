/*
 * What cannot be undone is a push of what nobody has looked at: in a pack the objects are deltas
 * and compressed, so the scan of bodies sees nothing of them. The declaration (GET info/refs with
 * its service) is refused along with the transfer, so that git says why before it has packed
 * anything.
 */
#include "pipelock/git_push.h"

#include "base/clean.h"

#define SERVICE	      "git-receive-pack"
#define VALUE	      "receive-pack" /* of the parameter, whatever stands around it */
#define CONTENT	      "x-git-receive-pack"
#define DECODE_ROUNDS 4

/* Escapes undone until there are none, "\" as "/", lower case. A text longer than out cannot be
 * judged: true means that it was cut. */
static bool fold(struct str s, char *out, size_t size, size_t *n)
{
	bool is_cut = s.n > size, more = true;

	*n = is_cut ? size : s.n;
	if (*n > 0)
		memcpy(out, s.p, *n);
	for (int round = 0; more && round < DECODE_ROUNDS; round++) {
		size_t to = 0;

		more = false;
		for (size_t i = 0; i < *n; i++) {
			int hi = i + 2 < *n && out[i] == '%' ? ascii_hex_value(out[i + 1]) : -1;
			int lo = hi >= 0 ? ascii_hex_value(out[i + 2]) : -1;

			if (lo < 0) {
				out[to++] = out[i];
				continue;
			}
			out[to++] = (char)(hi << 4 | lo);
			i += 2;
			more = true;
		}
		*n = to;
	}
	for (size_t i = 0; i < *n; i++)
		out[i] = out[i] == '\\' ? '/' : ascii_lower(out[i]);
	return is_cut;
}

static bool is_name_char(char c)
{
	return ascii_is_alnum(c) || c == '-' || c == '_';
}

/* The service's name as a whole segment, or cut off there by something that a server may drop. */
static bool path_has_service(struct str path)
{
	bool more = true;

	while (more) {
		struct str seg, rest;

		path = str_cut(path, '/', &seg, &more);
		if (!str_starts(seg, STR_LIT(SERVICE)))
			continue;
		rest = str_sub(seg, sizeof(SERVICE) - 1, seg.n);
		while (rest.n > 0 && rest.p[0] == '.')
			rest = str_sub(rest, 1, rest.n);
		if (rest.n == 0 || !is_name_char(rest.p[0]))
			return true;
	}
	return false;
}

/* A parameter whose name is service ("service", "service[]", " service"), with the value in it. */
static bool query_has_service(struct str query)
{
	size_t from = 0;

	for (size_t i = 0; i <= query.n; i++) {
		struct str one, name, value;
		bool found;

		if (i < query.n && query.p[i] != '&' && query.p[i] != ';' && query.p[i] != '?')
			continue;
		one = str_sub(query, from, i);
		from = i + 1;
		value = str_cut(one, '=', &name, &found);
		while (name.n > 0 && !is_name_char(name.p[0]))
			name = str_sub(name, 1, name.n);
		if (found && str_starts(name, STR_LIT("service")) &&
		    (name.n == 7 || !is_name_char(name.p[7])) &&
		    str_find(value, STR_LIT(VALUE)) < value.n)
			return true;
	}
	return false;
}

/* Whatever the path, the body says what it is. */
static bool fields_have_content(const struct http1_head *head)
{
	for (size_t i = 0; i < head->n_fields; i++) {
		const struct http1_field *f = &head->fields[i];

		if (!str_ieq(f->name, STR_LIT("content-type")) &&
		    !str_ieq(f->name, STR_LIT("accept")))
			continue;
		for (size_t k = 0; k + sizeof(CONTENT) - 1 <= f->value.n; k++)
			if (str_istarts(str_sub(f->value, k, f->value.n), STR_LIT(CONTENT)))
				return true;
	}
	return false;
}

static bool has_folded(struct str s, bool (*has)(struct str s))
{
	char text[HTTP1_TARGET_MAX_BYTES];
	size_t n;
	bool is_cut = fold(s, text, sizeof(text), &n);

	return is_cut || has(str_slice(text, n));
}

bool git_push_is(const struct http1_head *head)
{
	bool is_read = head->method == HTTP1_GET || head->method == HTTP1_HEAD;

	/* A page about the service may be read: only its use is a push. */
	return (!is_read && has_folded(head->path, path_has_service)) ||
	       (head->query.n > 0 && has_folded(head->query, query_has_service)) ||
	       fields_have_content(head);
}
