/*
 * A bottle that has ended: what its state folder may look like, where its runs end, and what commit
 * makes of a backend's answer. No bottle is started here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "cli/resume.h"
#include "cli/logs.h"
#include "cli/runs.h"

#define SLUG "a-1"

static char home[64], state[128];
static int dir = -1;

static void write_file(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
}

static void remove_any(const char *name)
{
	if (unlinkat(dir, name, 0) < 0 && errno == EISDIR)
		assert_int_equal(io_remove_tree(dir, name, NULL), 0);
}

static void write_state(const char *name, const char *text)
{
	_cleanup_free_ char *path = mem_printf("%s/" SLUG "/%s", state, name);

	remove_any(name);
	if (text)
		write_file(path, text);
}

static const char bottle_json[] =
	"{\"version\":1,\"slug\":\"" SLUG "\",\"agent\":\"a\",\"bottle\":\"b\",\"backend\":"
	"\"native\",\"state\":\"ended\",\"pid\":1,\"exit_status\":0}";
#define PLAN_JSON(agent, file, uid)                                                                \
	"{\"version\":1,\"slug\":\"" SLUG "\",\"agent\":\"" agent "\",\"agent_file\":" file        \
	",\"bottle\":\"b\",\"backend\":\"native\",\"agent_uid\":" uid ",\"expose\":[\"/usr/share/" \
	"doc\"],\"secrets\":[{\"credential\":0,\"token_ref\":\"env:T\"}]}"
static const char policy_json[] =
	"{\"version\":1,\"routes\":[{\"host\":\"a.example\",\"ports\":[443],\"methods\":[\"GET\"],"
	"\"paths\":[],\"on_match\":\"block\",\"websocket\":false}],\"resolve\":[]}";

static void write_good(void)
{
	_cleanup_free_ char *file = mem_printf("\"%s/.claude-bottle/agents/a.md\"", home);
	_cleanup_free_ char *plan = mem_printf(PLAN_JSON("a", "%s", "1000"), file);

	write_state("bottle.json", bottle_json);
	write_state("plan.json", plan);
	write_state("policy.json", policy_json);
	write_state("records.jsonl", NULL);
	write_state("runs.jsonl", NULL);
	remove_any("home");
	assert_int_equal(mkdirat(dir, "home", 0700), 0);
}

static int make_home(void **s)
{
	_cleanup_free_ char *path = NULL, *bottle = NULL, *agent = NULL;

	(void)s;
	(void)snprintf(home, sizeof(home), "/tmp/cb-unit-resume-XXXXXX");
	if (!mkdtemp(home) || setenv("HOME", home, 1) < 0)
		return -1;
	(void)unsetenv("XDG_STATE_HOME");
	(void)snprintf(state, sizeof(state), "%s/.local/state/claude-bottle/bottles", home);
	path = mem_printf("%s/" SLUG, state);
	bottle = mem_printf("%s/.claude-bottle/bottles", home);
	agent = mem_printf("%s/.claude-bottle/agents", home);
	if (io_mkdir_p(path, 0700, NULL) < 0 || io_mkdir_p(bottle, 0700, NULL) < 0 ||
	    io_mkdir_p(agent, 0700, NULL) < 0)
		return -1;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? -1 : 0;
}

static int remove_home(void **s)
{
	(void)s;
	close_fd(&dir);
	return io_remove_tree(AT_FDCWD, home, NULL);
}

/* --- the state folder --- */

static void check_refused(const char *why)
{
	struct resume_was w;
	struct err e = ERR_INIT;

	if (resume_read(dir, SLUG, &w, &e) >= 0 || strcmp(e.text, why) != 0)
		fail_msg("expected \"%s\", got \"%s\"", why, e.text);
	assert_null(w.agent);
}

static void test_read(void **s)
{
	struct resume_was w;
	struct err e = ERR_INIT;

	(void)s;
	write_good();
	if (resume_read(dir, SLUG, &w, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(w.agent, "a");
	assert_string_equal(w.bottle, "b");
	assert_int_equal(w.backend, PLAN_BACKEND_NATIVE);
	assert_false(w.is_as_root);
	assert_int_equal(w.n_expose, 1);
	assert_int_equal(w.n_token_refs, 1);
	assert_string_equal(w.token_refs[0], "env:T");
	assert_int_equal(w.policy.n_routes, 1);
	assert_string_equal(w.policy_error, "");
	resume_free(&w);
	/* A start that failed early leaves no home; the next run makes one. */
	assert_int_equal(unlinkat(dir, "home", AT_REMOVEDIR), 0);
	assert_int_equal(resume_read(dir, SLUG, &w, &e), 0);
	resume_free(&w);
	/* The policy is for people to compare. */
	write_state("policy.json", "{");
	assert_int_equal(resume_read(dir, SLUG, &w, &e), 0);
	assert_string_not_equal(w.policy_error, "");
	assert_int_equal(w.policy.n_routes, 0);
	resume_free(&w);
	write_state("policy.json", NULL);
	assert_int_equal(resume_read(dir, SLUG, &w, &e), 0);
	assert_string_equal(w.policy_error, "policy.json is missing");
	resume_free(&w);
	write_state("policy.json", policy_json);
	write_state("git.json", "{");
	assert_int_equal(resume_read(dir, SLUG, &w, &e), 0);
	assert_string_not_equal(w.policy_error, "");
	resume_free(&w);
	write_state("git.json", NULL);
}

static void test_damaged_files(void **s)
{
	static const struct {
		const char *name, *text, *why;
	} rows[] = {
		{"bottle.json", NULL, "bottle.json is missing"},
		{"bottle.json", "", "bottle.json is damaged"},
		{"bottle.json", "{\"version\":", "bottle.json is damaged"},
		{"bottle.json", "[1]", "bottle.json is damaged"},
		{"bottle.json", "{\"version\":1,\"version\":1}", "bottle.json is damaged"},
		{"bottle.json", "{\"version\":2,\"slug\":\"" SLUG "\"}",
		 "bottle.json is not of this version"},
		{"bottle.json", "{\"version\":1,\"slug\":\"a-2\"}",
		 "bottle.json is another bottle's"},
		{"bottle.json", "{\"version\":1,\"slug\":\"" SLUG "\"}",
		 "bottle.json is damaged: \"backend\" makes no sense"},
		{"bottle.json", "{\"version\":1,\"slug\":\"" SLUG "\",\"backend\":\"x\"}",
		 "bottle.json is damaged: \"backend\" makes no sense"},
		{"bottle.json", "{\"version\":1,\"slug\":\"" SLUG "\",\"backend\":\"qemu\"}",
		 "bottle.json and plan.json name different backends"},
		{"plan.json", NULL, "plan.json is missing"},
		{"plan.json", "{}", "plan.json is not of this version"},
		{"plan.json", "{\"version\":1}", "plan.json is another bottle's"},
		{"plan.json", PLAN_JSON("../a", "null", "1000"),
		 "plan.json is damaged: \"agent\" makes no sense"},
		{"plan.json", PLAN_JSON("a", "1", "1000"),
		 "plan.json is damaged: \"agent_file\" makes no sense"},
		{"plan.json", PLAN_JSON("a", "null", "\"0\""),
		 "plan.json is damaged: \"agent_uid\" makes no sense"},
		{"plan.json",
		 "{\"version\":1,\"slug\":\"" SLUG "\",\"agent\":\"a\",\"agent_file\":null,"
		 "\"bottle\":\"b\",\"backend\":\"native\",\"agent_uid\":0,\"expose\":[1],"
		 "\"secrets\":[]}",
		 "plan.json is damaged: \"expose\" makes no sense"},
		{"plan.json",
		 "{\"version\":1,\"slug\":\"" SLUG "\",\"agent\":\"a\",\"agent_file\":null,"
		 "\"bottle\":\"b\",\"backend\":\"native\",\"agent_uid\":0,\"expose\":[],"
		 "\"secrets\":[{}]}",
		 "plan.json is damaged: \"secrets\" makes no sense"},
	};

	(void)s;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		write_good();
		write_state(rows[i].name, rows[i].text);
		check_refused(rows[i].why);
	}
}

static void write_plan_with(const char *more)
{
	_cleanup_free_ char *plan = mem_printf(
		"{\"version\":1,\"slug\":\"" SLUG "\",\"agent\":\"a\",\"agent_file\":null,"
		"\"bottle\":\"b\",\"backend\":\"native\",\"agent_uid\":1000,"
		"\"expose\":[],\"secrets\":[]%s}",
		more);

	write_good();
	write_state("plan.json", plan);
}

static void test_workspace_was(void **s)
{
	struct resume_was w;
	struct err e = ERR_INIT;

	(void)s;
	/* Of a version that had none. */
	write_plan_with("");
	assert_int_equal(resume_read(dir, SLUG, &w, &e), 0);
	assert_int_equal(w.workspace, PLAN_WORKSPACE_NONE);
	resume_free(&w);
	write_plan_with(",\"workspace\":\"none\",\"workspace_path\":null");
	assert_int_equal(resume_read(dir, SLUG, &w, &e), 0);
	assert_null(w.workspace_path);
	resume_free(&w);
	write_plan_with(",\"workspace\":\"clone\",\"workspace_path\":\"/srv/x\"");
	assert_int_equal(resume_read(dir, SLUG, &w, &e), 0);
	assert_int_equal(w.workspace, PLAN_WORKSPACE_CLONE);
	assert_string_equal(w.workspace_path, "/srv/x");
	resume_free(&w);
	write_plan_with(",\"workspace\":\"all\"");
	check_refused("plan.json is damaged: \"workspace\" makes no sense");
	write_plan_with(",\"workspace\":\"clone\",\"workspace_path\":null");
	check_refused("plan.json is damaged: \"workspace\" makes no sense");
	write_plan_with(",\"workspace\":\"mount\",\"workspace_path\":\"x\"");
	check_refused("plan.json is damaged: \"workspace\" makes no sense");
}

static void test_too_large(void **s)
{
	_cleanup_free_ char *text = mem_zalloc((64u << 10) + 2);

	(void)s;
	write_good();
	memset(text, ' ', (64u << 10) + 1);
	write_state("bottle.json", text);
	assert_true(resume_read(dir, SLUG, &(struct resume_was){.agent = NULL}, NULL) < 0);
}

static void test_what_is_no_file_of_ours(void **s)
{
	(void)s;
	write_good();
	(void)unlinkat(dir, "plan.json", 0);
	assert_int_equal(symlinkat("bottle.json", dir, "plan.json"), 0);
	check_refused("plan.json is a symbolic link");
	(void)unlinkat(dir, "plan.json", 0);
	assert_int_equal(mkfifoat(dir, "plan.json", 0600), 0);
	check_refused("plan.json is not a regular file"); /* and does not hang */
	write_good();
	assert_int_equal(fchmodat(dir, "plan.json", 0620, 0), 0);
	check_refused("plan.json may be changed by others (mode 620)");
	write_good();
	assert_int_equal(fchmod(dir, 0702), 0);
	check_refused("its state folder may be changed by others (mode 702)");
	assert_int_equal(fchmod(dir, 0700), 0);
	assert_int_equal(unlinkat(dir, "home", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("/tmp", dir, "home"), 0);
	check_refused("its home is a symbolic link");
	write_state("home", "");
	check_refused("its home is not a folder");
	write_good();
	if (geteuid() != 0)
		return;
	assert_int_equal(fchownat(dir, "bottle.json", 12345, 0, 0), 0);
	check_refused("bottle.json belongs to uid 12345, not to us (uid 0)");
	write_good();
	assert_int_equal(fchown(dir, 12345, 0), 0);
	check_refused("its state folder belongs to uid 12345, not to us (uid 0)");
	assert_int_equal(fchown(dir, 0, 0), 0);
}

/* --- the plan --- */

static void write_manifest(const char *path, const char *text)
{
	_cleanup_free_ char *full = mem_printf("%s/%s", home, path);

	write_file(full, text);
}

static int plan_of(struct resume_was *w, struct plan *p, struct err *e)
{
	struct plan_options o = {.is_headless = true};

	*e = ERR_INIT;
	return resume_plan(w, SLUG, &o, p, e);
}

/* Its folder is the last run's; one that had none gets none. */
static void test_plan_workspace(void **s)
{
	_cleanup_free_ char *repo = mem_printf("%s/../work-repo", home);
	_cleanup_free_ char *heads = mem_printf("%s/.git/refs/heads", repo);
	_cleanup_free_ char *head = mem_printf("%s/.git/HEAD", repo);
	struct resume_was w = {.agent = mem_strdup("a"),
			       .bottle = mem_strdup("b"),
			       .backend = PLAN_BACKEND_NATIVE};
	struct plan p;
	struct err e;

	(void)s;
	assert_int_equal(io_mkdir_p(heads, 0700, NULL), 0);
	write_file(head, "0123456789abcdef0123456789abcdef01234567\n");
	write_manifest(".claude-bottle/bottles/b.md", "---\nworkspace: clone\n---\n");
	assert_int_equal(plan_of(&w, &p, &e), 0);
	assert_int_equal(p.workspace, PLAN_WORKSPACE_NONE);
	plan_free(&p);
	w.workspace = PLAN_WORKSPACE_CLONE;
	w.workspace_path = mem_strdup(repo);
	assert_int_equal(plan_of(&w, &p, &e), 0);
	assert_int_equal(p.workspace, PLAN_WORKSPACE_CLONE);
	assert_non_null(strstr(p.workspace_path, "/work-repo"));
	plan_free(&p);
	write_manifest(".claude-bottle/bottles/b.md", "---\nworkspace: none\n---\n");
	assert_int_equal(plan_of(&w, &p, &e), 0);
	assert_int_equal(p.workspace, PLAN_WORKSPACE_NONE);
	plan_free(&p);
	resume_free(&w);
	assert_int_equal(io_remove_tree(AT_FDCWD, repo, NULL), 0);
}

static void test_plan(void **s)
{
	_cleanup_free_ char *file = mem_printf("%s/.claude-bottle/agents/a.md", home);
	_cleanup_free_ char *theirs = mem_printf("%s/repo/.claude-bottle/agents/a.md", home);
	_cleanup_free_ char *folder = mem_printf("%s/repo/.claude-bottle/agents", home);
	struct resume_was w = {.agent = mem_strdup("a"),
			       .bottle = mem_strdup("b"),
			       .agent_file = mem_strdup(file),
			       .backend = PLAN_BACKEND_NATIVE};
	struct plan p;
	struct err e;

	(void)s;
	write_manifest(".claude-bottle/bottles/b.md", "---\nbackend: docker\n---\n");
	write_manifest(".claude-bottle/bottles/c.md", "---\n---\n");
	write_manifest(".claude-bottle/agents/a.md", "---\nbottle: c\n---\nsay it\n");
	/* The bottle and the backend that it was in, though the manifests name others by now. */
	if (plan_of(&w, &p, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(p.slug, SLUG);
	assert_string_equal(p.bottle, "b");
	assert_string_equal(p.agent, "a");
	assert_int_equal(p.backend, PLAN_BACKEND_NATIVE);
	assert_int_equal(p.agent_uid, 1000);
	assert_string_equal(p.command[p.n_command - 1], "say it");
	plan_free(&p);
	w.is_as_root = true;
	assert_int_equal(plan_of(&w, &p, &e), 0);
	assert_int_equal(p.agent_uid, 0);
	plan_free(&p);
	/* An agent of a repository: found from anywhere, but not once the home has that name. */
	assert_int_equal(io_mkdir_p(folder, 0700, NULL), 0);
	write_file(theirs, "---\nbottle: b\n---\ntheirs\n");
	free(w.agent_file);
	w.agent_file = mem_strdup(theirs);
	assert_int_equal(plan_of(&w, &p, &e), -EEXIST);
	assert_non_null(strstr(e.text, "rename one of them"));
	assert_null(p.slug);
	write_manifest(".claude-bottle/agents/x.md", "---\nbottle: b\n---\n");
	assert_int_equal(unlink(file), 0);
	assert_int_equal(plan_of(&w, &p, &e), 0);
	assert_string_equal(p.command[p.n_command - 1], "theirs");
	plan_free(&p);
	/* None of either. */
	assert_int_equal(unlink(theirs), 0);
	assert_int_equal(plan_of(&w, &p, &e), -ENOENT);
	free(w.agent_file);
	w.agent_file = mem_strdup("/etc/passwd");
	assert_int_equal(plan_of(&w, &p, &e), -EBADMSG);
	assert_string_equal(e.text, "plan.json is damaged: \"agent_file\" makes no sense");
	/* Started with a bottle and a command alone. */
	free(w.agent_file);
	w.agent_file = NULL;
	assert_int_equal(plan_of(&w, &p, &e), 0);
	assert_null(p.agent_file);
	assert_string_equal(p.agent, "b");
	plan_free(&p);
	resume_free(&w);
}

/* --- the records --- */

static void test_runs(void **s)
{
	static const char *const damaged[] = {
		"x\n",
		"{\"after\":1}\n",
		"{\"after\":-1,\"hash\":"
		"\"0000000000000000000000000000000000000000000000000000000000000000\"}\n",
		"{\"after\":1,\"hash\":"
		"\"0000000000000000000000000000000000000000000000000000000000000000\"}",
		"{\"after\":1,\"hash\":\"00\"}\n",
		"\n"};
	struct runs_end end = {.after = 0};
	struct err e = ERR_INIT;
	struct runs r;

	(void)s;
	write_good();
	record_chain_start(end.hash_hex);
	assert_int_equal(runs_load(dir, &r, &e), 0);
	assert_int_equal(r.n, 0);
	for (uint64_t i = 0; i < 3; i++) {
		end.after = i * 7;
		assert_int_equal(runs_add(dir, &r, &end, &e), 0);
		runs_free(&r);
		assert_int_equal(runs_load(dir, &r, &e), 0);
		assert_int_equal(r.n, i + 1);
		/* A run that failed before it recorded anything leaves no second one. */
		assert_int_equal(runs_add(dir, &r, &end, &e), 0);
		runs_free(&r);
		assert_int_equal(runs_load(dir, &r, &e), 0);
		assert_int_equal(r.n, i + 1);
	}
	assert_int_equal(r.ends[2].after, 14);
	assert_string_equal(r.ends[2].hash_hex, end.hash_hex);
	runs_free(&r);
	for (size_t i = 0; i < ARRAY_LEN(damaged); i++) {
		write_state("runs.jsonl", damaged[i]);
		assert_int_equal(runs_load(dir, &r, &e), -EBADMSG);
		assert_string_equal(e.text, "runs.jsonl is damaged in line 1");
		assert_int_equal(resume_mark(dir, &e), -EBADMSG);
	}
	write_state("runs.jsonl", NULL);
	assert_int_equal(symlinkat("bottle.json", dir, "runs.jsonl"), 0);
	assert_int_equal(runs_load(dir, &r, &e), -ELOOP);
}

static void test_runs_cap(void **s)
{
	struct runs_end ends[RUNS_MAX], next = {.after = RUNS_MAX};
	struct err e = ERR_INIT;
	struct runs r = {ends, 0}, got;

	(void)s;
	write_good();
	for (; r.n < RUNS_MAX - 1; r.n++) {
		ends[r.n] = (struct runs_end){.after = INT64_MAX - RUNS_MAX + r.n};
		record_chain_start(ends[r.n].hash_hex);
	}
	next = (struct runs_end){.after = INT64_MAX};
	record_chain_start(next.hash_hex);
	assert_int_equal(runs_add(dir, &r, &next, &e), 0);
	assert_int_equal(runs_load(dir, &got, &e), 0);
	assert_int_equal(got.n, RUNS_MAX);
	next.after = 1;
	assert_int_equal(runs_add(dir, &got, &next, &e), -E2BIG);
	assert_string_equal(e.text, "it has been resumed 1000 times, and no more are counted");
	runs_free(&got);
}

static void test_mark(void **s)
{
	_cleanup_(buf_free) struct buf b;
	_cleanup_free_ char *whole = NULL, *cut = NULL;
	struct err e = ERR_INIT;
	char hash[RECORD_HASH_HEX];
	struct runs r;

	(void)s;
	write_good();
	/* No records: the start failed before there were any. */
	assert_int_equal(resume_mark(dir, &e), 0);
	assert_int_equal(runs_load(dir, &r, &e), 0);
	assert_int_equal(r.ends[0].after, 0);
	runs_free(&r);
	record_chain_start(hash);
	buf_init(&b, 65536);
	for (uint64_t i = 1; i <= 3; i++) {
		struct record one;

		record_init(&one, "pipelock", RECORD_BLOCK, "host-not-allowed");
		assert_int_equal(record_to_line(&b, &one, i, 1, hash, &e), 0);
		assert_int_equal(buf_append(&b, "\n", 1), 0);
	}
	whole = str_dup(buf_str(&b));
	/* What a killed run leaves: its last line is cut, and is not counted. */
	cut = mem_printf("%s{\"seq\":4,\"ti", whole);
	write_state("records.jsonl", cut);
	assert_int_equal(resume_mark(dir, &e), 0);
	assert_int_equal(runs_load(dir, &r, &e), 0);
	assert_int_equal(r.n, 2);
	assert_int_equal(r.ends[1].after, 3);
	assert_string_equal(r.ends[1].hash_hex, hash);
	runs_free(&r);
	/* Shorter than it was at the last resume. */
	write_state("records.jsonl", "");
	assert_int_equal(resume_mark(dir, &e), -EBADMSG);
	assert_string_equal(e.text, "nothing can be added to its records: the chain breaks after "
				    "record 0: the bottle was resumed after record 3, which is "
				    "not there");
	*strstr(whole, "not-allowed") = 'N';
	write_state("records.jsonl", whole);
	assert_int_equal(resume_mark(dir, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "record 1 was changed"));
	write_state("records.jsonl", NULL);
	assert_int_equal(symlinkat("bottle.json", dir, "records.jsonl"), 0);
	assert_int_equal(resume_mark(dir, &e), -ELOOP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_damaged_files),
		cmocka_unit_test(test_workspace_was),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_what_is_no_file_of_ours),
		cmocka_unit_test(test_plan),
		cmocka_unit_test(test_plan_workspace),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_runs_cap),
		cmocka_unit_test(test_mark),
	};

	return cmocka_run_group_tests(tests, make_home, remove_home);
}
