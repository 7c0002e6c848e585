#include "backend/native/bwrap_args.h"

#include "backend/agent_clone.h"
#include "backend/agent_home.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

static_assert(BWRAP_KEEP_MAX >= AGENT_FILES_MAX + 5, "every descriptor of an agent's is kept");

static void args_put_namespaces(struct bwrap *b, const struct compartment *c)
{
	char id[16];

	(void)snprintf(id, sizeof(id), "%u", c->plan->agent_uid);
	bwrap_put_namespaces(b);
	BWRAP_PUT(b, "--uid", id, "--gid", id, "--hostname", c->plan->slug);
	BWRAP_PUT(b, "--chdir", agent_start_folder(c->plan));
	bwrap_put_env(b, c->env);
}

static void args_put_system(struct bwrap *b)
{
	bwrap_put_system(b);
	/* In memory, which the host may not limit otherwise. */
	BWRAP_PUT(b, "--perms", "1777", "--size", "2147483648", "--tmpfs", "/tmp");
	BWRAP_PUT(b, "--perms", "0755", "--size", "67108864", "--tmpfs", "/run");
	BWRAP_PUT(b, "--perms", "0755", "--dir", "/var");
	BWRAP_PUT(b, "--perms", "1777", "--size", "1073741824", "--tmpfs", "/var/tmp");
	BWRAP_PUT(b, "--symlink", "/run", "/var/run", "--dir", "/home");
}

/* Of the host's /etc only what programs need to start and what is on every installation. */
static void args_put_etc(struct bwrap *b, const struct agent_file *files, size_t n_files)
{
	static const char *const shared[] = {
		"/etc/alternatives",   "/etc/ld.so.cache",    "/etc/ld.so.conf",
		"/etc/ld.so.conf.d",   "/etc/ssl/certs",      "/etc/ssl/openssl.cnf",
		"/etc/pki/tls/certs",  "/etc/pki/ca-trust",   "/etc/ca-certificates",
		"/etc/mime.types",     "/etc/protocols",      "/etc/services",
		"/etc/terminfo",       "/etc/fonts",	      "/etc/timezone",
		"/etc/debian_version", "/etc/java-17-openjdk"};
	char target[PATH_MAX];
	ssize_t n;

	BWRAP_PUT(b, "--perms", "0755", "--dir", "/etc");
	for (size_t i = 0; i < ARRAY_LEN(shared); i++)
		BWRAP_PUT(b, "--ro-bind-try", shared[i], shared[i]);
	BWRAP_PUT(b, "--symlink", "/proc/self/mounts", "/etc/mtab");
	BWRAP_PUT(b, "--symlink", "../usr/lib/os-release", "/etc/os-release");
	n = readlink("/etc/localtime", target, sizeof(target) - 1);
	if (n > 0) {
		target[n] = '\0';
		BWRAP_PUT(b, "--symlink", target, "/etc/localtime");
	} else {
		BWRAP_PUT(b, "--ro-bind-try", "/etc/localtime", "/etc/localtime");
	}
	for (size_t i = 0; i < n_files; i++) {
		BWRAP_PUT(b, "--perms", "0444");
		bwrap_put_fd(b, "--file", files[i].fd, files[i].path);
	}
}

/* The folder, parts of it onto themselves, and its repository (workspace/workspace.h). */
static void args_put_workspace(struct bwrap *b, const struct workspace *w,
			       const struct bwrap_sources *s)
{
	_cleanup_free_ char *git = NULL;

	if (!w->path)
		return;
	BWRAP_PUT(b, "--bind", s->workspace, w->path);
	for (size_t i = 0; i < w->n_mounts; i++) {
		const struct workspace_mount *m = &w->mounts[i];
		_cleanup_free_ char *from = mem_printf("%s/%s", s->workspace, m->path);
		_cleanup_free_ char *to = mem_printf("%s/%s", w->path, m->path);

		BWRAP_PUT(b, m->is_read_only ? "--ro-bind" : "--bind", from, to);
	}
	git = mem_printf("%s/.git", w->path);
	if (s->git_file)
		BWRAP_PUT(b, "--ro-bind", s->git_file, git);
	BWRAP_PUT(b, "--bind", s->git_dir, s->git_file ? WORKSPACE_GITDIR : git);
	if (s->objects)
		BWRAP_PUT(b, "--ro-bind", s->objects, WORKSPACE_OBJECTS);
	for (size_t i = 0; i < w->n_alternates; i++)
		BWRAP_PUT(b, "--ro-bind", s->alternates[i], w->alternates[i]);
}

void bwrap_sources_free(struct bwrap_sources *s)
{
	free(s->expose);
	free(s->alternates);
	*s = (struct bwrap_sources){0};
}

/* Says that the compartment is complete, waits for the word, then becomes the command. The first
 * byte matters: whoever joined earlier would stand in a mount namespace that still holds the host's
 * root. The word comes when the bundle serves and the canary has proven the wall; end of file
 * instead means that it never will. */
#define BWRAP_START                                                                                \
	"echo >&9; exec 9>&-; read -r go <&8 || exit 125; exec 8<&-; unset go; exec \"$@\""
static_assert(BWRAP_READY_FD == 9 && BWRAP_HOLD_FD == 8, "BWRAP_START names them");

/* setsid makes the agent the leader of its own session and of the terminal, so that ^C and a
 * hang-up go to it and never to bubblewrap. */
static int args_put_command(struct bwrap *b, const struct compartment *c, bool has_tty,
			    struct err *e)
{
	const char *const before[] = {"/usr/bin/setsid",
				      has_tty ? "--ctty" : NULL,
				      "--",
				      "/bin/sh",
				      "-c",
				      BWRAP_START,
				      "agent"};
	char **command;
	int ret = 0;

	if (c->plan->n_command == 0)
		return err_set(e, -EINVAL, "the agent has no command");
	command = agent_command_make(c->plan, c->wall->pinned);
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(before); i++)
		ret = before[i] ? bwrap_put_word(b, before[i], e) : 0;
	for (char **word = command; ret == 0 && *word; word++)
		ret = bwrap_put_word(b, *word, e);
	agent_command_free(command);
	return ret;
}

int bwrap_args_make(struct bwrap_args *a, const struct compartment *c,
		    const struct bwrap_sources *s, const struct agent_file *files, size_t n_files,
		    int info_fd, bool has_tty, struct err *e)
{
	struct bwrap *b = &a->bwrap;
	int ret;

	bwrap_init(b);
	a->seccomp_fd = bwrap_memfd(
		"filter", str_slice(c->filter.code, c->filter.n * sizeof(c->filter.code[0])), e);
	if (a->seccomp_fd < 0)
		return a->seccomp_fd;
	args_put_namespaces(b, c);
	bwrap_put_fd(b, "--seccomp", a->seccomp_fd, NULL);
	bwrap_put_fd(b, "--info-fd", info_fd, NULL);
	args_put_system(b);
	args_put_etc(b, files, n_files);
	BWRAP_PUT(b, "--ro-bind", s->ca, AGENT_CA_PATH);
	BWRAP_PUT(b, "--bind", s->home, AGENT_HOME);
	for (size_t i = 0; i < c->plan->n_expose; i++)
		BWRAP_PUT(b, "--ro-bind", s->expose[i], c->plan->expose[i]);
	args_put_workspace(b, &c->workspace, s);
	BWRAP_PUT(b, "--remount-ro", "/");
	bwrap_keep(b, BWRAP_READY_FD);
	bwrap_keep(b, BWRAP_HOLD_FD);
	ret = bwrap_seal(b, e);
	return ret < 0 ? ret : args_put_command(b, c, has_tty, e);
}

void bwrap_args_free(struct bwrap_args *a)
{
	bwrap_free(&a->bwrap);
	close_fd(&a->seccomp_fd);
}
