#include "image/bootstrap.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>

#define BOOTSTRAP_MORE	  2
#define BOOTSTRAP_LAST	  2 /* the suite and the target, behind all options */
#define BOOTSTRAP_SETTLE  "CLAUDE_BOTTLE_SETTLE"
#define BOOTSTRAP_NO_MODE "unable to pick chroot mode"

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

/* As apt's option wants it. */
static char *include_option(const char *packages)
{
	char *option = mem_printf("--include=%s", packages);

	for (char *p = option; *p; p++) {
		if (*p == ' ' || *p == '\n')
			*p = p[1] ? ',' : '\0';
	}
	return option;
}

int bootstrap_start(struct tool_run *r, const char *packages, const char *settle, int out_fd,
		    struct err *e)
{
	size_t last = ARRAY_LEN(bootstrap_recipe) - 1 - BOOTSTRAP_LAST, n = 0, n_env = 0;
	const char *argv[ARRAY_LEN(bootstrap_recipe) + BOOTSTRAP_MORE];
	_cleanup_free_ char *include = packages ? include_option(packages) : NULL;
	char *env[ARRAY_LEN(env_names) + 2] = {NULL};
	int ret;

	for (size_t i = 0; i < last; i++)
		argv[n++] = bootstrap_recipe[i];
	if (include)
		argv[n++] = include;
	if (settle) {
		argv[n++] = "--customize-hook=chroot \"$1\" sh -c \"$" BOOTSTRAP_SETTLE "\"";
		env[n_env++] = mem_printf(BOOTSTRAP_SETTLE "=%s", settle);
	}
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

int bootstrap_end(struct tool_run *r, bool must_die, struct err *e)
{
	struct err own = ERR_INIT;
	int ret = tool_end(r, must_die, &own);

	if (ret < 0 && strstr(own.text, BOOTSTRAP_NO_MODE))
		return err_set(
			e, -EPERM,
			"mmdebstrap cannot make a tree as an ordinary user here: it needs "
			"newuidmap (package uidmap), a line for this user in /etc/subuid and "
			"/etc/subgid (\"usermod --add-subuids 100000-165535 --add-subgids "
			"100000-165535 USER\"), and user namespaces");
	if (ret < 0 && e)
		*e = own;
	return ret;
}
