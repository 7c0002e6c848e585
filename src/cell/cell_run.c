/*
 * Commands in a cell, from the keeper's side. Each has a stand-in here, a child of the keeper, so
 * that the keeper waits for it and kills it as it does with any other child. What the stand-in has
 * is one socket: it ends with the status that comes, and its end, however that comes, is the
 * command's.
 */
#include "cell/cell_int.h"

#include "base/buf.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/signals.h"
#include "base/timeutil.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static_assert(CELL_ORDER_FDS_MAX <= IO_FDS_MAX, "an order's descriptors fit into one message");

/* --- the stand-in --- */

/* A copy of the cell's connection would keep the cell alive after the keeper; one of a pipe,
 * whoever reads it. b may be -1. */
static int keep_two(int a, int b)
{
	unsigned low = (unsigned)(b < 0 || a < b ? a : b), high = (unsigned)(b < a ? a : b);

	if (low > 0 && close_range(0, low - 1, 0) < 0)
		return -errno;
	if (high > low + 1 && close_range(low + 1, high - 1, 0) < 0)
		return -errno;
	return close_range(high + 1, ~0u, 0) < 0 ? -errno : 0;
}

static bool is_answered(int status_fd, int until_fd)
{
	struct pollfd p[] = {{.fd = status_fd, .events = POLLIN}, {.fd = until_fd}};

	while (poll(p, ARRAY_LEN(p), -1) < 0) {
		if (errno != EINTR)
			return false;
	}
	return p[0].revents != 0;
}

static _Noreturn void stand_in(int status_fd, int until_fd, pid_t parent)
{
	struct cell_status answer;

	(void)prctl(PR_SET_NAME, "cell-run");
	signals_reset();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(CELL_NOT_RUN);
	if (keep_two(status_fd, until_fd) < 0 || !is_answered(status_fd, until_fd))
		_exit(CELL_NOT_RUN);
	if (io_recv_fds(status_fd, &answer, sizeof(answer), NULL, NULL, 0) !=
	    (ssize_t)sizeof(answer))
		_exit(CELL_NOT_RUN);
	_exit(answer.status & 0xff);
}

/* --- the order --- */

/* The strings of list, each with its NUL, behind what is in words. */
static int words_put(struct buf *words, char *const *list, uint32_t max, uint32_t *n,
		     const char *what, struct err *e)
{
	for (*n = 0; list && list[*n]; (*n)++) {
		if (*n == max)
			return err_set(e, -E2BIG, "more than %u words of %s for a cell", max, what);
		if (buf_append(words, list[*n], strlen(list[*n]) + 1) < 0)
			return err_set(e, -E2BIG, "the %s is too long for a cell", what);
	}
	return 0;
}

/* The head, and the words as a memory file. */
static int order_make(const struct cell_run *r, struct cell_order *head, struct err *e)
{
	_cleanup_(buf_free) struct buf words = BUF_INIT(CELL_WORDS_MAX);
	int ret;

	*head = (struct cell_order){.letter = CELL_RUN,
				    .has_terminal = r->has_terminal,
				    .has_env = r->env != NULL,
				    .address_space_bytes = r->address_space_bytes};
	ret = words_put(&words, r->argv, CELL_ARGV_MAX, &head->n_argv, "command", e);
	if (ret == 0)
		ret = words_put(&words, r->env, CELL_ENV_MAX, &head->n_env, "environment", e);
	if (ret < 0)
		return ret;
	if (head->n_argv == 0 || r->argv[0][0] != '/')
		return err_set(e, -EINVAL, "a cell runs what is named by its absolute path");
	return io_memfd_sealed("words", buf_str(&words), e);
}

/* Attack: from a folder's descriptor all of its file system is a few ".." away (CVE-2024-21626). */
static int order_check(const int *fds, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		struct stat st;

		if (fstat(fds[i], &st) < 0)
			return err_errno(e, "a descriptor for a cell");
		if (S_ISDIR(st.st_mode))
			return err_set(e, -EISDIR, "a folder's descriptor is not for a cell");
	}
	return 0;
}

static int order_send(const struct cell *c, const struct cell_run *r, int status_fd, struct err *e)
{
	_cleanup_close_ int words = -1, null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fds[CELL_ORDER_FDS_MAX];
	size_t n_fds = CELL_FD_FURTHER + r->n_fds;
	struct cell_order head;
	ssize_t put;
	int ret;

	if (null < 0)
		return err_errno(e, "open /dev/null");
	if (r->n_fds > CELL_FDS_MAX)
		return err_set(e, -E2BIG, "more than %d descriptors for a cell", CELL_FDS_MAX);
	words = order_make(r, &head, e);
	if (words < 0)
		return words;
	fds[CELL_FD_WORDS] = words;
	fds[CELL_FD_STATUS] = status_fd;
	fds[CELL_FD_IN] = r->in_fd < 0 ? null : r->in_fd;
	fds[CELL_FD_OUT] = r->out_fd < 0 ? null : r->out_fd;
	fds[CELL_FD_ERR] = r->err_fd < 0 ? null : r->err_fd;
	for (size_t i = 0; i < r->n_fds; i++)
		fds[CELL_FD_FURTHER + i] = r->fds[i];
	ret = order_check(fds, n_fds, e);
	if (ret < 0)
		return ret;
	put = io_send_fds(c->conn_fd, &head, sizeof(head), fds, n_fds, MSG_DONTWAIT);
	if (put == (ssize_t)sizeof(head))
		return 0;
	if (put == -EPIPE || put == -ECONNRESET)
		return err_set(e, -EPIPE, "the cell has ended");
	errno = put < 0 ? (int)-put : EIO;
	return err_errno(e, "ask the cell for \"%s\"", r->argv[0]);
}

/* *line_fd: a copy of the stand-in's socket, whose shutdown() ends both it and the command. */
static int run(const struct cell *c, const struct cell_run *r, pid_t *pid, int *line_fd,
	       struct err *e)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	pid_t parent = getpid();
	int pair[2], ret;

	*pid = 0;
	*line_fd = -1;
	if (c->conn_fd < 0)
		return err_set(e, -EPIPE, "the cell has ended");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	ret = order_send(c, r, theirs, e);
	if (ret < 0)
		return ret;
	close_fd(&theirs);
	/* Where it fails, the socket's end kills what has just been started. */
	*pid = fork();
	if (*pid == 0)
		stand_in(ours, r->until_fd ? *r->until_fd : -1, parent);
	if (*pid < 0) {
		*pid = 0;
		return err_errno(e, "fork");
	}
	*line_fd = take_fd(&ours);
	return 0;
}

int cell_run(const struct cell *c, const struct cell_run *r, pid_t *pid, struct err *e)
{
	_cleanup_close_ int line = -1;

	return run(c, r, pid, &line, e);
}

/* --- to its end --- */

#define CALL_PIECE_BYTES 16384

struct call {
	pid_t pid; /* the stand-in */
	int pidfd, line_fd;
	int fds[2]; /* its output and error; -1 after their ends */
	struct buf said[2];
};

static void call_free(struct call *k)
{
	for (size_t i = 0; i < 2; i++) {
		close_fd(&k->fds[i]);
		buf_free(&k->said[i]);
	}
	close_fd(&k->pidfd);
	close_fd(&k->line_fd);
}

/* 1: something came. */
static int call_read(struct call *k, size_t i, struct err *e)
{
	char piece[CALL_PIECE_BYTES];
	ssize_t got = read(k->fds[i], piece, sizeof(piece));

	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (got < 0)
		return err_errno(e, "read what a command in the cell says");
	if (got == 0)
		close_fd(&k->fds[i]);
	if (buf_append(&k->said[i], piece, (size_t)got) < 0)
		return err_set(e, -E2BIG, "a command in the cell says more than %zu bytes",
			       k->said[i].cap);
	return got > 0;
}

/* Until its process has ended. Whoever it has left in the background may still hold its pipes: what
 * it said itself is in them by then. */
static int call_listen(struct call *k, uint64_t until_ns, struct err *e)
{
	for (;;) {
		struct pollfd polls[] = {{.fd = k->fds[0], .events = POLLIN},
					 {.fd = k->fds[1], .events = POLLIN},
					 {.fd = k->pidfd, .events = POLLIN}};
		uint64_t now_ns = time_monotonic_ns();
		bool has_read = false;
		int ret = 0;

		if (now_ns >= until_ns)
			return err_set(e, -ETIMEDOUT, "a command in the cell does not end");
		if (poll(polls, ARRAY_LEN(polls), (int)((until_ns - now_ns) / TIME_NS_PER_MS) + 1) <
			    0 &&
		    errno != EINTR)
			return err_errno(e, "poll");
		for (size_t i = 0; ret >= 0 && i < 2; i++) {
			ret = polls[i].revents ? call_read(k, i, e) : 0;
			has_read = has_read || ret > 0;
		}
		if (ret < 0)
			return ret;
		if (polls[2].revents && !has_read)
			return 0;
	}
}

static int call_start(struct call *k, const struct cell *c, const struct cell_run *r, size_t max,
		      struct err *e)
{
	_cleanup_close_ int out = -1, err = -1;
	struct cell_run piped = *r;
	int *const theirs[] = {&out, &err};
	int ret;

	for (size_t i = 0; i < 2; i++) {
		int ends[2];

		buf_init(&k->said[i], max);
		if (pipe2(ends, O_CLOEXEC) < 0)
			return err_errno(e, "pipe");
		k->fds[i] = ends[0];
		*theirs[i] = ends[1];
		ret = io_set_nonblock(ends[0], true);
		if (ret < 0)
			return err_set(e, ret, "make a pipe");
	}
	piped.out_fd = out;
	piped.err_fd = err;
	ret = run(c, &piped, &k->pid, &k->line_fd, e);
	if (ret < 0)
		return ret;
	k->pidfd = (int)syscall(SYS_pidfd_open, k->pid, 0);
	return k->pidfd < 0 ? err_errno(e, "hold a command in the cell") : 0;
}

int cell_call(const struct cell *c, const struct cell_run *r, int timeout_ms, size_t max,
	      struct str *out, struct str *err, struct err *e)
{
	uint64_t until_ns =
		time_monotonic_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * TIME_NS_PER_MS;
	_cleanup_(call_free) struct call k = {.pidfd = -1, .line_fd = -1, .fds = {-1, -1}};
	int status = 0, ret = call_start(&k, c, r, max, e);

	*out = *err = STR_NULL;
	if (ret == 0)
		ret = call_listen(&k, until_ns, e);
	/* When it has not ended of itself, its end is the command's. Not by a signal: not every
	 * caller may send one (smolmachines/bridge.c). */
	if (k.pid > 0 && ret < 0)
		(void)shutdown(k.line_fd, SHUT_RDWR);
	while (k.pid > 0 && waitpid(k.pid, &status, 0) < 0 && errno == EINTR)
		;
	if (ret < 0)
		return ret;
	*out = str_slice(str_dup(buf_str(&k.said[0])), buf_len(&k.said[0]));
	*err = str_slice(str_dup(buf_str(&k.said[1])), buf_len(&k.said[1]));
	return signals_exit_status(status);
}
