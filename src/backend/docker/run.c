/*
 * Theory of operation. The engine takes most of the time of a start, so as much as possible is
 * under way in it at once: start_bundle asks for the bundle's start and returns; launch makes the
 * agent's container meanwhile, attaches to it, asks for its start, and only then serves the two
 * sockets on which the containers' first processes come: init for its descriptors, guest init to be
 * held. An answer of the engine that says that a start failed ends the wait for that process.
 *
 * A process in a container is stood for by a relay (engine.h), a child of the keeper's, whose exit
 * status is that process's.
 */
#include "backend/docker/docker_int.h"

#include "backend/agent_env.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "guest/guest_host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define RUN_PATH_MAX	   256
#define RUN_START_MS	   60000 /* of a container on a busy machine */
#define RUN_GREET_MS	   15000 /* from its start to its first process's connection */
#define RUN_END_MS	   4000	 /* of a container that is to end */
#define RUN_KILL_MS	   3000
#define RUN_BUNDLE_NAME	   "keeper.sock"
#define RUN_GO_MS	   15000
#define RUN_CONTAINER_STOP 137

static void json_unref(json_t **j)
{
	json_decref(*j);
}
#define _cleanup_json_ _cleanup_(json_unref)

static int begin_start(struct bottle *b, struct engine_call *c, const char *id, const char *what,
		       struct err *e)
{
	char path[RUN_PATH_MAX];
	int ret;

	(void)snprintf(path, sizeof(path), "/containers/%s/start", id);
	ret = engine_begin(c, &b->engine, "POST", path, NULL, what, e);
	if (ret == 0)
		c->timeout_ms = RUN_START_MS;
	return ret;
}

/* --- the bundle --- */

static void kept_close(struct bottle *b)
{
	while (b->n_kept > 0)
		close_fd(&b->kept[--b->n_kept].fd);
}

static int keep_fd(struct bottle *b, const char *name, int fd, struct err *e)
{
	struct docker_kept_fd *k = &b->kept[b->n_kept];

	if (fd < 0)
		return 0;
	if (b->n_kept == DOCKER_FDS_MAX || strlen(name) >= sizeof(k->name))
		return err_set(e, -E2BIG, "too many descriptors for the bundle");
	k->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (k->fd < 0)
		return err_errno(e, "dup");
	(void)snprintf(k->name, sizeof(k->name), "%s", name);
	b->n_kept++;
	return 0;
}

int docker_start_bundle(struct bottle *b, const struct backend_fd *fds, size_t n, struct err *e)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < n; i++)
		ret = keep_fd(b, fds[i].name, fds[i].fd, e);
	/* The keeper's standard error is the bottle's log. */
	if (ret == 0)
		ret = keep_fd(b, "log", STDERR_FILENO, e);
	if (ret == 0)
		ret = begin_start(b, &b->bundle_start, b->bundle_id, "start the bundle", e);
	b->is_bundle_started = ret == 0;
	return ret;
}

/* Until somebody connects, or the engine says that nobody will. */
static int wait_connection(int listen_fd, struct engine_call *start, const char *who, struct err *e)
{
	uint64_t until = time_monotonic_ns() + RUN_START_MS * TIME_NS_PER_MS;

	for (;;) {
		struct pollfd polls[] = {{.fd = listen_fd, .events = POLLIN},
					 {.fd = start->fd, .events = POLLIN}};
		uint64_t now = time_monotonic_ns();
		int ret;

		if (now >= until)
			return err_set(e, -ETIMEDOUT, "%s does not start", who);
		if (poll(polls, 2, (int)((until - now) / TIME_NS_PER_MS) + 1) < 0 && errno != EINTR)
			return err_errno(e, "poll");
		if (polls[0].revents)
			return 0;
		if (!polls[1].revents)
			continue;
		ret = engine_end(start, NULL, e);
		if (ret < 0)
			return ret;
		if (until > now + RUN_GREET_MS * TIME_NS_PER_MS)
			until = now + RUN_GREET_MS * TIME_NS_PER_MS;
	}
}

/* The socket's name is gone before anything is said over it: nobody else is let in. */
static int give_descriptors(struct bottle *b, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/bundle/" RUN_BUNDLE_NAME, b->dir);
	_cleanup_close_ int conn = -1;
	int ret =
		wait_connection(b->bundle_listen_fd, &b->bundle_start, "the bundle's container", e);

	if (ret == 0) {
		conn = accept4(b->bundle_listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (conn < 0)
			ret = err_errno(e, "accept the bundle's init");
	}
	(void)unlink(path);
	close_fd(&b->bundle_listen_fd);
	for (size_t i = 0; ret == 0 && i < b->n_kept; i++) {
		if (io_send_fds(conn, b->kept[i].name, strlen(b->kept[i].name), &b->kept[i].fd, 1,
				MSG_NOSIGNAL) < 0)
			ret = err_set(e, -EPIPE, "the bundle's init went away");
	}
	if (ret == 0 && io_send_fds(conn, "end", 3, NULL, 0, MSG_NOSIGNAL) < 0)
		ret = err_set(e, -EPIPE, "the bundle's init went away");
	kept_close(b);
	return ret;
}

static void describe_end(struct bottle *b, const json_t *answer)
{
	const json_t *state = json_object_get(answer, "State");
	int status = (int)json_integer_value(json_object_get(state, "ExitCode"));

	if (json_is_true(json_object_get(state, "OOMKilled")))
		(void)snprintf(b->how, sizeof(b->how), "ran out of memory");
	else if (status == RUN_CONTAINER_STOP)
		(void)snprintf(b->how, sizeof(b->how), "was killed");
	else
		(void)snprintf(b->how, sizeof(b->how), "ended with status %d", status);
}

static void wait_bundle_end(struct bottle *b, bool must_die)
{
	_cleanup_json_ json_t *answer = NULL;
	struct engine_call c;
	char path[RUN_PATH_MAX];

	(void)snprintf(path, sizeof(path), "/containers/%s/kill", b->bundle_id);
	if (must_die && engine_begin(&c, &b->engine, "POST", path, NULL, "kill", NULL) == 0) {
		c.timeout_ms = RUN_KILL_MS;
		(void)!engine_end(&c, NULL, NULL);
	}
	(void)snprintf(path, sizeof(path), "/containers/%s/wait", b->bundle_id);
	if (engine_begin(&c, &b->engine, "POST", path, NULL, "wait", NULL) == 0) {
		c.timeout_ms = RUN_END_MS;
		(void)!engine_end(&c, NULL, NULL);
	}
	(void)snprintf(path, sizeof(path), "/containers/%s/json", b->bundle_id);
	if (engine_do(&b->engine, "GET", path, NULL, "look at the bundle", &answer, NULL) == 0)
		describe_end(b, answer);
	else
		(void)snprintf(b->how, sizeof(b->how), "went away with the Docker engine");
}

void docker_reap_bundle(struct bottle *b, bool must_die, char *how, size_t how_size)
{
	if (b->is_bundle_started) {
		b->is_bundle_started = false;
		engine_cancel(&b->bundle_start);
		wait_bundle_end(b, must_die);
	}
	if (how_size > 0)
		(void)snprintf(how, how_size, "%s", b->how);
}

/* --- the agent --- */

static int open_relay(struct bottle *b, const char *exec, struct backend_stdio *io, pid_t *pid,
		      struct err *e)
{
	struct engine_relay r = {.engine = &b->engine,
				 .container = b->agent_id,
				 .exec = exec,
				 .has_tty = io->has_tty,
				 .rows = io->rows,
				 .columns = io->columns,
				 .in_fd = io->in_fd,
				 .out_fd = io->out_fd,
				 .err_fd = io->err_fd,
				 .fail_fd = b->fail_fds[1]};

	return engine_relay_start(&r, pid, &io->master_fd, e);
}

/* Process 1 of the agent's container, held. */
static int await_guest(struct bottle *b, struct engine_call *start, struct err *e)
{
	_cleanup_free_ char *dir = mem_printf("%s/agent", b->dir);
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, b->relay_pid, 0);
	int ret = wait_connection(b->guest_listen_fd, start, "the agent's container", e);

	if (ret == 0)
		ret = guest_accept(dir, &b->guest_listen_fd, RUN_GREET_MS, pidfd, &b->guest_fd, e);
	/* Without its answer a start that went wrong after all would not be heard of. */
	if (ret == 0 && start->fd >= 0)
		ret = engine_end(start, NULL, e);
	return ret;
}

static int start_agent(struct bottle *b, struct backend_stdio *io, struct engine_call *start,
		       struct err *e)
{
	int ret = docker_make_container(b, docker_spec_agent(b, io->has_tty), "",
					"make the agent's container", b->agent_id, e);

	if (ret == 0)
		ret = open_relay(b, NULL, io, &b->relay_pid, e);
	if (ret == 0)
		ret = begin_start(b, start, b->agent_id, "start the agent's container", e);
	if (ret == 0)
		ret = give_descriptors(b, e);
	if (ret == 0)
		ret = await_guest(b, start, e);
	return ret == 0 ? docker_close_network(b, e) : ret;
}

static void end_relay(struct bottle *b)
{
	if (b->relay_pid <= 0)
		return;
	(void)kill(b->relay_pid, SIGKILL);
	while (waitpid(b->relay_pid, NULL, 0) < 0 && errno == EINTR)
		;
	b->relay_pid = 0;
}

int docker_launch(struct bottle *b, struct backend_stdio *io, pid_t *pid, struct err *e)
{
	struct engine_call start = {.fd = -1};
	int ret = start_agent(b, io, &start, e);

	if (ret < 0) {
		engine_cancel(&start);
		end_relay(b);
		close_fd(&io->master_fd);
		return ret;
	}
	b->has_tty = io->has_tty;
	*pid = b->relay_pid;
	return 0;
}

int docker_go(struct bottle *b, struct str ca_pem, struct err *e)
{
	const struct plan *p = b->plan;
	_cleanup_free_ char *canary =
		p->canary ? mem_printf("[default]\ndeploy_token = %s\n", p->canary) : NULL;
	const struct guest_file file = {
		.path = AGENT_CANARY_FILE, .mode = 0600, .text = str_of(canary)};
	struct guest_go go = {
		.argv = p->command,
		.has_tty = b->has_tty,
		.files = &file,
		.n_files = p->canary ? 1 : 0,
		.limits = {.files = p->limits.files, .file_size_bytes = p->limits.file_size_bytes}};
	int ret = docker_write_ca(b, ca_pem, e);

	return ret < 0 ? ret : guest_go(b->guest_fd, &go, RUN_GO_MS, -1, e);
}

/* --- beside the agent --- */

static json_t *exec_spec(const struct bottle *b, char *const *argv, bool has_tty)
{
	json_t *cmd = json_pack("[s, s, s, s]", GUEST_BUNDLE, "guest", "exec", "--");
	char user[32];

	(void)snprintf(user, sizeof(user), "%u:%u", (unsigned)b->uid, (unsigned)b->gid);
	for (; cmd && *argv; argv++) {
		if (json_array_append_new(cmd, json_string(*argv)) < 0) {
			json_decref(cmd);
			return NULL;
		}
	}
	return json_pack("{s:b, s:b, s:b, s:b, s:s, s:b, s:o}", "AttachStdin", 1, "AttachStdout", 1,
			 "AttachStderr", 1, "Tty", (int)has_tty, "User", user, "Privileged", 0,
			 "Cmd", cmd);
}

int docker_exec(struct bottle *b, char *const *argv, struct backend_stdio *io, pid_t *pid,
		struct err *e)
{
	_cleanup_json_ json_t *spec = exec_spec(b, argv, io->has_tty), *answer = NULL;
	char path[RUN_PATH_MAX], id[DOCKER_ID_SIZE];
	const char *text;
	int ret;

	if (!spec)
		return err_set(e, -EILSEQ, "the command is not UTF-8");
	(void)snprintf(path, sizeof(path), "/containers/%s/exec", b->agent_id);
	ret = engine_do(&b->engine, "POST", path, spec, "make exec", &answer, e);
	if (ret < 0)
		return ret;
	text = json_string_value(json_object_get(answer, "Id"));
	if (!text || strlen(text) >= sizeof(id) || strspn(text, "0123456789abcdef") != strlen(text))
		return err_set(e, -EPROTO, "the Docker engine: make exec: its answer has no id");
	(void)snprintf(id, sizeof(id), "%s", text);
	return open_relay(b, id, io, pid, e);
}

int docker_signal(struct bottle *b, pid_t pid, int signo)
{
	char path[RUN_PATH_MAX];
	struct engine_call c;
	int ret;

	if (pid != b->relay_pid)
		return -ESRCH;
	(void)snprintf(path, sizeof(path), "/containers/%s/kill?signal=%d", b->agent_id, signo);
	ret = engine_begin(&c, &b->engine, "POST", path, NULL, "signal the agent", NULL);
	if (ret < 0)
		return ret;
	c.timeout_ms = RUN_KILL_MS;
	return engine_end(&c, NULL, NULL);
}

/* Its first process ends when the keeper's end of their connection does, with or without an engine
 * that answers; the rest is for a container whose first process was never there. */
void docker_kill(struct bottle *b)
{
	char path[RUN_PATH_MAX];
	struct engine_call c;
	int ret;

	close_fd(&b->guest_fd);
	if (!b->agent_id[0])
		return;
	(void)snprintf(path, sizeof(path), "/containers/%s/kill", b->agent_id);
	ret = engine_begin(&c, &b->engine, "POST", path, NULL, "kill the agent", NULL);
	if (ret == 0) {
		c.timeout_ms = RUN_KILL_MS;
		ret = engine_end(&c, NULL, NULL);
	}
	/* Whoever waits for the relay must not wait for an engine that does not answer. That there
	 * is no such container, or that it does not run, is an answer. */
	if (ret < 0 && ret != -ENOENT && ret != -EEXIST && b->relay_pid > 0)
		(void)kill(b->relay_pid, SIGKILL);
}

const char *docker_reason(struct bottle *b)
{
	char line[sizeof(b->reason)];
	struct str text;
	ssize_t n;
	bool found;

	if (b->reason[0])
		return b->reason;
	n = read(b->fail_fds[0], line, sizeof(line));
	if (n <= 0)
		return NULL;
	(void)str_cut(str_slice(line, (size_t)n), '\n', &text, &found);
	text_visible_cstr(b->reason, sizeof(b->reason), text);
	return b->reason;
}
