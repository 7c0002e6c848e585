/* The workspace's mounts, its inventory and report, and the user's git. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "workspace/inventory.h"
#include "workspace/report.h"
#include "workspace/user_git.h"
#include "workspace/workspace_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static char folder[64]; /* of the test at hand, canonical */
static int root = -1;

static int setup(void **state)
{
	(void)state;
	(void)snprintf(folder, sizeof(folder), "/tmp/cb-ws-XXXXXX");
	assert_non_null(mkdtemp(folder));
	root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close_fd(&root);
	return io_remove_tree(AT_FDCWD, folder, NULL);
}

static void put(const char *path, const char *text, mode_t mode)
{
	_cleanup_free_ char *whole = mem_printf("%s/%s", folder, path);
	char *slash = strrchr(whole, '/');
	struct err e = ERR_INIT;
	int fd;

	*slash = '\0';
	assert_int_equal(io_mkdir_p(whole, 0755, &e), 0);
	*slash = '/';
	fd = open(whole, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	(void)close(fd);
}

static void link_to(const char *target, const char *path)
{
	assert_int_equal(symlinkat(target, root, path), 0);
}

static void take(struct inventory *v)
{
	struct err e = ERR_INIT;

	assert_int_equal(inventory_take(v, root, folder, 0, 10000, &e), 0);
}

static const struct inventory_item *find(const struct inventory *v, const char *path)
{
	for (size_t i = 0; i < v->n; i++)
		if (strcmp(v->items[i].path, path) == 0)
			return &v->items[i];
	return NULL;
}

/* --- which folder --- */

static void test_check(void **state)
{
	static const char *const refused[] = {
		"/",	   "/home",	   "/home/u",
		"/usr",	   "/usr/local",   "/etc/x",
		"/tmp",	   "/home/u/.ssh", "/home/u/.claude-bottle",
		"/s",	   "/s/bottles",   "/s/bottles/x",
		"/proc/1", "relative",	   "/home/u/.claude-bottle/agents"};
	static const char *const taken[] = {"/home/u/work", "/home/u/.sshx", "/home/user", "/tmp/x",
					    "/s/other",	    "/usrx",	     "/srv/x"};
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		e = ERR_INIT;
		assert_true(workspace_check(refused[i], "/home/u", "/s/bottles/slug", &e) < 0);
		assert_true(e.text[0]);
	}
	for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
		e = ERR_INIT;
		if (workspace_check(taken[i], "/home/u", "/s/bottles/slug", &e) < 0)
			fail_msg("%s: %s", taken[i], e.text);
	}
}

/* --- mounts --- */

struct planned {
	struct workspace w;
	struct workspace_journal j;
	struct inventory found;
};

static int plan(struct planned *p, struct err *e)
{
	*p = (struct planned){
		.w = {.path = mem_strdup(folder), .uid = geteuid(), .gid = getegid()}};
	p->j.path = mem_strdup(folder);
	take(&p->found);
	return mounts_plan(&p->w, root, &p->found, &p->j, e);
}

static void planned_free(struct planned *p)
{
	workspace_free(&p->w);
	journal_free(&p->j);
	inventory_free(&p->found);
}

/* 'r', 'w', or 0. */
static char mount_of(const struct planned *p, const char *path)
{
	for (size_t i = 0; i < p->w.n_mounts; i++)
		if (strcmp(p->w.mounts[i].path, path) == 0)
			return p->w.mounts[i].is_read_only ? 'r' : 'w';
	return 0;
}

static bool is_made(const struct planned *p, const char *path)
{
	for (size_t i = 0; i < p->j.n; i++)
		if (strcmp(p->j.made[i].path, path) == 0)
			return true;
	return false;
}

static void test_mounts(void **state)
{
	_cleanup_(planned_free) struct planned p;
	struct err e = ERR_INIT;

	(void)state;
	put(".vscode/tasks.json", "{}", 0644);
	put(".mcp.json", "{}", 0644);
	put(".claude", "a file where a folder is meant", 0644);
	put("a/b/c/.git/config", "", 0644);
	put("a/b/.envrc", "", 0644);
	put("m/.git", "gitdir: elsewhere", 0644);
	put("bare/HEAD", "", 0644);
	put("bare/objects/x", "", 0644);
	put("bare/refs/x", "", 0644);
	assert_int_equal(plan(&p, &e), 0);
	assert_int_equal(mount_of(&p, ".vscode"), 'r');
	assert_int_equal(mount_of(&p, ".mcp.json"), 'r');
	assert_int_equal(mount_of(&p, ".claude"), 'r');
	assert_int_equal(mount_of(&p, ".envrc"), 'r');
	assert_false(is_made(&p, ".vscode") || is_made(&p, ".mcp.json") || is_made(&p, ".claude"));
	assert_true(is_made(&p, ".envrc"));
	/* Every folder above one is a mount of its own: it could be renamed else. */
	assert_int_equal(mount_of(&p, "a"), 'w');
	assert_int_equal(mount_of(&p, "a/b"), 'w');
	assert_int_equal(mount_of(&p, "a/b/c"), 'w');
	assert_int_equal(mount_of(&p, "a/b/c/.git"), 'r');
	assert_int_equal(mount_of(&p, "a/b/.envrc"), 'r');
	assert_int_equal(mount_of(&p, "m"), 'w');
	assert_int_equal(mount_of(&p, "m/.git"), 'r');
	assert_int_equal(mount_of(&p, "bare"), 'r');
	/* Nothing within something read-only, and outer ones first. */
	assert_int_equal(mount_of(&p, "a/b/c/.git/config"), 0);
	assert_int_equal(mount_of(&p, ".git"), 0);
	assert_int_equal(mount_of(&p, ".git/config"), 0);
	for (size_t i = 1; i < p.w.n_mounts; i++)
		assert_true(strcmp(p.w.mounts[i - 1].path, p.w.mounts[i].path) < 0);
}

static void test_mounts_refuse_links(void **state)
{
	static const char *const links[] = {".vscode", ".envrc", ".claude"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		struct planned p;
		struct err e = ERR_INIT;

		link_to("/etc", links[i]);
		assert_int_equal(plan(&p, &e), -ELOOP);
		assert_non_null(strstr(e.text, links[i]));
		planned_free(&p);
		assert_int_equal(unlinkat(root, links[i], 0), 0);
	}
}

static void test_journal(void **state)
{
	_cleanup_(journal_free) struct workspace_journal again = {0};
	_cleanup_(planned_free) struct planned p;
	struct err e = ERR_INIT;
	struct stat st;
	size_t n;

	(void)state;
	assert_int_equal(plan(&p, &e), 0);
	n = p.j.n;
	assert_true(n > 3);
	assert_int_equal(journal_store(root, &p.j, &e), 0);
	assert_int_equal(mounts_make(&p.w, root, &p.j, &e), 0);
	assert_int_equal(fstatat(root, ".envrc", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(journal_store(root, &p.j, &e), 0);
	assert_int_equal(journal_load(root, &again, &e), 0);
	assert_int_equal(again.n, n);
	assert_string_equal(again.path, folder);
	/* Filled by somebody; replaced by somebody; a file by now; a link by now. */
	put(".vscode/settings.json", "", 0644);
	assert_int_equal(unlinkat(root, ".idea", AT_REMOVEDIR), 0);
	put("aside/x", "", 0644);
	assert_int_equal(mkdirat(root, ".idea", 0755), 0);
	assert_int_equal(unlinkat(root, ".mcp.json", AT_REMOVEDIR), 0);
	put(".mcp.json", "mine", 0644);
	assert_int_equal(unlinkat(root, ".claude", AT_REMOVEDIR), 0);
	link_to("aside", ".claude");
	journal_undo(&again);
	assert_int_equal(fstatat(root, ".envrc", &st, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(fstatat(root, ".vscode/settings.json", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(fstatat(root, ".mcp.json", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(fstatat(root, ".claude", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(fstatat(root, "aside/x", &st, AT_SYMLINK_NOFOLLOW), 0);
	/* The second time there is nothing to do. */
	journal_undo(&again);
}

/* Killed between the note and the making. */
static void test_journal_of_what_was_never_made(void **state)
{
	_cleanup_(planned_free) struct planned p;
	struct err e = ERR_INIT;
	struct stat st;

	(void)state;
	assert_int_equal(plan(&p, &e), 0);
	assert_int_equal(mkdirat(root, ".envrc", 0755), 0);
	put(".mcp.json/inside", "", 0644);
	journal_undo(&p.j);
	assert_int_equal(fstatat(root, ".envrc", &st, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(fstatat(root, ".mcp.json/inside", &st, AT_SYMLINK_NOFOLLOW), 0);
}

/* --- the inventory --- */

static void test_links(void **state)
{
	_cleanup_(inventory_free) struct inventory v;
	_cleanup_free_ char *inside = mem_printf("%s/x", folder);
	_cleanup_free_ char *beside = mem_printf("%sx/y", folder);

	(void)state;
	put("x", "", 0644);
	put("d/e/f", "", 0644);
	link_to("/etc/passwd", "absolute");
	link_to("..", "up");
	link_to("d/e/../../..", "up-far");
	link_to(inside, "absolute-inside");
	link_to(beside, "absolute-beside");
	link_to("d/e/f", "in");
	link_to("d/none", "dangling");
	link_to("..", "d/e/to-d");
	/* Its text stays inside; the folder that it goes through does not lie where it seems to. */
	link_to("to-d/../..", "d/e/chain");
	link_to("/proc/self/root", "magic");
	link_to("loop", "loop");
	take(&v);
	assert_non_null(find(&v, "absolute"));
	assert_non_null(find(&v, "up"));
	assert_non_null(find(&v, "up-far"));
	assert_non_null(find(&v, "absolute-beside"));
	assert_non_null(find(&v, "d/e/chain"));
	assert_non_null(find(&v, "magic"));
	assert_int_equal(find(&v, "up")->kinds, INVENTORY_LINK_OUT);
	assert_null(find(&v, "absolute-inside"));
	assert_null(find(&v, "in"));
	assert_null(find(&v, "dangling"));
	assert_null(find(&v, "d/e/to-d"));
}

static void test_kinds(void **state)
{
	_cleanup_(inventory_free) struct inventory v;

	(void)state;
	put("plain", "", 0755);
	put("setid", "", 04755);
	put("Makefile", "all:\n", 0644);
	put("node_modules/p/package.json", "", 0644);
	put("node_modules/p/.envrc", "", 0644);
	put("n/.git/hooks/post-checkout", "", 0755);
	put("n/.git/hooks/post-checkout.sample", "", 0755);
	put("n/.git/config", "", 0644);
	put("n/.git/index", "", 0644);
	put("n/.git/objects/aa/bb", "", 0644);
	put(".git/hooks/post-checkout", "", 0755);
	put("bare/HEAD", "", 0644);
	put("bare/objects/x", "", 0644);
	put("bare/refs/x", "", 0644);
	put("es\x1b[2J", "", 0644);
	put("bi\xe2\x80\xae", "", 0644);
	put("not\xff", "", 0644);
	put("-rf", "", 0644);
	put("\xc3\xbc", "", 0644);
	assert_int_equal(mkfifoat(root, "pipe", 0644), 0);
	take(&v);
	assert_null(find(&v, "plain"));
	assert_int_equal(find(&v, "setid")->kinds, INVENTORY_SETID);
	assert_int_equal(find(&v, "Makefile")->kinds, INVENTORY_RISKY);
	assert_null(find(&v, "node_modules/p/package.json"));
	assert_non_null(find(&v, "node_modules/p/.envrc"));
	assert_true(find(&v, "n/.git")->kinds & INVENTORY_REPOSITORY);
	assert_non_null(find(&v, "n/.git/hooks/post-checkout"));
	assert_non_null(find(&v, "n/.git/config"));
	assert_null(find(&v, "n/.git/hooks/post-checkout.sample"));
	assert_null(find(&v, "n/.git/index"));
	assert_null(find(&v, "n/.git/objects/aa/bb"));
	assert_null(find(&v, ".git/hooks/post-checkout"));
	assert_true(find(&v, "bare/HEAD")->kinds & INVENTORY_REPOSITORY);
	assert_int_equal(find(&v, "es\x1b[2J")->kinds, INVENTORY_NAME);
	assert_int_equal(find(&v, "bi\xe2\x80\xae")->kinds, INVENTORY_NAME);
	assert_int_equal(find(&v, "not\xff")->kinds, INVENTORY_NAME);
	assert_int_equal(find(&v, "-rf")->kinds, INVENTORY_NAME);
	assert_null(find(&v, "\xc3\xbc"));
	assert_int_equal(find(&v, "pipe")->kinds, INVENTORY_SPECIAL);
	assert_false(v.was_cut);
}

/* A file with a name elsewhere is told when it was changed; with all its names inside it is not. */
static void test_shared(void **state)
{
	_cleanup_(inventory_free) struct inventory before, after;
	_cleanup_free_ char *beside = mem_printf("%s.beside", folder);
	struct err e = ERR_INIT;

	(void)state;
	put("store", "1", 0644);
	put("kept", "1", 0644);
	put("inner", "1", 0644);
	assert_int_equal(mkdir(beside, 0700), 0);
	{
		_cleanup_close_ int at = open(beside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		assert_int_equal(linkat(root, "store", at, "store", 0), 0);
		assert_int_equal(linkat(root, "kept", at, "kept", 0), 0);
	}
	(void)usleep(20000); /* the clock of the file system is coarse */
	take(&before);
	(void)usleep(20000);
	put("store", "2", 0644);
	assert_int_equal(linkat(root, "inner", root, "inner2", 0), 0);
	assert_int_equal(inventory_take(&after, root, folder, before.taken_ns, 10000, &e), 0);
	assert_int_equal(io_remove_tree(AT_FDCWD, beside, NULL), 0);
	assert_non_null(find(&after, "store"));
	assert_int_equal(find(&after, "store")->kinds, INVENTORY_SHARED);
	assert_null(find(&after, "kept"));
	assert_null(find(&after, "inner"));
	assert_null(find(&after, "inner2"));
}

static void test_depth(void **state)
{
	_cleanup_(inventory_free) struct inventory v;
	int at = dup(root);

	(void)state;
	for (unsigned i = 0; i < INVENTORY_DEPTH_MAX + 8; i++) {
		int next;

		assert_int_equal(mkdirat(at, "d", 0755), 0);
		next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		(void)close(at);
		at = next;
	}
	(void)close(at);
	take(&v);
	assert_true(v.was_cut);
}

struct seen {
	char text[2048];
};

static void note(void *ctx, enum inventory_change c, const struct inventory_item *i)
{
	struct seen *s = ctx;
	size_t n = strlen(s->text);

	(void)snprintf(s->text + n, sizeof(s->text) - n, "%c%s ", inventory_change_name(c)[1],
		       i->path);
}

static void test_compare(void **state)
{
	_cleanup_(inventory_free) struct inventory before, after, kept;
	_cleanup_(buf_free) struct buf json;
	struct seen s = {""};
	struct err e = ERR_INIT;
	struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

	(void)state;
	put("Makefile", "1", 0644);
	put("package.json", "1", 0644);
	put("setup.py", "1", 0644);
	put("conftest.py", "1", 0644);
	put("bad\xff\x01", "1", 0644);
	link_to("/a", "link");
	take(&before);
	/* What is kept on disk comes back as it was, whatever is in the names. */
	buf_init(&json, 1u << 20);
	assert_int_equal(inventory_to_json(&before, &json), 0);
	assert_int_equal(inventory_from_json(&kept, buf_str(&json), &e), 0);
	inventory_compare(&before, &kept, note, &s);
	assert_string_equal(s.text, "");
	put("Makefile", "2", 0644);
	/* The same size and time. */
	assert_int_equal(utimensat(root, "Makefile", old, 0), 0);
	assert_int_equal(unlinkat(root, "package.json", 0), 0);
	assert_int_equal(fchmodat(root, "setup.py", 0755, 0), 0);
	assert_int_equal(utimensat(root, "conftest.py", old, 0), 0);
	put("build.rs", "", 0644);
	assert_int_equal(unlinkat(root, "link", 0), 0);
	link_to("/b", "link");
	take(&after);
	inventory_compare(&kept, &after, note, &s);
	/* r: created, h: changed, e: deleted; by kind, then by path. */
	assert_string_equal(s.text, "hMakefile rbuild.rs epackage.json hsetup.py hlink ");
}

static void test_inventory_damaged(void **state)
{
	static const char *const bad[] = {"",
					  "[]",
					  "{}",
					  "{\"items\":{}}",
					  "{\"items\":[1]}",
					  "{\"items\":[{\"path\":\"zz\",\"hash\":\"\"}]}",
					  "{\"items\":[{\"path\":\"61\"}]}"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct inventory v;
		struct err e = ERR_INIT;

		assert_int_equal(inventory_from_json(&v, str_of(bad[i]), &e), -EBADMSG);
		inventory_free(&v);
	}
}

static void test_report(void **state)
{
	_cleanup_(inventory_free) struct inventory none = {0}, after;
	_cleanup_(buf_free) struct buf json, text;
	struct err e = ERR_INIT;
	size_t n;

	(void)state;
	for (unsigned i = 0; i < 30; i++) {
		_cleanup_free_ char *path = mem_printf("d%02u/Makefile", i);

		put(path, "", i == 0 ? 0755 : 0644);
	}
	put("x\x1b[2J\ny", "", 0644);
	take(&after);
	buf_init(&json, 1u << 20);
	buf_init(&text, 1u << 20);
	assert_int_equal(report_to_json(folder, &none, &after, &json), 0);
	assert_int_equal(report_print(buf_str(&json), "slug-1", 5, &n, &text, &e), 0);
	assert_int_equal(n, 31);
	assert_true(buf_append(&text, "", 1) == 0);
	assert_non_null(strstr(buf_str(&text).p, "d00/Makefile (executable)"));
	assert_null(strstr(buf_str(&text).p, "d05"));
	assert_non_null(strstr(buf_str(&text).p, "and 26 more; see claude-bottle diff slug-1"));
	buf_reset(&text);
	assert_int_equal(report_print(buf_str(&json), NULL, 0, &n, &text, &e), 0);
	assert_true(buf_append(&text, "", 1) == 0);
	assert_null(strchr(buf_str(&text).p, '\x1b'));
	assert_non_null(strstr(buf_str(&text).p, "x\\x1b[2J\\ny"));
	buf_reset(&text);
	buf_reset(&json);
	assert_int_equal(report_to_json(folder, &after, &after, &json), 0);
	assert_int_equal(report_print(buf_str(&json), "slug-1", 5, &n, &text, &e), 0);
	assert_int_equal(n + buf_len(&text), 0);
	assert_int_equal(report_print(STR_LIT("{}"), NULL, 0, &n, &text, &e), -EBADMSG);
}

/* --- the user's git --- */

static void test_user_git(void **state)
{
	struct user_git g = {.folder = folder};
	_cleanup_(buf_free) struct buf out;
	struct err e = ERR_INIT;
	struct stat st;
	int status = -1;

	(void)state;
	(void)setenv("GIT_DIR", "/nonexistent", 1);
	buf_init(&out, 4096);
	if (USER_GIT(&g, &out, &status, &e, "init", "-q") == -ENOENT)
		skip();
	assert_int_equal(status, 0);
	put(".git/hooks/pre-commit", "#!/bin/sh\ntouch ran\n", 0755);
	assert_int_equal(USER_GIT(&g, &out, &status, &e, "-c", "user.name=a", "-c",
				  "user.email=a@b.c", "commit", "-q", "--allow-empty", "-m", "x"),
			 0);
	assert_int_equal(status, 0);
	assert_int_equal(fstatat(root, "ran", &st, 0), -1);
	assert_int_equal(USER_GIT(&g, &out, NULL, &e, "rev-parse", "none\x1b"), -EIO);
	assert_non_null(strstr(e.text, "git rev-parse: "));
	assert_null(strchr(e.text, '\x1b'));
	e = ERR_INIT;
	buf_reset(&out);
	out.cap = 4;
	assert_int_equal(USER_GIT(&g, &out, NULL, &e, "rev-parse", "HEAD"), -EFBIG);
	assert_null(USER_GIT_LINE(&g, "rev-parse", "--verify", "-q", "none"));
	/* The transports are closed. */
	assert_int_equal(USER_GIT(&g, NULL, &status, &e, "fetch", "-q", "ext::touch ran", "main"),
			 0);
	assert_int_not_equal(status, 0);
	assert_int_equal(fstatat(root, "ran", &st, 0), -1);
}

static pid_t child_of(pid_t parent)
{
	_cleanup_free_ char *path =
		mem_printf("/proc/%d/task/%d/children", (int)parent, (int)parent);
	int pid = 0;

	for (int tries = 0; tries < 500 && pid == 0; tries++) {
		_cleanup_fclose_ FILE *f = fopen(path, "re");

		if (!f || fscanf(f, "%d", &pid) != 1)
			pid = 0;
		(void)usleep(10000);
	}
	assert_true(pid > 0);
	return pid;
}

/* As another user too git ends with whoever wanted it. */
static void test_user_git_dies_along(void **state)
{
	struct user_git g = {.folder = folder, .uid = 65534, .gid = 65534};
	_cleanup_free_ char *pipe_path = mem_printf("%s/pipe", folder);
	_cleanup_free_ char *comm = NULL;
	_cleanup_close_ int pidfd = -1;
	char name[16] = "";
	pid_t pid, git;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(folder, 0711), 0);
	assert_int_equal(mkfifo(pipe_path, 0644), 0);
	pid = fork();
	if (pid == 0) {
		/* It waits for somebody to write. */
		(void)!USER_GIT(&g, NULL, NULL, NULL, "config", "--file", pipe_path, "--list");
		_exit(0);
	}
	git = child_of(pid);
	comm = mem_printf("/proc/%d/comm", (int)git);
	for (int tries = 0; tries < 500 && strcmp(name, "git\n") != 0; tries++) {
		_cleanup_fclose_ FILE *f = fopen(comm, "re");

		(void)usleep(10000);
		if (!f || !fgets(name, sizeof(name), f))
			break;
	}
	pidfd = (int)syscall(SYS_pidfd_open, git, 0);
	assert_true(pidfd >= 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	if (io_wait(pidfd, POLLIN, 5000) != 1) {
		(void)kill(git, SIGKILL);
		fail_msg("git lives on");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),
		cmocka_unit_test_setup_teardown(test_mounts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mounts_refuse_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_journal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_journal_of_what_was_never_made, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shared, setup, teardown),
		cmocka_unit_test_setup_teardown(test_depth, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compare, setup, teardown),
		cmocka_unit_test(test_inventory_damaged),
		cmocka_unit_test_setup_teardown(test_report, setup, teardown),
		cmocka_unit_test_setup_teardown(test_user_git, setup, teardown),
		cmocka_unit_test_setup_teardown(test_user_git_dies_along, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
