/*
 * C14, K11, K12: the monitor of a machine, looked at from the host while the sibling runs. A guest
 * that has taken over its monitor is whatever that process is: so it must have no power, see no
 * home, reach nobody but the bundle, and hold no secret. The control is the same look at a process
 * of the user's that stands outside of any wall.
 *
 * A bottle has a monitor when a cell is found among its processes. One whose kernel is not this
 * host's must have one.
 */
#include "selftest/processes.h"
#include "selftest/suite.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static const char *const ids[] = {"C14", "K11", "K12"};

/* 1: it has what it must not; 0: it has not, or is gone; -1: this user cannot see. */
typedef int (*look_fn)(const struct suite *s, pid_t pid, char *what, size_t size);

/* --- K11: what it may do --- */

static int look_status(pid_t pid, const char *key, int base, bool (*is_bad)(uint64_t value),
		       char *what, size_t size)
{
	uint64_t value = processes_status(pid, key, base);

	if (value == UINT64_MAX)
		return kill(pid, 0) < 0 && errno == ESRCH ? 0 : -1;
	if (is_bad(value))
		(void)snprintf(what, size, "process %d: %s is %llx", (int)pid, key,
			       (unsigned long long)value);
	return is_bad(value);
}

static bool is_any(uint64_t value)
{
	return value != 0;
}

static bool is_none(uint64_t value)
{
	return value == 0;
}

static bool is_no_filter(uint64_t value)
{
	return value != SECCOMP_MODE_FILTER;
}

static int look_capabilities(const struct suite *s, pid_t pid, char *what, size_t size)
{
	static const char *const sets[] = {"CapEff", "CapPrm", "CapAmb"};
	int bad = 0;

	(void)s;
	for (size_t i = 0; bad == 0 && i < ARRAY_LEN(sets); i++)
		bad = look_status(pid, sets[i], 16, is_any, what, size);
	return bad;
}

static int look_privileges(const struct suite *s, pid_t pid, char *what, size_t size)
{
	(void)s;
	return look_status(pid, "NoNewPrivs", 10, is_none, what, size);
}

static int look_filter(const struct suite *s, pid_t pid, char *what, size_t size)
{
	(void)s;
	return look_status(pid, "Seccomp", 10, is_no_filter, what, size);
}

static int look_uid(const struct suite *s, pid_t pid, char *what, size_t size)
{
	(void)s;
	return look_status(pid, "Uid", 10, is_none, what, size);
}

/* --- K12: what it can reach --- */

static int look_network(const struct suite *s, pid_t pid, char *what, size_t size)
{
	char its[SPACE_MAX], own[SPACE_MAX];

	(void)s;
	if (!host_net_of(pid, its) || !host_net_of(getpid(), own))
		return -1;
	(void)snprintf(what, size, "process %d: %.24s", (int)pid, its);
	return strcmp(its, own) == 0;
}

/* Two lines of heading, then "  NAME: figures". */
static int look_interfaces(const struct suite *s, pid_t pid, char *what, size_t size)
{
	_cleanup_free_ char *path = mem_printf("/proc/%d/net/dev", (int)pid);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	char line[512], name[32];
	int bad = 0;

	(void)s;
	for (int i = 0; f && bad == 0 && fgets(line, sizeof(line), f); i++) {
		bad = i >= 2 && sscanf(line, " %31[^:]:", name) == 1 && strcmp(name, "lo") != 0;
		if (bad)
			(void)snprintf(what, size, "process %d: %s", (int)pid, name);
	}
	return f ? bad : -1;
}

/* In the process's own file system; of a name without a path there is no more to see. */
static bool is_its_own(pid_t pid, const char *name)
{
	_cleanup_free_ char *path = mem_printf("/proc/%d/root%s", (int)pid, name);

	return name[0] != '/' || access(path, F_OK) == 0;
}

/* Sockets that somebody could connect to: a monitor's own control would be one. Where a machine is
 * played on this kernel (tests/it/smolvm), its processes' are in the list, too. */
static int look_sockets(const struct suite *s, pid_t pid, char *what, size_t size)
{
	_cleanup_free_ char *path = mem_printf("/proc/%d/net/unix", (int)pid);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	char line[512], name[128];
	unsigned flags;
	int bad = 0;

	(void)s;
	/* Num: RefCount Protocol Flags Type St Inode Path; __SO_ACCEPTCON is 1 << 16. */
	while (f && bad == 0 && fgets(line, sizeof(line), f)) {
		name[0] = '\0';
		bad = sscanf(line, "%*s %*s %*s %x %*s %*s %*s %127s", &flags, name) >= 1 &&
		      flags & 1u << 16 && is_its_own(pid, name);
		if (bad)
			(void)snprintf(what, size, "process %d: listens on \"%.100s\"", (int)pid,
				       name);
	}
	return f ? bad : -1;
}

static int look_home(const struct suite *s, pid_t pid, char *what, size_t size)
{
	_cleanup_free_ char *root = mem_printf("/proc/%d/root", (int)pid);
	_cleanup_free_ char *key = mem_printf("%s%s/home/" SCRATCH_KEY, root, s->scratch.root);
	_cleanup_close_ int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	(void)snprintf(what, size, "process %d sees %.150s", (int)pid, key);
	return access(key, F_OK) == 0;
}

static const struct {
	const char *id, *label;
	look_fn fn;
} looks[] = {
	{"K11", "capabilities", look_capabilities},
	{"K11", "new-privileges", look_privileges},
	{"K11", "filter", look_filter},
	{"K11", "uid", look_uid},
	{"K12", "network", look_network},
	{"K12", "interfaces", look_interfaces},
	{"K12", "sockets", look_sockets},
	{"K12", "home", look_home},
};

/* --- K12: what it could dial --- */

/* Into the network of a process, as whoever owns it. */
static bool enter_network(pid_t pid)
{
	_cleanup_free_ char *net_path = mem_printf("/proc/%d/ns/net", (int)pid),
			    *user_path = mem_printf("/proc/%d/ns/user", (int)pid);
	_cleanup_close_ int net = open(net_path, O_RDONLY | O_CLOEXEC),
			    user = open(user_path, O_RDONLY | O_CLOEXEC);

	if (setns(net, CLONE_NEWNET) == 0)
		return true;
	return setns(user, CLONE_NEWUSER) == 0 && setns(net, CLONE_NEWNET) == 0;
}

static bool dial_abstract(const char *name, const char *token)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t n = strlen(name);

	if (fd < 0 || n + 2 > sizeof(sa.sun_path))
		return false;
	memcpy(sa.sun_path + 1, name, n);
	return connect(fd, (struct sockaddr *)&sa,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1)) == 0 &&
	       write(fd, token, strlen(token)) > 0;
}

/* pid 0: from here. 1: connected, 0: not, -1: the network could not be entered. */
static int dial_from(pid_t pid, const char *address, uint16_t port, const char *abstract,
		     const char *token)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		if (pid && !enter_network(pid))
			_exit(2);
		_exit(abstract ? dial_abstract(abstract, token) : host_dial(address, port, token));
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status) == 2 ? -1 : WEXITSTATUS(status);
}

/* Outside, an address of the world is the canary's: nobody else is ever dialled. */
static void dial(struct suite *s, pid_t pid, const char *label, const char *address,
		 const char *target)
{
	const struct {
		enum selftest_run run;
		pid_t pid;
		const char *address;
	} runs[] = {{SELFTEST_RUN_AGENT, pid, address},
		    {SELFTEST_RUN_CONTROL, 0, address ? "127.0.0.1" : NULL}};
	char value[128] = "";
	uint64_t port = 0;

	if (!scratch_target(&s->scratch, target, value, sizeof(value)) ||
	    (address && str_to_u64(str_of(value), 65535, &port) < 0))
		return;
	for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
		struct selftest_try *t = suite_try(s, runs[i].run, "K12", label);
		char token[SUITE_TOKEN_MAX];
		int got;

		suite_make_token(token);
		got = dial_from(runs[i].pid, runs[i].address, (uint16_t)port,
				address ? NULL : value, token);
		(void)snprintf(t->token, sizeof(t->token), "%s", token);
		t->is_through = got == 1;
		t->is_skipped = got < 0;
		(void)snprintf(t->detail, sizeof(t->detail), "%s: %s",
			       address ? address : "an abstract socket",
			       got < 0	  ? "this user cannot enter the monitor's network"
			       : got == 1 ? "connected"
					  : "no connection");
	}
}

static bool is_service(unsigned port)
{
	/* Of a bottle that is not supervised, and has no git remotes. */
	return port == SERVICE_PORT_PIPELOCK || port == SERVICE_PORT_DNS;
}

/* N10 from the monitor's own position, which is the wall's: each port of the bundle. The sibling's
 * own is open there where its monitor lends the guest sockets (TSI): to whoever is in its wall. */
static void scan(struct suite *s, pid_t pid)
{
	struct selftest_try *t = suite_try(s, SELFTEST_RUN_AGENT, "K12", "bundle-ports");
	struct selftest_try *control = suite_try(s, SELFTEST_RUN_CONTROL, "K12", "bundle-ports");
	char value[16];
	uint64_t any = 0;
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		unsigned n = 0;

		if (!enter_network(pid))
			_exit(2);
		for (unsigned port = 1; port <= 65535 && n == 0; port++)
			n += !is_service(port) && port != s->sibling.port &&
			     host_dial(s->sibling.pinned, (uint16_t)port, "scan");
		_exit(n > 0);
	}
	t->is_skipped = child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
			WEXITSTATUS(status) == 2;
	t->is_through = !t->is_skipped && WEXITSTATUS(status) == 1;
	(void)snprintf(t->detail, sizeof(t->detail), "%s",
		       t->is_skipped ? "this user cannot enter the monitor's network"
				     : "the bundle has another port open");
	/* Outside, a port that is open for it. */
	control->is_through = scratch_target(&s->scratch, "any", value, sizeof(value)) &&
			      str_to_u64(str_of(value), 65535, &any) == 0 &&
			      host_dial("127.0.0.1", (uint16_t)any, "scan");
}

static void dial_all(struct suite *s, pid_t pid)
{
	char its[SPACE_MAX], own[SPACE_MAX], host[46];

	if (!suite_wants(s, "K12"))
		return;
	/* In the host's own network, which has been found out by now, nobody is dialled. */
	if (host_net_of(pid, its) && host_net_of(getpid(), own) && strcmp(its, own) == 0)
		return;
	scan(s, pid);
	dial(s, pid, "dial-loopback", "127.0.0.1", "loop");
	dial(s, pid, "dial-any", "127.0.0.1", "any");
	dial(s, pid, "dial-world", "1.1.1.1", "any");
	dial(s, pid, "dial-gateway", "10.0.2.2", "any");
	if (scratch_target(&s->scratch, "host", host, sizeof(host)))
		dial(s, pid, "dial-lan", host, "any");
	dial(s, pid, "dial-abstract", NULL, "abstract");
}

/* --- C14: what it holds --- */

static int has_in(const struct suite *s, pid_t pid, const char *name, char *what, size_t size)
{
	struct str text = processes_read(pid, name);
	bool found = str_find(text, str_of(s->scratch.secret)) < text.n;
	int ret = text.n == 0 ? -1 : found;

	(void)snprintf(what, size, "in %s of process %d", name, (int)pid);
	free((char *)(uintptr_t)text.p);
	return ret;
}

static int look_environment(const struct suite *s, pid_t pid, char *what, size_t size)
{
	return has_in(s, pid, "environ", what, size);
}

static int look_arguments(const struct suite *s, pid_t pid, char *what, size_t size)
{
	return has_in(s, pid, "cmdline", what, size);
}

static int look_memory(const struct suite *s, pid_t pid, char *what, size_t size)
{
	return processes_has_in_memory(pid, str_of(s->scratch.secret), what, size);
}

static const struct {
	const char *label;
	look_fn fn;
} contents[] = {
	{"environment", look_environment}, {"arguments", look_arguments}, {"memory", look_memory}};

/* --- all of it --- */

/* The worst of a cell's processes. */
static void look_at_all(struct suite *s, const char *id, const char *label, look_fn fn,
			const pid_t *pids, size_t n)
{
	struct selftest_try *t = suite_try(s, SELFTEST_RUN_AGENT, id, label);

	for (size_t i = 0; i < n && !t->is_through; i++) {
		char what[200] = "";
		int bad = fn(s, pids[i], what, sizeof(what));

		t->is_through = bad == 1;
		if (bad < 0)
			t->is_skipped = true;
		(void)snprintf(t->detail, sizeof(t->detail), "%.199s",
			       bad < 0 ? "this user cannot look into the monitor's processes"
				       : what);
	}
	t->is_skipped &= !t->is_through;
}

static void look_at_control(struct suite *s, const char *id, const char *label, look_fn fn,
			    pid_t pid)
{
	struct selftest_try *t = suite_try(s, SELFTEST_RUN_CONTROL, id, label);
	char what[200] = "";

	t->is_through = fn(s, pid, what, sizeof(what)) == 1;
	t->is_skipped = !t->is_through;
	(void)snprintf(t->detail, sizeof(t->detail), "%.199s",
		       t->is_through
			       ? what
			       : "an ordinary process of this user and host has none of it either");
}

/* A process as the user's others are, with the secret in its environment and arguments. */
static pid_t start_control(const struct suite *s)
{
	_cleanup_free_ char *open_secret = mem_printf("SELFTEST_OPEN=%s", s->scratch.secret);
	char *const argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
			      (char *)(uintptr_t) "read line; :", open_secret, NULL};
	char *const env[] = {open_secret, NULL};
	int pipe_fds[2];
	pid_t pid;

	/* It reads until it is killed: nobody else has the other end. */
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		(void)dup2(pipe_fds[0], STDIN_FILENO);
		(void)fcntl(pipe_fds[1], F_SETFD, 0);
		(void)execve("/bin/sh", argv, env);
		_exit(127);
	}
	(void)close(pipe_fds[0]);
	(void)close(pipe_fds[1]);
	return pid;
}

/* Until it is the other program: its arguments say so. */
static bool await_control(const struct suite *s, pid_t pid)
{
	char what[200];

	for (int i = 0; pid > 0 && i < 500; i++) {
		if (look_arguments(s, pid, what, sizeof(what)) == 1)
			return true;
		(void)usleep(2000);
	}
	return false;
}

static int look_at(struct suite *s, const pid_t *pids, size_t n, struct err *e)
{
	pid_t control = start_control(s);
	bool is_there = await_control(s, control);

	for (size_t i = 0; is_there && i < ARRAY_LEN(looks); i++) {
		if (!suite_wants(s, looks[i].id))
			continue;
		look_at_all(s, looks[i].id, looks[i].label, looks[i].fn, pids, n);
		look_at_control(s, looks[i].id, looks[i].label, looks[i].fn, control);
	}
	for (size_t i = 0; is_there && suite_wants(s, "C14") && i < ARRAY_LEN(contents); i++) {
		look_at_all(s, "C14", contents[i].label, contents[i].fn, pids, n);
		look_at_control(s, "C14", contents[i].label, contents[i].fn, control);
	}
	if (control > 0) {
		(void)kill(control, SIGKILL);
		(void)waitpid(control, NULL, 0);
	}
	if (!is_there)
		return err_set(e, -EIO,
			       "the process that a monitor is compared with did not start");
	dial_all(s, pids[0]);
	return 0;
}

static void report_missing(struct suite *s, bool is_seen)
{
	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		struct selftest_try *t;

		if (!suite_wants(s, ids[i]))
			continue;
		if (!is_seen) {
			suite_skip(s, ids[i], "monitor",
				   "this user cannot see the bottle's processes here");
			continue;
		}
		t = suite_try(s, SELFTEST_RUN_AGENT, ids[i], "monitor");
		t->is_through = true;
		(void)snprintf(t->detail, sizeof(t->detail),
			       "the bottle has a kernel of its own, and its monitor is in no cell");
		suite_try(s, SELFTEST_RUN_CONTROL, ids[i], "monitor")->is_through = true;
	}
}

int monitor_run(struct suite *s, pid_t keeper, bool is_seen, struct err *e)
{
	pid_t pids[PROCESSES_MAX];
	char own[SPACE_MAX];
	size_t n;

	if (!suite_wants_any(s, ids, ARRAY_LEN(ids)))
		return 0;
	n = processes_find_cell(keeper, pids);
	if (n > 0)
		return look_at(s, pids, n, e);
	if (space_name("self", "net", own) && space_same_kernel(own, s->sibling.net))
		suite_skip_all(s, ids, ARRAY_LEN(ids), "monitor",
			       "there is none: this bottle's kernel is the host's");
	else
		report_missing(s, is_seen);
	return 0;
}
