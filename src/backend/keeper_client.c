/*
 * The control socket's clients: programs of the same user (or root), so their messages are checked
 * for sense but not for malice; a client that breaks the protocol is told and dropped.
 */
#include "backend/keeper_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CLIENT_ARGV_MAX 256

static void client_flush(struct keeper_client *c);

/* --- messages out --- */

/* A unix socket that is closed with something unread resets its peer, which then loses what it was
 * sent before. */
static void client_hang_up(int fd)
{
	char ignored[64];

	(void)shutdown(fd, SHUT_RD);
	while (recv(fd, ignored, sizeof(ignored), MSG_DONTWAIT) > 0)
		;
	(void)close(fd);
}

/* Every call of this file may find the client gone after it. */
void client_close(struct keeper_client *c)
{
	struct keeper *k = c->k;
	struct keeper_session *s = c->session;
	bool owned = c->owns;
	int fd = c->watch.fd;

	if (!c->is_used)
		return;
	loop_del(k->loop, &c->watch);
	client_hang_up(fd);
	buf_free(&c->queue);
	*c = (struct keeper_client){.k = k, .watch = {.fd = -1}};
	if (owned && !k->is_ending)
		keeper_stop(k, KEEPER_OWNER_GRACE_MS);
	/* A command that somebody has typed ends with whoever waits for it. */
	if (s && !s->is_agent && s->is_used && !s->has_exited)
		(void)k->backend->signal(k->bottle, s->pid, SIGHUP);
	if (s)
		session_pump(s);
	keeper_check_flushed(k);
}

struct keeper_client *client_find(struct keeper *k, uint64_t serial)
{
	for (size_t i = 0; serial && i < KEEPER_CLIENTS_MAX; i++) {
		if (k->clients[i].is_used && k->clients[i].serial == serial)
			return &k->clients[i];
	}
	return NULL;
}

static void client_flush(struct keeper_client *c)
{
	while (c->is_used && buf_len(&c->queue) > 0) {
		struct str all = buf_str(&c->queue);
		uint32_t n;

		memcpy(&n, all.p, sizeof(n));
		if (send(c->watch.fd, all.p + sizeof(n), n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN)
				break;
			client_close(c);
			return;
		}
		buf_consume(&c->queue, sizeof(n) + n);
	}
	if (!c->is_used)
		return;
	if (buf_len(&c->queue) == 0 && c->is_closing)
		client_close(c);
	else
		client_update(c->k);
}

void client_send(struct keeper_client *c, char type, struct str body)
{
	uint32_t n = (uint32_t)body.n + 1;

	if (!c->is_used || c->is_closing)
		return;
	if (buf_append(&c->queue, &n, sizeof(n)) < 0 || buf_append(&c->queue, &type, 1) < 0 ||
	    buf_append_str(&c->queue, body) < 0) {
		log_warn("a client does not read what it is sent: dropped");
		client_close(c);
		return;
	}
	client_flush(c);
}

void client_send_json(struct keeper_client *c, char type, json_t *body)
{
	_cleanup_free_ char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;

	json_decref(body);
	if (text)
		client_send(c, type, str_of(text));
}

/* The last message, and then the connection's end. */
static void client_finish(struct keeper_client *c, char type, json_t *body)
{
	client_send_json(c, type, body);
	c->is_closing = true;
	if (c->is_used)
		client_flush(c);
}

static void client_refuse(struct keeper_client *c, const char *text)
{
	client_finish(c, KEEPER_FAILED, json_pack("{s:s}", "text", text));
}

void keeper_send_end(struct keeper_client *c)
{
	const struct keeper *k = c->k;
	const struct keeper_session *s = c->session;

	if (k->reason[0])
		client_refuse(c, k->reason);
	else
		client_finish(c, KEEPER_EXIT,
			      json_pack("{s:i}", "status", s ? s->status : k->exit_status));
}

void client_end(struct keeper *k, const struct keeper_session *s)
{
	for (size_t i = 0; i < KEEPER_CLIENTS_MAX; i++) {
		struct keeper_client *c = &k->clients[i];

		if (c->is_used && !c->is_closing && (!s || c->session == s))
			keeper_send_end(c);
	}
}

bool client_any_behind(const struct keeper *k, const struct keeper_session *s)
{
	for (size_t i = 0; i < KEEPER_CLIENTS_MAX; i++) {
		if (k->clients[i].is_used && k->clients[i].session == s &&
		    buf_len(&k->clients[i].queue) > 0)
			return true;
	}
	return false;
}

void client_broadcast(struct keeper *k, const struct keeper_session *s, char type, struct str body)
{
	for (size_t i = 0; i < KEEPER_CLIENTS_MAX; i++) {
		if (k->clients[i].is_used && k->clients[i].session == s)
			client_send(&k->clients[i], type, body);
	}
}

void client_update(struct keeper *k)
{
	for (size_t i = 0; i < KEEPER_CLIENTS_MAX; i++) {
		struct keeper_client *c = &k->clients[i];
		uint32_t events = 0;

		if (!c->is_used)
			continue;
		if (!c->session || session_takes_input(c->session))
			events |= EPOLLIN;
		if (buf_len(&c->queue) > 0)
			events |= EPOLLOUT;
		(void)loop_set(k->loop, &c->watch, events);
	}
}

/* --- messages in --- */

static json_t *client_parse(struct str body)
{
	json_error_t ignored;
	json_t *j = json_loadb(body.p ? body.p : "", body.n, JSON_REJECT_DUPLICATES, &ignored);

	if (!json_is_object(j)) {
		json_decref(j);
		return NULL;
	}
	return j;
}

static unsigned json_number(const json_t *j, const char *key, unsigned max, unsigned otherwise)
{
	const json_t *v = json_object_get(j, key);
	json_int_t n = json_integer_value(v);

	return json_is_integer(v) && n >= 0 && n <= (json_int_t)max ? (unsigned)n : otherwise;
}

static void client_attach(struct keeper_client *c, const json_t *j)
{
	struct keeper *k = c->k;
	bool is_first = c->session == NULL;
	struct str past;

	if (c->session && !c->session->is_agent) {
		client_refuse(c, "this connection runs a command of its own");
		return;
	}
	c->owns = json_is_true(json_object_get(j, "own"));
	if (k->agent.has_tty && json_is_true(json_object_get(j, "tty")))
		session_resize(&k->agent, json_number(j, "rows", 10000, 0),
			       json_number(j, "columns", 10000, 0));
	c->session = &k->agent;
	/* What was said before; sending may find the client gone. */
	past = buf_str(&k->agent.scrollback);
	while (is_first && c->is_used && past.n > 0) {
		uint32_t n;

		memcpy(&n, past.p, sizeof(n));
		client_send(c, past.p[sizeof(n)], str_slice(past.p + sizeof(n) + 1, n - 1));
		past = str_sub(past, sizeof(n) + n, past.n);
	}
	loop_timer_del(k->loop, &k->attach_timer);
	session_flow(&k->agent);
}

/* The strings live as long as j. */
static bool client_take_argv(const json_t *j, char **argv)
{
	const json_t *list = json_object_get(j, "argv");
	size_t n = json_array_size(list);

	if (n == 0 || n >= CLIENT_ARGV_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		argv[i] = (char *)(uintptr_t)json_string_value(json_array_get(list, i));
		if (!argv[i])
			return false;
	}
	argv[n] = NULL;
	return argv[0][0] != '\0';
}

static struct keeper_session *client_free_session(struct keeper *k)
{
	for (size_t i = 0; i < KEEPER_EXECS_MAX; i++) {
		if (!k->execs[i].is_used)
			return &k->execs[i];
	}
	return NULL;
}

/* What a shell would say and return for a command that cannot be run. */
static void client_exec_failed(struct keeper_client *c, const struct err *e)
{
	_cleanup_free_ char *line = mem_printf("claude-bottle: %s\n", e->text);

	if (e->code != -ENOENT && e->code != -EACCES) {
		client_refuse(c, e->text);
		return;
	}
	client_send(c, KEEPER_ERROR, str_of(line));
	client_finish(c, KEEPER_EXIT, json_pack("{s:i}", "status", e->code == -ENOENT ? 127 : 126));
}

static void client_exec(struct keeper_client *c, const json_t *j)
{
	struct keeper *k = c->k;
	struct keeper_session *s = client_free_session(k);
	struct backend_stdio io = {.has_tty = json_is_true(json_object_get(j, "tty"))};
	char *argv[CLIENT_ARGV_MAX];
	struct err e = ERR_INIT;
	pid_t pid = 0;
	int ret;

	if (c->session || k->is_ending || k->agent.has_exited || !s || !client_take_argv(j, argv)) {
		client_refuse(c, c->session ? "this connection is in use"
				 : s	    ? "no command, or the bottle is ending"
					    : "too many commands run in this bottle");
		return;
	}
	io.rows = (unsigned short)json_number(j, "rows", 10000, 24);
	io.columns = (unsigned short)json_number(j, "columns", 10000, 80);
	s->k = k;
	s->is_agent = false;
	ret = session_prepare(s, &io, &e);
	if (ret == 0)
		ret = k->backend->exec(k->bottle, argv, &io, &pid, &e);
	if (ret == 0)
		ret = session_began(s, &io, pid, &e);
	if (ret < 0) {
		close_fd(&io.in_fd);
		close_fd(&io.out_fd);
		close_fd(&io.err_fd);
		session_free(s);
		client_exec_failed(c, &e);
		return;
	}
	c->session = s;
	session_flow(s);
}

static void client_signal(struct keeper_client *c, const json_t *j)
{
	int signo = (int)json_number(j, "signal", 31, 0);

	if (signo > 0 && c->session && !c->session->has_exited)
		(void)c->k->backend->signal(c->k->bottle, c->session->pid, signo);
}

static void client_take_json(struct keeper_client *c, char type, struct str body)
{
	json_t *j = client_parse(body);

	if (!j) {
		client_refuse(c, "not a JSON object");
		return;
	}
	switch (type) {
	case KEEPER_ATTACH:
		client_attach(c, j);
		break;
	case KEEPER_EXEC:
		client_exec(c, j);
		break;
	case KEEPER_RESIZE:
		if (c->session)
			session_resize(c->session, json_number(j, "rows", 10000, 0),
				       json_number(j, "columns", 10000, 0));
		break;
	case KEEPER_SIGNAL:
		client_signal(c, j);
		break;
	case KEEPER_STOP:
		session_flow(&c->k->agent); /* nobody is waited for any more */
		if (json_is_true(json_object_get(j, "now")))
			keeper_stop_now(c->k, NULL);
		else
			keeper_stop(c->k, json_number(j, "grace_ms", 600000, 0));
		break;
	case KEEPER_DECIDE:
	case KEEPER_REVOKE:
	case KEEPER_NETWORK:
		keeper_desk_control(c->k, c, type, j);
		break;
	default:
		client_refuse(c, "unknown message");
		break;
	}
	json_decref(j);
}

static void client_take(struct keeper_client *c, const char *message, size_t n)
{
	struct str body = str_slice(message + 1, n - 1);

	if (message[0] == KEEPER_INPUT) {
		if (c->session)
			session_input(c->session, body);
		client_update(c->k);
	} else if (message[0] == KEEPER_STATUS) {
		client_send_json(c, KEEPER_STATE, keeper_state_json(c->k));
	} else {
		client_take_json(c, message[0], body);
	}
}

static void client_on_event(struct loop_watch *w, uint32_t events)
{
	static char message[KEEPER_MESSAGE_MAX];
	struct keeper_client *c =
		(struct keeper_client *)(void *)((char *)w - offsetof(struct keeper_client, watch));
	ssize_t got;

	if (events & EPOLLOUT) {
		struct keeper_session *s = c->session;

		client_flush(c);
		if (s)
			session_pump(s);
		keeper_check_flushed(c->k);
		if (!c->is_used)
			return;
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	/* A hang-up counts when all that came before it has been read. */
	if (c->session && !session_takes_input(c->session) && !(events & (EPOLLHUP | EPOLLERR)))
		return;
	got = recv(w->fd, message, sizeof(message), MSG_DONTWAIT | MSG_TRUNC);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0)
		client_close(c);
	else if ((size_t)got > sizeof(message))
		client_refuse(c, "message too long");
	else if (!c->is_closing)
		client_take(c, message, (size_t)got);
}

/* --- new clients --- */

static bool client_is_permitted(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

static void client_on_connect(struct loop_watch *w, uint32_t events)
{
	struct keeper *k =
		(struct keeper *)(void *)((char *)w - offsetof(struct keeper, listen_watch));
	_cleanup_close_ int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct keeper_client *c = NULL;
	struct err e = ERR_INIT;

	(void)events;
	if (fd < 0 || !client_is_permitted(fd))
		return;
	for (size_t i = 0; i < KEEPER_CLIENTS_MAX && !c; i++) {
		if (!k->clients[i].is_used)
			c = &k->clients[i];
	}
	if (!c)
		return;
	*c = (struct keeper_client){.k = k,
				    .is_used = true,
				    .serial = ++k->n_clients,
				    .watch = {.fd = -1, .fn = client_on_event}};
	buf_init(&c->queue, KEEPER_QUEUE_BYTES);
	if (loop_add(k->loop, &c->watch, fd, EPOLLIN, &e) < 0) {
		c->is_used = false;
		return;
	}
	(void)take_fd(&fd);
}

int client_listen(struct keeper *k, struct err *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_errno(e, "socket");
	/* By descriptor: the folder's path may be longer than a socket's address. */
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/control.sock",
		       k->state_fd);
	(void)unlinkat(k->state_fd, "control.sock", 0);
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return err_errno(e, "make control.sock");
	if (fchmodat(k->state_fd, "control.sock", 0600, 0) < 0 ||
	    listen(fd, KEEPER_CLIENTS_MAX) < 0)
		return err_errno(e, "listen on control.sock");
	k->listen_watch = (struct loop_watch){.fd = -1, .fn = client_on_connect};
	if (loop_add(k->loop, &k->listen_watch, fd, EPOLLIN, e) < 0)
		return e->code;
	k->listen_fd = take_fd(&fd);
	return 0;
}
