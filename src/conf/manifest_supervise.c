/* The key "supervise": whether the agent may ask, and what happens besides. */
#include "conf/manifest.h"

#include "base/clean.h"

#include <assert.h>

#define NOTIFY_MAX 4096

static const char *const on_canary_names[] = {
	[PLAN_CANARY_RECORD] = "record",
	[PLAN_CANARY_PAUSE] = "pause",
	[PLAN_CANARY_STOP] = "stop",
};
static_assert(ARRAY_LEN(on_canary_names) == PLAN_CANARY_COUNT, "one name for each");

const char *plan_on_canary_name(enum plan_on_canary c)
{
	return c < PLAN_CANARY_COUNT ? on_canary_names[c] : "unknown";
}

static int read_on_canary(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_supervise *s = out;
	size_t i = 0;
	int ret = schema_choice(c, n, "on_canary", on_canary_names, ARRAY_LEN(on_canary_names), &i);

	s->on_canary = (enum plan_on_canary)i;
	return ret;
}

/* A line for /bin/sh: nothing in it may look like something else in the plan. */
static int read_notify(struct schema_ctx *c, const struct yaml_node *n, void *out)
{
	struct manifest_supervise *s = out;
	struct str text;
	int ret = schema_text(c, n, "notify", &text);

	if (ret < 0)
		return ret;
	text = str_trim(text);
	if (text.n == 0 || text.n > NOTIFY_MAX)
		return schema_refuse(c, n, "notify is a command line of 1 to %d characters",
				     NOTIFY_MAX);
	for (size_t i = 0; i < text.n; i++) {
		if ((unsigned char)text.p[i] < ' ' || text.p[i] == 0x7f)
			return schema_refuse(c, n, "notify is one line without controls");
	}
	s->notify = str_dup(text);
	return 0;
}

int manifest_read_supervise(struct schema_ctx *c, const struct yaml_node *n, void *bottle)
{
	static const struct schema_field fields[] = {
		{"on_canary", read_on_canary},
		{"notify", read_notify},
	};
	struct manifest_bottle *b = bottle;
	struct manifest_supervise *s = &b->supervise;
	bool is_on = true;
	int ret;

	manifest_supervise_free(s);
	if (n->kind != YAML_KIND_MAPPING) {
		ret = schema_bool(c, n, "supervise", &is_on);
		if (ret < 0 || !is_on)
			return ret;
	}
	s->is_on = true;
	s->on_canary = PLAN_CANARY_PAUSE;
	return n->kind == YAML_KIND_MAPPING
		       ? schema_mapping(c, n, "supervise", fields, ARRAY_LEN(fields), s)
		       : 0;
}

void manifest_supervise_free(struct manifest_supervise *s)
{
	free(s->notify);
	*s = (struct manifest_supervise){.on_canary = PLAN_CANARY_RECORD};
}

int manifest_check_supervise(const struct manifest_bottle *b, struct err *e)
{
	for (size_t i = 0; i < b->n_routes && !b->supervise.is_on; i++) {
		const struct policy_route *r = &b->routes[i].route;

		if (r->on_match == POLICY_MATCH_SUPERVISE)
			return err_at(e, r->origin_file, r->origin_line, 1,
				      "dlp.on_match: supervise needs somebody to ask: the bottle "
				      "needs \"supervise: true\"");
	}
	return 0;
}
