/* A provider's root file system, made on this host without any engine, of what the images of one
 * are made of (images/). */
#include "vm/image_int.h"

#include "base/io.h"
#include "base/mem.h"
#include "image/bootstrap.h"
#include "image/host.h"
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define MAKE_BIN	  "usr/local/bin"
#define MAKE_TICK_MS	  1000
#define MAKE_BOOTSTRAP_MS (60 * 60 * 1000)
#define MAKE_FETCH_MS	  (30 * 60 * 1000)

/* True: it has ended. What it says is shown meanwhile. */
static bool watch(const struct vm_source *s, const struct tool_run *r, int timeout_ms)
{
	char said[160];

	for (int ms = 0; ms < timeout_ms; ms += MAKE_TICK_MS) {
		if (tool_wait(r, MAKE_TICK_MS))
			return true;
		tool_said(r, said, sizeof(said));
		if (said[0])
			progress_tell(s->progress, VM_IMAGE_STEP, said, 0, 0);
	}
	return false;
}

int vm_image_bootstrap(const struct vm_source *s, int fd, struct err *e)
{
	struct tool_run run;
	bool has_ended;
	int ret;

	progress_tell(s->progress, VM_IMAGE_STEP, "from Debian's archive with mmdebstrap", 0, 0);
	ret = bootstrap_start(&run, image_file(IMAGE_SHELL, "packages"),
			      image_file(IMAGE_SHELL, "settle"), fd, e);
	if (ret < 0)
		return ret;
	has_ended = watch(s, &run, MAKE_BOOTSTRAP_MS);
	ret = bootstrap_end(&run, !has_ended, e);
	return has_ended ? ret : err_set(e, -ETIMEDOUT, "mmdebstrap does not end");
}

/* --- the provider's executable --- */

static int write_inputs(int folder, enum image_kind kind, struct err *e)
{
	static const char *const names[] = {"fetch", "fetch-package"};
	_cleanup_(buf_free) struct buf ca;
	int ret = image_host_ca(&ca, e);

	if (ret == 0)
		ret = io_write_file_atomic(folder, IMAGE_HOST_CA, buf_str(&ca), 0600, e);
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(names); i++)
		ret = io_write_file_atomic(folder, names[i], str_of(image_file(kind, names[i])),
					   0600, e);
	return ret;
}

/* What curl and npm go by, and no more. */
static char **fetch_env(void)
{
	static const char *const names[] = {"HOME",
					    "http_proxy",
					    "https_proxy",
					    "no_proxy",
					    "HTTP_PROXY",
					    "HTTPS_PROXY",
					    "NO_PROXY",
					    "npm_config_userconfig",
					    "NPM_CONFIG_USERCONFIG"};
	char **env = mem_zalloc_array(ARRAY_LEN(names) + 4, sizeof(*env));
	char registry[IMAGE_URL_MAX];
	size_t n = 0;

	env[n++] = mem_strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
	env[n++] = mem_strdup("LC_ALL=C");
	if (image_host_registry(registry))
		env[n++] = mem_printf("NPM_REGISTRY=%s", registry);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *value = getenv(names[i]);

		if (value)
			env[n++] = mem_printf("%s=%s", names[i], value);
	}
	return env;
}

static void env_free(char ***env)
{
	for (size_t i = 0; (*env)[i]; i++)
		free((*env)[i]);
	free(*env);
}

static int fetch(const struct vm_source *s, const char *folder, struct err *e)
{
	/* By its path: what has no slash is looked for in the user's PATH, from that folder. */
	static const char *const argv[] = {"/bin/sh", "./fetch", NULL};
	_cleanup_(env_free) char **env = fetch_env();
	struct tool_run run;
	bool has_ended;
	int ret;

	if (!vm_tool_find("curl"))
		return err_set(e, -ENOENT, "curl is not installed (package curl)");
	progress_tell(s->progress, VM_IMAGE_STEP, "the provider's executable", 0, 0);
	ret = tool_start(&run,
			 &(struct tool){.argv = argv,
					.package = "dash",
					.env = env,
					.folder = folder,
					.in_fd = -1,
					.out_fd = -1,
					.file_fd = -1},
			 e);
	if (ret < 0)
		return ret;
	has_ended = watch(s, &run, MAKE_FETCH_MS);
	ret = tool_end(&run, !has_ended, e);
	if (!has_ended)
		ret = err_set(e, -ETIMEDOUT, "it does not end");
	return ret < 0 ? err_prefix(e, "fetch the executable of \"%s\"", s->provider), ret : 0;
}

/* The tree of one file that goes on top. */
static int lay_out(int folder, const char *provider, struct err *e)
{
	_cleanup_free_ char *to = mem_printf(MAKE_BIN "/%s", provider);

	if (mkdirat(folder, "usr", 0755) < 0 || mkdirat(folder, "usr/local", 0755) < 0 ||
	    mkdirat(folder, MAKE_BIN, 0755) < 0 || fchmodat(folder, provider, 0755, 0) < 0 ||
	    renameat(folder, provider, folder, to) < 0)
		return err_errno(e, "put the executable of \"%s\" in its place", provider);
	return 0;
}

static int copy_below(const char *tar, int fd, struct err *e)
{
	_cleanup_close_ int in = open(tar, O_RDONLY | O_CLOEXEC);
	ssize_t n = 1;

	if (in < 0)
		return err_errno(e, "open \"%s\"", tar);
	while (n > 0) {
		n = sendfile(fd, in, NULL, 1u << 30);
		if (n < 0 && errno == EINTR)
			n = 1;
	}
	return n < 0 ? err_errno(e, "copy \"%s\"", tar) : 0;
}

static int append(const struct vm_source *s, const char *folder, int fd, struct err *e)
{
	_cleanup_free_ char *file = mem_printf(MAKE_BIN "/%s", s->provider);
	const char *const argv[] = {"tar",	   "--append",	"--file=" TOOL_FILE,
				    "--owner=0",   "--group=0", "--numeric-owner",
				    "--directory", folder,	file,
				    NULL};

	return vm_tool_do(argv, -1, fd, e);
}

static int add_agent(const struct vm_source *s, int folder, int fd, struct err *e)
{
	enum image_kind kind;
	char path[48];
	int ret;

	if (!image_kind_parse(str_of(s->provider), &kind) || !image_file(kind, "fetch"))
		return err_set(e, -EINVAL, "no image for the provider \"%s\"", s->provider);
	/* The tools have the folder as this process has it open. */
	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), folder);
	ret = write_inputs(folder, kind, e);
	if (ret == 0)
		ret = fetch(s, path, e);
	if (ret == 0)
		ret = lay_out(folder, s->provider, e);
	if (ret == 0)
		ret = copy_below(s->tar, fd, e);
	return ret == 0 ? append(s, path, fd, e) : ret;
}

int vm_image_add_agent(const struct vm_source *s, int fd, struct err *e)
{
	_cleanup_close_ int folder = -1;
	int ret = io_remove_tree(s->folder, VM_FETCHING, e);

	if (ret < 0)
		return ret;
	if (mkdirat(s->folder, VM_FETCHING, 0700) < 0)
		return err_errno(e, "make a folder in the cache");
	folder = openat(s->folder, VM_FETCHING, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret = folder < 0 ? err_errno(e, "open a folder of the cache") : add_agent(s, folder, fd, e);
	(void)!io_remove_tree(s->folder, VM_FETCHING, NULL);
	return ret;
}
