#include "image/bootstrap.h"

#include "base/buf.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#define BOOTSTRAP_MORE	  2
#define BOOTSTRAP_LAST	  2 /* the suite and the target, behind all options */
#define BOOTSTRAP_SETTLE  "CLAUDE_BOTTLE_SETTLE"
#define BOOTSTRAP_NO_MODE "unable to pick chroot mode"

#define BOOTSTRAP_SCRATCH_MAX 512
#define BOOTSTRAP_RANGES_MAX  (1u << 20)
#define BOOTSTRAP_FIRST_UID   100000 /* as login.defs(5) has it */
#define BOOTSTRAP_UIDS	      65536

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
static const char *const env_names[] = {"PATH",	       "HOME",	    "USER",	  "http_proxy",
					"https_proxy", "no_proxy",  "HTTP_PROXY", "HTTPS_PROXY",
					"NO_PROXY",    "APT_CONFIG"};

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

/* mmdebstrap's folder for temporary files, of which it leaves some when it is ended early. Its tree
 * lies in there, and in its user namespace it must be able to walk to it. */
static int make_scratch(char *path, size_t size, struct err *e)
{
	const char *tmp = getenv("TMPDIR");

	if (!tmp || tmp[0] != '/')
		tmp = "/tmp";
	if ((size_t)snprintf(path, size, "%s/claude-bottle-image-XXXXXX", tmp) >= size)
		return err_set(e, -ENAMETOOLONG, "TMPDIR is too long");
	if (!mkdtemp(path) || chmod(path, 0711) < 0)
		return err_errno(e, "make a folder in \"%s\" (TMPDIR)", tmp);
	return 0;
}

int bootstrap_start(struct tool_run *r, const char *packages, const char *settle, int out_fd,
		    struct err *e)
{
	size_t last = ARRAY_LEN(bootstrap_recipe) - 1 - BOOTSTRAP_LAST, n = 0, n_env = 0;
	const char *argv[ARRAY_LEN(bootstrap_recipe) + BOOTSTRAP_MORE];
	_cleanup_free_ char *include = packages ? include_option(packages) : NULL;
	char *env[ARRAY_LEN(env_names) + 3] = {NULL};
	char scratch[BOOTSTRAP_SCRATCH_MAX];
	int ret = make_scratch(scratch, sizeof(scratch), e);

	if (ret < 0)
		return ret;
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
	env[n_env++] = mem_printf("TMPDIR=%s", scratch);
	ret = tool_start(r,
			 &(struct tool){.argv = argv,
					.package = "mmdebstrap",
					.env = env,
					.scratch = scratch,
					.in_fd = -1,
					.out_fd = out_fd,
					.file_fd = -1},
			 e);
	for (size_t i = 0; i < n_env; i++)
		free(env[i]);
	/* Else its guard has it. */
	if (ret < 0)
		(void)rmdir(scratch);
	return ret;
}

/* --- what an ordinary user needs --- */

/* A line of subuid(5): "NAME:FIRST:COUNT", NAME being a name or a number. */
static bool read_range(struct str line, struct str *name, uint64_t *end)
{
	uint64_t first, count;
	struct str part;
	bool found;

	line = str_cut(line, ':', name, &found);
	line = str_cut(line, ':', &part, &found);
	if (!found || str_to_u64(part, UINT32_MAX, &first) < 0 ||
	    str_to_u64(str_trim(line), UINT32_MAX, &count) < 0 || count == 0)
		return false;
	*end = first + count;
	return true;
}

/* Whether this user has a range there; *free: past all of them. */
static bool has_range(const char *path, const struct passwd *user, uint64_t *free)
{
	_cleanup_free_ char *number = mem_printf("%u", (unsigned)user->pw_uid), *text = NULL;
	struct str rest, line, name;
	bool found = true, is_there = false;
	uint64_t end;

	if (io_read_file(AT_FDCWD, path, BOOTSTRAP_RANGES_MAX, &rest, NULL) < 0)
		return false;
	text = (char *)(uintptr_t)rest.p;
	while (found) {
		rest = str_cut(rest, '\n', &line, &found);
		if (!read_range(line, &name, &end))
			continue;
		if (end > *free)
			*free = end;
		is_there = is_there || str_eq(name, str_of(user->pw_name)) ||
			   str_eq(name, str_of(number));
	}
	return is_there;
}

/* What root has to do, as commands; false: nothing. etc: "/etc". */
static bool find_lacks(struct buf *out, const char *etc, const struct passwd *user, bool has_tools)
{
	static const char *const kinds[] = {"uid", "gid"};
	uint64_t free = BOOTSTRAP_FIRST_UID;
	bool lacks[ARRAY_LEN(kinds)];
	int ret = 0;

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		_cleanup_free_ char *path = mem_printf("%s/sub%s", etc, kinds[i]);

		lacks[i] = !has_range(path, user, &free);
	}
	if (!has_tools)
		ret |= buf_printf(out, "apt-get install uidmap");
	if (lacks[0] || lacks[1])
		ret |= buf_printf(out, "%susermod", has_tools ? "" : " && ");
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (lacks[i])
			ret |= buf_printf(out, " --add-sub%ss %" PRIu64 "-%" PRIu64, kinds[i], free,
					  free + BOOTSTRAP_UIDS - 1);
	}
	if (lacks[0] || lacks[1])
		ret |= buf_printf(out, " %.64s", user->pw_name);
	return ret == 0 && buf_len(out) > 0;
}

static int refuse(const char *what, struct err *e)
{
	return err_set(e, -EPERM, "mmdebstrap cannot make an image as an ordinary user here: %s",
		       what);
}

int bootstrap_check(struct err *e)
{
	_cleanup_(buf_free) struct buf lacks = BUF_INIT(ERR_TEXT_MAX);
	bool has_tools = tool_find("newuidmap") && tool_find("newgidmap");
	const struct passwd *user = getpwuid(geteuid());
	_cleanup_free_ char *text = NULL;

	/* With fakechroot it needs no other uid. */
	if (geteuid() == 0 || (tool_find("fakechroot") && tool_find("fakeroot")))
		return 0;
	if (!user)
		return refuse("this user has no name (/etc/passwd), and so no further uids", e);
	if (!find_lacks(&lacks, "/etc", user, has_tools))
		return 0;
	text = mem_printf("as root: " STR_FMT, STR_ARG(buf_str(&lacks)));
	return refuse(text, e);
}

int bootstrap_end(struct tool_run *r, bool must_die, struct err *e)
{
	struct err own = ERR_INIT;
	int ret = tool_end(r, must_die, &own);

	if (ret < 0 && strstr(own.text, BOOTSTRAP_NO_MODE)) {
		ret = bootstrap_check(e);
		return ret < 0 ? ret
			       : refuse("user namespaces are refused to it (sysctl "
					"user.max_user_namespaces, "
					"kernel.unprivileged_userns_clone)",
					e);
	}
	if (ret < 0 && e)
		*e = own;
	return ret;
}
