/*
 * C11: the key of the bottle's authority. The agent is given the certificate, so any private key
 * that it finds can be tried against it. In the control that authority is the canary's, whose key
 * lies beside its certificate, in the environment and in memory.
 */
#include "probe/probe.h"

#include "probe/probe_ca.h"
#include "probe/search.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <fcntl.h>

static bool has_key(const char *p, size_t n, const void *ctx)
{
	return probe_ca_key_in(ctx, p, n);
}

/* One authority for each bottle: a sibling's could speak for this one's hosts. */
static void compare_sibling(const struct probe_env *env, const char *id)
{
	char own[65];

	if (!probe_ca_digest(env, own) || !(env->is_control || env->sibling_ca))
		probe_skip(id, "sibling", "no other bottle's authority is known");
	else
		probe_report(id, "sibling", "",
			     env->is_control || strcmp(own, env->sibling_ca) == 0, 0,
			     "the other bottle's authority");
}

static void run_c11(const struct probe_env *env, const char *id)
{
	X509 *ca = probe_ca_read(env);
	struct search s = {.has = has_key, .ctx = ca};
	struct str planted = STR_NULL;

	if (!ca) {
		probe_skip(id, "search", "the bottle was given no authority");
		return;
	}
	if (env->is_control) {
		_cleanup_free_ char *path = mem_printf("%s.key", env->ca);

		(void)!io_read_file(AT_FDCWD, path, 16384, &planted, NULL);
	}
	search_all(env, id, &s);
	compare_sibling(env, id);
	free((char *)(uintptr_t)planted.p);
	X509_free(ca);
}

const struct probe probes_key[] = {{"C11", run_c11}};
const size_t n_probes_key = ARRAY_LEN(probes_key);
