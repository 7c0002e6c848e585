/*
 * Between git's pre-receive hook and the worker that has started git, over a stream socketpair
 * whose one end every process of git's inherits as CB_HOOK. The hook sends one request: a head, the
 * quarantine's path, git's list of updates as it came. Then it gets frames: words for the agent,
 * and at last a verdict. Whatever ends without one refuses the push.
 */
#pragma once

#include "gitgate/check.h"

#define HOOK_ENV       "CB_HOOK"
#define HOOK_MAGIC     0x63624831u
#define HOOK_PATH_MAX  1024
#define HOOK_LIST_MAX  (CHECK_UPDATES_MAX * (2 * GIT_OID_SIZE + GIT_REF_MAX + 1))
#define HOOK_WORDS_MAX 4096 /* of one frame */

struct hook_head {
	uint32_t magic, path_bytes, list_bytes;
};

enum hook_frame_kind { HOOK_WORDS = 1, HOOK_VERDICT };

struct hook_frame {
	uint32_t kind;
	uint32_t value; /* WORDS: bytes that follow; VERDICT: the hook's exit status */
};

/* --- the worker's side --- */

struct hook_request {
	struct buf raw;
	bool is_complete;
	char quarantine[HOOK_PATH_MAX]; /* "": none */
	size_t n_updates;
	struct check_update updates[CHECK_UPDATES_MAX];
};
void hook_request_init(struct hook_request *r);
void hook_request_free(struct hook_request *r);
/* Reads what has come. 0 (see is_complete), or negative: nobody will ever send one. */
int hook_request_read(struct hook_request *r, int fd, struct err *e) _fallible_;
/* The bytes alone, for tests: one whole request. */
int hook_request_parse(struct hook_request *r, struct str raw, struct err *e) _fallible_;

/* Both are lost when the hook is gone; then nobody listens, and no ref moves. Each line of words
 * ends with a newline. */
void hook_say(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int hook_answer(int fd, unsigned status) _fallible_;
