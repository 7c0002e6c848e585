/*
 * The monitor's tool starts each process of a machine on its own, so what guest hold needs to know
 * later comes from another process beside it. The folder is root's alone, and so is who may speak:
 * the agent, of another uid, cannot even walk there.
 */
#include "guest/guest_int.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define HANDLE_NAME    "hold.sock"
#define HANDLE_TAKE_MS 1000
#define HANDLE_BACKLOG 64

/* What is sent: the two halves are of one build. */
struct handle_wire {
	char letter;
	uint32_t number, a, b;
	char text[GUEST_TEXT_MAX];
};

static int handle_address(struct sockaddr_un *a, const char *run, struct err *e)
{
	int n;

	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	n = snprintf(a->sun_path, sizeof(a->sun_path), "%s/" HANDLE_NAME, run);
	return n < 0 || (size_t)n >= sizeof(a->sun_path)
		       ? err_set(e, -ENAMETOOLONG, "\"%s\" is too long for a socket", run)
		       : 0;
}

int handle_open(const char *run, int *folder, struct err *e)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address;
	int ret = handle_address(&address, run, e);

	if (ret < 0)
		return ret;
	if (mkdir(run, 0700) < 0 && errno != EEXIST)
		return err_errno(e, "make \"%s\"", run);
	*folder = open(run, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*folder < 0 || fchmod(*folder, 0700) < 0)
		return err_errno(e, "open \"%s\"", run);
	(void)unlinkat(*folder, HANDLE_NAME, 0);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, HANDLE_BACKLOG) < 0)
		return err_errno(e, "listen in \"%s\"", run);
	return take_fd(&fd);
}

void handle_message_free(struct handle_message *m)
{
	for (size_t i = 0; i < HANDLE_FDS_MAX; i++)
		close_fd(&m->fds[i]);
	m->n_fds = 0;
}

static int handle_send(int conn, const struct handle_message *m)
{
	struct handle_wire w = {.letter = m->letter, .number = m->number, .a = m->a, .b = m->b};

	memcpy(w.text, m->text, sizeof(w.text));
	return io_send_fds(conn, &w, sizeof(w), m->fds, m->n_fds, 0) == (ssize_t)sizeof(w) ? 0
											   : -EPIPE;
}

static int handle_receive(int conn, struct handle_message *m, int timeout_ms)
{
	struct pollfd p = {.fd = conn, .events = POLLIN};
	struct handle_wire w;
	ssize_t got;
	int ready;

	*m = HANDLE_MESSAGE_INIT;
	do {
		ready = poll(&p, 1, timeout_ms);
	} while (ready < 0 && errno == EINTR);
	if (ready != 1)
		return -ETIMEDOUT;
	m->n_fds = HANDLE_FDS_MAX;
	got = io_recv_fds(conn, &w, sizeof(w), m->fds, &m->n_fds, 0);
	if (got != (ssize_t)sizeof(w)) {
		/* Nothing came, or what did is closed already. */
		if (got <= 0)
			*m = HANDLE_MESSAGE_INIT;
		handle_message_free(m);
		return -EPROTO;
	}
	w.text[sizeof(w.text) - 1] = '\0';
	m->letter = w.letter;
	m->number = w.number;
	m->a = w.a;
	m->b = w.b;
	memcpy(m->text, w.text, sizeof(m->text));
	return 0;
}

int handle_take(int listen_fd, struct handle_message *m)
{
	_cleanup_close_ int conn = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	struct ucred peer;
	socklen_t size = sizeof(peer);

	*m = HANDLE_MESSAGE_INIT;
	if (conn < 0 || getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
	    peer.uid != geteuid() || handle_receive(conn, m, HANDLE_TAKE_MS) < 0)
		return -1;
	return take_fd(&conn);
}

void handle_answer(int conn, const struct handle_message *m)
{
	struct handle_message answer = *m;

	answer.n_fds = 0;
	(void)handle_send(conn, &answer);
	(void)close(conn);
}

int handle_ask(const char *run, struct handle_message *m, int timeout_ms, struct err *e)
{
	_cleanup_close_ int conn = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	int ret = handle_address(&address, run, e);

	if (ret < 0)
		return ret;
	if (conn < 0)
		return err_errno(e, "socket");
	if (connect(conn, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return err_errno(e, "the process that holds the agent is not there");
	ret = handle_send(conn, m);
	handle_message_free(m);
	if (ret == 0)
		ret = handle_receive(conn, m, timeout_ms);
	return ret < 0 ? err_set(e, ret, "the process that holds the agent does not answer") : 0;
}
