/* keyd in two halves: the channels and what is asked about the agent's requests, and git. */
#pragma once

#include "bundle/bundle.h"
#include "keyd/ca.h"
#include "keyd/keyd_proto.h"
#include "keyd/vault.h"
#include "net/loop.h"

#define KEYD_ASKERS (BUNDLE_ROLE_COUNT + 1)

struct keyd;

struct keyd_asker {
	struct loop_watch watch;
	struct keyd *keyd;
	unsigned permitted;
	uint32_t life; /* of the process that may speak; 0: init has not said yet */
};

struct keyd {
	struct loop *loop;
	struct ca *ca;
	struct vault vault;
	struct bundle_config config;
	struct policy git_routes; /* of git-gate's upstreams; empty without git */
	int record_fd;
	struct keyd_asker askers[KEYD_ASKERS];
};

/* keyd_git.c: a remote that has no key, or whose key cannot be used, is an error of the start. */
int keyd_git_open(struct keyd *k, struct err *e) _fallible_;
void keyd_git_key(struct keyd *k, struct keyd_asker *a, const struct keyd_request *q,
		  struct keyd_reply *r);
void keyd_git_sign(struct keyd *k, struct keyd_asker *a, const struct keyd_request *q,
		   struct keyd_reply *r);
