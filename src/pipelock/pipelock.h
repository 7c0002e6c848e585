/*
 * pipelock: the agent-facing firewall. It parses everything that the agent sends and holds no
 * secret; it reaches egress, keyd and record, through descriptors, and nothing else.
 *
 * pipelock_role_main() (bundle/bundle.h) is the role; what stands here is its inside without the
 * process around it, so that a test can run it with an egress and a keyd of its own.
 */
#pragma once

#include "base/allowance.h"
#include "bundle/desk.h"
#include "conf/policy_shared.h"
#include "net/relay.h"
#include "pipelock/dns_sink.h"
#include "pipelock/gate.h"
#include "pipelock/leaf.h"

#define PIPELOCK_FRONTS_MAX	1024
#define PIPELOCK_BACKS_MAX	1024
#define PIPELOCK_IDLE_BACKS_MAX 64
#define PIPELOCK_HELD_MAX	(64u << 20) /* of all request bodies that are held at a time */
#define PIPELOCK_HELD_IDLE_MAX	32	    /* buffers kept for the next bodies */

/* Memory of one request body that is being looked at; pooled. */
struct pipelock_held {
	struct pipelock_held *next;
	struct buf buf;
};

/* The canary was seen, and the keeper does not know yet. */
struct asks_canary {
	struct loop_timer timer;
	struct ask waiting; /* op 0: none */
	uint64_t quiet_ns;  /* until then the keeper is not told again */
};

struct pipelock {
	struct loop *loop;
	struct policy_shared *policy; /* in force */
	bool is_paused;		      /* nothing is allowed, whatever the policy says */
	struct desk *desk;	      /* closed where the bottle is not supervised */
	struct news_watch *news;
	struct gate gate;
	struct leaf_cache *leaves;
	struct tls_server *tls;
	struct relay *relay;
	struct dns_sink *dns;
	int egress_fd, record_fd; /* borrowed */
	struct asks_canary canary;
	struct allowance may_say_seen;
	unsigned n_holds, hold_ms;
	struct pipelock_held *held_idle;
	unsigned n_held_idle;
	size_t held_bytes;
};

/* Everything is borrowed; descriptors are -1 where there is none. */
struct pipelock_parts {
	struct loop *loop;
	struct policy_shared *policy;
	bool is_paused;
	struct scan_engine *engine;
	int keyd_fd, egress_fd, record_fd;
	int listen_fd, dns_udp_fd, dns_tcp_fd;
	int desk_fd, news_fd;
	uint32_t life;	    /* of the role, for its desk */
	unsigned hold_ms;   /* for a human's decision; 0: HOLD_MS */
	const char *pinned; /* numeric */
};
/* Serves once loop_run() is called. Blocks on keyd for the leaf key and the CA. */
int pipelock_start(struct pipelock *p, const struct pipelock_parts *parts,
		   struct err *e) _fallible_;
void pipelock_stop(struct pipelock *p);
