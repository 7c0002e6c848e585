/*
 * Theory of operation. The child that becomes the agent walks down one way: its limits on the host
 * (cgroup), its files (as root, a stage), its standard descriptors, the wall, its rlimits, and then
 * bubblewrap, which makes the other namespaces, drops every capability, sets no_new_privs, loads
 * the filter and runs the command. Nothing that it inherits but three descriptors survives.
 */
#include "backend/native/compartment.h"

#include "backend/agent_home.h"
#include "backend/native/bwrap_args.h"
#include "backend/walled/stage.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/limits.h"
#include "base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#define COMPARTMENT_TIMEOUT_MS 15000
#define COMPARTMENT_INFO_MAX   4096
#define COMPARTMENT_FILES      16384	  /* RLIMIT_NOFILE unless the plan says less */
#define COMPARTMENT_FSIZE_MIN  (1u << 20) /* bubblewrap itself writes /etc under this limit */

/* A folder of the agent's home, made when absent. In a home that was used before, names are the
 * agent's: a link is never followed, and what is there may be anything. */
static int compartment_plant_folder(int at, const char *name, const struct compartment *c,
				    struct err *e)
{
	_cleanup_close_ int fd = -1;

	if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
		return err_errno(e, "make \"%s\" in the agent's home", name);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "open \"%s\" in the agent's home", name);
	if (geteuid() == 0 && fchown(fd, c->wall->uid, c->wall->gid) < 0)
		return err_errno(e, "give \"%s\" to the agent", name);
	return take_fd(&fd);
}

/* The planted canary: whatever leaves the bottle with this in it was stolen. */
static int compartment_plant(int home, const struct compartment *c, struct err *e)
{
	_cleanup_close_ int config = -1, deploy = -1, file = -1;
	_cleanup_free_ char *text = NULL;

	if (!c->plan->canary)
		return 0;
	config = compartment_plant_folder(home, ".config", c, e);
	if (config < 0)
		return config;
	deploy = compartment_plant_folder(config, "deploy", c, e);
	if (deploy < 0)
		return deploy;
	/* Never into a file that is there: attack: a pipe left by an earlier run would hold the
	 * start for ever, a hard link would have another file of the agent's written. */
	(void)unlinkat(deploy, "credentials", 0);
	file = openat(deploy, "credentials", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		      0600);
	if (file < 0)
		return err_errno(e, "make the canary's file");
	text = mem_printf("[default]\ndeploy_token = %s\n", c->plan->canary);
	if (io_write_all(file, text, strlen(text)) < 0)
		return err_set(e, -EIO, "write the canary's file");
	if (geteuid() == 0 && fchown(file, c->wall->uid, c->wall->gid) < 0)
		return err_errno(e, "give the canary's file to the agent");
	return 0;
}

int compartment_prepare(struct compartment *c, const struct plan *p, const struct wall *w,
			const struct cgroup *g, const char *state_dir, struct err *e)
{
	_cleanup_close_ int home = -1, ca = -1;
	int ret;

	*c = COMPARTMENT_INIT;
	c->plan = p;
	c->wall = w;
	c->has_own_user = geteuid() == 0;
	c->cgroup = g;
	c->home_dir = mem_printf("%s/home", state_dir);
	c->ca_path = mem_printf("%s/ca.pem", state_dir);
	c->env = agent_env_make(p, w->pinned);
	ca = open(c->ca_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (ca < 0 || fchmod(ca, 0644) < 0)
		return err_errno(e, "make \"%s\"", c->ca_path);
	home = agent_home_open(c->home_dir, w->uid, w->gid, e);
	if (home < 0)
		return home;
	ret = agent_expose_check(p, e);
	if (ret < 0)
		return ret;
	if (compartment_plant(home, c, e) < 0)
		return e ? e->code : -EIO;
	ret = workspace_prepare(&c->workspace, p, state_dir, e);
	if (ret == 0)
		ret = workspace_give(&c->workspace, w->uid, w->gid, e);
	if (ret < 0)
		return ret;
	ret = agent_filter_build(&c->filter, e);
	return ret == 0 && c->workspace.path ? agent_filter_refuse_setid(&c->filter, e) : ret;
}

void compartment_free(struct compartment *c)
{
	agent_env_free(c->env);
	free(c->home_dir);
	free(c->ca_path);
	workspace_free(&c->workspace);
	close_fd(&c->hold_fd);
	close_fd(&c->init_pidfd);
	*c = COMPARTMENT_INIT;
}

int compartment_open_pty(const struct compartment *c, struct backend_stdio *io, int *slave_fd,
			 struct err *e)
{
	struct winsize size = {.ws_row = io->rows, .ws_col = io->columns};
	_cleanup_close_ int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	_cleanup_close_ int slave = -1;

	if (master < 0 || unlockpt(master) < 0)
		return err_errno(e, "open a pseudo-terminal");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return err_errno(e, "open a pseudo-terminal's slave");
	if (geteuid() == 0 &&
	    (fchown(slave, c->wall->uid, c->wall->gid) < 0 || fchmod(slave, 0600) < 0))
		return err_errno(e, "give the terminal to the agent");
	if (size.ws_row && size.ws_col && ioctl(master, TIOCSWINSZ, &size) < 0)
		return err_errno(e, "set the terminal's size");
	io->master_fd = take_fd(&master);
	*slave_fd = take_fd(&slave);
	return 0;
}

int compartment_stdio(const struct backend_stdio *io, int slave_fd, bool is_leader, struct err *e)
{
	int in = io->has_tty ? slave_fd : io->in_fd;
	int out = io->has_tty ? slave_fd : io->out_fd;
	int err = io->has_tty ? slave_fd : io->err_fd;

	if (setsid() < 0)
		return err_errno(e, "setsid");
	/* All three lie above 2: the keeper keeps its own standard descriptors open. */
	if (in <= 2 || out <= 2 || err <= 2)
		return err_set(e, -EBADF, "standard descriptors in the way");
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		return err_errno(e, "dup2");
	if (is_leader && io->has_tty && ioctl(0, TIOCSCTTY, 0) < 0)
		return err_errno(e, "take the terminal");
	return 0;
}

/* RLIMIT_NPROC counts a user's processes, and from 5.14 on within a user namespace. Before that an
 * ordinary user's own would count as the bottle's; as root the bottle has a user of its own. */
static bool limit_may_count_processes(const struct compartment *c)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	if (c->has_own_user)
		return true;
	(void)uname(&u);
	return sscanf(u.release, "%u.%u", &major, &minor) == 2 &&
	       (major > 5 || (major == 5 && minor >= 14));
}

int compartment_limit(const struct compartment *c, struct err *e)
{
	const struct plan_limits *l = &c->plan->limits;
	uint64_t size = l->file_size_bytes;
	int ret = limits_lower(RLIMIT_CORE, 0, e);

	if (ret == 0)
		ret = limits_lower(RLIMIT_NOFILE, l->files ? l->files : COMPARTMENT_FILES, e);
	if (ret == 0 && size > 0)
		ret = limits_lower(RLIMIT_FSIZE,
				   size < COMPARTMENT_FSIZE_MIN ? COMPARTMENT_FSIZE_MIN : size, e);
	if (ret == 0 && l->processes > 0 && c->cgroup->n == 0 && limit_may_count_processes(c))
		ret = limits_lower(RLIMIT_NPROC, l->processes, e);
	return ret;
}

void compartment_give_up(int sock, const struct err *e)
{
	(void)io_send_fds(sock, e, sizeof(*e), NULL, 0, 0);
	_exit(125);
}

int compartment_verdict(int sock, struct err *e)
{
	struct err answer;
	ssize_t got;

	if (io_wait(sock, POLLIN, COMPARTMENT_TIMEOUT_MS) <= 0)
		return err_set(e, -ETIMEDOUT, "the child does not start");
	got = io_recv_fds(sock, &answer, sizeof(answer), NULL, NULL, 0);
	if (got == 0)
		return 0;
	if (got != (ssize_t)sizeof(answer) || answer.code >= 0)
		return err_set(e, -EPROTO, "the child's answer makes no sense");
	return err_set(e, answer.code, "%.*s", (int)sizeof(answer.text) - 1, answer.text);
}

struct launch_pipes {
	int info[2], ready[2], hold[2];
};

struct launch {
	struct compartment *c;
	const struct backend_stdio *io;
	const struct stage *stage;
	const struct bwrap_args *args;
	int slave_fd, ready_fd, hold_fd, sock;
	pid_t parent;
};

/* Everything up to bubblewrap; returns only with an error. */
static int launch_child(const struct launch *l, struct err *e)
{
	/* So that bubblewrap's processes can be told for the bottle's; the agent's environment is
	 * set by its arguments. */
	_cleanup_free_ char *label = mem_printf("CLAUDE_BOTTLE_SLUG=%s", l->c->plan->slug);
	char *env[] = {label, NULL};
	const struct compartment *c = l->c;
	int ret = cgroup_join(c->cgroup, e);

	if (ret == 0 && l->stage->is_needed)
		ret = stage_make(l->stage, e);
	if (ret == 0)
		ret = compartment_stdio(l->io, l->slave_fd, false, e);
	if (ret == 0)
		ret = wall_enter(c->wall, e);
	if (ret == 0)
		ret = compartment_limit(c, e);
	if (ret < 0)
		return ret;
	signals_reset();
	/* A change of ids clears the parent-death signal, so it is set here, and the parent looked
	 * at after that: whoever died in between is not missed. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, "prctl");
	if (getppid() != l->parent)
		_exit(125);
	/* Whatever was 9 until here has been used: the rest lies at BWRAP_FD_MIN or above. */
	if (dup2(l->ready_fd, BWRAP_READY_FD) < 0 || dup2(l->hold_fd, BWRAP_HOLD_FD) < 0)
		return err_errno(e, "arrange the descriptors");
	return bwrap_become(&l->args->bwrap, env, e);
}

/* bubblewrap's --info-fd: one JSON object, of which one number matters. */
static int launch_read_info(int fd, pid_t *init_pid, struct err *e)
{
	char text[COMPARTMENT_INFO_MAX];
	size_t n = 0;
	struct str rest;
	int pid = 0;

	while (n < sizeof(text) - 1 && !memchr(text, '}', n)) {
		ssize_t got;

		if (io_wait(fd, POLLIN, COMPARTMENT_TIMEOUT_MS) <= 0)
			return err_set(e, -ETIMEDOUT, "bubblewrap does not start");
		got = read(fd, text + n, sizeof(text) - 1 - n);
		if (got <= 0)
			return err_set(
				e, -EPROTO,
				"bubblewrap could not make the compartment (its message is in "
				"the agent's output)");
		n += (size_t)got;
	}
	text[n] = '\0';
	rest = str_slice(text, n);
	rest = str_sub(rest, str_find(rest, STR_LIT("\"child-pid\":")), n);
	if (rest.n == 0 || sscanf(rest.p, "\"child-pid\": %d", &pid) != 1 || pid <= 1)
		return err_set(e, -EPROTO, "bubblewrap's answer makes no sense");
	*init_pid = pid;
	return 0;
}

/* PPid of a process, from /proc; 0 if it is gone. */
static pid_t process_parent(pid_t pid)
{
	char path[64], status[2048];
	struct str text, rest;
	int parent = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (io_read_file(AT_FDCWD, path, sizeof(status), &text, NULL) < 0)
		return 0;
	rest = str_sub(text, str_find(text, STR_LIT("\nPPid:")), text.n);
	if (rest.n > 0)
		(void)sscanf(rest.p, "\nPPid: %d", &parent);
	free((void *)(uintptr_t)text.p);
	return parent;
}

/* The number came from a process that we started; that it is still that process is checked after
 * the pidfd exists, so that a reused number cannot slip in. */
static int launch_hold_init(struct compartment *c, pid_t init_pid, struct err *e)
{
	c->init_pid = init_pid;
	c->init_pidfd = (int)syscall(SYS_pidfd_open, init_pid, 0);
	if (c->init_pidfd < 0)
		return err_errno(e, "hold the compartment's first process");
	if (process_parent(init_pid) != c->bwrap_pid)
		return err_set(e, -ESRCH, "the compartment ended while it started");
	return 0;
}

/* One byte from inside the finished compartment; end of file when it could not be made. */
static int launch_wait_ready(int fd, struct err *e)
{
	char byte;

	if (io_wait(fd, POLLIN, COMPARTMENT_TIMEOUT_MS) <= 0)
		return err_set(e, -ETIMEDOUT, "the compartment does not start");
	if (read(fd, &byte, 1) != 1)
		return err_set(e, -EPROTO,
			       "bubblewrap could not make the compartment (its message "
			       "is in the agent's output)");
	return 0;
}

static int launch_fork(struct launch *l, const struct bwrap_args *args, struct launch_pipes *p,
		       struct err *e)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	struct compartment *c = l->c;
	pid_t init_pid;
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	ours = pair[0];
	theirs = bwrap_raise_fd(pair[1], e);
	if (theirs < 0)
		return theirs;
	l->args = args;
	l->ready_fd = p->ready[1];
	l->hold_fd = p->hold[0];
	l->parent = getpid();
	c->bwrap_pid = fork();
	if (c->bwrap_pid < 0)
		return err_errno(e, "fork");
	if (c->bwrap_pid == 0) {
		struct err failed = ERR_INIT;

		failed.code = launch_child(l, &failed);
		compartment_give_up(theirs, &failed);
	}
	close_fd(&theirs);
	close_fd(&p->info[1]);
	close_fd(&p->ready[1]);
	ret = compartment_verdict(ours, e);
	if (ret == 0)
		ret = launch_read_info(p->info[0], &init_pid, e);
	if (ret == 0)
		ret = launch_hold_init(c, init_pid, e);
	if (ret == 0)
		ret = launch_wait_ready(p->ready[0], e);
	return ret;
}

static void launch_reap(struct compartment *c)
{
	if (c->bwrap_pid <= 0)
		return;
	(void)kill(c->bwrap_pid, SIGKILL);
	while (waitpid(c->bwrap_pid, NULL, 0) < 0 && errno == EINTR)
		;
	c->bwrap_pid = 0;
}

static int launch_open_pipes(struct launch_pipes *p, struct err *e)
{
	if (pipe2(p->info, O_CLOEXEC) < 0 || pipe2(p->ready, O_CLOEXEC) < 0 ||
	    pipe2(p->hold, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	p->hold[0] = bwrap_raise_fd(p->hold[0], e);
	if (p->hold[0] < 0)
		return p->hold[0];
	p->info[1] = bwrap_raise_fd(p->info[1], e);
	if (p->info[1] < 0)
		return p->info[1];
	p->ready[1] = bwrap_raise_fd(p->ready[1], e);
	return p->ready[1] < 0 ? p->ready[1] : 0;
}

static void launch_close_pipes(struct launch_pipes *p)
{
	close_fd(&p->info[0]);
	close_fd(&p->info[1]);
	close_fd(&p->ready[0]);
	close_fd(&p->ready[1]);
	close_fd(&p->hold[0]);
	close_fd(&p->hold[1]);
}

int compartment_go(struct compartment *c, struct str ca_pem, struct err *e)
{
	_cleanup_close_ int ca = open(c->ca_path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
	int ret;

	if (ca < 0)
		return err_errno(e, "open \"%s\"", c->ca_path);
	ret = agent_ca_write(ca, ca_pem, e);
	if (ret < 0)
		return ret;
	if (io_write_all(c->hold_fd, "\n", 1) < 0)
		return err_set(e, -EPIPE, "the compartment ended while it was held");
	close_fd(&c->hold_fd);
	return 0;
}

/* Where bubblewrap finds what it binds. */
static void launch_stage(const struct compartment *c, struct stage *s, struct bwrap_sources *to)
{
	const struct workspace *w = &c->workspace;

	*s = (struct stage){.is_needed = geteuid() == 0,
			    .disk_uid = w->uid,
			    .disk_gid = w->gid,
			    .uid = c->wall->uid,
			    .gid = c->wall->gid};
	to->home = stage_add(s, c->home_dir, false);
	to->ca = stage_add(s, c->ca_path, false);
	to->expose = mem_zalloc_array(c->plan->n_expose + 1, sizeof(*to->expose));
	for (size_t i = 0; i < c->plan->n_expose; i++)
		to->expose[i] = stage_add(s, c->plan->expose[i], false);
	to->workspace = stage_add(s, w->path, true);
	to->git_dir = stage_add(s, w->git_dir, false);
	to->git_file = stage_add(s, w->git_file, false);
	to->objects = stage_add(s, w->objects, false);
	to->alternates = mem_zalloc_array(w->n_alternates + 1, sizeof(*to->alternates));
	for (size_t i = 0; i < w->n_alternates; i++)
		to->alternates[i] = stage_add(s, w->alternates[i], false);
}

int compartment_launch(struct compartment *c, struct backend_stdio *io, struct err *e)
{
	struct agent_file files[AGENT_FILES_MAX];
	_cleanup_close_ int slave_fd = -1;
	struct stage stage = {0};
	struct launch l = {.c = c, .io = io, .stage = &stage};
	struct bwrap_sources sources = {0};
	struct bwrap_args args;
	struct launch_pipes pipes = {{-1, -1}, {-1, -1}, {-1, -1}};
	size_t n_files;
	int ret;

	ret = agent_files_make(files, &n_files, c->plan, c->wall->pinned, c->plan->agent_uid,
			       c->plan->agent_uid, e);
	if (ret < 0)
		return ret;
	launch_stage(c, &stage, &sources);
	ret = io->has_tty ? compartment_open_pty(c, io, &slave_fd, e) : 0;
	l.slave_fd = slave_fd;
	if (ret == 0)
		ret = launch_open_pipes(&pipes, e);
	if (ret == 0) {
		ret = bwrap_args_make(&args, c, &sources, files, n_files, pipes.info[1],
				      io->has_tty, e);
		if (ret == 0)
			ret = launch_fork(&l, &args, &pipes, e);
		bwrap_args_free(&args);
	}
	if (ret < 0)
		launch_reap(c);
	else
		c->hold_fd = take_fd(&pipes.hold[1]);
	launch_close_pipes(&pipes);
	agent_files_free(files, n_files);
	bwrap_sources_free(&sources);
	stage_free(&stage);
	return ret;
}

pid_t compartment_agent_pid(const struct compartment *c)
{
	char path[64];
	struct str text;
	int pid = 0;

	if (c->init_pidfd < 0)
		return 0;
	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)c->init_pid,
		       (int)c->init_pid);
	/* Orphans come after it in the list: process 1's first child is the agent. */
	if (io_read_file(AT_FDCWD, path, 65536, &text, NULL) < 0)
		return 0;
	(void)sscanf(text.p, "%d", &pid);
	free((void *)(uintptr_t)text.p);
	return pid > 1 && process_parent(pid) == c->init_pid ? pid : 0;
}

void compartment_kill(const struct compartment *c)
{
	if (c->init_pidfd >= 0)
		(void)syscall(SYS_pidfd_send_signal, c->init_pidfd, SIGKILL, NULL, 0);
	else if (c->bwrap_pid > 0)
		(void)kill(c->bwrap_pid, SIGKILL);
}
