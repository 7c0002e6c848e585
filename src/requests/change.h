/*
 * The effective change that a request asks for: exactly what would be different if it were granted,
 * in one canonical form. It is what the human sees, what the decision's hash covers, and what is
 * applied; nothing else of a request has an effect.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "bundle/ask.h"
#include "conf/policy.h"

#define CHANGE_JSON_MAX_BYTES 16384
#define CHANGE_HASH_BYTES     32
#define CHANGE_HASH_HEX	      (2 * CHANGE_HASH_BYTES + 1)
#define CHANGE_HOST_SIZE      (POLICY_HOST_MAX + 3) /* with "*." */
#define CHANGE_PATH_ALL	      "/**"		    /* a route of this path alone: every path */

struct change {
	enum ask_kind kind;
	/* EGRESS: a route of its own, without a credential, on_match block. Of RELEASE and PUSH:
	 * the destination, for the human. */
	struct policy_route route;
	/* RELEASE and PUSH: what exactly may pass, content and all (the asking role made the hash).
	 */
	uint8_t hash[CHANGE_HASH_BYTES];
	uint8_t record[8]; /* RELEASE: two that are the same are two; else zeroes */
	char rule[ASK_NAME_SIZE], where[ASK_NAME_SIZE]; /* RELEASE */
	char shown[ASK_SHOWN_SIZE];			/* visible; RELEASE: masked; PUSH: paths */
	char remote[ASK_NAME_SIZE], ref[ASK_REF_SIZE];	/* PUSH; visible */
	char old_oid[ASK_OID_SIZE], new_oid[ASK_OID_SIZE];
	char words[ASK_REASON_SIZE]; /* CAPABILITY; visible */
};

const char *change_kind_name(enum ask_kind k); /* "egress", "release", "push", "capability" */
/* A host, or "*." and one, in any spelling, in the one that a policy has. -EINVAL in words for an
 * agent. */
int change_host_canonical(struct str given, char out[CHANGE_HOST_SIZE], struct err *e) _fallible_;
/* Strict: canonical hosts (a name with letters past ASCII becomes its A-label, IDNA2008), at least
 * one port (443 when none was given), one method (GET and HEAD when none), path patterns as in a
 * manifest (every path when none). -EINVAL with e naming the argument, what was given and what was
 * expected, in words for an agent. */
int change_from_ask(struct change *out, const struct ask *a, struct err *e) _fallible_;
void change_free(struct change *c);
/* Canonical: keys, list members and numbers in one order and spelling, so that equal changes are
 * equal bytes. change_from_json() takes nothing else. */
int change_to_json(const struct change *c, struct buf *out) _fallible_;
int change_from_json(struct change *out, struct str json, struct err *e) _fallible_;
/* SHA-256 of the canonical form: requests for the same change are the same request. */
int change_key(const struct change *c, uint8_t key[CHANGE_HASH_BYTES]) _fallible_;
/* One line for people, visible, at most size - 1 bytes: "GET, POST https://api.example.com/v1".
 */
void change_summary(const struct change *c, char *out, size_t size);
