/* Parsers of git's objects, and names that no tree may have. */
#include "gitgate/object.h"

#include "base/text.h"

#include <errno.h>

#define OID_HEX 40

static bool is_oid(struct str s)
{
	if (s.n != OID_HEX)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_is_digit(s.p[i]) && !(s.p[i] >= 'a' && s.p[i] <= 'f'))
			return false;
	return true;
}

/* Takes the line "key value\n" from the front of rest. */
static bool line_take(struct str *rest, struct str key, struct str *value)
{
	size_t end;

	if (!str_starts(*rest, key) || rest->n <= key.n || rest->p[key.n] != ' ')
		return false;
	end = str_chr(*rest, '\n');
	if (end == rest->n)
		return false;
	*value = str_sub(*rest, key.n + 1, end);
	*rest = str_sub(*rest, end + 1, rest->n);
	return true;
}

/* Name <email> seconds zone */
static bool ident_parse(struct object_ident *out, struct str line)
{
	size_t open = str_chr(line, '<'), close = str_chr(line, '>');

	if (open == line.n || close == line.n || close < open || close + 2 > line.n ||
	    line.p[close + 1] != ' ')
		return false;
	if (open > 0 && line.p[open - 1] != ' ')
		return false;
	out->name = str_sub(line, 0, open > 0 ? open - 1 : 0);
	out->email = str_sub(line, open + 1, close);
	out->when = str_sub(line, close + 2, line.n);
	return str_chr(out->email, '<') == out->email.n && str_chr(out->when, '<') == out->when.n &&
	       str_chr(out->when, '>') == out->when.n;
}

/* Header lines up to the empty line: "key value", or " continued". */
static int headers_skip(struct str *rest, struct str *message, struct err *e)
{
	while (rest->n > 0 && rest->p[0] != '\n') {
		size_t end = str_chr(*rest, '\n');
		struct str line = str_sub(*rest, 0, end);

		if (end == rest->n)
			return err_set(e, -EBADMSG, "a header line without an end");
		if (memchr(line.p, '\0', line.n))
			return err_set(e, -EBADMSG, "a NUL byte in a header");
		if (line.p[0] != ' ' && str_chr(line, ' ') == line.n)
			return err_set(e, -EBADMSG, "a header without a value");
		if (str_starts(line, STR_LIT("author ")) ||
		    str_starts(line, STR_LIT("committer ")) || str_starts(line, STR_LIT("tree ")) ||
		    str_starts(line, STR_LIT("parent ")) || str_starts(line, STR_LIT("tagger ")))
			return err_set(e, -EBADMSG, "a header out of its place");
		*rest = str_sub(*rest, end + 1, rest->n);
	}
	if (rest->n == 0) { /* without a message, and without the empty line, as some write it */
		*message = *rest;
		return 0;
	}
	*message = str_sub(*rest, 1, rest->n);
	return 0;
}

int object_commit_parse(struct object_commit *out, struct str object, struct err *e)
{
	struct str rest = object, parent, from;

	*out = (struct object_commit){.tree = STR_NULL};
	if (!line_take(&rest, STR_LIT("tree"), &out->tree) || !is_oid(out->tree))
		return err_set(e, -EBADMSG, "a commit without a tree");
	from = rest;
	while (str_starts(rest, STR_LIT("parent ")))
		if (!line_take(&rest, STR_LIT("parent"), &parent) || !is_oid(parent))
			return err_set(e, -EBADMSG, "a commit with a malformed parent");
	out->parents = str_sub(from, 0, from.n - rest.n);
	out->rest = rest;
	if (!line_take(&rest, STR_LIT("author"), &out->author) ||
	    !ident_parse(&out->author_ident, out->author))
		return err_set(e, -EBADMSG, "a commit with a malformed author");
	if (!line_take(&rest, STR_LIT("committer"), &out->committer) ||
	    !ident_parse(&out->committer_ident, out->committer))
		return err_set(e, -EBADMSG, "a commit with a malformed committer");
	if (memchr(out->rest.p, '\0', out->rest.n - rest.n))
		return err_set(e, -EBADMSG, "a NUL byte in a header");
	return headers_skip(&rest, &out->message, e);
}

int object_tag_parse(struct object_tag *out, struct str object, struct err *e)
{
	static const char *const types[] = {"commit", "tag", "tree", "blob"};
	struct str rest = object, tagger;
	bool is_known = false;

	*out = (struct object_tag){.object = STR_NULL};
	if (!line_take(&rest, STR_LIT("object"), &out->object) || !is_oid(out->object))
		return err_set(e, -EBADMSG, "a tag without an object");
	if (!line_take(&rest, STR_LIT("type"), &out->type))
		return err_set(e, -EBADMSG, "a tag without a type");
	for (size_t i = 0; i < 4; i++)
		is_known |= str_eq(out->type, str_of(types[i]));
	if (!is_known)
		return err_set(e, -EBADMSG, "a tag of an unknown type");
	out->rest = rest;
	if (!line_take(&rest, STR_LIT("tag"), &out->name) || out->name.n == 0 ||
	    memchr(out->name.p, '\0', out->name.n))
		return err_set(e, -EBADMSG, "a tag without a name");
	if (str_starts(rest, STR_LIT("tagger "))) {
		out->has_tagger = true;
		if (!line_take(&rest, STR_LIT("tagger"), &tagger) ||
		    !ident_parse(&out->tagger_ident, tagger) || memchr(tagger.p, '\0', tagger.n))
			return err_set(e, -EBADMSG, "a tag with a malformed tagger");
	}
	return headers_skip(&rest, &out->message, e);
}

/* --- trees --- */

void object_tree_begin(struct object_tree *t, struct str object)
{
	t->rest = object;
	t->last = (struct object_entry){.mode = 0};
	t->open_n = 0;
}

static bool is_known_mode(unsigned mode)
{
	return mode == OBJECT_MODE_TREE || mode == 0100644u || mode == 0100755u ||
	       mode == OBJECT_MODE_SYMLINK || mode == OBJECT_MODE_GITLINK;
}

/* git's order: as bytes, folders as if they ended in "/". */
static int entry_compare(const struct object_entry *a, const struct object_entry *b)
{
	size_t n = a->name.n < b->name.n ? a->name.n : b->name.n;
	int r = memcmp(a->name.p, b->name.p, n);
	unsigned char x, y;

	if (r)
		return r;
	x = a->name.n > n ? (unsigned char)a->name.p[n] : a->mode == OBJECT_MODE_TREE ? '/' : 0;
	y = b->name.n > n ? (unsigned char)b->name.p[n] : b->mode == OBJECT_MODE_TREE ? '/' : 0;
	return x < y ? -1 : x > y;
}

/* "a" the file and "a" the folder have "a.b" and the like between them. */
static int entry_is_repeated(struct object_tree *t, const struct object_entry *x, struct err *e)
{
	while (t->open_n > 0 && !str_starts(x->name, t->open[t->open_n - 1]))
		t->open_n--;
	if (x->mode == OBJECT_MODE_TREE) {
		for (size_t i = 0; i < t->open_n; i++)
			if (str_eq(t->open[i], x->name))
				return err_set(e, -EBADMSG, "a tree with the same name twice");
		return 0;
	}
	if (t->open_n == OBJECT_NESTED_MAX)
		return err_set(e, -EBADMSG, "a tree with too many names that begin alike");
	t->open[t->open_n++] = x->name;
	return 0;
}

int object_tree_next(struct object_tree *t, struct object_entry *out, struct err *e)
{
	struct str s = t->rest;
	size_t i = 0, end;
	int order;

	*out = (struct object_entry){.mode = 0};
	if (s.n == 0)
		return 0;
	for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '7' && i < 6; i++)
		out->mode = out->mode << 3 | (unsigned)(s.p[i] - '0');
	if (i == 0 || s.p[0] == '0' || i == s.n || s.p[i] != ' ')
		return err_set(e, -EBADMSG, "a tree entry with a malformed mode");
	s = str_sub(s, i + 1, s.n);
	end = str_chr(s, '\0');
	if (end == s.n || s.n - end - 1 < 20)
		return err_set(e, -EBADMSG, "a tree that is cut short");
	out->name = str_sub(s, 0, end);
	out->oid = (const uint8_t *)s.p + end + 1;
	t->rest = str_sub(s, end + 21, s.n);
	if (out->name.n == 0 || memchr(out->name.p, '/', out->name.n))
		return err_set(e, -EBADMSG, "a tree entry whose name is none");
	if (!is_known_mode(out->mode))
		return err_set(e, -EBADMSG, "a tree entry with a mode that git does not write");
	if (t->last.name.p) {
		order = entry_compare(&t->last, out);
		if (order >= 0)
			return err_set(e, -EBADMSG, "%s",
				       order ? "a tree that is not sorted"
					     : "a tree with the same name twice");
	}
	t->last = *out;
	return entry_is_repeated(t, out, e) < 0 ? -EBADMSG : 1;
}

/* --- names --- */

/* What HFS+ leaves out when it compares names (as git's utf8.c has it from Apple's table). */
static bool is_hfs_ignored(uint32_t c)
{
	return (c >= 0x200c && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) ||
	       (c >= 0x206a && c <= 0x206f) || c == 0xfeff;
}

/* Lower case, without what HFS+ ignores; cut to size, which is longer than any name asked for. */
static size_t name_fold(char *out, size_t size, struct str name)
{
	size_t n = 0;

	while (name.n > 0 && n < size) {
		uint32_t c = (unsigned char)name.p[0];
		size_t k = c < 0x80 ? 1 : text_utf8_next(name, &c);

		if (k == 0)
			k = 1;
		if (!is_hfs_ignored(c))
			for (size_t i = 0; i < k && n < size; i++)
				out[n++] = ascii_lower(name.p[i]);
		name = str_sub(name, k, name.n);
	}
	return n;
}

/* Whether NTFS takes s for `name`: up to a ":" (a stream) spaces and dots at the end do not count.
 */
static bool is_ntfs_same(struct str s, struct str name)
{
	if (!str_starts(s, name))
		return false;
	for (size_t i = name.n; i < s.n && s.p[i] != ':'; i++)
		if (s.p[i] != ' ' && s.p[i] != '.')
			return false;
	return true;
}

static bool is_dot_git(struct str name)
{
	char low[64];
	struct str s = {low, name_fold(low, sizeof(low), name)};

	return is_ntfs_same(s, STR_LIT(".git")) || is_ntfs_same(s, STR_LIT("git~1"));
}

const char *object_name_wrong(struct str name)
{
	struct str rest = name, piece;
	bool more = true;

	if (name.n == 0)
		return "empty";
	if (memchr(name.p, '/', name.n))
		return "slash";
	if (str_eq(name, STR_LIT(".")))
		return "dot";
	for (size_t i = 0; i < name.n; i++) {
		unsigned char b = (unsigned char)name.p[i];

		unsigned char next = i + 1 < name.n ? (unsigned char)name.p[i + 1] : 0;

		/* C0, DEL, and C1 in UTF-8 */
		if (b < 0x20 || b == 0x7f || (b == 0xc2 && (next & 0xe0) == 0x80))
			return "control-character";
	}
	/* Windows takes a backslash for a separator. */
	while (more) {
		rest = str_cut(rest, '\\', &piece, &more);
		if (str_eq(piece, STR_LIT("..")))
			return "dot-dot";
		if (piece.n > 0 && is_dot_git(piece))
			return "dot-git";
	}
	return NULL;
}

bool object_name_is_gitmodules(struct str name)
{
	char low[64];
	struct str s = {low, name_fold(low, sizeof(low), name)};

	if (is_ntfs_same(s, STR_LIT(".gitmodules")))
		return true;
	/* Short names: the first ones by the name's head, later ones by its hash. */
	if (s.n >= 8 && (str_starts(s, STR_LIT("gitmod~")) || str_starts(s, STR_LIT("gi7eba~"))) &&
	    ascii_is_digit(s.p[7]))
		return is_ntfs_same(s, str_sub(s, 0, 8));
	return false;
}
