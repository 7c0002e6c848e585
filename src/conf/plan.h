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

/* What happens when the canary is seen leaving, besides its request being refused. */
enum plan_on_canary {
	PLAN_CANARY_RECORD, /* it is recorded */
	PLAN_CANARY_PAUSE,  /* the bottle's network is paused */
	PLAN_CANARY_STOP,   /* the bottle is stopped at once */
	PLAN_CANARY_COUNT
};

/* What the agent gets of the folder that it was started in. */
enum plan_workspace {
	PLAN_WORKSPACE_NONE,
	PLAN_WORKSPACE_CLONE, /* a clone of its repository, through git-gate */
	PLAN_WORKSPACE_MOUNT, /* the folder itself */
	PLAN_WORKSPACE_COUNT
};

/* Where the host finds a secret. Exactly one of the three is set. */
struct plan_secret {
	char *env;     /* token_ref: env:NAME  */
	char *file;    /* token_ref: file:PATH (absolute or ~/) */
	char *command; /* token_ref: command:LINE, run by /bin/sh -c as the user */
	bool is_key;   /* an ssh private key: several lines of text */
	char *origin_file;
	unsigned origin_line;
};

#define PLAN_PINNED	"10.209.0.2"
#define PLAN_SLUG_MAX	63
#define PLAN_PROMPT_MAX (64u << 10)

/* Of a supervised bottle: what the agent's configuration calls the server that it asks, and where a
 * file in Claude Code's form names it (whoever runs in there). */
#define PLAN_NOTIFY_DESKTOP "desktop" /* instead of a command line: notify-send */
#define PLAN_MCP_NAME	    "claude-bottle"
#define PLAN_MCP_FILE	    "/etc/claude-bottle/mcp.json"

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
	char *image;	  /* a reference, or where a root file system's tar lies: a path
			   * that begins with "/". NULL: the provider's template */
	enum plan_backend backend; /* of the manifest; the flag and the variable win over it */
	char **command;		   /* NULL-terminated argv of the agent */
	size_t n_command;
	bool is_command_given; /* by the user; else the provider's own */
	char *prompt;	       /* the text below the agent's head, or --prompt; may be NULL */
	struct plan_env *env;  /* the manifest's own, visible to the agent; placeholders included */
	size_t n_env;
	char **expose; /* host folders that the agent may read at the same path: mounted read-only,
			* or as they are at the start where nothing can be mounted */
	size_t n_expose;
	struct plan_limits limits;
	bool has_writable_root; /* the agent may change its root file system; else only its home */
	struct policy policy;
	struct git_policy git; /* with CLONE its remote 0 is "workspace" */
	enum plan_workspace workspace;
	char *workspace_path; /* of the repository's top level, of MOUNT the folder; resolved; NULL
			       * with NONE */
	struct plan_secret
		*secrets; /* number N is the credential N of routes' auth and of remotes */
	size_t n_secrets;
	char *canary;	/* planted in the bottle's files and environment */
	char **sources; /* the manifest files that were read, for the record */
	size_t n_sources;
	char *pinned;	     /* the bundle's address inside the wall */
	char *manifest_file; /* the bottle's own: absolute, without links */
	bool is_supervised;  /* the agent may ask, and a human decides */
	enum plan_on_canary on_canary;
	char *notify; /* a command line of the user's, for each new request, or PLAN_NOTIFY_DESKTOP;
			 may be NULL */
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
	/* --workspace: "clone", "mount" or "none", whatever the manifest says; NULL: as it says,
	 * else workspace_default, else CLONE inside a repository with a commit. */
	const char *workspace, *workspace_default;
	const char *workspace_folder; /* instead of cwd, for the workspace alone; NULL: cwd */
};

int plan_make(struct plan *out, const struct plan_options *opt, struct err *e) _fallible_;
void plan_free(struct plan *p);
/* For a human, and for scripts. Secrets appear as their reference; the canary as being there. */
int plan_print_text(const struct plan *p, struct buf *out) _fallible_;
int plan_print_json(const struct plan *p, struct buf *out) _fallible_;
/* Only what the bottle may reach, git included; needs no more than slug, policies, workspace and
 * secrets. */
int plan_print_network(const struct plan *p, struct buf *out) _fallible_;
/* One remote of that, indented; r need not be of p's own git policy. */
int plan_print_remote(const struct plan *p, const struct git_remote *r, struct buf *out) _fallible_;
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
 * bytes, printable ASCII, one trailing newline removed. A key: PLAN_KEY_MIN to PLAN_KEY_MAX bytes
 * of printable ASCII and newlines, PEM or openssh-key-v1, kept whole, not encrypted as far as its
 * first lines say. The caller wipes and frees. */
int plan_secret_fetch(const struct plan_secret *s, struct str *out, struct err *e) _fallible_;
#define PLAN_SECRET_MIN	       12
#define PLAN_SECRET_MAX	       2048
#define PLAN_KEY_MIN	       100
#define PLAN_KEY_MAX	       (16u << 10)
#define PLAN_SECRET_TIMEOUT_MS 30000 /* of a command; long enough for a touch of a key */
/* "env:NAME", "file:PATH", "command:LINE"; the caller frees. */
char *plan_secret_describe(const struct plan_secret *s);
void plan_secret_free(struct plan_secret *s);
const char *plan_workspace_name(enum plan_workspace w); /* "none", "clone", "mount" */
bool plan_workspace_parse(struct str name, enum plan_workspace *out)
	__attribute__((warn_unused_result));
const char *plan_on_canary_name(enum plan_on_canary c); /* "record", "pause", "stop" */
const char *plan_backend_name(enum plan_backend b);
int plan_backend_parse(struct str name, enum plan_backend *out, struct err *e) _fallible_;
