/* Inside the suite: what its parts share. */
#pragma once

#include "probe/space.h"
#include "selftest/scratch.h"
#include "selftest/selftest.h"

#define SUITE_ARGS_MAX	64
#define SUITE_TOKEN_MAX 32
/* The first bottle of a host may have to make images; who fails sooner ends sooner. */
#define SUITE_START_MS (15 * 60 * 1000)
#define SUITE_GIT_S    60
/* What is attacked again in a bottle's second life and after the engine was restarted. */
#define SUITE_NETWORK_IDS "A0,A1,A2,A6,A7,N01,N03,N04,N05,N07,N10"

/* A bottle that runs beside the attacked ones; see probe/listen.c. */
struct sibling {
	struct scratch_process process;
	struct scratch_bottle bottle;
	bool is_up;
	char pinned[46], addresses[256], net[SPACE_MAX], ca[65], mark[64];
	uint16_t port;
};

struct suite {
	const struct selftest_options *options;
	struct scratch scratch;
	struct sibling sibling;
	struct selftest_try *tries;
	size_t n_tries;
	struct buf witnessed; /* what the canary does not see: the sibling's words and records */
	char *args[SUITE_ARGS_MAX]; /* owned */
	size_t n_args;
};

bool suite_wants(const struct suite *s, const char *id);
/* One of them at least. */
bool suite_wants_any(const struct suite *s, const char *const *ids, size_t n);
void suite_progress(const char *text);

/* --- a command line in the making --- */

void suite_add(struct suite *s, char *owned);
void suite_clear(struct suite *s);
/* claude-bottle start --headless … AGENT -- */
void suite_add_start(struct suite *s, const char *agent, bool is_root);
/* The probes' command with all targets that are known. */
void suite_add_probe(struct suite *s, const char *mode, const char *uid, const char *only);
/* The same as the control: outside, at the canary. */
int suite_add_control(struct suite *s, const char *only, struct err *e) _fallible_;

/* --- running --- */

/* Runs what was added, answers its question for targets, takes its tries in, clears. */
int suite_collect(struct suite *s, enum selftest_run run, const char *name,
		  struct err *e) _fallible_;
/* The parts of it. */
int suite_spawn(struct suite *s, const char *name, struct scratch_process *p,
		struct err *e) _fallible_;
/* Waits until its output has this line; true when it has. */
bool suite_await_line(struct suite *s, struct scratch_process *p, const char *line, unsigned ms);
void suite_answer(struct scratch_process *p);
int suite_finish(struct suite *s, enum selftest_run run, struct scratch_process *p,
		 struct err *e) _fallible_;
/* Runs and forgets the output; the exit status or -errno. */
int suite_call(struct suite *s, const char *name, struct err *e) _fallible_;

/* --- tries that the suite makes itself --- */

struct selftest_try *suite_try(struct suite *s, enum selftest_run run, const char *id,
			       const char *label);
/* The same skip inside and outside. */
void suite_skip(struct suite *s, const char *id, const char *label, const char *why);
void suite_skip_all(struct suite *s, const char *const *ids, size_t n, const char *label,
		    const char *why);
void suite_make_token(char out[SUITE_TOKEN_MAX]);
/* Tries from index on go by id, with the control that they have. */
void suite_rename(struct suite *s, size_t from, const char *id);

/* --- the host (host.c) --- */

/* Every address of this host but loopback and link-local ones, comma-separated. */
void host_addresses(char *out, size_t size);
/* Those of this process, as space.h names them, comma-separated. */
void host_namespaces(char *out, size_t size);
/* The network namespace of a process; false if this user may not see it. */
bool host_net_of(pid_t pid, char out[SPACE_MAX]);
/* Connects and sends a token; true when the connection was made. */
bool host_dial(const char *address, uint16_t port, const char *token);
/* Whether an address lies on a network that this host is itself on. */
bool host_is_on_link(const char *address);

/* --- the parts (each does what is wanted of it, or nothing) --- */

int git_run(struct suite *s, struct err *e) _fallible_;
int mount_run(struct suite *s, struct err *e) _fallible_;
int supervise_run(struct suite *s, struct err *e) _fallible_;
int sibling_start(struct suite *s, struct err *e) _fallible_;
/* The attacks that are made on it from the host, and what it has seen of all others. */
int sibling_finish(struct suite *s, struct err *e) _fallible_;
/* C14, K11, K12, of the sibling; is_seen: this user sees its keeper's children. */
int monitor_run(struct suite *s, pid_t keeper, bool is_seen, struct err *e) _fallible_;
int broken_run(struct suite *s, struct err *e) _fallible_;
int again_run(struct suite *s, struct err *e) _fallible_;
int engine_run(struct suite *s, struct err *e) _fallible_;
/* The network attacks in a new bottle of this agent, reported under another id. */
int again_attack(struct suite *s, const char *agent, const char *id, struct err *e) _fallible_;
