/*
 * R02, R03, R04, C13: a bottle whose agent attacks without end (probe/beat.c) while its bundle is
 * taken apart from outside. A role is killed and must come back, with nothing let through
 * meanwhile; keyd is frozen, so that nothing can be intercepted, and then nothing may pass; at last
 * init is killed, and the bottle ends. An engine is restarted by whoever can. That allowed requests
 * arrived before is the control of their absence after.
 */
#include "selftest/processes.h"
#include "selftest/suite.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define SETTLE_US  (300 * 1000) /* what was under way when a process died has arrived by then */
#define WINDOW_US  (700 * 1000)
#define RECOVER_MS 15000
#define END_S	   20
#define POLL_US	   10000

struct broken {
	struct suite *s;
	struct scratch_process process;
	struct scratch_bottle bottle;
	struct process list[PROCESSES_MAX];
	size_t n;
	char allowed[64]; /* what every allowed request's token begins with */
};

/* Whether the canary has seen an allowed request past this point of its log; *size: its length. */
static bool has_arrived(const struct broken *b, size_t from, size_t *size)
{
	struct str seen, after;
	bool found;

	if (scratch_seen(&b->s->scratch, &seen, NULL) < 0)
		return false;
	after = str_sub(seen, from, seen.n);
	found = str_find(after, str_of(b->allowed)) < after.n;
	if (size)
		*size = seen.n;
	free((char *)(uintptr_t)seen.p);
	return found;
}

static bool await_arrival(const struct broken *b, size_t from)
{
	uint64_t end_ns = time_monotonic_ns() + RECOVER_MS * TIME_NS_PER_MS;

	while (!has_arrived(b, from, NULL)) {
		if (time_monotonic_ns() >= end_ns)
			return false;
		(void)usleep(POLL_US);
	}
	return true;
}

/* What the beat tries, as its first lines say. Of these nothing may arrive at any time. */
static int take_beat(struct broken *b, const char *name, struct err *e)
{
	struct suite *s = b->s;
	size_t from = s->n_tries, kept = from;
	_cleanup_free_ char *whole = NULL;
	struct str text;
	int ret = scratch_output(&s->scratch, name, &text, e);

	if (ret < 0)
		return ret;
	whole = mem_printf(STR_FMT "\nend\n", STR_ARG(text));
	free((char *)(uintptr_t)text.p);
	ret = selftest_parse_tries(str_of(whole), SELFTEST_RUN_AGENT, s->tries, &s->n_tries, e);
	for (size_t i = from; i < s->n_tries; i++) {
		if (strcmp(s->tries[i].label, "allowed") != 0) {
			s->tries[kept++] = s->tries[i];
			continue;
		}
		memcpy(b->allowed, s->tries[i].token, sizeof(b->allowed));
	}
	s->n_tries = kept;
	return ret < 0 || b->allowed[0] ? ret : err_set(e, -EPROTO, "the beat does not beat");
}

/* The control of all of it: one round outside. */
static int run_control(struct suite *s, struct err *e)
{
	size_t from = s->n_tries;
	int ret;

	for (size_t i = 0; i < s->n_tries; i++) {
		if (s->tries[i].run == SELFTEST_RUN_CONTROL && strcmp(s->tries[i].id, "R02") == 0)
			return 0; /* was there already */
	}
	ret = suite_add_control(s, NULL, e);
	if (ret < 0)
		return ret;
	suite_add(s, mem_strdup("role=beat"));
	suite_add(s, mem_strdup("as=R02"));
	suite_add(s, mem_strdup("rounds=1"));
	ret = suite_collect(s, SELFTEST_RUN_CONTROL, "beat-control", e);
	for (size_t i = from; i < s->n_tries; i++)
		s->tries[i].is_support = !suite_wants(s, s->tries[i].id);
	return ret;
}

static int start_beat(struct broken *b, const char *agent, const char *as, struct err *e)
{
	struct suite *s = b->s;
	char last_words[400];
	int ret;

	suite_add_start(s, agent, false);
	suite_add_probe(s, "attack", agent, NULL);
	suite_add(s, mem_strdup("role=beat"));
	suite_add(s, mem_printf("as=%s", as));
	ret = suite_spawn(s, agent, &b->process, e);
	if (ret < 0)
		return ret;
	{
		_cleanup_free_ char *last = mem_printf("%s\tallowed", as);

		if (suite_await_line(s, &b->process, last, SUITE_START_MS) &&
		    scratch_find_bottle(&s->scratch, agent, &b->bottle)) {
			ret = take_beat(b, agent, e);
			if (ret < 0 || await_arrival(b, 0))
				return ret;
		}
	}
	scratch_last_words(&s->scratch, agent, last_words, sizeof(last_words));
	return err_set(e, -EIO, "bottle %s: nothing that is allowed arrives: %s", agent,
		       last_words);
}

/* --- what is broken --- */

static struct selftest_try *check(struct broken *b, const char *id, const char *label,
				  const char *detail)
{
	struct selftest_try *t = suite_try(b->s, SELFTEST_RUN_CONTROL, id, label);

	/* The bottle was up and what is allowed arrived: that is how it got this far. */
	t->is_through = true;
	t = suite_try(b->s, SELFTEST_RUN_AGENT, id, label);
	(void)snprintf(t->detail, sizeof(t->detail), "%s", detail);
	return t;
}

/* Gone, and another one in its place; then allowed requests arrive again. */
static void kill_role(struct broken *b, const char *role)
{
	const struct process *p = processes_role(b->list, b->n, role);
	_cleanup_free_ char *label = mem_printf("%s-recovers", role);
	struct selftest_try *t = check(b, "R03", label, "nothing that is allowed arrives any more");
	pid_t old = p ? p->pid : 0;
	size_t size = 0;

	if (!p || !processes_signal(p, SIGKILL)) {
		t->is_skipped = true;
		(void)snprintf(t->detail, sizeof(t->detail), "%s cannot be killed: %s", role,
			       p ? strerror(errno) : "it is not there");
		return;
	}
	(void)usleep(SETTLE_US);
	(void)has_arrived(b, 0, &size);
	t->is_through = !await_arrival(b, size);
	b->n = processes_find(b->bottle.keeper, b->bottle.slug, b->list);
	p = processes_role(b->list, b->n, role);
	if (!t->is_through && (!p || p->pid == old)) {
		t->is_through = true;
		(void)snprintf(t->detail, sizeof(t->detail), "%s was not started again", role);
	}
}

/* Without keyd there is no certificate for any host, and a pipelock that has just begun has none
 * left over: what cannot be intercepted must not pass. */
static void freeze_keyd(struct broken *b)
{
	const struct process *keyd = processes_role(b->list, b->n, "keyd"),
			     *pipelock = processes_role(b->list, b->n, "pipelock");
	struct selftest_try *t;
	size_t size = 0;

	if (!keyd || !pipelock || !processes_signal(keyd, SIGSTOP)) {
		suite_skip(b->s, "C13", "no-interception", "keyd cannot be stopped by this user");
		return;
	}
	t = check(b, "C13", "no-interception", "a request passed without keyd");
	(void)processes_signal(pipelock, SIGKILL);
	(void)usleep(SETTLE_US);
	(void)has_arrived(b, 0, &size);
	(void)usleep(WINDOW_US);
	t->is_through = has_arrived(b, size, NULL);
	(void)processes_signal(keyd, SIGCONT);
	t = check(b, "C13", "recovers", "nothing arrives after keyd went on");
	(void)has_arrived(b, 0, &size);
	t->is_through = !await_arrival(b, size);
	b->n = processes_find(b->bottle.keeper, b->bottle.slug, b->list);
}

static int kill_init(struct broken *b, struct err *e)
{
	struct selftest_try *t;
	size_t size = 0;
	int status;

	if (b->n == 0 || !processes_signal(&b->list[0], SIGKILL)) {
		suite_skip(b->s, "R02", "kill", "the bundle's init cannot be killed by this user");
		scratch_end(&b->process);
		return 0;
	}
	(void)usleep(SETTLE_US);
	(void)has_arrived(b, 0, &size);
	status = scratch_wait(&b->process, END_S, e);
	(void)usleep(SETTLE_US);
	t = check(b, "R02", "after-the-kill", "an allowed request passed without a bundle");
	t->is_through = has_arrived(b, size, NULL);
	t = check(b, "R02", "ends", "");
	(void)scratch_find_bottle(&b->s->scratch, "broken", &b->bottle);
	t->is_through =
		status <= 0 || strcmp(b->bottle.state, "ended") != 0 || b->bottle.reason[0] == '\0';
	(void)snprintf(t->detail, sizeof(t->detail), "state %s, status %d, reason \"%.100s\"",
		       b->bottle.state, status, b->bottle.reason);
	if (status == -ETIMEDOUT)
		*e = ERR_INIT; /* that is what was asked */
	return 0;
}

/* The beat goes by R02; R03's window is the same one. */
static void share_beat(struct suite *s, size_t from)
{
	size_t end = s->n_tries;

	for (size_t i = from; i < end; i++) {
		struct selftest_try *t;

		if (s->tries[i].run != SELFTEST_RUN_AGENT || strcmp(s->tries[i].id, "R02") != 0)
			continue;
		t = suite_try(s, SELFTEST_RUN_AGENT, "R03", s->tries[i].label);
		*t = s->tries[i];
		(void)snprintf(t->id, sizeof(t->id), "R03");
		(void)snprintf(t->origin, sizeof(t->origin), "R02");
	}
}

static void drop_unwanted(struct suite *s, size_t from)
{
	size_t kept = from;

	for (size_t i = from; i < s->n_tries; i++) {
		if (s->tries[i].is_support || suite_wants(s, s->tries[i].id))
			s->tries[kept++] = s->tries[i];
	}
	s->n_tries = kept;
}

int broken_run(struct suite *s, struct err *e)
{
	static const char *const ids[] = {"R02", "R03", "C13"};
	struct broken b = {.s = s};
	size_t from = s->n_tries;
	int ret;

	if (!suite_wants(s, "R02") && !suite_wants(s, "R03") && !suite_wants(s, "C13"))
		return 0;
	suite_progress("taking a bundle apart");
	ret = run_control(s, e);
	if (ret == 0)
		ret = start_beat(&b, "broken", "R02", e);
	if (ret < 0) {
		scratch_end(&b.process);
		return ret;
	}
	share_beat(s, from);
	b.n = processes_find(b.bottle.keeper, b.bottle.slug, b.list);
	if (b.n == 0) {
		scratch_end(&b.process);
		s->n_tries = from;
		for (size_t i = 0; i < ARRAY_LEN(ids); i++)
			suite_skip(s, ids[i], "bundle",
				   "this user cannot see the bundle's processes here");
		return 0;
	}
	kill_role(&b, "pipelock");
	kill_role(&b, "egress");
	freeze_keyd(&b);
	ret = kill_init(&b, e);
	drop_unwanted(s, from);
	return ret;
}

/* --- R04: the engine --- */

/* As the user who gave it: it needs whatever that one's environment says. */
static int run_restart(const char *command, struct err *e)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		(void)dup2(STDERR_FILENO, STDOUT_FILENO);
		(void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return err_errno(e, "run the engine's restart");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0
		       ? 0
		       : err_set(e, -EIO, "--engine-restart: \"%s\" failed", command);
}

/* A bottle that runs while the engine goes away: it may live on or end, but nothing gets out of it.
 * What is started afterwards is attacked as if it were the first. */
int engine_run(struct suite *s, struct err *e)
{
	struct broken b = {.s = s};
	size_t from = s->n_tries;
	int ret;

	if (!suite_wants(s, "R04"))
		return 0;
	if (!s->options->engine_restart) {
		suite_skip(s, "R04", "restart",
			   "it needs --engine-restart COMMAND, and a backend with an engine");
		return 0;
	}
	suite_progress("restarting the engine");
	ret = run_control(s, e);
	if (ret == 0)
		ret = start_beat(&b, "engine", "R04", e);
	if (ret == 0)
		ret = run_restart(s->options->engine_restart, e);
	if (ret == 0)
		(void)usleep(WINDOW_US);
	scratch_end(&b.process);
	for (size_t i = from; i < s->n_tries; i++) {
		if (strcmp(s->tries[i].id, "R04") == 0)
			(void)snprintf(s->tries[i].origin, sizeof(s->tries[i].origin), "R02");
	}
	return ret < 0 ? ret : again_attack(s, "again", "R04", e);
}
