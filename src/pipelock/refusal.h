/*
 * What the agent gets instead of an answer: a small JSON object that says that it was refused, why,
 * and what it may do next. Every value comes from our own tables; of what the agent sent nothing is
 * echoed but what `ask` holds, which is in canonical form and passed the scan, so that a refusal
 * can neither leak a secret nor carry an injection.
 */
#pragma once

#include "base/buf.h"
#include "bundle/askable.h"

#define REFUSAL_CONTENT_TYPE "application/json"
#define REFUSAL_MAX_BYTES    4096

/* The arguments with which the tool asks for exactly what was refused. Of EGRESS: canonical. */
struct refusal_ask {
	uint32_t kind; /* enum ask_kind, of what can be asked for (bundle/askable.h); 0: nothing */
	struct str host;
	uint16_t port;
	struct str method; /* empty: those that the tool takes when it is told none */
	struct str path;   /* a pattern; empty: none */
};

struct refusal {
	const char *reason;  /* an enum's name: "host-not-allowed", "secret-in-body", … */
	const char *rule;    /* of the scan engine, "" for none */
	const char *scanner; /* "url", "header", "body", "response", "policy", "http", … */
	const char *hint;    /* NULL: refusal_hint(reason) */
	uint8_t record[8];   /* the record's id */
	struct refusal_ask ask;
};

/* 421 where the connection, not the request, was wrong (RFC 9110 section 15.5.20), 400 for a
 * message that cannot be understood, 503 while a part of the bundle does not answer, 502 for an
 * answer that may not pass, else 403. */
unsigned refusal_status(const char *reason);
/* What the agent may do next; never NULL, one sentence. */
const char *refusal_hint(const char *reason);
/* The pattern that a route needs for this path of a request, with its NUL, its escapes undone; "*"
 * stands for a segment that no pattern can spell. False: none of size bytes. */
bool refusal_path_pattern(struct str path, char *out, size_t size);
/* Appends the object. 0 or -ENOBUFS. */
int refusal_body(struct buf *out, const struct refusal *r) _fallible_;
