#include "supervise/refused.h"

#include "supervise/tools.h"

#include "base/clean.h"
#include "base/text.h"

#include <stdio.h>

/* Which tool asks for what was refused with such a reason; what is not listed, no human can let
 * through. */
static const struct {
	const char *reason, *tool;
} refused_tools[] = {
	{"host-not-allowed", TOOL_REQUEST_EGRESS},   {"port-not-allowed", TOOL_REQUEST_EGRESS},
	{"method-not-allowed", TOOL_REQUEST_EGRESS}, {"path-not-allowed", TOOL_REQUEST_EGRESS},
	{"secret-in-host", TOOL_REQUEST_RELEASE},    {"secret-in-path", TOOL_REQUEST_RELEASE},
	{"secret-in-query", TOOL_REQUEST_RELEASE},   {"secret-in-header", TOOL_REQUEST_RELEASE},
	{"secret-in-body", TOOL_REQUEST_RELEASE},    {"held-expired", TOOL_REQUEST_RELEASE},
	{"needs-approval", TOOL_REQUEST_PUSH},
};

static const char *refused_tool(const char *reason)
{
	for (size_t i = 0; i < ARRAY_LEN(refused_tools); i++) {
		if (strcmp(refused_tools[i].reason, reason) == 0)
			return refused_tools[i].tool;
	}
	return NULL;
}

static bool is_terminated(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

bool refused_add(struct refused *f, const struct record *r)
{
	if (r->verdict != RECORD_BLOCK || !is_terminated(r->role, sizeof(r->role)) ||
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

const struct record *refused_find(const struct refused *f, const uint8_t id[8])
{
	for (size_t i = 0; i < refused_count(f); i++) {
		if (memcmp(refused_at(f, i)->id, id, sizeof(refused_at(f, i)->id)) == 0)
			return refused_at(f, i);
	}
	return NULL;
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

static json_t *refused_item(const struct record *r)
{
	const char *tool = refused_tool(r->reason);
	char id[2 * sizeof(r->id) + 1], path[RECORD_PATH_MAX];
	json_t *item = json_object();

	text_hex(id, r->id, sizeof(r->id));
	/* A record's path has no query; this does not depend on it. */
	(void)snprintf(path, sizeof(path), "%.*s", (int)strcspn(r->path, "?"), r->path);
	refused_text(item, "record", id);
	refused_text(item, "by", r->role);
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

json_t *refused_list(const struct refused *f, size_t limit)
{
	json_t *list = json_array();

	for (size_t i = 0; i < refused_count(f) && i < limit; i++)
		(void)json_array_append_new(list, refused_item(refused_at(f, i)));
	return json_pack("{s:o}", "refusals", list);
}
