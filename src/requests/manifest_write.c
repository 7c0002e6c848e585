/* What was edited: shown as a difference, and written. */
#include "requests/manifest_edit.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define CONTEXT	      3
#define LINE_SHOWN    1024
#define LINES_MAX     (MANIFEST_EDIT_MAX_BYTES / 2)
#define PATH_MAX_SIZE 4096

/* --- the difference --- */

struct lines {
	struct str *list;
	size_t n, cap;
};

static void lines_free(struct lines *l)
{
	free(l->list);
}

static void lines_of(struct lines *out, struct str text)
{
	while (text.n > 0) {
		struct str line;
		bool more;

		text = str_cut(text, '\n', &line, &more);
		out->list = mem_grow_array(out->list, &out->cap, out->n + 1, sizeof(*out->list));
		out->list[out->n++] = line;
	}
}

static int put_shown(struct buf *out, char sign, struct str line)
{
	char shown[LINE_SHOWN];

	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	text_visible_once_cstr(shown, sizeof(shown), line);
	return buf_printf(out, "%c%s\n", sign, shown);
}

/* Lines were only put in, at one place: one hunk. */
int manifest_edit_diff(const struct manifest_edit *m, const char *path, struct buf *out)
{
	_cleanup_(lines_free) struct lines a = {0}, b = {0};
	size_t same = 0, added, from, to;
	char shown[PATH_MAX_SIZE];
	int ret;

	lines_of(&a, buf_str(&m->before));
	lines_of(&b, buf_str(&m->after));
	while (same < a.n && same < b.n && str_eq(a.list[same], b.list[same]))
		same++;
	added = b.n - a.n;
	from = same > CONTEXT ? same - CONTEXT : 0;
	to = same + CONTEXT < a.n ? same + CONTEXT : a.n;
	text_visible_once_cstr(shown, sizeof(shown), str_of(path));
	ret = buf_printf(out, "--- %s\n+++ %s\n@@ -%zu,%zu +%zu,%zu @@\n", shown, shown, from + 1,
			 to - from, from + 1, to - from + added);
	for (size_t i = from; ret == 0 && i < same; i++)
		ret = put_shown(out, ' ', a.list[i]);
	for (size_t i = same; ret == 0 && i < same + added; i++)
		ret = put_shown(out, '+', b.list[i]);
	for (size_t i = same; ret == 0 && i < to; i++)
		ret = put_shown(out, ' ', a.list[i]);
	return ret;
}

/* --- writing --- */

/* Where a link leads, once; else path itself. */
static int resolve(const char *path, char **out, struct err *e)
{
	_cleanup_free_ char *copy = mem_strdup(path);
	char target[PATH_MAX_SIZE];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	*out = NULL;
	if (n < 0 && errno == EINVAL) {
		*out = mem_strdup(path);
		return 0;
	}
	if (n < 0)
		return err_errno(e, "\"%s\"", path);
	if ((size_t)n == sizeof(target) - 1)
		return err_set(e, -ENAMETOOLONG, "\"%s\" leads to a name that is too long", path);
	target[n] = '\0';
	*out = target[0] == '/' ? mem_strdup(target) : mem_printf("%s/%s", dirname(copy), target);
	return 0;
}

/* Still what was edited, the user's own, and no link. */
static int check_old(int dir, const char *name, const char *path, const struct manifest_edit *m,
		     struct stat *st, struct err *e)
{
	_cleanup_close_ int fd =
		openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
	_cleanup_free_ char *text_p = NULL;
	struct str text = STR_NULL;
	int ret;

	if (fd < 0)
		return err_errno(e, "open \"%s\"", path);
	if (fstat(fd, st) < 0 || !S_ISREG(st->st_mode))
		return err_set(e, -EINVAL, "\"%s\" is not a regular file", path);
	if (st->st_uid != geteuid())
		return err_set(e, -EPERM, "\"%s\" belongs to another user (uid %u)", path,
			       (unsigned)st->st_uid);
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return err_set(e, -EPERM, "\"%s\" may be changed by others (mode %04o)", path,
			       (unsigned)(st->st_mode & 07777));
	ret = io_read_all(fd, MANIFEST_EDIT_MAX_BYTES, &text, e);
	text_p = (char *)text.p;
	if (ret < 0)
		return ret;
	if (!str_eq(text, buf_str(&m->before)))
		return err_set(e, -ESTALE,
			       "\"%s\" was changed meanwhile; look at the difference again", path);
	return 0;
}

/* A name beside it that nobody has. */
static int write_beside(int dir, const char *name, const struct manifest_edit *m,
			const struct stat *st, char **out, struct err *e)
{
	_cleanup_free_ char *beside = mem_printf(".%s.%d.new", name, (int)getpid());
	_cleanup_close_ int fd = -1;
	struct str text = buf_str(&m->after);
	int ret;

	(void)unlinkat(dir, beside, 0);
	fd = openat(dir, beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(e, "make \"%s\"", beside);
	ret = io_write_all(fd, text.p, text.n);
	/* The owner is ourselves; a group that we are not in cannot be given. */
	if (ret == 0 && fchown(fd, (uid_t)-1, st->st_gid) < 0 && errno != EPERM)
		ret = -errno;
	if (ret == 0 && (fchmod(fd, st->st_mode & 07777) < 0 || fsync(fd) < 0))
		ret = -errno;
	if (ret < 0) {
		(void)unlinkat(dir, beside, 0);
		return err_set(e, ret, "write \"%s\": %s", beside, strerror(-ret));
	}
	*out = take_ptr(&beside);
	return 0;
}

int manifest_edit_write(const struct manifest_edit *m, const char *path, struct err *e)
{
	_cleanup_free_ char *real = NULL, *for_dir = NULL, *for_name = NULL, *beside = NULL;
	_cleanup_close_ int dir = -1;
	struct stat st, now;
	const char *name;
	int ret = resolve(path, &real, e);

	if (ret < 0)
		return ret;
	for_dir = mem_strdup(real);
	for_name = mem_strdup(real);
	name = basename(for_name);
	dir = open(dirname(for_dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(e, "open the folder of \"%s\"", real);
	ret = check_old(dir, name, real, m, &st, e);
	if (ret == 0)
		ret = write_beside(dir, name, m, &st, &beside, e);
	if (ret < 0)
		return ret;
	/* An editor that has saved in between has made another file, or touched this one. */
	if (fstatat(dir, name, &now, AT_SYMLINK_NOFOLLOW) < 0 || now.st_ino != st.st_ino ||
	    now.st_dev != st.st_dev || now.st_size != st.st_size ||
	    memcmp(&now.st_mtim, &st.st_mtim, sizeof(st.st_mtim)) != 0)
		ret = err_set(e, -ESTALE, "\"%s\" was changed meanwhile", real);
	else if (renameat(dir, beside, dir, name) < 0)
		ret = err_errno(e, "write \"%s\"", real);
	if (ret < 0)
		(void)unlinkat(dir, beside, 0);
	else
		(void)fsync(dir);
	return ret;
}
