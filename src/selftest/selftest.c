/*
 * Theory of operation: a scratch home with a canary on the host, and a sibling bottle. The attacks
 * run in one bottle as its ordinary user, in a second one as root inside, and outside for the
 * control. More bottles have an empty policy or a malformed one, begin a second life, have their
 * bundle taken apart, outlive their engine. Only then is it judged, from what the canary and the
 * sibling saw.
 */
#include "probe/space.h"
#include "selftest/selftest.h"

#include "probe/only.h"
#include "selftest/suite.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define WITNESSED_MAX (16u << 20)

static int run_in_bottle(struct suite *s, enum selftest_run run, const char *name, struct err *e)
{
	bool is_root = run == SELFTEST_RUN_ROOT;

	suite_progress(is_root ? "attacking as root inside" : "attacking as the agent");
	suite_add_start(s, "selftest", is_root);
	suite_add_probe(s, "attack", name, s->options->only);
	return suite_collect(s, run, name, e);
}

/* Some attacks are run again under other ids, which have no control of their own. */
static char *list_controls(const struct suite *s)
{
	bool is_again = suite_wants(s, "R01") || suite_wants(s, "R04");

	if (!s->options->only)
		return NULL;
	return mem_printf("%s%s", s->options->only, is_again ? "," SUITE_NETWORK_IDS : "");
}

/* The control of C01 has the value open in its environment and, in base64, in a file; that of C11
 * has the canary's key in its environment. */
static int run_control(struct suite *s, struct err *e)
{
	_cleanup_free_ char *planted = mem_printf("%s/canary/planted", s->scratch.root);
	_cleanup_free_ char *key_path = mem_printf("%s/canary/ca.pem.key", s->scratch.root);
	_cleanup_free_ char *only = list_controls(s);
	_cleanup_fclose_ FILE *f = fopen(planted, "we");
	size_t from = s->n_tries;
	struct str key;
	int ret;

	suite_progress("the same with the wall taken away");
	if (!f || fprintf(f, "token: %s\n", s->scratch.secret) < 0 || fflush(f) != 0)
		return err_errno(e, "write \"%s\"", planted);
	ret = io_read_file(AT_FDCWD, key_path, 16384, &key, e);
	if (ret < 0)
		return ret;
	suite_add(s, mem_strdup("/usr/bin/env"));
	suite_add(s, mem_printf("SELFTEST_OPEN=%s", s->scratch.secret));
	suite_add(s, mem_printf("SELFTEST_KEY=" STR_FMT, STR_ARG(key)));
	free((char *)(uintptr_t)key.p);
	ret = suite_add_control(s, only, e);
	if (ret == 0)
		ret = suite_collect(s, SELFTEST_RUN_CONTROL, "control", e);
	for (size_t i = from; i < s->n_tries; i++)
		s->tries[i].is_support = !suite_wants(s, s->tries[i].id);
	return ret;
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
		int status;

		suite_add_start(s, name, false);
		suite_add(s, mem_strdup("/bin/true"));
		status = suite_call(s, name, e);
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

	suite_progress("empty and malformed policies");
	for (size_t i = 0; i < s->n_tries; i++) {
		if (strcmp(s->tries[i].id, "P13") != 0 || s->tries[i].run == SELFTEST_RUN_CONTROL)
			s->tries[kept++] = s->tries[i];
	}
	s->n_tries = kept;
	suite_add_start(s, "empty", false);
	suite_add_probe(s, "attack", "empty", "P13");
	if (suite_collect(s, SELFTEST_RUN_AGENT, "empty", e) < 0)
		return e->code;
	return run_bad_manifests(s, e);
}

/* That the allowed requests of A0 arrived has been judged; that one of them had the real
 * credential, which the agent never had, only the canary's log can tell. */
static bool credential_arrived(const struct suite *s, struct str seen)
{
	for (size_t i = 0; i < s->n_tries; i++) {
		const struct selftest_try *t = &s->tries[i];
		struct str line;

		if (strcmp(t->id, "A0") != 0 || strcmp(t->label, "bound") != 0 ||
		    t->run == SELFTEST_RUN_CONTROL)
			continue;
		line = str_sub(seen, str_find(seen, str_of(t->token)), seen.n);
		line = str_sub(line, 0, str_chr(line, '\n'));
		if (str_find(line, str_of(s->scratch.secret)) == line.n)
			return false;
	}
	return true;
}

static void judge_credential(const struct suite *s, struct selftest_report *out, struct str seen)
{
	bool is_there = credential_arrived(s, seen);

	for (size_t i = 0; !is_there && i < out->n_probes; i++) {
		struct selftest_probe *p = &out->probes[i];

		if (strcmp(p->id, "A0") != 0 || p->verdict != SELFTEST_PASSED)
			continue;
		out->passed--;
		out->failed++;
		p->verdict = SELFTEST_FAILED;
		(void)snprintf(p->text, sizeof(p->text), "the real credential did not arrive");
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

/* The backend that the bottles had, not the one that was asked for: none is weaker in silence. */
static int take_backend(struct suite *s, struct selftest_report *out, struct err *e)
{
	struct scratch_bottle b;
	char own[SPACE_MAX];

	if (!scratch_find_bottle(&s->scratch, NULL, &b))
		return err_set(e, -EPROTO, "no bottle says which backend it has");
	if (s->options->backend && strcmp(b.backend, s->options->backend) != 0)
		return err_set(e, -EPROTO, "backend %s was asked for, and the bottles have %s",
			       s->options->backend, b.backend);
	(void)snprintf(out->backend, sizeof(out->backend), "%s", b.backend);
	(void)snprintf(out->note, sizeof(out->note), "%s", b.note);
	if (s->sibling.net[0] && space_name("self", "net", own))
		out->kernel = space_same_kernel(own, s->sibling.net) ? "shared" : "own";
	return 0;
}

static int suite_judge(struct suite *s, struct selftest_report *out, struct err *e)
{
	struct str canary;
	int ret = scratch_seen(&s->scratch, &canary, e);

	if (ret < 0)
		return ret;
	ret = buf_append_str(&s->witnessed, canary);
	free((char *)(uintptr_t)canary.p);
	if (ret < 0)
		return err_set(e, ret, "the canary has seen too much");
	selftest_judge(out, s->tries, s->n_tries, buf_str(&s->witnessed));
	judge_credential(s, out, buf_str(&s->witnessed));
	fill_titles(out);
	return 0;
}

static int suite_run(struct suite *s, struct selftest_report *out, struct err *e)
{
	int ret;

	suite_progress("setting up a canary and a scratch home");
	ret = scratch_open(&s->scratch, e);
	if (ret == 0)
		ret = sibling_start(s, e);
	if (ret == 0)
		ret = run_in_bottle(s, SELFTEST_RUN_AGENT, "agent", e);
	if (ret == 0)
		ret = take_backend(s, out, e);
	if (ret == 0)
		ret = run_in_bottle(s, SELFTEST_RUN_ROOT, "root", e);
	if (ret == 0)
		ret = sibling_finish(s, e);
	if (ret == 0)
		ret = run_control(s, e);
	if (ret == 0)
		ret = git_run(s, e);
	if (ret == 0)
		ret = mount_run(s, e);
	if (ret == 0)
		ret = supervise_run(s, e);
	if (ret == 0 && suite_wants(s, "P13"))
		ret = run_empty_policy(s, e);
	if (ret == 0)
		ret = again_run(s, e);
	if (ret == 0)
		ret = broken_run(s, e);
	if (ret == 0)
		ret = engine_run(s, e);
	return ret < 0 ? ret : suite_judge(s, out, e);
}

int selftest_run(const struct selftest_options *o, struct selftest_report *out, struct err *e)
{
	struct suite *s = mem_zalloc(sizeof(*s));
	int ret;

	memset(out, 0, sizeof(*out));
	s->options = o;
	s->tries = mem_zalloc_array(SELFTEST_TRIES_MAX, sizeof(*s->tries));
	buf_init(&s->witnessed, WITNESSED_MAX + (64u << 20));
	ret = suite_run(s, out, e);
	suite_clear(s);
	scratch_end(&s->sibling.process);
	scratch_close(&s->scratch);
	buf_free(&s->witnessed);
	free(s->tries);
	free(s);
	return ret;
}
