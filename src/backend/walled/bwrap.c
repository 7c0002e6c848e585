#include "backend/walled/bwrap.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
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

int bwrap_raise_fd(int fd, struct err *e)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, BWRAP_FD_MIN);
	int ret = high < 0 ? err_errno(e, "move a descriptor") : high;

	(void)close(fd);
	return ret;
}

int bwrap_memfd(const char *name, struct str data, struct err *e)
{
	int fd = io_memfd_sealed(name, data, e);

	return fd < 0 ? fd : bwrap_raise_fd(fd, e);
}

void bwrap_init(struct bwrap *b)
{
	memset(b, 0, sizeof(*b));
	b->args_fd = -1;
	buf_init(&b->text, BWRAP_TEXT_MAX);
}

void bwrap_free(struct bwrap *b)
{
	if (b->text.p)
		mem_wipe(b->text.p, b->text.size);
	buf_free(&b->text);
	for (size_t i = 0; i < b->n_argv; i++)
		free(b->argv[i]);
	b->n_argv = 0;
	close_fd(&b->args_fd);
}

/* --- options --- */

/* Running out of the cap shows in the buffer's cap, which bwrap_seal() checks once. */
void bwrap_put(struct bwrap *b, const char *const *options)
{
	for (; *options; options++) {
		if (buf_append(&b->text, *options, strlen(*options) + 1) < 0)
			b->text.cap = 0;
	}
}

void bwrap_keep(struct bwrap *b, int fd)
{
	if (b->n_keep < BWRAP_KEEP_MAX)
		b->keep[b->n_keep++] = fd;
	else
		b->text.cap = 0;
}

void bwrap_put_fd(struct bwrap *b, const char *option, int fd, const char *dest)
{
	char number[16];

	(void)snprintf(number, sizeof(number), "%d", fd);
	BWRAP_PUT(b, option, number);
	if (dest)
		BWRAP_PUT(b, dest);
	bwrap_keep(b, fd);
}

void bwrap_put_env(struct bwrap *b, char *const *env)
{
	BWRAP_PUT(b, "--clearenv");
	for (; env && *env; env++) {
		struct str all = str_of(*env);
		size_t n = str_chr(all, '=');
		_cleanup_free_ char *name = str_dup(str_sub(all, 0, n));

		BWRAP_PUT(b, "--setenv", name, n < all.n ? *env + n + 1 : "");
		mem_wipe(name, strlen(name));
	}
}

void bwrap_put_namespaces(struct bwrap *b)
{
	BWRAP_PUT(b, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
		  "--unshare-cgroup-try", "--disable-userns", "--die-with-parent", "--cap-drop",
		  "ALL");
}

void bwrap_put_system(struct bwrap *b)
{
	static const char *const tops[] = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};

	BWRAP_PUT(b, "--ro-bind", "/usr", "/usr");
	for (size_t i = 0; i < ARRAY_LEN(tops); i++) {
		char target[PATH_MAX];
		ssize_t n = readlink(tops[i], target, sizeof(target) - 1);

		if (n > 0) {
			target[n] = '\0';
			BWRAP_PUT(b, "--symlink", target, tops[i]);
		} else {
			BWRAP_PUT(b, "--ro-bind-try", tops[i], tops[i]);
		}
	}
	BWRAP_PUT(b, "--proc", "/proc", "--dev", "/dev");
}

/* --- the command --- */

int bwrap_put_word(struct bwrap *b, const char *word, struct err *e)
{
	if (b->n_argv == BWRAP_ARGV_MAX)
		return err_set(e, -E2BIG, "the command has too many words");
	b->argv[b->n_argv++] = mem_strdup(word);
	return 0;
}

int bwrap_seal(struct bwrap *b, struct err *e)
{
	char number[16];
	int ret;

	if (b->text.cap == 0)
		return err_set(e, -E2BIG, "more than bubblewrap can be told");
	b->args_fd = bwrap_memfd("args", buf_str(&b->text), e);
	if (b->args_fd < 0)
		return b->args_fd;
	bwrap_keep(b, b->args_fd);
	(void)snprintf(number, sizeof(number), "%d", b->args_fd);
	ret = bwrap_put_word(b, "bwrap", e);
	if (ret == 0)
		ret = bwrap_put_word(b, "--args", e);
	if (ret == 0)
		ret = bwrap_put_word(b, number, e);
	return ret < 0 ? ret : bwrap_put_word(b, "--", e);
}

int bwrap_become(const struct bwrap *b, char *const *env, struct err *e)
{
	const char *bwrap = bwrap_find();

	if (!bwrap)
		return err_set(e, -ENOENT, "bubblewrap is not installed (package bubblewrap)");
	if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return err_errno(e, "close_range");
	for (size_t i = 0; i < b->n_keep; i++) {
		if (io_set_cloexec(b->keep[i], false) < 0)
			return err_set(e, -EBADF, "keep a descriptor for bwrap");
	}
	(void)umask(022);
	(void)execve(bwrap, b->argv, env);
	return err_errno(e, "run %s", bwrap);
}
