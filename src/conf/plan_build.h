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
