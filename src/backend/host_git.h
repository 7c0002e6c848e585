/*
 * The host's git on the host's own repository, for somebody who may be taken over: the programs run
 * in a box, as the user, with nothing but the files that they need.
 *
 * What may execute something in a repository is its configuration and its hooks. Neither is there:
 * upload-pack and receive-pack are given a repository that was made for one request (host_git_make),
 * with a configuration of ours, a list of the refs that may be seen, and the real objects. Only
 * HOST_GIT_LOOK, to which nobody hostile speaks, sees the real one, and it may execute git alone.
 *
 *   box        Landlock: what is listed in host_git.c and no more; no new privileges; the agents'
 *              system call filter, no sockets, no signals to others; limits. A kernel without
 *              Landlock: the rest (`doctor` says so).
 */
#pragma once

#include "backend/host_repo.h"
#include "base/buf.h"

#define HOST_GIT_BRANCHES "refs/heads/bottle/" /* then SLUG/… */
/* Of what git says when it fails; the rest is dropped. */
#define HOST_GIT_SAID_MAX 512

enum host_git_power {
	HOST_GIT_LOOK,	  /* reads the repository */
	HOST_GIT_UPLOAD,  /* reads what was made, and the objects */
	HOST_GIT_RECEIVE, /* and writes objects, and the bottle's own branches with their logs */
};

struct host_git {
	const struct host_repo *repo;
	const char *slug;
	const char *program; /* NULL: host_git_find() */
	enum host_git_power power;
	const char *made;	 /* by host_git_make(); NULL for HOST_GIT_LOOK */
	uint64_t file_max_bytes; /* of a pack that is received; 0: no limit */
	bool may_force;		 /* a received branch may move other than forward */
};

/* The absolute path of git in the system's folders (PATH is not consulted), or NULL. */
const char *host_git_find(void);
/* "git version 2.39.5"; older than 2.30 is -ENOTSUP, none -ENOENT, with a line for the human. */
int host_git_version(char *out, size_t size, struct err *e) _fallible_;
/* In a child, for good: into the box, then git with argv (NULL-terminated, without "git"). Standard
 * descriptors are the caller's doing; all others are closed. Returns only with an error. */
int host_git_become(const struct host_git *g, const char *const *argv, struct err *e) _fallible_;
/* A child with HOST_GIT_LOOK: its whole output (-EFBIG past out's cap) if its status is 0. */
int host_git_look(const struct host_git *g, const char *const *argv, struct buf *out,
		  struct err *e) _fallible_;
/* Makes g->made, which must not exist, for g->power: a repository that shows the heads and tags but
 * other bottles' branches, and HEAD; to receive: that takes what lies below bottle/SLUG alone, no
 * deletion, and nothing that is checked out. */
int host_git_make(const struct host_git *g, struct err *e) _fallible_;
