/*
 * From a plan to a guest that waits. Everything of the bottle's in smolvm is made of one Smolfile,
 * in a home of this bottle's own: nothing of the user's own machines is seen or touched, and what
 * is removed with the folder is all that there was.
 */
#include "backend/smolmachines/smol_int.h"

#include "backend/agent_env.h"
#include "backend/agent_home.h"
#include "backend/smolmachines/smolfile.h"
#include "base/child.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/ports.h"
#include "base/timeutil.h"
#include "bundle/program.h"
#include "guest/guest.h"
#include "registry/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAKE_CREATE_MS	    20000
#define MAKE_START_MS	    180000 /* the image is fetched meanwhile */
#define MAKE_ANSWER_MS	    60000
#define MAKE_TRY_MS	    5000
#define MAKE_PAUSE_MS	    50
#define MAKE_PLACE_MS	    15000
#define MAKE_CPUS_MAX	    255
#define MAKE_MEMORY_MIN_MIB 256
#define MAKE_ETC_MAX	    (4u << 20)
#define MAKE_PLACE	    "place.json"
#define MAKE_SMOLFILE	    "Smolfile"
#define MAKE_ROOTFS	    ".local/share/smolvm/agent-rootfs"

/* --- folders --- */

/* What an earlier run's tool left is the agent's by now: it is removed, not entered. */
static int make_folders(struct bottle *b, struct err *e)
{
	_cleanup_close_ int state = open(b->walled.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int home = -1;
	int ret;

	if (state < 0)
		return err_errno(e, "open the state folder");
	ret = io_remove_tree(state, SMOL_HOME_FOLDER, e);
	if (ret == 0)
		ret = io_remove_tree(state, SMOL_IN_FOLDER, e);
	if (ret < 0)
		return ret;
	if (mkdirat(state, SMOL_IN_FOLDER, 0755) < 0)
		return err_errno(e, "make \"%s\"", b->in);
	b->cli.in_fd = openat(state, SMOL_IN_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (b->cli.in_fd < 0 || fchmod(b->cli.in_fd, 0755) < 0)
		return err_errno(e, "open \"%s\"", b->in);
	home = agent_home_open(b->home, b->walled.wall.uid, b->walled.wall.gid, e);
	return home < 0 ? home : 0;
}

/* Where something is mounted below the home, the folders are the cell's too. */
static int make_mount_point(const struct bottle *b, struct err *e)
{
	_cleanup_free_ char *path = NULL;
	struct str rest = STR_LIT(MAKE_ROOTFS);
	bool more = b->install.rootfs[0] != '\0';

	path = mem_strdup(b->home);
	while (more) {
		_cleanup_free_ char *parent = path;
		_cleanup_close_ int fd = -1;
		struct str part;

		rest = str_cut(rest, '/', &part, &more);
		path = mem_printf("%s/" STR_FMT, parent, STR_ARG(part));
		fd = agent_home_open(path, b->walled.wall.uid, b->walled.wall.gid, e);
		if (fd < 0)
			return fd;
	}
	return 0;
}

/* --- the registry --- */

static _Noreturn void registry_child(int bundle, const struct bottle *b, const struct vm_oci *o,
				     pid_t parent)
{
	static const char *const kinds[] = {[VM_OCI_MANIFEST] = "manifest",
					    [VM_OCI_CONFIG] = "config",
					    [VM_OCI_ROOT] = "layer",
					    [VM_OCI_PROGRAM] = "layer"};
	char *argv[6 + VM_OCI_COUNT + 1], *const env[] = {NULL};
	int listener = b->walled.wall.registry_fd;
	size_t n = 0;
	sigset_t none;

	argv[n++] = mem_strdup(BUNDLE_PROGRAM);
	argv[n++] = mem_strdup("registry");
	argv[n++] = mem_printf("listen=%d", listener);
	if (b->registry_uid > 0)
		argv[n++] = mem_printf("uid=%u", b->registry_uid);
	argv[n++] = mem_strdup(REGISTRY_NAME);
	argv[n++] = mem_strdup(REGISTRY_TAG);
	for (size_t i = 0; i < VM_OCI_COUNT; i++) {
		if (io_set_cloexec(o->blobs[i].fd, false) < 0)
			_exit(127);
		argv[n++] = mem_printf("%s=%d,%s,%llu", kinds[i], o->blobs[i].fd,
				       o->blobs[i].digest, (unsigned long long)o->blobs[i].size);
	}
	argv[n] = NULL;
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (io_set_cloexec(listener, false) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
	    getppid() != parent)
		_exit(127);
	bundle_exec(bundle, argv, env);
}

static int make_registry(struct bottle *b, const struct vm_oci *o, struct err *e)
{
	_cleanup_close_ int bundle = bundle_find(e);
	pid_t parent = getpid();

	if (bundle < 0)
		return bundle;
	b->registry = fork();
	if (b->registry == 0)
		registry_child(bundle, b, o, parent);
	if (b->registry < 0) {
		b->registry = 0;
		return err_errno(e, "fork");
	}
	return 0;
}

/* The port is closed with its last descriptor. */
void smol_end_registry(struct bottle *b)
{
	close_fd(&b->walled.wall.registry_fd);
	child_end(&b->registry);
}

/* --- the Smolfile --- */

static unsigned make_cpus(const struct plan_limits *l)
{
	uint64_t cpus = (l->cpu_milli + 999) / 1000;

	return (unsigned)(cpus > MAKE_CPUS_MAX ? MAKE_CPUS_MAX : cpus);
}

static unsigned make_memory(const struct plan_limits *l)
{
	uint64_t mib = l->memory_bytes >> 20;

	if (l->memory_bytes == 0)
		return 0;
	return (unsigned)(mib < MAKE_MEMORY_MIN_MIB ? MAKE_MEMORY_MIN_MIB
			  : mib > UINT32_MAX	    ? UINT32_MAX
						    : mib);
}

/* By digest: what the guest fetches is this image, or nothing. */
static int make_smolfile(const struct bottle *b, const char *digest, struct err *e)
{
	static const char *const entrypoint[] = {GUEST_BUNDLE, NULL};
	static const char *const cmd[] = {"guest", "wait", NULL};
	static const char *const env[] = {"LANG=C.UTF-8", NULL};
	_cleanup_free_ char *image = mem_printf("%s:%d/" REGISTRY_NAME "@%s", b->walled.wall.pinned,
						SERVICE_PORT_REGISTRY, digest);
	_cleanup_free_ char *cidr = mem_printf("%s/32", b->walled.wall.pinned);
	const char *const cidrs[] = {cidr, NULL};
	const struct smolfile f = {.image = image,
				   .entrypoint = entrypoint,
				   .cmd = cmd,
				   .env = env,
				   .cpus = make_cpus(&b->plan->limits),
				   .memory_mib = make_memory(&b->plan->limits),
				   .allow_cidrs = cidrs};
	_cleanup_(buf_free) struct buf text = BUF_INIT(SMOLFILE_MAX);
	int ret = smolfile_render(&f, &text, e);

	return ret < 0 ? ret : smol_write(&b->cli, MAKE_SMOLFILE, buf_str(&text), e);
}

static int make_image(struct bottle *b, struct err *e)
{
	struct vm_image image;
	struct vm_oci oci;
	int ret = vm_image_find(b->plan->provider, b->plan->image, VM_IMAGE_TAR, &image, e);

	if (ret == 0)
		ret = vm_use(image.key, &b->use_fd, e);
	if (ret < 0)
		return ret;
	ret = vm_oci_make(&image, &oci, e);
	if (ret < 0)
		return ret;
	ret = make_smolfile(b, oci.blobs[VM_OCI_MANIFEST].digest, e);
	if (ret == 0)
		ret = make_registry(b, &oci, e);
	vm_oci_free(&oci);
	return ret;
}

int smol_make(struct bottle *b, struct err *e)
{
	_cleanup_free_ char *kvm = mem_printf("%s/kvm", b->in);
	const struct smol_folders f = {.home = b->home, .in = b->in, .kvm = kvm};
	int ret = make_folders(b, e);

	if (ret == 0)
		ret = make_mount_point(b, e);
	if (ret == 0)
		ret = smol_cell_make(&b->cell, &b->install, &b->walled, b->plan->slug, &f, e);
	b->cli.cell = &b->cell;
	b->cli.program = b->install.program;
	b->cli.uid = b->walled.wall.uid;
	b->cli.gid = b->walled.wall.gid;
	if (ret == 0)
		ret = smol_cli_open(&b->cli, e);
	return ret < 0 ? ret : make_image(b, e);
}

/* --- the machine --- */

/* What it has made of the Smolfile, as far as it says. */
static int boot_read_back(const struct bottle *b, struct err *e)
{
	const struct dialect_args a = {.name = b->cli.name};
	struct str said;
	const char *wrong = NULL;
	int ret = smol_call(&b->cli, DIALECT_STATUS, &a, MAKE_CREATE_MS, &said, e);

	if (ret < 0)
		return ret;
	if (smol_denies(said, "ports", "0"))
		wrong = "publishes ports";
	else if (smol_denies(said, "mounts", "0"))
		wrong = "shares folders of this host";
	else if (smol_denies(said, "network", "true"))
		wrong = "has no network";
	free((void *)(uintptr_t)said.p);
	return wrong ? err_set(e, -ENOTUNIQ, "smolvm has made a machine that %s", wrong) : 0;
}

/* A command right after the start may be killed, and be so several times. */
static int boot_await(const struct bottle *b, struct err *e)
{
	static const char *const version[] = {GUEST_BUNDLE, "version", NULL};
	uint64_t until_ns = time_monotonic_ns() + MAKE_ANSWER_MS * TIME_NS_PER_MS;

	for (;;) {
		struct str said = STR_NULL;
		struct str ours = STR_LIT(BUNDLE_PROGRAM " " CLAUDE_BOTTLE_VERSION "\n");
		int ret = smol_exec(&b->cli, version, MAKE_TRY_MS, &said, e);
		bool is_ours = ret == 0 && str_eq(said, ours);

		free((void *)(uintptr_t)said.p);
		if (is_ours)
			return 0;
		if (ret == 0)
			return err_set(e, -EPROTO,
				       "what runs in the machine is not this bottle's "
				       "image");
		if (time_monotonic_ns() >= until_ns)
			return err_prefix(e, "the machine does not answer");
		*e = ERR_INIT;
		(void)poll(NULL, 0, MAKE_PAUSE_MS);
	}
}

int smol_boot(struct bottle *b, struct err *e)
{
	const struct dialect_args a = {.name = b->cli.name, .from = SMOL_IN "/" MAKE_SMOLFILE};
	int ret = smol_call(&b->cli, DIALECT_CREATE, &a, MAKE_CREATE_MS, NULL, e);

	b->is_created = ret == 0;
	if (ret == 0)
		ret = boot_read_back(b, e);
	if (ret == 0)
		ret = smol_call(&b->cli, DIALECT_START, &a, MAKE_START_MS, NULL, e);
	if (ret == 0)
		ret = boot_await(b, e);
	smol_end_registry(b);
	return ret;
}

/* --- its files --- */

/* Takes files. */
static int place_send(const struct bottle *b, json_t *files, struct err *e)
{
	static const char *const place[] = {GUEST_BUNDLE, "guest", "place",
					    GUEST_FOLDER "/run/" MAKE_PLACE, NULL};
	_cleanup_json_ json_t *all = json_pack("{s:o}", "files", files);
	_cleanup_free_ char *text = all ? json_dumps(all, JSON_COMPACT) : NULL;
	int ret;

	if (!text)
		return err_set(e, -EILSEQ, "what is written into the machine is not UTF-8");
	if (strlen(text) > GUEST_JSON_MAX)
		return err_set(e, -E2BIG, "what is written into the machine is too long");
	ret = smol_put(&b->cli, str_of(text), place[3], e);
	return ret < 0 ? ret : smol_exec(&b->cli, place, MAKE_PLACE_MS, NULL, e);
}

/* path: absolute. */
static int place_add(json_t *files, const char *path, int fd, struct err *e)
{
	struct str text;
	json_t *file;
	int ret;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(e, "rewind");
	ret = io_read_all(fd, MAKE_ETC_MAX, &text, e);
	if (ret < 0)
		return ret;
	file = json_pack("{s:s, s:i, s:s%}", "path", path + 1, "mode", 0644, "text", text.p,
			 text.n);
	free((void *)(uintptr_t)text.p);
	return file && json_array_append_new(files, file) == 0
		       ? 0
		       : err_set(e, -EILSEQ, "\"%s\" of the machine's is not UTF-8", path);
}

int smol_place(const struct bottle *b, struct err *e)
{
	struct agent_file etc[AGENT_FILES_MAX];
	_cleanup_json_ json_t *files = json_array();
	size_t n = 0;
	int ret = agent_files_make(etc, &n, b->plan, b->walled.wall.pinned, b->plan->agent_uid,
				   b->plan->agent_uid, e);

	if (ret < 0)
		return ret;
	for (size_t i = 0; ret == 0 && i < n; i++)
		ret = place_add(files, etc[i].path, etc[i].fd, e);
	agent_files_free(etc, n);
	return ret < 0 ? ret : place_send(b, json_incref(files), e);
}

int smol_place_ca(const struct bottle *b, struct str ca_pem, struct err *e)
{
	_cleanup_close_ int fd = memfd_create("ca", MFD_CLOEXEC);
	_cleanup_json_ json_t *files = json_array();
	int ret = fd < 0 ? err_errno(e, "memfd_create") : agent_ca_write(fd, ca_pem, e);

	if (ret == 0)
		ret = place_add(files, AGENT_CA_PATH, fd, e);
	return ret < 0 ? ret : place_send(b, json_incref(files), e);
}
