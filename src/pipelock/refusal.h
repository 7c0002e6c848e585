/*
 * What the agent gets instead of an answer: a small JSON object that says that it was refused, why,
 * and what it may do next. Every value comes from our own tables; nothing that the agent sent is
 * echoed, so that a refusal can neither leak a secret nor carry an injection.
 */
#pragma once

#include "base/buf.h"

#define REFUSAL_CONTENT_TYPE "application/json"
#define REFUSAL_MAX_BYTES    1024

struct refusal {
	const char *reason;  /* an enum's name: "host-not-allowed", "secret-in-body", … */
	const char *rule;    /* of the scan engine, "" for none */
	const char *scanner; /* "url", "header", "body", "response", "policy", "http", … */
	const char *hint;    /* NULL: refusal_hint(reason) */
	uint8_t record[8];   /* the record's id */
};

/* 421 where the connection, not the request, was wrong (RFC 9110 section 15.5.20), 400 for a
 * message that cannot be understood, 503 while a part of the bundle does not answer, 502 for an
 * answer that may not pass, else 403. */
unsigned refusal_status(const char *reason);
/* What the agent may do next; never NULL, one sentence. */
const char *refusal_hint(const char *reason);
/* Appends the object. 0 or -ENOBUFS. */
int refusal_body(struct buf *out, const struct refusal *r) _fallible_;
