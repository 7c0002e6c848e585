/*
 * What a bottle may do with git: its remotes, which refs may be pushed where, the identity that
 * commits must carry. The resolved, validated form of the manifest's `git:` and `workspace: clone`;
 * git-gate enforces it, and egress, gitssh and the keeper dial only what it names.
 *
 * Travels from the host to the bundle as JSON, which is parsed as strictly as if it were hostile.
 * It holds references to credentials, never their values. No remote, a missing or a malformed one:
 * no git at all. A remote without `branches` can be fetched from only.
 */
#pragma once

#include "conf/policy.h"

#define GIT_REMOTES_MAX	     16
#define GIT_NAME_MAX	     40
#define GIT_PATH_MAX	     512
#define GIT_PATTERNS_MAX     64
#define GIT_REF_MAX	     255 /* bytes of a whole ref name; longer ones are refused */
#define GIT_ALLOW_MAX	     256
#define GIT_FINGERPRINT_SIZE 33 /* 128 bits in hex, and NUL */
#define GIT_HOST_KEY_MAX     2048
#define GIT_IDENTITY_MAX     256
#define GIT_SIZE_MAX	     (1ull << 40) /* the most that object_max_bytes may be, and pack_max_bytes */
#define GIT_JSON_MAX_BYTES   (4u << 20)
#define GIT_OBJECT_MAX_BYTES (50ull << 20) /* default of object_max_bytes */
#define GIT_PACK_MAX_BYTES   (2ull << 30)  /* default of pack_max_bytes */
#define GIT_OID_SIZE	     41 /* SHA-1 in hex, and NUL; SHA-256 repositories are refused */

enum git_transport {
	GIT_TRANSPORT_HTTPS,	/* through egress, which verifies TLS and injects the token */
	GIT_TRANSPORT_SSH,	/* through gitssh, with the pinned host key; keyd signs */
	GIT_TRANSPORT_WORKSPACE /* the host's own repository, through the keeper's door */
};

struct git_remote {
	char *name; /* [a-z][a-z0-9-]*, unique; "workspace" for GIT_TRANSPORT_WORKSPACE alone */
	enum git_transport transport;
	char *host; /* canonical, as in policy_host_canonical(); "workspace" for the host's own */
	uint16_t port; /* 0 for the workspace */
	char *user;    /* of ssh, and of Basic authentication with a token; else NULL */
	/* As the operator wrote it, without a leading "/" where the scp form had none; printable
	 * ASCII of a fixed set (letters, digits, "-._~/+@"), no empty, "." or ".." segment, none
	 * that begins with "-". "" for the workspace. */
	char *path;
	char *host_key; /* ssh: "ssh-ed25519 AAAA…", the only key that is accepted */
	bool has_credential;
	unsigned credential; /* index into the secrets that keyd was given: token, or private key */
	char *placeholder;   /* https with a token: what git-gate puts where egress swaps it in */
	/* Patterns of short names: "*" within one segment, a last segment "**" anything below. */
	char **branches; /* may be created and moved forward; none: no push */
	size_t n_branches;
	char **protected_branches; /* never, whatever `branches` says; also those of the upstream's
				    * HEAD when is_head_protected */
	size_t n_protected_branches;
	char **tags; /* may be created (never moved); none: no tags */
	size_t n_tags;
	bool is_head_protected; /* the branch of the upstream's HEAD; true unless said otherwise */
	bool may_force;
	bool may_delete;
	bool may_serve_stale; /* fetches while the upstream is down, marked as such */
	bool may_oversize; /* blobs past object_max_bytes pass unscanned; else they are refused */
	uint64_t object_max_bytes;
	uint64_t pack_max_bytes;
	char (*allow)[GIT_FINGERPRINT_SIZE]; /* findings that the operator has looked at */
	size_t n_allow;
	char *origin_file; /* of the manifest; the agent never sees it */
	unsigned origin_line;
};

struct git_policy {
	struct git_remote *remotes;
	size_t n_remotes;
	char *user_name, *user_email; /* git.user; NULL: not said */
	bool enforces_identity;	      /* pushed commits and tags are by git.user alone */
};

void git_policy_free(struct git_policy *g); /* leaves an empty one, which allows nothing */
void git_remote_free(struct git_remote *r);
int git_policy_from_json(struct git_policy *out, struct str json, struct err *e) _fallible_;
int git_policy_to_json(const struct git_policy *g, struct buf *out, struct err *e) _fallible_;

/* An upstream in any of git's spellings: https://[user@]host[:port]/path,
 * ssh://[user@]host[:port]/path, [user@]host:path. Sets transport, host, port, user (NULL where
 * none stands, "git" for ssh), path of r, which has none yet; no password, query, fragment, escape,
 * or other scheme (file, ext, git, http). "~" only for https, where no server makes a home of it.
 */
int git_upstream_parse(struct str text, struct git_remote *r, struct err *e) _fallible_;
int git_remote_name_check(struct str name, struct err *e) _fallible_;
int git_ssh_user_check(struct str user, struct err *e) _fallible_;
int git_fingerprint_check(struct str text, struct err *e) _fallible_; /* 32 lower-case hex digits */
/* user.name or user.email, in the form in which git itself writes it into a commit: nothing that it
 * would cut off, so that what is compared is what was said. */
int git_identity_check(struct str text, struct err *e) _fallible_;
const char *git_transport_name(enum git_transport t); /* "https", "ssh", "workspace" */
/* NULL: none has that name. */
const struct git_remote *git_remote_named(const struct git_policy *g, struct str name);
/* May anything be pushed at all. */
bool git_remote_may_push(const struct git_remote *r);
/* "ssh-ed25519 AAAA…" or a known_hosts line's last two fields; the type and base64 must agree. */
int git_host_key_check(struct str text, struct err *e) _fallible_;
/* "fix-*", "**": a short name whose segments may hold "*", the last one be "**". */
int git_ref_pattern_check(struct str pattern, struct err *e) _fallible_;
/* As git check-ref-format, and stricter: printable ASCII and valid UTF-8 without control,
 * bidirectional and zero-width characters only; at most GIT_REF_MAX bytes; begins with "refs/". */
bool git_ref_is_valid(struct str ref);
bool git_ref_matches(struct str short_name, char *const *patterns, size_t n);

/* Why a ref may not be pushed whatever is there and whatever comes. X(constant, name, what the
 * agent is told); the names stand in records. */
#define GIT_REF_REASONS(X)                                                                         \
	X(OK, "ok", "")                                                                            \
	X(NAME, "ref-name", "this name is not accepted here")                                      \
	X(AMBIGUOUS, "ref-ambiguous", "git would take this name for something else")               \
	X(NAMESPACE, "ref-namespace", "only branches and tags can be pushed")                      \
	X(READ_ONLY, "remote-read-only", "this remote can be fetched from only")                   \
	X(BRANCH, "branch-not-allowed", "no pattern of `branches` allows this branch")             \
	X(PROTECTED, "branch-protected", "this branch is protected")                               \
	X(HEAD, "branch-is-head", "the upstream's default branch is protected")                    \
	X(TAG, "tag-not-allowed", "no pattern of `tags` allows this tag")                          \
	X(UNKNOWN, "ref-unknown", "the refs of this remote could not be read")

enum git_ref_reason {
#define X(constant, name, text) GIT_REF_##constant,
	GIT_REF_REASONS(X)
#undef X
		GIT_REF_REASON_COUNT
};
const char *git_ref_reason_name(enum git_ref_reason r);
const char *git_ref_reason_text(enum git_ref_reason r);
/* ref is a whole name. head: what the upstream's HEAD points to, a whole name; "" where that could
 * not be found out, which a protected one refuses; NULL: not asked about. */
enum git_ref_reason git_ref_decide(const struct git_remote *r, struct str ref, bool is_deletion,
				   const char *head);
/* A push that changes this path is refused until a human approves it. *what: as of
 * risky_path_find(). */
bool git_path_needs_approval(const struct git_remote *r, struct str path, const char **what);

/* Where the agent finds a remote at git-gate: "/<host>/<path without .git>"; the workspace:
 * "/workspace". at least GIT_PATH_MAX + POLICY_HOST_MAX + 8 bytes. */
#define GIT_GATE_PATH_SIZE (GIT_PATH_MAX + POLICY_HOST_MAX + 8)
void git_gate_path(const struct git_remote *r, char out[GIT_GATE_PATH_SIZE]);
/* The remote of a request's path (without its query) below which `rest` follows ("/info/refs", …);
 * with or without ".git" before it. Where several remotes begin the path, the one that leaves one
 * of git's three rests. NULL: none. */
const struct git_remote *git_gate_find(const struct git_policy *g, struct str path,
				       struct str *rest);
/* For the agent's git configuration: each remote's upstream in all spellings under
 * url."http://PINNED:9418/…".insteadOf, and git.user; no proxy on the way to git-gate. git takes a
 * spelling as a prefix, so one without ".git" serves both; it also takes every repository whose
 * name begins with it, which git-gate then does not know. */
int git_agent_config(const struct git_policy *g, const char *pinned, struct buf *out,
		     struct err *e) _fallible_;
/* The remote that the agent's git, configured so, comes to when it is given this URL, or one of
 * git-gate's own ("http://ADDRESS:9418/…"). NULL: no declared one. */
const struct git_remote *git_agent_remote(const struct git_policy *g, struct str url);
/* What egress may dial and send for git-gate and gitssh: a route for each https remote (GET, POST,
 * its three paths, of which the pushing one only where something may be pushed; Basic
 * authentication) and one for each ssh remote's port, which no HTTP request meets (no method), with
 * base's resolve, dns and ca. out is to be freed with policy_free(). */
int git_policy_routes(const struct git_policy *g, const struct policy *base, struct policy *out,
		      struct err *e) _fallible_;
