/*
 * The host's own repository, for git-gate (bundle/git_stream.h): for each request a child that runs
 * the host's git on what host_git_make() made of the repository, in the box of host_git.h, with the
 * stream that came with the request as its standard input and output.
 *
 * Theory of operation. The keeper itself reads fixed-size requests and moves descriptors. git-gate
 * is trusted with nothing: what it may say over a stream is bounded by what the child was given,
 * whatever it says. As many children as KEEPER_DOOR_CHILDREN run at once; while they do, and faster
 * than DOOR_PER_SECOND, no request is read: they wait in the kernel, and then their sender does.
 * What a child says when it fails is logged here, and its first line goes back, unless a path of
 * the host's is in it.
 */
#include "backend/keeper_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "bundle/git_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define DOOR_BURST	32
#define DOOR_PER_SECOND 10
#define DOOR_PAUSE_MS	100
#define DOOR_READS	16 /* of what a child says, in one turn of the loop */
#define DOOR_FDS	2  /* a request's: the stream, and where to say why it failed */
#define DOOR_FOLDER	"door"

#define DOOR_OF(m, type, member) ((type *)(void *)((char *)(m)-offsetof(type, member)))

static void door_on_request(struct loop_watch *w, uint32_t events);

/* --- in a child --- */

static _Noreturn void child_fail(const struct err *e)
{
	(void)!dprintf(STDERR_FILENO, "%s\n", e->text);
	_exit(1);
}

static _Noreturn void child_main(const struct host_git *g, int stream, int said, pid_t parent)
{
	const char *const upload[] = {"upload-pack", "--strict", g->made, NULL};
	const char *const receive[] = {"receive-pack", g->made, NULL};
	struct err e = ERR_INIT;

	/* A group of its own, so that what git starts ends with it. */
	if (setsid() < 0 || dup2(said, STDERR_FILENO) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
	    getppid() != parent)
		_exit(1);
	(void)umask(g->repo->mask); /* for the folders of the bottle's branches */
	if (host_git_make(g, &e) < 0)
		child_fail(&e);
	if (dup2(stream, STDIN_FILENO) < 0 || dup2(stream, STDOUT_FILENO) < 0)
		_exit(1);
	(void)!host_git_become(g, g->power == HOST_GIT_RECEIVE ? receive : upload, &e);
	child_fail(&e);
}

/* --- a child's end --- */

/* The line that says most. */
static struct str said_line(const struct door_child *c)
{
	struct str rest = str_slice(c->said, c->n_said), first = STR_NULL, line;
	bool found = true;

	while (found) {
		rest = str_cut(rest, '\n', &line, &found);
		if (first.n == 0)
			first = line;
		if (str_starts(line, STR_LIT("fatal: ")) || str_starts(line, STR_LIT("error: ")))
			return line;
	}
	return first;
}

static bool has_text(struct str line, const char *text)
{
	return str_find(line, str_of(text)) < line.n;
}

/* What is cut may be cut within a path. */
static bool tells_path(const struct door_child *c, struct str line)
{
	const struct keeper_door *d = c->door;
	const struct host_repo *r = &d->repo;
	const char *const paths[] = {d->folder, r->top, r->git_dir, r->common_dir, r->objects};
	bool tells = line.p + line.n == c->said + sizeof(c->said);

	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		tells |= has_text(line, paths[i]);
	for (size_t i = 0; i < r->n_alternates; i++)
		tells |= has_text(line, r->alternates[i]);
	return tells;
}

static void child_report(struct door_child *c, int status)
{
	struct str line = said_line(c);
	char shown[HOST_GIT_SAID_MAX];

	if (!c->is_late && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return;
	if (c->is_late)
		line = STR_LIT("git took too long on the host");
	else if (line.n == 0)
		line = STR_LIT("git failed on the host without a word");
	text_visible_cstr(shown, sizeof(shown), line);
	log_warn("the workspace's repository: %s", shown);
	if (tells_path(c, line))
		line = STR_LIT("git failed on the host: see the bottle's log there");
	if (line.n > GIT_STREAM_WHY_MAX)
		line.n = GIT_STREAM_WHY_MAX;
	/* A pipe that is full, or whose reader has gone, is no concern of ours. */
	(void)io_set_nonblock(c->why_fd, true);
	(void)!write(c->why_fd, line.p, line.n);
}

static void child_read(struct door_child *c)
{
	char rest[4096];

	for (int i = 0; i < DOOR_READS && c->said_fd >= 0; i++) {
		bool has_room = c->n_said < sizeof(c->said);
		ssize_t n = has_room ? read(c->said_fd, c->said + c->n_said,
					    sizeof(c->said) - c->n_said)
				     : read(c->said_fd, rest, sizeof(rest));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			loop_del(c->door->loop, &c->said_watch);
			close_fd(&c->said_fd);
			return;
		}
		c->n_said += has_room ? (size_t)n : 0;
	}
}

/* Nothing of it is left afterwards; the slot is free. */
static int child_end(struct door_child *c)
{
	struct loop *l = c->door->loop;
	int status = 0;

	loop_del(l, &c->pid_watch);
	loop_timer_del(l, &c->timer);
	/* While its number is still taken, by itself if by nobody else. */
	(void)kill(-c->pid, SIGKILL);
	(void)kill(c->pid, SIGKILL);
	while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
		;
	c->pid = 0;
	child_read(c);
	loop_del(l, &c->said_watch);
	close_fd(&c->said_fd);
	close_fd(&c->pid_fd);
	(void)!io_remove_tree(AT_FDCWD, c->made, NULL);
	free(c->made);
	c->made = NULL;
	return status;
}

static void child_on_end(struct loop_watch *w, uint32_t events)
{
	struct door_child *c = DOOR_OF(w, struct door_child, pid_watch);
	struct keeper_door *d = c->door;

	(void)events;
	child_report(c, child_end(c));
	close_fd(&c->why_fd);
	/* Somebody may have waited for the place. */
	if (d->fd >= 0 && d->watch.fd < 0 && d->timer.due_ns == 0)
		(void)!loop_add(d->loop, &d->watch, d->fd, EPOLLIN, NULL);
}

static void child_on_said(struct loop_watch *w, uint32_t events)
{
	(void)events;
	child_read(DOOR_OF(w, struct door_child, said_watch));
}

static void child_on_timeout(struct loop_timer *t)
{
	struct door_child *c = DOOR_OF(t, struct door_child, timer);

	c->is_late = true;
	(void)kill(-c->pid, SIGKILL);
	(void)kill(c->pid, SIGKILL);
}

/* --- a request --- */

static bool is_kind(int fd, mode_t type)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type;
}

static bool is_stream(int fd)
{
	int type = 0, domain = 0;
	socklen_t n = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_STREAM &&
	       getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && domain == AF_UNIX;
}

static bool request_is_valid(const struct keeper_door *d, const struct git_stream_request *q,
			     const int fds[DOOR_FDS])
{
	return q->zero == 0 && q->remote == d->remote &&
	       (q->service == GIT_UPLOAD_PACK || q->service == GIT_RECEIVE_PACK) &&
	       is_stream(fds[0]) && is_kind(fds[1], S_IFIFO);
}

static int child_watch(struct door_child *c, struct err *e)
{
	struct loop *l = c->door->loop;
	int ret = 0;

	c->pid_fd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (c->pid_fd < 0)
		ret = err_errno(e, "pidfd_open");
	if (ret == 0)
		ret = loop_add(l, &c->pid_watch, c->pid_fd, EPOLLIN, e);
	if (ret == 0)
		ret = loop_add(l, &c->said_watch, c->said_fd, EPOLLIN, e);
	if (ret == 0)
		loop_timer_set(l, &c->timer, KEEPER_DOOR_MS);
	return ret;
}

static int child_start(struct door_child *c, uint16_t service, int stream, struct err *e)
{
	struct keeper_door *d = c->door;
	struct host_git git = d->git;
	_cleanup_close_ int theirs = -1;
	pid_t parent = getpid();
	int pair[2], ret;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	c->said_fd = pair[0];
	theirs = pair[1];
	(void)io_set_nonblock(c->said_fd, true);
	c->n_said = 0;
	c->is_late = false;
	c->made = mem_printf("%s/%u", d->folder, d->n_served++);
	git.power = service == GIT_RECEIVE_PACK ? HOST_GIT_RECEIVE : HOST_GIT_UPLOAD;
	git.made = c->made;
	c->pid = fork();
	if (c->pid < 0)
		ret = err_errno(e, "fork");
	else if (c->pid == 0)
		child_main(&git, stream, theirs, parent);
	else
		ret = child_watch(c, e);
	if (ret < 0 && c->pid > 0)
		(void)child_end(c);
	if (ret < 0) {
		c->pid = 0;
		free(c->made);
		c->made = NULL;
		close_fd(&c->said_fd);
	}
	return ret;
}

static struct door_child *free_child(struct keeper_door *d)
{
	for (size_t i = 0; i < KEEPER_DOOR_CHILDREN; i++) {
		if (d->children[i].pid == 0)
			return &d->children[i];
	}
	return NULL;
}

/* Once: whoever asks so may ask for ever. */
static void complain(struct keeper_door *d)
{
	if (!d->has_complained)
		log_warn("git-gate asked the host for what is no request");
	d->has_complained = true;
}

static void refuse_paused(int why)
{
	static const char text[] = "the bottle's network is paused";

	(void)io_set_nonblock(why, true);
	(void)!write(why, text, sizeof(text) - 1);
}

/* Owns fds. */
static void serve(struct keeper_door *d, struct door_child *c, const struct git_stream_request *q,
		  int fds[DOOR_FDS])
{
	struct err e = ERR_INIT;

	if (!request_is_valid(d, q, fds)) {
		complain(d);
		close_fd(&fds[1]);
	} else if (d->is_paused) {
		refuse_paused(fds[1]);
		close_fd(&fds[1]);
	} else {
		c->why_fd = take_fd(&fds[1]);
		if (child_start(c, q->service, fds[0], &e) < 0) {
			log_error("the workspace's repository: %s", e.text);
			close_fd(&c->why_fd);
		}
	}
	close_fd(&fds[0]);
}

static void door_end(struct keeper_door *d)
{
	loop_del(d->loop, &d->watch);
	loop_timer_del(d->loop, &d->timer);
	close_fd(&d->fd);
}

static void door_on_request(struct loop_watch *w, uint32_t events)
{
	struct keeper_door *d = DOOR_OF(w, struct keeper_door, watch);
	struct door_child *c = free_child(d);
	struct git_stream_request q;
	int fds[DOOR_FDS] = {-1, -1};
	size_t n_fds = DOOR_FDS;
	ssize_t got;

	(void)events;
	if (!c || !allowance_has(&d->may_read, time_monotonic_ns())) {
		loop_del(d->loop, w);
		if (c)
			loop_timer_set(d->loop, &d->timer, DOOR_PAUSE_MS);
		return;
	}
	got = io_recv_fds(d->fd, &q, sizeof(q), fds, &n_fds, MSG_DONTWAIT);
	if (got == -EAGAIN)
		return;
	d->may_read.left--;
	if ((got == 0 && n_fds == 0) || (got < 0 && got != -EMSGSIZE && got != -EPROTO)) {
		door_end(d);
		return;
	}
	if (got == (ssize_t)sizeof(q) && n_fds == DOOR_FDS) {
		serve(d, c, &q, fds);
		return;
	}
	complain(d);
	for (size_t i = 0; got >= 0 && i < n_fds; i++)
		close_fd(&fds[i]);
}

static void door_on_timer(struct loop_timer *t)
{
	struct keeper_door *d = DOOR_OF(t, struct keeper_door, timer);

	if (loop_add(d->loop, &d->watch, d->fd, EPOLLIN, NULL) < 0)
		door_end(d);
}

/* --- life --- */

void keeper_door_init(struct keeper_door *d)
{
	*d = (struct keeper_door){
		.fd = -1, .watch = {.fd = -1, .fn = door_on_request}, .timer.fn = door_on_timer};
	for (size_t i = 0; i < KEEPER_DOOR_CHILDREN; i++)
		d->children[i] = (struct door_child){.door = d,
						     .pid_fd = -1,
						     .why_fd = -1,
						     .said_fd = -1,
						     .pid_watch = {.fd = -1, .fn = child_on_end},
						     .said_watch = {.fd = -1, .fn = child_on_said},
						     .timer.fn = child_on_timeout};
}

/* -1: none. */
static int find_remote(const struct git_policy *g)
{
	for (size_t i = 0; i < g->n_remotes; i++) {
		if (g->remotes[i].transport == GIT_TRANSPORT_WORKSPACE)
			return (int)i;
	}
	return -1;
}

int keeper_door_prepare(struct keeper_door *d, const struct plan *p, const char *state_dir,
			struct err *e)
{
	int number = find_remote(&p->git), ret;
	char version[128];

	if (number < 0)
		return 0;
	if (!p->workspace_path)
		return err_set(e, -EINVAL, "the workspace has no folder");
	ret = host_git_version(version, sizeof(version), e);
	if (ret == 0)
		ret = host_repo_find(&d->repo, p->workspace_path, e);
	if (ret == 0)
		ret = host_repo_check_branch(&d->repo, p->slug, e);
	if (ret < 0)
		return ret;
	d->remote = (uint16_t)number;
	d->git = (struct host_git){.repo = &d->repo,
				   .slug = p->slug,
				   .may_force = p->git.remotes[number].may_force,
				   .file_max_bytes = p->git.remotes[number].pack_max_bytes};
	/* Of a run that was killed. */
	d->folder = mem_printf("%s/" DOOR_FOLDER, state_dir);
	ret = io_remove_tree(AT_FDCWD, d->folder, e);
	if (ret == 0 && mkdir(d->folder, 0700) < 0)
		ret = err_errno(e, "make \"%s\"", d->folder);
	return ret;
}

int keeper_door_open(struct keeper_door *d, struct loop *l, int *theirs, struct err *e)
{
	int pair[2], ret;

	*theirs = -1;
	if (!d->folder)
		return 0;
	d->loop = l;
	d->may_read =
		(struct allowance){DOOR_BURST, DOOR_PER_SECOND, DOOR_BURST, time_monotonic_ns()};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	d->fd = pair[0];
	*theirs = pair[1];
	ret = loop_add(l, &d->watch, d->fd, EPOLLIN, e);
	if (ret < 0) {
		close_fd(&d->fd);
		close_fd(theirs);
	}
	return ret;
}

/* Folders for branches that were never made. */
static void remove_empty(const struct keeper_door *d)
{
	static const char *const below[] = {"refs/heads/bottle", "logs/refs/heads/bottle"};

	for (size_t i = 0; i < ARRAY_LEN(below); i++) {
		_cleanup_free_ char *all = mem_printf("%s/%s", d->repo.common_dir, below[i]);
		_cleanup_free_ char *own = mem_printf("%s/%s", all, d->git.slug);

		if (rmdir(own) == 0)
			(void)rmdir(all);
	}
}

void keeper_door_pause(struct keeper_door *d, bool is_paused)
{
	d->is_paused = is_paused;
	/* Their ends are noticed as any other's. */
	for (size_t i = 0; is_paused && i < KEEPER_DOOR_CHILDREN; i++) {
		if (d->children[i].pid > 0)
			(void)kill(-d->children[i].pid, SIGKILL);
	}
}

void keeper_door_close(struct keeper_door *d)
{
	if (d->fd >= 0)
		door_end(d);
	for (size_t i = 0; i < KEEPER_DOOR_CHILDREN; i++) {
		if (d->children[i].pid > 0)
			(void)child_end(&d->children[i]);
		close_fd(&d->children[i].why_fd);
	}
	if (d->folder) {
		(void)!io_remove_tree(AT_FDCWD, d->folder, NULL);
		remove_empty(d);
	}
	free(d->folder);
	d->folder = NULL;
	host_repo_free(&d->repo);
}
