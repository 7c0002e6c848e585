/*
 * What init is given, however it comes: named on the command line and inherited (a child of the
 * keeper), or named and passed over a unix socket (process 1 of a container, whose engine never
 * sees any of it).
 */
#pragma once

#include "base/err.h"
#include "bundle/bundle.h"

/* -1 where there is none. */
struct init_fds {
	int config, secrets, control, records, rules, reach, door;
	int desk_supervise, desk_pipelock, desk_gitgate;
	int pipelock, gitgate, supervise, dns_udp, dns_tcp; /* listening */
};

#define INIT_FDS_CONNECT_MS 10000 /* how long the socket may be absent or refuse */
#define INIT_FDS_MESSAGE_MS 10000 /* from one message to the next */
#define INIT_FDS_NAME_MAX   16

void init_fds_init(struct init_fds *f); /* none */
/* The arguments: NAME=FD, or fds=PATH, over which all of them come; and with either listen=ADDRESS
 * instead of pipelock, gitgate, supervise, dns_udp and dns_tcp. listen_text is what stands in
 * listen= (into argv), or NULL; its sockets are not made here (init_fds_listen). Descriptors are
 * close-on-exec afterwards.
 */
int init_fds_take(struct init_fds *f, char *const *argv, const char **listen_text,
		  struct err *e) _fallible_;

/* Makes the services' listening sockets on the pinned address, which the interface may get later:
 * TCP 8888, with git TCP 9418, when supervised TCP 9100, UDP and TCP 53. An address that is not one
 * host's is refused. */
int init_fds_listen(struct init_fds *f, const struct bundle_config *c, struct err *e) _fallible_;
/* Once all sockets are there: gitgate exactly when the configuration has git, a door where one of
 * its remotes is the host's own repository, supervise and the desks exactly when the bottle is
 * supervised. */
int init_fds_check(const struct init_fds *f, const struct bundle_config *c,
		   struct err *e) _fallible_;
