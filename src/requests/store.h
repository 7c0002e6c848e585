/*
 * Requests, decisions, grants and the audit of one bottle: SQLite (requests.db in its state folder;
 * WAL, synchronous FULL, STRICT tables, defensive). One writer: the bottle's keeper. Everybody else
 * of the same user opens it for reading, also when the bottle is dead.
 *
 * Each function that writes is one transaction: after a crash it was done or it was not. What
 * store_decide() has committed is a decision; a keeper that finds it when the bottle is resumed
 * carries on from there.
 *
 * A store is of the process that opened it: never used across a fork.
 *
 * Times are seconds since the epoch, given by the caller.
 */
#pragma once

#include "requests/danger.h"

#define STORE_FILE	  "requests.db"
#define STORE_PENDING_MAX 10000
#define STORE_KEPT_MAX	  50000 /* decided ones; the oldest go first, their audit stays */
#define STORE_TELLS_MAX	  1000
#define STORE_REFUSAL_S	  600 /* how long a refusal answers whoever asks for the same again */
#define STORE_WHO_MAX	  128
#define STORE_ANSWER_MAX  512

enum request_state {
	REQUEST_PENDING = 1,
	REQUEST_GRANTED,
	REQUEST_REFUSED, /* by a human */
	REQUEST_EXPIRED, /* by time, by the end of its exchange or of its bottle */
	REQUEST_NEVER	 /* by a rule of danger */
};

struct request {
	uint64_t id; /* from 1, never used twice in a bottle */
	enum request_state state;
	struct change change;
	struct danger danger;
	char reason[ASK_REASON_SIZE * 4];   /* the agent's words, visible */
	uint64_t created, expires, decided; /* 0: not yet */
	uint64_t asked;			    /* how often the same was asked */
	enum ask_scope scope;		    /* of GRANTED */
	enum ask_release release;
	uint64_t until;
	char answer[STORE_ANSWER_MAX]; /* the human's, visible */
	char who[STORE_WHO_MAX];
	/* What a decision must name: SHA-256 over slug, id, change and danger, all canonical. */
	uint8_t hash[CHANGE_HASH_BYTES];
};

enum grant_state { GRANT_ACTIVE = 1, GRANT_SPENT, GRANT_REVOKED, GRANT_EXPIRED };

struct grant {
	uint64_t id; /* its request's */
	enum grant_state state;
	enum ask_scope scope;
	enum ask_release release;
	uint64_t until; /* 0: as long as the bottle */
	struct change change;
	/* ALWAYS: what the manifest is to become, and whether it has. */
	uint8_t manifest[CHANGE_HASH_BYTES];
	bool is_written;
};

struct store;
/* Makes or migrates it. -EBADMSG for a file that is none, or of a newer version. */
int store_open(struct store **out, int state_fd, const char *slug, struct err *e) _fallible_;
/* For reading alone; -ENOENT when the bottle never had one. */
int store_open_read(struct store **out, int state_fd, const char *slug, struct err *e) _fallible_;
void store_close(struct store *s);

/* --- the keeper's side --- */

struct store_asked {
	uint64_t id;
	bool is_new;		  /* else the same was asked before, and its answer stands */
	enum request_state state; /* NEVER at once where danger forbids it */
	uint8_t hash[CHANGE_HASH_BYTES];
};
/* A request for the same change that is pending takes this one in: its count grows, nothing else of
 * it changes, so that what a human looks at cannot be edited. So does one that was granted while
 * its grant is in force (GRANTED), one that a human refused less than STORE_REFUSAL_S ago (REFUSED:
 * store_get() has the answer), and one that was NEVER and still is. -ENOSPC past STORE_PENDING_MAX.
 */
int store_ask(struct store *s, const struct change *c, const struct danger *d, struct str reason,
	      uint64_t now, uint64_t expires, struct store_asked *out, struct err *e) _fallible_;

struct store_decision {
	uint64_t id;
	uint8_t hash[CHANGE_HASH_BYTES]; /* what the human saw */
	bool is_granted;
	enum ask_scope scope;
	enum ask_release release;
	uint64_t until;
	/* ALWAYS: SHA-256 of the manifest's text as it would be afterwards (manifest_edit.h), whose
	 * difference the human saw; else zeroes. Audited, and kept with the grant for the replay.
	 */
	uint8_t manifest[CHANGE_HASH_BYTES];
	const char *who;  /* "uid 1000 (anna)" */
	const char *face; /* "terminal", "web", "command" */
	struct str answer;
};
/* Of a request for a capability there is no grant: nothing changes by it. RELEASE, PUSH and
 * CAPABILITY are for ASK_ONCE alone. A decision that its kind does not have is -EINVAL. */
enum store_verdict {
	STORE_DECIDED,
	STORE_NO_SUCH,
	STORE_ALREADY,	/* decided before, or expired */
	STORE_STALE,	/* the hash is of something else: look again */
	STORE_FORBIDDEN /* danger: not from a prompt */
};
/* Decides, makes the grant and writes the audit, at once or not at all. danger is judged again by
 * the caller now: when it differs from what was shown the request's hash changes, and the verdict
 * is STORE_STALE. */
int store_decide(struct store *s, const struct store_decision *d, const struct danger *now_danger,
		 uint64_t now, enum store_verdict *out, struct err *e) _fallible_;
/* A grant for once is used: only if it is active, not past its time, and for exactly this hash (of
 * RELEASE and PUSH; one of EGRESS is for whatever meets its route). -ENOENT else. Durable before it
 * returns. */
int store_spend(struct store *s, uint64_t id, const uint8_t hash[CHANGE_HASH_BYTES], uint64_t now,
		struct err *e) _fallible_;
int store_revoke(struct store *s, uint64_t id, const char *who, const char *face, uint64_t now,
		 struct err *e) _fallible_;
/* Requests and grants whose time is over; *n_grants: how many grants ended. */
int store_expire(struct store *s, uint64_t now, size_t *n_requests, size_t *n_grants,
		 struct err *e) _fallible_;
/* One request waits no longer, since its exchange is gone. -ENOENT unless it is pending. */
int store_expire_one(struct store *s, uint64_t id, uint64_t now, struct err *e) _fallible_;
/* The bottle has ended: what is pending is expired, what was granted for it stays for a resume. */
int store_end(struct store *s, uint64_t now, struct err *e) _fallible_;
int store_tell(struct store *s, struct str text, uint64_t now, struct err *e) _fallible_;
/* ALWAYS: the manifest has the route now. */
int store_written(struct store *s, uint64_t id, uint64_t now, struct err *e) _fallible_;
/* What happened besides decisions: "paused", "resumed", "canary", "manifest-written". */
int store_audit(struct store *s, const char *what, const char *who, const char *face,
		struct str detail, uint64_t now, struct err *e) _fallible_;
/* The next time at which store_expire() has something to do; 0: never. */
uint64_t store_next_expiry(struct store *s);

/* --- anybody's --- */

/* Freed with request_free(). -ENOENT. */
int store_get(struct store *s, uint64_t id, struct request *out, struct err *e) _fallible_;
void request_free(struct request *r);
/* Calls fn for each, the newest first, until it returns false. states: bits 1 << enum
 * request_state. before_id 0: from the newest on; limit 0: all. */
int store_each(struct store *s, unsigned states, uint64_t before_id, size_t limit,
	       bool (*fn)(const struct request *r, void *ctx), void *ctx, struct err *e) _fallible_;
/* The same without what was asked for, some hundred times as fast: for lists, which get what they
 * show of them by store_get(). */
struct store_key {
	uint64_t id, created, expires, decided;
	enum request_state state;
};
int store_each_key(struct store *s, unsigned states, size_t limit,
		   bool (*fn)(const struct store_key *k, void *ctx), void *ctx,
		   struct err *e) _fallible_;
int store_each_grant(struct store *s, bool (*fn)(const struct grant *g, void *ctx), void *ctx,
		     struct err *e) _fallible_;
int store_count(struct store *s, unsigned states, size_t *n, struct err *e) _fallible_;
/* What has become of a request's grant. -ENOENT where it made none. */
int store_grant_state(struct store *s, uint64_t id, enum grant_state *out,
		      struct err *e) _fallible_;
/* One line of the audit. The texts are visible and live as long as the call. */
struct audit_line {
	uint64_t time, request; /* request 0: of none */
	const char *what, *who, *face, *detail;
	const char *seen; /* the change and the danger that were decided about; may be "" */
	uint8_t hash[CHANGE_HASH_BYTES]; /* of what was seen; zeroes for none */
};
/* The newest first, until fn returns false. */
int store_each_audit(struct store *s, size_t limit,
		     bool (*fn)(const struct audit_line *l, void *ctx), void *ctx,
		     struct err *e) _fallible_;
/* -EBADMSG where a line was changed, left out or put in. *n: how many lines are good. */
int store_verify_audit(struct store *s, size_t *n, struct err *e) _fallible_;
/* What the agent has told; the newest first. */
int store_each_told(struct store *s, size_t limit,
		    bool (*fn)(uint64_t time, const char *text, void *ctx), void *ctx,
		    struct err *e) _fallible_;
/* Grows with each committed change, of whichever process (PRAGMA data_version): for faces that look
 * whether there is anything new. */
int store_version(struct store *s, uint64_t *out, struct err *e) _fallible_;
