/* The role's process and its neighbours, for the tests of it: an upstream, a name server, a keyd of
 * one answer, and the keeper's real half where the role has a network of its own. */
#pragma once

#include "dns_stub.h"
#include "upstream.h"

#include "backend/keeper_int.h"
#include "bundle/bundle.h"
#include "bundle/news.h"
#include "bundle/git_stream.h"
#include "bundle/reach.h"
#include "keyd/keyd_proto.h"
#include "record/record.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PLACEHOLDER	"ph-test-0123456789abcdefghij"
#define GIT_PLACEHOLDER "cbph-git0123456789abcdefghij"
#define GIT_CREDENTIAL	"bWU6c2stcmVhbC00ZjlhOGI3YzZkNWU0ZjNhMmIxYw==" /* me:UPSTREAM_CREDENTIAL */
#define HOST_KEY	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
#define WORLD_ROLE_ARGC 13 /* of the role's process */
#define ROLE_SKIPPED	77 /* no network namespace can be made here */

struct world {
	struct upstream up;
	struct dns_stub dns;
	pthread_t keyd;
	int keyd_fds[2], record_fds[2], egress_fds[2], ready_fds[2];
	int git_fds[2], dial_fds[2]; /* git-gate's and gitssh's channels */
	int news_fds[2];
	uint64_t generation;
	int ssh_fd; /* listens, where the ssh remote is */
	uint16_t ssh_port;
	int config_fd;
	pid_t pid;
	/* Where the role has a network of its own. */
	bool is_apart;
	unsigned life;
	int reach_fd; /* init's end */
	struct policy policy;
	struct policy_resolve resolve[2];
	struct git_remote remotes[3];
	struct git_policy git;
	struct loop *loop;
	struct keeper_reach reach;
	struct loop_watch quit;
	pthread_t keeper;
};

struct world *world_make(bool is_apart);
void world_keeper_start(struct world *w);
void world_keeper_stop(struct world *w);
/* Whether it got ready. Keeps egress_fds[1], as init does. */
bool world_start_role(struct world *w, const char *where);
/* What the test's own executable is then: with the arguments after "role". */
int world_role_life(char **fds);
/* Of a world that is not apart, with its role; and of any. */
int world_setup(void **state);
int world_teardown(void **state);
/* A configuration with these grants as news. False: it is not answered, and the role has ended. */
bool world_renew(struct world *w, const struct policy_route *grants, size_t n, bool is_paused);
/* Asks for a connection as gitssh does. False: no answer but an end. The socket, or -1, in fd; the
 * asker's end in *asker, or closed where that is NULL. */
bool world_dial(struct world *w, const void *q, size_t n, struct git_dial_reply *reply, int *fd,
		int *asker);
/* One exchange over a connection of its own, for the agent, or over this channel; the status. */
unsigned world_ask(struct world *w, const char *request, char *answer, size_t size);
unsigned world_ask_over(int channel, const char *request, char *answer, size_t size);
