/*
 * The arguments of a tool, read as its schema says, and no other. The first thing that is wrong
 * stays in `wrong`, in words that an agent can act on; what is read after it is left alone.
 */
#pragma once

#include "bundle/ask.h"

#include <jansson.h>

#define ARGS_WAIT_MAX	  55 /* seconds: below the minute that clients give a call */
#define ARGS_WAIT_DEFAULT 45
#define ARGS_WORDS_SIZE	  501 /* of each of a capability's two texts, which share ask.reason */

struct args {
	json_t *object; /* borrowed; NULL: none were given */
	char wrong[320];
};

/* names ends with NULL. */
void args_only(struct args *a, const char *const *names);
/* A text of 1 to size - 1 bytes. Absent and not required: out stays as it is. */
void args_text(struct args *a, const char *name, bool is_required, char *out, size_t size);
void args_integer(struct args *a, const char *name, uint64_t min, uint64_t max, uint64_t *out);
void args_wait(struct args *a, unsigned *wait_ms);
/* The id of a record, 16 hex digits. Absent: zeroes. */
void args_record(struct args *a, uint8_t record[8]);
void args_required(struct args *a, const char *name);
bool args_has(const struct args *a, const char *name);

/* What each kind of request is made of, into q. Of a record the keeper knows from who refused it
 * what it was about; nothing else is said then. */
void args_egress(struct args *a, struct ask *q);
void args_release(struct args *a, struct ask *q);
void args_push(struct args *a, struct ask *q);
void args_capability(struct args *a, struct ask *q);
