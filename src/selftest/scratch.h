/* The scratch home of a selftest: manifests, the canary, and running commands with their output. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

#define SCRATCH_PATH_MAX 512

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
/* A target of the canary, copied; false if it has none of that name. */
bool scratch_target(const struct scratch *s, const char *key, char *out, size_t size);
/* Runs argv with the scratch home as HOME and standard input closed. Standard output goes to out
 * (bounded by its cap), standard error to the file NAME.err. The exit status (128 + signal), or
 * -errno; killed after timeout_s. */
int scratch_run(const struct scratch *s, char *const *argv, const char *name, unsigned timeout_s,
		struct buf *out, struct err *e) _fallible_;
/* What the canary has seen so far, on the heap. */
int scratch_seen(const struct scratch *s, struct str *out, struct err *e) _fallible_;
/* The last lines of NAME.err, for an error message. */
void scratch_last_words(const struct scratch *s, const char *name, char *out, size_t size);
