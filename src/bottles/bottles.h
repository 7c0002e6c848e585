/*
 * The bottles on this host, as their state folders show them. A bottle lives as long as its keeper
 * holds the flock() on the folder's lock file; nothing else (no pid, no name) is taken as a sign of
 * life.
 */
#pragma once

#include "base/buf.h"
#include "bottles/places.h"

#include "base/timeutil.h"

#include <sys/types.h>

#define BOTTLES_MAX 4096

struct bottles_entry {
	char slug[PLACES_SLUG_MAX];
	bool is_alive;
	/* Of bottle.json, which the keeper writes; empty or 0 where it says nothing. */
	char agent[PLACES_SLUG_MAX], bottle[PLACES_SLUG_MAX], backend[24], state[24];
	char started[TIME_RFC3339_SIZE];
	pid_t pid;
	int exit_status; /* -1: none yet */
	bool is_supervised;
	bool is_paused; /* its network, also for the next start (BOTTLES_PAUSED) */
	/* The bottle's own file, where a route that is granted for always goes; empty where none is
	 * known, or its name would not be shown as it is. */
	char manifest[PLACES_PATH_MAX];
};

/* There in the state folder as long as the bottle's network is paused. */
#define BOTTLES_PAUSED "paused"

/* Ended by itself or by `stop`, as against killed: only then is nothing left on the host. */
bool bottles_is_ended(const struct bottles_entry *b);

/* All folders, in order of their start. *out is on the heap; no state folder at all is an empty
 * list. */
int bottles_list(struct bottles_entry **out, size_t *n, struct err *e) _fallible_;
/* By slug, or by a prefix that only one bottle has; a living one wins over dead ones. *dir is its
 * open folder. */
int bottles_find(const char *name, struct bottles_entry *out, int *dir, struct err *e) _fallible_;
/* Reads one folder's state again. */
int bottles_load(int bottles_dir, const char *slug, struct bottles_entry *out,
		 struct err *e) _fallible_;
/* The absolute path of a bottle's folder, there or not. */
int bottles_path(const char *slug, char path[PLACES_PATH_MAX], struct err *e) _fallible_;
/* A folder (0700) with its lock taken, for a new bottle. -EEXIST when it is there already. path is
 * its absolute path. */
int bottles_create(const char *slug, char path[PLACES_PATH_MAX], int *lock_fd,
		   struct err *e) _fallible_;
/* Takes the lock of a dead bottle. -EWOULDBLOCK when it lives. */
int bottles_lock_dead(int bottles_dir, const char *slug, int *lock_fd, struct err *e) _fallible_;
/* A connection to the keeper. */
int bottles_connect(int dir, const char *slug, int *sock, struct err *e) _fallible_;
/* One bottle's state folder. */
int bottles_open(const char *slug, int *dir, struct err *e) _fallible_;
/* SIGKILL to the process that wrote pid, if it still has the lock of this folder open: all that is
 * the bottle's dies with it. */
void bottles_kill_keeper(pid_t pid, int dir);
/* False when it lives on after timeout_ms. */
bool bottles_wait_dead(const char *slug, uint64_t timeout_ms);
/* One bottle as a JSON object, appended. */
int bottles_json(struct buf *out, const struct bottles_entry *b) _fallible_;
