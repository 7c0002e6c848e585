/*
 * Starting a relay: what can fail fails here, in the caller. For a container both connections are
 * made before it is started: the attached stream, so that no byte is lost, and a "wait" for its
 * next exit, so that no exit is, however short the process's life. That one also tells at once when
 * the engine goes away, which the end of the stream alone would not.
 */
#include "engine/engine_int.h"

#include "base/child.h"
#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>

/* With a terminal the engine looks for ^P^Q in the input, unless told of other keys: it would hold
 * each ^P back, and hang up on both. No sequence at all cannot be asked for, so it is told of one
 * that nobody types: bytes that are in no UTF-8. */
#define RELAY_DETACH_QUERY "&detachKeys=%%FF,%%FF,%%FF,%%FF,%%FF,%%FF,%%FF,%%FF"

static int attach_container(const struct engine_relay *r, struct engine_relay_job *job,
			    struct err *e)
{
	struct engine_request wait = {.method = "POST"};
	char path[256];
	int ret;

	if (snprintf(path, sizeof(path),
		     "/containers/%s/attach?stream=1&stdin=1&stdout=1&stderr=1" RELAY_DETACH_QUERY,
		     r->container) >= (int)sizeof(path))
		return engine_fail(e, -EINVAL, "attach", "the container's id is too long");
	ret = engine_hijack(r->engine, path, NULL, "attach", &job->stream_fd, job->early, e);
	if (ret < 0)
		return ret;
	(void)snprintf(path, sizeof(path), "/containers/%s/wait?condition=next-exit", r->container);
	wait.path = path;
	job->wait_fd = engine_request(r->engine, &wait, STR_NULL, "wait for the container",
				      engine_deadline(ENGINE_TIMEOUT_MS), e);
	if (job->wait_fd < 0)
		return job->wait_fd;
	/* The head comes when the engine has begun to watch. */
	ret = engine_answer_head(job->wait, job->wait_fd, job->wait_in, "wait for the container",
				 engine_deadline(ENGINE_TIMEOUT_MS), e);
	if (ret == 0 && !engine_answer_is_good(job->wait))
		ret = engine_answer_refused(job->wait, job->wait_fd, job->wait_in,
					    "wait for the container",
					    engine_deadline(ENGINE_TIMEOUT_MS), e);
	return ret;
}

static int attach_exec(const struct engine_relay *r, struct engine_relay_job *job, struct err *e)
{
	json_t *body;
	char path[256];
	int ret;

	if (snprintf(path, sizeof(path), "/exec/%s/start", r->exec) >= (int)sizeof(path))
		return engine_fail(e, -EINVAL, "start exec", "the exec's id is too long");
	body = json_pack("{s:b,s:b}", "Detach", 0, "Tty", r->has_tty);
	ret = engine_hijack(r->engine, path, body, "start exec", &job->stream_fd, job->early, e);
	json_decref(body);
	return ret;
}

/* --- the child --- */

static int relay_fork(struct engine_relay_job *job, pid_t *pid, struct err *e)
{
	const int keep[] = {job->stream_fd, job->wait_fd, job->tty_fd, job->in_fd,
			    job->out_fd,    job->err_fd,  job->fail_fd};
	int ret = child_fork("cb-relay", ENGINE_RELAY_LOST, keep, ARRAY_LEN(keep), pid, e);

	if (ret < 0 || *pid > 0)
		return ret;
	if (job->tty_fd >= 0)
		(void)ioctl(job->tty_fd, TIOCSCTTY, 0);
	engine_relay_run(job);
}

int engine_relay_start(const struct engine_relay *r, pid_t *pid, int *master_fd, struct err *e)
{
	_cleanup_close_ int master = -1, slave = -1, stream = -1, wait_fd = -1;
	_cleanup_(buf_free) struct buf early, wait_in;
	struct engine_answer wait;
	struct engine_relay_job job = {.engine = r->engine,
				       .container = r->container,
				       .exec = r->exec,
				       .stream_fd = -1,
				       .wait_fd = -1,
				       .early = &early,
				       .wait_in = &wait_in,
				       .wait = &wait,
				       .tty_fd = -1,
				       .in_fd = r->has_tty ? -1 : r->in_fd,
				       .out_fd = r->has_tty ? -1 : r->out_fd,
				       .err_fd = r->has_tty ? -1 : r->err_fd,
				       .fail_fd = r->fail_fd};
	int ret = 0;

	*pid = -1;
	*master_fd = -1;
	buf_init(&early, ENGINE_IN_MAX);
	buf_init(&wait_in, ENGINE_IN_MAX);
	engine_answer_init(&wait, HTTP1_POST);
	if (r->has_tty)
		ret = child_open_pty(r->rows, r->columns, &master, &slave, e);
	if (ret == 0)
		ret = r->exec ? attach_exec(r, &job, e) : attach_container(r, &job, e);
	stream = job.stream_fd;
	wait_fd = job.wait_fd;
	if (ret < 0)
		return ret;
	job.tty_fd = slave;
	ret = relay_fork(&job, pid, e);
	if (ret == 0)
		*master_fd = take_fd(&master);
	return ret;
}
