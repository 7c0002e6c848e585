/*
 * The resolved plan of one bottle: everything that will be created, before anything is. The
 * manifest layer makes it, `start --dry-run` prints it, a backend carries it out. A plan holds
 * references to secrets (struct plan_secret), never their values.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "conf/git_policy.h"
#include "conf/policy.h"

enum plan_backend {
	PLAN_BACKEND_UNSET,
	PLAN_BACKEND_NATIVE,
	PLAN_BACKEND_DOCKER,
	PLAN_BACKEND_SMOLMACHINES,
	PLAN_BACKEND_QEMU,
	PLAN_BACKEND_COUNT
};

/* What of the host's files the agent works on. */
enum plan_workspace {
	PLAN_WORKSPACE_NONE,
	PLAN_WORKSPACE_CLONE, /* a clone of the host's repository, by way of git-gate */
	PLAN_WORKSPACE_MOUNT
};

/* Where the host finds a secret. Exactly one is set. */
struct plan_secret {
	char *env;     /* token_ref: env:NAME  */
	char *file;    /* token_ref: file:PATH (absolute or ~/) */
	char *command; /* token_ref: command:LINE, run by /bin/sh -c as the user */
	char *origin_file;
	unsigned origin_line;
};

#define PLAN_PINNED	"10.209.0.2"
#define PLAN_SLUG_MAX	63
#define PLAN_PROMPT_MAX (64u << 10)

struct plan_env {
	char *name, *value;
};

struct plan_limits {
	uint64_t memory_bytes; /* 0: no limit */
	uint64_t processes;
	uint64_t files;	    /* open files per process */
	uint64_t cpu_milli; /* 1000: one core; 0: no limit */
	uint64_t file_size_bytes;
};

struct plan {
	char *slug; /* "<agent>-<random>" */
	char *agent, *bottle;
	char *agent_file; /* where it was read; NULL: none was named, agent is the bottle's name */
	char *provider;	  /* "claude", "codex", "shell" */
	char *image;	  /* a reference; NULL: the provider's template */
	enum plan_backend backend; /* of the manifest; the flag and the variable win over it */
	char **command;		   /* NULL-terminated argv of the agent */
	size_t n_command;
	char *prompt;	      /* the text below the agent's head, or --prompt; may be NULL */
	struct plan_env *env; /* the manifest's own, visible to the agent; placeholders included */
	size_t n_env;
	char **expose; /* host folders bound read-only at the same path (native) */
	size_t n_expose;
	struct plan_limits limits;
	bool has_writable_root; /* the agent may change its root file system; else only its home */
	struct policy policy;
	struct git_policy git; /* without remotes: no git */
	enum plan_workspace workspace;
	char *workspace_path; /* absolute: the folder that it is; NULL for none */
	struct plan_secret *secrets; /* number N is the credential N of policy routes' auth */
	size_t n_secrets;
	char *canary;	/* planted in the bottle's files and environment */
	char **sources; /* the manifest files that were read, for the record */
	size_t n_sources;
	char *pinned; /* the bundle's address inside the wall */
	bool is_supervised;
	unsigned agent_uid; /* inside the bottle; 1000 unless the selftest asks for 0 */
	char **warnings;    /* for the human, before the start: "the allowlist is empty …" */
	size_t n_warnings;
};

struct plan_options {
	const char *home;     /* the user's home; manifests live in home/.claude-bottle */
	const char *cwd;      /* may bring agents, never bottles */
	const char *agent;    /* NULL: none, then bottle and usually command are given */
	const char *bottle;   /* --bottle: overrides the agent's; may be NULL */
	const char *prompt;   /* --prompt, or NULL */
	char *const *command; /* after --, NULL-terminated, or NULL */
	const char *slug;     /* NULL: made from the agent's name and random characters */
	bool is_headless;     /* --headless: the agent's program answers the prompt and ends */
};

int plan_make(struct plan *out, const struct plan_options *opt, struct err *e) _fallible_;
void plan_free(struct plan *p);
/* For a human, and for scripts. Secrets appear as their reference; the canary as being there. */
int plan_print_text(const struct plan *p, struct buf *out) _fallible_;
int plan_print_json(const struct plan *p, struct buf *out) _fallible_;
/* Only what the bottle may reach; needs no more than slug, policy and secrets. */
int plan_print_network(const struct plan *p, struct buf *out) _fallible_;
/* Agents that can be started from here: names with their description, for the picker. */
struct plan_agent_info {
	char *name, *bottle, *description, *file;
};
void plan_agents_free(struct plan_agent_info *list, size_t n);
/* The home's agents first, then the current folder's that the home has not; each sorted. An agent
 * whose file cannot be used is listed without a bottle, its description saying why. The caller
 * frees with plan_agents_free(). */
int plan_list_agents(const char *home, const char *cwd, struct plan_agent_info **out, size_t *n,
		     struct err *e) _fallible_;
/* Fetches a secret's value, at start, on the host: at least SCAN_PRINT_WINDOW (12) and at most 2048
 * bytes, printable ASCII, one trailing newline removed. The caller wipes and frees. */
int plan_secret_fetch(const struct plan_secret *s, struct str *out, struct err *e) _fallible_;
#define PLAN_SECRET_MIN	       12
#define PLAN_SECRET_MAX	       2048
#define PLAN_SECRET_TIMEOUT_MS 30000 /* of a command; long enough for a touch of a key */
/* "env:NAME", "file:PATH", "command:LINE"; the caller frees. */
char *plan_secret_describe(const struct plan_secret *s);
void plan_secret_free(struct plan_secret *s);
const char *plan_backend_name(enum plan_backend b);
int plan_backend_parse(struct str name, enum plan_backend *out, struct err *e) _fallible_;
