/* What the suite finds on the host: a bundle's processes among all others, and what they have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "double.h"
#include "selftest/processes.h"
#include "selftest/suite.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static void test_addresses_and_namespaces(void **state)
{
	char text[3072], net[SPACE_MAX];

	(void)state;
	host_addresses(text, sizeof(text));
	assert_null(strstr(text, "127.0.0.1"));
	host_addresses(text, 4); /* too small for any: none, and no half one */
	assert_string_equal(text, "");
	host_namespaces(text, sizeof(text));
	assert_true(host_net_of(getpid(), net));
	assert_non_null(strstr(text, net));
	assert_false(host_is_on_link("not an address"));
	assert_false(host_dial("127.0.0.1", 0, "x"));
}

static void test_processes(void **state)
{
	/* As in a container: a folder of the bottle's is mounted there. */
	static const char *const before[] = {
		"/usr/bin/unshare",
		"-rm",
		"/bin/sh",
		"-c",
		"mkdir -p a-worker-x/docker/bundle run && "
		"mount --bind a-worker-x/docker/bundle run && exec \"$@\"",
		"sh",
		NULL};
	static const char *const made[] = {"a-worker-x/docker/bundle", "a-worker-x/docker",
					   "a-worker-x", "run"};
	char folder[] = "/tmp/selftest-host-XXXXXX", what[200];
	_cleanup_free_ char *mark = NULL;
	struct process list[PROCESSES_MAX];
	struct process gone = {.role = "keyd"};
	size_t n = 0;
	pid_t pid;

	(void)state;
	assert_non_null(mkdtemp(folder));
	pid = double_start(folder, "init", "fds=/nowhere", before);
	for (int i = 0; n == 0 && i < 200; i++) {
		(void)usleep(10000);
		n = processes_find(1, "a-worker-x", list);
	}
	assert_int_equal(n, 1);
	assert_int_equal(list[0].pid, pid);
	assert_string_equal(list[0].role, "init");
	assert_int_equal(processes_find(1, "worker-x", list), 0);
	assert_int_equal(processes_find(1, "a-worker", list), 0);
	/* As a keeper's child it needs no mount. */
	assert_int_equal(processes_find(getpid(), "another", list), 1);
	assert_ptr_equal(processes_role(list, 1, "init"), &list[0]);
	assert_null(processes_role(list, 1, "keyd"));
	/* A pid that is by now somebody else's is not signalled. */
	gone.pid = pid;
	assert_false(processes_signal(&gone, SIGKILL));
	assert_int_equal(errno, ESRCH);
	/* Its folder has no mark, then it has. */
	assert_int_equal(processes_has_marked(pid, "mark", what, sizeof(what)), 0);
	mark = mem_printf("%s/mark", folder);
	close(open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	assert_int_equal(processes_has_marked(pid, "mark", what, sizeof(what)), 1);
	assert_non_null(strstr(what, "cwd"));
	/* A shell is no static executable. */
	assert_int_equal(processes_has_foreign_code(pid, what, sizeof(what)), 1);
	assert_true(processes_signal(&list[0], SIGKILL));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(processes_has_marked(pid, "mark", what, sizeof(what)), -1);
	(void)unlink(mark);
	for (size_t i = 0; i < ARRAY_LEN(made); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", folder, made[i]);

		assert_int_equal(rmdir(path), 0);
	}
	double_remove(folder, "init");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_and_namespaces),
		cmocka_unit_test(test_processes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
