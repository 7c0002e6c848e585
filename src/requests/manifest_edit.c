/*
 * The new text is the old one with lines put in at one place, found by the places of the tree's
 * nodes. That it means what it should is not concluded from how it was made: it is parsed, and the
 * whole tree must be the old one with one more item in egress.routes, which reads as the route that
 * was granted.
 *
 * What a bottle extends is not touched. Were the same route in one of its bases, the new one would
 * replace it there: then nothing is written, since it is allowed already.
 */
#include "requests/manifest_edit.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "conf/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <sys/stat.h>

#define ROUTE_TEXT_MAX 8192
#define INDENT_STEP    2
#define INDENT_MAX     64

/* --- the route as YAML --- */

/* In single quotes, in which nothing but the quote itself is special. */
static int put_quoted(struct buf *out, const char *text)
{
	int ret = buf_append(out, "'", 1);

	for (; ret == 0 && *text; text++)
		ret = *text == '\'' ? buf_append(out, "''", 2) : buf_append(out, text, 1);
	return ret < 0 ? ret : buf_append(out, "'", 1);
}

static int put_host(struct buf *out, const struct policy_route *r)
{
	int ret = buf_printf(out, "host: ");

	if (ret < 0)
		return ret;
	return r->host[0] == '*' ? put_quoted(out, r->host) : buf_printf(out, "%s", r->host);
}

static int put_ports(struct buf *out, const struct policy_route *r)
{
	int ret = buf_printf(out, "ports: [");

	for (size_t i = 0; ret == 0 && i < r->n_ports; i++)
		ret = buf_printf(out, "%s%u", i ? ", " : "", r->ports[i]);
	return ret < 0 ? ret : buf_append(out, "]", 1);
}

static int put_methods(struct buf *out, const struct policy_route *r)
{
	const char *comma = "";
	int ret = buf_printf(out, "methods: [");

	for (unsigned m = 0; ret == 0 && m < POLICY_METHOD_COUNT; m++) {
		if (!(r->methods & 1u << m))
			continue;
		ret = buf_printf(out, "%s%s", comma, policy_method_name((enum policy_method)m));
		comma = ", ";
	}
	return ret < 0 ? ret : buf_append(out, "]", 1);
}

/* Every path is what a manifest means by saying nothing. */
static bool has_paths(const struct policy_route *r)
{
	return r->n_paths != 1 || strcmp(r->paths[0], CHANGE_PATH_ALL) != 0;
}

static int put_paths(struct buf *out, const struct policy_route *r)
{
	int ret = buf_printf(out, "paths: [");

	for (size_t i = 0; ret == 0 && i < r->n_paths; i++) {
		if (i > 0)
			ret = buf_append(out, ", ", 2);
		if (ret == 0)
			ret = put_quoted(out, r->paths[i]);
	}
	return ret < 0 ? ret : buf_append(out, "]", 1);
}

/* between: what stands between two keys. */
static int put_route(struct buf *out, const struct policy_route *r, const char *between)
{
	int ret = put_host(out, r);

	if (ret == 0)
		ret = buf_printf(out, "%s", between);
	if (ret == 0)
		ret = put_ports(out, r);
	if (ret == 0)
		ret = buf_printf(out, "%s", between);
	if (ret == 0)
		ret = put_methods(out, r);
	if (ret == 0 && has_paths(r))
		ret = buf_printf(out, "%s", between);
	return ret == 0 && has_paths(r) ? put_paths(out, r) : ret;
}

static int refuse_by_hand(const struct policy_route *r, struct err *e, const char *file,
			  unsigned line, const char *why)
{
	_cleanup_(buf_free) struct buf text = BUF_INIT(ROUTE_TEXT_MAX);

	if (put_route(&text, r, ", ") < 0)
		return err_set(e, -EINVAL, "the route is too long for a manifest");
	return err_at(e, file, line, 1,
		      "%s; add to the list \"routes\" of \"egress\" by hand: - {" STR_FMT "}", why,
		      STR_ARG(buf_str(&text)));
}

/* --- where it goes --- */

/* Behind which line, how far in, and which keys are missing above it. */
struct place {
	unsigned line;
	size_t indent;
	bool needs_egress, needs_routes;
};

static struct str line_of(struct str text, unsigned line)
{
	struct str one = STR_NULL;
	bool more = true;

	for (unsigned i = 0; i < line && more; i++)
		text = str_cut(text, '\n', &one, &more);
	return one;
}

static bool is_nothing(const struct yaml_node *n)
{
	return n->kind == YAML_KIND_SCALAR && n->is_plain && n->text.n == 0;
}

/* The key's own node: its line and column. */
static const struct yaml_node *key_of(const struct yaml_node *mapping, const char *key)
{
	for (size_t i = 0; i + 1 < mapping->n_children; i += 2)
		if (str_eq(mapping->children[i]->text, str_of(key)))
			return mapping->children[i];
	return NULL;
}

/* Why no line can be put there, or NULL. */
static const char *place_in_routes(struct place *out, const struct yaml_node *routes,
				   const struct yaml_node *key)
{
	if (is_nothing(routes)) {
		*out = (struct place){.line = key->line, .indent = key->column - 1 + INDENT_STEP};
		return NULL;
	}
	if (routes->kind != YAML_KIND_SEQUENCE)
		return "its \"routes\" is not a list";
	if (routes->is_flow)
		return "its \"routes\" is written in brackets";
	*out = (struct place){.line = routes->end_line, .indent = routes->column - 1};
	return NULL;
}

static const char *place_in_egress(struct place *out, const struct yaml_node *egress,
				   const struct yaml_node *key)
{
	const struct yaml_node *routes = yaml_get(egress, "routes");

	if (routes)
		return egress->is_flow ? "its \"egress\" is written in braces"
				       : place_in_routes(out, routes, key_of(egress, "routes"));
	if (is_nothing(egress)) {
		*out = (struct place){.line = key->line, .indent = key->column - 1 + INDENT_STEP};
	} else {
		if (egress->kind != YAML_KIND_MAPPING)
			return "its \"egress\" is not a mapping";
		if (egress->is_flow)
			return "its \"egress\" is written in braces";
		*out = (struct place){.line = egress->end_line,
				      .indent = egress->children[0]->column - 1};
	}
	out->needs_routes = true;
	return NULL;
}

static const char *find_place(struct place *out, const struct yaml_doc *doc)
{
	const struct yaml_node *root = doc->root, *egress = yaml_get(root, "egress");

	if (root && root->is_flow)
		return "its head is written in braces";
	if (egress)
		return place_in_egress(out, egress, key_of(root, "egress"));
	/* Before the line that ends the head. */
	*out = (struct place){.line = doc->body_line - 2,
			      .indent = root ? root->children[0]->column - 1 : 0,
			      .needs_egress = true,
			      .needs_routes = true};
	return NULL;
}

static int put_line(struct buf *out, size_t indent, const char *text, const char *end)
{
	return buf_printf(out, "%*s%s%s", (int)indent, "", text, end);
}

/* Lines as they are put in. */
static int put_lines(struct buf *out, const struct place *at, const struct policy_route *r,
		     const char *end)
{
	size_t indent = at->indent;
	_cleanup_free_ char *between = NULL;
	int ret = 0;

	if (at->needs_egress) {
		ret = put_line(out, indent, "egress:", end);
		indent += INDENT_STEP;
	}
	if (ret == 0 && at->needs_routes) {
		ret = put_line(out, indent, "routes:", end);
		indent += INDENT_STEP;
	}
	between = mem_printf("%s%*s", end, (int)indent + INDENT_STEP, "");
	if (ret == 0)
		ret = put_line(out, indent, "- ", "");
	if (ret == 0)
		ret = put_route(out, r, between);
	return ret < 0 ? ret : buf_printf(out, "%s", end);
}

static int insert(struct manifest_edit *m, const struct place *at, const struct policy_route *r)
{
	struct str before = buf_str(&m->before), above = line_of(before, at->line);
	const char *end = above.n > 0 && above.p[above.n - 1] == '\r' ? "\r\n" : "\n";
	size_t cut = (size_t)(above.p - before.p) + above.n + 1;
	int ret;

	if (at->indent > INDENT_MAX || cut > before.n)
		return -EINVAL;
	ret = buf_append_str(&m->after, str_sub(before, 0, cut));
	if (ret == 0)
		ret = put_lines(&m->after, at, r, end);
	return ret < 0 ? ret : buf_append_str(&m->after, str_sub(before, cut, before.n));
}

/* --- is it what was meant --- */

static bool same_tree(const struct yaml_node *a, const struct yaml_node *b)
{
	if (a->kind != b->kind || a->n_children != b->n_children || !str_eq(a->text, b->text) ||
	    a->is_plain != b->is_plain)
		return false;
	for (size_t i = 0; i < a->n_children; i++)
		if (!same_tree(a->children[i], b->children[i]))
			return false;
	return true;
}

/* b holds each pair of a, and nothing else; but for `except`, whose values are given out. NULL
 * stands for a mapping without a key. */
static bool same_but(const struct yaml_node *a, const struct yaml_node *b, const char *except,
		     const struct yaml_node **in_a, const struct yaml_node **in_b)
{
	size_t n_a = 0, n_b = 0;

	*in_a = yaml_get(a, except);
	*in_b = yaml_get(b, except);
	for (size_t i = 0; a && i + 1 < a->n_children; i += 2) {
		const struct yaml_node *other;
		_cleanup_free_ char *key = str_dup(a->children[i]->text);

		if (strcmp(key, except) == 0)
			continue;
		n_a++;
		other = yaml_get(b, key);
		if (!other || !same_tree(a->children[i + 1], other))
			return false;
	}
	for (size_t i = 0; b && i + 1 < b->n_children; i += 2)
		n_b += !str_eq(b->children[i]->text, str_of(except));
	return n_a == n_b;
}

/* Nothing, or a key without a value. */
static const struct yaml_node *or_nothing(const struct yaml_node *n)
{
	return n && is_nothing(n) ? NULL : n;
}

/* The one new item, or NULL when anything else is not as it was. */
static const struct yaml_node *find_new(const struct yaml_doc *before, const struct yaml_doc *after)
{
	const struct yaml_node *a, *b, *old, *new;

	if (!str_eq(before->body, after->body) ||
	    !same_but(before->root, after->root, "egress", &a, &b))
		return NULL;
	if (!same_but(or_nothing(a), b, "routes", &old, &new))
		return NULL;
	old = or_nothing(old);
	if (!new || new->kind != YAML_KIND_SEQUENCE ||
	    new->n_children != (old ? old->n_children : 0) + 1)
		return NULL;
	for (size_t i = 0; old && i < old->n_children; i++)
		if (!same_tree(old->children[i], new->children[i]))
			return NULL;
	return new->children[new->n_children - 1];
}

/* As a manifest has them: no path there is every path here. */
static bool same_route(const struct policy_route *have, const struct policy_route *want)
{
	size_t n_paths = has_paths(want) ? want->n_paths : 0;

	if (strcmp(have->host, want->host) != 0 || have->methods != want->methods ||
	    have->n_ports != want->n_ports || have->n_paths != n_paths ||
	    memcmp(have->ports, want->ports, want->n_ports * sizeof(want->ports[0])) != 0 ||
	    have->auth.scheme != POLICY_AUTH_NONE || have->on_match != POLICY_MATCH_BLOCK ||
	    have->may_websocket)
		return false;
	for (size_t i = 0; i < n_paths; i++)
		if (strcmp(have->paths[i], want->paths[i]) != 0)
			return false;
	return true;
}

/* All of the file's routes are read, so that the new one is seen beside the others. */
static int check_routes(const struct yaml_node *routes, const char *file,
			const struct policy_route *want, struct err *e)
{
	_cleanup_(manifest_bottle_free) struct manifest_bottle b = {0};
	struct schema_ctx c = {.file = file, .home = "/", .e = e};
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < routes->n_children; i++)
		ret = manifest_read_route(&c, routes->children[i], &b);
	if (ret < 0)
		return ret;
	if (b.n_routes != routes->n_children || !same_route(&b.routes[b.n_routes - 1].route, want))
		return -EBADMSG;
	return 0;
}

static int check_edit(const struct manifest_edit *m, const struct yaml_doc *before,
		      const char *path, const struct policy_route *want, struct err *e)
{
	_cleanup_(yaml_doc_free) struct yaml_doc after = {0};
	int ret = yaml_doc_parse(&after, path, buf_str(&m->after), e);

	if (ret < 0)
		return ret;
	if (!find_new(before, &after))
		return -EBADMSG;
	return check_routes(yaml_get(yaml_get(after.root, "egress"), "routes"), path, want, e);
}

/* --- the bottle that the file is of --- */

/* "/home/anna/.claude-bottle/bottles/web.md": its home and its name. False for another path. */
static bool bottle_of(const char *path, char **home, char **name)
{
	static const char folder[] = "/.claude-bottle/bottles/";
	struct str all = str_of(path);
	size_t at = str_find(all, str_of(folder));
	struct str rest = str_sub(all, at + strlen(folder), all.n);

	if (at == 0 || at == all.n || !str_ends(rest, STR_LIT(".md")) ||
	    !manifest_name_is_valid(str_sub(rest, 0, rest.n - 3)))
		return false;
	*home = str_dup(str_sub(all, 0, at));
	*name = str_dup(str_sub(rest, 0, rest.n - 3));
	return true;
}

/* With all that it extends: has it the route already? */
static int check_bottle(const char *path, const struct policy_route *want, struct err *e)
{
	_cleanup_(manifest_bottle_free) struct manifest_bottle b = {0};
	_cleanup_free_ char *home = NULL, *name = NULL;
	int ret;

	if (!bottle_of(path, &home, &name))
		return 0;
	ret = manifest_load_bottle(&b, home, name, e);
	if (ret < 0)
		return ret;
	for (size_t i = 0; i < b.n_routes; i++)
		if (same_route(&b.routes[i].route, want))
			return err_at(e, b.routes[i].route.origin_file,
				      b.routes[i].route.origin_line, 1,
				      "this route is there already");
	return 0;
}

/* --- all of it --- */

static int read_manifest(struct manifest_edit *m, const char *path, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	_cleanup_free_ char *text_p = NULL;
	struct str text = STR_NULL;
	struct stat st;
	int ret;

	if (fd < 0)
		return err_errno(e, "open \"%s\"", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "\"%s\" is not a regular file", path);
	ret = io_read_all(fd, MANIFEST_EDIT_MAX_BYTES, &text, e);
	text_p = (char *)text.p;
	return ret < 0 ? ret : buf_append_str(&m->before, text);
}

static int edit(struct manifest_edit *m, const char *path, const struct policy_route *r,
		struct err *e)
{
	_cleanup_(yaml_doc_free) struct yaml_doc before = {0};
	struct err why = ERR_INIT;
	struct place at = {0};
	const char *refused;
	int ret = yaml_doc_parse(&before, path, buf_str(&m->before), e);

	if (ret < 0)
		return ret;
	refused = find_place(&at, &before);
	if (refused)
		return refuse_by_hand(r, e, path, at.line, refused);
	ret = insert(m, &at, r);
	if (ret == 0)
		ret = check_edit(m, &before, path, r, &why);
	if (ret == 0)
		return 0;
	if (why.text[0] == '\0')
		(void)err_set(&why, -EINVAL, "no place was found in it where it would be read so");
	return refuse_by_hand(r, e, path, at.line, why.text);
}

int manifest_edit_make(struct manifest_edit *out, const char *path, const struct change *c,
		       struct err *e)
{
	_cleanup_(manifest_edit_free) struct manifest_edit m = {
		.before = BUF_INIT(MANIFEST_EDIT_MAX_BYTES + 1),
		.after = BUF_INIT(MANIFEST_EDIT_MAX_BYTES + ROUTE_TEXT_MAX),
	};
	int ret;

	*out = (struct manifest_edit){0};
	if (c->kind != ASK_EGRESS)
		return err_set(e, -EINVAL, "only a route can stand in a manifest");
	ret = read_manifest(&m, path, e);
	if (ret == 0)
		ret = check_bottle(path, &c->route, e);
	if (ret == 0)
		ret = edit(&m, path, &c->route, e);
	if (ret < 0)
		return ret;
	(void)SHA256((const unsigned char *)buf_str(&m.after).p, buf_len(&m.after), m.hash);
	*out = m;
	m = (struct manifest_edit){0};
	return 0;
}

void manifest_edit_free(struct manifest_edit *m)
{
	buf_free(&m->before);
	buf_free(&m->after);
	*m = (struct manifest_edit){0};
}
