/* The real git, with what it must not obey put where it looks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "gitgate/git_run.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

static char top[] = "/tmp/cb-git-run-XXXXXX";
static char *repo;

static uint64_t soon(unsigned ms)
{
	return time_monotonic_ns() + ms * TIME_NS_PER_MS;
}

static int run(const struct git_run_env *env, const char *const *argv, struct str in,
	       struct buf *out, struct buf *err_text)
{
	struct err e = ERR_INIT;
	int ret = git_run(env, argv, in, out, err_text, soon(20000), &e);

	if (ret < 0)
		print_error("%s\n", e.text);
	return ret;
}

static int setup(void **state)
{
	struct git_run_env env = {0};
	struct buf out;

	(void)state;
	assert_non_null(mkdtemp(top));
	repo = mem_printf("%s/repo.git", top);
	env.repo = repo;
	buf_init(&out, 65536);
	assert_int_equal(run(&env, (const char *const[]){"init", "--bare", "-q", NULL}, STR_NULL,
			     &out, NULL),
			 0);
	buf_free(&out);
	return 0;
}

static int teardown(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	free(repo);
	return io_remove_tree(AT_FDCWD, top, &e);
}

static void test_output_and_status(void **state)
{
	const struct git_run_env env = {.repo = repo};
	struct buf out, said;

	(void)state;
	buf_init(&out, 4096);
	buf_init(&said, 16);
	assert_int_equal(run(&env, (const char *const[]){"hash-object", "-w", "--stdin", NULL},
			     STR_LIT("hello\n"), &out, NULL),
			 0);
	assert_memory_equal(buf_str(&out).p, "ce013625030ba8dba906f756967f9e9ca394464a\n", 41);
	buf_reset(&out);
	assert_int_equal(run(&env, (const char *const[]){"rev-parse", "--verify", "none", NULL},
			     STR_NULL, &out, &said),
			 128);
	assert_int_equal(buf_len(&said), 16); /* cut, and no failure */
	assert_memory_equal(buf_str(&said).p, "fatal: ", 7);
	buf_free(&out);
	buf_free(&said);
}

static void test_too_much_output(void **state)
{
	const struct git_run_env env = {.repo = repo};
	struct err e = ERR_INIT;
	struct buf out;

	(void)state;
	buf_init(&out, 8);
	assert_int_equal(git_run(&env, (const char *const[]){"version", NULL}, STR_NULL, &out, NULL,
				 soon(20000), &e),
			 -EFBIG);
	buf_free(&out);
}

/* More than pipes hold, both ways: nobody waits for the other for ever. */
static void test_large_both_ways(void **state)
{
	const struct git_run_env env = {.repo = repo};
	size_t n = 4u << 20;
	char *text = mem_zalloc(n);
	struct buf out;

	(void)state;
	memset(text, 'x', n);
	for (size_t i = 63; i < n; i += 64)
		text[i] = '\n';
	buf_init(&out, 2 * n);
	assert_int_equal(run(&env, (const char *const[]){"stripspace", NULL}, str_slice(text, n),
			     &out, NULL),
			 0);
	assert_int_equal(buf_len(&out), n);
	/* A command that does not read its input. */
	buf_reset(&out);
	assert_int_equal(
		run(&env, (const char *const[]){"version", NULL}, str_slice(text, n), &out, NULL),
		0);
	buf_free(&out);
	free(text);
}

static void test_time_limit(void **state)
{
	const struct git_run_env env = {.repo = repo};
	struct err e = ERR_INIT;
	struct git_child c;
	uint64_t start = time_monotonic_ns();

	(void)state;
	/* Waits for its input, which stays open at our copy of the descriptor. */
	assert_int_equal(git_run_start(&env, (const char *const[]){"cat-file", "--batch", NULL},
				       (int[]){-1, -1, -1}, -1, &c, &e),
			 0);
	{
		_cleanup_close_ int held = fcntl(c.in_fd, F_DUPFD_CLOEXEC, 3);
		pid_t pid = c.pid;

		assert_true(held >= 0);
		assert_int_equal(git_run_wait(&c, soon(100), &e), -ETIMEDOUT);
		assert_int_equal(kill(pid, 0), -1);
		assert_int_equal(errno, ESRCH);
	}
	assert_true(time_monotonic_ns() - start < 5 * TIME_NS_PER_SEC);
}

static void write_script(const char *path, const char *text)
{
	struct err e = ERR_INIT;

	assert_int_equal(io_write_file_atomic(AT_FDCWD, path, str_of(text), 0755, &e), 0);
}

/* A stand-in for git that shows its environment and descriptors. */
static void test_environment(void **state)
{
	_cleanup_free_ char *program = mem_printf("%s/show", top);
	_cleanup_free_ char *quarantine = mem_printf("%s/objects/q", repo);
	_cleanup_free_ char *expected =
		mem_printf("GIT_ALTERNATE_OBJECT_DIRECTORIES=%s/objects\n", repo);
	const struct git_run_env env = {.repo = repo,
					.quarantine = quarantine,
					.program = program,
					.extra = (const char *const[]){"CB_TEST=yes", NULL}};
	static const char *const present[] = {"\nHOME=/nonexistent\n",
					      "\nGIT_CONFIG_NOSYSTEM=1\n",
					      "\nCB_TEST=yes\n",
					      "\nGIT_ALLOW_PROTOCOL=ssh\n",
					      "\nfd 7\n",
					      "\nargument one two\n"};
	static const char *const absent[] = {"LEAKED", "/planted", "\nfd 8\n", "SSH_AUTH_SOCK"};
	struct err e = ERR_INIT;
	struct git_child c;
	struct buf out;
	ssize_t n;

	(void)state;
	write_script(
		program,
		"#!/bin/sh\necho\n/usr/bin/env\n"
		"for f in /proc/$$/fd/*; do echo \"fd ${f##*/}\"; done\necho \"argument $1\"\n");
	assert_int_equal(setenv("LEAKED", "1", 1), 0);
	assert_int_equal(setenv("GIT_DIR", "/planted", 1), 0);
	assert_int_equal(dup2(STDIN_FILENO, 7), 7);
	assert_int_equal(dup2(STDIN_FILENO, 8), 8);
	(void)signal(SIGTERM, SIG_IGN);
	buf_init(&out, 65536);
	assert_int_equal(git_run_start(&env, (const char *const[]){"one two", NULL},
				       (int[]){-1, -1, -1}, 7, &c, &e),
			 0);
	while ((n = read(c.out_fd, buf_reserve(&out, 4096), 4096)) > 0)
		buf_commit(&out, (size_t)n);
	assert_int_equal(git_run_wait(&c, soon(10000), &e), 0);
	(void)signal(SIGTERM, SIG_DFL);
	(void)close(7);
	(void)close(8);
	assert_int_equal(unsetenv("GIT_DIR"), 0);
	assert_true(str_find(buf_str(&out), str_of(expected)) < buf_len(&out));
	for (size_t i = 0; i < ARRAY_LEN(present); i++) {
		if (str_find(buf_str(&out), str_of(present[i])) == buf_len(&out))
			fail_msg("missing: %s", present[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(absent); i++) {
		if (str_find(buf_str(&out), str_of(absent[i])) < buf_len(&out))
			fail_msg("present: %s", absent[i]);
	}
	buf_free(&out);
}

/* The mirror's own configuration does not win over ours, and no hook of its runs. */
static void test_configuration_wins(void **state)
{
	const struct git_run_env env = {.repo = repo};
	_cleanup_free_ char *hook = mem_printf("%s/hooks/reference-transaction", repo);
	_cleanup_free_ char *hooks = mem_printf("%s/hooks", repo);
	_cleanup_free_ char *ran = mem_printf("%s/ran", top);
	_cleanup_free_ char *text = mem_printf("#!/bin/sh\necho >%s\n", ran);
	static const struct {
		const char *key, *value;
	} cases[] = {{"core.hooksPath", "/dev/null\n"},
		     {"protocol.allow", "never\n"},
		     {"core.fsmonitor", "false\n"},
		     {"receive.fsckObjects", "true\n"}};
	struct err e = ERR_INIT;
	struct buf out;

	(void)state;
	buf_init(&out, 65536);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(
			run(&env,
			    (const char *const[]){"config", "--local", cases[i].key, hooks, NULL},
			    STR_NULL, &out, NULL),
			0);
		buf_reset(&out);
		assert_int_equal(run(&env, (const char *const[]){"config", cases[i].key, NULL},
				     STR_NULL, &out, NULL),
				 0);
		assert_true(str_eq(buf_str(&out), str_of(cases[i].value)));
		buf_reset(&out);
	}
	assert_int_equal(io_mkdir_p(hooks, 0755, &e), 0);
	write_script(hook, text);
	assert_int_equal(
		run(&env, (const char *const[]){"config", "--local", "core.hooksPath", hooks, NULL},
		    STR_NULL, &out, NULL),
		0);
	assert_int_equal(run(&env,
			     (const char *const[]){"symbolic-ref", "HEAD", "refs/heads/x", NULL},
			     STR_NULL, &out, NULL),
			 0);
	assert_int_equal(
		run(&env,
		    (const char *const[]){"commit-tree", "-m", "x",
					  "4b825dc642cb6eb9a060e54bf8d69288fbee4904", NULL},
		    STR_NULL, &out, NULL),
		128); /* nobody's identity */
	assert_int_equal(access(ran, F_OK), -1);
	buf_free(&out);
}

static void test_no_transport_but_ssh(void **state)
{
	const struct git_run_env env = {.repo = repo};
	static const char *const urls[] = {"file:///etc", "/etc", "git://127.0.0.1/x",
					   "http://127.0.0.1/x", "ext::sh -c true"};
	struct buf out, said;

	(void)state;
	buf_init(&out, 65536);
	buf_init(&said, 65536);
	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		buf_reset(&said);
		assert_int_equal(run(&env, (const char *const[]){"ls-remote", urls[i], NULL},
				     STR_NULL, &out, &said),
				 128);
		if (str_find(buf_str(&said), STR_LIT("not allowed")) == buf_len(&said))
			fail_msg("%s: " STR_FMT, urls[i], STR_ARG(buf_str(&said)));
	}
	buf_free(&out);
	buf_free(&said);
}

static void test_bad_paths(void **state)
{
	static const char *const paths[] = {"relative", "/a:b", "/a\"b", "/a/../b", "/a\nb"};
	struct err e = ERR_INIT;
	struct git_child c;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		const struct git_run_env env = {.repo = paths[i]};

		assert_int_equal(git_run_start(&env, (const char *const[]){"version", NULL},
					       (int[]){-1, -1, -1}, -1, &c, &e),
				 -EINVAL);
	}
}

static void test_program_missing(void **state)
{
	const struct git_run_env env = {.repo = repo, .program = "/nonexistent/git"};
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	assert_int_equal(run(&env, (const char *const[]){"version", NULL}, STR_NULL, &out, NULL),
			 127);
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output_and_status),
		cmocka_unit_test(test_too_much_output),
		cmocka_unit_test(test_large_both_ways),
		cmocka_unit_test(test_time_limit),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_configuration_wins),
		cmocka_unit_test(test_no_transport_but_ssh),
		cmocka_unit_test(test_bad_paths),
		cmocka_unit_test(test_program_missing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
