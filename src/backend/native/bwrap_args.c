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

#define BWRAP_TEXT_MAX (4u << 20)

const char *bwrap_find(void)
{
	static const char *const paths[] = {"/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap"};

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		if (access(paths[i], X_OK) == 0)
			return paths[i];
	}
	return NULL;
}

/* Appends arguments up to NULL. Running out of the cap shows in the buffer's room, which
 * bwrap_args_make() checks once. */
static void args_put(struct bwrap_args *a, const char *const *args)
{
	for (; *args; args++) {
		if (buf_append(&a->text, *args, strlen(*args) + 1) < 0)
			a->text.cap = 0;
	}
}

#define ARGS(a, ...) args_put((a), (const char *const[]){__VA_ARGS__, NULL})

static void args_put_fd(struct bwrap_args *a, const char *option, int fd, const char *dest)
{
	char number[16];

	(void)snprintf(number, sizeof(number), "%d", fd);
	ARGS(a, option, number);
	if (dest)
		ARGS(a, dest);
	if (a->n_keep < BWRAP_KEEP_MAX)
		a->keep[a->n_keep++] = fd;
}

static void args_put_namespaces(struct bwrap_args *a, const struct compartment *c)
{
	char id[16];

	(void)snprintf(id, sizeof(id), "%u", c->plan->agent_uid);
	ARGS(a, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
	     "--unshare-cgroup-try", "--disable-userns", "--die-with-parent");
	ARGS(a, "--uid", id, "--gid", id, "--cap-drop", "ALL", "--hostname", c->plan->slug);
	ARGS(a, "--clearenv", "--chdir", agent_start_folder(c->plan));
	for (char **v = c->env; *v; v++) {
		char *equals = strchr(*v, '=');
		_cleanup_free_ char *name = str_dup(str_slice(*v, (size_t)(equals - *v)));

		ARGS(a, "--setenv", name, equals + 1);
		mem_wipe(name, strlen(name));
	}
}

/* /usr read-only; on hosts that merged it, /bin and its like are links into it. */
static void args_put_system(struct bwrap_args *a)
{
	static const char *const tops[] = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};

	ARGS(a, "--ro-bind", "/usr", "/usr");
	for (size_t i = 0; i < ARRAY_LEN(tops); i++) {
		char target[PATH_MAX];
		ssize_t n = readlink(tops[i], target, sizeof(target) - 1);

		if (n > 0) {
			target[n] = '\0';
			ARGS(a, "--symlink", target, tops[i]);
		} else {
			ARGS(a, "--ro-bind-try", tops[i], tops[i]);
		}
	}
	ARGS(a, "--proc", "/proc", "--dev", "/dev");
	/* In memory, which the host may not limit otherwise. */
	ARGS(a, "--perms", "1777", "--size", "2147483648", "--tmpfs", "/tmp");
	ARGS(a, "--perms", "0755", "--size", "67108864", "--tmpfs", "/run");
	ARGS(a, "--perms", "0755", "--dir", "/var");
	ARGS(a, "--perms", "1777", "--size", "1073741824", "--tmpfs", "/var/tmp");
	ARGS(a, "--symlink", "/run", "/var/run", "--dir", "/home");
}

/* Of the host's /etc only what programs need to start and what is on every installation. */
static void args_put_etc(struct bwrap_args *a, const struct agent_file *files, size_t n_files)
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

	ARGS(a, "--perms", "0755", "--dir", "/etc");
	for (size_t i = 0; i < ARRAY_LEN(shared); i++)
		ARGS(a, "--ro-bind-try", shared[i], shared[i]);
	ARGS(a, "--symlink", "/proc/self/mounts", "/etc/mtab");
	ARGS(a, "--symlink", "../usr/lib/os-release", "/etc/os-release");
	n = readlink("/etc/localtime", target, sizeof(target) - 1);
	if (n > 0) {
		target[n] = '\0';
		ARGS(a, "--symlink", target, "/etc/localtime");
	} else {
		ARGS(a, "--ro-bind-try", "/etc/localtime", "/etc/localtime");
	}
	for (size_t i = 0; i < n_files; i++) {
		ARGS(a, "--perms", "0444");
		args_put_fd(a, "--file", files[i].fd, files[i].path);
	}
}

/* The folder, parts of it onto themselves, and its repository (workspace/workspace.h). */
static void args_put_workspace(struct bwrap_args *a, const struct workspace *w,
			       const struct bwrap_sources *s)
{
	_cleanup_free_ char *git = NULL;

	if (!w->path)
		return;
	ARGS(a, "--bind", s->workspace, w->path);
	for (size_t i = 0; i < w->n_mounts; i++) {
		const struct workspace_mount *m = &w->mounts[i];
		_cleanup_free_ char *from = mem_printf("%s/%s", s->workspace, m->path);
		_cleanup_free_ char *to = mem_printf("%s/%s", w->path, m->path);

		ARGS(a, m->is_read_only ? "--ro-bind" : "--bind", from, to);
	}
	git = mem_printf("%s/.git", w->path);
	if (s->git_file)
		ARGS(a, "--ro-bind", s->git_file, git);
	ARGS(a, "--bind", s->git_dir, s->git_file ? WORKSPACE_GITDIR : git);
	if (s->objects)
		ARGS(a, "--ro-bind", s->objects, WORKSPACE_OBJECTS);
	for (size_t i = 0; i < w->n_alternates; i++)
		ARGS(a, "--ro-bind", s->alternates[i], w->alternates[i]);
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

/* argv on the command line itself: the options' file first, then the agent's command. setsid makes
 * the agent the leader of its own session and of the terminal, so that ^C and a hang-up go to it
 * and never to bubblewrap. */
static int args_put_command(struct bwrap_args *a, const struct compartment *c, bool has_tty,
			    struct err *e)
{
	char **command;

	if (c->plan->n_command == 0 || c->plan->n_command > BWRAP_ARGV_MAX - 24)
		return err_set(e, -E2BIG, "the agent's command has %zu arguments",
			       c->plan->n_command);
	a->argv[a->n_argv++] = mem_strdup("bwrap");
	a->argv[a->n_argv++] = mem_strdup("--args");
	a->argv[a->n_argv++] = mem_printf("%d", a->args_fd);
	a->argv[a->n_argv++] = mem_strdup("--");
	a->argv[a->n_argv++] = mem_strdup("/usr/bin/setsid");
	if (has_tty)
		a->argv[a->n_argv++] = mem_strdup("--ctty");
	a->argv[a->n_argv++] = mem_strdup("--");
	a->argv[a->n_argv++] = mem_strdup("/bin/sh");
	a->argv[a->n_argv++] = mem_strdup("-c");
	a->argv[a->n_argv++] = mem_strdup(BWRAP_START);
	a->argv[a->n_argv++] = mem_strdup("agent");
	command = agent_command_make(c->plan, c->wall->pinned);
	for (char **word = command; *word; word++)
		a->argv[a->n_argv++] = mem_strdup(*word);
	agent_command_free(command);
	a->argv[a->n_argv] = NULL;
	return 0;
}

int bwrap_args_make(struct bwrap_args *a, const struct compartment *c,
		    const struct bwrap_sources *s, const struct agent_file *files, size_t n_files,
		    int info_fd, bool has_tty, struct err *e)
{
	memset(a, 0, sizeof(*a));
	a->args_fd = a->seccomp_fd = -1;
	buf_init(&a->text, BWRAP_TEXT_MAX);
	a->seccomp_fd = agent_memfd(
		"filter", str_slice(c->filter.code, c->filter.n * sizeof(c->filter.code[0])), e);
	if (a->seccomp_fd < 0)
		return a->seccomp_fd;
	args_put_namespaces(a, c);
	args_put_fd(a, "--seccomp", a->seccomp_fd, NULL);
	args_put_fd(a, "--info-fd", info_fd, NULL);
	args_put_system(a);
	args_put_etc(a, files, n_files);
	ARGS(a, "--ro-bind", s->ca, AGENT_CA_PATH);
	ARGS(a, "--bind", s->home, AGENT_HOME);
	for (size_t i = 0; i < c->plan->n_expose; i++)
		ARGS(a, "--ro-bind", s->expose[i], c->plan->expose[i]);
	args_put_workspace(a, &c->workspace, s);
	ARGS(a, "--remount-ro", "/");
	if (a->text.cap == 0)
		return err_set(e, -E2BIG, "the agent's environment is too large");
	a->args_fd = agent_memfd("args", buf_str(&a->text), e);
	if (a->args_fd < 0)
		return a->args_fd;
	a->keep[a->n_keep++] = a->args_fd;
	return args_put_command(a, c, has_tty, e);
}

void bwrap_args_free(struct bwrap_args *a)
{
	if (a->text.p)
		mem_wipe(a->text.p, a->text.size);
	buf_free(&a->text);
	for (size_t i = 0; i < a->n_argv; i++)
		free(a->argv[i]);
	a->n_argv = 0;
	close_fd(&a->args_fd);
	close_fd(&a->seccomp_fd);
}
