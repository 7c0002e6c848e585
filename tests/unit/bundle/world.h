/*
 * A bundle of real processes for tests of its host's side: what the keeper gives to init, its
 * control messages, its roles as /proc has them, and the records that it left. Whatever is not as
 * it must be fails the test.
 */
#pragma once

#include "bundle/bundle.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

#define ROLES	  4 /* of a bottle without git: the first ones */
#define GIT_ROLES 6 /* with git and an ssh remote */

struct bundle {
	pid_t init;
	int control, listen_fd;
	char records[64];
	struct sockaddr_un address;
};

/* The executable that plays the bundle; main() says which. */
extern const char *fake_bundle;

/* What the bottle has besides. */
enum { WITH_GIT = 1, WITH_SUPERVISE = 2 };

/* What init needs to be given. */
struct given {
	int config, secrets, records, control;
};

/* A configuration with these routes behind the world's own two: each as in JSON, with a comma
 * before it. */
int bundle_config_file(unsigned with, const char *routes, bool is_paused);
struct given bundle_given(struct bundle *b, unsigned with);
void given_close(struct given *g);
void bundle_start(struct bundle *b, unsigned with);
/* Asks it to stop. */
void bundle_stop(struct bundle *b);
/* The next control message that contains text. No role may fail meanwhile. */
void expect_event(struct bundle *b, const char *text);
/* init is gone, with this status, and so are these that it started. */
void expect_end(struct bundle *b, int want_status, const pid_t *roles, size_t n);
void expect_gone(pid_t pid);

/* The children that a process has now: how many, and the first max of them. */
size_t children_of(pid_t pid, pid_t *out, size_t max);
/* A role's process, as soon as there is one. */
pid_t role_pid(struct bundle *b, const char *name);
/* Of the first n roles. */
void roles_of(struct bundle *b, pid_t *pids, size_t n);
/* Whether a role has the descriptor of this name. */
bool role_has(pid_t pid, const char *name);
/* What pipelock's stand-in answers to a command; 0: nothing. */
char command(struct bundle *b, char what);

/* Verifies the chain and counts the lines that hold text. For a bundle that has ended. */
int records_with(struct bundle *b, const char *text);
/* While it runs: a line may be half written, so only its being there counts. */
void wait_for_record(struct bundle *b, const char *text);
/* A group's teardown. */
int remove_records(void **state);
