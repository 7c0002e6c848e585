/* The native backend's wall, filter and compartment, from inside and from outside. */
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
#include <linux/audit.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
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

static bool refuses_setid;

/* Runs fn in a child that has the filter; its status. */
static int filtered(int (*fn)(void))
{
	struct agent_filter f;
	int status;
	pid_t pid;

	assert_int_equal(agent_filter_build(&f, NULL), 0);
	if (refuses_setid)
		assert_int_equal(agent_filter_refuse_setid(&f, NULL), 0);
	pid = fork();
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || agent_filter_apply(&f, NULL) < 0)
			_exit(99);
		_exit(fn());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* Exits with the number of the line that is wrong, so that a failure names itself. */
#define REFUSED(code_, call)                                                                       \
	do {                                                                                       \
		errno = 0;                                                                         \
		if ((long)(call) != -1 || errno != (code_))                                        \
			return __LINE__ % 97 + 1;                                                  \
	} while (0)
#define ALLOWED(call)                                                                              \
	do {                                                                                       \
		if ((long)(call) < 0)                                                              \
			return __LINE__ % 97 + 1;                                                  \
	} while (0)
#define HIGH(v) ((long)((uint64_t)(v) | 0xdead00000000u))

static int refused_calls(void)
{
	REFUSED(EPERM, syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0));
	REFUSED(EPERM, syscall(SYS_bpf, 0, NULL, 0));
	REFUSED(EPERM, syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
	REFUSED(EPERM, syscall(SYS_userfaultfd, 0));
	REFUSED(ENOSYS, syscall(SYS_io_uring_setup, 1, NULL));
	REFUSED(EPERM, syscall(SYS_keyctl, 0, 0));
	REFUSED(EPERM, syscall(SYS_add_key, NULL, NULL, NULL, 0, 0));
	REFUSED(EPERM, syscall(SYS_request_key, NULL, NULL, NULL, 0));
	REFUSED(EPERM, syscall(SYS_mount, NULL, NULL, NULL, 0, NULL));
	REFUSED(EPERM, syscall(SYS_fsopen, NULL, 0));
	REFUSED(EPERM, syscall(SYS_open_tree, -1, NULL, 0));
	REFUSED(EPERM, syscall(SYS_move_mount, -1, NULL, -1, NULL, 0));
	REFUSED(EPERM, syscall(SYS_mount_setattr, -1, NULL, 0, NULL, 0));
	REFUSED(EPERM, syscall(SYS_pivot_root, NULL, NULL));
	REFUSED(EPERM, syscall(SYS_setns, -1, 0));
	REFUSED(EPERM, syscall(SYS_unshare, 0));
	REFUSED(ENOSYS, syscall(SYS_clone3, NULL, 0));
	REFUSED(EPERM, syscall(SYS_kexec_load, 0, 0, NULL, 0));
	REFUSED(EPERM, syscall(SYS_init_module, NULL, 0, NULL));
	REFUSED(EPERM, syscall(SYS_finit_module, -1, NULL, 0));
	REFUSED(EPERM, syscall(SYS_open_by_handle_at, -1, NULL, 0));
	REFUSED(EPERM, syscall(SYS_process_vm_readv, 0, NULL, 0, NULL, 0, 0));
	REFUSED(EPERM, syscall(SYS_pidfd_getfd, -1, 0, 0));
	REFUSED(EPERM, syscall(SYS_kcmp, 0, 0, 0, 0, 0));
	REFUSED(EPERM, syscall(SYS_reboot, 0, 0, 0, NULL));
	REFUSED(EPERM, syscall(SYS_quotactl, 0, NULL, 0, NULL));
	REFUSED(ENOSYS, syscall(449 + 100)); /* a call of the future */
	REFUSED(ENOSYS, syscall(457));	     /* statmount */
	return 0;
}

static int refused_arguments(void)
{
	REFUSED(EPERM, syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL));
	REFUSED(EPERM, syscall(SYS_clone, HIGH(CLONE_NEWNET | SIGCHLD), NULL, NULL, NULL, NULL));
	REFUSED(EPERM, syscall(SYS_ioctl, 0, TIOCSTI, "x"));
	REFUSED(EPERM, syscall(SYS_ioctl, 0, HIGH(TIOCSTI), "x"));
	REFUSED(EPERM, syscall(SYS_ioctl, 0, 0x541C, "x"));
	REFUSED(EPERM, syscall(SYS_personality, 0x0008));    /* PER_LINUX32 and its likes */
	REFUSED(EPERM, syscall(SYS_personality, 0x0400000)); /* READ_IMPLIES_EXEC */
	ALLOWED(syscall(SYS_personality, 0xffffffff));
	ALLOWED(syscall(SYS_personality, 0x0040000));
	REFUSED(EPERM, syscall(SYS_prctl, PR_SET_MM, 0, 0, 0, 0));
	ALLOWED(syscall(SYS_prctl, PR_SET_NAME, "name"));
	return 0;
}

static int refused_sockets(void)
{
	ALLOWED(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	ALLOWED(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP));
	ALLOWED(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP));
	ALLOWED(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
	REFUSED(EPROTONOSUPPORT, socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER));
	REFUSED(EPROTONOSUPPORT, syscall(SYS_socket, AF_NETLINK, SOCK_RAW, HIGH(NETLINK_AUDIT)));
	REFUSED(EPERM, socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	REFUSED(EPERM, socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	REFUSED(EPERM, socket(AF_INET, SOCK_SEQPACKET, 132));
	REFUSED(EPROTONOSUPPORT, socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
	REFUSED(EAFNOSUPPORT, socket(AF_PACKET, SOCK_DGRAM, 0));
	REFUSED(EAFNOSUPPORT, socket(AF_ALG, SOCK_SEQPACKET, 0));
	REFUSED(EAFNOSUPPORT, socket(AF_VSOCK, SOCK_STREAM, 0));
	REFUSED(EAFNOSUPPORT, syscall(SYS_socket, HIGH(AF_VSOCK), SOCK_STREAM, 0));
	return 0;
}

static void test_filter_calls(void **state)
{
	(void)state;
	assert_int_equal(filtered(refused_calls), 0);
	assert_int_equal(filtered(refused_arguments), 0);
	assert_int_equal(filtered(refused_sockets), 0);
}

/* Exists in no folder: whoever gets as far as that is told so. */
#define NOWHERE "/nonexistent/x"

static int setid_calls(void)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = {.flags = O_CREAT | O_WRONLY, .mode = 04755};

#if defined(__x86_64__)
	REFUSED(EPERM, syscall(SYS_chmod, NOWHERE, 04755));
	REFUSED(EPERM, syscall(SYS_chmod, NOWHERE, 02755));
	REFUSED(ENOENT, syscall(SYS_chmod, NOWHERE, 01755));
	REFUSED(EPERM, syscall(SYS_creat, NOWHERE, 04755));
	REFUSED(EPERM, syscall(SYS_open, NOWHERE, O_CREAT | O_WRONLY, 04755));
	REFUSED(ENOENT, syscall(SYS_open, NOWHERE, O_RDONLY, 04755));
	REFUSED(EPERM, syscall(SYS_mknod, NOWHERE, S_IFREG | 04755, 0));
#endif
	REFUSED(EPERM, syscall(SYS_fchmod, -1, 04755));
	REFUSED(EPERM, syscall(SYS_fchmod, -1, HIGH(02755)));
	REFUSED(EBADF, syscall(SYS_fchmod, -1, 0755));
	REFUSED(EPERM, syscall(SYS_fchmodat, AT_FDCWD, NOWHERE, 06755));
	REFUSED(ENOENT, syscall(SYS_fchmodat, AT_FDCWD, NOWHERE, 0777));
	REFUSED(ENOSYS, syscall(452, AT_FDCWD, NOWHERE, 04755, 0));
	REFUSED(EPERM, syscall(SYS_openat, AT_FDCWD, NOWHERE, O_CREAT | O_WRONLY, 04755));
	REFUSED(EPERM, syscall(SYS_openat, AT_FDCWD, "/nonexistent", O_TMPFILE | O_RDWR, 04755));
	REFUSED(ENOENT, syscall(SYS_openat, AT_FDCWD, NOWHERE, O_CREAT | O_WRONLY, 0755));
	REFUSED(ENOENT, syscall(SYS_openat, AT_FDCWD, NOWHERE, O_RDONLY, 04755));
	REFUSED(ENOSYS, syscall(SYS_openat2, AT_FDCWD, NOWHERE, &how, sizeof(how)));
	REFUSED(EPERM, syscall(SYS_mknodat, AT_FDCWD, NOWHERE, S_IFREG | 02755, 0));
	return 0;
}

static int setid_calls_without(void)
{
	REFUSED(EBADF, syscall(SYS_fchmod, -1, 04755));
	REFUSED(ENOENT, syscall(SYS_openat, AT_FDCWD, NOWHERE, O_CREAT | O_WRONLY, 04755));
	return 0;
}

static void test_filter_setid(void **state)
{
	(void)state;
	/* The control: it is this that refuses them. */
	assert_int_equal(filtered(setid_calls_without), 0);
	refuses_setid = true;
	assert_int_equal(filtered(setid_calls), 0);
	/* What is refused to every agent still is. */
	assert_int_equal(filtered(refused_calls), 0);
	assert_int_equal(filtered(refused_arguments), 0);
	assert_int_equal(filtered(refused_sockets), 0);
	refuses_setid = false;
}

#if defined(__x86_64__)
static int call_x32(void)
{
	(void)syscall(0x40000000 + SYS_getpid);
	return 0;
}

static int call_i386(void)
{
	long ret;

	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(20L) : "memory");
	return 0;
}

static void test_filter_foreign_abi(void **state)
{
	int status = filtered(call_x32);

	(void)state;
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	status = filtered(call_i386);
	assert_true(WIFSIGNALED(status));
}
#endif

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
	"ls /root /home /work /etc/shadow /var/run/docker.sock 2>/dev/null | tr '\\n' ' '; echo\n"
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
		cmocka_unit_test(test_filter_calls),
		cmocka_unit_test(test_filter_setid),
#if defined(__x86_64__)
		cmocka_unit_test(test_filter_foreign_abi),
#endif
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
