/*
 * The monitor's tool starts each process of a machine on its own, so what guest hold needs to know
 * later comes from another process beside it. The folder is root's alone, and so is who may speak:
 * the agent, of another uid, cannot even walk there.
 */
#include "guest/guest_int.h"

#include "base/clean.h"
#include "base/io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define HANDLE_TAKE_MS 1000

static int handle_address(struct sockaddr_un *a, const char *run, unsigned number, struct err *e)
{
	int n;

	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	n = snprintf(a->sun_path, sizeof(a->sun_path), "%s/%u", run, number);
	return n < 0 || (size_t)n >= sizeof(a->sun_path)
		       ? err_set(e, -ENAMETOOLONG, "\"%s\" is too long for a socket", run)
		       : 0;
}

int handle_open(struct handle *h, const char *run, unsigned number, struct err *e)
{
	struct sockaddr_un address;
	int ret = handle_address(&address, run, number, e);

	if (ret < 0)
		return ret;
	if (mkdir(run, 0700) < 0 && errno != EEXIST)
		return err_errno(e, "make \"%s\"", run);
	h->folder = open(run, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (h->folder < 0 || fchmod(h->folder, 0700) < 0)
		return err_errno(e, "open \"%s\"", run);
	(void)snprintf(h->name, sizeof(h->name), "%u", number);
	(void)unlinkat(h->folder, h->name, 0);
	h->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (h->fd < 0 || bind(h->fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(h->fd, 4) < 0)
		return err_errno(e, "listen in \"%s\"", run);
	return 0;
}

void handle_close(struct handle *h)
{
	if (h->fd >= 0)
		(void)unlinkat(h->folder, h->name, 0);
	close_fd(&h->fd);
	close_fd(&h->folder);
}

void handle_message_free(struct handle_message *m)
{
	for (size_t i = 0; i < HANDLE_FDS_MAX; i++)
		close_fd(&m->fds[i]);
	m->n_fds = 0;
}

static int handle_send(int conn, const struct handle_message *m)
{
	char message[1 + sizeof(m->payload) + GUEST_TEXT_MAX];
	size_t text = strnlen(m->text, GUEST_TEXT_MAX - 1), n = 1 + sizeof(m->payload) + text;

	message[0] = m->letter;
	memcpy(message + 1, m->payload, sizeof(m->payload));
	memcpy(message + 1 + sizeof(m->payload), m->text, text);
	return io_send_fds(conn, message, n, m->fds, m->n_fds, 0) == (ssize_t)n ? 0 : -EPIPE;
}

static int handle_receive(int conn, struct handle_message *m, int timeout_ms)
{
	char message[1 + sizeof(m->payload) + GUEST_TEXT_MAX];
	ssize_t got;

	*m = HANDLE_MESSAGE_INIT;
	if (io_wait(conn, POLLIN, timeout_ms) != 1)
		return -ETIMEDOUT;
	m->n_fds = HANDLE_FDS_MAX;
	got = io_recv_fds(conn, message, sizeof(message) - 1, m->fds, &m->n_fds, 0);
	if (got < (ssize_t)(1 + sizeof(m->payload))) {
		if (got <= 0)
			m->n_fds = 0;
		handle_message_free(m);
		return -EPROTO;
	}
	message[got] = '\0';
	m->letter = message[0];
	memcpy(m->payload, message + 1, sizeof(m->payload));
	(void)snprintf(m->text, sizeof(m->text), "%s", message + 1 + sizeof(m->payload));
	return 0;
}

int handle_take(const struct handle *h, struct handle_message *m)
{
	_cleanup_close_ int conn = accept4(h->fd, NULL, NULL, SOCK_CLOEXEC);
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
	(void)handle_send(conn, m);
	(void)close(conn);
}

int handle_ask(const char *run, unsigned number, struct handle_message *m, struct err *e)
{
	_cleanup_close_ int conn = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	int ret = handle_address(&address, run, number, e);

	if (ret < 0)
		return ret;
	if (conn < 0)
		return err_errno(e, "socket");
	if (connect(conn, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return err_errno(e, "process %u of the bottle is not there", number);
	ret = handle_send(conn, m);
	handle_message_free(m);
	if (ret == 0)
		ret = handle_receive(conn, m, HANDLE_ASK_MS);
	return ret < 0 ? err_set(e, ret, "process %u of the bottle does not answer", number) : 0;
}

void handle_resize(const struct handle_message *m)
{
	uint16_t half[2];
	struct winsize size;

	memcpy(half, m->payload, sizeof(half));
	size = (struct winsize){.ws_row = ntohs(half[0]), .ws_col = ntohs(half[1])};
	(void)ioctl(STDIN_FILENO, TIOCSWINSZ, &size);
}
