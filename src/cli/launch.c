#include "cli/launch.h"

#include "bottles/bottles.h"
#include "cli/client.h"
#include "cli/progress.h"
#include "cli/session.h"

#include "backend/backend.h"
#include "backend/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

bool launch_has_tty(bool is_headless, bool is_detached)
{
	return !is_headless && (is_detached || (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)));
}

bool launch_is_wanted(const struct plan *p, bool is_headless, bool must_ask)
{
	if (is_headless || !isatty(STDIN_FILENO) || !(must_ask || preflight_is_foreign(p)))
		return true;
	return preflight_ask(p);
}

int launch_ensure(const struct plan *p, struct err *e)
{
	const struct backend *b = backend_find(p->backend);
	struct progress_view view;
	struct progress sink;
	int r;

	if (!b)
		return err_set(e, -ENOSYS, "backend %s is not in this build",
			       plan_backend_name(p->backend));
	if (!b->ensure)
		return 0;
	progress_view_init(&view, STDERR_FILENO, progress_may_rewrite(STDERR_FILENO));
	sink = progress_view_sink(&view);
	r = b->ensure(p, &sink, e);
	progress_view_end(&view);
	return r;
}

/* One line from the keeper, or a signal. 0 once the agent runs. */
static int wait_ready(int ready_fd, struct err *e)
{
	_cleanup_close_ int signals = -1;
	char line[ERR_TEXT_MAX];
	size_t n = 0;
	sigset_t set, old;
	int r = -EIO;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &set, &old);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	for (;;) {
		struct pollfd fds[] = {{.fd = ready_fd, .events = POLLIN},
				       {.fd = signals, .events = POLLIN}};
		ssize_t got;

		if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR) {
			r = err_errno(e, "poll");
			break;
		}
		if (fds[1].revents && !fds[0].revents) {
			/* It is still pending and ends us below; the keeper then finds its end of
			 * the pipe closed and takes all down again. */
			r = err_set(e, -EINTR, "interrupted while the bottle was being made");
			break;
		}
		got = read(ready_fd, line + n, sizeof(line) - 1 - n);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		n += got > 0 ? (size_t)got : 0;
		if (got <= 0 || n == sizeof(line) - 1 || memchr(line, '\n', n)) {
			struct str reason = str_slice(line, n);

			(void)str_cut(reason, '\n', &reason, &(bool){false});
			r = str_eq(reason, STR_LIT("ok")) ? 0
			    : reason.n ? err_set(e, -EIO, STR_FMT, STR_ARG(reason))
				       : err_set(e, -EIO,
						 "the keeper ended without a word (claude-bottle "
						 "cleanup)");
			break;
		}
	}
	/* Blocked until the client has its handlers: who dies between "ok" and the attachment would
	 * leave a bottle without an owner. */
	if (r < 0)
		(void)sigprocmask(SIG_SETMASK, &old, NULL);
	return r;
}

int launch_keeper(const struct launch *l, int *dir, bool *has_begun, struct err *e)
{
	_cleanup_close_ int ready_fd = -1, bottles = -1;
	struct keeper_start s = {.plan = l->plan,
				 .state_dir = l->state_path,
				 .lock_fd = l->lock_fd,
				 .has_tty = l->has_tty,
				 .is_detached = l->is_detached};
	int r;

	*dir = -1;
	*has_begun = false;
	client_window(&s.rows, &s.columns);
	r = keeper_spawn(&s, &ready_fd, e);
	if (r < 0)
		return r;
	*has_begun = true;
	r = wait_ready(ready_fd, e);
	if (r < 0 && r != -EINTR)
		cli_note("the log of this start: %s/log", l->state_path);
	if (r < 0)
		return r;
	r = places_bottles_open(false, &bottles, e);
	if (r < 0)
		return r;
	*dir = openat(bottles, l->plan->slug, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return *dir < 0 ? err_errno(e, "open the state of %s", l->plan->slug) : 0;
}

static int print_detached(const struct plan *plan, bool is_json)
{
	int n = is_json ? printf("{\"slug\":\"%s\"}\n", plan->slug) : printf("%s\n", plan->slug);

	return n < 0 || fflush(stdout) != 0 ? CLI_FAILED : CLI_OK;
}

int launch_session(const struct launch *l, int dir)
{
	_cleanup_close_ int sock = -1;
	struct err e = ERR_INIT;
	struct client_options o = {
		.has_tty = l->has_tty, .may_detach = true, .forwards_signals = true, .owns = true};

	if (l->is_detached)
		return print_detached(l->plan, l->is_json);
	if (bottles_connect(dir, l->plan->slug, &sock, &e) < 0 ||
	    client_send_attach(sock, l->has_tty, true, &e) < 0)
		return cli_fail(&e);
	o.sock = sock;
	/* Headless on a terminal: the keys stay with the shell. */
	o.input = l->has_tty || !isatty(STDIN_FILENO) ? CLIENT_INPUT_RELAYED : CLIENT_INPUT_ENDED;
	return session_run(&o, l->plan->slug, dir);
}
