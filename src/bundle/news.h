/*
 * A policy that changes while the bundle runs. The keeper sends init a new configuration, whole, as
 * a sealed memory file ({"command":"policy","generation":N} on control=); init checks that nothing
 * but the policy and the pause differ, gives it to every role that is started from now on, and
 * sends it to those that run and enforce it: one struct news with the file, over a SOCK_SEQPACKET
 * channel of each role's own (news=FD). The role answers with the same message, without a file,
 * once it enforces it. When all have, init says {"event":"policy","generation":N} to the keeper.
 *
 * A role that does not answer within NEWS_MS, or cannot take the file, is killed and started again
 * with the new configuration: a revocation holds either way.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define NEWS_MS 2000

struct news {
	uint64_t generation; /* from 1; the configuration that the bundle was started with is 0 */
};

/* --- the role's side --- */

struct bundle_config;
struct loop;
struct err;
struct news_watch;

/* Called with a configuration that was loaded and checked, which fn takes over (out of *c) when it
 * returns true, and has put into force by then. False: this role cannot, and ends itself. */
typedef bool news_fn(struct bundle_config *c, uint64_t generation, void *ctx);
/* Reads news from fd (borrowed; -1: there never is any) on the loop, loads each, calls fn and
 * answers. What is malformed ends the process: init starts it again with what is in force. */
int news_watch_start(struct news_watch **out, struct loop *l, int fd, news_fn *fn, void *ctx,
		     struct err *e) __attribute__((warn_unused_result));
void news_watch_stop(struct news_watch *w);
