#include "supervise/refused.h"

#include "supervise/tools.h"

#include "base/text.h"

#include <stdio.h>

/* Is the place one where what the scanner finds is a human's to decide? */
static bool refused_is_supervised(const struct policy *p, const struct record *r)
{
	struct policy_decision d = {.route = NULL};
	enum policy_method m;

	if (p && policy_method_parse(str_of(r->method), &m))
		d = policy_decide(p, str_of(r->host), r->port, m, str_of(r->path));
	return d.route && d.route->on_match == POLICY_MATCH_SUPERVISE;
}

/* The tool that asks for what was refused; NULL: no human can let it through. */
static const char *refused_tool(const struct policy *p, const struct record *r)
{
	uint32_t kind = askable(r->reason);

	return kind != ASK_RELEASE || refused_is_supervised(p, r) ? askable_tool(kind) : NULL;
}

static bool is_terminated(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

bool refused_add(struct refused *f, const struct record *r)
{
	if ((r->verdict != RECORD_BLOCK && r->verdict != RECORD_HOLD) ||
	    !is_terminated(r->role, sizeof(r->role)) ||
	    !is_terminated(r->reason, sizeof(r->reason)) ||
	    !is_terminated(r->rule, sizeof(r->rule)) ||
	    !is_terminated(r->scanner, sizeof(r->scanner)) ||
	    !is_terminated(r->method, sizeof(r->method)) ||
	    !is_terminated(r->host, sizeof(r->host)) || !is_terminated(r->path, sizeof(r->path)) ||
	    !is_terminated(r->detail, sizeof(r->detail)))
		return false;
	f->ring[f->n++ % REFUSED_MAX] = *r;
	return true;
}

static size_t refused_count(const struct refused *f)
{
	return f->n < REFUSED_MAX ? (size_t)f->n : REFUSED_MAX;
}

/* back: 0 is the newest. */
static const struct record *refused_at(const struct refused *f, size_t back)
{
	return &f->ring[(f->n - 1 - back) % REFUSED_MAX];
}

/* Made visible by the sender already; made sure here, since it is what an agent will read. */
static void refused_text(json_t *out, const char *name, const char *text)
{
	char visible[4 * RECORD_PATH_MAX];

	if (!text[0])
		return;
	text_visible_once_cstr(visible, sizeof(visible), str_of(text));
	(void)json_object_set_new(out, name, json_string(visible));
}

static json_t *refused_item(const struct policy *p, const struct record *r)
{
	const char *tool = refused_tool(p, r);
	char id[2 * sizeof(r->id) + 1], path[RECORD_PATH_MAX];
	json_t *item = json_object();

	text_hex(id, r->id, sizeof(r->id));
	/* A record's path has no query; this does not depend on it. */
	(void)snprintf(path, sizeof(path), "%.*s", (int)strcspn(r->path, "?"), r->path);
	refused_text(item, "record", id);
	refused_text(item, "by", r->role);
	if (r->verdict == RECORD_HOLD)
		(void)json_object_set_new(item, "held", json_true());
	refused_text(item, "reason", r->reason);
	refused_text(item, "rule", r->rule);
	refused_text(item, "method", r->method);
	refused_text(item, "host", r->host);
	if (r->port)
		(void)json_object_set_new(item, "port", json_integer(r->port));
	refused_text(item, "path", path);
	if (tool)
		(void)json_object_set_new(
			item, "ask",
			json_pack("{s:s, s:{s:s}}", "tool", tool, "arguments", "record", id));
	return item;
}

json_t *refused_list(const struct refused *f, const struct policy *p, size_t limit)
{
	json_t *list = json_array();

	for (size_t i = 0; i < refused_count(f) && i < limit; i++)
		(void)json_array_append_new(list, refused_item(p, refused_at(f, i)));
	return json_pack("{s:o}", "refusals", list);
}
