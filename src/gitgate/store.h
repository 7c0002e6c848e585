/*
 * git-gate's folder. Nobody else writes there, and nothing in it is worth keeping but the time that
 * a first fetch takes.
 *
 *   repos/NAME.git     a bare mirror for each remote: heads, tags, packs
 *   hooks/pre-receive  our multi-call file, as the only hook there is
 *   tools/git-connect  the same file, as git's ssh
 *   locks/NAME         flock(2): whoever changes the mirror holds it
 *   locks/NAME.pushes  shared by all who push into it; whoever has it alone may clean up
 *   stamps/NAME        when the mirror was last brought up to date, and how that went
 */
#pragma once

#include "conf/git_policy.h"
#include "gitgate/refs.h"

#define STORE_PATH_MAX	 1024
#define STORE_TEXT_MAX	 512
#define STORE_FOLDER_MAX 512 /* of the folder's own path */

struct store;

/* Makes what is missing, removes what a killed life has left (locks, temporary files, quarantines)
 * and mirrors of another upstream than their name has now. program_fd: our executable, for hook and
 * tool; -1: /proc/self/exe. Nothing else of git-gate may run in the folder. */
int store_open(struct store **out, const char *folder, const struct git_policy *policy,
	       int program_fd, struct err *e) _fallible_;
void store_free(struct store *s);

const char *store_repos(const struct store *s); /* absolute */
const char *store_hooks(const struct store *s); /* absolute */
const char *store_tools(const struct store *s); /* of the folder with git-connect */
void store_mirror(const struct store *s, const struct git_remote *r, char out[STORE_PATH_MAX]);
/* Bytes on disk of all of it, as far as it can be read. */
uint64_t store_bytes(const struct store *s);
/* What HEAD of the mirror points to, into facts->head; "" if it is not a branch. */
void store_head(const struct store *s, const struct git_remote *r, struct refs_facts *facts);
/* Packs of the mirror. */
size_t store_packs(const struct store *s, const struct git_remote *r);

/* The lock file, open, not locked yet: the lock belongs to the open file, so a fork may take it for
 * its parent. */
int store_lock_open(const struct store *s, const struct git_remote *r, struct err *e) _fallible_;
/* -ETIMEDOUT after deadline_ns (CLOCK_MONOTONIC). */
int store_lock_take(int lock_fd, uint64_t deadline_ns, struct err *e) _fallible_;

/* A push begins: the descriptor is held while it lasts. What killed pushes have left (git does not
 * remove its quarantine on a signal) is removed first, unless another push is under way. */
int store_push_begin(const struct store *s, const struct git_remote *r, struct err *e) _fallible_;
/* All leftovers, unless a push is under way. The caller has the mirror's lock. */
void store_sweep(const struct store *s, const struct git_remote *r);

/* Times are of CLOCK_MONOTONIC, and forgotten at store_open(). */
struct store_stamp {
	bool has_fetched;    /* ever: there is something to serve */
	bool has_failed;     /* the last time; text says why */
	uint64_t started_ns; /* the last attempt, 0: none in this life */
	uint64_t ended_ns;
	uint64_t fresh_at_ns;	   /* CLOCK_REALTIME of the last success; 0: none */
	char text[STORE_TEXT_MAX]; /* visible, one line */
};
void store_stamp_read(const struct store *s, const struct git_remote *r, struct store_stamp *out);
int store_stamp_write(const struct store *s, const struct git_remote *r,
		      const struct store_stamp *stamp, struct err *e) _fallible_;
