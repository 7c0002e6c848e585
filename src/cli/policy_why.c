/*
 * A record holds what was decided and why in one word; the bottle's policy.json holds what was
 * allowed at that time and which line of which manifest said so. Put together they answer the
 * question that people ask after a refusal. Records hold what an agent sent: everything shown goes
 * through text_visible().
 */
#include "cli/policy_why.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/policy_git.h"
#include "cli/policy_show.h"
#include "cli/runs.h"
#include "record/record.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>

#define RECORD_ID_MIN	  4
#define RECORD_ID_MAX	  16
#define RECORD_LINE_LIMIT 65536

struct found {
	char slug[PLACES_SLUG_MAX];
	char *line; /* of records.jsonl */
	json_t *record;
	bool is_ambiguous;
};

static void found_free(struct found *f)
{
	free(f->line);
	json_decref(f->record);
}

static const char *member(const json_t *record, const char *key)
{
	const char *s = json_string_value(json_object_get(record, key));

	return s ? s : "";
}

/* A line that has the id, or begins with it where only a prefix was given. */
static void take_line(struct found *f, const char *slug, const char *line, const char *id)
{
	json_t *record;

	if (strlen(line) > RECORD_LINE_LIMIT || !strstr(line, id))
		return;
	record = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	if (record && strncmp(member(record, "id"), id, strlen(id)) == 0) {
		if (f->record && strcmp(member(f->record, "id"), member(record, "id")) != 0)
			f->is_ambiguous = true;
		if (!f->record) {
			f->record = json_incref(record);
			f->line = mem_strdup(line);
			(void)!str_to_cstr(f->slug, sizeof(f->slug), str_of(slug));
		}
	}
	json_decref(record);
}

static void search_bottle(struct found *f, int bottles, const char *slug, const char *id)
{
	_cleanup_close_ int dir =
		openat(bottles, slug, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_fclose_ FILE *file = NULL;
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int fd;

	if (dir < 0)
		return;
	fd = openat(dir, "records.jsonl", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return;
	file = fdopen(fd, "r");
	if (!file) {
		(void)close(fd);
		return;
	}
	while ((n = getline(&line, &size, file)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = '\0';
		take_line(f, slug, line, id);
	}
}

static int search_all(struct found *f, int bottles, const char *id, struct err *e)
{
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *entry;
	int copy = fcntl(bottles, F_DUPFD_CLOEXEC, 3);

	if (copy < 0)
		return err_errno(e, "the state folder");
	dir = fdopendir(copy);
	if (!dir) {
		(void)close(copy);
		return err_errno(e, "the state folder");
	}
	while ((entry = readdir(dir)))
		if (places_slug_is_valid(entry->d_name))
			search_bottle(f, bottles, entry->d_name, id);
	if (f->is_ambiguous)
		return err_set(e, -EINVAL, "more than one record begins with %s", id);
	return f->record ? 0 : err_set(e, -ENOENT, "no bottle has a record %s", id);
}

/* What the record asked for, with today's answer. At most one of the two. */
struct asked {
	const struct policy_question *request;
	const struct policy_git_question *git;
};

/* The policy's own answer to the same request. False where the record is not about one. */
static bool decide_again(const struct policy *p, const json_t *record, struct policy_question *q,
			 char canonical[POLICY_HOST_MAX + 1])
{
	const char *path = member(record, "path");
	enum policy_method method;
	enum policy_reason reason;

	q->host = str_of(member(record, "host"));
	q->port = (uint16_t)json_integer_value(json_object_get(record, "port"));
	q->method = member(record, "method");
	q->path = str_of(path);
	if (q->host.n == 0)
		return false;
	reason = policy_host_canonical(q->host, canonical);
	if (reason != POLICY_OK)
		q->decision = (struct policy_decision){.reason = reason};
	else if (!policy_method_parse(str_of(q->method), &method) || q->path.n == 0)
		q->decision = policy_decide_authority(p, str_of(canonical), q->port);
	else
		q->decision = policy_decide(p, str_of(canonical), q->port, method, q->path);
	return true;
}

static bool is_policy_reason(const char *name)
{
	for (unsigned r = POLICY_OK + 1; r < POLICY_REASON_COUNT; r++)
		if (strcmp(name, policy_reason_name((enum policy_reason)r)) == 0)
			return true;
	return false;
}

static int show_member(struct buf *out, const json_t *record, const char *key, const char *label)
{
	int bad;

	if (!*member(record, key))
		return 0;
	bad = buf_printf(out, "  %-8s ", label);
	bad |= text_visible(out, str_of(member(record, key)), 400);
	return bad | buf_append(out, "\n", 1);
}

static int show_request(struct buf *out, const struct policy_question *q)
{
	const struct policy_route *r = q->decision.route;
	int bad = buf_printf(out, "  %-8s ", "request");

	bad |= text_visible(out, str_of(q->method), 20);
	bad |= buf_append(out, " ", *q->method ? 1 : 0);
	bad |= text_visible(out, q->host, 300);
	bad |= buf_printf(out, ":%u", (unsigned)q->port);
	bad |= text_visible(out, q->path, 300);
	bad |= buf_append(out, "\n", 1);
	if (r && r->origin_file)
		bad |= buf_printf(out, "  %-8s %s:%u (%s)\n", "route", r->origin_file,
				  r->origin_line, r->host);
	else if (r && r->grant)
		bad |= buf_printf(out, "  %-8s granted: request %llu (%s)\n", "route",
				  (unsigned long long)r->grant, r->host);
	return bad;
}

static int show_git(struct buf *out, const struct policy_git_question *q)
{
	const struct git_remote *r = q->remote;
	int bad = buf_printf(out, "  %-8s %s", "git", q->method);

	if (q->ref[0]) {
		bad |= buf_append(out, " ", 1);
		bad |= text_visible(out, str_of(q->ref), 300);
	}
	bad |= buf_append(out, "\n", 1);
	return bad | (r->origin_file ? buf_printf(out, "  %-8s %s:%u (%s)\n", "remote",
						  r->origin_file, r->origin_line, r->name)
				     : buf_printf(out, "  %-8s %s\n", "remote", r->name));
}

/* Of a request that a human was asked about. */
static const char *held_hint(const char *reason)
{
	static const struct {
		const char *reason, *hint;
	} hints[] = {
		{"held-released", "it was held, and you let it go as it was"},
		{"held-refused", "it was held, and you refused it"},
		{"held-expired",
		 "it was held, and nobody decided in time; exactly the same passes once "
		 "when you grant it later"},
	};

	for (size_t i = 0; i < ARRAY_LEN(hints); i++) {
		if (strcmp(reason, hints[i].reason) == 0)
			return hints[i].hint;
	}
	return NULL;
}

/* What the human could do, by the record's own reason. */
static const char *hint_of(const struct found *f, const struct asked *a)
{
	const char *reason = member(f->record, "reason");

	if (strcmp(member(f->record, "role"), "gitgate") == 0)
		return policy_git_hint(reason);
	if (a->request && is_policy_reason(reason) && policy_show_hint(a->request->decision.reason))
		return policy_show_hint(a->request->decision.reason);
	if (strcmp(member(f->record, "verdict"), record_verdict_name(RECORD_HOLD)) == 0)
		return "it waits for you, or has: see what \"requests list\" says, and later "
		       "records";
	if (held_hint(reason))
		return held_hint(reason);
	return *member(f->record, "rule")
		       ? "the destination is allowed; what was in the request was not"
		       : NULL;
}

static int show_text(struct buf *out, const struct found *f, const struct asked *a)
{
	const char *hint = hint_of(f, a);
	int bad = buf_printf(out, "record %s of bottle %s\n", member(f->record, "id"), f->slug);

	bad |= show_member(out, f->record, "time", "time");
	bad |= show_member(out, f->record, "verdict", "verdict");
	bad |= show_member(out, f->record, "reason", "reason");
	bad |= show_member(out, f->record, "role", "by");
	bad |= show_member(out, f->record, "scanner", "scanner");
	bad |= show_member(out, f->record, "rule", "rule");
	bad |= show_member(out, f->record, "detail", "detail");
	if (a->request)
		bad |= show_request(out, a->request);
	if (a->git)
		bad |= show_git(out, a->git);
	if (hint)
		bad |= buf_printf(out, "  %-8s %s\n", "hint", hint);
	return bad;
}

static int show_json(struct buf *out, const struct found *f, const struct asked *a)
{
	int bad = buf_printf(out, "{\"bottle\":\"%s\",\"record\":", f->slug);

	/* The line was parsed above and is one JSON object. */
	bad |= buf_append_str(out, str_of(f->line));
	bad |= buf_printf(out, ",\"policy\":%s", a->request || a->git ? "{" : "null");
	if (a->request)
		bad |= policy_show_json(out, NULL, a->request);
	else if (a->git)
		bad |= policy_git_json(out, NULL, a->git);
	if (a->request || a->git)
		bad |= buf_append(out, "}", 1);
	return bad | buf_append(out, "}\n", 2);
}

/* policy.json is the last run's. */
static bool is_of_earlier_run(const struct found *f, int bottles)
{
	_cleanup_close_ int dir =
		openat(bottles, f->slug, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	json_int_t seq = json_integer_value(json_object_get(f->record, "seq"));
	struct runs runs;
	bool is_earlier;

	if (dir < 0 || runs_load(dir, &runs, NULL) < 0)
		return false;
	is_earlier = runs.n > 0 && seq > 0 && (uint64_t)seq <= runs.ends[runs.n - 1].after;
	runs_free(&runs);
	return is_earlier;
}

int policy_why(const char *id, bool is_json)
{
	_cleanup_(found_free) struct found f = {.line = NULL};
	_cleanup_(policy_free) struct policy p = {0};
	_cleanup_(git_policy_free) struct git_policy g = {0};
	_cleanup_(buf_free) struct buf out;
	_cleanup_close_ int bottles = -1;
	struct policy_question q = {0};
	struct policy_git_question git;
	char canonical[POLICY_HOST_MAX + 1];
	struct asked asked = {NULL, NULL};
	struct err e = ERR_INIT;
	int r;

	buf_init(&out, 1u << 20);
	r = places_bottles_open(false, &bottles, &e);
	if (r == -ENOENT && !e.code)
		r = err_set(&e, -ENOENT, "no bottle has a record %s", id);
	if (r == 0)
		r = search_all(&f, bottles, id, &e);
	if (r < 0)
		return cli_fail(&e);
	/* Without its policy a record can still be shown. */
	if (policy_load_slug(bottles, f.slug, &p, &e) < 0 ||
	    policy_load_git(bottles, f.slug, &g, &e) < 0)
		cli_note("the policy of bottle %s cannot be read", f.slug);
	else if (is_of_earlier_run(&f, bottles))
		cli_note("bottle %s was resumed since: what is said of routes and remotes is about "
			 "its policy of now",
			 f.slug);
	if (strcmp(member(f.record, "role"), "gitgate") == 0)
		asked.git = policy_git_of_record(&g, f.record, &git) ? &git : NULL;
	else
		asked.request = decide_again(&p, f.record, &q, canonical) ? &q : NULL;
	if ((is_json ? show_json : show_text)(&out, &f, &asked) != 0) {
		(void)err_set(&e, -ENOBUFS, "the record is too long to show");
		return cli_fail(&e);
	}
	return cli_print(&out);
}
