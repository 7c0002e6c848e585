/*
 * git-gate: the agent's only git remotes, as smart HTTP. The role's process takes requests with the
 * relay's strictness, and hands each to a worker (a fork, with the scan engine in memory) that runs
 * git http-backend over the remote's mirror. See docs/GITGATE.md.
 *
 *   front (relay) ── worker ── git http-backend ── receive-pack ── pre-receive (ours) ─┐
 *                      └────── ref policy, check, upstream_push  <── updates, verdict ─┘
 *
 * Nothing else answers on its port: GET …/info/refs?service=git-{upload,receive}-pack, POST
 * …/git-upload-pack, POST …/git-receive-pack of declared remotes.
 */
#pragma once

#include "bundle/desk.h"
#include "conf/git_policy.h"
#include "gitgate/check.h"
#include "gitgate/upstream.h"
#include "net/loop.h"

struct gitgate_config {
	const struct git_policy *policy; /* borrowed, as all of it */
	const char *slug;
	const char *folder; /* absolute, ours alone, writable: mirrors, tools, hooks */
	struct upstream_place upstream;
	struct scan_engine *engine;
	int record_fd;
	struct desk *desk;    /* NULL or closed: nobody can be asked */
	unsigned workers_max; /* 0: GITGATE_WORKERS_MAX */
	int program_fd; /* our multi-call executable, copied into folder; -1: /proc/self/exe */
};

#define GITGATE_WORKERS_MAX	 16
#define GITGATE_REFRESH_FRESH_MS 2000	/* a mirror younger than this is not fetched again */
#define GITGATE_PUSH_FRESH_MS	 60000	/* nor for a push */
#define GITGATE_PUSH_MS		 900000 /* a push in all */
#define GITGATE_STORE_MAX_BYTES	 (20ull << 30)

struct gitgate;
int gitgate_new(struct gitgate **out, struct loop *l, const struct gitgate_config *config,
		struct err *e) _fallible_;
int gitgate_listen(struct gitgate *g, int listen_fd, struct err *e) _fallible_;
void gitgate_free(struct gitgate *g);

/* The multi-call program that git starts as pre-receive: gives the updates (standard input) and its
 * quarantine to the worker over the descriptor CB_HOOK, shows what the worker says, ends with its
 * verdict. */
int git_hook_main(int argc, char **argv);
