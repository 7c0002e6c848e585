/*
 * Sessions: what `initialize` agreed on. They carry no right: whoever reaches the port may open
 * one, and the one that was used least recently makes room.
 */
#pragma once

#include "base/err.h"

#define SESSION_MAX	16
#define SESSION_ID_SIZE 33 /* 128 random bits in hex, and NUL */

/* In the order in which they were published. */
enum session_version {
	SESSION_2024_11_05,
	SESSION_2025_03_26,
	SESSION_2025_06_18,
	SESSION_2025_11_25,
	SESSION_VERSION_COUNT
};
#define SESSION_LATEST SESSION_2025_11_25

const char *session_version_name(enum session_version v);
bool session_version_parse(struct str name, enum session_version *out)
	__attribute__((warn_unused_result));

struct session {
	char id[SESSION_ID_SIZE]; /* empty: free */
	enum session_version version;
	uint64_t serial; /* never used twice; outlives the session in what was begun in it */
	uint64_t used;
};

struct sessions {
	struct session all[SESSION_MAX];
	uint64_t n_opened, clock;
};

/* Never fails: NULL only without randomness. */
struct session *session_open(struct sessions *s, enum session_version v);
/* And marks it as used. NULL: unknown. */
struct session *session_find(struct sessions *s, struct str id);
void session_end(struct session *s);
