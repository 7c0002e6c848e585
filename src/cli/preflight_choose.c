/* Which backend, and why. */
#include "cli/preflight.h"

#include "backend/backend.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What a backend says may quote an engine, or a file. */
static void why_add(struct preflight_choice *c, const char *before, const char *text)
{
	size_t n = strlen(c->why);

	(void)snprintf(c->why + n, sizeof(c->why) - n, "%s", before);
	n = strlen(c->why);
	text_visible_cstr(c->why + n, sizeof(c->why) - n, str_of(text));
}

static int choose_named(struct preflight_choice *c, const char *given, const char *by,
			struct err *e)
{
	int r = plan_backend_parse(str_of(given), &c->backend, e);

	if (r < 0)
		return err_prefix(e, "%s", by);
	c->is_named = true;
	(void)snprintf(c->why, sizeof(c->why), "named by %s", by);
	return 0;
}

static int choose_offered(struct preflight_choice *c, struct err *e)
{
	char passed[PREFLIGHT_WHY_MAX] = "";
	size_t n = 0;

	for (size_t i = 0; backend_preference[i]; i++) {
		const struct backend *b = backend_preference[i];
		char why[BACKEND_WHY_MAX] = "";
		struct err offer = ERR_INIT;

		if (b->offer(why, &offer) == 0) {
			why_add(c, "", why);
			why_add(c, passed[0] ? "; " : "", passed);
			return plan_backend_parse(str_of(b->name), &c->backend, e);
		}
		n += strlen(passed + n);
		(void)snprintf(passed + n, sizeof(passed) - n, "%snot %s: %s", n ? "; " : "",
			       b->name, offer.text);
	}
	return err_set(e, -ENOENT, "no backend can be had here: %s (see \"claude-bottle doctor\")",
		       passed);
}

int preflight_choose(struct preflight_choice *out, const char *flag, enum plan_backend manifest,
		     struct err *e)
{
	const char *variable = getenv("CLAUDE_BOTTLE_BACKEND");

	*out = (struct preflight_choice){.backend = PLAN_BACKEND_UNSET};
	if (flag)
		return choose_named(out, flag, "--backend", e);
	if (variable && variable[0])
		return choose_named(out, variable, "CLAUDE_BOTTLE_BACKEND", e);
	if (manifest != PLAN_BACKEND_UNSET)
		return choose_named(out, plan_backend_name(manifest), "the manifest", e);
	return choose_offered(out, e);
}

int preflight_check(const struct preflight_choice *c, struct err *e)
{
	const struct backend *b = backend_find(c->backend);
	char why[BACKEND_WHY_MAX] = "";
	int r;

	if (!c->is_named)
		return 0;
	if (!b)
		return err_set(
			e, -ENOSYS,
			"backend %s (%s) is not in this build (see \"claude-bottle doctor\")",
			plan_backend_name(c->backend), c->why);
	r = b->offer(why, e);
	return r < 0 ? err_prefix(e, "backend %s (%s)", b->name, c->why) : 0;
}
