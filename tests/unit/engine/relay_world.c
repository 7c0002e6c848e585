#include "relay_world.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#define PATIENCE_MS 20000

static struct world *played; /* in the fake engine's processes */

/* --- the engine's side --- */

void world_frame(int fd, unsigned char stream, struct str data)
{
	unsigned char head[8] = {stream,
				 0,
				 0,
				 0,
				 (unsigned char)(data.n >> 24),
				 (unsigned char)(data.n >> 16),
				 (unsigned char)(data.n >> 8),
				 (unsigned char)data.n};

	fake_send(fd, str_slice(head, sizeof(head)));
	fake_send(fd, data);
}

void world_exit(struct fake *f, int status)
{
	atomic_fetch_or(&f->shared->flags, WORLD_EXITED | (unsigned)status);
}

void world_wait_flag(struct fake *f, unsigned bits)
{
	while (!(atomic_load(&f->shared->flags) & bits))
		(void)poll(NULL, 0, 2);
}

static void serve_wait(struct fake *f, int fd)
{
	char body[64], chunk[96];

	if (played->wait_answer) {
		fake_say(fd, played->wait_answer);
		fake_wait_end(fd);
		return;
	}
	fake_say(fd, FAKE_CHUNKED);
	world_wait_flag(f, WORLD_EXITED);
	(void)snprintf(body, sizeof(body), "{\"Error\":null,\"StatusCode\":%u}\n",
		       atomic_load(&f->shared->flags) & 0xff);
	(void)snprintf(chunk, sizeof(chunk), "%zx\r\n%s\r\n0\r\n\r\n", strlen(body), body);
	fake_say(fd, chunk);
	fake_wait_end(fd);
}

static void serve_state(struct fake *f, int fd)
{
	unsigned flags = atomic_load(&f->shared->flags);
	char body[64], answer[160];

	if (played->exec_answer)
		return fake_say(fd, played->exec_answer);
	if (flags & WORLD_EXITED)
		(void)snprintf(body, sizeof(body), "{\"Running\":false,\"ExitCode\":%u}",
			       flags & 0xff);
	else
		(void)snprintf(body, sizeof(body), "{\"Running\":true,\"ExitCode\":null}");
	(void)snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
		       strlen(body), body);
	fake_say(fd, answer);
}

static void serve(struct fake *f, int fd, unsigned n)
{
	static atomic_uint *n_resized;
	char head[4096];

	(void)n;
	n_resized = &f->shared->sum_body;
	fake_read_request(f, fd, head, sizeof(head));
	if (strstr(head, "/attach?") || strstr(head, "/start ")) {
		fake_say(fd, FAKE_STREAM);
		played->process(f, fd);
	} else if (strstr(head, "/wait?condition=next-exit ")) {
		serve_wait(f, fd);
	} else if (strstr(head, "/resize?")) {
		if (played->resize_ms > 0) {
			(void)poll(NULL, 0, played->resize_ms);
			atomic_fetch_add(&f->shared->n_body, 1);
		}
		fake_say(fd, atomic_fetch_add(n_resized, 1) < played->n_resize_refused
				     ? "HTTP/1.1 409 Conflict\r\n\r\nnot running"
				     : "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	} else if (strstr(head, "/exec/") && strstr(head, "/json ")) {
		serve_state(f, fd);
	} else {
		fake_require(f, false, "a request that nobody makes");
	}
}

/* --- the relay --- */

void world_play(struct world *w)
{
	w->pid = -1;
	w->in = w->out = w->err = w->fail = w->master = -1;
	played = w;
	fake_start(&w->f, serve);
}

int world_attach(struct world *w, struct err *e)
{
	int in[2], out[2], err[2], fail[2], ret;
	struct engine_relay r = {.engine = &w->f.en,
				 .container = "c0ffee",
				 .exec = w->has_exec ? "e4ec" : NULL,
				 .has_tty = w->has_tty,
				 .rows = 24,
				 .columns = 80};

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(err, O_CLOEXEC), 0);
	assert_int_equal(pipe2(fail, O_CLOEXEC), 0);
	r.in_fd = in[0];
	r.out_fd = out[1];
	r.err_fd = err[1];
	r.fail_fd = fail[1];
	ret = engine_relay_start(&r, &w->pid, &w->master, e);
	(void)close(in[0]);
	(void)close(out[1]);
	(void)close(err[1]);
	(void)close(fail[1]);
	w->in = in[1];
	w->out = out[0];
	w->err = err[0];
	w->fail = fail[0];
	return ret;
}

void world_start(struct world *w)
{
	struct err e = ERR_INIT;

	world_play(w);
	if (world_attach(w, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(w->master >= 0, w->has_tty);
}

int world_finish(struct world *w)
{
	uint64_t until_ns = engine_deadline(PATIENCE_MS);
	int status = 0;

	close_fd(&w->in);
	while (waitpid(w->pid, &status, WNOHANG) == 0) {
		if (time_monotonic_ns() > until_ns) {
			(void)kill(w->pid, SIGKILL);
			(void)waitpid(w->pid, &status, 0);
			fail_msg("the relay does not end");
		}
		(void)poll(NULL, 0, 2);
	}
	w->pid = -1;
	fake_hurry(false);
	(void)world_read(w->fail, w->line, sizeof(w->line));
	close_fd(&w->out);
	close_fd(&w->err);
	close_fd(&w->fail);
	close_fd(&w->master);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

void world_stop(struct world *w)
{
	if (w->pid > 0) {
		(void)kill(w->pid, SIGKILL);
		(void)waitpid(w->pid, NULL, 0);
	}
	close_fd(&w->in);
	close_fd(&w->out);
	close_fd(&w->err);
	close_fd(&w->fail);
	close_fd(&w->master);
	fake_stop(&w->f);
}

/* --- the test's side --- */

size_t world_read(int fd, char *out, size_t size)
{
	size_t n = 0;
	ssize_t got;

	do {
		if (io_wait(fd, POLLIN, PATIENCE_MS) <= 0)
			fail_msg("no end of file");
		got = read(fd, out + n, size - 1 - n);
		assert_true(got >= 0);
		n += (size_t)got;
	} while (got > 0);
	out[n] = '\0';
	return n;
}

void world_expect(int fd, const char *text)
{
	char got[256];
	size_t n = 0;

	while (n < strlen(text)) {
		if (io_wait(fd, POLLIN, PATIENCE_MS) <= 0)
			fail_msg("\"%s\" does not come", text);
		assert_int_equal(read(fd, got + n, 1), 1);
		n++;
	}
	assert_memory_equal(got, text, n);
}

void world_expect_seen(struct world *w, const char *text)
{
	uint64_t until_ns = engine_deadline(PATIENCE_MS);

	while (!fake_saw(&w->f, text)) {
		if (time_monotonic_ns() > until_ns)
			fail_msg("the engine is not asked \"%s\"", text);
		(void)poll(NULL, 0, 2);
	}
}
