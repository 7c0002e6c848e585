#include "gitgate/seal.h"

#include "base/clean.h"
#include "gitgate/gitgate.h"
#include "priv/priv.h"

#define GITGATE_FILES_MAX     4096
#define GITGATE_PROCESSES_MAX 512
#define GITGATE_MEMORY_MAX    ((size_t)8 << 30) /* of each process; git maps whole packs */

int gitgate_seal(const struct bundle_role_env *env, const char *folder, struct err *e)
{
	const unsigned program = PRIV_READ | PRIV_EXECUTE | PRIV_OPTIONAL;
	const struct priv_limits limits = {
		.files = GITGATE_FILES_MAX,
		.address_space_bytes = priv_is_instrumented() ? 0 : GITGATE_MEMORY_MAX,
		.file_size_bytes = GITGATE_STORE_MAX_BYTES,
		.processes = GITGATE_PROCESSES_MAX,
	};
	/* git and what it is linked with; its own folder with the hook. No /etc but the loader's
	 * list, no /proc, no home. */
	const struct priv_path paths[] = {
		{"/usr", program},
		{"/lib", program},
		{"/lib64", program},
		{"/bin", program},
		{"/etc/ld.so.cache", PRIV_READ | PRIV_OPTIONAL},
		{"/dev/null", PRIV_READ | PRIV_WRITE},
		{"/dev/urandom", PRIV_READ | PRIV_OPTIONAL}, /* names of temporary files */
		{folder, PRIV_READ | PRIV_EXECUTE | PRIV_WRITE | PRIV_MANAGE},
	};

	return bundle_role_seal_paths(env, &limits, paths, ARRAY_LEN(paths), false,
				      PRIV_SECCOMP_PASS_FD | PRIV_SECCOMP_ACCEPT |
					      PRIV_SECCOMP_FORK | PRIV_SECCOMP_EXEC,
				      e);
}
