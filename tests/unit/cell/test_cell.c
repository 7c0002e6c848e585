/* What stands in a cell, and what it can do from there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cell_fixture.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "cell/cell_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define OUT_MAX 16384

static const char inside_script[] =
	"echo root=$(ls -A / | tr '\\n' ' ')\n"
	"echo etc=$(ls -A /etc | tr '\\n' ' ') home=$HOME leak=${HOST_MARKER-none}\n"
	"echo slug=$CLAUDE_BOTTLE_SLUG host=$(cat /proc/sys/kernel/hostname)\n"
	"echo caps=$(grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | grep -vc "
	"0000000000000000)\n"
	"echo nnp=$(grep NoNewPrivs /proc/self/status | tr -dc 0-9)\n"
	"echo seccomp=$(grep Seccomp: /proc/self/status | tr -dc 0-9)\n"
	"echo fds=$(ls /proc/self/fd | tr '\\n' ' ')\n"
	"echo session=$(( $(ps -o sid= -p $$ 2>/dev/null || cut -d' ' -f6 /proc/$$/stat) == $$ ))\n"
	"echo links=$(grep -c : /proc/net/dev) core=$(ulimit -Hc)\n"
	"echo one=$(tr '\\0' ' ' </proc/1/cmdline | cut -d' ' -f1,2)\n"
	"cat /proc/1/environ /proc/1/maps 2>/dev/null | head -c1\n"
	"echo look=$(ls /proc/1/fd /proc/1/root 2>/dev/null | wc -l)\n"
	"kill -KILL 1; kill -TERM 1; kill -STOP 1; echo alive\n"
	"unshare -Ur true 2>/dev/null; unshare -m true 2>/dev/null; echo unshare=$?\n"
	"mount -t tmpfs x /tmp 2>/dev/null; mount --bind /usr /tmp 2>/dev/null; echo "
	"mounted=$(grep -c "
	"' /tmp ' /proc/self/mounts)\n"
	"touch /x /etc/x /usr/x /cell/x /dev/x /dev/shm/x /proc/self/oom_score_adj 2>/dev/null\n"
	"echo made=$(ls /x /etc/x /usr/x /cell/x /dev/x /dev/shm/x 2>/dev/null)\n"
	"touch /tmp/t && echo tmp=ok; echo bin=$(/bin/true && echo ok)\n";

static void test_inside(void **state)
{
	struct cell_fixture f;
	char out[OUT_MAX];
	uint64_t begin_ns;

	(void)state;
	assert_int_equal(setenv("HOST_MARKER", "leaked", 1), 0);
	fixture_prepare(&f);
	begin_ns = time_monotonic_ns();
	assert_int_equal(cell_make(&f.cell, &f.spec, NULL), 0);
	print_message("cell_make: %llu us\n",
		      (unsigned long long)((time_monotonic_ns() - begin_ns) / 1000));
	assert_int_equal(fixture_script(&f, inside_script, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "\nroot=bin cell dev etc kept "));
	assert_null(strstr(out, " root "));
	fixture_assert_line(out, "etc=ld.so.cache home= leak=none");
	fixture_assert_line(out, "slug=test-cell host=cell");
	fixture_assert_line(out, "caps=0");
	fixture_assert_line(out, "nnp=1");
	fixture_assert_line(out, "seccomp=2");
	fixture_assert_line(out, "fds=0 1 2 3"); /* 3 is ls's own */
	fixture_assert_line(out, "session=1");
	fixture_assert_line(out, "links=1 core=0");
	fixture_assert_line(out, "one=/cell/claude-bottle-bundle cell");
	fixture_assert_line(out, "look=0");
	fixture_assert_line(out, "alive");
	fixture_assert_line(out, "unshare=1");
	fixture_assert_line(out, "mounted=1"); /* its own */
	fixture_assert_line(out, "made=");
	fixture_assert_line(out, "tmp=ok");
	fixture_assert_line(out, "bin=ok");
	fixture_free(&f);
}

static void test_binds(void **state)
{
	struct cell_fixture f;
	char out[OUT_MAX], path[128];
	struct stat st;

	(void)state;
	fixture_make(&f);
	assert_int_equal(
		fixture_script(&f,
			       "cat /shown/text; echo x 2>/dev/null >/shown/text\n"
			       "touch /shown/new 2>/dev/null; echo shown=$(ls /shown)\n"
			       "echo kept >/kept/file && mkfifo /kept/pipe && ln -s file "
			       "/kept/link && cat /kept/link\n"
			       "chmod u+s /kept/file 2>/dev/null; echo setid=$?\n"
			       "cp /bin/true /kept/run && /kept/run 2>/dev/null; echo run=$?\n",
			       out, sizeof(out)),
		0);
	fixture_assert_line(out, "shown text");
	fixture_assert_line(out, "shown=text");
	fixture_assert_line(out, "kept");
	fixture_assert_line(out, "setid=1");
	if (fixture_has_landlock())
		fixture_assert_line(out, "run=126");
	(void)snprintf(path, sizeof(path), "%s/file", f.kept);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, f.wall.uid);
	if (geteuid() == 0)
		assert_true(st.st_uid >= 1000000000);
	fixture_free(&f);
}

/* Where nothing of the host's is written, all files are lent, and nobody has one to change. */
static void test_borrower(void **state)
{
	static const char script[] =
		": >/tmp/own; chmod 0600 /tmp/own 2>/dev/null; echo chmod=$?\n"
		"flock -n /tmp/own true 2>/dev/null; echo lock=$(( $? != 0 ))\n"
		"echo x >/tmp/own && cat /tmp/own\n";

	(void)state;
	for (size_t n_binds = 1; n_binds <= 2; n_binds++) {
		struct cell_fixture f;
		char out[OUT_MAX];
		bool is_borrower = n_binds == 1;

		fixture_prepare(&f);
		f.spec.n_binds = n_binds;
		assert_int_equal(cell_make(&f.cell, &f.spec, NULL), 0);
		assert_int_equal(fixture_script(&f, script, out, sizeof(out)), 0);
		fixture_assert_line(out, is_borrower ? "chmod=1" : "chmod=0");
		fixture_assert_line(out, is_borrower ? "lock=1" : "lock=0");
		fixture_assert_line(out, "x");
		fixture_free(&f);
	}
}

/* As root it is a copy for the cell's uid alone. */
static void test_device(void **state)
{
	struct cell_fixture f;
	char out[OUT_MAX];

	(void)state;
	fixture_prepare(&f);
	f.binds[f.spec.n_binds++] =
		(struct cell_bind){.from = "/dev/full", .to = "/dev/device", .is_device = true};
	assert_int_equal(cell_make(&f.cell, &f.spec, NULL), 0);
	assert_int_equal(fixture_script(&f,
					"echo read=$(head -c3 /dev/device | wc -c)\n"
					"echo x 2>&1 >/dev/device | grep -o 'No space left'\n"
					"stat -c %a /dev/device\n",
					out, sizeof(out)),
			 0);
	fixture_assert_line(out, "read=3");
	fixture_assert_line(out, "No space left");
	if (geteuid() == 0)
		fixture_assert_line(out, "600");
	fixture_free(&f);
}

/* A listener of the host's, on a port that the kernel chooses. */
static int host_listen(uint16_t *port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_int_equal(bind(fd, (const struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &size), 0);
	*port = ntohs(sa.sin_port);
	return fd;
}

static bool has_visitor(int listener, int wait_ms)
{
	int visitor = io_wait(listener, POLLIN, wait_ms) == 1 ? accept(listener, NULL, NULL) : -1;

	if (visitor >= 0)
		(void)close(visitor);
	return visitor >= 0;
}

static void test_reach(void **state)
{
	_cleanup_close_ int listener = -1;
	struct cell_fixture f;
	char out[OUT_MAX], dial[64], script[512];
	uint16_t port;
	pid_t pid;

	(void)state;
	listener = host_listen(&port);
	fixture_make(&f);
	(void)snprintf(dial, sizeof(dial), ": </dev/tcp/127.0.0.1/%u", port);
	(void)snprintf(script, sizeof(script),
		       "(%s) 2>&1 | grep -o refused\n"
		       "(: </dev/tcp/1.1.1.1/80) 2>&1 | grep -o unreachable\n"
		       "(: </dev/tcp/10.209.0.2/9099) 2>&1 | grep -o 'refused' | sed s/^/9099-/\n"
		       "(: </dev/tcp/10.209.0.2/8888) && echo reaches-pipelock\n",
		       dial);
	assert_int_equal(fixture_script(&f, script, out, sizeof(out)), 0);
	fixture_assert_line(out, "refused");
	fixture_assert_line(out, "unreachable");
	fixture_assert_line(out, "9099-refused");
	fixture_assert_line(out, "reaches-pipelock");
	assert_true(has_visitor(f.wall.pipelock_fd, 0));
	assert_false(has_visitor(listener, 0));
	/* The control. */
	pid = fork();
	if (pid == 0) {
		(void)execl("/bin/bash", "bash", "-c", dial, (char *)NULL);
		_exit(99);
	}
	assert_int_equal(fixture_wait(pid), 0);
	assert_true(has_visitor(listener, 5000));
	fixture_free(&f);
}

static void test_limits(void **state)
{
	struct cell_fixture f;
	char out[OUT_MAX];

	(void)state;
	fixture_prepare(&f);
	f.spec.file_size_bytes = 65536;
	assert_int_equal(cell_make(&f.cell, &f.spec, NULL), 0);
	assert_int_equal(
		fixture_script(&f,
			       "trap '' XFSZ\n"
			       "dd if=/dev/zero of=/kept/large bs=131072 count=1 2>/dev/null\n"
			       "echo size=$(stat -c %s /kept/large)\n",
			       out, sizeof(out)),
		0);
	fixture_assert_line(out, "size=65536");
	fixture_free(&f);
}

/* All of it is counted, where this host lets us count. */
static void test_counted(void **state)
{
	const struct plan_limits limits = {.memory_bytes = 1u << 30, .processes = 200};
	struct cell_fixture f;

	(void)state;
	fixture_prepare(&f);
	cgroup_make(&f.cgroup, strrchr(f.top, '/') + 1, &limits);
	if (f.cgroup.n == 0)
		print_message("no group: %s\n", f.cgroup.note);
	assert_int_equal(cell_make(&f.cell, &f.spec, NULL), 0);
	for (size_t i = 0; i < f.cgroup.n; i++) {
		char path[512], line[32];
		struct str procs;

		(void)snprintf(path, sizeof(path), "%s/cgroup.procs", f.cgroup.paths[i]);
		assert_int_equal(io_read_file(AT_FDCWD, path, 65536, &procs, NULL), 0);
		(void)snprintf(line, sizeof(line), "%d\n", (int)f.cell.pid);
		assert_true(str_find(procs, str_of(line)) < procs.n);
		free((void *)(uintptr_t)procs.p);
	}
	cell_free(&f.cell);
	cgroup_remove(&f.cgroup);
	fixture_free(&f);
}

static void refused(struct cell_fixture *f, int code, const char *text)
{
	struct err e = ERR_INIT;

	assert_int_equal(cell_make(&f->cell, &f->spec, &e), code);
	if (!strstr(e.text, text))
		fail_msg("not \"%s\" in: %s", text, e.text);
	assert_int_equal(f->cell.conn_fd, -1);
	assert_int_equal(f->cell.pid, 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_refuses(void **state)
{
	struct cell_fixture f;

	(void)state;
	fixture_prepare(&f);
	/* The child's own words where there is a stage, else bubblewrap's. */
	f.binds[0].from = "/nonexistent/folder";
	refused(&f, -ECHILD, "No such file or directory");
	f.binds[0].from = f.shown;
	f.binds[0].to = "/proc/nothing";
	refused(&f, -ECHILD, "bwrap: ");
	f.binds[0].to = "/shown";
	f.binds[1].from = geteuid() == 0 ? f.shown : "/usr";
	refused(&f, -EPERM, "not of the cell's uid");
	f.binds[1].from = f.kept;
	assert_int_equal(setenv("CLAUDE_BOTTLE_BUNDLE", "/bin/false", 1), 0);
	refused(&f, -ECHILD, "it ended without a word");
	fixture_free(&f);
}

/* Its word is a descriptor of the kernel's, which cannot be another namespace's. */
static void test_network(void **state)
{
	_cleanup_close_ int ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct cell_fixture f;
	struct err e = ERR_INIT;

	(void)state;
	fixture_prepare(&f);
	assert_true(ours >= 0);
	assert_int_equal(cell_verify_network(f.wall.netns_fd, &f.wall, &e), 0);
	assert_int_equal(cell_verify_network(ours, &f.wall, &e), -ENOTUNIQ);
	assert_true(cell_verify_network(-1, &f.wall, &e) < 0);
	fixture_free(&f);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inside),	 cmocka_unit_test(test_binds),
		cmocka_unit_test(test_borrower), cmocka_unit_test(test_device),
		cmocka_unit_test(test_reach),	 cmocka_unit_test(test_limits),
		cmocka_unit_test(test_refuses),	 cmocka_unit_test(test_counted),
		cmocka_unit_test(test_network),
	};

	fixture_begin(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
