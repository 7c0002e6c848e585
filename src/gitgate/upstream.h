/*
 * git-gate's side towards the upstreams: the mirror is brought up to date from them, and a push
 * that has passed is forwarded. git itself speaks the protocol; its connections are ours: to egress
 * for https (src/gitgate/connect*.c), from gitssh or the keeper for the rest (bundle/git_stream.h).
 * Batch mode, a time limit on everything, no credential but a placeholder in sight.
 */
#pragma once

#include "bundle/git_stream.h"
#include "gitgate/check.h"

struct upstream_place {
	int egress_fd; /* SEQPACKET: takes one end of a stream socketpair per connection; HTTP/1.1
			* in absolute form, as from pipelock */
	int ssh_fd;    /* SEQPACKET to gitssh; -1: none */
	int door_fd;   /* SEQPACKET to the keeper; -1: none */
	const char *tool_path; /* of the folder with our multi-call file as "git-connect" */
	const struct git_policy *policy; /* the remotes that are passed below are entries of it */
	const char *slug;		 /* of the bottle: its branches in the host's repository */
};

#define UPSTREAM_FETCH_MS   600000 /* a first fetch of a large repository */
#define UPSTREAM_CONNECT_MS 10000
#define UPSTREAM_PUSH_MS    600000
#define UPSTREAM_TEXT_MAX   2048

/* Fetches heads and tags into the mirror (pruned), and HEAD. Others may fetch at the same time: the
 * caller holds the mirror's lock. On failure text of e is for the agent: what the upstream said,
 * made visible. Of the host's repository the mirror shows what one bottle sees: its own branches,
 * which are called bottle/<slug>/X there, as X, over the host's of the same name; and no other
 * bottle's. */
int upstream_fetch(const struct upstream_place *p, const struct git_remote *r,
		   const struct git_run_env *git, struct err *e) _fallible_;

struct upstream_ref_result {
	bool is_ok;
	char reason[160]; /* the upstream's own, made visible */
};
/* Pushes the updates out of the quarantine; all or nothing (atomic) where there are several. The
 * upstream must have exactly the old values, else "fetch first"; where may_force is false a branch
 * is only moved forward. To the host's repository only branches go, to bottle/<slug>/X.
 * results: one per update. said: what the upstream wrote ("remote: …"), made visible, lines without
 * that prefix; at most UPSTREAM_TEXT_MAX bytes, and no more than there is room for. 0 when every
 * ref was taken; -EPERM when some was not; other: no answer, e says why, made visible, and if it is
 * not known whether the upstream has acted. */
int upstream_push(const struct upstream_place *p, const struct git_remote *r,
		  const struct git_run_env *git, const struct check_update *updates, size_t n,
		  struct upstream_ref_result *results, struct buf *said, struct err *e) _fallible_;

/* The multi-call program that git starts as its ssh (GIT_SSH): joins git's standard input and
 * output to the stream it finds at the descriptor CB_STREAM. */
int git_connect_main(int argc, char **argv);
