/*
 * TCP connections for gitssh (the second half of bundle/git_stream.h): to the hosts of the ssh
 * remotes and their ports, by their place in the git policy. Names are resolved and addresses
 * checked as for any other upstream; what is given away is a connected socket, and nothing about it
 * can be chosen by who asks.
 *
 * For as long as the asker keeps its end of the answer's socket open, egress can take the
 * connection back: a pause shuts it down.
 */
#pragma once

#include "conf/git_policy.h"
#include "egress/resolver.h"

#define GIT_DIALS_MAX 16 /* under way or in use; more than gitssh has children */

struct git_dial_config {
	const struct git_policy *git; /* borrowed, as all of it */
	struct resolver *resolver;    /* for git_policy_routes() */
	int channel_fd;
	int record_fd;
};

struct git_dial;
int git_dial_new(struct git_dial **out, struct loop *l, const struct git_dial_config *config,
		 struct err *e) _fallible_;
/* Everything is refused, and every connection that was given away is shut down; or no longer. */
void git_dial_pause(struct git_dial *d, bool is_paused);
void git_dial_free(struct git_dial *d);
