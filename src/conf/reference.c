#include "conf/reference.h"

#include "base/clean.h"
#include "base/text.h"

#include <errno.h>

#define PORT_MAX     65535
#define IMAGE_ID_HEX 64

/* What is wrong, in the words of who wrote it. A reference may come from an engine's answer. */
static int refuse(struct err *e, struct str text, const char *why)
{
	char shown[96];

	text_visible_cstr(shown, sizeof(shown), text);
	return err_set(e, -EINVAL, "\"%s\" is not an image's reference: %s", shown, why);
}

static bool is_lower_alnum(char c)
{
	return ascii_is_digit(c) || (c >= 'a' && c <= 'z');
}

static bool is_hex(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_is_digit(s.p[i]) && (s.p[i] < 'a' || s.p[i] > 'f'))
			return false;
	return true;
}

/* The host's labels, joined by dots. */
static bool is_host(struct str host)
{
	bool has_more = true;

	while (has_more) {
		struct str label;

		host = str_cut(host, '.', &label, &has_more);
		if (label.n == 0 || !is_lower_alnum(label.p[0]) ||
		    !is_lower_alnum(label.p[label.n - 1]))
			return false;
		for (size_t i = 0; i < label.n; i++)
			if (!is_lower_alnum(label.p[i]) && label.p[i] != '-')
				return false;
	}
	return true;
}

static bool is_registry(struct str text)
{
	struct str host, port;
	bool has_port;
	uint64_t n;

	port = str_cut(text, ':', &host, &has_port);
	return is_host(host) && (!has_port || (str_to_u64(port, PORT_MAX, &n) == 0 && n > 0));
}

/* Runs of letters and digits, between them one ".", one or two "_", or any number of "-". */
static bool is_component(struct str c)
{
	size_t i = 0;

	if (c.n == 0)
		return false;
	for (;;) {
		size_t from = i;
		char separator;

		while (i < c.n && is_lower_alnum(c.p[i]))
			i++;
		if (i == from)
			return false;
		if (i == c.n)
			return true;
		separator = c.p[i];
		from = i;
		while (i < c.n && c.p[i] == separator)
			i++;
		if (separator != '-' && !(separator == '.' && i - from == 1) &&
		    !(separator == '_' && i - from <= 2))
			return false;
	}
}

static int check_name(struct str text, struct str name, struct err *e)
{
	bool has_more = true, is_first = true;
	struct str rest = name;

	if (name.n == IMAGE_ID_HEX && is_hex(name))
		return refuse(e, text, "64 hexadecimal digits are an image's id");
	while (has_more) {
		struct str part;
		bool is_host_part;

		rest = str_cut(rest, '/', &part, &has_more);
		/* As engines tell a registry from a folder of the default one. */
		is_host_part = is_first && has_more &&
			       (str_chr(part, '.') < part.n || str_chr(part, ':') < part.n ||
				str_eq(part, STR_LIT("localhost")));
		is_first = false;
		if (is_host_part && !is_registry(part))
			return refuse(e, text,
				      "its registry must be HOST or HOST:PORT, in lower case");
		if (!is_host_part && !is_component(part))
			return refuse(e, text,
				      "each part of its name has lower-case letters and digits, "
				      "and between them \".\", \"_\", \"__\" or \"-\"");
	}
	return 0;
}

static bool is_tag(struct str tag)
{
	if (tag.n == 0 || tag.n > REFERENCE_TAG_MAX || tag.p[0] == '.' || tag.p[0] == '-')
		return false;
	for (size_t i = 0; i < tag.n; i++)
		if (!ascii_is_alnum(tag.p[i]) && tag.p[i] != '_' && tag.p[i] != '.' &&
		    tag.p[i] != '-')
			return false;
	return true;
}

static bool is_digest(struct str digest)
{
	static const struct {
		struct str algorithm;
		size_t n_hex;
	} known[] = {
		{{"sha256", 6}, 64},
		{{"sha384", 6}, 96},
		{{"sha512", 6}, 128},
	};
	struct str algorithm, hex;
	bool found;

	hex = str_cut(digest, ':', &algorithm, &found);
	for (size_t i = 0; found && i < ARRAY_LEN(known); i++)
		if (str_eq(algorithm, known[i].algorithm))
			return hex.n == known[i].n_hex && is_hex(hex);
	return false;
}

/* The colon before the tag is the last one, and no slash follows it: else it is a port's. */
static bool cut_tag(struct str *name, struct str *tag)
{
	for (size_t i = name->n; i > 0 && name->p[i - 1] != '/'; i--) {
		if (name->p[i - 1] != ':')
			continue;
		*tag = str_sub(*name, i, name->n);
		*name = str_sub(*name, 0, i - 1);
		return true;
	}
	return false;
}

int reference_parse(struct str text, struct reference *out, struct err *e)
{
	struct reference r = {.tag = STR_NULL};
	bool has_digest, has_tag;
	int ret;

	*out = (struct reference){.tag = STR_NULL};
	if (text.n > REFERENCE_MAX)
		return err_set(e, -EINVAL, "an image's reference has at most %d bytes",
			       REFERENCE_MAX);
	if (text.n == 0)
		return refuse(e, text, "it is empty");
	r.digest = str_cut(text, '@', &r.name, &has_digest);
	has_tag = cut_tag(&r.name, &r.tag);
	ret = check_name(text, r.name, e);
	if (ret < 0)
		return ret;
	if (has_tag && !is_tag(r.tag))
		return refuse(
			e, text,
			"its tag has at most 128 letters, digits, \"_\", \".\" and \"-\", and "
			"begins with neither \".\" nor \"-\"");
	if (has_digest && !is_digest(r.digest))
		return refuse(e, text,
			      "its digest must be sha256, sha384 or sha512, \":\" and as many "
			      "lower-case hexadecimal digits as that has");
	*out = r;
	return 0;
}

int reference_check_new(struct str text, struct err *e)
{
	struct reference r;
	int ret = reference_parse(text, &r, e);

	if (ret < 0)
		return ret;
	if (r.digest.n > 0)
		return refuse(e, text, "a new image has no digest yet; leave it out");
	if (r.tag.n == IMAGE_ID_HEX && str_eq(r.name, STR_LIT("sha256")) && is_hex(r.tag))
		return refuse(e, text, "that is an image's id, not a name");
	return 0;
}

struct str reference_version(const struct reference *r)
{
	if (r->digest.n > 0)
		return r->digest;
	return r->tag.n > 0 ? r->tag : STR_LIT("latest");
}
