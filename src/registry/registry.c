/*
 * The process: its arguments, then nothing but a loop behind a seal. It has a listening socket and
 * some read-only files that are open; taken over, it can hand out wrong bytes, whose digests the
 * puller compares with what it was told by the backend.
 */
#include "registry/registry.h"

#include "base/log.h"
#include "bundle/bundle.h"
#include "bundle/role.h"
#include "priv/priv.h"
#include "registry/pull.h"

#include <errno.h>
#include <signal.h>

#define REGISTRY_MEMORY_MAX (256u << 20)
#define REGISTRY_FILES_MAX  128

static void registry_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l, 0);
}

static int registry_start(struct loop **l, struct pull **p, const struct blobs *blobs, int fd,
			  struct err *e)
{
	int ret;

	*l = loop_new(e);
	if (!*l)
		return e->code;
	ret = loop_signals(*l, (int[]){SIGTERM, SIGINT}, 2, registry_on_signal, NULL, e);
	if (ret < 0)
		return ret;
	*p = pull_new(*l, blobs, &(struct pull_limits){0});
	return pull_listen(*p, fd, e);
}

/* As a role of the bundle, with one power more: to move bytes from a file to a socket. */
static int registry_seal(unsigned uid, struct err *e)
{
	const struct priv_limits limits = {
		.files = REGISTRY_FILES_MAX,
		.address_space_bytes = priv_is_instrumented() ? 0 : REGISTRY_MEMORY_MAX,
	};
	const struct bundle_role_env env = {.uid = uid};

	return bundle_role_seal(&env, &limits, false, PRIV_SECCOMP_ACCEPT | PRIV_SECCOMP_SENDFILE,
				e);
}

/* listen=FD, and uid=N if it is there; *uid as bundle_role_seal() has it. How many arguments that
 * were, or -errno. */
static int registry_options(int argc, char **argv, int *fd, unsigned *uid, struct err *e)
{
	char *options[3] = {NULL};
	const char *text;
	uint64_t n = 0; /* who it is already */

	for (int i = 0; i < argc && i < 2; i++)
		options[i] = argv[i];
	if (role_fd_argument(options, "listen", fd, e) < 0)
		return -EINVAL;
	text = role_argument(options, "uid");
	if (text && str_to_u64(str_of(text), UINT32_MAX - 1, &n) < 0)
		return err_set(e, -EINVAL, "uid=%s is none", text);
	*uid = (unsigned)n;
	return text ? 2 : 1;
}

int registry_main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	struct blobs blobs;
	struct pull *p = NULL;
	struct loop *l = NULL;
	int fd = -1, status, n;
	unsigned uid;

	log_set_role("registry");
	n = registry_options(argc, argv, &fd, &uid, &e);
	if (n < 0)
		die("%s; registry listen=FD [uid=N] NAME TAG BLOB..., which a backend starts",
		    e.text);
	if (blobs_parse(&blobs, argc - n, argv + n, &e) < 0 ||
	    registry_start(&l, &p, &blobs, fd, &e) < 0 || registry_seal(uid, &e) < 0)
		die("%s", e.text);
	status = loop_run(l);
	pull_free(p);
	loop_free(l);
	return status;
}
