/*
 * The host's git on the host's own repository, for somebody who may be taken over: the programs run
 * in a box, as the user, with nothing but the files that they need.
 *
 * What may execute something in a repository is its configuration and its hooks. Neither is there:
 * each program is given a repository that was made for one request (host_git_make), with a
 * configuration of ours, the refs that it may see, and the real objects. The real configuration is
 * not read, and cannot be.
 *
 *   box        Landlock: what is listed in host_git_box.c and no more; no new privileges; the
 *              agents' system call filter; no sockets, nothing of other processes; limits.
 *              A kernel without Landlock: the rest (`doctor` says so).
 */
#pragma once

#include "backend/host_repo.h"
#include "base/buf.h"

#define HOST_GIT_BRANCHES "refs/heads/bottle/" /* then SLUG/… */
/* Of what git says when it fails; the rest is dropped. */
#define HOST_GIT_SAID_MAX 512

enum host_git_power {
	HOST_GIT_LOOK,	  /* reads all refs, and objects; nobody hostile speaks to it */
	HOST_GIT_UPLOAD,  /* reads the refs that were chosen, and objects */
	HOST_GIT_RECEIVE, /* and writes objects, and the bottle's own branches with their logs */
};

struct host_git {
	const struct host_repo *repo;
	const char *slug;
	const char *program; /* NULL: host_git_find() */
	enum host_git_power power;
	const char *made;	 /* absolute; by host_git_make() */
	uint64_t file_max_bytes; /* of a pack that is received; 0: no limit */
	bool may_force;		 /* a received branch may move other than forward */
};

/* The absolute path of git in the system's folders (PATH is not consulted), or NULL. */
const char *host_git_find(void);
/* "git version 2.39.5"; older than 2.30 is -ENOTSUP, none -ENOENT, with a line for the human. */
int host_git_version(char *out, size_t size, struct err *e) _fallible_;
/* The same as a finding of doctor's; only a workspace that is cloned needs it. */
struct backend_check;
void host_git_probe(struct backend_check *c);
/* In a child, for good: into the box, then git with argv (NULL-terminated, without "git"). Standard
 * descriptors are the caller's doing; all others are closed. Returns only with an error. */
int host_git_become(const struct host_git *g, const char *const *argv, struct err *e) _fallible_;
/* The box's last step: the filters. */
int host_git_filter(struct err *e) _fallible_;
/* A child, with nobody to speak to: its whole output (-EFBIG past out's cap) if its status is 0. */
int host_git_look(const struct host_git *g, const char *const *argv, struct buf *out,
		  struct err *e) _fallible_;
/* Makes the folder g->made, which must not exist, for g->power. HOST_GIT_UPLOAD: it shows the heads
 * and tags but other bottles' branches, and HEAD. HOST_GIT_RECEIVE: it takes what lies below
 * bottle/SLUG alone, no deletion, and nothing that is checked out. Its owner removes it. */
int host_git_make(const struct host_git *g, struct err *e) _fallible_;
