/* What a session does: a JSON object of known keys, and no others. */
#include "base/clean.h"
#include "base/json.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "face/web_int.h"

#include <errno.h>
#include <stdio.h>

#define MINUTES_MAX (365u * 24u * 60u)

/* Every key of the object must be among keys, which ends with NULL. */
static json_t *parse(struct str body, const char *const *keys)
{
	json_t *root = json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL);
	const char *key;
	json_t *value;

	if (!json_is_object(root)) {
		json_decref(root);
		return NULL;
	}
	json_object_foreach(root, key, value)
	{
		size_t i = 0;

		while (keys[i] && strcmp(keys[i], key) != 0)
			i++;
		if (!keys[i]) {
			json_decref(root);
			return NULL;
		}
	}
	return root;
}

static const char *get_slug(const json_t *root)
{
	const char *slug = json_string_value(json_object_get(root, "slug"));

	return slug && places_slug_is_valid(slug) ? slug : NULL;
}

static uint64_t get_id(const json_t *root)
{
	json_int_t id = json_integer_value(json_object_get(root, "id"));

	return id > 0 ? (uint64_t)id : 0;
}

static bool get_hash(const json_t *root, const char *key, uint8_t out[CHANGE_HASH_BYTES])
{
	const char *hex = json_string_value(json_object_get(root, key));

	return hex && text_unhex(out, CHANGE_HASH_BYTES, str_of(hex));
}

/* The index in names, of which [0] is no value; 0 for none of them. */
static unsigned get_name(const json_t *root, const char *key, const char *const *names, unsigned n)
{
	const char *value = json_string_value(json_object_get(root, key));

	for (unsigned i = 1; value && i < n; i++)
		if (strcmp(value, names[i]) == 0)
			return i;
	return 0;
}

static void bad(struct web_answer *a)
{
	answer_error(a, 400, "not what was expected");
}

void act_session(const struct web_call *call, struct web_answer *a)
{
	static const char *const keys[] = {"token", NULL};
	_cleanup_json_ json_t *root = parse(call->body, keys);
	const char *token = json_string_value(json_object_get(root, "token"));
	struct web_session *s = token ? gate_redeem(call->web, str_of(token)) : NULL;
	char name[WEB_COOKIE_NAME_SIZE];

	if (!s) {
		answer_error(a, 401, "this address was used before, or is too old");
		return;
	}
	gate_cookie_name(call->web, s, name);
	(void)snprintf(a->cookie, sizeof(a->cookie), "%s=%s; Path=/; HttpOnly; SameSite=Strict",
		       name, s->cookie);
	a->status = 200;
	a->type = "application/json";
	if (buf_printf(&a->text, "{\"secret\":\"%s\"}", s->secret) < 0)
		answer_error(a, 500, "too much to say");
}

/* False for what is no decision. minutes 0: as long as the bottle. */
static bool parse_decision(const json_t *root, struct face_decision *d)
{
	static const char *const scopes[] = {
		"", [ASK_ONCE] = "once", [ASK_BOTTLE] = "bottle", [ASK_ALWAYS] = "always"};
	static const char *const releases[] = {"", [ASK_PASS] = "pass", [ASK_REDACT] = "redact"};
	const json_t *granted = json_object_get(root, "granted");
	const json_t *minutes = json_object_get(root, "minutes");
	const json_t *answer = json_object_get(root, "answer");
	json_int_t n = json_integer_value(minutes);

	d->slug = get_slug(root);
	d->id = get_id(root);
	d->is_granted = json_is_true(granted);
	d->scope = (enum ask_scope)get_name(root, "scope", scopes, ARRAY_LEN(scopes));
	d->release = (enum ask_release)get_name(root, "release", releases, ARRAY_LEN(releases));
	d->answer = json_string_value(answer);
	if (!d->slug || d->id == 0 || !json_is_boolean(granted) || !get_hash(root, "hash", d->hash))
		return false;
	if ((minutes && !json_is_integer(minutes)) || n < 0 || n > (json_int_t)MINUTES_MAX)
		return false;
	if ((answer && !d->answer) || (d->answer && strlen(d->answer) >= STORE_ANSWER_MAX))
		return false;
	d->seconds = (uint64_t)n * 60;
	if (!d->is_granted)
		return true;
	if (d->scope == ASK_ALWAYS && !get_hash(root, "manifest", d->manifest))
		return false;
	return d->scope != 0;
}

/* What the page said that its human saw must be what it was given to show, and long enough ago. */
static const char *check_seen(const struct web_call *call, const struct face_decision *d)
{
	const struct web_shown *seen = show_find(call->session, d->slug, d->id);

	if (!seen || memcmp(seen->hash, d->hash, sizeof(seen->hash)) != 0 ||
	    (d->scope == ASK_ALWAYS && d->is_granted &&
	     memcmp(seen->manifest, d->manifest, sizeof(seen->manifest)) != 0))
		return "this is not what was shown; look again";
	if (d->is_granted &&
	    loop_now_ns(call->web->loop) - seen->at_ns < WEB_SEEN_MS * TIME_NS_PER_MS)
		return "it was not on the screen long enough; look again";
	return NULL;
}

void act_decide(const struct web_call *call, struct web_answer *a)
{
	static const char *const keys[] = {"slug",    "id",	 "hash",     "granted", "scope",
					   "release", "minutes", "manifest", "answer",	NULL};
	_cleanup_json_ json_t *root = parse(call->body, keys);
	struct web_work work = {.kind = WEB_DECIDE, .decision.face = "web"};
	const char *unseen;

	if (!root || !parse_decision(root, &work.decision)) {
		bad(a);
		return;
	}
	unseen = check_seen(call, &work.decision);
	if (unseen)
		answer_verdict(a, "stale", str_of(unseen));
	else
		work_start(call->conn, &work, a);
}

void act_revoke(const struct web_call *call, struct web_answer *a)
{
	static const char *const keys[] = {"slug", "id", NULL};
	_cleanup_json_ json_t *root = parse(call->body, keys);
	struct web_work work = {
		.kind = WEB_REVOKE,
		.decision = {.slug = get_slug(root), .id = get_id(root), .face = "web"}};

	if (!work.decision.slug || work.decision.id == 0)
		bad(a);
	else
		work_start(call->conn, &work, a);
}

void act_pause(const struct web_call *call, struct web_answer *a)
{
	static const char *const keys[] = {"slug", "paused", NULL};
	_cleanup_json_ json_t *root = parse(call->body, keys);
	const json_t *paused = json_object_get(root, "paused");
	struct web_work work = {.kind = WEB_PAUSE,
				.decision = {.slug = get_slug(root), .face = "web"},
				.is_paused = json_is_true(paused)};

	if (!work.decision.slug || !json_is_boolean(paused))
		bad(a);
	else
		work_start(call->conn, &work, a);
}

void act_stop(const struct web_call *call, struct web_answer *a)
{
	static const char *const keys[] = {"slug", NULL};
	_cleanup_json_ json_t *root = parse(call->body, keys);
	struct web_work work = {.kind = WEB_STOP,
				.decision = {.slug = get_slug(root), .face = "web"}};

	if (!work.decision.slug)
		bad(a);
	else
		work_start(call->conn, &work, a);
}
