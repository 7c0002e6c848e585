/* A face over requests of this process (fake_face.c). */
#pragma once

#include "face/face.h"

#define FAKE_SLUG	 "coder-1"
#define FAKE_REVOKED_MAX 64

struct fake {
	struct request *requests;
	size_t n, cap;
	const char *manifest; /* of the bottle; NULL: none */
	void (*on_refresh)(void);
	bool is_changed, does_fail;
	bool is_revoked[FAKE_REVOKED_MAX];
};

extern struct fake fake;

/* Pending, or NEVER with that level. The request's number; its hash is that byte 32 times. */
uint64_t fake_add(enum ask_kind kind, const char *host, enum danger_level level,
		  const char *reason);
