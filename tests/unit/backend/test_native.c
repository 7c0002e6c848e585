/* The native backend's wall and compartment, from inside and from outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "bottle_fixture.h"

#include "backend/agent_id.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void test_pick_id(void **state)
{
	(void)state;
	assert_int_equal(agent_id_choose("0 0 4294967295\n", 5), 1000000005);
	assert_int_equal(agent_id_choose("0 0 4294967295\n", UINT32_MAX), 1268435455);
	assert_int_equal(agent_id_choose("0 100000 65536\n", 5), 65535);
	assert_int_equal(agent_id_choose("0 100000 65535\n", 5), 65533); /* never nobody */
	assert_int_equal(agent_id_choose("0 1000 1\n", 5), 0);
	assert_int_equal(agent_id_choose("0 1000 1\n1 100000 10\n", 5), 10);
	assert_int_equal(agent_id_choose("garbage\n", 5), 0);
}

/* What the wall's helper passed out works: a child inside reaches the listener, which is ours. */
static void test_wall_listens(void **state)
{
	struct wall w;
	struct err e = ERR_INIT;
	int status, accepted;
	uint64_t begin_ns = time_monotonic_ns();
	pid_t pid;

	(void)state;
	if (wall_make(&w, "10.209.0.2", NULL, 0, &e) < 0)
		fail_msg("%s", e.text);
	print_message("wall_make: %llu us\n",
		      (unsigned long long)((time_monotonic_ns() - begin_ns) / 1000));
	pid = fork();
	if (pid == 0) {
		struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(8888)};
		int fd;

		(void)inet_pton(AF_INET, "10.209.0.2", &sa.sin_addr);
		if (wall_enter(&w, NULL) < 0)
			_exit(1);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		_exit(connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? 2 : 0);
	}
	assert_int_equal(io_wait(w.pipelock_fd, POLLIN, 5000), 1);
	accepted = accept(w.pipelock_fd, NULL, NULL);
	assert_true(accepted >= 0);
	close(accepted);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	wall_free(&w);
}

static void test_wall_refuses_address(void **state)
{
	struct wall w;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(wall_make(&w, "nonsense", NULL, 0, &e), -EINVAL);
	assert_non_null(strstr(e.text, "nonsense"));
}

/* name=want on a line of its own. */
static void assert_line(const char *out, const char *want)
{
	_cleanup_free_ char *line = NULL;

	if (asprintf(&line, "\n%s\n", want) < 0 || !strstr(out, line))
		fail_msg("no line \"%s\" in:\n%s", want, out);
}

static const char inside_script[] =
	"echo; id -u; echo home=$HOME proxy=$HTTPS_PROXY no=$NO_PROXY plan=$FROM_PLAN\n"
	"echo leak=${HOST_MARKER-none} canary=$DEPLOY_TOKEN_BACKUP ca=$NODE_EXTRA_CA_CERTS\n"
	"echo file=$(grep -c canary-3f9c1d ~/.config/deploy/credentials)\n"
	"echo caps=$(grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | grep -vc "
	"0000000000000000)\n"
	"echo nnp=$(grep NoNewPrivs /proc/self/status | tr -dc 0-9)\n"
	"echo seccomp=$(grep Seccomp: /proc/self/status | tr -dc 0-9)\n"
	"echo fds=$(ls /proc/self/fd | tr '\\n' ' ')\n"
	"echo links=$(ls /sys/class/net 2>/dev/null)$(grep -c : /proc/net/dev)\n"
	"echo ca-end=$(tail -n1 $SSL_CERT_FILE) dns=$(cat /etc/resolv.conf | head -n1)\n"
	"echo host=$(hostname) user=$(id -un) pids=$(ls -d /proc/[0-9]* | wc -l | xargs test 9 -gt "
	"&& echo few)\n"
	"touch /etc/x /usr/x /x 2>/dev/null; echo writable=$(ls /etc/x /usr/x /x 2>/dev/null)\n"
	"unshare -Ur true 2>/dev/null; echo userns=$?\n"
	"touch ~/kept /tmp/t /var/tmp/t && echo private=ok; echo core=$(ulimit -Hc) files=$(ulimit "
	"-Hn)\n"
	"ls /root /home /srv /etc/shadow /var/run/docker.sock 2>/dev/null | tr '\\n' ' '; echo\n"
	"timeout 2 bash -c ': </dev/tcp/1.1.1.1/80' 2>&1 | grep -o unreachable\n"
	"timeout 2 bash -c ': </dev/tcp/10.209.0.2/9099' 2>&1 | grep -o refused\n"
	"timeout 2 bash -c ': </dev/tcp/10.209.0.2/8888' && echo reaches-pipelock\n";

static void assert_inside(unsigned uid)
{
	struct fixture f;
	char out[16384];
	struct stat st;
	char path[128];

	assert_int_equal(setenv("HOST_MARKER", "leaked", 1), 0);
	fixture_make(&f, inside_script, uid);
	assert_int_equal(fixture_run(&f, NULL, out, sizeof(out)), 0);
	assert_line(out, uid == 0 ? "0" : "1000");
	assert_line(out, "home=/home/agent proxy=http://10.209.0.2:8888 "
			 "no=localhost,127.0.0.1,::1,10.209.0.2 plan=yes");
	assert_line(out, "leak=none canary=canary-3f9c1d ca=/etc/claude-bottle/ca.pem");
	assert_line(out, "file=1");
	assert_line(out, "caps=0");
	assert_line(out, "nnp=1");
	assert_line(out, "seccomp=2");
	assert_line(out, "fds=0 1 2 3"); /* 3 is ls's own */
	assert_line(out, "links=1");
	assert_line(out, "ca-end=CA-OF-TEST dns=nameserver 10.209.0.2");
	assert_line(out, uid == 0 ? "host=test-bottle user=root pids=few"
				  : "host=test-bottle user=agent pids=few");
	assert_line(out, "writable=");
	assert_line(out, "userns=1");
	assert_line(out, "private=ok");
	assert_line(out, "core=0 files=512");
	assert_line(out, "/home: agent ");
	assert_line(out, "unreachable");
	assert_line(out, "refused");
	assert_line(out, "reaches-pipelock");
	(void)snprintf(path, sizeof(path), "%s/home/kept", f.state_dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, f.wall.uid);
	if (geteuid() == 0)
		assert_true(st.st_uid >= 1000000000);
	fixture_free(&f);
}

static void test_inside(void **state)
{
	(void)state;
	assert_inside(1000);
}

static void test_inside_as_root(void **state)
{
	(void)state;
	assert_inside(0);
}

static void test_status_kept(void **state)
{
	struct fixture f;
	char out[4096];
	int status;

	(void)state;
	fixture_make(&f, "exit 42", 1000);
	status = fixture_run(&f, NULL, out, sizeof(out));
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
	fixture_free(&f);
	fixture_make(&f, "kill -TERM $$", 1000);
	status = fixture_run(&f, NULL, out, sizeof(out));
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGTERM);
	fixture_free(&f);
}

static void test_expose(void **state)
{
	struct fixture f;
	char out[4096], dir[] = "/tmp/native-expose-XXXXXX";
	_cleanup_free_ char *script = NULL, *file = NULL;
	_cleanup_close_ int fd = -1;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chmod(dir, 0755), 0);
	assert_true(asprintf(&file, "%s/readme", dir) > 0);
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(io_write_all(fd, "exposed\n", 8), 0);
	assert_true(asprintf(&script, "echo; cat %s; echo x 2>/dev/null > %s; echo status=$?", file,
			     file) > 0);
	fixture_make(&f, script, 1000);
	f.expose[0] = dir;
	f.plan.n_expose = 1;
	assert_int_equal(fixture_run(&f, NULL, out, sizeof(out)), 0);
	assert_line(out, "exposed");
	assert_line(out, "status=1");
	fixture_free(&f);
	(void)!io_remove_tree(AT_FDCWD, dir, NULL);
}

/* A second process in a running bottle stands where the agent stands. */
static void test_join(void **state)
{
	struct fixture f;
	struct err e = ERR_INIT;
	struct backend_stdio io = {.master_fd = -1};
	char out[8192];
	char *argv[] = {(char *)(uintptr_t) "bash", (char *)(uintptr_t) "-c",
			(char *)(uintptr_t)inside_script, NULL};
	char *missing[] = {(char *)(uintptr_t) "/no/such/file", NULL};
	int status;

	(void)state;
	fixture_make(&f, "sleep 60", 1000);
	io.in_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	io.out_fd = io.err_fd = io.in_fd;
	assert_int_equal(
		compartment_prepare(&f.compartment, &f.plan, &f.wall, &f.cgroup, f.state_dir, &e),
		0);
	if (compartment_launch(&f.compartment, &io, &e) < 0 ||
	    compartment_go(&f.compartment, STR_LIT("CA-OF-TEST\n"), &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(fixture_run(&f, argv, out, sizeof(out)), 0);
	assert_line(out, "1000");
	assert_line(out, "caps=0");
	assert_line(out, "nnp=1");
	assert_line(out, "seccomp=2");
	assert_line(out, "fds=0 1 2 3");
	assert_line(out, "links=1");
	assert_line(out, "writable=");
	assert_line(out, "userns=1");
	assert_line(out, "core=0 files=512");
	assert_line(out, "host=test-bottle user=agent pids=few");
	assert_line(out, "reaches-pipelock");
	assert_true(fixture_run(&f, missing, out, sizeof(out)) < 0);
	assert_true(compartment_agent_pid(&f.compartment) > 1);
	compartment_kill(&f.compartment);
	assert_int_equal(waitpid(f.compartment.bwrap_pid, &status, 0), f.compartment.bwrap_pid);
	assert_int_equal(compartment_agent_pid(&f.compartment), 0);
	close(io.in_fd);
	fixture_free(&f);
}

/* Nothing of the agent's runs before the word, and never when the word does not come. */
static void test_held(void **state)
{
	struct fixture f;
	struct err e = ERR_INIT;
	struct backend_stdio io = {.master_fd = -1};
	char path[128];
	int status;

	(void)state;
	fixture_make(&f, "touch ~/began", 1000);
	io.in_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	io.out_fd = io.err_fd = io.in_fd;
	assert_int_equal(
		compartment_prepare(&f.compartment, &f.plan, &f.wall, &f.cgroup, f.state_dir, &e),
		0);
	if (compartment_launch(&f.compartment, &io, &e) < 0)
		fail_msg("%s", e.text);
	(void)poll(NULL, 0, 50);
	(void)snprintf(path, sizeof(path), "%s/home/began", f.state_dir);
	assert_int_equal(access(path, F_OK), -1);
	close_fd(&f.compartment.hold_fd);
	assert_int_equal(waitpid(f.compartment.bwrap_pid, &status, 0), f.compartment.bwrap_pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 125);
	assert_int_equal(access(path, F_OK), -1);
	close(io.in_fd);
	fixture_free(&f);
}

/* With a terminal: the agent leads its session, ^C reaches it and not bubblewrap, and the size is
 * what was asked for. */
static void test_terminal(void **state)
{
	struct fixture f;
	struct err e = ERR_INIT;
	struct backend_stdio io = {.has_tty = true, .rows = 33, .columns = 101, .master_fd = -1};
	char out[4096] = "";
	bool is_ready = false;
	size_t n = 0;
	int status;

	(void)state;
	fixture_make(&f,
		     "trap 'echo got-int; exit 7' INT; stty size; tty >/dev/null; "
		     "python3 -c 'import fcntl; fcntl.ioctl(0, 0x5412, b\"x\")' 2>&1 | tail -n1; "
		     "echo ready; while :; do read -r line; done",
		     1000);
	assert_int_equal(
		compartment_prepare(&f.compartment, &f.plan, &f.wall, &f.cgroup, f.state_dir, &e),
		0);
	if (compartment_launch(&f.compartment, &io, &e) < 0 ||
	    compartment_go(&f.compartment, STR_LIT("CA\n"), &e) < 0)
		fail_msg("%s", e.text);
	/* The shell may be between its look for signals and its read: then it needs another one. */
	for (unsigned quiet = 0; !strstr(out, "got-int") && n < sizeof(out) - 1 && quiet < 20;) {
		ssize_t got;

		if (io_wait(io.master_fd, POLLIN, 1000) != 1) {
			quiet++;
			if (is_ready)
				assert_int_equal(write(io.master_fd, "\003", 1), 1);
			continue;
		}
		got = read(io.master_fd, out + n, sizeof(out) - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
		out[n] = '\0';
		if (!is_ready && strstr(out, "ready")) {
			assert_int_equal(write(io.master_fd, "\003", 1), 1);
			is_ready = true;
		}
	}
	assert_non_null(strstr(out, "33 101"));
	assert_non_null(strstr(out, "Operation not permitted")); /* TIOCSTI */
	assert_non_null(strstr(out, "got-int"));
	assert_int_equal(waitpid(f.compartment.bwrap_pid, &status, 0), f.compartment.bwrap_pid);
	assert_int_equal(WEXITSTATUS(status), 7);
	close(io.master_fd);
	fixture_free(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pick_id),
		cmocka_unit_test(test_wall_listens),
		cmocka_unit_test(test_wall_refuses_address),
		cmocka_unit_test(test_inside),
		cmocka_unit_test(test_inside_as_root),
		cmocka_unit_test(test_status_kept),
		cmocka_unit_test(test_expose),
		cmocka_unit_test(test_join),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_terminal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
