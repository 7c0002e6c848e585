#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "qemu_fixture.h"

#include "base/clean.h"
#include "base/io.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define PORT_MS 3000

void port_open(struct port *p)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	p->ours = pair[0];
	p->theirs = pair[1];
}

void port_close(struct port *p)
{
	close_fd(&p->ours);
	close_fd(&p->theirs);
}

void port_send(const struct port *p, const void *data, size_t n)
{
	assert_int_equal(io_write_all(p->ours, data, n), 0);
}

void port_say(const struct port *p, char letter, struct str payload)
{
	unsigned char head[MACHINE_HEAD];

	frames_head(head, letter, payload.n);
	port_send(p, head, sizeof(head));
	port_send(p, payload.p ? payload.p : "", payload.n);
}

static void read_exactly(int fd, void *out, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t got;

		assert_int_equal(io_wait(fd, POLLIN, PORT_MS), 1);
		got = read(fd, (char *)out + done, n - done);
		assert_true(got > 0);
		done += (size_t)got;
	}
}

char *port_hear(const struct port *p, char letter, size_t *n)
{
	unsigned char head[MACHINE_HEAD];
	char *payload;

	read_exactly(p->ours, head, sizeof(head));
	assert_int_equal(head[0], letter);
	*n = (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
	payload = calloc(1, *n + 1);
	assert_non_null(payload);
	read_exactly(p->ours, payload, *n);
	return payload;
}

int wait_status(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
