#include "image/reference.h"

#include "base/text.h"

#include <errno.h>

static bool is_lower_alnum(char c)
{
	return ascii_is_digit(c) || (c >= 'a' && c <= 'z');
}

/* alnum = [a-z0-9]+, joined by ".", "_", "__" or any number of "-". */
static bool component_is_good(struct str s)
{
	size_t i = 0;

	while (i < s.n) {
		size_t from = i;

		while (i < s.n && is_lower_alnum(s.p[i]))
			i++;
		if (i == from)
			return false;
		if (i == s.n)
			return true;
		if (s.p[i] == '-') {
			while (i < s.n && s.p[i] == '-')
				i++;
		} else if (s.p[i] == '_' && i + 1 < s.n && s.p[i + 1] == '_') {
			i += 2;
		} else if (s.p[i] == '_' || s.p[i] == '.') {
			i++;
		} else {
			return false;
		}
	}
	return false;
}

static bool port_is_good(struct str s)
{
	uint64_t port;

	return s.n <= 5 && str_to_u64(s, 65535, &port) == 0 && port > 0;
}

/* A registry: labels of letters, digits and inner hyphens, joined by dots, and a port. Addresses of
 * IPv6 are not taken. */
static bool domain_is_good(struct str s)
{
	struct str host, label;
	bool found, more = true;
	struct str port = str_cut(s, ':', &host, &found);

	if (found && !port_is_good(port))
		return false;
	while (more) {
		host = str_cut(host, '.', &label, &more);
		if (label.n == 0 || !ascii_is_alnum(label.p[0]) ||
		    !ascii_is_alnum(label.p[label.n - 1]))
			return false;
		for (size_t i = 0; i < label.n; i++) {
			if (!ascii_is_alnum(label.p[i]) && label.p[i] != '-')
				return false;
		}
	}
	return true;
}

/* What stands before the first slash is a registry if it could be no user's name. */
static bool is_domain(struct str first)
{
	if (str_chr(first, '.') < first.n || str_chr(first, ':') < first.n ||
	    str_eq(first, STR_LIT("localhost")))
		return true;
	for (size_t i = 0; i < first.n; i++) {
		if (first.p[i] >= 'A' && first.p[i] <= 'Z')
			return true;
	}
	return false;
}

static bool name_is_good(struct str name)
{
	struct str part, rest;
	bool more;

	if (name.n == 0 || name.n > REFERENCE_NAME_MAX)
		return false;
	rest = str_cut(name, '/', &part, &more);
	if (more && is_domain(part)) {
		if (!domain_is_good(part))
			return false;
		name = rest;
	}
	for (more = true; more;) {
		name = str_cut(name, '/', &part, &more);
		if (!component_is_good(part))
			return false;
	}
	return true;
}

static bool tag_is_good(struct str tag)
{
	if (tag.n == 0 || tag.n > REFERENCE_TAG_MAX || tag.p[0] == '.' || tag.p[0] == '-')
		return false;
	for (size_t i = 0; i < tag.n; i++) {
		char c = tag.p[i];

		if (!ascii_is_alnum(c) && c != '_' && c != '.' && c != '-')
			return false;
	}
	return true;
}

static bool is_lower_hex(struct str s, size_t n)
{
	if (s.n != n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!ascii_is_digit(s.p[i]) && (s.p[i] < 'a' || s.p[i] > 'f'))
			return false;
	}
	return true;
}

static bool digest_is_good(struct str digest)
{
	struct str algorithm;
	bool found;
	struct str hex = str_cut(digest, ':', &algorithm, &found);

	return found && ((str_eq(algorithm, STR_LIT("sha256")) && is_lower_hex(hex, 64)) ||
			 (str_eq(algorithm, STR_LIT("sha512")) && is_lower_hex(hex, 128)));
}

/* A colon after the last slash begins the tag; before it, a port. */
static void cut_tag(struct reference *r, bool *has_tag)
{
	size_t slash = r->name.n, colon;

	while (slash > 0 && r->name.p[slash - 1] != '/')
		slash--;
	colon = slash + str_chr(str_sub(r->name, slash, r->name.n), ':');
	*has_tag = colon < r->name.n;
	if (*has_tag) {
		r->tag = str_sub(r->name, colon + 1, r->name.n);
		r->name = str_sub(r->name, 0, colon);
	}
}

struct str reference_version(const struct reference *r)
{
	if (r->digest.n > 0)
		return r->digest;
	return r->tag.n > 0 ? r->tag : STR_LIT("latest");
}

int reference_parse(struct reference *out, struct str text, struct err *e)
{
	bool has_digest, has_tag;
	char shown[160];

	*out = (struct reference){0};
	out->digest = str_cut(text, '@', &out->name, &has_digest);
	cut_tag(out, &has_tag);
	if (name_is_good(out->name) && !is_lower_hex(out->name, 64) &&
	    (!has_tag || tag_is_good(out->tag)) && (!has_digest || digest_is_good(out->digest)))
		return 0;
	*out = (struct reference){0};
	text_visible_cstr(shown, sizeof(shown), text);
	return err_set(e, -EINVAL,
		       "\"%s\" is not the name of an image: expected NAME[:TAG] or "
		       "NAME@sha256:DIGEST, NAME in lower case, perhaps behind a registry's "
		       "HOST[:PORT]/",
		       shown);
}
