/* The tool is called in the cell only, whatever it is asked for. What it says on standard error is
 * kept: its last line is the reason. */
#include "backend/smolmachines/smol_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLI_VERSION_MS 10000
#define CLI_PUT_MS     30000
#define CLI_PUT	       "put" /* nobody puts two things at once */
#define CLI_LINE_MAX   400
#define CLI_PATH       "/usr/local/bin:/usr/bin:/bin"
#define CLI_DATA       SMOL_HOME "/.local/share/smolvm"

static const char *const verbs[] = {
	[DIALECT_CREATE] = "create", [DIALECT_START] = "start",	  [DIALECT_EXEC] = "exec",
	[DIALECT_CP] = "cp",	     [DIALECT_STATUS] = "status", [DIALECT_LS] = "ls",
	[DIALECT_STOP] = "stop",     [DIALECT_DELETE] = "delete"};
_Static_assert(ARRAY_LEN(verbs) == DIALECT_COUNT, "a word for each");

/* Started by root the cell's user is nobody's, and so not of the group that /dev/kvm is for: it
 * gets a node of its own for the same device. Where that cannot be, the host's is tried. */
static const char *cli_kvm(const struct wall *w, const char *own)
{
	struct stat st;

	if (stat("/dev/kvm", &st) < 0 || !S_ISCHR(st.st_mode))
		return NULL;
	if (geteuid() == 0 && mknod(own, S_IFCHR | 0600, st.st_rdev) == 0 &&
	    lchown(own, w->uid, w->gid) == 0)
		return own;
	return "/dev/kvm";
}

int smol_cell_make(struct cell *c, const struct smol_install *i, const struct walled *w,
		   const char *slug, const struct smol_folders *f, struct err *e)
{
	static char *const env[] = {(char *)(uintptr_t) "HOME=" SMOL_HOME,
				    (char *)(uintptr_t) "PATH=" CLI_PATH,
				    (char *)(uintptr_t) "LANG=C.UTF-8",
				    (char *)(uintptr_t) "TERM=xterm-256color", NULL};
	const char *kvm = cli_kvm(&w->wall, f->kvm);
	struct cell_bind binds[5];
	struct cell_spec spec = {.wall = &w->wall,
				 .cgroup = &w->cgroup,
				 .slug = slug,
				 .binds = binds,
				 .env = env,
				 .file_size_bytes = SMOL_SPACE_BYTES};

	binds[spec.n_binds++] =
		(struct cell_bind){.from = f->home, .to = SMOL_HOME, .is_writable = true};
	if (f->in)
		binds[spec.n_binds++] = (struct cell_bind){.from = f->in, .to = SMOL_IN};
	if (i->folder[0])
		binds[spec.n_binds++] = (struct cell_bind){.from = i->folder, .to = SMOL_TOOL};
	if (i->rootfs[0])
		binds[spec.n_binds++] =
			(struct cell_bind){.from = i->rootfs, .to = CLI_DATA "/agent-rootfs"};
	if (kvm)
		binds[spec.n_binds++] =
			(struct cell_bind){.from = kvm, .to = "/dev/kvm", .is_device = true};
	return cell_make(c, &spec, e);
}

/* --- what it says --- */

/* The last line with something in it. */
static void cli_last_line(struct str said, char *out, size_t size)
{
	struct str last = STR_NULL;

	while (said.n > 0) {
		struct str line;
		bool found;

		said = str_cut(said, '\n', &line, &found);
		line = str_trim(line);
		if (line.n > 0)
			last = line;
	}
	text_visible_cstr(out, size, last);
}

static int cli_failed(const char *what, int status, struct str err, struct str out, struct err *e)
{
	char line[CLI_LINE_MAX];

	cli_last_line(err, line, sizeof(line));
	if (!line[0])
		cli_last_line(out, line, sizeof(line));
	return err_set(e, -EIO, "smolvm machine %s: %s (status %d)", what,
		       line[0] ? line : "it does not say why", status);
}

/* The value after `"key":`, up to a comma or the line's end. */
static struct str cli_value(struct str json, const char *key)
{
	_cleanup_free_ char *quoted = mem_printf("\"%s\":", key);
	size_t at = str_find(json, str_of(quoted));
	struct str rest = str_sub(json, at + strlen(quoted), json.n), line, value;
	bool found;

	if (at == json.n)
		return STR_NULL;
	(void)str_cut(rest, '\n', &line, &found);
	(void)str_cut(line, ',', &value, &found);
	return str_trim(value);
}

bool smol_says(struct str json, const char *key, const char *value)
{
	return str_eq(cli_value(json, key), str_of(value));
}

bool smol_denies(struct str json, const char *key, const char *value)
{
	struct str said = cli_value(json, key);

	return said.n > 0 && !str_eq(said, str_of(value));
}

/* --- calls --- */

static int cli_run(const struct smol_cli *c, char *const *argv, int timeout_ms, struct str *out,
		   struct str *err, struct err *e)
{
	const struct cell_run run = {.argv = argv, .in_fd = -1, .out_fd = -1, .err_fd = -1};

	return cell_call(c->cell, &run, timeout_ms, SMOL_SAID_MAX, out, err, e);
}

int smol_cli_open(struct smol_cli *c, struct err *e)
{
	char *const argv[] = {(char *)(uintptr_t)c->program, (char *)(uintptr_t) "--version", NULL};
	struct str out = STR_NULL, err = STR_NULL;
	int status = cli_run(c, argv, CLI_VERSION_MS, &out, &err, e), ret = status;

	if (status > 0)
		ret = cli_failed("--version", status, err, out, e);
	if (status == 0)
		ret = dialect_read_version(out, &c->version, e);
	free((void *)(uintptr_t)out.p);
	free((void *)(uintptr_t)err.p);
	if (ret < 0)
		return ret;
	c->dialect = dialect_find(&c->version);
	if (!c->dialect)
		return err_set(e, -ENOTSUP,
			       "smolvm %u.%u.%u is not known here: its command line is, of "
			       "versions " DIALECT_KNOWN,
			       c->version.major, c->version.minor, c->version.patch);
	return 0;
}

int smol_call(const struct smol_cli *c, enum dialect_verb verb, const struct dialect_args *a,
	      int timeout_ms, struct str *out, struct err *e)
{
	struct str said = STR_NULL, err = STR_NULL;
	char **argv = dialect_argv(c->dialect, verb, c->program, a);
	int ret = cli_run(c, argv, timeout_ms, &said, &err, e);

	free(argv);
	if (ret < 0)
		(void)err_prefix(e, "smolvm machine %s", verbs[verb]);
	if (ret > 0)
		ret = cli_failed(verbs[verb], ret, err, said, e);
	free((void *)(uintptr_t)err.p);
	if (ret == 0 && out) {
		*out = said;
		return 0;
	}
	free((void *)(uintptr_t)said.p);
	return ret;
}

int smol_exec(const struct smol_cli *c, const char *const *argv, int timeout_ms, struct str *out,
	      struct err *e)
{
	const struct dialect_args a = {.name = c->name, .command = (char *const *)(uintptr_t)argv};

	return smol_call(c, DIALECT_EXEC, &a, timeout_ms, out, e);
}

int smol_write(const struct smol_cli *c, const char *name, struct str text, struct err *e)
{
	int ret = io_write_file_atomic(c->in_fd, name, text, 0400, e);

	if (ret == 0 && geteuid() == 0 &&
	    fchownat(c->in_fd, name, c->uid, c->gid, AT_SYMLINK_NOFOLLOW) < 0)
		ret = err_errno(e, "give the cell \"%s\"", name);
	return ret;
}

int smol_open(const struct smol_cli *c, const char *name, struct err *e)
{
	_cleanup_close_ int fd =
		openat(c->in_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);

	if (fd < 0 || (geteuid() == 0 && fchown(fd, c->uid, c->gid) < 0))
		return err_errno(e, "make \"%s\" for the cell", name);
	return take_fd(&fd);
}

int smol_copy_in(const struct smol_cli *c, const char *name, const char *path, int timeout_ms,
		 struct err *e)
{
	_cleanup_free_ char *from = mem_printf(SMOL_IN "/%s", name);
	_cleanup_free_ char *to = mem_printf("%s:%s", c->name, path);
	const struct dialect_args a = {.from = from, .to = to};

	return smol_call(c, DIALECT_CP, &a, timeout_ms, NULL, e);
}

int smol_copy_out(const struct smol_cli *c, const char *path, const char *name, int timeout_ms,
		  struct err *e)
{
	_cleanup_free_ char *from = mem_printf("%s:%s", c->name, path);
	_cleanup_free_ char *to = mem_printf(SMOL_HOME "/%s", name);
	const struct dialect_args a = {.from = from, .to = to};

	return smol_call(c, DIALECT_CP, &a, timeout_ms, NULL, e);
}

int smol_put(const struct smol_cli *c, struct str text, const char *path, struct err *e)
{
	int ret = smol_write(c, CLI_PUT, text, e);

	if (ret == 0)
		ret = smol_copy_in(c, CLI_PUT, path, CLI_PUT_MS, e);
	(void)unlinkat(c->in_fd, CLI_PUT, 0);
	return ret;
}
