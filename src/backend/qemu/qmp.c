/*
 * Theory of operation. The monitor is spoken with before the machine has been given its order, when
 * nothing in it is an agent's, and is closed then: no byte of QEMU's is parsed as JSON once an
 * agent could have written it. One question at a time, by line; what else comes meanwhile are
 * events, which are passed over. What is no answer, too long or too late ends the conversation.
 */
#include "backend/qemu/qemu_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#define QMP_EVENTS_MAX 256	  /* before one answer */
#define QMP_SNAPSHOT   "snapshot" /* the name of a descriptor in the monitor */
#define QMP_POLL_MS    5
#define QMP_BANDWIDTH  (INT64_C(1) << 40) /* bytes a second: none that holds it up */

static int wait_readable(int fd, uint64_t until_ns, struct err *e)
{
	uint64_t now = time_monotonic_ns();
	int ret = now < until_ns ? io_wait(fd, POLLIN, (int)((until_ns - now) / TIME_NS_PER_MS) + 1)
				 : 0;

	if (ret < 0)
		return err_set(e, ret, "wait for QEMU's monitor");
	return ret ? 0 : err_set(e, -ETIMEDOUT, "QEMU's monitor does not answer");
}

/* One line, which stays in q->in; *used bytes are to be consumed after it. */
static int read_line(struct qmp *q, uint64_t until_ns, struct str *line, size_t *used,
		     struct err *e)
{
	for (;;) {
		struct str in = buf_str(&q->in);
		size_t end = str_chr(in, '\n');
		ssize_t got;
		char *room;
		int ret;

		if (end < in.n) {
			*line = str_sub(in, 0, end);
			*used = end + 1;
			return 0;
		}
		room = buf_room(&q->in) ? buf_reserve(&q->in, buf_room(&q->in)) : NULL;
		if (!room)
			return err_set(e, -EPROTO, "QEMU's monitor says too much");
		ret = wait_readable(q->fd, until_ns, e);
		if (ret < 0)
			return ret;
		got = recv(q->fd, room, buf_room(&q->in), MSG_DONTWAIT);
		if (got == 0)
			return err_set(e, -EPIPE, "QEMU has gone");
		if (got < 0 && errno != EAGAIN && errno != EINTR)
			return err_errno(e, "read QEMU's monitor");
		buf_commit(&q->in, got > 0 ? (size_t)got : 0);
	}
}

static int read_object(struct qmp *q, uint64_t until_ns, json_t **out, struct err *e)
{
	struct str line = STR_NULL;
	size_t used = 0;
	int ret = read_line(q, until_ns, &line, &used, e);

	*out = NULL;
	if (ret < 0)
		return ret;
	*out = json_loadb(line.p, line.n, JSON_REJECT_DUPLICATES, NULL);
	buf_consume(&q->in, used);
	if (json_is_object(*out))
		return 0;
	json_decref(*out);
	*out = NULL;
	return err_set(e, -EPROTO, "QEMU's monitor makes no sense");
}

static int send_line(struct qmp *q, const char *text, int pass_fd, struct err *e)
{
	ssize_t put = io_send_fds(q->fd, text, strlen(text), &pass_fd, pass_fd >= 0 ? 1 : 0,
				  MSG_NOSIGNAL);

	/* Its lines are far shorter than what a socket holds, and nothing is in it. */
	return put == (ssize_t)strlen(text) ? 0 : err_set(e, -EPIPE, "QEMU has gone");
}

/* {"return": …, "id": N}, or {"error": {"class": …, "desc": …}, "id": N}. */
static int take_answer(const struct qmp *q, const char *command, json_t *object, json_t **answer,
		       struct err *e)
{
	json_t *value = json_object_get(object, "return");
	const json_t *id = json_object_get(object, "id");
	const json_t *error = json_object_get(object, "error");
	const char *why = json_string_value(json_object_get(error, "desc"));
	char shown[256];

	if (!json_is_integer(id) || json_integer_value(id) != (json_int_t)q->id ||
	    !value == !error || (error && !why) || json_object_size(object) != 2)
		return err_set(e, -EPROTO, "QEMU's monitor makes no sense");
	if (error) {
		text_visible_cstr(shown, sizeof(shown), str_of(why));
		return err_set(e, -EREMOTEIO, "QEMU refuses \"%s\": %s", command, shown);
	}
	if (answer)
		*answer = json_incref(value);
	return 0;
}

int qmp_call(struct qmp *q, const char *command, json_t *arguments, int pass_fd, json_t **answer,
	     uint64_t until_ns, struct err *e)
{
	_cleanup_json_ json_t *order =
		json_pack("{s:s, s:o, s:i}", "execute", command, "arguments",
			  arguments ? arguments : json_object(), "id", (int)++q->id);
	_cleanup_free_ char *text = order ? json_dumps(order, JSON_COMPACT) : NULL;
	_cleanup_free_ char *line = NULL;
	int ret;

	if (answer)
		*answer = NULL;
	if (!text || asprintf(&line, "%s\n", text) < 0)
		return err_set(e, -ENOMEM, "ask QEMU's monitor");
	ret = send_line(q, line, pass_fd, e);
	for (unsigned i = 0; ret == 0 && i < QMP_EVENTS_MAX; i++) {
		_cleanup_json_ json_t *object = NULL;

		ret = read_object(q, until_ns, &object, e);
		if (ret == 0 && !json_is_string(json_object_get(object, "event")))
			return take_answer(q, command, object, answer, e);
	}
	return ret < 0 ? ret : err_set(e, -EPROTO, "QEMU's monitor does not answer");
}

int qmp_open(struct qmp *q, int fd, uint64_t until_ns, struct err *e)
{
	_cleanup_json_ json_t *greeting = NULL;
	int ret;

	*q = (struct qmp){.fd = fd};
	buf_init(&q->in, QMP_LINE_MAX);
	ret = read_object(q, until_ns, &greeting, e);
	if (ret == 0 && !json_is_object(json_object_get(greeting, "QMP")))
		ret = err_set(e, -EPROTO, "QEMU's monitor makes no sense");
	return ret == 0 ? qmp_call(q, "qmp_capabilities", NULL, -1, NULL, until_ns, e) : ret;
}

void qmp_free(struct qmp *q)
{
	buf_free(&q->in);
}

/* --- snapshots --- */

/* "active" and the like while it goes on. */
static int await_migration(struct qmp *q, uint64_t until_ns, struct err *e)
{
	for (;;) {
		_cleanup_json_ json_t *answer = NULL;
		const char *status, *why;
		char shown[256];
		int ret = qmp_call(q, "query-migrate", NULL, -1, &answer, until_ns, e);

		if (ret < 0)
			return ret;
		status = json_string_value(json_object_get(answer, "status"));
		if (status && strcmp(status, "completed") == 0)
			return 0;
		if (status && strcmp(status, "failed") == 0) {
			why = json_string_value(json_object_get(answer, "error-desc"));
			text_visible_cstr(shown, sizeof(shown),
					  str_of(why ? why : "it does not say why"));
			return err_set(e, -EREMOTEIO, "QEMU cannot: %s", shown);
		}
		if (time_monotonic_ns() >= until_ns)
			return err_set(e, -ETIMEDOUT, "QEMU does not come to its end");
		(void)poll(NULL, 0, QMP_POLL_MS);
	}
}

static int migrate(struct qmp *q, const char *command, int file_fd, uint64_t until_ns,
		   struct err *e)
{
	int ret = qmp_call(q, "getfd", json_pack("{s:s}", "fdname", QMP_SNAPSHOT), file_fd, NULL,
			   until_ns, e);

	if (ret == 0)
		ret = qmp_call(q, command, json_pack("{s:s}", "uri", "fd:" QMP_SNAPSHOT), -1, NULL,
			       until_ns, e);
	return ret == 0 ? await_migration(q, until_ns, e) : ret;
}

int qmp_save(struct qmp *q, int file_fd, uint64_t until_ns, struct err *e)
{
	int ret = qmp_call(q, "stop", NULL, -1, NULL, until_ns, e);

	if (ret == 0)
		ret = qmp_call(q, "migrate-set-parameters",
			       json_pack("{s:I}", "max-bandwidth", (json_int_t)QMP_BANDWIDTH), -1,
			       NULL, until_ns, e);
	if (ret == 0)
		ret = migrate(q, "migrate", file_fd, until_ns, e);
	return ret < 0 ? err_prefix(e, "save the machine") : 0;
}

int qmp_restore(struct qmp *q, int file_fd, uint64_t until_ns, struct err *e)
{
	int ret = migrate(q, "migrate-incoming", file_fd, until_ns, e);

	if (ret == 0)
		ret = qmp_call(q, "cont", NULL, -1, NULL, until_ns, e);
	return ret < 0 ? err_prefix(e, "restore the machine") : 0;
}
