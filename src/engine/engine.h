/*
 * A client of the Docker Engine API over its unix socket: one HTTP/1.1 exchange a connection, so
 * that several may be under way at once and a broken one costs nothing else. What the engine sends
 * is parsed strictly (net/http1.h) and bounded; it is trusted as root of this host is, but not to
 * be well.
 *
 * Source: the Engine API reference, versions 1.40 (Docker 19.03) to ENGINE_API_NEWEST. Each call
 * names the version that both sides know.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <sys/types.h>

#define ENGINE_API_OLDEST "1.40"
#define ENGINE_API_NEWEST "1.47"
#define ENGINE_TIMEOUT_MS 30000 /* for an answer to begin, unless a call says otherwise */
#define ENGINE_PING_MS	  2000
#define ENGINE_JSON_MAX	  (8u << 20) /* of one answer */
#define ENGINE_PATH_MAX	  108

/* Where the engine is and what it said of itself. A value; holds no descriptor. */
struct engine {
	char socket[ENGINE_PATH_MAX]; /* path of the unix socket */
	char from[96];	  /* why this one: "DOCKER_HOST", "context \"x\"", "the default" */
	char api[16];	  /* negotiated, "1.41" */
	char version[48]; /* of the engine, for people */
	bool is_rootless, is_remapped; /* its containers' uids are not the host's */
	bool is_desktop;	       /* it runs in a virtual machine of its own */
	/* Of engine_stream(), for who makes a copy: how long it may say nothing. 0: ten minutes, as
	 * a step of a build may. */
	int silence_ms;
};

/*
 * Finds the engine's address: DOCKER_HOST; else the context that DOCKER_CONTEXT or
 * ~/.docker/config.json ("currentContext") names, whose meta.json has the address; else
 * /var/run/docker.sock; else $XDG_RUNTIME_DIR/docker.sock when only that exists. Only unix:// is
 * spoken: bottles bind files of this host, so an engine elsewhere (ssh://, tcp://) is refused with
 * a line that says so. Contacts nobody.
 */
int engine_find(struct engine *out, struct err *e) _fallible_;
/* Asks it for its version and agrees on one (GET /version, GET /info). One clear line for: no
 * socket, permission denied (the "docker" group), nobody listening, no answer within timeout_ms,
 * too old. */
int engine_connect(struct engine *en, int timeout_ms, struct err *e) _fallible_;

/* --- one exchange --- */

/* ENGINE_OK … are what callers decide on; everything else is -EIO with the engine's own words. As
 * codes of struct err: -ENOENT 404, -EEXIST 409 (a name or a state clashes), -EACCES 403, -EINVAL
 * 400, -ENOSPC (a full disk, by the engine's text), -ECONNREFUSED / -EPIPE (the engine is gone),
 * -ETIMEDOUT, -EPROTO (what answers is not an engine). The text is one line: "the Docker engine:
 * <what>: <what it said>", control bytes made visible (text_visible), its length bounded. */

struct engine_call {
	int fd;	       /* -1: none under way */
	char what[64]; /* "create container", for errors */
	/* Until the answer begins. engine_begin() sets ENGINE_TIMEOUT_MS; change it after that, < 0
	 * for no limit (an answer to "wait" begins at once and ends when the container does: its
	 * body has as long, too, and at least ENGINE_TIMEOUT_MS). */
	int timeout_ms;
	/* private */
	int method;
	struct buf in;
	unsigned status;
	uint64_t until_ns; /* of the whole call, or 0 */
};

/* Sends method and path (below /vX.Y, percent-encoded by the caller through engine_escape()) with
 * the JSON body (may be NULL; not taken) and returns without waiting: calls on several engine_call
 * run side by side in the engine. */
int engine_begin(struct engine_call *c, const struct engine *en, const char *method,
		 const char *path, const json_t *body, const char *what, struct err *e) _fallible_;
/* Waits for the answer. Statuses 200-299 and 304 are success; *out (may be NULL) is the JSON answer
 * or NULL for none; the caller decrefs. Ends the call in any case. */
int engine_end(struct engine_call *c, json_t **out, struct err *e) _fallible_;
void engine_cancel(struct engine_call *c);
/* Both in one. */
int engine_do(const struct engine *en, const char *method, const char *path, const json_t *body,
	      const char *what, json_t **out, struct err *e) _fallible_;

/* Appends s percent-encoded for a path segment or a query value (RFC 3986 unreserved stay). */
int engine_escape(struct buf *out, struct str s) _fallible_;

/* --- bodies that are not JSON --- */

/* A body from a descriptor (a tar stream of any length, sent chunked), the answer as a stream of
 * JSON values (build, load, pull), each handed to fn as it comes; fn's negative return ends the
 * call with it. An {"error": …} in the stream ends the call as -EIO with its text. type is the
 * body's content type; body_fd -1: no body. headers: further complete "Name: value" lines,
 * NULL-terminated, or NULL (X-Registry-Auth). */
typedef int (*engine_event_fn)(void *ctx, const json_t *event);
int engine_stream(const struct engine *en, const char *method, const char *path, int body_fd,
		  const char *type, const char *const *headers, const char *what,
		  engine_event_fn fn, void *ctx, struct err *e) _fallible_;
/* The answer's body as bytes into a descriptor (archives, logs); at most max bytes. */
int engine_fetch(const struct engine *en, const char *path, int out_fd, uint64_t max_bytes,
		 const char *what, struct err *e) _fallible_;
/* A body of bytes (PUT archive), a JSON answer or none. */
int engine_put(const struct engine *en, const char *path, struct str body, const char *type,
	       const char *what, struct err *e) _fallible_;

/* --- hijacked streams --- */

/* Attach and exec-start: after the engine's 200 the connection is the process's standard streams
 * (no upgrade is asked for; why, is in hijack.c). *fd is that connection, not blocking; *early has
 * what came with the head already. */
int engine_hijack(const struct engine *en, const char *path, const json_t *body, const char *what,
		  int *fd, struct buf *early, struct err *e) _fallible_;

/* Frames of a stream without terminal (Engine API, "Stream format"): 1 byte stream, 3 zero, 4
 * length big-endian, bytes. Incremental and bounded: no frame is ever held whole. */
enum engine_stream_id { ENGINE_STDIN, ENGINE_STDOUT, ENGINE_STDERR };
struct engine_demux {
	unsigned char head[8];
	size_t n_head;
	uint32_t left;
	enum engine_stream_id id;
};
/* Takes from in; *data is the next run of bytes of *id (empty when more input is needed). Returns
 * how much of in was used, or -EPROTO. */
ssize_t engine_demux_next(struct engine_demux *d, struct str in, enum engine_stream_id *id,
			  struct str *data);

/*
 * The relay: a child process that stands for a process in a container. It moves bytes between the
 * hijacked stream and three descriptors (or a pseudo-terminal), and exits with the process's own
 * status, so that whoever holds it needs to know nothing of the engine. With a terminal it leads a
 * session on the slave; a change of the master's size (TIOCSWINSZ) arrives as SIGWINCH and is
 * passed on to the engine.
 *
 * When the engine goes away it writes one line to fail_fd and exits with ENGINE_RELAY_LOST.
 */
#define ENGINE_RELAY_LOST 125
/* For "DetachKeys" of an exec with a terminal, which must not be left out: the engine would take
 * ^P^Q for "detach", and hold back each ^P. JSON has no byte that is never typed; these are rare.
 */
#define ENGINE_DETACH_KEYS "ctrl-^,ctrl-],ctrl-^,ctrl-],ctrl-^,ctrl-],ctrl-^,ctrl-]"
struct engine_relay {
	const struct engine *engine;
	const char *container; /* id */
	const char *exec;      /* id of an exec instance, or NULL: the container itself */
	bool has_tty;
	unsigned short rows, columns;
	int in_fd, out_fd,
		err_fd; /* without a terminal; the relay's ends, the caller closes its copies */
	int fail_fd;
};
/* Forks. For a container (not started yet): returns when attached, so that nothing is lost, and the
 * caller starts it then. For an exec: starts it. *master_fd: with a terminal, else -1. The child
 * dies with the thread that forked it, so the caller is a process of one thread. */
int engine_relay_start(const struct engine_relay *r, pid_t *pid, int *master_fd,
		       struct err *e) _fallible_;
