/*
 * libyaml's events, not its documents: the document loader resolves aliases, which is how a few
 * lines become gigabytes. Here an alias is an error as soon as it is seen, and the tree grows only
 * under its caps. Recursion is bounded by YAML_DEPTH_MAX.
 */
#include "conf/yaml_tree.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <yaml.h>

struct builder {
	yaml_parser_t *parser;
	const char *file;
	unsigned first_line; /* of the head within its file */
	size_t n_nodes;
	struct err *e;
};

static int refuse_at(const struct builder *b, yaml_mark_t at, const char *text)
{
	return err_at(b->e, b->file, (unsigned)at.line + b->first_line, (unsigned)at.column + 1,
		      "%s", text);
}

static void node_free(struct yaml_node *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n->n_children; i++)
		node_free(n->children[i]);
	free(n->children);
	free((char *)n->text.p);
	free(n);
}

static void node_free_p(struct yaml_node **n)
{
	node_free(*n);
}

static void event_delete_p(yaml_event_t *event)
{
	yaml_event_delete(event);
}

static int parse_event(struct builder *b, yaml_event_t *event)
{
	const yaml_parser_t *p = b->parser;
	char text[256];

	if (yaml_parser_parse(b->parser, event))
		return 0;
	*event = (yaml_event_t){0};
	if (p->error == YAML_READER_ERROR)
		return err_at(b->e, b->file, b->first_line + (unsigned)p->mark.line, 1,
			      "not text in UTF-8: %s", p->problem ? p->problem : "unreadable");
	if (p->context && strstr(p->context, "alias"))
		/* "host: *.example.com", which everybody writes once. */
		(void)snprintf(text, sizeof(text),
			       "not YAML: a value that starts with \"*\" needs quotes");
	else if (p->context && p->problem)
		(void)snprintf(text, sizeof(text), "not YAML: %s, %s", p->problem, p->context);
	else
		(void)snprintf(text, sizeof(text), "not YAML: %s",
			       p->problem ? p->problem : "cannot be read");
	return refuse_at(b, p->problem_mark, text);
}

static int node_new(struct builder *b, const yaml_event_t *event, enum yaml_kind kind,
		    const yaml_char_t *anchor, const yaml_char_t *tag, struct yaml_node **out)
{
	*out = NULL;
	if (anchor)
		return refuse_at(b, event->start_mark,
				 "anchors (\"&name\") are not accepted; write "
				 "the value where it is needed");
	if (tag)
		return refuse_at(b, event->start_mark, "tags (\"!name\") are not accepted");
	if (++b->n_nodes > YAML_NODES_MAX)
		return refuse_at(b, event->start_mark, "too many values in one manifest");
	*out = mem_zalloc(sizeof(**out));
	(*out)->kind = kind;
	(*out)->line = (unsigned)event->start_mark.line + b->first_line;
	(*out)->column = (unsigned)event->start_mark.column + 1;
	(*out)->end_line = (*out)->line;
	return 0;
}

/* A block's text ends where the next line begins. */
static unsigned end_line_of(const struct builder *b, const yaml_event_t *event)
{
	unsigned line = (unsigned)event->end_mark.line + b->first_line;

	return event->end_mark.column == 0 && event->end_mark.line > event->start_mark.line
		       ? line - 1
		       : line;
}

static void node_add(struct yaml_node *parent, struct yaml_node *child)
{
	parent->children = mem_grow_array(parent->children, &parent->cap_children,
					  parent->n_children + 1, sizeof(*parent->children));
	parent->children[parent->n_children++] = child;
}

static int build_scalar(struct builder *b, const yaml_event_t *event, struct yaml_node **out)
{
	struct str text = str_slice(event->data.scalar.value, event->data.scalar.length);
	int ret = node_new(b, event, YAML_KIND_SCALAR, event->data.scalar.anchor,
			   event->data.scalar.tag, out);

	if (ret < 0)
		return ret;
	if (text.n > 0 && memchr(text.p, '\0', text.n)) {
		node_free(take_ptr(out));
		return refuse_at(b, event->start_mark, "a value must not hold a NUL character");
	}
	(*out)->text = str_slice(str_dup(text), text.n);
	(*out)->is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	(*out)->end_line = end_line_of(b, event);
	return 0;
}

/* A key may stand only once, and only as plain text. */
static int check_key(struct builder *b, const struct yaml_node *mapping,
		     const struct yaml_node *key)
{
	if (key->kind != YAML_KIND_SCALAR)
		return err_at(b->e, b->file, key->line, key->column, "a key must be text, not %s",
			      yaml_kind_name(key));
	if (key->is_plain && str_eq(key->text, STR_LIT("<<")))
		return err_at(b->e, b->file, key->line, key->column,
			      "merge keys (\"<<\") are not accepted; use \"extends\"");
	for (size_t i = 0; i < mapping->n_children; i += 2) {
		const struct yaml_node *other = mapping->children[i];
		char shown[96];

		if (!str_eq(other->text, key->text))
			continue;
		text_visible_cstr(shown, sizeof(shown), key->text);
		return err_at(b->e, b->file, key->line, key->column,
			      "key \"%s\" stands twice; the first is in line %u", shown,
			      other->line);
	}
	return 0;
}

static int build_node(struct builder *b, yaml_event_t *event, unsigned depth,
		      struct yaml_node **out);

static int build_children(struct builder *b, struct yaml_node *parent, yaml_event_type_t end,
			  unsigned depth)
{
	for (;;) {
		_cleanup_(event_delete_p) yaml_event_t event = {0};
		_cleanup_(node_free_p) struct yaml_node *child = NULL;
		int ret = parse_event(b, &event);

		if (ret < 0)
			return ret;
		if (event.type == end && parent->is_flow)
			parent->end_line = end_line_of(b, &event);
		if (event.type == end)
			return 0;
		ret = build_node(b, &event, depth + 1, &child);
		if (ret < 0)
			return ret;
		if (parent->kind == YAML_KIND_MAPPING && parent->n_children % 2 == 0)
			ret = check_key(b, parent, child);
		if (ret < 0)
			return ret;
		parent->end_line = child->end_line;
		node_add(parent, take_ptr(&child));
	}
}

static int build_node(struct builder *b, yaml_event_t *event, unsigned depth,
		      struct yaml_node **out)
{
	_cleanup_(node_free_p) struct yaml_node *n = NULL;
	bool is_mapping = event->type == YAML_MAPPING_START_EVENT;
	int ret;

	*out = NULL;
	if (depth > YAML_DEPTH_MAX)
		return refuse_at(b, event->start_mark, "nested too deeply");
	if (event->type == YAML_ALIAS_EVENT)
		return refuse_at(b, event->start_mark,
				 "aliases (\"*name\") are not accepted; a value "
				 "that starts with \"*\" needs quotes");
	if (event->type == YAML_SCALAR_EVENT)
		return build_scalar(b, event, out);
	if (is_mapping)
		ret = node_new(b, event, YAML_KIND_MAPPING, event->data.mapping_start.anchor,
			       event->data.mapping_start.tag, &n);
	else if (event->type == YAML_SEQUENCE_START_EVENT)
		ret = node_new(b, event, YAML_KIND_SEQUENCE, event->data.sequence_start.anchor,
			       event->data.sequence_start.tag, &n);
	else
		return refuse_at(b, event->start_mark, "a value was expected here");
	if (ret == 0)
		n->is_flow = is_mapping
				     ? event->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE
				     : event->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
	if (ret == 0)
		ret = build_children(
			b, n, is_mapping ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT, depth);
	if (ret == 0)
		*out = take_ptr(&n);
	return ret;
}

/* The stream of one document: start, at most one document without directives, end. */
static int build_document(struct builder *b, struct yaml_node **out)
{
	for (;;) {
		_cleanup_(event_delete_p) yaml_event_t event = {0};
		int ret = parse_event(b, &event);

		if (ret < 0)
			return ret;
		if (event.type == YAML_STREAM_END_EVENT)
			return 0;
		if (event.type == YAML_STREAM_START_EVENT || event.type == YAML_DOCUMENT_END_EVENT)
			continue;
		if (event.type == YAML_DOCUMENT_START_EVENT) {
			if (*out)
				return refuse_at(b, event.start_mark,
						 "a manifest has one YAML head; a second document "
						 "starts here");
			if (event.data.document_start.version_directive ||
			    event.data.document_start.tag_directives.start !=
				    event.data.document_start.tag_directives.end)
				return refuse_at(b, event.start_mark,
						 "YAML directives (\"%\") are not accepted");
			continue;
		}
		ret = build_node(b, &event, 1, out);
		if (ret < 0)
			return ret;
	}
}

static void parser_delete_p(yaml_parser_t *p)
{
	yaml_parser_delete(p);
}

static int build_head(struct yaml_doc *d, struct str head, struct err *e)
{
	_cleanup_(parser_delete_p) yaml_parser_t parser = {0};
	_cleanup_(node_free_p) struct yaml_node *root = NULL;
	struct builder b = {.parser = &parser, .file = d->file, .first_line = 2, .e = e};
	int ret;

	if (!yaml_parser_initialize(&parser))
		abort();
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)(head.p ? head.p : ""),
				     head.n);
	ret = build_document(&b, &root);
	if (ret < 0)
		return ret;
	if (!root || yaml_is_null(root))
		return 0;
	if (root->kind != YAML_KIND_MAPPING)
		return err_at(e, d->file, root->line, root->column,
			      "the head must be \"key: value\" lines, not %s",
			      yaml_kind_name(root));
	d->root = take_ptr(&root);
	return 0;
}

/* The next line without its end; "---" may carry trailing blanks and a carriage return. */
static bool take_line(struct str *rest, struct str *line)
{
	bool more;

	if (rest->n == 0)
		return false;
	*rest = str_cut(*rest, '\n', line, &more);
	return true;
}

static bool is_fence(struct str line)
{
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	return str_starts(line, STR_LIT("---")) && str_trim(line).n == 3;
}

int yaml_doc_parse(struct yaml_doc *out, const char *file, struct str text, struct err *e)
{
	struct str rest = text, line = STR_NULL, head;
	unsigned n = 1;
	int ret;

	*out = (struct yaml_doc){0};
	if (text.n > YAML_FILE_MAX_BYTES)
		return err_at(e, file, 1, 1, "larger than %u bytes", YAML_FILE_MAX_BYTES);
	if (!take_line(&rest, &line) || !is_fence(line))
		return err_at(e, file, 1, 1,
			      "the first line must be \"---\", then the settings, then another "
			      "\"---\" line");
	head = rest;
	for (n = 2;; n++) {
		if (!take_line(&rest, &line))
			return err_at(e, file, n, 1, "the head has no closing \"---\" line");
		if (is_fence(line))
			break;
	}
	head.n = (size_t)(line.p - head.p);
	if (head.n > YAML_HEAD_MAX_BYTES)
		return err_at(e, file, 1, 1, "the head is larger than %u bytes",
			      YAML_HEAD_MAX_BYTES);
	out->file = mem_strdup(file);
	out->body = rest;
	out->body_line = n + 1;
	ret = build_head(out, head, e);
	if (ret < 0)
		yaml_doc_free(out);
	return ret;
}

void yaml_doc_free(struct yaml_doc *d)
{
	node_free(d->root);
	free(d->file);
	*d = (struct yaml_doc){0};
}

const struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key)
{
	if (!mapping || mapping->kind != YAML_KIND_MAPPING)
		return NULL;
	for (size_t i = 0; i + 1 < mapping->n_children; i += 2)
		if (str_eq(mapping->children[i]->text, str_of(key)))
			return mapping->children[i + 1];
	return NULL;
}

const char *yaml_kind_name(const struct yaml_node *n)
{
	switch (n->kind) {
	case YAML_KIND_SEQUENCE:
		return "a list";
	case YAML_KIND_MAPPING:
		return "a mapping";
	case YAML_KIND_SCALAR:
	default:
		return yaml_is_null(n) ? "nothing" : "text";
	}
}

bool yaml_is_null(const struct yaml_node *n)
{
	return n->kind == YAML_KIND_SCALAR && n->is_plain &&
	       (n->text.n == 0 || str_eq(n->text, STR_LIT("~")) ||
		str_eq(n->text, STR_LIT("null")));
}
