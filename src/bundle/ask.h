/*
 * What roles of the bundle tell and ask the keeper, who alone decides for the human (requests/
 * desk.h): one SOCK_SEQPACKET channel for each of supervise, pipelock and git-gate (desk_*=FD of
 * bundle.h). Fixed-size messages, so that the keeper, which is outside of every wall, parses no
 * text of a format; each field is checked as if a role had been taken over: none of them can
 * approve.
 *
 * Every text is NUL-terminated, holds agent bytes as they came (not yet visible), and is cut by its
 * sender only where it says so. A message of another size, with an unknown op or an unterminated
 * text, or one that this role may not send, ends the channel, and it stays ended for as long as the
 * bottle lives: nothing can be asked any more, and nothing of what was granted changes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum ask_op {
	/* supervise; answered at once and, while it is pending, again when it is decided */
	ASK_REQUEST = 1,
	ASK_LOOK,  /* supervise: how number stands; answered at once */
	ASK_TELL,  /* supervise: reason is for the human; no answer but ASK_TAKEN or ASK_LIMITED */
	ASK_HELD,  /* pipelock: an exchange waits; answered when decided */
	ASK_GONE,  /* pipelock: the exchange of this id waits no longer; no answer */
	ASK_SPEND, /* pipelock, git-gate: a grant for once (number) is about to be used for hash;
		    * ASK_GRANTED means: used now, for good */
	ASK_SEEN, /* pipelock, git-gate: refused, and could be asked for by its record; no answer */
	ASK_CANARY /* pipelock, git-gate: the canary tried to leave; no answer */
};

enum ask_kind {
	ASK_EGRESS = 1, /* host, ports, methods, paths */
	ASK_RELEASE,	/* one held request: record */
	ASK_PUSH,	/* remote, ref, new_oid */
	ASK_CAPABILITY	/* words alone */
};

#define ASK_PORTS_MAX	8
#define ASK_PATHS_MAX	8
#define ASK_PATH_SIZE	256
#define ASK_REASON_SIZE 1024
#define ASK_SHOWN_SIZE	1024
#define ASK_REF_SIZE	256
#define ASK_NAME_SIZE	64
#define ASK_OID_SIZE	65
#define ASK_HASH_BYTES	32

struct ask {
	uint32_t op;   /* enum ask_op */
	uint32_t kind; /* enum ask_kind; 0 where op needs none */
	uint64_t id;   /* the sender's, comes back with every answer */
	/* Of a request (LOOK) or a grant (SPEND). SPEND with 0: the grant of this kind for hash.
	 * Of PUSH: SHA-256 of remote, ref, old_oid and new_oid, a NUL between each two. Of RELEASE:
	 * of the whole request, as pipelock makes it; the answer's release says how it may go. */
	uint64_t number;
	uint32_t life;		      /* which process of the role asks; comes back */
	uint32_t methods;	      /* bits 1 << enum policy_method */
	uint8_t record[8];	      /* of the refusal or of the held exchange; zeroes: none */
	uint8_t hash[ASK_HASH_BYTES]; /* of HELD, SPEND and SEEN: what it is about, content and all
				       */
	uint16_t ports[ASK_PORTS_MAX];
	uint16_t n_ports, n_paths;
	uint32_t hold_ms; /* HELD: how long it will wait */
	char host[256];	  /* as given, perhaps not canonical; longer ones are not sent */
	char paths[ASK_PATHS_MAX][ASK_PATH_SIZE];
	char remote[ASK_NAME_SIZE], ref[ASK_REF_SIZE];
	char old_oid[ASK_OID_SIZE], new_oid[ASK_OID_SIZE];
	char reason[ASK_REASON_SIZE];
	/* HELD: the rule, where it was found, and the text around it with the value masked.
	 * SEEN of a push: the paths that need approval, a line each. */
	char rule[ASK_NAME_SIZE], where[ASK_NAME_SIZE], shown[ASK_SHOWN_SIZE];
};

enum ask_state {
	ASK_PENDING = 1,
	ASK_GRANTED,
	ASK_REFUSED, /* by the human; text is the reason */
	ASK_EXPIRED, /* nobody decided in time: a refusal */
	ASK_NEVER,   /* against a rule of danger that no prompt can grant; text says which */
	ASK_INVALID, /* text says what was expected */
	ASK_LIMITED, /* too many pending, or too fast; text says when again */
	ASK_UNKNOWN, /* no such request, record or grant */
	ASK_TAKEN
};

enum ask_scope { ASK_ONCE = 1, ASK_BOTTLE, ASK_ALWAYS };
/* What becomes of a held exchange that is granted. */
enum ask_release { ASK_PASS = 1, ASK_REDACT };

struct ask_answer {
	uint64_t id;
	uint64_t number; /* of the request; of SPEND's grant */
	uint64_t until;	 /* GRANTED: seconds since the epoch; 0: as long as the bottle */
	uint32_t life;
	uint32_t state; /* enum ask_state */
	uint32_t scope, release;
	uint32_t is_final; /* no further answer for this id follows */
	uint32_t zero;
	uint8_t hash[ASK_HASH_BYTES]; /* HELD, SPEND: as asked */
	char text[512];		      /* visible already */
};
