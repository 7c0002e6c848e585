#include "image/bootstrap.h"

#include "base/clean.h"
#include "base/mem.h"

#define BOOTSTRAP_MORE_MAX 16
#define BOOTSTRAP_LAST	   2 /* the suite and the target, behind all options */

/* As debian:bookworm-slim has it: no manuals. mmdebstrap copies the host's resolv.conf and hostname
 * into what it makes; an image must not tell them. */
const char *const bootstrap_recipe[] = {
	"mmdebstrap",
	"--variant=minbase",
	"--format=tar",
	"--dpkgopt=path-exclude=/usr/share/man/*",
	"--dpkgopt=path-exclude=/usr/share/doc/*",
	"--dpkgopt=path-include=/usr/share/doc/*/copyright",
	"--dpkgopt=path-exclude=/usr/share/info/*",
	"--dpkgopt=path-exclude=/usr/share/locale/*",
	"--customize-hook=rm -f \"$1/etc/resolv.conf\" \"$1/etc/hostname\"",
	"bookworm",
	"-",
	NULL,
};

/* What mmdebstrap and apt go by. The rest, in which a user's keys may be, is no business of the
 * scripts of packages. */
static const char *const env_names[] = {"PATH",	       "HOME",	      "USER",	   "TMPDIR",
					"http_proxy",  "https_proxy", "no_proxy",  "HTTP_PROXY",
					"HTTPS_PROXY", "NO_PROXY",    "APT_CONFIG"};

int bootstrap_start(struct tool_run *r, const char *const *more, int out_fd, struct err *e)
{
	const char *argv[ARRAY_LEN(bootstrap_recipe) + BOOTSTRAP_MORE_MAX];
	char *env[ARRAY_LEN(env_names) + 1] = {NULL};
	size_t last = ARRAY_LEN(bootstrap_recipe) - 1 - BOOTSTRAP_LAST, n = 0, n_env = 0;
	int ret;

	for (size_t i = 0; i < last; i++)
		argv[n++] = bootstrap_recipe[i];
	for (size_t i = 0; more && more[i] && i < BOOTSTRAP_MORE_MAX; i++)
		argv[n++] = more[i];
	for (size_t i = last; i < ARRAY_LEN(bootstrap_recipe); i++)
		argv[n++] = bootstrap_recipe[i];
	for (size_t i = 0; i < ARRAY_LEN(env_names); i++) {
		const char *value = getenv(env_names[i]);

		if (value)
			env[n_env++] = mem_printf("%s=%s", env_names[i], value);
	}
	ret = tool_start(r,
			 &(struct tool){.argv = argv,
					.package = "mmdebstrap",
					.env = env,
					.in_fd = -1,
					.out_fd = out_fd,
					.file_fd = -1},
			 e);
	for (size_t i = 0; i < n_env; i++)
		free(env[i]);
	return ret;
}
