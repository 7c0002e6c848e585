/*
 * Theory of operation. A child of the keeper walks down one way, as an agent's compartment does:
 * into the groups that count it, its files (as root, a stage), its standard descriptors, the wall,
 * its limits, and then bubblewrap, whose command is process 1. Whatever goes wrong before process 1
 * says hello is said on the child's standard error, by us or by bubblewrap, and is the error's
 * text.
 */
#include "cell/cell_int.h"

#include "backend/walled/bwrap.h"
#include "backend/walled/cgroup.h"
#include "backend/walled/stage.h"
#include "backend/walled/wall.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/signals.h"
#include "base/text.h"
#include "bundle/program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CELL_TMP_BYTES "268435456" /* of /tmp, in memory */
#define CELL_SAID_MAX  480

struct make {
	const struct cell_spec *spec;
	struct stage stage;
	struct bwrap bwrap;
	int conn, err; /* the child's ends */
	pid_t parent;
};

/* --- what it sees --- */

static int make_check_bind(const struct cell_bind *b, const struct wall *w, struct err *e)
{
	struct stat st;

	if (!b->is_writable)
		return 0;
	if (stat(b->from, &st) < 0)
		return err_errno(e, "\"%s\"", b->from);
	/* Attack: a folder of another's, which the cell could then change as nobody expects. */
	if (st.st_uid != w->uid)
		return err_set(e, -EPERM, "\"%s\" is not of the cell's uid %u", b->from,
			       (unsigned)w->uid);
	return 0;
}

static int make_put_binds(struct make *m, struct err *e)
{
	for (size_t i = 0; i < m->spec->n_binds; i++) {
		const struct cell_bind *b = &m->spec->binds[i];
		int ret = make_check_bind(b, m->spec->wall, e);

		if (ret < 0)
			return ret;
		if (b->is_device)
			BWRAP_PUT(&m->bwrap, "--dev-bind", stage_add_device(&m->stage, b->from),
				  b->to);
		else
			BWRAP_PUT(&m->bwrap, b->is_writable ? "--bind" : "--ro-bind",
				  stage_add(&m->stage, b->from, false), b->to);
	}
	return 0;
}

/* Of the host's /etc nothing but where the loader finds its libraries. */
static int make_put_files(struct make *m, const char *program, struct err *e)
{
	struct bwrap *b = &m->bwrap;
	int ret;

	bwrap_put_system(b);
	BWRAP_PUT(b, "--perms", "0755", "--dir", "/etc");
	BWRAP_PUT(b, "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache");
	BWRAP_PUT(b, "--perms", "0700", "--size", CELL_TMP_BYTES, "--tmpfs", "/tmp");
	BWRAP_PUT(b, "--perms", "0755", "--dir", CELL_FOLDER);
	BWRAP_PUT(b, "--ro-bind", stage_add(&m->stage, program, false), CELL_PROGRAM);
	ret = make_put_binds(m, e);
	/* With what is mounted below: nothing of it but devices is written. */
	BWRAP_PUT(b, "--remount-ro", "/dev", "--remount-ro", "/");
	return ret;
}

static int make_put_command(struct make *m, struct err *e)
{
	_cleanup_free_ char *number = mem_printf("%d", m->conn);
	const char *const words[] = {CELL_PROGRAM, CELL_COMMAND, number};
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(words); i++)
		ret = bwrap_put_word(&m->bwrap, words[i], e);
	for (size_t i = 0; ret == 0 && i < m->spec->n_binds; i++) {
		const struct cell_bind *b = &m->spec->binds[i];
		_cleanup_free_ char *word =
			mem_printf("%s%s", b->is_device ? CELL_DEVICE_ARG : CELL_WRITE_ARG, b->to);

		if (b->is_writable || b->is_device)
			ret = bwrap_put_word(&m->bwrap, word, e);
	}
	return ret;
}

/* The bundle's executable is checked by descriptor, and bound by its path: a mount of the caller's
 * namespace cannot be bound in another. */
static int make_find_program(char out[PATH_MAX], struct err *e)
{
	_cleanup_close_ int fd = bundle_find(e);
	char link[48];
	ssize_t n;

	if (fd < 0)
		return fd;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, out, PATH_MAX - 1);
	if (n < 0)
		return err_errno(e, "find the path of " BUNDLE_PROGRAM);
	out[n] = '\0';
	return 0;
}

static int make_args(struct make *m, struct err *e)
{
	char program[PATH_MAX];
	struct bwrap *b = &m->bwrap;
	int ret = make_find_program(program, e);

	if (ret < 0)
		return ret;
	bwrap_put_namespaces(b);
	BWRAP_PUT(b, "--as-pid-1", "--hostname", "cell", "--chdir", "/");
	bwrap_put_env(b, m->spec->env);
	BWRAP_PUT(b, "--setenv", "CLAUDE_BOTTLE_SLUG", m->spec->slug);
	ret = make_put_files(m, program, e);
	bwrap_keep(b, m->conn);
	if (ret == 0)
		ret = bwrap_seal(b, e);
	return ret < 0 ? ret : make_put_command(m, e);
}

/* --- the child --- */

static int make_stdio(const struct make *m, struct err *e)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (setsid() < 0)
		return err_errno(e, "setsid");
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(m->err, 2) < 0)
		return err_errno(e, "arrange the standard descriptors");
	return 0;
}

/* Everything up to bubblewrap; returns only with an error. */
static int make_become(const struct make *m, struct err *e)
{
	_cleanup_free_ char *label = mem_printf("CLAUDE_BOTTLE_SLUG=%s", m->spec->slug);
	char *env[] = {label, NULL};
	int ret = make_stdio(m, e);

	if (ret == 0)
		ret = cgroup_join(m->spec->cgroup, e);
	if (ret == 0 && m->stage.is_needed)
		ret = stage_make(&m->stage, e);
	if (ret == 0)
		ret = wall_enter(m->spec->wall, e);
	if (ret == 0)
		ret = limits_lower(RLIMIT_CORE, 0, e);
	if (ret == 0 && m->spec->file_size_bytes > 0)
		ret = limits_lower(RLIMIT_FSIZE, m->spec->file_size_bytes, e);
	if (ret < 0)
		return ret;
	signals_reset();
	/* A change of ids clears the parent-death signal, so it is set here, and the parent looked
	 * at after that: whoever died in between is not missed. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, "prctl");
	if (getppid() != m->parent)
		_exit(CELL_NOT_RUN);
	return bwrap_become(&m->bwrap, env, e);
}

static _Noreturn void make_child(const struct make *m)
{
	struct err e = ERR_INIT;

	(void)!make_become(m, &e);
	(void)!io_write_all(m->err, e.text, strlen(e.text));
	_exit(CELL_NOT_RUN);
}

/* --- its hello --- */

static int make_failed(int err_fd, struct err *e)
{
	char said[CELL_SAID_MAX], shown[CELL_SAID_MAX];
	ssize_t got;

	/* It has ended, so all that it said is there. */
	(void)io_set_nonblock(err_fd, true);
	got = read(err_fd, said, sizeof(said));
	text_visible_cstr(shown, sizeof(shown),
			  str_trim(str_slice(said, got > 0 ? (size_t)got : 0)));
	return err_set(e, -ECHILD, "the cell could not be made: %s",
		       shown[0] ? shown : "it ended without a word");
}

/* Its sender's number, by the kernel's word, and the descriptor that comes along. */
static ssize_t make_receive(int conn, char *letter, pid_t *pid, int *fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {letter, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	ssize_t got = recvmsg(conn, &msg, MSG_CMSG_CLOEXEC);
	struct ucred sender;

	*pid = 0;
	for (struct cmsghdr *c = got == 1 ? CMSG_FIRSTHDR(&msg) : NULL; c;
	     c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&sender, CMSG_DATA(c), sizeof(sender));
			*pid = sender.pid;
		} else if (c->cmsg_type == SCM_RIGHTS && *fd < 0) {
			memcpy(fd, CMSG_DATA(c), sizeof(*fd));
		}
	}
	return got;
}

int cell_verify_network(int ns_fd, const struct wall *w, struct err *e)
{
	struct stat theirs, ours;

	if (fstat(ns_fd, &theirs) < 0 || fstat(w->netns_fd, &ours) < 0)
		return err_errno(e, "look at the cell's network");
	if (theirs.st_dev != ours.st_dev || theirs.st_ino != ours.st_ino)
		return err_set(e, -ENOTUNIQ, "the cell does not stand in the bottle's wall");
	return 0;
}

static int make_await(struct cell *c, const struct wall *w, int err_fd, struct err *e)
{
	_cleanup_close_ int network = -1;
	pid_t init = 0;
	char letter = 0;

	if (io_wait(c->conn_fd, POLLIN, CELL_START_MS) <= 0)
		return err_set(e, -ETIMEDOUT, "the cell does not start");
	if (make_receive(c->conn_fd, &letter, &init, &network) <= 0)
		return make_failed(err_fd, e);
	if (letter != CELL_HELLO || init <= 1)
		return err_set(e, -EPROTO, "the cell's hello makes no sense");
	c->init_pidfd = (int)syscall(SYS_pidfd_open, init, 0);
	/* It keeps its end as long as it lives: the number was still its own. */
	if (c->init_pidfd < 0 || io_wait(c->conn_fd, POLLIN, 0) != 0)
		return err_set(e, -ESRCH, "the cell ended while it started");
	return cell_verify_network(network, w, e);
}

/* Closes the child's ends, so that its end is seen. */
static int make_start(struct cell *c, struct make *m, int err_fd, struct err *e)
{
	m->parent = getpid();
	c->pid = fork();
	if (c->pid < 0) {
		c->pid = 0;
		return err_errno(e, "fork");
	}
	if (c->pid == 0)
		make_child(m);
	close_fd(&m->conn);
	close_fd(&m->err);
	return make_await(c, m->spec->wall, err_fd, e);
}

static int make_open(struct cell *c, struct make *m, int *err_fd, struct err *e)
{
	const int on = 1;
	int pair[2], ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	c->conn_fd = pair[0];
	m->conn = bwrap_raise_fd(pair[1], e);
	if (m->conn < 0)
		return m->conn;
	if (setsockopt(c->conn_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return err_errno(e, "SO_PASSCRED");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	*err_fd = ends[0];
	m->err = bwrap_raise_fd(ends[1], e);
	return m->err < 0 ? m->err : 0;
}

int cell_make(struct cell *c, const struct cell_spec *spec, struct err *e)
{
	_cleanup_close_ int err_fd = -1;
	struct make m = {.spec = spec, .conn = -1, .err = -1};
	int ret;

	*c = CELL_INIT;
	if (spec->n_binds > CELL_BINDS_MAX)
		return err_set(e, -E2BIG, "more than %d paths for a cell", CELL_BINDS_MAX);
	if (!bwrap_find())
		return err_set(e, -ENOENT, "bubblewrap is not installed (package bubblewrap)");
	m.stage = (struct stage){
		.is_needed = geteuid() == 0, .uid = spec->wall->uid, .gid = spec->wall->gid};
	bwrap_init(&m.bwrap);
	ret = make_open(c, &m, &err_fd, e);
	if (ret == 0)
		ret = make_args(&m, e);
	if (ret == 0)
		ret = make_start(c, &m, err_fd, e);
	close_fd(&m.conn);
	close_fd(&m.err);
	bwrap_free(&m.bwrap);
	stage_free(&m.stage);
	if (ret < 0)
		cell_free(c);
	return ret;
}

/* --- its end --- */

void cell_kill(struct cell *c)
{
	close_fd(&c->conn_fd);
	/* bubblewrap's own end is not the cell's: it may be seen before the last process is gone.
	 * With process 1 it is the other way round. */
	if (c->init_pidfd >= 0)
		(void)syscall(SYS_pidfd_send_signal, c->init_pidfd, SIGKILL, NULL, 0);
	else if (c->pid > 0)
		(void)kill(c->pid, SIGKILL);
}

void cell_free(struct cell *c)
{
	cell_kill(c);
	while (c->pid > 0 && waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
		;
	close_fd(&c->init_pidfd);
	*c = CELL_INIT;
}
