/*
 * The human of the supervised bottles: looks with `requests list` and `show`, decides by the hash
 * that it was shown. And, in H03, one who is made to decide about something else.
 */
#include "selftest/supervise.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define HUMAN_RUN_S	20
#define HUMAN_OUT_MAX	(8u << 20)
#define HUMAN_POLL_US	20000
#define HUMAN_HELD_MS	5000
#define HUMAN_SHOWN_MAX 40 /* requests of a bottle that are looked at one by one */
#define HUMAN_ID_SIZE	24

int human_run(struct suite *s, const char *const *words, struct buf *out, struct err *e)
{
	struct buf unused = BUF_INIT(HUMAN_OUT_MAX);
	int status;

	suite_add(s, mem_strdup(s->scratch.self));
	for (; *words; words++)
		suite_add(s, mem_strdup(*words));
	status = scratch_run(&s->scratch, s->args, "human", HUMAN_RUN_S, out ? out : &unused, e);
	suite_clear(s);
	buf_free(&unused);
	return status;
}

/* What it says, parsed; NULL: it failed. */
static json_t *run_json(struct suite *s, const char *const *words)
{
	struct buf out = BUF_INIT(HUMAN_OUT_MAX);
	struct err e = ERR_INIT;
	json_t *j = NULL;

	if (human_run(s, words, &out, &e) == 0)
		j = json_loadb(out.p + out.from, buf_len(&out), 0, NULL);
	buf_free(&out);
	return j;
}

static void number_text(json_int_t id, char out[HUMAN_ID_SIZE])
{
	(void)snprintf(out, HUMAN_ID_SIZE, "%lld", (long long)id);
}

/* NULL: there is none. */
static json_t *show_request(struct suite *s, const char *slug, json_int_t id)
{
	char number[HUMAN_ID_SIZE];

	number_text(id, number);
	return run_json(s, HUMAN_WORDS("requests", "show", slug, number, "--json"));
}

static const char *text_of(const json_t *j, const char *key)
{
	const char *text = json_string_value(json_object_get(j, key));

	return text ? text : "";
}

static char *hash_of(struct suite *s, const char *slug, json_int_t id)
{
	json_t *j = show_request(s, slug, id);
	char *out = mem_strdup(text_of(j, "hash"));

	json_decref(j);
	return out;
}

static bool approve(struct suite *s, const char *slug, json_int_t id, const char *hash,
		    const char *scope)
{
	char number[HUMAN_ID_SIZE];
	struct err e = ERR_INIT;

	number_text(id, number);
	return human_run(s, HUMAN_WORDS("requests", "approve", slug, number, "--hash", hash, scope),
			 NULL, &e) == 0;
}

/* --- H03 --- */

/* The same by the rules is what shows that the refusal is about the rule. */
static void try_decision(struct suite *s, const struct sitting *t, const char *label,
			 bool is_through, const char *detail)
{
	struct selftest_try *try = suite_try(s, t->run, "H03", label), *control;

	try->is_through = is_through;
	(void)snprintf(try->detail, sizeof(try->detail), "%s", detail);
	control = suite_try(s, SELFTEST_RUN_CONTROL, "H03", label);
	control->is_through = t->is_decided;
	(void)snprintf(control->detail, sizeof(control->detail), "an approval as it should be");
}

/* first, alike, last: requests; alike is for a name that looks like first's. */
static bool decide(struct suite *s, struct sitting *t, const json_int_t ids[3])
{
	const char *slug = t->bottle.slug;
	_cleanup_free_ char *first = hash_of(s, slug, ids[0]), *alike = hash_of(s, slug, ids[1]),
			    *wrong = NULL;
	bool is_wrong, is_other;
	json_t *last = show_request(s, slug, ids[2]);

	t->shown_hash = mem_strdup(text_of(last, "hash"));
	t->shown_reason = mem_strdup(text_of(last, "reason"));
	json_decref(last);
	if (!first[0] || !alike[0] || !t->shown_hash[0] || !t->shown_reason[0])
		return false;
	wrong = mem_strdup(t->shown_hash);
	wrong[0] = wrong[0] == '0' ? '1' : '0';
	is_wrong = approve(s, slug, ids[2], wrong, "--for-bottle");
	is_other = approve(s, slug, ids[2], first, "--for-bottle");
	t->is_decided = approve(s, slug, ids[0], first, "--for-bottle");
	try_decision(s, t, "wrong-hash", is_wrong, "one digit of the hash");
	try_decision(s, t, "other-request", is_other, "the hash of another request");
	try_decision(s, t, "replay", approve(s, slug, ids[0], first, "--for-bottle"),
		     "the same approval twice");
	/* Since the first name is allowed now, the second is dangerous for looking like it. */
	try_decision(s, t, "stale", approve(s, slug, ids[1], alike, "--for-bottle"),
		     "its danger is another one than was shown");
	return true;
}

static bool look_at_edited(struct suite *s, struct sitting *t, json_int_t id)
{
	json_t *now = show_request(s, t->bottle.slug, id);
	bool is_same = t->shown_hash && strcmp(text_of(now, "hash"), t->shown_hash) == 0 &&
		       strcmp(text_of(now, "reason"), t->shown_reason) == 0;

	try_decision(s, t, "edited", !is_same, "asked again with other words and more ports");
	json_decref(now);
	return true;
}

/* The one that is held, if it is there. */
static void look_for_held(struct suite *s, struct sitting *t)
{
	json_t *all = run_json(s, HUMAN_WORDS("requests", "list", t->bottle.slug, "--json")), *one;
	size_t i;

	json_array_foreach(all, i, one)
	{
		if (t->held_hash || strcmp(text_of(one, "kind"), "release") != 0)
			continue;
		t->held = json_integer_value(json_object_get(one, "id"));
		t->held_hash = mem_strdup(text_of(one, "hash"));
	}
	json_decref(all);
}

static bool await_held(struct suite *s, struct sitting *t)
{
	uint64_t end_ns = time_monotonic_ns() + HUMAN_HELD_MS * TIME_NS_PER_MS;

	while (!t->held_hash && time_monotonic_ns() < end_ns) {
		look_for_held(s, t);
		if (!t->held_hash)
			(void)usleep(HUMAN_POLL_US);
	}
	return t->held_hash != NULL;
}

static bool is_pending(struct suite *s, const char *slug, json_int_t id)
{
	json_t *j = show_request(s, slug, id);
	bool is = strcmp(text_of(j, "state"), "pending") == 0;

	json_decref(j);
	return is;
}

static bool approve_gone(struct suite *s, struct sitting *t)
{
	uint64_t end_ns = time_monotonic_ns() + HUMAN_HELD_MS * TIME_NS_PER_MS;

	if (!t->held_hash)
		return false;
	while (is_pending(s, t->bottle.slug, t->held) && time_monotonic_ns() < end_ns)
		(void)usleep(HUMAN_POLL_US);
	try_decision(s, t, "gone", approve(s, t->bottle.slug, t->held, t->held_hash, "--once"),
		     "its sender is gone, and with it its time");
	return true;
}

/* --- G08 --- */

/* As somebody would who cleans up there. */
static bool forget_ref(struct suite *s, const char *ref)
{
	_cleanup_free_ char *repository = mem_printf("%s/canary/git/asked.git", s->scratch.root);
	const char *const words[] = {"/usr/bin/env", "GIT_CONFIG_NOSYSTEM=1",
				     "git",	     "-C",
				     repository,     "update-ref",
				     "-d",	     ref};
	struct buf out = BUF_INIT(HUMAN_OUT_MAX);
	struct err e = ERR_INIT;
	int status;

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		suite_add(s, mem_strdup(words[i]));
	status = scratch_run(&s->scratch, s->args, "forget", HUMAN_RUN_S, &out, &e);
	suite_clear(s);
	buf_free(&out);
	return status == 0;
}

static bool approve_once(struct suite *s, const struct sitting *t, json_int_t id)
{
	_cleanup_free_ char *hash = hash_of(s, t->bottle.slug, id);

	return approve(s, t->bottle.slug, id, hash, "--once");
}

/* --- looking --- */

static void look_at_page(struct supervise *v, const char *slug, json_int_t id)
{
	_cleanup_free_ char *path =
		id ? mem_printf("/api/request/%s/%lld", slug, (long long)id) : NULL;
	struct buf out = BUF_INIT(HUMAN_OUT_MAX);
	struct err e = ERR_INIT;

	if (page_get(&v->page, path ? path : "/api/state", &out, &e) == 0)
		look_add_json(&v->faces, LOOK_PAGE, buf_str(&out), false);
	buf_free(&out);
}

static void look_at_request(struct supervise *v, const char *slug, json_int_t id)
{
	struct buf out = BUF_INIT(HUMAN_OUT_MAX);
	char number[HUMAN_ID_SIZE];
	struct err e = ERR_INIT;

	number_text(id, number);
	if (human_run(v->s, HUMAN_WORDS("requests", "show", slug, number), &out, &e) == 0)
		look_add(&v->faces, LOOK_SHOW, buf_str(&out));
	buf_free(&out);
	look_at_page(v, slug, id);
}

static void look_at_file(struct supervise *v, const char *slug, enum look_face face,
			 const char *name)
{
	_cleanup_free_ char *path =
		mem_printf("%s/state/claude-bottle/bottles/%s/%s", v->s->scratch.root, slug, name);
	struct str text;

	if (io_read_file(AT_FDCWD, path, HUMAN_OUT_MAX, &text, NULL) < 0)
		return;
	look_add(&v->faces, face, text);
	free((char *)(uintptr_t)text.p);
}

static void look_at_list(struct supervise *v, const char *slug)
{
	struct buf out = BUF_INIT(HUMAN_OUT_MAX);
	struct err e = ERR_INIT;
	json_t *all = NULL, *one;
	size_t i;

	if (human_run(v->s, HUMAN_WORDS("requests", "list", slug, "--all", "--json"), &out, &e) ==
	    0)
		all = json_loadb(out.p + out.from, buf_len(&out), 0, NULL);
	look_add_json(&v->faces, LOOK_JSON, buf_str(&out), false);
	look_add_requests(&v->faces, buf_str(&out));
	json_array_foreach(all, i, one)
	{
		if (i < HUMAN_SHOWN_MAX)
			look_at_request(v, slug, json_integer_value(json_object_get(one, "id")));
	}
	json_decref(all);
	buf_free(&out);
}

static bool look(struct supervise *v, const char *slug)
{
	const struct {
		enum look_face face;
		const char *words[5];
		bool is_json, is_lines;
	} looks[] = {
		{LOOK_LIST, {"requests", "list", slug, "--all"}, false, false},
		{LOOK_AUDIT, {"requests", "audit", slug}, false, false},
		{LOOK_AUDIT_JSON, {"requests", "audit", slug, "--json"}, true, false},
		{LOOK_LOGS, {"logs", slug}, false, false},
		{LOOK_LOGS_JSON, {"logs", slug, "--json"}, true, true},
	};

	for (size_t i = 0; i < ARRAY_LEN(looks); i++) {
		struct buf out = BUF_INIT(HUMAN_OUT_MAX);
		struct err e = ERR_INIT;

		if (human_run(v->s, looks[i].words, &out, &e) != 0)
			v->faces.n_broken++;
		else if (looks[i].is_json)
			look_add_json(&v->faces, looks[i].face, buf_str(&out), looks[i].is_lines);
		else
			look_add(&v->faces, looks[i].face, buf_str(&out));
		buf_free(&out);
	}
	look_at_page(v, slug, 0);
	look_at_list(v, slug);
	look_at_file(v, slug, LOOK_RECORDS, "records.jsonl");
	look_at_file(v, slug, LOOK_STORE, "requests.db");
	look_at_file(v, slug, LOOK_STORE, "requests.db-wal");
	return true;
}

/* --- what the probe says --- */

static size_t take_numbers(struct str words, json_int_t ids[3])
{
	size_t n = 0;
	bool more = true;

	while (more && n < 3) {
		struct str one;
		uint64_t number;

		words = str_cut(words, ' ', &one, &more);
		if (str_to_u64(one, INT64_MAX, &number) < 0)
			break;
		ids[n++] = (json_int_t)number;
	}
	return n;
}

bool human_do(struct supervise *v, struct sitting *t, struct str words)
{
	struct suite *s = v->s;
	json_int_t ids[3] = {0};
	char ref[320];
	struct str verb;
	size_t n;

	words = str_cut(words, ' ', &verb, &(bool){false});
	n = take_numbers(words, ids);
	if (str_eq(verb, STR_LIT("look")))
		return look(v, t->bottle.slug);
	if (str_eq(verb, STR_LIT("approve")) && n == 1)
		return approve_once(s, t, ids[0]);
	if (str_eq(verb, STR_LIT("decide")) && n == 3)
		return decide(s, t, ids);
	if (str_eq(verb, STR_LIT("edited")) && n == 1)
		return look_at_edited(s, t, ids[0]);
	if (str_eq(verb, STR_LIT("held")))
		return await_held(s, t);
	if (str_eq(verb, STR_LIT("gone")))
		return approve_gone(s, t);
	/* Only what the probe itself has made. */
	return str_eq(verb, STR_LIT("forget")) &&
	       str_starts(words, STR_LIT("refs/heads/try-G08-")) &&
	       str_to_cstr(ref, sizeof(ref), words) && forget_ref(s, ref);
}
