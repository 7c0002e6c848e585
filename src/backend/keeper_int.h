/* Between the keeper's files. */
#pragma once

#include "backend/backend.h"
#include "backend/host_git.h"
#include "backend/keeper.h"
#include "backend/keeper_desk.h"
#include "base/allowance.h"
#include "base/buf.h"
#include "bundle/bundle.h"
#include "net/loop.h"

#include <jansson.h>

#define KEEPER_CLIENTS_MAX	32
#define KEEPER_EXECS_MAX	16
#define KEEPER_CHUNK_BYTES	16384
#define KEEPER_SCROLLBACK_BYTES 65536
#define KEEPER_QUEUE_BYTES	(512u << 10) /* to one client; more is a client that does not read */
#define KEEPER_INPUT_BYTES	(256u << 10) /* to one process; half full stops its clients */
#define KEEPER_BUNDLE_READY_MS	20000
#define KEEPER_BUNDLE_STOP_MS	4000
#define KEEPER_OWNER_GRACE_MS	2000

struct keeper;
struct workspace_watch;

/* --- keeper_bundle.c: what the bundle's init is given, and what it says --- */

struct keeper_bundle {
	int control_fd;
	bool is_started; /* and not reaped */
	struct loop_watch control_watch;
	struct buf ca_pem;
	char failure[512]; /* what init said before it went */
};

/* The plan's secrets, placeholders and canary in the form that keyd reads, in a sealed memory file.
 * Runs the user's commands, so in the foreground. The fd, or -errno. */
int keeper_secrets(const struct plan *p, struct err *e) _fallible_;
/* Gathers what init is given and has the backend start it. */
int keeper_bundle_start(struct keeper *k, int secrets_fd, struct err *e) _fallible_;
/* Waits for its "ready". Fails as soon as abort_fd reports an error (the CLI went away). */
int keeper_bundle_wait(struct keeper *k, int abort_fd, struct err *e) _fallible_;
/* What init says; what is worth telling goes into failure. False at the channel's end. */
bool keeper_bundle_read(struct keeper *k);
void keeper_bundle_stop(struct keeper_bundle *b);
void keeper_bundle_free(struct keeper_bundle *b);
/* The compiled rules of the cache, made when absent; -1 when there is none (the bundle then
 * compiles by itself). */
int keeper_rules_open(int bundle_fd);

/* --- keeper_policy.c: what the bundle enforces, from its start on --- */

#define KEEPER_UPDATES_MAX 32
/* ok: every role enforces it. Else it is not in force, and the bundle may be about to end. */
typedef void keeper_policy_fn(struct keeper *k, bool ok, void *ctx);

struct keeper_update {
	struct keeper_update *next;
	struct policy policy;
	bool is_paused;
	int config_fd;
	keeper_policy_fn *done;
	void *ctx;
};

struct keeper_policy {
	struct policy policy; /* in force; before the bundle starts: what it will start with */
	bool is_paused;	      /* likewise */
	struct buf inside;    /* the host's addresses as the bundle was told them */
	uint64_t generation;  /* of what is in force, news.h */
	struct keeper_update *first; /* the one that init has */
	size_t n_updates;
	bool is_sent;
	struct loop_timer timer;
};

/* k->policy as the plan has it. keeper_policy_free() takes it also after a failure, and one that is
 * all zeroes. */
int keeper_policy_init(struct keeper *k, struct err *e) _fallible_;
void keeper_policy_free(struct keeper_policy *p); /* calls nobody */
int keeper_policy_copy(struct policy *out, const struct policy *p, struct err *e) _fallible_;
/* The bundle's configuration with what k->policy holds. A sealed memory file, or -errno. */
int keeper_policy_config(struct keeper *k, struct err *e) _fallible_;
/* Has the bundle enforce a copy of p from now on, each after those that were given before it; done
 * is called once, never from in here. -ESHUTDOWN when the bottle ends, -EBUSY past
 * KEEPER_UPDATES_MAX: then done is not called. A bundle that does not answer is ended. */
int keeper_policy_apply(struct keeper *k, const struct policy *p, bool is_paused,
			keeper_policy_fn *done, void *ctx, struct err *e) _fallible_;
/* init's answer; text is why it was refused, NULL: it is in force. */
void keeper_policy_answer(struct keeper *k, uint64_t generation, const char *text);
/* The bundle is gone: whatever waits is told so. */
void keeper_policy_end(struct keeper *k);

/* --- keeper_reach.c: the host's network, for a bundle that is apart from it --- */

struct keeper_reach {
	struct loop *loop;
	const struct policy *policy;  /* in force */
	const struct git_policy *git; /* the plan's; NULL: the bottle has none */
	struct loop_watch watch;
	struct loop_timer timer; /* armed while nothing is read */
	int fd;			 /* -1: not apart, or ended */
	struct allowance may_read;
};

/* *theirs is for init, as reach=. Served from the loop until the other end is closed, or oversteps.
 */
int keeper_reach_open(struct keeper_reach *r, struct loop *l, const struct policy *p,
		      const struct git_policy *git, int *theirs, struct err *e) _fallible_;
void keeper_reach_close(struct keeper_reach *r);
/* The addresses of the host's interfaces as JSON strings with commas between them. At least one and
 * at most BUNDLE_INSIDE_MAX; else an error, since egress would take what is missing for outside. */
int keeper_inside_put(struct buf *out, struct err *e) _fallible_;

/* --- keeper_door.c: the host's own repository, for git-gate (bundle/git_stream.h) --- */

#define KEEPER_DOOR_CHILDREN 4
#define KEEPER_DOOR_MS	     660000 /* one upload-pack or receive-pack in all */

struct keeper_door;

/* One request that is being served: a process that becomes git. */
struct door_child {
	struct keeper_door *door;
	pid_t pid; /* 0: none; leads a process group */
	int pid_fd, why_fd, said_fd;
	struct loop_watch pid_watch, said_watch;
	struct loop_timer timer;
	bool is_late;
	char said[HOST_GIT_SAID_MAX]; /* its standard error, cut */
	size_t n_said;
	char *made; /* folder */
};

struct keeper_door {
	struct loop *loop;
	struct loop_watch watch;
	struct loop_timer timer; /* armed while nothing is read */
	int fd;			 /* -1: no workspace, or ended */
	uint16_t remote;	 /* its place in the policy */
	struct host_git git;
	struct host_repo repo;
	char *folder; /* of what is made for requests */
	unsigned n_served;
	bool has_complained, is_paused;
	struct allowance may_read;
	struct door_child children[KEEPER_DOOR_CHILDREN];
};

/* A door that is closed, which keeper_door_close() takes. */
void keeper_door_init(struct keeper_door *d);
/* Looks at the host's repository and git before anything of the bottle is made; -1 in d->fd still.
 * state_dir: a folder in it is made for the door's use. */
int keeper_door_prepare(struct keeper_door *d, const struct plan *p, const char *state_dir,
			struct err *e) _fallible_;
/* *theirs is for init, as door=. Served from the loop until the other end is closed. */
int keeper_door_open(struct keeper_door *d, struct loop *l, int *theirs, struct err *e) _fallible_;
/* Paused: what still runs is killed, and what is asked for is refused, with the reason. */
void keeper_door_pause(struct keeper_door *d, bool is_paused);
/* Kills what still runs. */
void keeper_door_close(struct keeper_door *d);

/* --- keeper_session.c: one process and its standard descriptors --- */

struct keeper_session {
	struct keeper *k;
	bool is_used, is_agent, has_tty, has_exited, is_done, has_input_end, is_flowing;
	pid_t pid;
	int pidfd, status; /* status: exit status, 128 + signal */
	struct loop_watch pid_watch, in_watch, out_watch, err_watch;
	struct loop_timer drain_timer;
	int in_fd, out_fd, err_fd; /* with a terminal all three are the master, or -1 */
	struct buf input;
	struct buf scrollback; /* whole messages: length, type, bytes; of the agent only */
};

/* Pipes or nothing; afterwards io holds the process's ends, which session_began() closes. */
int session_prepare(struct keeper_session *s, struct backend_stdio *io, struct err *e) _fallible_;
int session_began(struct keeper_session *s, struct backend_stdio *io, pid_t pid,
		  struct err *e) _fallible_;
/* Output may flow from now on. */
void session_flow(struct keeper_session *s);
/* Moves output as long as no client is behind. */
void session_pump(struct keeper_session *s);
/* False when the process has more input waiting than it may: the client then waits. */
void session_input(struct keeper_session *s, struct str data);
bool session_takes_input(const struct keeper_session *s);
void session_resize(struct keeper_session *s, unsigned rows, unsigned columns);
void session_free(struct keeper_session *s);

/* --- keeper_client.c: the control socket --- */

struct keeper_client {
	struct keeper *k;
	struct loop_watch watch;
	uint64_t serial;		/* no two clients of a keeper have the same */
	struct keeper_session *session; /* NULL before ATTACH or EXEC */
	bool is_used, owns, is_closing; /* closing: after what is queued */
	struct buf queue;		/* whole messages: length, type, bytes */
};

int client_listen(struct keeper *k, struct err *e) _fallible_;
void client_send(struct keeper_client *c, char type, struct str body);
void client_send_json(struct keeper_client *c, char type, json_t *body); /* takes body */
void client_close(struct keeper_client *c);
/* NULL when it has gone. */
struct keeper_client *client_find(struct keeper *k, uint64_t serial);
/* Some client of s has messages that its socket did not take yet. */
bool client_any_behind(const struct keeper *k, const struct keeper_session *s);
void client_broadcast(struct keeper *k, const struct keeper_session *s, char type, struct str body);
/* The last message of every client of s (NULL: of all). */
void client_end(struct keeper *k, const struct keeper_session *s);
/* Input may be read again, or may not. */
void client_update(struct keeper *k);

/* --- keeper_state.c --- */

/* bottle.json's content; the caller decrefs. */
json_t *keeper_state_json(const struct keeper *k);
/* Writes it; a failure is logged, not fatal. */
void keeper_state_write(const struct keeper *k);
/* plan.json, policy.json and git.json. */
int keeper_state_write_plan(const struct keeper *k, struct err *e) _fallible_;
/* policy.json alone: what is in force. */
int keeper_state_write_policy(const struct keeper *k, struct err *e) _fallible_;
/* Writes a file of the state folder by renaming over it; no fsync: none of it outlives the host. */
int keeper_write_file(int dirfd, const char *name, struct str data, struct err *e) _fallible_;

/* --- keeper.c --- */

struct keeper {
	const struct plan *plan;
	const struct backend *backend;
	struct bottle *bottle;
	struct backend_place place;
	struct keeper_bundle bundle;
	struct keeper_policy policy;
	struct keeper_reach reach;
	struct workspace_watch *workspace; /* NULL: none is mounted */
	struct loop_watch workspace_watch;
	struct keeper_door door;
	struct keeper_desk desk;
	struct loop *loop;
	int state_fd, lock_fd, ready_fd, listen_fd;
	struct loop_watch listen_watch;
	struct loop_timer attach_timer, grace_timer, end_timer;
	const char *state; /* "starting", "running"; "ended" when all of it is undone */
	uint64_t started_ns;
	unsigned kill_after_ms;
	bool is_ending, is_flushing, is_cut, wants_hang_up, is_detached;
	int exit_status;	   /* -1: none */
	char limits[256];	   /* what the backend says of them */
	char reason[ERR_TEXT_MAX]; /* why it ended before its time; else empty */
	struct keeper_session agent;
	struct keeper_session execs[KEEPER_EXECS_MAX];
	struct keeper_client clients[KEEPER_CLIENTS_MAX];
	uint64_t n_clients; /* ever */
};

/* SIGTERM to the agent, and SIGKILL to the whole compartment after the grace. */
void keeper_stop(struct keeper *k, unsigned grace_ms);
/* Nothing of the bottle lives on when it returns but its keeper: the compartment first. why: what
 * the bottle is said to have ended of; NULL: somebody asked for it. */
void keeper_stop_now(struct keeper *k, const char *why);
/* Ends the bundle at once, and with it the bottle, for this reason. */
void keeper_end_bundle(struct keeper *k, const char *why);
void keeper_session_done(struct keeper_session *s);
/* Called when a client has gone or has caught up. */
void keeper_check_flushed(struct keeper *k);
/* KEEPER_EXIT or, when the bottle ended for a reason of its own, KEEPER_FAILED. */
void keeper_send_end(struct keeper_client *c);
