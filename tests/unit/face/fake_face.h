/* A face over requests of this process (fake_face.c). */
#pragma once

#include "face/face.h"

#include <stdio.h>

#define FAKE_SLUG	  "coder-1"
#define FAKE_HUNG	  "hung-1" /* its keeper takes a second to pause it, and dies then */
#define FAKE_REQUESTS_MAX 16384

struct fake {
	struct request *requests;
	size_t n, cap;
	const char *manifest; /* of the bottle; NULL: none */
	void (*on_refresh)(void);
	void (*on_decide)(const struct face_decision *d); /* may be NULL */
	FILE *out; /* what is asked of the keeper; NULL: standard output */
	bool does_fail;
};

/* What was done, by request. Children of a server do it, so it lies where their parent sees it. */
struct fake_done {
	bool is_changed, is_paused;
	bool is_revoked[FAKE_REQUESTS_MAX];
	enum request_state states[FAKE_REQUESTS_MAX]; /* 0: as it was made */
	enum ask_scope scopes[FAKE_REQUESTS_MAX];
};

extern struct fake fake;
extern struct fake_done *fake_done;

/* Before anything else, and for a new beginning: what there was is gone. */
void fake_reset(void);
/* Pending, or NEVER with that level. The request's number; its hash is that byte 32 times. */
uint64_t fake_add(enum ask_kind kind, const char *host, enum danger_level level,
		  const char *reason);
