/* Between the files that make a plan. */
#pragma once

#include "conf/manifest.h"

/* Providers: what is run, and what its program expects in its environment. None adds a route: what
 * may be reached is only what the manifest says. */
struct plan_provider {
	const char *name;
	/* Variables for the agent, unless the manifest sets them; ends with a NULL name. */
	const struct plan_env_default {
		const char *name, *value;
	} * env;
	/* Where the program looks for its key, by host and scheme, when auth.env is absent. */
	const struct plan_key_default {
		const char *host;
		enum policy_auth_scheme scheme;
		const char *env;
	} * keys; /* ends with a NULL host */
};

const struct plan_provider *plan_provider_find(const char *name);
/* Fills p->command from the provider, the agent's head and the prompt. */
void plan_provider_command(struct plan *p, const struct manifest_agent *agent,
			   const struct plan_options *opt);
void plan_add_env(struct plan *p, const char *name, const char *value);
const char *plan_get_env(const struct plan *p, const char *name);
void plan_warn(struct plan *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* n characters of the alphabet, each equally likely, and a NUL. */
int plan_random_text(char *out, size_t n, const char *alphabet, struct err *e) _fallible_;
/* The credential's number: one for each place where a secret is found. Takes s when it is new. */
int plan_add_secret(struct plan *p, struct plan_secret *s, unsigned line, unsigned column,
		    unsigned *credential, struct err *e) _fallible_;
int plan_make_placeholder(char **out, struct err *e) _fallible_;
/* p->workspace and its path, from the options, the manifest and the folder. */
int plan_fill_workspace(struct plan *p, const struct manifest_bottle *b,
			const struct plan_options *opt, struct err *e) _fallible_;
/* Workspace, remotes and identity, for a human; nothing where there are none. */
int plan_print_git(const struct plan *plan, struct buf *out) _fallible_;
/* p->git out of the manifest's remotes, the workspace first, after plan_fill_workspace(). */
int plan_fill_git(struct plan *p, struct manifest_bottle *b, struct err *e) _fallible_;
