#include "guest/guest_host.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define HOST_SOCKET GUEST_SOCKET_NAME

int guest_listen(const char *dir, int *fd, struct err *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int sock = -1, folder = -1;

	*fd = -1;
	if (mkdir(dir, 0711) < 0 && errno != EEXIST)
		return err_errno(e, "make \"%s\"", dir);
	folder = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (folder < 0 || fchmod(folder, 0711) < 0)
		return err_errno(e, "open \"%s\"", dir);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return err_errno(e, "socket");
	/* By descriptor: the folder's path may be longer than a socket's address. */
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" HOST_SOCKET,
		       folder);
	(void)unlinkat(folder, HOST_SOCKET, 0);
	if (bind(sock, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    fchmodat(folder, HOST_SOCKET, 0666, 0) < 0 || listen(sock, 1) < 0)
		return err_errno(e, "listen on \"%s/" HOST_SOCKET "\"", dir);
	*fd = take_fd(&sock);
	return 0;
}

/* Waits until fd is readable. */
static int host_wait(int fd, int abort_fd, uint64_t until, const char *what, struct err *e)
{
	struct pollfd polls[] = {{.fd = fd, .events = POLLIN}, {.fd = abort_fd, .events = POLLIN}};

	for (;;) {
		uint64_t now = time_monotonic_ns();
		int n;

		if (now >= until)
			return err_set(e, -ETIMEDOUT, "the container's first process does not %s",
				       what);
		n = poll(polls, ARRAY_LEN(polls), (int)((until - now) / TIME_NS_PER_MS) + 1);
		if (n < 0 && errno != EINTR)
			return err_errno(e, "poll");
		if (n <= 0)
			continue;
		if (polls[0].revents)
			return 0;
		if (polls[1].revents)
			return err_set(e, -ECANCELED, "the container ended before its agent began");
	}
}

static uint64_t host_until(int timeout_ms)
{
	return time_monotonic_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * TIME_NS_PER_MS;
}

/* One message: its letter is returned, the rest is made fit to show. Nothing that it may bring
 * along is kept. */
static int host_receive(int conn_fd, int abort_fd, uint64_t until, char text[GUEST_TEXT_MAX],
			const char *what, struct err *e)
{
	char message[1 + GUEST_TEXT_MAX];
	ssize_t got;
	int ret = host_wait(conn_fd, abort_fd, until, what, e);

	text[0] = '\0';
	if (ret < 0)
		return ret;
	got = io_recv_fds(conn_fd, message, sizeof(message), NULL, NULL, MSG_DONTWAIT);
	if (got == 0 || got == -ECONNRESET)
		return err_set(e, -EPIPE, "the container's first process went away");
	if (got < 0)
		return err_set(e, got == -EAGAIN ? -EPROTO : (int)got,
			       "the container's first process cannot be understood");
	text_visible_cstr(text, GUEST_TEXT_MAX, str_slice(message + 1, (size_t)got - 1));
	return message[0];
}

/* yes, or "n" and why. */
static int host_verdict(int conn_fd, int abort_fd, uint64_t until, char yes, const char *what,
			struct err *e)
{
	char text[GUEST_TEXT_MAX];
	int letter = host_receive(conn_fd, abort_fd, until, text, what, e);

	if (letter < 0 || letter == yes)
		return letter < 0 ? letter : 0;
	if (letter == 'n')
		return err_set(e, -ENOTUNIQ, "%s", text);
	return err_set(e, -EPROTO, "the container's first process makes no sense");
}

int guest_accept(const char *dir, int *listen_fd, int timeout_ms, int abort_fd, int *conn_fd,
		 struct err *e)
{
	_cleanup_close_ int listener = take_fd(listen_fd), folder = -1, conn = -1;
	uint64_t until = host_until(timeout_ms);
	int ret;

	*conn_fd = -1;
	ret = host_wait(listener, abort_fd, until, "connect", e);
	if (ret == 0) {
		conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (conn < 0)
			ret = err_errno(e, "accept the container's first process");
	}
	folder = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (folder >= 0)
		(void)unlinkat(folder, HOST_SOCKET, 0);
	close_fd(&listener);
	if (ret == 0)
		ret = host_verdict(conn, abort_fd, until, 'h', "greet", e);
	if (ret < 0)
		return ret;
	*conn_fd = take_fd(&conn);
	return 0;
}

int guest_greet(int conn_fd, int timeout_ms, int abort_fd, struct err *e)
{
	return host_verdict(conn_fd, abort_fd, host_until(timeout_ms), 'h', "greet", e);
}

/* Takes j. */
static int host_order(int conn_fd, char letter, json_t *j, struct err *e)
{
	_cleanup_close_ int file = -1;
	_cleanup_free_ char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	ssize_t put;

	json_decref(j);
	/* jansson makes no value of text that is not UTF-8. */
	if (!text)
		return err_set(e, -EILSEQ, "what the container is told is not UTF-8");
	if (strlen(text) > GUEST_JSON_MAX)
		return err_set(e, -E2BIG, "what the container is told is longer than %u bytes",
			       GUEST_JSON_MAX);
	file = io_memfd_sealed("order", str_of(text), e);
	if (file < 0)
		return file;
	put = io_send_fds(conn_fd, &letter, 1, &file, 1, MSG_DONTWAIT);
	return put == 1 ? 0 : err_set(e, -EPIPE, "the container's first process went away");
}

/* list[n] = what json_pack() makes; false if that is nothing. */
static bool host_append(json_t *list, json_t *value)
{
	return value && json_array_append_new(list, value) == 0;
}

static json_t *host_canary_json(const struct guest_canary *c)
{
	json_t *answers = json_array(), *closed = json_array();
	bool is_ok = answers && closed;

	for (size_t i = 0; is_ok && i < c->n_answers; i++)
		is_ok = host_append(answers, json_integer((json_int_t)c->answers[i]));
	for (size_t i = 0; is_ok && i < c->n_closed; i++) {
		const struct guest_target *t = &c->closed[i];

		is_ok = host_append(closed,
				    json_pack("{s:s, s:i, s:s}", "address", t->address, "port",
					      (int)t->port, "what", t->what ? t->what : ""));
	}
	if (is_ok)
		return json_pack("{s:s, s:o, s:o}", "pinned", c->pinned, "answers", answers,
				 "closed", closed);
	json_decref(answers);
	json_decref(closed);
	return NULL;
}

static json_t *host_go_json(const struct guest_go *g)
{
	json_t *argv = json_array(), *env = json_array(), *files = json_array();
	bool is_ok = argv && env && files;

	for (size_t i = 0; is_ok && g->argv[i]; i++)
		is_ok = host_append(argv, json_string(g->argv[i]));
	for (size_t i = 0; is_ok && g->env && g->env[i]; i++)
		is_ok = host_append(env, json_string(g->env[i]));
	for (size_t i = 0; is_ok && i < g->n_files; i++) {
		const struct guest_file *f = &g->files[i];

		is_ok = host_append(files,
				    json_pack("{s:s, s:i, s:o}", "path", f->path, "mode",
					      (int)f->mode, "text",
					      json_stringn(f->text.p ? f->text.p : "", f->text.n)));
	}
	if (is_ok)
		return json_pack("{s:o, s:o, s:b, s:o, s:{s:I, s:I, s:I}}", "argv", argv, "env",
				 env, "tty", (int)g->has_tty, "files", files, "limits", "files",
				 (json_int_t)g->limits.files, "file_size_bytes",
				 (json_int_t)g->limits.file_size_bytes, "processes",
				 (json_int_t)g->limits.processes);
	json_decref(argv);
	json_decref(env);
	json_decref(files);
	return NULL;
}

int guest_canary(int conn_fd, const struct guest_canary *c, int timeout_ms, int abort_fd,
		 struct err *e)
{
	int ret;

	if (c->n_answers > GUEST_ANSWERS_MAX || c->n_closed > GUEST_CLOSED_MAX)
		return err_set(e, -E2BIG, "more than a canary can look at");
	ret = host_order(conn_fd, 'c', host_canary_json(c), e);
	return ret < 0 ? ret
		       : host_verdict(conn_fd, abort_fd, host_until(timeout_ms), 'k',
				      "look at the wall", e);
}

int guest_go(int conn_fd, const struct guest_go *g, int timeout_ms, int abort_fd, struct err *e)
{
	size_t n_argv = 0, n_env = 0;
	int ret;

	while (n_argv <= GUEST_ARGV_MAX && g->argv[n_argv])
		n_argv++;
	if (n_argv == 0 || n_argv > GUEST_ARGV_MAX)
		return err_set(e, -E2BIG, "the agent's command needs 1 to %u words",
			       GUEST_ARGV_MAX);
	while (n_env <= GUEST_ENV_MAX && g->env && g->env[n_env])
		n_env++;
	if (n_env > GUEST_ENV_MAX)
		return err_set(e, -E2BIG, "the agent's environment has more than %u variables",
			       GUEST_ENV_MAX);
	if (g->n_files > GUEST_FILES_MAX)
		return err_set(e, -E2BIG, "more files than the agent's home can be given");
	for (size_t i = 0; i < g->n_files; i++) {
		if (g->files[i].text.n > 0 && memchr(g->files[i].text.p, 0, g->files[i].text.n))
			return err_set(e, -EILSEQ, "\"%s\" for the agent's home is not text",
				       g->files[i].path);
	}
	ret = host_order(conn_fd, 'g', host_go_json(g), e);
	return ret < 0 ? ret
		       : host_verdict(conn_fd, abort_fd, host_until(timeout_ms), 's',
				      "start the agent", e);
}

int guest_signal(int conn_fd, unsigned exec, int signo, struct err *e)
{
	unsigned char message[GUEST_PASS_BYTES] = {'p', (unsigned char)signo};
	uint32_t number = htonl(exec);
	ssize_t put;

	if (signo < 1 || signo > SIGRTMAX || exec > GUEST_EXEC_MAX)
		return err_set(e, -EINVAL, "there is no signal %d, or no command %u in the bottle",
			       signo, exec);
	memcpy(message + 2, &number, sizeof(number));
	put = io_send_fds(conn_fd, message, sizeof(message), NULL, 0, MSG_DONTWAIT);
	if (put == (ssize_t)sizeof(message))
		return 0;
	if (put == -EAGAIN)
		return err_set(e, -EAGAIN, "the container's first process does not keep up");
	return err_set(e, -EPIPE, "the container's first process went away");
}
