/* A container on the fake engine, and a relay that stands for its process. */
#pragma once

#include "fake_engine.h"

/* In fake_shared.flags. */
#define WORLD_EXITED 0x100 /* with the status below it */
#define WORLD_GO     0x200 /* for a test's own use */

struct world;
/* The process: its standard streams, as the engine hands them over. */
typedef void (*world_process_fn)(struct fake *f, int fd);

struct world {
	struct fake f;
	/* what is played; set before world_start() */
	world_process_fn process;
	const char *wait_answer; /* the whole of it, at once; NULL: as it should be */
	bool has_exec, has_tty;
	const char *exec_answer; /* of its state; NULL: as it should be */
	unsigned n_resize_refused;
	int resize_ms; /* what a change of the size takes; n_body counts those that are done */
	/* what is held of the relay */
	pid_t pid;
	int in, out, err, fail, master;
	char line[1024]; /* what it wrote to fail_fd */
};

/* The fake engine alone. */
void world_play(struct world *w);
/* And the relay. 0, or its error. */
int world_attach(struct world *w, struct err *e);
/* Both, or the test fails. */
void world_start(struct world *w);
/* Waits for the relay, reads fail_fd and closes all. Its exit status; the fake engine stays. */
int world_finish(struct world *w);
void world_stop(struct world *w);

/* --- in a process --- */

void world_frame(int fd, unsigned char stream, struct str data);
void world_exit(struct fake *f, int status);
/* Until *flags has one of these bits. */
void world_wait_flag(struct fake *f, unsigned bits);

/* --- from the test --- */

/* All that comes until the end of file, within seconds; at most size - 1, with a terminator. */
size_t world_read(int fd, char *out, size_t size);
/* Reads until text has come. */
void world_expect(int fd, const char *text);
/* Until the fake engine saw it. */
void world_expect_seen(struct world *w, const char *text);
