/*
 * What the three faces (terminal, web page, commands) share: a view over the stores of all of this
 * user's bottles, and the few things that a human can do. A face reads; whatever changes something
 * is a message to the bottle's keeper, which checks it again.
 *
 * All texts in what is returned are visible already (text_visible()): a face adds only what its own
 * medium needs (HTML escapes, width).
 */
#pragma once

#include "base/buf.h"
#include "bottles/bottles.h"
#include "requests/store.h"

#define FACE_BOTTLES_MAX 1024
#define FACE_SHOWN_MAX	 10000

struct face_bottle {
	struct bottles_entry entry;
	bool is_supervised, is_paused;
	char manifest[PLACES_PATH_MAX]; /* of the bottle, for "always"; may be empty */
	size_t n_pending;
};

struct face;
int face_open(struct face **out, struct err *e) _fallible_;
void face_close(struct face *f);
/* Looks again, cheaply when nothing is new; *changed: something is. A store that cannot be read is
 * shown as a bottle without requests, with the reason in face_trouble(). */
int face_refresh(struct face *f, bool *changed, struct err *e) _fallible_;
const struct face_bottle *face_bottles(const struct face *f, size_t *n);
const char *face_trouble(const struct face *f); /* "" for none */
/* Requests of slug, or of every bottle (NULL), in these states (bits 1 << enum request_state);
 * pending ones first by age, then the newest decided; until fn returns false. */
typedef bool face_request_fn(const char *slug, const struct request *r, void *ctx);
int face_each(struct face *f, const char *slug, unsigned states, size_t limit, face_request_fn *fn,
	      void *ctx, struct err *e) _fallible_;
/* request_free() afterwards. -ENOENT. */
int face_get(struct face *f, const char *slug, uint64_t id, struct request *out,
	     struct err *e) _fallible_;
typedef bool face_grant_fn(const char *slug, const struct grant *g, void *ctx);
int face_each_grant(struct face *f, const char *slug, face_grant_fn *fn, void *ctx,
		    struct err *e) _fallible_;
/* The last records of a bottle as lines for people, oldest first: "12:00:01 block GET host/path
 * host-not-allowed". */
typedef bool face_line_fn(const char *line, void *ctx);
int face_each_record(struct face *f, const char *slug, size_t limit, face_line_fn *fn, void *ctx,
		     struct err *e) _fallible_;
int face_each_told(struct face *f, const char *slug, size_t limit, face_line_fn *fn, void *ctx,
		   struct err *e) _fallible_;

/* Who decided what, seeing what: the newest first. */
int face_each_audit(struct face *f, const char *slug, size_t limit,
		    bool (*fn)(const struct audit_line *l, void *ctx), void *ctx,
		    struct err *e) _fallible_;
/* -EBADMSG where a line of the audit was changed, left out or put in. */
int face_verify_audit(struct face *f, const char *slug, struct err *e) _fallible_;

/* --- what a human does --- */

struct face_decision {
	const char *slug;
	uint64_t id;
	uint8_t hash[CHANGE_HASH_BYTES]; /* of the request as it was shown */
	bool is_granted;
	enum ask_scope scope;
	enum ask_release release;	     /* of a held request */
	uint64_t seconds;		     /* how long; 0: as long as the bottle */
	uint8_t manifest[CHANGE_HASH_BYTES]; /* ALWAYS: manifest_edit.hash of the shown difference
					      */
	const char *answer;		     /* for the agent; may be NULL */
	const char *face;		     /* "terminal", "web", "command" */
};

/* One line for people in said. The verdict is the keeper's; -errno with e when it could not be
 * asked, and then nothing was decided, or, after -EIO, look again. Returns once it is in force. */
int face_decide(const struct face_decision *d, enum store_verdict *out, struct buf *said,
		struct err *e) _fallible_;
int face_revoke(const char *slug, uint64_t id, const char *face, struct buf *said,
		struct err *e) _fallible_;
int face_pause(const char *slug, bool is_paused, const char *face, struct buf *said,
	       struct err *e) _fallible_;
/* Ends the bottle at once, agent and network. */
int face_stop_now(const char *slug, struct buf *said, struct err *e) _fallible_;

/* --- names, as in the JSON: "pending", "active", "egress", "bottle"; "" for none --- */

const char *face_state_name(enum request_state s);
const char *face_grant_state_name(enum grant_state s);
const char *face_kind_name(enum ask_kind k);
const char *face_scope_name(enum ask_scope s);

/* --- what is asked for, in words --- */

struct face_field {
	const char *name; /* at most 9 characters; "": one more of the field before */
	const char *value;
	bool is_agents;	 /* chosen freely by the agent: to be fenced */
	bool is_warning; /* what the field before might be taken for */
};
typedef void face_field_fn(const struct face_field *f, void *ctx);
/* All of a change, nothing cut. */
void face_each_field(const struct change *c, face_field_fn *fn, void *ctx);
/* What granting it so means; "" where it cannot be. */
const char *face_scope_means(enum ask_kind k, enum ask_scope s);

/* --- JSON, the same for `requests --json` and the page --- */

int face_request_json(struct buf *out, const char *slug, const struct request *r) _fallible_;
int face_bottle_json(struct buf *out, const struct face_bottle *b) _fallible_;
int face_audit_json(struct buf *out, const struct audit_line *l) _fallible_;
int face_grant_json(struct buf *out, const char *slug, const struct grant *g) _fallible_;
