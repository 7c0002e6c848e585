/*
 * Starting a relay: what can fail fails here, in the caller. For a container both connections are
 * made before it is started: the attached stream, so that no byte is lost, and a "wait" for its
 * next exit, so that no exit is, however short the process's life. That one also tells at once when
 * the engine goes away, which the end of the stream alone would not.
 */
#include "engine/engine_int.h"

#include "base/clean.h"
#include "base/io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/ioctl.h>
#include <termios.h>

#define RELAY_FDS_MAX 8
/* With a terminal the engine looks for ^P^Q in the input, unless told of other keys: it would hold
 * each ^P back, and hang up on both. No sequence at all cannot be asked for, so it is told of one
 * that nobody types: bytes that are in no UTF-8. */
#define RELAY_DETACH_QUERY "&detachKeys=%%FF,%%FF,%%FF,%%FF,%%FF,%%FF,%%FF,%%FF"

static int attach_container(const struct engine_relay *r, struct engine_relay_job *job,
			    struct err *e)
{
	struct engine_request wait = {.method = "POST"};
	char path[256];
	int ret;

	if (snprintf(path, sizeof(path),
		     "/containers/%s/attach?stream=1&stdin=1&stdout=1&stderr=1" RELAY_DETACH_QUERY,
		     r->container) >= (int)sizeof(path))
		return engine_fail(e, -EINVAL, "attach", "the container's id is too long");
	ret = engine_hijack(r->engine, path, NULL, "attach", &job->stream_fd, job->early, e);
	if (ret < 0)
		return ret;
	(void)snprintf(path, sizeof(path), "/containers/%s/wait?condition=next-exit", r->container);
	wait.path = path;
	job->wait_fd = engine_request(r->engine, &wait, STR_NULL, "wait for the container",
				      engine_deadline(ENGINE_TIMEOUT_MS), e);
	if (job->wait_fd < 0)
		return job->wait_fd;
	/* The head comes when the engine has begun to watch. */
	ret = engine_answer_head(job->wait, job->wait_fd, job->wait_in, "wait for the container",
				 engine_deadline(ENGINE_TIMEOUT_MS), e);
	if (ret == 0 && !engine_answer_is_good(job->wait))
		ret = engine_answer_refused(job->wait, job->wait_fd, job->wait_in,
					    "wait for the container",
					    engine_deadline(ENGINE_TIMEOUT_MS), e);
	return ret;
}

static int attach_exec(const struct engine_relay *r, struct engine_relay_job *job, struct err *e)
{
	json_t *body;
	char path[256];
	int ret;

	if (snprintf(path, sizeof(path), "/exec/%s/start", r->exec) >= (int)sizeof(path))
		return engine_fail(e, -EINVAL, "start exec", "the exec's id is too long");
	body = json_pack("{s:b,s:b}", "Detach", 0, "Tty", r->has_tty);
	ret = engine_hijack(r->engine, path, body, "start exec", &job->stream_fd, job->early, e);
	json_decref(body);
	return ret;
}

/* A pseudo-terminal that changes nothing of what passes: the container has a real one, which does
 * the echo and turns ^C into a signal. */
static int open_terminal(const struct engine_relay *r, int *master, int *slave, struct err *e)
{
	struct winsize size = {.ws_row = r->rows, .ws_col = r->columns};
	struct termios raw;

	*master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*master < 0 || grantpt(*master) < 0 || unlockpt(*master) < 0)
		return err_errno(e, "open a pseudo-terminal");
	*slave = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (*slave < 0)
		return err_errno(e, "open the pseudo-terminal's other end");
	if (tcgetattr(*slave, &raw) < 0)
		return err_errno(e, "read the pseudo-terminal's settings");
	cfmakeraw(&raw);
	if (tcsetattr(*slave, TCSANOW, &raw) < 0 || ioctl(*slave, TIOCSWINSZ, &size) < 0)
		return err_errno(e, "set the pseudo-terminal up");
	return 0;
}

/* --- the child --- */

static void keep_fd(int *kept, size_t *n, int fd)
{
	size_t at = 0;

	if (fd < 0 || *n == RELAY_FDS_MAX)
		return;
	while (at < *n && kept[at] < fd)
		at++;
	if (at < *n && kept[at] == fd)
		return;
	memmove(kept + at + 1, kept + at, (*n - at) * sizeof(*kept));
	kept[at] = fd;
	(*n)++;
}

static void close_others(const struct engine_relay_job *job)
{
	const int wanted[] = {job->stream_fd, job->wait_fd, job->tty_fd, job->in_fd,
			      job->out_fd,    job->err_fd,  job->fail_fd};
	int kept[RELAY_FDS_MAX];
	size_t n = 0;
	unsigned next = 0;

	static_assert(ARRAY_LEN(wanted) <= RELAY_FDS_MAX, "one would be closed");
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		keep_fd(kept, &n, wanted[i]);
	for (size_t i = 0; i < n; i++) {
		if ((unsigned)kept[i] > next)
			(void)close_range(next, (unsigned)kept[i] - 1, 0);
		next = (unsigned)kept[i] + 1;
	}
	(void)close_range(next, ~0u, 0);
	/* Nothing that is opened later may become a standard stream. */
	for (;;) {
		int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

		if (fd > STDERR_FILENO)
			(void)close(fd);
		if (fd < 0 || fd > STDERR_FILENO)
			break;
	}
}

_Noreturn static void child(struct engine_relay_job *job, pid_t parent)
{
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(ENGINE_RELAY_LOST);
	(void)prctl(PR_SET_NAME, "cb-relay");
	for (int s = 1; s < NSIG; s++)
		(void)signal(s, s == SIGPIPE || s == SIGHUP ? SIG_IGN : SIG_DFL);
	close_others(job);
	(void)sigemptyset(&none);
	(void)sigaddset(&none, SIGWINCH);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	/* Its own session also without a terminal: a ^C in the caller's is not for the relay. */
	(void)setsid();
	if (job->tty_fd >= 0)
		(void)ioctl(job->tty_fd, TIOCSCTTY, 0);
	engine_relay_run(job);
}

static int relay_fork(struct engine_relay_job *job, pid_t *pid, struct err *e)
{
	pid_t parent = getpid();
	sigset_t all, before;

	/* No handler of the caller's may run in the child. */
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	*pid = fork();
	if (*pid == 0)
		child(job, parent);
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return *pid < 0 ? err_errno(e, "fork") : 0;
}

int engine_relay_start(const struct engine_relay *r, pid_t *pid, int *master_fd, struct err *e)
{
	_cleanup_close_ int master = -1, slave = -1, stream = -1, wait_fd = -1;
	_cleanup_(buf_free) struct buf early, wait_in;
	struct engine_answer wait;
	struct engine_relay_job job = {.engine = r->engine,
				       .container = r->container,
				       .exec = r->exec,
				       .stream_fd = -1,
				       .wait_fd = -1,
				       .early = &early,
				       .wait_in = &wait_in,
				       .wait = &wait,
				       .tty_fd = -1,
				       .in_fd = r->has_tty ? -1 : r->in_fd,
				       .out_fd = r->has_tty ? -1 : r->out_fd,
				       .err_fd = r->has_tty ? -1 : r->err_fd,
				       .fail_fd = r->fail_fd};
	int ret = 0;

	*pid = -1;
	*master_fd = -1;
	buf_init(&early, ENGINE_IN_MAX);
	buf_init(&wait_in, ENGINE_IN_MAX);
	engine_answer_init(&wait, HTTP1_POST);
	if (r->has_tty)
		ret = open_terminal(r, &master, &slave, e);
	if (ret == 0)
		ret = r->exec ? attach_exec(r, &job, e) : attach_container(r, &job, e);
	stream = job.stream_fd;
	wait_fd = job.wait_fd;
	if (ret < 0)
		return ret;
	job.tty_fd = slave;
	ret = relay_fork(&job, pid, e);
	if (ret == 0)
		*master_fd = take_fd(&master);
	return ret;
}
