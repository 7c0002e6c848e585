/*
 * A stand-in for the Docker engine on a unix socket: a process that serves each connection in a
 * process of its own, so that several calls are answered side by side and the whole may be killed
 * like a real one. What it saw lies in memory that it shares with the test.
 *
 * Beside that: the linker's --wrap puts recv(), poll() and the clock into the test's hands
 * (fake_receive_max, fake_hurry), so that cuts are exact and ten minutes pass at once.
 */
#pragma once

#include "engine/engine_int.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

#define FAKE_OK_JSON(length) "HTTP/1.1 200 OK\r\nContent-Length: " length "\r\n\r\n"
#define FAKE_CHUNKED                                                                               \
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"                                    \
	"Transfer-Encoding: chunked\r\n\r\n"
#define FAKE_STREAM "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"

struct fake_shared {
	atomic_uint n_connections;
	atomic_uint n_seen;   /* of seen[] */
	atomic_ullong n_body; /* bytes of bodies that were read */
	atomic_uint sum_body; /* of their values */
	atomic_uint flags;    /* for a test's own use, between it and what it serves with */
	char failure[256];    /* what was not as it should be, or "" */
	char seen[1u << 16];  /* requests, bodies of known length included */
};

struct fake;
typedef void (*fake_serve_fn)(struct fake *f, int fd, unsigned n);

struct fake {
	struct engine en; /* where it is */
	char dir[32];
	pid_t pid; /* leads a process group */
	int listen_fd;
	struct fake_shared *shared;
	/* For fake_script(): the answer to the nth connection; the last one to all that follow. */
	const char *const *answers;
	size_t n_answers;
	/* A single answer of this length, which may hold any byte; instead of answers. */
	struct str bytes;
	bool holds_open; /* does not close after its answer */
};

/* Makes the folder and the socket, and serves each connection with fn. */
void fake_start(struct fake *f, fake_serve_fn fn);
/* With answers. */
void fake_script(struct fake *f, const char *const *answers, size_t n);
void fake_one(struct fake *f, const char *answer);
void fake_bytes(struct fake *f, struct str answer);
/* As if it had crashed: all of its connections end. The socket's file stays. */
void fake_kill(struct fake *f);
/* Ends it, removes the folder, and fails the test if fake_require() did. */
void fake_stop(struct fake *f);
/* Another answer and another fake; for tables. */
void fake_again(struct fake *f, const char *answer);

/* --- in what serves a connection --- */

void fake_require(struct fake *f, bool condition, const char *what);
/* Reads a request with its body; what is of known length is logged. */
void fake_read_request(struct fake *f, int fd, char *head, size_t size);
void fake_send(int fd, struct str data);
void fake_say(int fd, const char *text);
/* Until the client hangs up. */
void fake_wait_end(int fd);

/* --- what the test turns --- */

extern size_t fake_receive_max; /* of one recv(), 0: as it comes */
/* A poll() of FAKE_TICK_MS without an event has taken its whole time, here and in relays that run.
 * What is answered is not waited for meanwhile, or a loaded machine would fail the test. */
void fake_hurry(bool is_on);
#define FAKE_TICK_MS 150

/* --- checks --- */

bool fake_saw(const struct fake *f, const char *text);
/* The code, and that the text is one visible line that holds every part (NULL-terminated). */
void check_error(const struct err *e, int ret, int code, const char *const *parts);
#define CHECK_ERROR(e, ret, code, ...)                                                             \
	check_error(e, ret, code, (const char *const[]){__VA_ARGS__, NULL})
