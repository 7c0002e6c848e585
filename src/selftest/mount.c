/*
 * F01 to F03 and F07 to F09: a bottle that may write a folder of the host's. What it left there is
 * looked at from here, with a careful eye: names and modes as text, contents as they are. The
 * control is a folder that nothing guards, and a careless eye, such as people have.
 */
#include "selftest/suite.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define FILE_MAX  4096
#define DEPTH_MAX 12
#define WORDS_MAX (1u << 20)

static const char *const ids[] = {"F01", "F02", "F03", "F07", "F08", "F09"};

/* --- what is on the host afterwards --- */

struct look {
	struct buf *out;
	bool is_careless; /* names are shown as they are */
	bool is_outside;  /* nothing may have come there: names count */
	int ret;
};

static void say(struct look *l, struct str text)
{
	if (l->ret == 0)
		l->ret = buf_append_str(l->out, text);
}

static void look_at_file(struct look *l, int dir, const char *name, const struct stat *st)
{
	_cleanup_close_ int fd = -1;
	char text[FILE_MAX];
	ssize_t n;

	if (l->is_outside || st->st_mode & (S_ISUID | S_ISGID))
		say(l, str_of(name));
	say(l, STR_LIT("\n"));
	/* A file of a set-id probe is named by its token, and says nothing. */
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text));
	if (n > 0)
		say(l, str_slice(text, (size_t)n));
	say(l, STR_LIT("\n"));
}

static void look_into(struct look *l, int parent, const char *folder, unsigned depth)
{
	int fd = openat(parent, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;

	while (dir && (entry = readdir(dir))) {
		const char *name = entry->d_name;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
		    fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (l->is_careless && text_utf8_next(str_of(name), &(uint32_t){0}) > 0)
			say(l, strpbrk(name, "\033\xc2\xe2") ? str_of(name) : STR_NULL);
		if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX && strcmp(name, "objects") != 0)
			look_into(l, dirfd(dir), name, depth + 1);
		else if (S_ISREG(st.st_mode))
			look_at_file(l, dirfd(dir), name, &st);
	}
}

static int look(struct suite *s, const char *folder, bool is_careless, bool is_outside,
		struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", s->scratch.root, folder);
	struct look l = {
		.out = &s->witnessed, .is_careless = is_careless, .is_outside = is_outside};

	look_into(&l, AT_FDCWD, path, 0);
	return l.ret < 0 ? err_set(e, l.ret, "too much was left in \"%s\"", path) : 0;
}

/* What a person was told: as it is. */
static int take_words(struct suite *s, const char *name, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/%s.err", s->scratch.root, name);
	struct str text;
	int ret = io_read_file(AT_FDCWD, path, WORDS_MAX, &text, e);

	if (ret < 0)
		return ret;
	ret = buf_append_str(&s->witnessed, text);
	free((char *)(uintptr_t)text.p);
	return ret < 0 ? err_set(e, ret, "%s said too much", name) : 0;
}

/* --- running --- */

/* A file that has a second name outside. */
static int make_hard_links(const struct suite *s, struct err *e)
{
	static const char *const folders[] = {"work", "unguarded"};

	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		_cleanup_free_ char *own = mem_printf("%s/%s/hard", s->scratch.root, folders[i]);
		_cleanup_free_ char *other =
			mem_printf("%s/outside/hard-%s", s->scratch.root, folders[i]);

		if (io_write_file_atomic(AT_FDCWD, other, STR_LIT("two names\n"), 0600, e) < 0)
			return e->code;
		if (link(other, own) < 0)
			return err_errno(e, "link \"%s\"", own);
	}
	return 0;
}

static int make_folders(const struct suite *s, struct err *e)
{
	static const char *const folders[] = {"unguarded/.git", "outside"};
	_cleanup_free_ char *wire = mem_printf("%s/outside/tripwire", s->scratch.root);

	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", s->scratch.root, folders[i]);
		int ret = io_mkdir_p(path, 0700, e);

		if (ret < 0)
			return ret;
	}
	return io_write_file_atomic(AT_FDCWD, wire, STR_LIT("tripwire\n"), 0600, e) < 0
		       ? e->code
		       : make_hard_links(s, e);
}

static void add_mount(struct suite *s, const char *folder)
{
	suite_add(s, mem_strdup("mount=1"));
	suite_add(s, mem_printf("workspace=%s/%s", s->scratch.root, folder));
	suite_add(s, mem_printf("outside=%s/outside", s->scratch.root));
}

static int run_inside(struct suite *s, bool is_root, struct err *e)
{
	const char *name = is_root ? "mount-root" : "mount-agent";
	int ret;

	suite_progress(is_root ? "writing a mounted folder as root inside"
			       : "writing a mounted folder");
	suite_add_start(s, "mount", is_root);
	suite_add_probe(s, "attack", is_root ? "root" : "agent", s->options->only);
	add_mount(s, "work");
	ret = suite_collect(s, is_root ? SELFTEST_RUN_ROOT : SELFTEST_RUN_AGENT, name, e);
	if (ret == 0)
		ret = take_words(s, name, e);
	return ret;
}

/* What was written through the second name has arrived outside; and whoever started the bottle was
 * not told of the file. */
static int judge_hard_link(struct suite *s, enum selftest_run run, const char *folder,
			   const char *words, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/outside/hard-%s", s->scratch.root, folder);
	_cleanup_free_ char *said = words ? mem_printf("%s/%s.err", s->scratch.root, words) : NULL;
	struct selftest_try *t = suite_try(s, run, "F03", "existing-untold");
	struct str text = STR_NULL, told = STR_NULL;
	int ret = io_read_file(AT_FDCWD, path, WORDS_MAX, &text, e);

	if (ret == 0 && said)
		ret = io_read_file(AT_FDCWD, said, WORDS_MAX, &told, e);
	t->is_through = str_find(text, STR_LIT("cbt")) < text.n &&
			str_find(told, STR_LIT("  hard  ")) == told.n;
	(void)snprintf(t->detail, sizeof(t->detail), "a file with a second name outside");
	free((char *)(uintptr_t)text.p);
	free((char *)(uintptr_t)told.p);
	return ret;
}

static int run_outside(struct suite *s, struct err *e)
{
	int ret;

	suite_progress("the same in a folder that nothing guards");
	ret = suite_add_control(s, s->options->only, e);
	if (ret < 0)
		return ret;
	add_mount(s, "unguarded");
	ret = suite_collect(s, SELFTEST_RUN_CONTROL, "mount-control", e);
	if (ret == 0 && suite_wants(s, "F03"))
		ret = judge_hard_link(s, SELFTEST_RUN_CONTROL, "unguarded", NULL, e);
	if (ret == 0)
		ret = look(s, "unguarded", true, false, e);
	return ret == 0 ? look(s, "outside", false, true, e) : ret;
}

/* Whether the backend can do it at all: asked with a command that does nothing. */
static int can_mount(struct suite *s, struct err *e)
{
	suite_add_start(s, "mount", false);
	suite_add(s, mem_strdup("/bin/true"));
	return suite_call(s, "mount-try", e);
}

int mount_run(struct suite *s, struct err *e)
{
	int ret;

	if (!suite_wants_any(s, ids, ARRAY_LEN(ids)))
		return 0;
	/* The hard links lie in the folder when a bottle first has it. */
	ret = make_folders(s, e);
	if (ret == 0)
		ret = can_mount(s, e);
	if (ret > 0) {
		char last_words[400], *line = last_words;

		scratch_last_words(&s->scratch, "mount-try", last_words, sizeof(last_words));
		for (char *next = line; (next = strstr(next, "claude-bottle: ")); line = next)
			next += strlen("claude-bottle: ");
		suite_skip_all(s, ids, ARRAY_LEN(ids), "mount", line);
		return 0;
	}
	if (ret == 0)
		ret = run_inside(s, false, e);
	if (ret == 0)
		ret = run_inside(s, true, e);
	if (ret == 0 && suite_wants(s, "F03"))
		ret = judge_hard_link(s, SELFTEST_RUN_AGENT, "work", "mount-agent", e);
	if (ret == 0)
		ret = look(s, "work", false, false, e);
	if (ret == 0)
		ret = look(s, "outside", false, true, e);
	return ret < 0 ? ret : run_outside(s, e);
}
