/* The looks at a machine's monitor: what stands in no cell is seen to have everything; what stands
 * in namespaces, without capabilities, has only what is left open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "double.h"
#include "selftest/processes.h"
#include "selftest/suite.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct suite suite;
static struct selftest_options options;

static int make_suite(void **state)
{
	static const char root[] = "/tmp/selftest-monitor-XXXXXX";
	_cleanup_free_ char *key = NULL, *folder = NULL;

	(void)state;
	memset(&suite, 0, sizeof(suite));
	suite.options = &options;
	memcpy(suite.scratch.root, root, sizeof(root));
	assert_non_null(mkdtemp(suite.scratch.root));
	assert_int_equal(chmod(suite.scratch.root, 0755), 0);
	folder = mem_printf("%s/home/.ssh", suite.scratch.root);
	assert_int_equal(io_mkdir_p(folder, 0755, NULL), 0);
	key = mem_printf("%s/home/" SCRATCH_KEY, suite.scratch.root);
	assert_int_equal(io_write_file_atomic(AT_FDCWD, key, STR_LIT("x"), 0644, NULL), 0);
	(void)snprintf(suite.scratch.secret, sizeof(suite.scratch.secret), "secret-of-test");
	suite.tries = mem_zalloc_array(SELFTEST_TRIES_MAX, sizeof(*suite.tries));
	assert_true(space_name("self", "net", suite.sibling.net));
	return 0;
}

static int remove_suite(void **state)
{
	(void)state;
	free(suite.tries);
	return io_remove_tree(AT_FDCWD, suite.scratch.root, NULL);
}

static const struct selftest_try *find(enum selftest_run run, const char *label)
{
	for (size_t i = 0; i < suite.n_tries; i++)
		if (suite.tries[i].run == run && strcmp(suite.tries[i].label, label) == 0)
			return &suite.tries[i];
	fail_msg("there is no try %s", label);
	return NULL;
}

/* Seen through on both sides, or left out on both (of what this host cannot show). */
static void assert_open(const char *label)
{
	const struct selftest_try *inside = find(SELFTEST_RUN_AGENT, label),
				  *control = find(SELFTEST_RUN_CONTROL, label);

	if (control->is_skipped)
		print_message("%s: %s\n", label, control->detail);
	else
		assert_true(inside->is_through && control->is_through);
}

static void assert_closed(const char *label)
{
	const struct selftest_try *t = find(SELFTEST_RUN_AGENT, label);

	if (t->is_through || t->is_skipped)
		fail_msg("%s: %s", label, t->detail);
}

static void look_at(const char *const *before, const char *argument)
{
	_cleanup_free_ char *folder = mem_printf("%s/program", suite.scratch.root);
	struct err e = ERR_INIT;
	pid_t pids[PROCESSES_MAX];
	size_t n = 0;
	pid_t pid;

	assert_int_equal(mkdir(folder, 0755), 0);
	pid = double_start(folder, "cell", argument, before);
	for (int i = 0; n == 0 && i < 500; i++) {
		(void)usleep(10000);
		n = processes_find_cell(getpid(), pids);
	}
	assert_true(n > 0);
	(void)usleep(20000);
	assert_int_equal(monitor_run(&suite, getpid(), true, &e), 0);
	(void)kill(pids[0], SIGKILL);
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	double_remove(folder, "cell");
}

static void test_no_cell(void **state)
{
	static const char *const labels[] = {"capabilities", "new-privileges", "filter",
					     "uid",	     "network",	       "home",
					     "memory",	     "environment"};

	(void)state;
	/* Not found where it is somebody else's. */
	assert_int_equal(processes_find_cell(1 << 22, (pid_t[PROCESSES_MAX]){0}), 0);
	look_at(NULL, "secret-of-test");
	for (size_t i = 0; i + 1 < ARRAY_LEN(labels); i++)
		assert_open(labels[i]);
	assert_open("arguments");
	/* It has an environment of its own, and the secret is not in it. */
	assert_closed("environment");
	assert_true(find(SELFTEST_RUN_CONTROL, "environment")->is_through);
}

#define BEFORE_MAX 40
/* A process of bubblewrap's, with a folder that it has closed to others, and one that is open. */
static void look_into_namespaces(const char *const *more, const char *argument)
{
	_cleanup_free_ char *folder = mem_printf("%s/program", suite.scratch.root);
	const char *const wrap[] = {"/usr/bin/bwrap", "--unshare-all", "--die-with-parent",
				    "--cap-drop",     "ALL",	       "--ro-bind",
				    "/usr",	      "/usr",	       "--symlink",
				    "usr/lib",	      "/lib",	       "--symlink",
				    "usr/lib64",      "/lib64",	       "--symlink",
				    "usr/bin",	      "/bin",	       "--proc",
				    "/proc",	      "--perms",       "0700",
				    "--tmpfs",	      "/closed",       "--perms",
				    "0755",	      "--tmpfs",       "/open",
				    "--ro-bind",      folder,	       folder,
				    "--chdir",	      folder};
	const char *before[BEFORE_MAX] = {NULL};
	size_t n = ARRAY_LEN(wrap);

	_Static_assert(ARRAY_LEN(wrap) + 4 <= BEFORE_MAX, "room for three more words");
	if (access(wrap[0], X_OK) < 0) {
		print_message("skipped: bubblewrap is not installed\n");
		skip();
	}
	memcpy(before, wrap, sizeof(wrap));
	for (; more && *more; more++)
		before[n++] = *more;
	look_at(before, argument);
}

static void test_in_namespaces(void **state)
{
	static const char *const closed[] = {"capabilities", "new-privileges", "network",
					     "interfaces",   "sockets",	       "home",
					     "environment",  "arguments",      "memory"};

	(void)state;
	look_into_namespaces(NULL, "9");
	for (size_t i = 0; i < ARRAY_LEN(closed); i++)
		assert_closed(closed[i]);
	/* Bubblewrap brings no filter by itself. */
	assert_open("filter");
}

/* Whoever is behind it listens on the socket of this name meanwhile. */
static void look_at_listener(const char *name)
{
	_cleanup_free_ char *program = mem_printf("import os, socket, sys\n"
						  "s = socket.socket(socket.AF_UNIX)\n"
						  "s.bind(\"%s\".replace(\"@\", \"\\0\"))\n"
						  "s.listen()\n"
						  "s.set_inheritable(True)\n"
						  "os.execv(sys.argv[1], sys.argv[1:])\n",
						  name);
	const char *const more[] = {"/usr/bin/python3", "-c", program, NULL};

	suite.n_tries = 0;
	look_into_namespaces(more, "9");
}

/* A socket of the monitor's own is no hole; one that others could get at is. */
static void test_sockets(void **state)
{
	static const char *const others[] = {"/open/its own.sock", "@abstract"};

	(void)state;
	if (access("/usr/bin/python3", X_OK) < 0) {
		print_message("skipped: there is no Python here\n");
		skip();
	}
	look_at_listener("/closed/own.sock");
	assert_closed("sockets");
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		look_at_listener(others[i]);
		assert_true(find(SELFTEST_RUN_AGENT, "sockets")->is_through);
	}
}

/* A kernel of its own, and nothing that it could run in. */
static void test_machine_without_cell(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(monitor_run(&suite, getpid(), true, &e), 0);
	assert_true(find(SELFTEST_RUN_AGENT, "monitor")->is_skipped);
	suite.n_tries = 0;
	(void)snprintf(suite.sibling.net, sizeof(suite.sibling.net), "net:[1]@another");
	assert_int_equal(monitor_run(&suite, getpid(), true, &e), 0);
	assert_true(find(SELFTEST_RUN_AGENT, "monitor")->is_through);
	suite.n_tries = 0;
	assert_int_equal(monitor_run(&suite, getpid(), false, &e), 0);
	assert_true(find(SELFTEST_RUN_AGENT, "monitor")->is_skipped);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_cell, make_suite, remove_suite),
		cmocka_unit_test_setup_teardown(test_in_namespaces, make_suite, remove_suite),
		cmocka_unit_test_setup_teardown(test_sockets, make_suite, remove_suite),
		cmocka_unit_test_setup_teardown(test_machine_without_cell, make_suite,
						remove_suite),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
