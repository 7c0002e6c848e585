/*
 * Theory of operation: a scratch home with a canary on the host; the attacks run in one bottle as
 * its ordinary user, in a second one as root inside, and outside for the control. Two more bottles,
 * with an empty policy and with malformed ones, must let nothing out or not start. Only then is it
 * judged, from the canary's log.
 */
#include "selftest/selftest.h"

#include "probe/only.h"
#include "selftest/scratch.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define RUN_TIMEOUT_S 180
#define ARGS_MAX      40

struct suite {
	const struct selftest_options *options;
	struct scratch scratch;
	struct selftest_try *tries;
	size_t n_tries;
	char *args[ARGS_MAX]; /* owned */
	size_t n_args;
};

static void progress(const char *text)
{
	if (isatty(STDERR_FILENO))
		(void)fprintf(stderr, "selftest: %s\n", text);
}

static void args_add(struct suite *s, char *owned)
{
	if (s->n_args + 1 >= ARGS_MAX)
		die("too many arguments");
	s->args[s->n_args++] = owned;
	s->args[s->n_args] = NULL;
}

static void args_clear(struct suite *s)
{
	while (s->n_args > 0)
		free(s->args[--s->n_args]);
	s->args[0] = NULL;
}

static void args_add_target(struct suite *s, const char *key)
{
	char value[256];

	if (scratch_target(&s->scratch, key, value, sizeof(value)))
		args_add(s, mem_printf("%s=%s", key, value));
}

static void args_add_probe(struct suite *s, const char *mode, const char *uid, const char *only)
{
	static const char *const targets[] = {"tls", "plain",	 "any",	 "loop",
					      "dns", "abstract", "path", "host"};

	args_add(s, mem_strdup(s->scratch.bundle));
	args_add(s, mem_strdup("probe"));
	args_add(s, mem_printf("mode=%s", mode));
	args_add(s, mem_printf("uid=%s", uid));
	args_add(s, mem_printf("nonce=%s", s->scratch.nonce));
	args_add(s, mem_printf("secret_mask=%s", s->scratch.secret_mask));
	if (only)
		args_add(s, mem_printf("only=%s", only));
	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		args_add_target(s, targets[i]);
}

static void args_add_start(struct suite *s, const char *agent, bool is_root)
{
	args_add(s, mem_strdup(s->scratch.self));
	args_add(s, mem_strdup("start"));
	args_add(s, mem_strdup("--headless"));
	if (s->options->backend)
		args_add(s, mem_printf("--backend=%s", s->options->backend));
	if (is_root)
		args_add(s, mem_strdup("--as-root"));
	args_add(s, mem_strdup(agent));
	args_add(s, mem_strdup("--"));
}

/* Runs what args say and takes its tries in. */
static int suite_collect(struct suite *s, enum selftest_run run, const char *name, struct err *e)
{
	char last_words[400];
	struct buf out;
	int ret;

	buf_init(&out, 4u << 20);
	ret = scratch_run(&s->scratch, s->args, name, RUN_TIMEOUT_S, &out, e);
	if (ret > 0) {
		scratch_last_words(&s->scratch, name, last_words, sizeof(last_words));
		ret = err_set(e, -EIO, "%s: exit status %d: %s", name, ret, last_words);
	}
	if (ret == 0) {
		ret = selftest_parse_tries(buf_str(&out), run, s->tries, &s->n_tries, e);
		if (ret < 0)
			(void)err_prefix(e, "%s", name);
	}
	buf_free(&out);
	args_clear(s);
	return ret;
}

static int run_in_bottle(struct suite *s, enum selftest_run run, const char *name, struct err *e)
{
	bool is_root = run == SELFTEST_RUN_ROOT;

	progress(is_root ? "attacking as root inside" : "attacking as the agent");
	args_add_start(s, "selftest", is_root);
	args_add_probe(s, "attack", is_root ? "root" : "agent", s->options->only);
	return suite_collect(s, run, name, e);
}

/* The control of C01 has the value open in its environment and, in base64, in a file. */
static int run_control(struct suite *s, struct err *e)
{
	_cleanup_free_ char *planted = mem_printf("%s/canary/planted", s->scratch.root);
	_cleanup_fclose_ FILE *f = fopen(planted, "we");
	char port[16];

	progress("the same with the wall taken away");
	if (!f || fprintf(f, "token: %s\n", s->scratch.secret) < 0 || fflush(f) != 0)
		return err_errno(e, "write \"%s\"", planted);
	if (!scratch_target(&s->scratch, "proxy", port, sizeof(port)))
		return err_set(e, -EPROTO, "the canary has no proxy");
	args_add(s, mem_strdup("/usr/bin/env"));
	args_add(s, mem_printf("SELFTEST_OPEN=%s", s->scratch.secret));
	args_add_probe(s, "control", "agent", s->options->only);
	args_add(s, mem_printf("proxy=%s", port));
	args_add(s, mem_strdup("pinned=127.0.0.1"));
	args_add(s, mem_strdup("placeholder=cbph-control-control-control-control"));
	args_add(s, mem_strdup("canary_secret=dpl_controlcontrolcontrolcontrolcontrolcontrol"));
	return suite_collect(s, SELFTEST_RUN_CONTROL, "control", e);
}

/* A policy that is not one: the bottle must not start, and says where it is wrong. */
static int run_bad_manifests(struct suite *s, struct err *e)
{
	static const char *const names[] = {"bad-key", "bad-wildcard", "bad-yaml", "bad-head",
					    "missing"};

	for (size_t i = 0; i < ARRAY_LEN(names) + 1; i++) {
		/* The last one is the control: a good manifest does start. */
		bool is_control = i == ARRAY_LEN(names);
		const char *name = is_control ? "selftest" : names[i];
		struct buf out;
		int status;

		args_add_start(s, name, false);
		args_add(s, mem_strdup("/bin/true"));
		buf_init(&out, 65536);
		status = scratch_run(&s->scratch, s->args, name, RUN_TIMEOUT_S, &out, e);
		buf_free(&out);
		args_clear(s);
		if (status < 0)
			return status;
		for (size_t k = 0; k < ARRAY_LEN(names) && s->n_tries < SELFTEST_TRIES_MAX; k++) {
			struct selftest_try t = {.id = "P13", .is_through = status == 0};

			if (!is_control && k != i)
				continue;
			t.run = is_control ? SELFTEST_RUN_CONTROL : SELFTEST_RUN_AGENT;
			(void)snprintf(t.label, sizeof(t.label), "%s", names[k]);
			scratch_last_words(&s->scratch, name, t.detail, sizeof(t.detail));
			s->tries[s->n_tries++] = t;
		}
	}
	return 0;
}

/* With an empty policy nothing gets out: P13's own tries come from that bottle, so those of the
 * ordinary one, where the same requests are allowed, are dropped. */
static int run_empty_policy(struct suite *s, struct err *e)
{
	size_t kept = 0;

	progress("empty and malformed policies");
	for (size_t i = 0; i < s->n_tries; i++) {
		if (strcmp(s->tries[i].id, "P13") != 0 || s->tries[i].run == SELFTEST_RUN_CONTROL)
			s->tries[kept++] = s->tries[i];
	}
	s->n_tries = kept;
	args_add_start(s, "empty", false);
	args_add_probe(s, "attack", "empty", "P13");
	if (suite_collect(s, SELFTEST_RUN_AGENT, "empty", e) < 0)
		return e->code;
	return run_bad_manifests(s, e);
}

/* A0 is no attack: the allowed requests arrived, one of them with the real credential, which the
 * agent never had. */
static const char *find_missing(const struct suite *s, struct str seen)
{
	for (size_t i = 0; i < s->n_tries; i++) {
		const struct selftest_try *t = &s->tries[i];
		struct str line;
		size_t at;

		if (strcmp(t->id, "A0") != 0 || t->run == SELFTEST_RUN_CONTROL)
			continue;
		at = str_find(seen, str_of(t->token));
		if (at == seen.n)
			return t->detail;
		line = str_sub(seen, at, seen.n);
		line = str_sub(line, 0, str_chr(line, '\n'));
		if (strcmp(t->label, "bound") == 0 &&
		    str_find(line, str_of(s->scratch.secret)) == line.n)
			return "the real credential did not arrive";
	}
	return NULL;
}

static void judge_baseline(const struct suite *s, struct selftest_report *out, struct str seen)
{
	const char *missing = find_missing(s, seen);

	for (size_t i = 0; i < out->n_probes; i++) {
		struct selftest_probe *p = &out->probes[i];

		if (strcmp(p->id, "A0") != 0)
			continue;
		out->failed -= p->verdict == SELFTEST_FAILED;
		out->passed -= p->verdict == SELFTEST_PASSED;
		out->skipped -= p->verdict == SELFTEST_SKIPPED;
		p->verdict = missing ? SELFTEST_FAILED : SELFTEST_PASSED;
		out->failed += missing != NULL;
		out->passed += missing == NULL;
		(void)snprintf(p->control, sizeof(p->control), "succeeded");
		(void)snprintf(p->text, sizeof(p->text), "%s%.200s",
			       missing ? "an allowed request did not arrive: " : "",
			       missing ? missing : "");
	}
}

static void fill_titles(struct selftest_report *out)
{
	static const struct {
		const char *id, *title;
	} titles[] = {
#define SELFTEST_TITLE(id, title) {id, title},
#include "probe/titles.def"
	};

	for (size_t i = 0; i < out->n_probes; i++) {
		for (size_t k = 0; k < ARRAY_LEN(titles); k++) {
			if (strcmp(out->probes[i].id, titles[k].id) == 0)
				(void)snprintf(out->probes[i].title, sizeof(out->probes[i].title),
					       "%s", titles[k].title);
		}
	}
}

static int suite_run(struct suite *s, struct selftest_report *out, struct err *e)
{
	struct str seen;
	int ret;

	progress("setting up a canary and a scratch home");
	ret = scratch_open(&s->scratch, e);
	if (ret == 0)
		ret = run_in_bottle(s, SELFTEST_RUN_AGENT, "agent", e);
	if (ret == 0)
		ret = run_in_bottle(s, SELFTEST_RUN_ROOT, "root", e);
	if (ret == 0)
		ret = run_control(s, e);
	if (ret == 0 && probe_is_wanted(s->options->only, "P13"))
		ret = run_empty_policy(s, e);
	if (ret == 0)
		ret = scratch_seen(&s->scratch, &seen, e);
	if (ret < 0)
		return ret;
	selftest_judge(out, s->tries, s->n_tries, seen);
	judge_baseline(s, out, seen);
	fill_titles(out);
	free((char *)(uintptr_t)seen.p);
	return 0;
}

int selftest_run(const struct selftest_options *o, struct selftest_report *out, struct err *e)
{
	struct suite *s = mem_zalloc(sizeof(*s));
	int ret;

	memset(out, 0, sizeof(*out));
	(void)snprintf(out->backend, sizeof(out->backend), "%s",
		       o->backend ? o->backend : "native");
	s->options = o;
	s->tries = mem_zalloc_array(SELFTEST_TRIES_MAX, sizeof(*s->tries));
	ret = suite_run(s, out, e);
	args_clear(s);
	scratch_close(&s->scratch);
	free(s->tries);
	free(s);
	return ret;
}
