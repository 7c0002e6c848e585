#include <setjmp.h>
#include <stdarg.h>

#include "carrier_world.h"

#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct sockaddr_in world_address(uint32_t host, uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(host)};
}

/* Bound to host, on a port of the kernel's choice where that is 0. -1: it is taken. */
static int world_bound(uint32_t host, uint16_t port, int type, bool is_blocking)
{
	struct sockaddr_in sa = world_address(host, port);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | (is_blocking ? 0 : SOCK_NONBLOCK), 0);
	const int on = 1;

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

static uint16_t world_port(int fd)
{
	struct sockaddr_in sa;
	socklen_t size = sizeof(sa);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &size), 0);
	return ntohs(sa.sin_port);
}

static void world_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l, 0);
}

/* Closes ready when it serves. */
static _Noreturn void world_run(const struct world *w, const int fds[WORLD_PORTS + 1],
				const struct carrier_limits *limits, int ready)
{
	struct err e = ERR_INIT;
	struct loop *l = loop_new(&e);
	struct carrier *c = carrier_new(l, (struct in_addr){.s_addr = htonl(WORLD_BACK)}, limits);
	int status = 1;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i <= WORLD_PORTS; i++) {
		if (carrier_add(c, fds[i], w->ports[i % WORLD_PORTS], &e) < 0)
			_exit(2);
	}
	if (loop_signals(l, (int[]){SIGTERM}, 1, world_on_signal, NULL, &e) == 0) {
		(void)close(ready);
		status = loop_run(l);
	}
	carrier_free(c);
	loop_free(l);
	exit(status);
}

void world_start(struct world *w, const struct carrier_limits *limits)
{
	int fds[WORLD_PORTS + 1] = {-1, -1, -1}, ready[2];

	for (size_t i = 0; i < WORLD_PORTS; i++) {
		fds[i] = world_bound(WORLD_FRONT, 0, SOCK_STREAM, false);
		assert_true(fds[i] >= 0);
		w->ports[i] = world_port(fds[i]);
		assert_int_equal(listen(fds[i], 256), 0);
	}
	fds[WORLD_PORTS] = world_bound(WORLD_FRONT, w->ports[0], SOCK_DGRAM, false);
	assert_true(fds[WORLD_PORTS] >= 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	w->pid = fork();
	assert_true(w->pid >= 0);
	if (w->pid == 0)
		world_run(w, fds, limits, ready[1]);
	(void)close(ready[1]);
	assert_int_equal(read(ready[0], (char[1]){0}, 1), 0);
	(void)close(ready[0]);
	for (size_t i = 0; i <= WORLD_PORTS; i++)
		(void)close(fds[i]);
}

void world_end(struct world *w)
{
	int status = 0;

	assert_int_equal(kill(w->pid, SIGTERM), 0);
	assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
	/* With ASan also: nothing of what was under way is lost. */
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

size_t world_files(const struct world *w)
{
	char path[64];
	size_t n = 0;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", w->pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		n++;
	(void)closedir(dir);
	return n;
}

void world_expect_files(const struct world *w, size_t n)
{
	for (int i = 0; i < WORLD_WAIT_MS / 10 && world_files(w) != n; i++)
		(void)poll(NULL, 0, 10);
	assert_int_equal(world_files(w), n);
}

static int world_patient(int fd)
{
	const struct timeval t = {.tv_sec = WORLD_WAIT_MS / 1000};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)), 0);
	return fd;
}

int world_listen(const struct world *w, size_t which, int type, int backlog)
{
	int fd = world_bound(WORLD_BACK, w->ports[which], type, true);

	assert_true(fd >= 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, backlog < 0 ? 256 : backlog), 0);
	return world_patient(fd);
}

int world_connect(const struct world *w, size_t which, int type)
{
	struct sockaddr_in sa = world_address(WORLD_FRONT, w->ports[which]);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	(void)world_patient(fd);
	assert_int_equal(connect(fd, (const struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

int world_accept(int listener, int timeout_ms)
{
	if (io_wait(listener, POLLIN, timeout_ms) != 1)
		return -1;
	return world_patient(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

void world_pair(const struct world *w, int listener, int *client, int *server)
{
	*client = world_connect(w, 0, SOCK_STREAM);
	*server = world_accept(listener, WORLD_WAIT_MS);
	assert_true(*server >= 0);
}

void world_send(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

void world_expect(int fd, const char *text)
{
	char got[256];
	size_t n = strlen(text);

	assert_true(n < sizeof(got));
	assert_int_equal(recv(fd, got, n, MSG_WAITALL), n);
	assert_memory_equal(got, text, n);
}

void world_expect_end(int fd)
{
	assert_int_equal(recv(fd, (char[1]){0}, 1, 0), 0);
}

void world_expect_reset(int fd)
{
	assert_int_equal(recv(fd, (char[1]){0}, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
}

void world_reset(int fd)
{
	const struct linger none = {.l_onoff = 1};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)), 0);
	(void)close(fd);
}
