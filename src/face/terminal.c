#include "face/terminal.h"

#include "face/terminal_screen.h"

#include "base/clean.h"
#include "base/timeutil.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#define RING_PERIOD_MS 5000
/* Ages and countdowns are drawn in seconds. */
#define CLOCK_PERIOD_MS 1000
/* Of one reading: a paste of a megabyte does not keep the screen from being drawn. */
#define KEYS_AT_ONCE 64

struct terminal {
	struct ui ui;
	struct grid grid;
	struct look *look;
	int signals, ended_by;
	bool rings, is_lost;
	uint64_t rang_ms;
};

static uint64_t now_ms(void)
{
	return time_monotonic_ns() / TIME_NS_PER_MS;
}

static void show(struct terminal *t)
{
	screen_fit(&t->grid);
	ui_draw(&t->ui, &t->grid, time_realtime_ns() / TIME_NS_PER_SEC, now_ms());
	screen_show(&t->grid);
}

static void ring(struct terminal *t)
{
	if (t->ui.is_new && t->rings && now_ms() >= t->rang_ms + RING_PERIOD_MS) {
		t->rang_ms = now_ms();
		screen_ring();
	}
	t->ui.is_new = false;
}

/* ^Z: the shell gets its terminal as it was, and gives it back with SIGCONT. */
static void stop(struct terminal *t)
{
	screen_pause();
	(void)raise(SIGSTOP);
	screen_resume();
	screen_forget_keys();
	t->ui.shown = (struct ui_name){0};
}

static void take_signals(struct terminal *t)
{
	struct signalfd_siginfo s;

	while (read(t->signals, &s, sizeof(s)) == (ssize_t)sizeof(s)) {
		if (s.ssi_signo == SIGTSTP)
			stop(t);
		else if (s.ssi_signo != SIGWINCH)
			t->ended_by = (int)s.ssi_signo;
	}
}

/* Each key meets a screen that shows what the one before it did. */
static void take_keys(struct terminal *t)
{
	int key;

	for (int i = 0; i < KEYS_AT_ONCE && !t->ui.is_done && screen_key(&key) == 0; i++) {
		ui_key(&t->ui, key, now_ms());
		look_want(t->look, &t->ui.wanted);
		show(t);
		if (t->ui.order.kind == UI_NO_ORDER)
			continue;
		ui_carry_out(&t->ui);
		look_want(t->look, &t->ui.wanted);
		look_again(t->look);
		/* What was typed while the keeper was asked was typed for another screen. */
		screen_forget_keys();
		show(t);
	}
}

static void run(struct terminal *t)
{
	while (!t->ui.is_done && !t->ended_by && !t->is_lost) {
		struct pollfd fds[] = {{STDIN_FILENO, POLLIN, 0},
				       {t->signals, POLLIN, 0},
				       {look_fd(t->look), POLLIN, 0}};
		struct look_news news = {0};

		show(t);
		if (poll(fds, ARRAY_LEN(fds), CLOCK_PERIOD_MS) < 0 && errno != EINTR)
			return;
		if (fds[1].revents)
			take_signals(t);
		if (fds[2].revents && look_take(t->look, &news)) {
			ui_take(&t->ui, &news);
			look_want(t->look, &t->ui.wanted);
			ring(t);
			show(t);
		}
		/* A terminal that hung up is readable too, with nothing to read. */
		if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL))
			t->is_lost = true;
		else if (fds[0].revents)
			take_keys(t);
	}
}

/* Those that end it or change its size come as messages, so that none comes in the middle of
 * something; in the thread too they are blocked. */
static int take_over_signals(struct terminal *t, sigset_t *before, struct err *e)
{
	static const int ours[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		(void)sigaddset(&set, ours[i]);
	if (sigprocmask(SIG_BLOCK, &set, before) < 0)
		return err_errno(e, "sigprocmask");
	t->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (t->signals < 0) {
		(void)sigprocmask(SIG_SETMASK, before, NULL);
		return err_errno(e, "signalfd");
	}
	return 0;
}

int face_terminal(const struct face_terminal_options *o, int *signal, struct err *e)
{
	struct terminal t = {.rings = o->rings};
	struct face *face = NULL;
	sigset_t before;
	int r;

	*signal = 0;
	r = take_over_signals(&t, &before, e);
	if (r < 0)
		return r;
	r = screen_open(e);
	if (r == 0) {
		r = face_open(&face, e);
		if (r == 0)
			r = look_start(&t.look, face, e);
		if (r < 0 && face)
			face_close(face);
		if (r == 0) {
			ui_init(&t.ui, o->slug ? o->slug : "");
			look_want(t.look, &t.ui.wanted);
			run(&t);
			ui_free(&t.ui);
		}
		screen_close();
		look_stop(t.look);
		grid_free(&t.grid);
	}
	(void)close(t.signals);
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	*signal = t.is_lost && !t.ended_by ? SIGHUP : t.ended_by;
	return r;
}
