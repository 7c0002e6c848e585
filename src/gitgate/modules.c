/* git's configuration syntax (git-config, "Syntax"), as far as .gitmodules may use it. */
#include "gitgate/modules.h"

#include <errno.h>

struct parser {
	struct str rest;
	unsigned line;
	char section[64], name[MODULES_VALUE_MAX], key[64], value[MODULES_VALUE_MAX];
	size_t section_n, name_n, key_n, value_n;
	modules_fn fn;
	void *ctx;
	struct err *e;
};

static int wrong(struct parser *p, const char *what)
{
	int r = err_set(p->e, -EBADMSG, "line %u: %s", p->line, what);

	if (p->e)
		p->e->line = p->line;
	return r;
}

/* -1 at the end; CRLF is a newline. */
static int peek(const struct parser *p)
{
	if (p->rest.n == 0)
		return -1;
	if (p->rest.p[0] == '\r' && p->rest.n > 1 && p->rest.p[1] == '\n')
		return '\n';
	return (unsigned char)p->rest.p[0];
}

static int take(struct parser *p)
{
	int c = peek(p);

	if (c < 0)
		return c;
	p->rest = str_sub(p->rest, c == '\n' && p->rest.p[0] == '\r' ? 2 : 1, p->rest.n);
	p->line += c == '\n';
	return c;
}

static bool is_key_char(int c)
{
	return c == '-' || (c >= 0 && c < 0x80 && ascii_is_alnum((char)c));
}

static void comment_skip(struct parser *p)
{
	while (peek(p) >= 0 && peek(p) != '\n')
		(void)take(p);
}

static int section_parse(struct parser *p)
{
	int c;

	p->section_n = p->name_n = 0;
	while (is_key_char(c = peek(p)) || c == '.') {
		if (p->section_n == sizeof(p->section))
			return wrong(p, "a section's name that is too long");
		p->section[p->section_n++] = ascii_lower((char)take(p));
	}
	if (p->section_n == 0)
		return wrong(p, "a section without a name");
	while (peek(p) == ' ' || peek(p) == '\t')
		(void)take(p);
	if (peek(p) == '"') {
		(void)take(p);
		while ((c = take(p)) != '"') {
			if (c == '\\')
				c = take(p);
			if (c < 0 || c == '\n' || c == 0)
				return wrong(p, "a section's name without an end");
			if (p->name_n == sizeof(p->name))
				return wrong(p, "a name that is too long");
			p->name[p->name_n++] = (char)c;
		}
	}
	return take(p) == ']' ? 0 : wrong(p, "a section without a closing bracket");
}

static int value_escape(struct parser *p, char *out)
{
	int c = take(p);

	switch (c) {
	case '\n':
		return 1; /* goes on with the next line */
	case 't':
		*out = '\t';
		return 0;
	case 'b':
		*out = '\b';
		return 0;
	case 'n':
		*out = '\n';
		return 0;
	case '\\':
	case '"':
		*out = (char)c;
		return 0;
	default:
		return wrong(p, "an escape that git does not know");
	}
}

static int value_parse(struct parser *p)
{
	bool is_quoted = false;
	size_t keep = 0; /* without the white space at the end */

	p->value_n = 0;
	for (;;) {
		int c = take(p), r;
		char b = (char)c;

		if (c < 0 || c == '\n') {
			if (is_quoted)
				return wrong(p, "a quotation without an end");
			p->value_n = keep;
			return 0;
		}
		if (c == 0)
			return wrong(p, "a NUL byte");
		if (!is_quoted && (c == '#' || c == ';')) {
			comment_skip(p);
			continue;
		}
		if (!is_quoted && (c == ' ' || c == '\t') && p->value_n == 0)
			continue;
		if (c == '"') {
			is_quoted = !is_quoted;
			keep = p->value_n;
			continue;
		}
		if (c == '\\') {
			if ((r = value_escape(p, &b)) < 0)
				return r;
			if (r == 1)
				continue;
		}
		if (p->value_n == sizeof(p->value))
			return wrong(p, "a value that is too long");
		p->value[p->value_n++] = b;
		if (is_quoted || c == '\\' || (c != ' ' && c != '\t'))
			keep = p->value_n;
	}
}

static int key_parse(struct parser *p, bool *stop)
{
	unsigned line = p->line;
	int c, r;

	p->key_n = p->value_n = 0;
	while (is_key_char(c = peek(p))) {
		if (p->key_n == sizeof(p->key))
			return wrong(p, "a key that is too long");
		p->key[p->key_n++] = ascii_lower((char)take(p));
	}
	if (p->section_n == 0)
		return wrong(p, "a key outside of any section");
	while (peek(p) == ' ' || peek(p) == '\t')
		(void)take(p);
	c = take(p);
	if (c != '=' && c != '\n' && c >= 0)
		return wrong(p, "a key without a value");
	if (c == '=' && (r = value_parse(p)) < 0)
		return r;
	*stop = !p->fn(p->ctx, str_slice(p->section, p->section_n), str_slice(p->name, p->name_n),
		       str_slice(p->key, p->key_n), str_slice(p->value, p->value_n), line);
	return 0;
}

int modules_parse(struct str text, modules_fn fn, void *ctx, struct err *e)
{
	static const char bom[] = "\xef\xbb\xbf";
	struct parser p;
	bool stop = false;
	int r = 0;

	p.rest = str_starts(text, STR_LIT(bom)) ? str_sub(text, 3, text.n) : text;
	p.line = 1;
	p.section_n = p.name_n = p.key_n = p.value_n = 0;
	p.fn = fn;
	p.ctx = ctx;
	p.e = e;
	if (text.n > MODULES_BYTES_MAX)
		return wrong(&p, "too large");
	while (r == 0 && !stop && peek(&p) >= 0) {
		int c = peek(&p);

		if (c == ' ' || c == '\t' || c == '\n') {
			(void)take(&p);
		} else if (c == '#' || c == ';') {
			comment_skip(&p);
		} else if (c == '[') {
			(void)take(&p);
			r = section_parse(&p);
		} else if (ascii_is_alpha((char)c)) {
			r = key_parse(&p, &stop);
		} else {
			r = wrong(&p, "neither a section nor a key");
		}
	}
	return r;
}

/* --- judging --- */

static bool has_control(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return true;
	return false;
}

/* A ".." between separators of either kind, or at an end. */
static bool has_dot_dot(struct str s)
{
	size_t from = 0;

	for (size_t i = 0; i <= s.n; i++) {
		if (i < s.n && s.p[i] != '/' && s.p[i] != '\\')
			continue;
		if (i - from == 2 && s.p[from] == '.' && s.p[from + 1] == '.')
			return true;
		from = i + 1;
	}
	return false;
}

/* Control characters, written as %HH; a newline in a URL becomes one in what credential helpers
 * are asked. */
static bool has_escaped_control(struct str s)
{
	for (size_t i = 0; i + 2 < s.n; i++) {
		int high = ascii_hex_value(s.p[i + 1]), low = ascii_hex_value(s.p[i + 2]);

		if (s.p[i] == '%' && high >= 0 && low >= 0 &&
		    (high < 2 || (high == 7 && low == 15)))
			return true;
	}
	return false;
}

static const char *relative_wrong(struct str url, unsigned repo_segments)
{
	unsigned up = 0;

	for (;;) {
		if (str_starts(url, STR_LIT("../")) || str_eq(url, STR_LIT(".."))) {
			up++;
			url = str_sub(url, url.n > 2 ? 3 : 2, url.n);
		} else if (str_starts(url, STR_LIT("./")) || str_starts(url, STR_LIT("/"))) {
			url = str_sub(url, url.p[0] == '/' ? 1 : 2, url.n);
		} else {
			break;
		}
	}
	if (up > repo_segments)
		return "url leaves its host";
	/* "../:x" and "../-x" make another URL of what it is put behind. */
	if (up && url.n && (url.p[0] == ':' || url.p[0] == '-'))
		return "url";
	return has_dot_dot(url) ? "url leaves its host" : NULL;
}

/* The host of an authority, or of what stands before ":" in user@host:path. */
static bool is_bad_host(struct str authority)
{
	size_t at = 0;

	for (size_t i = 0; i < authority.n; i++)
		if (authority.p[i] == '@')
			at = i + 1;
	authority = str_sub(authority, at, authority.n);
	return authority.n == 0 || authority.p[0] == '-' || authority.p[0] == '%';
}

static const char *url_wrong(struct str url, unsigned repo_segments)
{
	static const char *const schemes[] = {"https", "http", "ssh", "git", "git+ssh", "ssh+git"};
	size_t mark = str_find(url, STR_LIT("://")), colon = str_chr(url, ':'), slash;
	struct str rest;

	if (url.n == 0 || url.p[0] == '-')
		return "url";
	if (has_control(url) || has_escaped_control(url))
		return "url with control characters";
	if (str_starts(url, STR_LIT("./")) || str_starts(url, STR_LIT("../")) ||
	    str_eq(url, STR_LIT("..")) || str_eq(url, STR_LIT(".")))
		return relative_wrong(url, repo_segments);
	/* helper::address runs git-remote-helper. */
	if (str_find(url, STR_LIT("::")) < url.n && str_find(url, STR_LIT("::")) == colon)
		return "url of a remote helper";
	if (mark < url.n) {
		bool is_known = false;

		for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
			is_known |= str_ieq(str_sub(url, 0, mark), str_of(schemes[i]));
		if (!is_known)
			return "url of a scheme that is not allowed";
		rest = str_sub(url, mark + 3, url.n);
		slash = str_chr(rest, '/');
		return is_bad_host(str_sub(rest, 0, slash)) ? "url" : NULL;
	}
	slash = str_chr(url, '/');
	if (colon < url.n && colon < slash &&
	    colon > 1) { /* user@host:path; not a drive's letter */
		rest = str_sub(url, colon + 1, url.n);
		return is_bad_host(str_sub(url, 0, colon)) || (rest.n && rest.p[0] == '-') ? "url"
											   : NULL;
	}
	return "url of the local file system";
}

const char *modules_wrong(struct str name, struct str key, struct str value, unsigned repo_segments)
{
	if (name.n == 0 || has_dot_dot(name) || has_control(name))
		return "name";
	if (str_eq(key, STR_LIT("url")))
		return url_wrong(value, repo_segments);
	if (str_eq(key, STR_LIT("path")))
		return value.n == 0 || value.p[0] == '-' || value.p[0] == '/' ||
				       has_dot_dot(value) || has_control(value)
			       ? "path"
			       : NULL;
	if (str_eq(key, STR_LIT("update")))
		return value.n && value.p[0] == '!' ? "update command" : NULL;
	if (str_eq(key, STR_LIT("branch")))
		return value.n && value.p[0] == '-' ? "branch" : NULL;
	return NULL;
}
