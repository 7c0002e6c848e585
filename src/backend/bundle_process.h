/* The bundle's init as a child process of the keeper: for backends whose bundle runs outside of any
 * container. */
#pragma once

#include "backend/backend.h"
#include "bundle/program.h"

#define BUNDLE_UID_BASE 1300000000u /* above what bottles' agents get */

/* The roles' uids when the caller is root: nobody else has them. 0: this user namespace has none to
 * give, or we are not root. */
unsigned bundle_uid_base(void);

struct bundle_process {
	pid_t pid; /* 0: none */
	char how[48];
};

int bundle_process_start(struct bundle_process *b, const char *slug, const struct backend_fd *fds,
			 size_t n, struct err *e) _fallible_;
/* The `reap_bundle` of struct backend. */
void bundle_process_reap(struct bundle_process *b, bool must_die, char *how, size_t how_size);
