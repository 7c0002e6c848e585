/* The channels between the roles, all made before the first of them starts, and which ends each
 * gets on its command line. */
#pragma once

#include "bundle/init_argv.h"
#include "bundle/init_fds.h"

#define INIT_SENDERS (BUNDLE_ROLE_COUNT + 1)
#define INIT_SELF    BUNDLE_ROLE_COUNT

/* -1 where this bottle has no such channel. */
struct init_channels {
	int record[INIT_SENDERS][2]; /* [0] the sender's end, [1] record's */
	int keyd[INIT_SENDERS][2];   /* [0] the asker's end, [1] keyd's */
	int egress[2];		     /* [0] pipelock's end, [1] egress's */
	int git_egress[2];	     /* [0] gitgate's end, [1] egress's */
	int ssh[2];		     /* [0] gitgate's end, [1] gitssh's */
	int dial[2];		     /* [0] gitssh's end, [1] egress's */
	int refused[2];		     /* [0] record's end, [1] supervise's */
	int state;		     /* keyd's memory file */
};

/* enabled: 1 << role of each role that there will be. */
int init_channels_make(struct init_channels *c, unsigned enabled, struct err *e) _fallible_;
/* All of a role's descriptors but its ready pipe and its news. */
void init_channels_give(const struct init_channels *c, const struct init_fds *given,
			enum bundle_role role, struct init_argv *a);
