/*
 * What a push brings, looked at before anything of it leaves: every object that is reachable from
 * the new refs and not yet in the gate, through the engine that pipelock uses. No suppression that
 * the agent could write has any effect; the operator's `allow` fingerprints do.
 *
 * Reads objects through git's own plumbing (rev-list, cat-file --batch) in the push's quarantine
 * and parses their output and the objects strictly; anything unexpected refuses the push.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "conf/git_policy.h"
#include "gitgate/git_run.h"
#include "scan/scan.h"

#define CHECK_UPDATES_MAX    256
#define CHECK_FINDINGS_MAX   64	      /* reported; more are counted */
#define CHECK_CANARY_RULE    "canary" /* the engine's; always among those that are reported */
#define CHECK_OBJECTS_MAX    2000000
#define CHECK_ARCHIVE_DEPTH  3
#define CHECK_DELTA_DEPTH    250 /* of a delta chain in the pushed pack */
#define CHECK_TREE_DEPTH_MAX 128

struct check_update {
	char ref[GIT_REF_MAX + 1];
	char old_oid[GIT_OID_SIZE], new_oid[GIT_OID_SIZE]; /* all zeroes: created, deleted */
};

/* X(constant, name): in refusals and records. */
#define CHECK_KINDS(X)                                                                             \
	X(SECRET, "secret")	  /* the scan engine found one: rule says which */                 \
	X(OVERSIZE, "oversize")	  /* larger than the remote's object_max_bytes */                  \
	X(LIMIT, "limit")	  /* a cap was reached: objects, depth, ratio, time */             \
	X(IDENTITY, "identity")	  /* author, committer or tagger: not git.user */                  \
	X(SENSITIVE, "sensitive") /* a path that CI or the host would execute: needs approval */   \
	X(TREE, "tree-entry")	  /* a name no tree may have: .git, "..", look-alikes */           \
	X(SUBMODULE, "submodule") /* a URL git must not be given: ext::, file:, leading dash */    \
	X(MALFORMED, "malformed") /* an object that does not parse */

enum check_kind {
#define X(constant, name) CHECK_##constant,
	CHECK_KINDS(X)
#undef X
		CHECK_KIND_COUNT
};
const char *check_kind_name(enum check_kind k);

struct check_finding {
	enum check_kind kind;
	char rule[SCAN_RULE_NAME_MAX];
	char commit[GIT_OID_SIZE]; /* that brought it; empty: none (a tag, a ref name) */
	char path[512]; /* control characters made visible; "" for a message; cut with "…" */
	char what[48];	/* "blob", "commit message", "author", "tag", "path", "ref name", … */
	uint64_t line;	/* from 1; 0: none */
	/* For the remote's `allow`: of SECRET told by a rule, of a blob's OVERSIZE, of LIMIT that
	 * is one file's (the engine's limits, archives). Empty: not to be allowed, as the bottle's
	 * own. */
	char fingerprint[GIT_FINGERPRINT_SIZE];
	char decoders[32]; /* as in struct scan_finding, behind the containers: "gzip>tar>base64" */
};

struct check_report {
	struct check_finding findings[CHECK_FINDINGS_MAX];
	size_t n_findings, n_more;
	uint64_t n_objects, n_bytes; /* scanned */
	uint64_t duration_us;
};

struct check_input {
	const struct git_policy *policy;
	const struct git_remote *remote;
	struct git_run_env *git; /* the mirror, with the quarantine in front */
	struct scan_engine *engine;
	const struct check_update *updates;
	size_t n_updates;
	uint64_t objects_max; /* CHECK_OBJECTS_MAX */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC */
};

/* 0 with *out filled: clean when n_findings is 0. Negative: something failed, which refuses the
 * push. out is large: not on a small stack. */
int check_push(const struct check_input *in, struct check_report *out, struct err *e) _fallible_;

/* A path or a ref's name, to be told or recorded: made visible, cut with "…", and masked, since it
 * may itself be the secret: each segment that has one is "***"; of one that is split over several
 * nothing is left. */
void check_name_show(struct scan_engine *engine, char *out, size_t size, struct str name);
