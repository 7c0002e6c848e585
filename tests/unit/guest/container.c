#include "container.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CONTAINER_WAIT_MS 20000

const char *container_program;

static void check(bool is_ok, const char *what)
{
	if (is_ok)
		return;
	(void)fprintf(stderr, "container: %s: %s\n", what, strerror(errno));
	abort();
}

/* As an engine does for a user without capabilities. */
static void child_become(unsigned uid)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2];

	memset(none, 0, sizeof(none));
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	(void)setgroups(0, NULL);
	if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0 ||
	    syscall(SYS_capset, &head, none) < 0)
		_exit(96);
}

static _Noreturn void child_exec(const struct container *c, char *const *argv)
{
	char home[96];
	char *const env[] = {home, (char *)(uintptr_t) "PATH=/usr/bin:/bin", NULL};
	int program = open(container_program, O_PATH | O_CLOEXEC);

	(void)snprintf(home, sizeof(home), "HOME=%s", c->home);
	child_become(c->uid);
	/* By descriptor: the build's folder may be closed to the agent's user. */
	(void)syscall(SYS_execveat, program, "", argv, env, AT_EMPTY_PATH);
	_exit(95);
}

static _Noreturn void child_init(const struct container *c, int out, int tty)
{
	char path[96];
	char *const argv[] = {(char *)(uintptr_t) "bundle", (char *)(uintptr_t) "init-at", path,
			      NULL};
	int in = open("/dev/null", O_RDONLY);

	scene_enter(c->scene ? c->scene->agent_ns : -1);
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("proc", "/proc", "proc", 0, NULL) < 0)
		_exit(94);
	(void)snprintf(path, sizeof(path), "%s/keeper.sock", c->dir);
	(void)setsid();
	if (tty >= 0 && ioctl(tty, TIOCSCTTY, 0) < 0)
		_exit(93);
	(void)dup2(tty >= 0 ? tty : in, 0);
	(void)dup2(tty >= 0 ? tty : out, 1);
	(void)dup2(tty >= 0 ? tty : out, 2);
	child_exec(c, argv);
}

void container_start(struct container *c, const struct scene *s, unsigned uid, bool has_tty)
{
	struct err e = ERR_INIT;
	int out[2], tty = -1;

	*c = (struct container){.scene = s, .uid = uid, .listener = -1, .conn = -1, .master = -1};
	(void)snprintf(c->top, sizeof(c->top), "/tmp/cb-guest-init-XXXXXX");
	check(mkdtemp(c->top) && chmod(c->top, 0711) == 0, "a folder");
	(void)snprintf(c->dir, sizeof(c->dir), "%s/run", c->top);
	(void)snprintf(c->home, sizeof(c->home), "%s/home", c->top);
	check(mkdir(c->home, 0700) == 0 && chown(c->home, uid, uid) == 0, "a home");
	check(guest_listen(c->dir, &c->listener, &e) == 0, e.text);
	check(pipe2(out, O_CLOEXEC) == 0, "pipe");
	if (has_tty)
		check(openpty(&c->master, &tty, NULL, NULL, NULL) == 0, "a terminal");
	if (has_tty)
		check(fchown(tty, uid, uid) == 0 && io_set_cloexec(c->master, true) == 0, "own it");
	c->init = (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
	check(c->init >= 0, "clone");
	if (c->init == 0)
		child_init(c, out[1], tty);
	(void)close(out[1]);
	close_fd(&tty);
	c->out = out[0];
}

void container_open(struct container *c)
{
	static const unsigned answers[] = {8888};
	static const struct guest_canary canary = {
		.pinned = SCENE_PINNED, .answers = answers, .n_answers = 1};
	struct err e = ERR_INIT;

	check(guest_accept(c->dir, &c->listener, 10000, -1, &c->conn, &e) == 0, e.text);
	check(guest_canary(c->conn, &canary, 10000, -1, &e) == 0, e.text);
}

int container_go(struct container *c, const char *script, struct err *e)
{
	char *argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
			(char *)(uintptr_t)script, NULL};
	struct guest_go go = {.argv = argv, .has_tty = c->master >= 0};

	return guest_go(c->conn, &go, 10000, -1, e);
}

void container_run(struct container *c, const struct scene *s, const char *script)
{
	struct err e = ERR_INIT;

	container_start(c, s, scene_is_root() ? 65534 : 0, false);
	container_open(c);
	check(container_go(c, script, &e) == 0, e.text);
}

bool container_says(struct container *c, const char *text)
{
	int fd = c->master >= 0 ? c->master : c->out;
	size_t n = strlen(c->said);

	while (!strstr(c->said, text)) {
		ssize_t got;

		if (n + 1 == sizeof(c->said) || io_wait(fd, POLLIN, CONTAINER_WAIT_MS) != 1)
			return false;
		got = read(fd, c->said + n, sizeof(c->said) - 1 - n);
		if (got <= 0)
			return false;
		n += (size_t)got;
		c->said[n] = '\0';
	}
	return true;
}

int container_wait(struct container *c)
{
	uint64_t until = time_monotonic_ns() + CONTAINER_WAIT_MS * TIME_NS_PER_MS;
	int status;

	while (time_monotonic_ns() < until) {
		if (waitpid(c->init, &status, WNOHANG) == c->init) {
			c->init = 0;
			(void)container_says(c, "\1 never");
			return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
		}
		(void)poll(NULL, 0, 1);
	}
	return -1;
}

void container_free(struct container *c)
{
	close_fd(&c->conn);
	close_fd(&c->listener);
	if (c->init > 0) {
		(void)kill(c->init, SIGKILL);
		(void)waitpid(c->init, NULL, 0);
	}
	close_fd(&c->out);
	close_fd(&c->master);
	check(io_remove_tree(AT_FDCWD, c->top, NULL) == 0, "remove the folder");
	c->top[0] = '\0';
}

pid_t container_exec(struct container *c, char *const *argv)
{
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, c->init, 0);
	char path[64];
	pid_t pid, waiter = fork();
	int status, out;

	if (waiter != 0)
		return waiter;
	/* Whoever holds a copy keeps the bottle alive. */
	(void)close(c->conn);
	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getppid(), c->out);
	out = open(path, O_WRONLY | O_CLOEXEC);
	if (out < 0 || setns(pidfd, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET) < 0)
		_exit(92);
	pid = fork();
	if (pid == 0) {
		(void)dup2(out, 1);
		(void)dup2(out, 2);
		child_exec(c, argv);
	}
	(void)close(out);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		_exit(91);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
