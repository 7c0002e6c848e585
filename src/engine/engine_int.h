/* Between the files of the engine's client. */
#pragma once

#include "engine/engine.h"

#include "base/timeutil.h"
#include "net/http1.h"

#define ENGINE_SLOW_MS	      600000 /* of silence in a build, a pull, an archive */
#define ENGINE_INTERIM_MAX    8	     /* 1xx answers before the real one */
#define ENGINE_IN_MAX	      (HTTP1_HEAD_MAX_BYTES + 65536)
#define ENGINE_TARGET_MAX     4096
#define ENGINE_REQUEST_MAX    (ENGINE_JSON_MAX + 65536)
#define ENGINE_SAID_MAX	      320   /* bytes of an error line */
#define ENGINE_ERROR_BODY_MAX 65536 /* what is read of an answer that is an error */
#define ENGINE_EVENT_MAX      (1u << 20)
#define ENGINE_CONFIG_MAX     (1u << 20) /* of the files in ~/.docker */

/* --- time --- */

/* A moment of the monotonic clock, or UINT64_MAX for never. timeout_ms < 0: never. */
uint64_t engine_deadline(int timeout_ms);
/* For poll(): -1 for never. */
int engine_left_ms(uint64_t deadline_ns);

/* --- errors --- */

/* All end in err_set() with "the Docker engine: <what>: …". */
int engine_fail(struct err *e, int code, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* An answer of this status with this body: {"message": …} or text. */
int engine_fail_status(struct err *e, unsigned status, const char *what, struct str body);
/* What the engine said in an event stream, or anywhere without a status. */
int engine_fail_said(struct err *e, int code, const char *what, struct str said);
/* By errno of a send or receive. */
int engine_fail_io(struct err *e, int code, const char *what);

/* --- the connection (dial.c) --- */

/* Connected and not blocking; -errno. */
int engine_dial(const struct engine *en, uint64_t deadline_ns, struct err *e) _fallible_;
/* All of data. 0, -EPIPE, -ETIMEDOUT, -errno. */
int engine_send(int fd, struct str data, uint64_t deadline_ns) _fallible_;
/* What there is, appended: bytes, 0 at the end of file, -EAGAIN, -errno. */
ssize_t engine_receive(int fd, struct buf *in);
/* Waits for input; 0, -ETIMEDOUT, -errno. */
int engine_await(int fd, uint64_t deadline_ns) _fallible_;

/* How a request's body goes. */
enum engine_body { ENGINE_BODY_NONE, ENGINE_BODY_LENGTH, ENGINE_BODY_CHUNKED };
struct engine_request {
	const char *method, *path, *type;
	const char *const *headers; /* further complete lines, NULL-terminated, or NULL */
	enum engine_body body;
	size_t length;
};
/* Appends the head. -EINVAL for a path or a header that would be more than itself. */
int engine_write_head(struct buf *out, const struct engine *en, const struct engine_request *r,
		      const char *what, struct err *e) _fallible_;
/* Dials and sends a request whose body, if any, is in memory. The connection, or -errno. */
int engine_request(const struct engine *en, const struct engine_request *r, struct str body,
		   const char *what, uint64_t deadline_ns, struct err *e) _fallible_;
enum http1_method engine_method(const char *method);

/* --- an answer, byte by byte (answer.c) --- */

struct engine_answer {
	enum http1_method method; /* of the request */
	bool has_head, is_done;
	unsigned status, n_interim;
	char type[64]; /* its Content-Type in lower case, without parameters */
	struct http1_body body;
	size_t seen;		  /* bytes of an incomplete head that were looked at */
	enum http1_reason reason; /* of -EPROTO */
};
void engine_answer_init(struct engine_answer *a, enum http1_method method);
/* Takes what it can from in. *data is the next run of the body (maybe empty), within in's memory
 * until something is appended there. 1: something was taken; 0: more input is needed, or it is
 * done; -EPROTO. */
int engine_answer_next(struct engine_answer *a, struct buf *in, struct str *data) _fallible_;
/* The connection's end: 0 if the answer is complete by it, -EPIPE. */
int engine_answer_eof(struct engine_answer *a) _fallible_;
/* That it is malformed, and why. */
int engine_fail_parse(const struct engine_answer *a, const char *what, struct err *e);
static inline bool engine_answer_is_good(const struct engine_answer *a)
{
	return (a->status >= 200 && a->status <= 299) || a->status == 304;
}
/* Waits until the head is there. */
int engine_answer_head(struct engine_answer *a, int fd, struct buf *in, const char *what,
		       uint64_t deadline_ns, struct err *e) _fallible_;
/* The next run of the body, waiting for it: 1 with bytes in *data, 0 at the end, -errno. */
int engine_answer_body(struct engine_answer *a, int fd, struct buf *in, struct str *data,
		       const char *what, uint64_t deadline_ns, struct err *e) _fallible_;
/* The rest of an answer that is not good, as far as it comes in time: always an error. */
int engine_answer_refused(struct engine_answer *a, int fd, struct buf *in, const char *what,
			  uint64_t deadline_ns, struct err *e) _fallible_;
/* JSON of a whole body; NULL *out for an empty one. */
int engine_parse_json(struct str body, const char *what, json_t **out, struct err *e) _fallible_;

/* --- a stream of JSON objects (events.c) --- */

struct engine_events {
	struct buf held; /* the bytes of one object */
	unsigned depth;
	bool is_in_string, is_escaped;
};
void engine_events_init(struct engine_events *ev);
void engine_events_free(struct engine_events *ev);
/* Gives fn each object that is complete. Its negative return, or -EPROTO, -EIO for {"error": …}. */
int engine_events_take(struct engine_events *ev, struct str data, const char *what,
		       engine_event_fn fn, void *ctx, struct err *e) _fallible_;
/* -EPROTO if the stream ends within an object. */
int engine_events_end(const struct engine_events *ev, const char *what, struct err *e) _fallible_;

/* --- the relay's child (relay_run.c) --- */

struct engine_relay_job {
	const struct engine *engine;
	const char *container, *exec;
	int stream_fd, wait_fd; /* wait_fd: -1 for an exec */
	struct buf *early, *wait_in;
	struct engine_answer *wait;
	int tty_fd; /* the slave, or -1 */
	int in_fd, out_fd, err_fd, fail_fd;
};
_Noreturn void engine_relay_run(struct engine_relay_job *job);
