/*
 * Manifests: `~/.claude-bottle/bottles/NAME.md` and `agents/NAME.md`, and for agents also
 * `./.claude-bottle/agents/NAME.md`. docs/MANIFEST.md is the reference of all keys.
 *
 * The home's files are the user's word and must be writable by nobody else. The current folder may
 * be a stranger's repository: it may bring agents, which choose among the home's bottles, and
 * nothing else of it is read.
 */
#pragma once

#include "conf/plan.h"
#include "conf/schema.h"

#define MANIFEST_NAME_MAX      40
#define MANIFEST_EXTENDS_MAX   8
#define MANIFEST_ENV_MAX       128
#define MANIFEST_ENV_VALUE_MAX 32768
#define MANIFEST_EXPOSE_MAX    64
#define MANIFEST_AGENTS_MAX    1024

/* A route and what the plan needs to make its credential. */
struct manifest_route {
	struct policy_route route; /* without placeholder and credential number */
	struct plan_secret secret; /* set when route.auth.scheme is not NONE */
	char *env;		   /* auth.env; NULL: the provider's */
	unsigned line, column;	   /* of the auth, else of the route */
};

/* A remote and what the plan needs to make its credential. */
struct manifest_remote {
	struct git_remote remote;  /* without placeholder and credential number */
	struct plan_secret secret; /* set when remote.has_credential */
	unsigned line, column;
};

struct manifest_git {
	struct manifest_remote *remotes;
	size_t n_remotes, cap_remotes;
	struct git_remote workspace; /* what may be done to the host's own repository */
	bool says_workspace;
	char *user_name, *user_email;
	bool enforces_identity, says_enforce;
};

struct manifest_supervise {
	bool is_on;
	enum plan_on_canary on_canary;
	char *notify; /* NULL: not said */
};

struct manifest_bottle {
	char *provider; /* NULL: not said */
	char *image;	/* NULL: not said */
	enum plan_backend backend;
	struct plan_env *env;
	size_t n_env, cap_env;
	char **expose;
	size_t n_expose, cap_expose;
	struct plan_limits limits;
	bool has_writable_root;
	struct manifest_route *routes;
	size_t n_routes, cap_routes;
	struct policy_resolve *resolve;
	size_t n_resolve, cap_resolve;
	struct sockaddr_storage dns[POLICY_DNS_MAX];
	size_t n_dns;
	char *ca_pem;
	bool wants_canary;
	struct manifest_supervise supervise;
	struct manifest_git git;
	enum plan_workspace workspace;
	bool says_workspace;
	char **sources; /* the files read, base first */
	size_t n_sources, cap_sources;
};

struct manifest_agent {
	char *name, *bottle, *description, *file;
	char *model, *tools, *disallowed_tools, *permission_mode; /* passed on; may be NULL */
	char *prompt; /* the text below the head, or NULL */
	char *note;   /* for the human, or NULL: another file of the same name was not used */
};

bool manifest_name_is_valid(struct str name);
/* A bottle of the home with all that it extends. */
int manifest_load_bottle(struct manifest_bottle *out, const char *home, const char *name,
			 struct err *e) _fallible_;
void manifest_bottle_free(struct manifest_bottle *b);
/* The home's agent of that name, else the current folder's. */
int manifest_load_agent(struct manifest_agent *out, const char *home, const char *cwd,
			const char *name, struct err *e) _fallible_;
void manifest_agent_free(struct manifest_agent *a);

/* --- between the files of this module --- */

/* One file's head into what its bases left; extends is the caller's. */
int manifest_read_bottle(struct schema_ctx *c, const struct yaml_node *root,
			 struct manifest_bottle *out) _fallible_;
int manifest_read_agent(struct schema_ctx *c, const struct yaml_node *root,
			struct manifest_agent *out) _fallible_;
/* An item of egress.routes. */
int manifest_read_route(struct schema_ctx *c, const struct yaml_node *n, void *bottle) _fallible_;
void manifest_route_free(struct manifest_route *r);
/* env:NAME, file:PATH or command:LINE; what is the key's name. */
int manifest_read_reference(struct schema_ctx *c, const struct yaml_node *n, const char *what,
			    struct plan_secret *out) _fallible_;
/* The mapping "git". */
int manifest_read_git(struct schema_ctx *c, const struct yaml_node *n, void *bottle) _fallible_;
void manifest_git_init(struct manifest_git *g); /* the workspace's defaults */
void manifest_git_free(struct manifest_git *g);
/* "supervise": all of it replaces what the bases said. */
int manifest_read_supervise(struct schema_ctx *c, const struct yaml_node *n,
			    void *bottle) _fallible_;
void manifest_supervise_free(struct manifest_supervise *s);
/* Of the whole bottle: no route wants a human where none is asked. */
int manifest_check_supervise(const struct manifest_bottle *b, struct err *e) _fallible_;
/* A folder that may be shown to the agent, resolved; the caller frees. */
int manifest_read_expose(struct schema_ctx *c, const struct yaml_node *n, char **out) _fallible_;
/* The path of a root file system's archive, absolute; the caller frees. */
int manifest_read_tar(struct schema_ctx *c, const struct yaml_node *n, char **out) _fallible_;
/* egress.ca: the certificates of a PEM file, and nothing else. */
int manifest_read_ca(struct schema_ctx *c, const struct yaml_node *n, char **out) _fallible_;
