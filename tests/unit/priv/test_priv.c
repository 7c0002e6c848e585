/* Each power that a role gives away is gone: tried in a child, with a control that it was there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "priv/priv.h"

#include "base/clean.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define skip_because(why)                                                                          \
	do {                                                                                       \
		print_message("skipped: %s\n", (why));                                             \
		skip();                                                                            \
	} while (0)

/* Runs fn in a child; its status as of waitpid. */
static int in_child(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static int seal(unsigned sets)
{
	struct priv_limits limits = {.files = 64};

	return priv_basics(NULL) < 0 || priv_limit(&limits, NULL) < 0 ||
	       priv_landlock(NULL, 0, false, NULL) < 0 ||
	       priv_drop_uid(geteuid() == 0 ? 61999 : 0, NULL) < 0 || priv_seccomp(sets, NULL) < 0;
}

static int child_base_works(void)
{
	char byte = 'x';
	void *p;

	if (seal(0))
		return 2;
	p = malloc(1 << 20);
	return p && write(STDERR_FILENO, &byte, 0) == 0 ? 0 : 3;
}

static int child_opens(void)
{
	return seal(0) ? 2 : open("/etc/passwd", O_RDONLY) >= 0 ? 3 : errno == EACCES ? 0 : 4;
}

static int child_opens_with_set(void)
{
	/* seccomp lets it through; Landlock still has no path for it. */
	return seal(PRIV_SECCOMP_OPEN) ? 2 : open("/etc/passwd", O_RDONLY) >= 0 ? 3 : 0;
}

static int child_dials(void)
{
	return seal(0) ? 2 : socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 3 : 4;
}

static int child_forks(void)
{
	return seal(0) ? 2 : fork() >= 0 ? 3 : 4;
}

static int child_execs(void)
{
	if (seal(0))
		return 2;
	(void)execl("/bin/true", "true", (char *)NULL);
	return 3;
}

static int child_maps_code(void)
{
	void *p;

	if (seal(0))
		return 2;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		 0);
	return p == MAP_FAILED ? 4 : 3;
}

static int child_traces(void)
{
	return seal(0) ? 2 : ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 ? 3 : 4;
}

static int child_becomes_root(void)
{
	return priv_basics(NULL) < 0 || priv_drop_uid(61999, NULL) < 0 ? 2
	       : setuid(0) == 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0 ||
			       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 ||
			       prctl(PR_CAPBSET_READ, 0, 0, 0, 0) != 0
		       ? 3
		       : 0;
}

static int child_landlock_connects(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(1),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	/* Control: nobody listens there, so it is refused by the peer. */
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 || errno != ECONNREFUSED)
		return 2;
	if (priv_basics(NULL) < 0)
		return 2;
	if (priv_landlock(NULL, 0, false, NULL) != 0)
		return 77;
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno == EACCES ? 0 : 3;
}

static void assert_killed_by_filter(int status)
{
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void test_base_works(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_base_works), 0);
}

static void test_files_are_gone(void **state)
{
	(void)state;
	if (!priv_is_instrumented())
		assert_int_equal(in_child(child_opens), 0);
	assert_int_equal(in_child(child_opens_with_set), 0);
}

static void test_filter_kills(void **state)
{
	(void)state;
	if (priv_is_instrumented())
		skip_because("the sanitizers' runtime needs calls that the filters refuse");
	assert_killed_by_filter(in_child(child_dials));
	assert_killed_by_filter(in_child(child_forks));
	assert_killed_by_filter(in_child(child_execs));
	assert_killed_by_filter(in_child(child_maps_code));
	assert_killed_by_filter(in_child(child_traces));
}

static void test_uid_is_gone(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip_because("only root has a uid to give away");
	assert_int_equal(in_child(child_becomes_root), 0);
}

static void test_landlock_network(void **state)
{
	int status;

	(void)state;
	status = in_child(child_landlock_connects);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip_because("this kernel has no Landlock");
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base_works),	 cmocka_unit_test(test_files_are_gone),
		cmocka_unit_test(test_filter_kills),	 cmocka_unit_test(test_uid_is_gone),
		cmocka_unit_test(test_landlock_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
