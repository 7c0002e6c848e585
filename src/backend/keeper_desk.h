/*
 * The human's desk in the keeper: what roles ask (bundle/ask.h) is judged, stored, decided and put
 * into force. Split by what it is about: keeper_desk.c the channels, keeper_desk_ask.c what comes
 * over them, keeper_desk_force.c what is in force, keeper_desk_decide.c what the human does,
 * keeper_notify.c how the human hears of it.
 */
#pragma once

#include "base/allowance.h"
#include "bundle/ask.h"
#include "net/loop.h"
#include "requests/store.h"

#include <jansson.h>
#include <sys/types.h>

struct keeper;
struct keeper_client;

#define KEEPER_WAITING_MAX 256 /* of one role, as in bundle/desk.h */
#define KEEPER_PENDING_MAX 64
#define KEEPER_SEEN_MAX	   64 /* refusals that are remembered, of one role */
#define KEEPER_REQUEST_S   1800
#define KEEPER_HOLD_MS_MAX 600000

enum keeper_desk_role {
	KEEPER_DESK_SUPERVISE,
	KEEPER_DESK_PIPELOCK,
	KEEPER_DESK_GITGATE, /* with git */
	KEEPER_DESK_COUNT
};

/* Who is told when a request is decided. */
struct desk_waiting {
	uint64_t request; /* 0: free */
	uint64_t id;
	uint32_t life;
	uint8_t record[8];
	uint8_t hash[ASK_HASH_BYTES];
};

struct desk_channel {
	struct keeper *k;
	enum keeper_desk_role role;
	int fd; /* -1: this bottle has no such desk, or it has ended */
	struct loop_watch watch;
	struct loop_timer timer; /* armed while nothing is read */
	struct allowance may_read, may_ask;
	uint32_t life; /* of the process that asked last */
	struct desk_waiting waiting[KEEPER_WAITING_MAX];
	size_t n_turns;	  /* of the one that makes room */
	struct ask *seen; /* KEEPER_SEEN_MAX; NULL before the first */
	size_t n_seen;	  /* ever */
};

struct desk_pending {
	uint64_t id;
	uint8_t key[CHANGE_HASH_BYTES];
};

/* Something that is said once a policy is in force. */
struct desk_change {
	struct desk_change *next;
	bool is_sent;
	uint64_t request; /* whose waiters are told; 0: nobody's */
	uint64_t client;  /* the serial number of who is told; 0: nobody */
	bool is_resume;	  /* of the network, after a pause */
	char text[512];
};

/* keeper_notify.c */
struct keeper_notify {
	struct loop *loop;
	const char *slug, *command; /* command NULL: nobody is told */
	pid_t pid;		    /* 0: none runs */
	int pid_fd;
	struct loop_watch watch;
	struct loop_timer kill_timer, wait_timer;
	uint64_t last_ns;
	bool has_next;
	uint64_t id;
	char kind[16], summary[512];
};

struct keeper_desk {
	struct desk_channel channels[KEEPER_DESK_COUNT];
	struct store *store; /* NULL: this bottle is not supervised */
	struct desk_pending pending[KEEPER_PENDING_MAX];
	size_t n_pending;
	struct grant *grants; /* the active ones */
	size_t n_grants, cap_grants;
	struct allowance may_tell, may_note;
	struct loop_timer expiry_timer;
	unsigned n_late; /* how often it has found the store in use */
	struct desk_change *changes;
	bool is_applying;  /* a policy is on its way */
	bool wants_paused; /* once all that is on its way is in force */
	bool has_seen_canary;
	struct keeper_notify notify;
};

/* All closed, which keeper_desk_close() takes. */
void keeper_desk_init(struct keeper *k);
/* Before the bundle starts; here k->policy gets what was granted before the bottle was resumed, and
 * the pause that it was left in. theirs are for init, as desk_*=; the caller closes them; -1 where
 * this bottle has none. */
int keeper_desk_open(struct keeper *k, int theirs[KEEPER_DESK_COUNT], struct err *e) _fallible_;
void keeper_desk_close(struct keeper *k);
/* A message of the control socket's: KEEPER_DECIDE, KEEPER_REVOKE or KEEPER_NETWORK. */
void keeper_desk_control(struct keeper *k, struct keeper_client *c, char type, const json_t *j);

/* --- between the desk's files --- */

uint64_t desk_now(void);
/* The channel's end, for good; why NULL: the bundle has gone. */
void desk_channel_end(struct desk_channel *c, const char *why);
void desk_send(struct desk_channel *c, struct ask_answer *a);
void desk_take(struct desk_channel *c, const struct ask *a);
/* What r has come to. */
void desk_describe(struct ask_answer *a, const struct request *r);
/* To all that wait for it, if it is decided. */
void desk_tell_waiting(struct keeper *k, uint64_t request);

/* Again from the store: what is pending, and what is granted. */
int desk_load_pending(struct keeper *k, struct err *e) _fallible_;
int desk_load_grants(struct keeper *k, struct err *e) _fallible_;
void desk_forget_pending(struct keeper_desk *d, uint64_t id);
void desk_arm_expiry(struct keeper *k);
/* The active grant of exactly this change, or NULL. */
const struct grant *desk_find_grant(const struct keeper_desk *d, const struct change *c);
/* The manifest's routes and the active grants; extra (may be NULL) one more. */
int desk_policy(struct keeper *k, const struct grant *extra, struct policy *out,
		struct err *e) _fallible_;
/* Puts what the store says into force, and then says what (which it takes) is to be said. A bundle
 * that does not take it is ended: what was decided holds, in this run or in none. */
void desk_force(struct keeper *k, struct desk_change *what);
/* Survives this keeper either way. c (may be NULL) is told. */
void desk_pause(struct keeper *k, bool is_paused, const char *who, const char *face,
		struct keeper_client *c);
/* Danger as of now. */
void desk_judge(struct keeper *k, const struct change *c, struct danger *out);
/* A line in the audit, where there is one. */
void desk_note(struct keeper *k, const char *what, const char *who, const char *face,
	       const char *detail);
/* KEEPER_DECIDED. */
void desk_reply(struct keeper_client *c, const char *verdict, bool is_in_force, const char *text);
/* ALWAYS grants that a killed keeper has not written. */
void desk_replay_manifest(struct keeper *k);

/* --- keeper_notify.c --- */

void keeper_notify_init(struct keeper_notify *n, struct loop *l, const char *slug,
			const char *command);
/* Runs the command, or will: at most one in NOTIFY_EVERY_MS, and of what comes meanwhile the last.
 * No text of the agent's is in its arguments. */
void keeper_notify(struct keeper_notify *n, uint64_t id, const char *kind, const char *summary);
void keeper_notify_close(struct keeper_notify *n);
