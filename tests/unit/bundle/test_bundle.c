/*
 * The bundle as the host sees it: readiness, restarts with their limit, an overstepping role, the
 * end of the host, and no process left behind in any of them. Real processes throughout.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"

#include "base/clean.h"
#include "base/io.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void test_ready_and_stop(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b, 0);
	expect_event(&b, "BEGIN CERTIFICATE");
	roles_of(&b, pids, ROLES);
	assert_int_equal(command(&b, 'm'), '+');
	assert_int_equal(command(&b, 'r'), '+');
	bundle_stop(&b);
	expect_end(&b, 0, pids, ROLES);
	assert_int_equal(records_with(&b, "\"bundle-ready\""), 1);
	/* The channel says who sent it, whatever the sender claims. */
	assert_int_equal(records_with(&b, "\"role\":\"pipelock\",\"verdict\":\"allow\""), 1);
	assert_int_equal(records_with(&b, "\"signing-key\""), 1);
	assert_true(records_with(&b, "\"checkpoint\"") >= 1);
	/* A credential leaves keyd for its own host, port and path alone. */
	assert_int_equal(records_with(&b, "\"header-granted\""), 1);
	assert_int_equal(records_with(&b, "\"header-granted\",\"path\":\"0\""), 1);
	assert_int_equal(records_with(&b, "\"header-denied\""), 4);
}

static void test_host_goes_away(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b, 0);
	expect_event(&b, "\"ready\"");
	roles_of(&b, pids, ROLES);
	(void)shutdown(b.control, SHUT_RDWR);
	expect_end(&b, 0, pids, ROLES);
}

static void test_init_killed(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b, 0);
	expect_event(&b, "\"ready\"");
	roles_of(&b, pids, ROLES);
	(void)kill(b.init, SIGKILL);
	expect_end(&b, SIGKILL, pids, ROLES);
}

/* Each role in turn dies, comes back, and everything still works: same CA, same channels. */
static void test_each_role_restarts(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b, 0);
	expect_event(&b, "\"ready\"");
	roles_of(&b, pids, ROLES);
	for (int r = 0; r < ROLES; r++) {
		char text[64];

		(void)kill(pids[r], SIGKILL);
		(void)snprintf(text, sizeof(text), "\"role\":\"%s\"",
			       bundle_role_name((enum bundle_role)r));
		expect_event(&b, text);
		assert_int_equal(command(&b, 'm'), '+');
		assert_int_equal(command(&b, 'r'), '+');
	}
	roles_of(&b, pids, ROLES);
	bundle_stop(&b);
	expect_end(&b, 0, pids, ROLES);
	assert_int_equal(records_with(&b, "\"role-restarted\""), ROLES);
}

static void test_restart_limit(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b, 0);
	expect_event(&b, "\"ready\"");
	for (int i = 0; i < 5; i++) {
		(void)kill(role_pid(&b, "egress"), SIGKILL);
		expect_event(&b, "\"role\":\"egress\"");
	}
	roles_of(&b, pids, ROLES);
	(void)kill(pids[BUNDLE_ROLE_EGRESS], SIGKILL);
	expect_event(&b, "\"failed\"");
	expect_end(&b, 1 << 8, pids, ROLES);
}

/* pipelock asks for a credential: it gets none, and does not live to ask again. */
static void test_overstepping_role_is_killed(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b, 0);
	expect_event(&b, "\"ready\"");
	roles_of(&b, pids, ROLES);
	(void)command(&b, 'h');
	expect_event(&b, "\"role\":\"pipelock\"");
	assert_int_equal(command(&b, 'm'), '+');
	assert_int_not_equal(role_pid(&b, "pipelock"), pids[BUNDLE_ROLE_PIPELOCK]);
	roles_of(&b, pids, ROLES);
	bundle_stop(&b);
	expect_end(&b, 0, pids, ROLES);
	assert_int_equal(records_with(&b, "\"keyd-request-refused\""), 1);
}

static void test_filter_kill_is_named(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
#ifdef CLAUDE_BOTTLE_INSTRUMENTED
	print_message("skipped: the sanitizers' runtime needs calls that the filters refuse\n");
	skip();
#endif
	bundle_start(&b, 0);
	expect_event(&b, "\"ready\"");
	assert_int_equal(command(&b, 'o'), '+');
	(void)command(&b, 'x');
	expect_event(&b, "system call filter");
	roles_of(&b, pids, ROLES);
	(void)shutdown(b.control, SHUT_RDWR);
	expect_end(&b, 0, pids, ROLES);
}

/* --- as process 1 of a container --- */

/* init in pid and network namespaces of its own, told where its descriptors come from. False where
 * that cannot be done. */
static bool apart_spawn(struct bundle *b)
{
	char fds[128];

	b->listen_fd = -1;
	b->address = (struct sockaddr_un){.sun_family = AF_UNIX};
	(void)snprintf(b->address.sun_path, sizeof(b->address.sun_path), "/tmp/cb-bundle-%d.fds",
		       (int)getpid());
	(void)snprintf(fds, sizeof(fds), "fds=%s", b->address.sun_path);
	(void)unlink(b->address.sun_path);
	b->init = geteuid() != 0 ? -1
				 : (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNET | SIGCHLD,
						  NULL, NULL, NULL, 0);
	if (b->init == 0) {
		(void)execl(fake_bundle, fake_bundle, "init", fds, "listen=10.209.0.2",
			    (char *)NULL);
		_exit(127);
	}
	if (b->init < 0)
		print_message("skipped: only root makes pid and network namespaces here\n");
	return b->init > 0;
}

static bool apart_start(struct bundle *b)
{
	_cleanup_close_ int listener = -1, c = -1;
	struct given g;
	int reach[2];

	if (!apart_spawn(b))
		return false;
	g = bundle_given(b, 0);
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&b->address, sizeof(b->address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(io_wait(listener, POLLIN, 8000), 1);
	c = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_int_equal(io_send_fds(c, "config", 6, &g.config, 1, 0), 6);
	assert_int_equal(io_send_fds(c, "secrets", 7, &g.secrets, 1, 0), 7);
	assert_int_equal(io_send_fds(c, "control", 7, &g.control, 1, 0), 7);
	assert_int_equal(io_send_fds(c, "records", 7, &g.records, 1, 0), 7);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, reach), 0);
	assert_int_equal(io_send_fds(c, "reach", 5, &reach[1], 1, 0), 5);
	close(reach[0]);
	close(reach[1]);
	assert_int_equal(io_send_fds(c, "end", 3, NULL, 0, 0), 3);
	given_close(&g);
	return true;
}

static int apart_namespace(struct bundle *b, const char *name)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)b->init, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* The address comes to the namespace only now; then one command to pipelock. */
static char apart_obey(struct bundle *b, char what)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0ad10002)};
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	struct ifreq add = {.ifr_name = "lo:1"};
	char answer = 0;
	int fd;

	memcpy(&add.ifr_addr, &sa, sizeof(sa));
	sa.sin_port = htons(8888);
	fd = setns(apart_namespace(b, "net"), CLONE_NEWNET) == 0
		     ? socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)
		     : -1;
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &up) < 0 || ioctl(fd, SIOCSIFADDR, &add) < 0 ||
	    connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || send(fd, &what, 1, 0) != 1 ||
	    io_wait(fd, POLLIN, 8000) != 1 || recv(fd, &answer, 1, 0) != 1)
		return 0;
	return answer;
}

static char apart_command(struct bundle *b, char what)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(apart_obey(b, what));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return (char)WEXITSTATUS(status);
}

/* A process that is left behind in init's pid namespace and then ends: in the namespace its parent
 * is process 1. */
static void apart_leave_stray(struct bundle *b)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (setns(apart_namespace(b, "pid"), CLONE_NEWPID) < 0)
			_exit(1);
		pid = fork();
		if (pid == 0 && fork() == 0)
			(void)poll(NULL, 0, 50);
		else if (pid > 0)
			(void)waitpid(pid, NULL, 0);
		_exit(pid < 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_apart(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;
	size_t n = 0;

	(void)state;
	if (!apart_start(&b))
		skip();
	expect_event(&b, "\"ready\"");
	roles_of(&b, pids, ROLES);
	assert_int_equal(apart_command(&b, 'm'), '+');
	for (int i = 0; i < 3; i++)
		apart_leave_stray(&b);
	for (int tries = 0; tries < 300 && (n = children_of(b.init, NULL, 0)) != ROLES; tries++)
		(void)usleep(10000);
	assert_int_equal(n, ROLES);
	/* A role that ends is no stray. */
	(void)kill(pids[BUNDLE_ROLE_EGRESS], SIGKILL);
	expect_event(&b, "\"role\":\"egress\"");
	roles_of(&b, pids, ROLES);
	(void)kill(b.init, SIGTERM);
	expect_end(&b, 0, pids, ROLES);
	assert_int_equal(records_with(&b, "\"role-restarted\""), 1);
}

/* The way to the host's network is for egress alone, whichever of its lives. */
static void test_apart_reach(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	if (!apart_start(&b))
		skip();
	expect_event(&b, "\"ready\"");
	roles_of(&b, pids, ROLES);
	for (int r = 0; r < ROLES; r++)
		assert_int_equal(role_has(pids[r], "reach"), r == BUNDLE_ROLE_EGRESS);
	(void)kill(pids[BUNDLE_ROLE_EGRESS], SIGKILL);
	expect_event(&b, "\"role\":\"egress\"");
	roles_of(&b, pids, ROLES);
	assert_true(role_has(pids[BUNDLE_ROLE_EGRESS], "reach"));
	(void)kill(b.init, SIGTERM);
	expect_end(&b, 0, pids, ROLES);
}

static void test_apart_killed(void **state)
{
	pid_t pids[ROLES];
	struct bundle b;

	(void)state;
	if (!apart_start(&b))
		skip();
	expect_event(&b, "\"ready\"");
	roles_of(&b, pids, ROLES);
	(void)kill(b.init, SIGKILL);
	expect_end(&b, SIGKILL, pids, ROLES);
}

/* Process 1 hears no signal that it has no handler for. */
static void test_apart_ends_while_it_waits(void **state)
{
	struct bundle b = {.control = -1};
	siginfo_t ended = {0};

	(void)state;
	if (!apart_spawn(&b))
		skip();
	/* Not before it is there. */
	for (int tries = 0; tries < 300 && kill(b.init, SIGTERM) == 0; tries++) {
		(void)usleep(10000);
		if (waitid(P_PID, (id_t)b.init, &ended, WEXITED | WNOHANG | WNOWAIT) < 0 ||
		    ended.si_pid != 0)
			break;
	}
	expect_end(&b, (128 + SIGTERM) << 8, NULL, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ready_and_stop),
		cmocka_unit_test(test_host_goes_away),
		cmocka_unit_test(test_init_killed),
		cmocka_unit_test(test_each_role_restarts),
		cmocka_unit_test(test_restart_limit),
		cmocka_unit_test(test_overstepping_role_is_killed),
		cmocka_unit_test(test_filter_kill_is_named),
		cmocka_unit_test(test_apart),
		cmocka_unit_test(test_apart_reach),
		cmocka_unit_test(test_apart_killed),
		cmocka_unit_test(test_apart_ends_while_it_waits),
	};

	if (argc != 2)
		return 2;
	fake_bundle = argv[1];
	return cmocka_run_group_tests(tests, NULL, remove_records);
}
