/*
 * Theory of operation: one process, one loop, one listener on a loopback address that it draws
 * itself, so that nothing in the browser can know its origin from before. The terminal shows a URL
 * whose fragment is a token of 256 bits. A fragment is sent to nobody: the page takes it out of the
 * address bar and exchanges it, once and within WEB_TOKEN_MS, for a session (web_gate.c). From then
 * on it is good for nothing, so it does not matter that it lies in the browser's history. Another
 * one is made when the human presses Enter.
 *
 * Nothing of the page or of a state is kept by a browser; what changes is told through a stream of
 * events, whose only content is that something has changed.
 *
 * Who might want in: the agent (it has no way to the host's loopback, in any backend), a web page
 * that the human has open, another user of this host, another server on this loopback. Each rule
 * says whom it is against, where it stands. Whoever runs as the same user needs no page: the
 * keeper's socket is open to them (keeper.h).
 */
#include "face/web.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"
#include "face/web_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#define WEB_BACKLOG 32

static void say(const char *text)
{
	(void)fprintf(stdout, "%s\n", text);
	(void)fflush(stdout);
}

/* --- the token --- */

static void token_new(struct web *w)
{
	struct err e = ERR_INIT;

	w->tries = 0;
	w->token[0] = '\0';
	if (gate_key(w->token, &e) < 0) {
		say(e.text);
		return;
	}
	loop_timer_set(w->loop, &w->token_timer, w->token_ms);
	(void)fprintf(stdout, "%s/#%s\n", w->origin, w->token);
	(void)fflush(stdout);
}

static void on_token_old(struct loop_timer *t)
{
	struct web *w = (struct web *)((char *)t - offsetof(struct web, token_timer));

	w->token[0] = '\0';
	say("that address is too old now; press Enter for another one");
}

static void on_input(struct loop_watch *watch, uint32_t events)
{
	struct web *w = (struct web *)((char *)watch - offsetof(struct web, input));
	char line[256];
	ssize_t n = read(watch->fd, line, sizeof(line));

	(void)events;
	if (n > 0)
		token_new(w);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		loop_del(w->loop, watch);
}

/* --- what is new --- */

void web_look(struct web *w)
{
	bool is_changed = false;

	/* What could not be read is in face_trouble(). */
	if (face_refresh(w->face, &is_changed, NULL) == 0 && is_changed) {
		w->version++;
		conn_tell(w, false);
	}
}

static void on_refresh(struct loop_timer *t)
{
	struct web *w = (struct web *)((char *)t - offsetof(struct web, refresh));

	web_look(w);
	loop_timer_set(w->loop, t, WEB_REFRESH_MS);
}

static void on_heartbeat(struct loop_timer *t)
{
	struct web *w = (struct web *)((char *)t - offsetof(struct web, heartbeat));

	conn_tell(w, true);
	loop_timer_set(w->loop, t, WEB_HEARTBEAT_MS);
}

/* --- start and end --- */

static void on_listener(struct loop_watch *watch, uint32_t events)
{
	struct web *w = (struct web *)((char *)watch - offsetof(struct web, listener));

	(void)events;
	conn_accept(w);
}

static void on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l, 0);
}

/* All of 127.0.0.0/8 is loopback. Not 127.0.x.x, where hosts have their own names and resolvers;
 * no 0 or 255 at its end. */
static int draw_address(struct in_addr *out, struct err *e)
{
	uint8_t b[3];
	int r = gate_random(b, sizeof(b), e);

	out->s_addr = htonl(0x7f000000u | (1u + b[0] % 254u) << 16 | (uint32_t)b[1] << 8 |
			    (1u + b[2] % 254u));
	return r;
}

static int listen_on(struct web *w, uint16_t port, struct err *e)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	socklen_t size = sizeof(sa);
	int one = 1;
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = draw_address(&sa.sin_addr, e);

	if (r < 0)
		return r;
	(void)inet_ntop(AF_INET, &sa.sin_addr, w->host, sizeof(w->host));
	/* A given port must be free again at once; that a listener is there already is an error
	 * with it, too. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, WEB_BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &size) < 0)
		return err_errno(e, "listen on %s:%u", w->host, port);
	r = loop_add(w->loop, &w->listener, fd, EPOLLIN, e);
	if (r < 0)
		return r;
	(void)take_fd(&fd);
	w->port = ntohs(sa.sin_port);
	/* A browser leaves 80 out, in Origin too. */
	(void)snprintf(w->origin, sizeof(w->origin), w->port == 80 ? "http://%s" : "http://%s:%u",
		       w->host, w->port);
	return 0;
}

static int web_start(struct web *w, const struct face_web_options *o, struct err *e)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	bool is_changed;
	int r = face_open(&w->face, e);

	if (r == 0)
		r = face_refresh(w->face, &is_changed, e);
	if (r < 0)
		return r;
	w->loop = loop_new(e);
	if (!w->loop)
		return e ? e->code : -ENOMEM;
	r = loop_signals(w->loop, signals, ARRAY_LEN(signals), on_signal, w, e);
	if (r == 0)
		r = listen_on(w, o->port, e);
	if (r < 0)
		return r;
	/* In the background it is not ours to read: an error then, not a stop. */
	(void)signal(SIGTTIN, SIG_IGN);
	/* A regular file cannot be waited for, and what is in it is nobody's key. */
	if (loop_add(w->loop, &w->input, STDIN_FILENO, EPOLLIN, NULL) < 0)
		w->input.fd = -1;
	/* What web_work.c starts is waited for through its pipe alone. */
	(void)signal(SIGCHLD, SIG_IGN);
	loop_timer_set(w->loop, &w->refresh, WEB_REFRESH_MS);
	loop_timer_set(w->loop, &w->heartbeat, WEB_HEARTBEAT_MS);
	return 0;
}

static void web_free(struct web *w)
{
	conn_close_all(w);
	if (w->listener.fd >= 0)
		(void)close(w->listener.fd);
	loop_free(w->loop);
	if (w->face)
		face_close(w->face);
	explicit_bzero(w->sessions, sizeof(w->sessions));
	explicit_bzero(w->token, sizeof(w->token));
	free(w);
}

static void web_free_p(struct web **w)
{
	if (*w)
		web_free(*w);
}

int face_web(const struct face_web_options *o, struct err *e)
{
	_cleanup_(web_free_p) struct web *w = mem_zalloc(sizeof(*w));
	int r;

	w->listener = (struct loop_watch){.fd = -1, .fn = on_listener};
	w->input = (struct loop_watch){.fd = -1, .fn = on_input};
	w->token_ms = o->token_ms ? o->token_ms : WEB_TOKEN_MS;
	w->refresh.fn = on_refresh;
	w->heartbeat.fn = on_heartbeat;
	w->token_timer.fn = on_token_old;
	r = web_start(w, o, e);
	if (r < 0)
		return r;
	say("Open this in a browser of this host, within a minute; it works once. Enter: another "
	    "one; Ctrl-C: end.");
	token_new(w);
	return loop_run(w->loop);
}
