/*
 * The containers' lives, once they are started. A process in a container is stood for by a relay
 * (engine.h), a child of the keeper's, whose exit status is that process's.
 */
#include "backend/docker/docker_int.h"
#include "backend/docker/spec.h"

#include "backend/agent_clone.h"
#include "backend/agent_go.h"
#include "base/child.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "guest/guest.h"
#include "priv/priv.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN_PATH_MAX 256
#define RUN_KILL_MS  3000

void docker_reap_bundle(struct bottle *b, bool must_die, char *how, size_t how_size)
{
	bundle_box_reap(&b->box, must_die, how, how_size);
}

/* --- the agent --- */

static int open_relay(struct bottle *b, const char *exec, struct backend_stdio *io, pid_t *pid,
		      struct err *e)
{
	struct engine_relay r = {.engine = &b->owner.engine,
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

/* Process 1 says nothing before it is told to go, so that attaching late loses nothing. */
int docker_launch(struct bottle *b, struct backend_stdio *io, pid_t *pid, struct err *e)
{
	int ret = docker_await(b, e);

	if (ret == 0)
		ret = open_relay(b, NULL, io, &b->relay_pid, e);
	if (ret < 0) {
		child_end(&b->relay_pid);
		close_fd(&io->master_fd);
		return ret;
	}
	*pid = b->relay_pid;
	return 0;
}

int docker_go(struct bottle *b, struct str ca_pem, struct err *e)
{
	int ret = docker_write_ca(b, ca_pem, e);

	if (ret == 0)
		ret = agent_go(b->guest_fd, b->plan, b->wall.bundle, b->env, b->has_tty, e);
	b->has_gone = ret == 0;
	return ret;
}

/* --- beside the agent --- */

static json_t *exec_spec(const struct bottle *b, char *const *argv, bool has_tty)
{
	_cleanup_json_ json_t *words = docker_strings(argv);
	char user[32], id[32];
	json_t *cmd;

	(void)snprintf(user, sizeof(user), "%u:%u", (unsigned)b->uid, (unsigned)b->gid);
	(void)snprintf(id, sizeof(id), "id=%u", guest_execs_next(&b->execs));
	cmd = json_pack("[s, s, s, s, s]", GUEST_BUNDLE, "guest", "exec", id, "--");
	if (!words || json_array_extend(cmd, words) < 0) {
		json_decref(cmd);
		return NULL;
	}
	return json_pack("{s:b, s:b, s:b, s:b, s:s, s:b, s:s, s:o, s:o}", "AttachStdin", 1,
			 "AttachStdout", 1, "AttachStderr", 1, "Tty", (int)has_tty, "User", user,
			 "Privileged", 0, "DetachKeys", ENGINE_DETACH_KEYS, "Env",
			 docker_strings(b->env), "Cmd", cmd);
}

int docker_exec(struct bottle *b, char *const *argv, struct backend_stdio *io, pid_t *pid,
		struct err *e)
{
	char **waiting = agent_exec_make(b->plan, b->home, argv);
	_cleanup_json_ json_t *spec = exec_spec(b, waiting ? waiting : argv, io->has_tty),
			      *answer = NULL;
	char path[RUN_PATH_MAX], id[DOCKER_ID_SIZE];
	int ret;

	agent_command_free(waiting);
	if (!spec)
		return err_set(e, -EILSEQ, "the command is not UTF-8");
	(void)snprintf(path, sizeof(path), "/containers/%s/exec", b->agent_id);
	ret = engine_do(&b->owner.engine, "POST", path, spec, "make exec", &answer, e);
	if (ret == 0)
		ret = docker_take_id(answer, "make exec", id, e);
	if (ret == 0)
		ret = open_relay(b, id, io, pid, e);
	if (ret < 0)
		return ret;
	guest_execs_add(&b->execs, *pid);
	return 0;
}

/* Through process 1, which needs no engine for it. */
int docker_signal(struct bottle *b, pid_t pid, int signo)
{
	return guest_execs_signal(&b->execs, b->guest_fd, b->relay_pid, pid, signo);
}

/* The first one stays: what comes later follows from it. */
static void set_reason(struct bottle *b, struct str why)
{
	char shown[sizeof(b->reason) - 32];

	if (b->reason[0])
		return;
	text_visible_cstr(shown, sizeof(shown), why);
	(void)snprintf(b->reason, sizeof(b->reason), "the bottle was stopped: %s", shown);
}

/* Its first process ends when the keeper's end of their connection does, with or without an engine
 * that answers; the rest is for a container whose first process was never there. */
void docker_kill(struct bottle *b)
{
	char path[RUN_PATH_MAX];
	struct engine_call c;
	struct err e = ERR_INIT;
	int ret;

	close_fd(&b->guest_fd);
	if (!b->agent_id[0])
		return;
	(void)snprintf(path, sizeof(path), "/containers/%s/kill", b->agent_id);
	ret = engine_begin(&c, &b->owner.engine, "POST", path, NULL, "kill the agent", &e);
	if (ret == 0) {
		c.timeout_ms = RUN_KILL_MS;
		ret = engine_end(&c, NULL, &e);
	}
	/* Whoever waits for the relay must not wait for an engine that does not answer. That there
	 * is no such container, or that it does not run, is an answer. */
	if (ret == 0 || ret == -ENOENT || ret == -EEXIST || b->relay_pid <= 0)
		return;
	set_reason(b, str_of(e.text));
	(void)kill(b->relay_pid, SIGKILL);
}

/* A relay ends with a status of its own; a signal is somebody else's. */
const char *docker_reason(struct bottle *b, int status)
{
	char line[sizeof(b->reason)];
	struct str text;
	ssize_t n;
	bool found;

	n = read(b->fail_fds[0], line, sizeof(line));
	if (n > 0) {
		(void)str_cut(str_slice(line, (size_t)n), '\n', &text, &found);
		set_reason(b, text);
	} else if (WIFSIGNALED(status)) {
		(void)snprintf(line, sizeof(line),
			       "the process that stands for the agent was "
			       "killed%s",
			       priv_seal_why(status));
		set_reason(b, str_of(line));
	}
	return b->reason[0] ? b->reason : NULL;
}
