/*
 * The judge of one push: a process of its own, forked from the worker when git's hook has named the
 * updates and the quarantine. In order, each step only if the one before had nothing against it:
 *
 *   lock    the mirror is this push's until its worker ends
 *   refs    which refs may move, and how (refs.h)
 *   check   every new object (check.h)
 *   record  that it is forwarded
 *   upstream_push
 *
 * and only then git may move the mirror's refs. Until upstream_push nothing of the push is known to
 * anybody outside. Names of refs and paths are the agent's, the upstream's words a stranger's: both
 * are shown visible. A name may be the very secret that the push is refused for, or would have been
 * had it come so far: it is told and recorded masked.
 */
#include "gitgate/approval.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <stdio.h>

#define PUSH_LIST_MAX  (64u << 20) /* of git's list of refs */
#define PUSH_STEP_MS   60000	   /* of a small git command */
#define PUSH_REPORT_NS (TIME_NS_PER_SEC * 2)
#define PUSH_SHOWN     400 /* of a ref's name, or of what failed */

struct push {
	const struct push_input *in;
	char mirror[STORE_PATH_MAX];
	struct git_run_env git; /* with the quarantine */
	struct refs_facts facts;
	enum refs_type types[CHECK_UPDATES_MAX];
	struct check_report report;
	struct upstream_ref_result results[CHECK_UPDATES_MAX];
	uint64_t deadline_ns;
	bool is_approved; /* by a human, for what would have needed it */
	uint8_t id[8];	  /* of the last record */
};

/* --- verdicts --- */

static void push_show_ref(const struct push *p, size_t i, char *shown, size_t size)
{
	check_name_show(p->in->job->g->config.engine, shown, size, str_of(p->in->updates[i].ref));
}

static bool push_record(struct push *p, enum record_verdict v, const char *reason, const char *rule,
			const char *detail)
{
	return gitgate_record_rule(p->in->job, v, reason, rule, "push", 0, detail, p->id);
}

/* The words were said. */
static int push_refuse(struct push *p, const char *reason, const char *rule, const char *detail)
{
	if (!push_record(p, RECORD_BLOCK, reason, rule, detail))
		hook_say(p->in->hook_fd, "git-gate: the refusal could not be recorded");
	return 1;
}

static int push_fail(struct push *p, const struct err *e)
{
	char shown[PUSH_SHOWN];

	text_visible_once_cstr(shown, sizeof(shown), str_of(e->text));
	log_warn("a push was refused: %s", shown);
	hook_say(p->in->hook_fd, "git-gate: refused: %s; nothing was forwarded", shown);
	return push_refuse(p, "push-failed", "", shown);
}

/* --- what git knows --- */

static uint64_t step_deadline(const struct push *p)
{
	uint64_t step = time_monotonic_ns() + PUSH_STEP_MS * TIME_NS_PER_MS;

	return step < p->deadline_ns ? step : p->deadline_ns;
}

static int push_git(struct push *p, bool in_quarantine, const char *const *argv, struct str in,
		    struct buf *out, struct err *e)
{
	struct git_run_env env = p->git;
	int ret;

	if (!in_quarantine)
		env.quarantine = NULL;
	ret = git_run(&env, argv, in, out, NULL, step_deadline(p), e);
	return ret > 0 ? err_set(e, -EIO, "git %s has failed (%d)", argv[0], ret) : ret;
}

static int push_facts(struct push *p, struct err *e)
{
	static const char *const argv[] = {"for-each-ref", "--format=%(objectname) %(refname)",
					   NULL};
	struct buf out;
	int ret;

	buf_init(&out, PUSH_LIST_MAX);
	ret = push_git(p, false, argv, STR_NULL, &out, e);
	if (ret == 0)
		ret = refs_facts_parse(&p->facts, buf_str(&out), e);
	buf_free(&out);
	store_head(p->in->job->g->store, p->in->job->remote, &p->facts);
	return ret;
}

static enum refs_type type_of(struct str name)
{
	if (str_eq(name, STR_LIT("commit")))
		return REFS_TYPE_COMMIT;
	if (str_eq(name, STR_LIT("tag")))
		return REFS_TYPE_TAG;
	return REFS_TYPE_OTHER;
}

/* "oid type", a line for each that was asked for, in order. */
static int push_types(struct push *p, struct err *e)
{
	static const char *const argv[] = {"cat-file", "--batch-check=%(objectname) %(objecttype)",
					   NULL};
	size_t cap = p->in->n * (GIT_OID_SIZE + 32) + 1;
	struct buf ask, out;
	struct str rest, line;
	bool more = true;
	int ret = 0;

	buf_init(&ask, cap);
	buf_init(&out, cap);
	for (size_t i = 0; i < p->in->n && ret == 0; i++) {
		if (!commands_is_zero(p->in->updates[i].new_oid))
			ret = buf_printf(&ask, "%s\n", p->in->updates[i].new_oid);
	}
	if (ret == 0 && buf_len(&ask) > 0)
		ret = push_git(p, true, argv, buf_str(&ask), &out, e);
	rest = buf_str(&out);
	for (size_t i = 0; i < p->in->n && ret == 0; i++) {
		struct str oid;

		p->types[i] = REFS_TYPE_NONE;
		if (commands_is_zero(p->in->updates[i].new_oid))
			continue;
		rest = str_cut(rest, '\n', &line, &more);
		line = str_cut(line, ' ', &oid, &(bool){false});
		if (!str_eq(oid, str_of(p->in->updates[i].new_oid)))
			ret = err_set(e, -EPROTO, "git does not know an object of the push");
		p->types[i] = type_of(line);
	}
	buf_free(&ask);
	buf_free(&out);
	return ret;
}

static bool push_is_ancestor(const char *old_oid, const char *new_oid, void *ctx)
{
	struct push *p = ctx;
	const char *const argv[] = {"merge-base", "--is-ancestor", old_oid, new_oid, NULL};
	struct err e = ERR_INIT;
	struct buf out;
	int ret;

	buf_init(&out, 4096);
	ret = git_run(&p->git, argv, STR_NULL, &out, NULL, step_deadline(p), &e);
	buf_free(&out);
	return ret == 0;
}

/* --- refs --- */

static void say_patterns(const struct push *p, const char *what, char *const *patterns, size_t n)
{
	char line[1024];
	size_t at = 0;

	for (size_t i = 0; i < n && at < sizeof(line); i++) {
		int put =
			snprintf(line + at, sizeof(line) - at, "%s%s", i ? ", " : "", patterns[i]);

		at += put > 0 ? (size_t)put : 0;
	}
	hook_say(p->in->hook_fd, "git-gate: %s that may be pushed: %s", what, n ? line : "none");
}

static int push_refs(struct push *p)
{
	const struct git_remote *remote = p->in->job->remote;
	struct refs_input in = {
		.remote = remote,
		.facts = &p->facts,
		.updates = p->in->updates,
		.types = p->types,
		.n = p->in->n,
		.is_ancestor = push_is_ancestor,
		.ctx = p,
	};
	enum refs_reason why;
	char shown[PUSH_SHOWN];
	size_t which;

	why = refs_decide(&in, &which);
	if (why == REFS_OK)
		return 0;
	push_show_ref(p, which, shown, sizeof(shown));
	hook_say(p->in->hook_fd, "git-gate: refused: %s: %s: %s", refs_reason_name(why), shown,
		 refs_reason_text(why));
	if (why == REFS_BRANCH || why == REFS_PROTECTED || why == REFS_HEAD)
		say_patterns(p, "branches", remote->branches, remote->n_branches);
	if (why == REFS_TAG)
		say_patterns(p, "tags", remote->tags, remote->n_tags);
	return push_refuse(p, refs_reason_name(why), "", shown);
}

/* --- the scan --- */

static int push_check(struct push *p)
{
	const struct gitgate *g = p->in->job->g;
	const struct check_input in = {
		.policy = g->config.policy,
		.remote = p->in->job->remote,
		.git = &p->git,
		.engine = g->config.engine,
		.updates = p->in->updates,
		.n_updates = p->in->n,
		.objects_max = CHECK_OBJECTS_MAX,
		.deadline_ns = p->deadline_ns,
	};
	struct err e = ERR_INIT;
	char detail[160];
	int ret;

	if (check_push(&in, &p->report, &e) < 0)
		return push_fail(p, &e);
	if (p->report.n_findings == 0)
		return 0;
	p->is_approved = approval_is_enough(p->in, &p->report) && approval_spend(p->in);
	if (p->is_approved)
		return 0;
	/* Written down first: it may be asked for by its record. */
	words_summary(&p->report, detail, sizeof(detail));
	ret = push_refuse(p, words_reason(&p->report), p->report.findings[0].rule, detail);
	approval_canary(p->in, &p->report, p->id);
	words_findings(p->in->hook_fd, g->config.policy, &p->report);
	if (strcmp(words_reason(&p->report), "push-needs-approval") == 0)
		words_approval(p->in->hook_fd,
			       approval_offer(p->in, &p->report, p->id) ? p->id : NULL);
	return ret;
}

/* --- the upstream --- */

static void say_upstream(const struct push *p, struct str said)
{
	bool more = said.n > 0;

	while (more) {
		struct str line;

		said = str_cut(said, '\n', &line, &more);
		if (line.n > 0)
			hook_say(p->in->hook_fd, "upstream: " STR_FMT, STR_ARG(line));
	}
}

static int push_forward(struct push *p)
{
	const struct push_input *in = p->in;
	struct err e = ERR_INIT;
	struct buf said;
	char detail[160], first[100], shown[PUSH_SHOWN];
	int ret;

	push_show_ref(p, 0, first, sizeof(first));
	(void)snprintf(detail, sizeof(detail), "%zu ref%s, first %s, %llu objects scanned", in->n,
		       in->n == 1 ? "" : "s", first, (unsigned long long)p->report.n_objects);
	if (!push_record(p, RECORD_ALLOW, "push-forwarded", p->is_approved ? "approved" : "",
			 detail))
		return hook_say(in->hook_fd, "git-gate: refused: the push could not be recorded"),
		       1;
	buf_init(&said, UPSTREAM_TEXT_MAX);
	ret = upstream_push(&in->job->g->upstream, in->job->remote, &p->git, in->updates, in->n,
			    p->results, &said, &e);
	say_upstream(p, buf_str(&said));
	buf_free(&said);
	if (ret == 0)
		return 0;
	for (size_t i = 0; ret == -EPERM && i < in->n; i++) {
		if (p->results[i].is_ok)
			continue;
		push_show_ref(p, i, shown, sizeof(shown));
		hook_say(in->hook_fd, "git-gate: the upstream refused %s: %s", shown,
			 p->results[i].reason);
	}
	if (ret != -EPERM) {
		text_visible_once_cstr(shown, sizeof(shown), str_of(e.text));
		hook_say(in->hook_fd, "git-gate: the upstream did not take the push: %s", shown);
	}
	(void)push_record(p, RECORD_NOTE, "upstream-refused", "", detail);
	return 1;
}

/* --- the whole --- */

static int push_lock(struct push *p, struct err *e)
{
	uint64_t now = time_monotonic_ns();
	int ret = store_lock_take(p->in->lock_fd, now + PUSH_REPORT_NS, NULL);

	if (ret != -ETIMEDOUT)
		return ret < 0 ? err_set(e, ret, "the mirror cannot be locked") : 0;
	hook_say(p->in->hook_fd, "git-gate: waiting for another request on this repository");
	return store_lock_take(p->in->lock_fd, now + GITGATE_LOCK_MS * TIME_NS_PER_MS, e);
}

static int push_decide(struct push *p)
{
	struct err e = ERR_INIT;
	int ret;

	if (p->in->n == 0 || p->in->n > CHECK_UPDATES_MAX)
		return 1;
	if (store_bytes(p->in->job->g->store) > GITGATE_STORE_MAX_BYTES) {
		(void)err_set(&e, -ENOSPC, "git-gate's mirrors have grown too large");
		return push_fail(p, &e);
	}
	if (push_lock(p, &e) < 0 || push_facts(p, &e) < 0 || push_types(p, &e) < 0)
		return push_fail(p, &e);
	ret = push_refs(p);
	if (ret == 0)
		ret = push_check(p);
	return ret == 0 ? push_forward(p) : ret;
}

int push_run(const struct push_input *in)
{
	static struct push p;
	int ret;

	p.in = in;
	store_mirror(in->job->g->store, in->job->remote, p.mirror);
	p.git = (struct git_run_env){.repo = p.mirror, .quarantine = in->quarantine};
	p.deadline_ns = time_monotonic_ns() + GITGATE_PUSH_MS * TIME_NS_PER_MS;
	ret = push_decide(&p);
	refs_facts_free(&p.facts);
	return hook_answer(in->hook_fd, ret == 0 ? 0 : 1) < 0 ? 1 : ret;
}
