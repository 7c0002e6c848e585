/* Commits, tags and trees of any bytes: what parses lies within the object, in order. */
#include "fuzz.h"

#include "gitgate/object.h"

#include <stdlib.h>

static void within(struct str part, struct str whole)
{
	if (part.n && (part.p < whole.p || part.p + part.n > whole.p + whole.n))
		abort();
}

static void tree(struct str whole)
{
	struct object_tree t;
	struct object_entry x;
	struct err e = ERR_INIT;
	size_t n = 0;
	int r;

	object_tree_begin(&t, whole);
	while ((r = object_tree_next(&t, &x, &e)) > 0) {
		within(x.name, whole);
		within(str_slice(x.oid, 20), whole);
		/* What a tree may not have is an error, or told of the name. */
		if (x.name.n == 0 || memchr(x.name.p, '/', x.name.n) || ++n > whole.n)
			abort();
		(void)object_name_wrong(x.name);
		(void)object_name_is_gitmodules(x.name);
	}
	if (r < 0 && e.text[0] == '\0')
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str s = str_slice(data + 1, n ? n - 1 : 0);
	struct object_commit c;
	struct object_tag t;
	struct err e = ERR_INIT;

	if (n == 0)
		return 0;
	if (data[0] % 3 == 0 && object_commit_parse(&c, s, &e) == 0) {
		within(c.rest, s);
		within(c.message, s);
		within(c.author_ident.name, c.author);
		within(c.author_ident.email, c.author);
		within(c.committer_ident.when, c.committer);
		/* Everything but tree and parents is in what is scanned. */
		if (c.tree.n != 40 || c.rest.p + c.rest.n != s.p + s.n ||
		    c.rest.p != c.author.p - strlen("author ") ||
		    (c.message.n && c.message.p + c.message.n != s.p + s.n))
			abort();
	} else if (data[0] % 3 == 1 && object_tag_parse(&t, s, &e) == 0) {
		within(t.name, t.rest);
		if (t.has_tagger) {
			within(t.tagger_ident.name, t.rest);
			within(t.tagger_ident.email, t.rest);
			within(t.tagger_ident.when, t.rest);
		}
		if (t.object.n != 40 || t.rest.p + t.rest.n != s.p + s.n)
			abort();
	} else if (data[0] % 3 == 2) {
		tree(s);
	}
	return 0;
}
