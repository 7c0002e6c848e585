/* What a change is and what granting it means, in the same words in every face. */
#include "face/face.h"

#include "base/text.h"

#include <idn2.h>
#include <stdio.h>

struct fields {
	face_field_fn *fn;
	void *ctx;
};

static void put(const struct fields *f, const char *name, const char *value)
{
	if (value[0])
		f->fn(&(struct face_field){.name = name, .value = value}, f->ctx);
}

static void put_agents(const struct fields *f, const char *name, const char *value)
{
	if (value[0])
		f->fn(&(struct face_field){.name = name, .value = value, .is_agents = true},
		      f->ctx);
}

/* The canonical form is what counts; what a reader might take it for stands beneath. */
static void put_host(const struct fields *f, const char *host)
{
	char *unicode = NULL;
	char shown[1024], text[1100];

	put(f, "host", host);
	if (strstr(host, "xn--") && idn2_to_unicode_8z8z(host, &unicode, 0) == IDN2_OK) {
		text_visible_once_cstr(shown, sizeof(shown), str_of(unicode));
		(void)snprintf(text, sizeof(text),
			       "written \"%s\", with letters that are not ASCII", shown);
		f->fn(&(struct face_field){.name = "", .value = text, .is_warning = true}, f->ctx);
	}
	if (unicode)
		idn2_free(unicode);
}

static void put_route(const struct fields *f, const struct policy_route *r)
{
	char text[128];
	size_t used = 0;

	put_host(f, r->host ? r->host : "");
	for (size_t i = 0; i < r->n_ports && used < sizeof(text) - 8; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u", i ? ", " : "",
					 r->ports[i]);
	put(f, "ports", used ? text : "none");
	used = 0;
	for (unsigned m = 0; m < POLICY_METHOD_COUNT; m++) {
		if (r->methods & 1u << m)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s",
						 used ? ", " : "",
						 policy_method_name((enum policy_method)m));
	}
	put(f, "methods", used ? text : "none");
	for (size_t i = 0; i < r->n_paths; i++)
		put(f, i ? "" : "paths", r->paths[i]);
	if (r->n_paths == 0)
		put(f, "paths", "every one");
	if (r->may_websocket)
		put(f, "upgrade", "websocket");
}

static void put_release(const struct fields *f, const struct change *c)
{
	char hex[CHANGE_HASH_HEX];

	put_route(f, &c->route);
	put(f, "rule", c->rule);
	put(f, "where", c->where);
	put_agents(f, "text", c->shown);
	text_hex(hex, c->record, sizeof(c->record));
	put(f, "record", hex);
}

static void put_push(const struct fields *f, const struct change *c)
{
	if (c->route.host)
		put_host(f, c->route.host);
	put(f, "remote", c->remote);
	put(f, "ref", c->ref);
	put(f, "from", c->old_oid);
	put(f, "to", c->new_oid);
	put_agents(f, "paths", c->shown);
}

void face_each_field(const struct change *c, face_field_fn *fn, void *ctx)
{
	const struct fields f = {fn, ctx};

	switch (c->kind) {
	case ASK_EGRESS:
		put_route(&f, &c->route);
		break;
	case ASK_RELEASE:
		put_release(&f, c);
		break;
	case ASK_PUSH:
		put_push(&f, c);
		break;
	case ASK_CAPABILITY:
		put_agents(&f, "words", c->words);
		break;
	}
}

const char *face_scope_means(enum ask_kind k, enum ask_scope s)
{
	static const char *const egress[] = {
		[ASK_ONCE] = "one request that fits, and no more",
		[ASK_BOTTLE] = "until the bottle ends for good: also when it is resumed",
		[ASK_ALWAYS] = "for this bottle, and written into its manifest for all that come"};

	if (k == ASK_EGRESS && s >= ASK_ONCE && s <= ASK_ALWAYS)
		return egress[s];
	if (s != ASK_ONCE)
		return "";
	switch (k) {
	case ASK_RELEASE:
		return "this one; if it waits no longer, exactly the same once more";
	case ASK_PUSH:
		return "this commit to this ref, one time";
	case ASK_CAPABILITY:
		return "nothing changes by itself; the agent is told";
	case ASK_EGRESS:
		break;
	}
	return "";
}
