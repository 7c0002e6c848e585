/* The scratch home of a selftest: manifests, the canary, and running commands with their output. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

#define SCRATCH_PATH_MAX 512
#define SCRATCH_KEY	 ".ssh/id_selftest" /* in the scratch home: nobody inside may see it */

struct scratch {
	char root[64];		       /* /tmp/claude-bottle-selftest-XXXXXX, 0711 */
	char bundle[SCRATCH_PATH_MAX]; /* a copy of claude-bottle-bundle that any bottle may read */
	char self[SCRATCH_PATH_MAX];   /* the running claude-bottle */
	pid_t canary;
	int canary_stdin;
	struct str targets; /* KEY=VALUE lines of the canary */
	char nonce[33];
	char secret[64], secret_mask[129];
};

/* Makes the folders, starts the canary, writes the manifests. */
int scratch_open(struct scratch *s, struct err *e) _fallible_;
/* Ends the canary, removes everything. */
void scratch_close(struct scratch *s);
/* A bottle and an agent of this name; text: the bottle's manifest. */
int scratch_write_bottle(const struct scratch *s, const char *name, const char *text,
			 struct err *e) _fallible_;
/* A target of the canary, copied; false if it has none of that name. */
bool scratch_target(const struct scratch *s, const char *key, char *out, size_t size);
/* Runs argv with the scratch home as HOME and an empty standard input. Standard output goes to out
 * (bounded by its cap), standard error to the file NAME.err. The exit status (128 + signal), or
 * -errno; killed after timeout_s. */
int scratch_run(const struct scratch *s, char *const *argv, const char *name, unsigned timeout_s,
		struct buf *out, struct err *e) _fallible_;

/* A command that goes on in the background: its output goes to the files NAME.out and NAME.err. */
struct scratch_process {
	pid_t pid;    /* 0: none, or it has ended */
	int stdin_fd; /* what is written here it reads */
	int status;   /* once it has ended: its exit status, or 128 + signal */
	char name[32];
};

int scratch_spawn(const struct scratch *s, char *const *argv, const char *name,
		  struct scratch_process *p, struct err *e) _fallible_;
/* Waits for its end; the exit status as above. Past timeout_s it is made to end: -ETIMEDOUT. */
int scratch_wait(struct scratch_process *p, unsigned timeout_s, struct err *e) _fallible_;
bool scratch_is_running(struct scratch_process *p);
/* Makes it end, if it runs. */
void scratch_end(struct scratch_process *p);
/* What it has printed so far, on the heap. */
int scratch_output(const struct scratch *s, const char *name, struct str *out,
		   struct err *e) _fallible_;

/* A bottle, as its bottle.json says. */
struct scratch_bottle {
	char slug[64], backend[32], state[24], reason[200], note[256];
	pid_t keeper;
};

/* The newest bottle of an agent (NULL: of any); false if there is none. */
bool scratch_find_bottle(const struct scratch *s, const char *agent, struct scratch_bottle *out);

/* What the canary has seen so far, on the heap. */
int scratch_seen(const struct scratch *s, struct str *out, struct err *e) _fallible_;
/* The last lines of NAME.err, for an error message. */
void scratch_last_words(const struct scratch *s, const char *name, char *out, size_t size);
