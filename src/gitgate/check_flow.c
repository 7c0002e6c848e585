/*
 * Two gits in a row, and their output. Both are other people's parsers of hostile bytes: they may
 * end early, say too little or hang; the deadline and the strictness of the reader settle it.
 */
#include "gitgate/check_int.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>

#define FLOW_PIPE_BYTES (1 << 20)
#define FLOW_READ_BYTES (256u << 10)
#define FLOW_POLL_MS	1000
#define GIT_DIED	128 /* what git's die() exits with */

static void child_none(struct git_child *c)
{
	*c = (struct git_child){-1, -1, -1, -1, -1};
}

/* What the pipe takes. A git that ends before it has read everything says why by its status. */
static void give(struct check_flow *f)
{
	ssize_t n = f->in.n ? write(f->first.in_fd, f->in.p, f->in.n) : 0;

	if (n > 0)
		f->in = str_sub(f->in, (size_t)n, f->in.n);
	if (f->in.n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		close_fd(&f->first.in_fd);
}

int check_flow_open(struct check_flow *f, struct check *c, const char *name,
		    const char *const *first, const char *const *second, struct str in)
{
	int r, out;

	memset(f, 0, sizeof(*f));
	child_none(&f->first);
	child_none(&f->second);
	f->name = name;
	f->in = in;
	f->deadline_ns = c->in->deadline_ns;
	r = git_run_start(c->in->git, first, (int[]){-1, -1, -1}, -1, &f->first, c->e);
	if (r < 0)
		return r;
	if (second) {
		out = take_fd(&f->first.out_fd);
		(void)fcntl(out, F_SETPIPE_SZ, FLOW_PIPE_BYTES);
		r = git_run_start(c->in->git, second, (int[]){out, -1, -1}, -1, &f->second, c->e);
		close_fd(&out);
	}
	out = second ? f->second.out_fd : f->first.out_fd;
	(void)fcntl(out, F_SETPIPE_SZ, FLOW_PIPE_BYTES);
	for (int i = 0; i < 3 && r == 0; i++) {
		int fd = (int[]){f->first.in_fd, f->first.err_fd, f->second.err_fd}[i];

		if (fd >= 0 && (r = io_set_nonblock(fd, true)) < 0)
			(void)err_set(c->e, r, "git's pipe");
	}
	if (r < 0)
		(void)check_flow_close(f, c);
	return r;
}

static void take_err(struct check_flow *f, int *fd)
{
	char piece[512];
	ssize_t n = read(*fd, piece, sizeof(piece));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		close_fd(fd);
		return;
	}
	for (ssize_t i = 0; i < n && f->err_n < sizeof(f->err_text); i++)
		f->err_text[f->err_n++] = piece[i];
}

/* Reads once, waiting for it, and gives what is to be given meanwhile: git answers before it has
 * read all, and would wait for us as we for it. 0 with is_over at the end. */
static int flow_read(struct check_flow *f, struct check *c)
{
	int *out = f->second.pid > 0 ? &f->second.out_fd : &f->first.out_fd;

	for (;;) {
		struct pollfd p[] = {{*out, POLLIN, 0},
				     {f->first.err_fd, POLLIN, 0},
				     {f->second.err_fd, POLLIN, 0},
				     {f->first.in_fd, POLLOUT, 0}};
		int n = poll(p, ARRAY_LEN(p), FLOW_POLL_MS);
		ssize_t k;

		if (n < 0 && errno != EINTR)
			return err_errno(c->e, "poll");
		if (time_monotonic_ns() > f->deadline_ns)
			return err_set(c->e, -ETIMEDOUT, "looking at the push took too long");
		if (n <= 0)
			continue;
		if (p[1].revents)
			take_err(f, &f->first.err_fd);
		if (p[2].revents)
			take_err(f, &f->second.err_fd);
		if (p[3].revents)
			give(f);
		if (!p[0].revents)
			continue;
		k = read(*out, f->p + f->to, f->size - f->to);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_errno(c->e, "read from git");
		f->is_over = k == 0;
		f->to += (size_t)k;
		return 0;
	}
}

/* Room for n bytes from `from` on, and something to read into. */
static int flow_room(struct check_flow *f, struct check *c, size_t n)
{
	if (n < FLOW_READ_BYTES)
		n = FLOW_READ_BYTES;
	if (f->size - f->from >= n && f->to < f->size)
		return 0;
	if (f->from) {
		memmove(f->p, f->p + f->from, f->to - f->from);
		f->to -= f->from;
		f->from = 0;
	}
	if (f->size < n || f->to == f->size) {
		size_t size = f->size < n ? n : f->size + FLOW_READ_BYTES;
		char *p = realloc(f->p, size);

		if (!p)
			return err_set(c->e, -ENOMEM, "memory for git's output");
		f->p = p;
		f->size = size;
	}
	return 0;
}

int check_flow_need(struct check_flow *f, struct check *c, size_t n, struct str *out)
{
	int r;

	while (f->to - f->from < n) {
		if (f->is_over)
			return -ENODATA;
		if ((r = flow_room(f, c, n)) < 0 || (r = flow_read(f, c)) < 0)
			return r;
	}
	*out = str_slice(f->p + f->from, f->to - f->from);
	return 0;
}

void check_flow_skip(struct check_flow *f, size_t n)
{
	f->from += n < f->to - f->from ? n : f->to - f->from;
	if (f->from == f->to)
		f->from = f->to = 0;
}

int check_flow_line(struct check_flow *f, struct check *c, char end, size_t max, struct str *out)
{
	size_t looked = 0;
	int r;

	for (;;) {
		size_t have = f->to - f->from;
		char *p =
			have > looked ? memchr(f->p + f->from + looked, end, have - looked) : NULL;

		if (p) {
			*out = str_slice(f->p + f->from, (size_t)(p - f->p) - f->from);
			f->from = (size_t)(p - f->p) + 1;
			return out->n > max ? -EMSGSIZE : 0;
		}
		looked = have;
		if (have > max)
			return -EMSGSIZE;
		if (f->is_over)
			return have ? -EMSGSIZE : -ENODATA;
		if ((r = flow_room(f, c, have + 1)) < 0 || (r = flow_read(f, c)) < 0)
			return r;
	}
}

static int child_close(struct check_flow *f, struct check *c, struct git_child *child)
{
	int status;

	if (child->pid <= 0)
		return 0;
	close_fd(&child->out_fd);
	if (child->err_fd >= 0 && f->is_over) {
		/* It has ended, or is about to; or so it seems. */
		while (time_monotonic_ns() < f->deadline_ns &&
		       io_wait(child->err_fd, POLLIN, FLOW_POLL_MS) == 1 && child->err_fd >= 0)
			take_err(f, &child->err_fd);
	}
	close_fd(&child->err_fd);
	/* When nobody reads on, there is nothing to wait for. */
	status = git_run_wait(child, f->is_over ? f->deadline_ns : 0, f->is_over ? c->e : NULL);
	return f->is_over ? status : 0;
}

int check_flow_close(struct check_flow *f, struct check *c)
{
	int a, b;

	close_fd(&f->first.in_fd);
	/* The second first: it has read all that the first had to say, or nobody ever will. */
	b = child_close(f, c, &f->second);
	a = child_close(f, c, &f->first);
	free(f->p);
	f->p = NULL;
	if (a < 0 || b < 0)
		return a < 0 ? a : b;
	if (a == 0 && b == 0)
		return 0;
	if (a != GIT_DIED && b != GIT_DIED) {
		char said[200];

		text_visible_cstr(said, sizeof(said), str_slice(f->err_text, f->err_n));
		return err_set(c->e, -EIO, "git could not look at what was pushed (%s, %d): %s",
			       f->name, a ? a : b, said);
	}
	/* git refuses to read some object: so do we. */
	c->has_failed = true;
	(void)check_found(c, CHECK_MALFORMED, "unreadable", "object");
	return 0;
}
