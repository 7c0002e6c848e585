#include "fake_engine.h"

#include "base/mem.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>

size_t fake_receive_max;
static atomic_bool *is_hurried; /* shared */
static uint64_t skew_ns;

ssize_t __real_recv(int fd, void *p, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *p, size_t n, int flags);
int __real_poll(struct pollfd *p, nfds_t n, int timeout_ms);
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout_ms);
uint64_t __real_time_monotonic_ns(void);
uint64_t __wrap_time_monotonic_ns(void);

ssize_t __wrap_recv(int fd, void *p, size_t n, int flags)
{
	return __real_recv(fd, p, fake_receive_max && n > fake_receive_max ? fake_receive_max : n,
			   flags);
}

int __wrap_poll(struct pollfd *p, nfds_t n, int timeout_ms)
{
	int ret;

	if (!is_hurried || !atomic_load(is_hurried) ||
	    (timeout_ms >= 0 && timeout_ms <= FAKE_TICK_MS))
		return __real_poll(p, n, timeout_ms);
	ret = __real_poll(p, n, FAKE_TICK_MS);
	if (ret == 0 && timeout_ms > 0)
		skew_ns += (uint64_t)timeout_ms * TIME_NS_PER_MS;
	return ret;
}

uint64_t __wrap_time_monotonic_ns(void)
{
	return __real_time_monotonic_ns() + skew_ns;
}

static void *map_shared(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

void fake_hurry(bool is_on)
{
	atomic_store(is_hurried, is_on);
}

/* --- serving --- */

void fake_require(struct fake *f, bool condition, const char *what)
{
	if (condition)
		return;
	(void)snprintf(f->shared->failure, sizeof(f->shared->failure), "%s", what);
	_exit(1);
}

static void log_seen(struct fake *f, const void *p, size_t n)
{
	unsigned at = atomic_fetch_add(&f->shared->n_seen, (unsigned)n);

	if (at + n < sizeof(f->shared->seen))
		memcpy(f->shared->seen + at, p, n);
}

static void read_exactly(struct fake *f, int fd, char *p, size_t n)
{
	while (n > 0) {
		ssize_t got = read(fd, p, n);

		fake_require(f, got > 0, "the request is cut");
		p += got;
		n -= (size_t)got;
	}
}

/* One line with its CRLF, byte by byte: nothing of what follows may be taken. */
static size_t read_line(struct fake *f, int fd, char *p, size_t size)
{
	size_t n = 0;

	while (n < 2 || p[n - 1] != '\n') {
		fake_require(f, n + 1 < size, "a line is too long");
		read_exactly(f, fd, p + n, 1);
		n++;
	}
	fake_require(f, p[n - 2] == '\r', "a line without CR");
	p[n] = '\0';
	return n;
}

static void read_body(struct fake *f, int fd, size_t n, bool is_logged)
{
	char part[16384];

	while (n > 0) {
		size_t step = n < sizeof(part) ? n : sizeof(part);
		unsigned sum = 0;

		read_exactly(f, fd, part, step);
		for (size_t i = 0; i < step; i++)
			sum += (unsigned char)part[i];
		atomic_fetch_add(&f->shared->sum_body, sum);
		atomic_fetch_add(&f->shared->n_body, step);
		if (is_logged)
			log_seen(f, part, step);
		n -= step;
	}
}

static void read_chunks(struct fake *f, int fd)
{
	char line[64];
	size_t n;

	do {
		(void)read_line(f, fd, line, sizeof(line));
		n = strtoul(line, NULL, 16);
		read_body(f, fd, n, false);
		(void)read_line(f, fd, line, sizeof(line));
		fake_require(f, strcmp(line, "\r\n") == 0, "a chunk without its end");
	} while (n > 0);
}

void fake_read_request(struct fake *f, int fd, char *head, size_t size)
{
	size_t n = 0, length = 0, line;
	bool is_chunked = false;

	do {
		line = read_line(f, fd, head + n, size - n);
		(void)sscanf(head + n, "Content-Length: %zu", &length);
		if (strcmp(head + n, "Transfer-Encoding: chunked\r\n") == 0)
			is_chunked = true;
		n += line;
	} while (line > 2);
	log_seen(f, head, n);
	if (is_chunked)
		read_chunks(f, fd);
	else
		read_body(f, fd, length, true);
}

void fake_send(int fd, struct str data)
{
	while (data.n > 0) {
		ssize_t put = send(fd, data.p, data.n, MSG_NOSIGNAL);

		if (put <= 0)
			_exit(0); /* the client had enough */
		data = str_sub(data, (size_t)put, data.n);
	}
}

void fake_say(int fd, const char *text)
{
	fake_send(fd, str_of(text));
}

void fake_wait_end(int fd)
{
	char c;

	while (read(fd, &c, 1) > 0)
		;
}

static void serve_script(struct fake *f, int fd, unsigned n)
{
	char head[8192];

	fake_read_request(f, fd, head, sizeof(head));
	if (f->bytes.p)
		fake_send(fd, f->bytes);
	else
		fake_say(fd, f->answers[n < f->n_answers ? n : f->n_answers - 1]);
	if (f->holds_open)
		fake_wait_end(fd);
}

_Noreturn static void run(struct fake *f, fake_serve_fn fn)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGCHLD, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	fake_receive_max = 0;
	for (;;) {
		int fd = accept(f->listen_fd, NULL, NULL);
		unsigned n;

		if (fd < 0)
			_exit(1);
		n = atomic_fetch_add(&f->shared->n_connections, 1);
		if (fork() == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			close_fd(&f->listen_fd);
			fn(f, fd, n);
			_exit(0);
		}
		(void)close(fd);
	}
}

/* --- its life --- */

void fake_start(struct fake *f, fake_serve_fn fn)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/fake-engine-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(f->en.socket, sizeof(f->en.socket), "%s/sock", f->dir);
	(void)snprintf(f->en.from, sizeof(f->en.from), "DOCKER_HOST");
	(void)snprintf(f->en.api, sizeof(f->en.api), "1.41");
	f->shared = map_shared(sizeof(*f->shared));
	if (!is_hurried)
		is_hurried = map_shared(sizeof(*is_hurried));
	f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(sa.sun_path, f->en.socket, sizeof(f->en.socket));
	assert_int_equal(bind(f->listen_fd, (const struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(f->listen_fd, 16), 0);
	f->pid = fork();
	assert_true(f->pid >= 0);
	if (f->pid == 0) {
		(void)setpgid(0, 0);
		run(f, fn);
	}
	(void)setpgid(f->pid, f->pid);
	close_fd(&f->listen_fd);
}

void fake_script(struct fake *f, const char *const *answers, size_t n)
{
	f->answers = answers;
	f->n_answers = n;
	fake_start(f, serve_script);
}

void fake_one(struct fake *f, const char *answer)
{
	fake_bytes(f, str_of(answer));
}

void fake_bytes(struct fake *f, struct str answer)
{
	f->bytes = answer;
	fake_start(f, serve_script);
}

void fake_kill(struct fake *f)
{
	if (f->pid <= 0)
		return;
	(void)kill(-f->pid, SIGKILL);
	(void)waitpid(f->pid, NULL, 0);
	f->pid = -1;
}

void fake_stop(struct fake *f)
{
	char failure[sizeof(f->shared->failure)];

	fake_kill(f);
	memcpy(failure, f->shared->failure, sizeof(failure));
	(void)munmap(f->shared, sizeof(*f->shared));
	(void)unlink(f->en.socket);
	(void)rmdir(f->dir);
	if (failure[0])
		fail_msg("%s", failure);
}

void fake_again(struct fake *f, const char *answer)
{
	fake_stop(f);
	*f = (struct fake){.holds_open = f->holds_open};
	fake_one(f, answer);
}

/* --- checks --- */

bool fake_saw(const struct fake *f, const char *text)
{
	size_t n = atomic_load(&f->shared->n_seen);

	if (n > sizeof(f->shared->seen))
		n = sizeof(f->shared->seen);
	return str_find(str_slice(f->shared->seen, n), str_of(text)) < n;
}

void check_error(const struct err *e, int ret, int code, const char *const *parts)
{
	if (ret != code || e->code != code)
		fail_msg("code %d, and %d in \"%s\"; %d was expected", ret, e->code, e->text, code);
	for (const char *p = e->text; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			fail_msg("a control byte in \"%s\"", e->text);
	}
	for (; *parts; parts++) {
		if (!strstr(e->text, *parts))
			fail_msg("\"%s\" lacks \"%s\"", e->text, *parts);
	}
}
