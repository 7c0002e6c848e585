/* git-gate's folder on this host: made, found again, removed; and the shell behind which a clone is
 * made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define GIT_FOLDER_TOP "/tmp/claude-bottle-git-folder-test"
#include "backend/git_folder.c" /* NOLINT: the unit under test */

#include "collect.h"
#include "repo_fixture.h"

#include "backend/agent_clone.h"

#include <sys/wait.h>

#define ALL GIT_FOLDER_TOP
#define UID 1300000123u

static int setup(void **state)
{
	(void)state;
	(void)!io_remove_tree(AT_FDCWD, ALL, NULL);
	return io_mkdir_p(ALL, 0700, NULL) < 0 ? -1 : io_mkdir_p(ALL "/state/one", 0700, NULL);
}

static int teardown(void **state)
{
	(void)state;
	return io_remove_tree(AT_FDCWD, ALL, NULL);
}

static void touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	(void)close(fd);
}

static void test_in_the_state_folder(void **state)
{
	char path[BACKEND_PATH_MAX];
	struct err e = ERR_INIT;
	struct stat st;

	(void)state;
	assert_int_equal(git_folder_make("one", ALL "/state/one", 0, path, &e), 0);
	assert_string_equal(path, ALL "/state/one/git");
	touch(ALL "/state/one/git/left");
	/* Anew, after a run that was killed. */
	assert_int_equal(git_folder_make("one", ALL "/state/one", 0, path, &e), 0);
	assert_true(is_gone(ALL "/state/one/git/left"));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(git_folder_remove("one", ALL "/state/one", &e), 0);
	assert_true(is_gone(path));
	assert_int_equal(git_folder_remove("one", ALL "/state/one", &e), 0);
}

static void make(const char *slug, const char *state_dir)
{
	char path[BACKEND_PATH_MAX];
	struct err e = ERR_INIT;

	if (git_folder_make(slug, state_dir, UID, path, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(path + strlen(GIT_FOLDER_ROOT "/"), slug);
}

/* As the role does: by its path, as its user. */
static bool may_use(const char *path)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (setresgid(UID, UID, UID) < 0 || setresuid(UID, UID, UID) < 0 ||
		    chdir(path) < 0 || mkdir("mirror", 0700) < 0)
			_exit(1);
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static void test_of_a_uid_of_its_own(void **state)
{
	struct err e = ERR_INIT;
	struct stat st;
	char path[BACKEND_PATH_MAX];

	(void)state;
	if (geteuid() != 0)
		skip();
	/* As in the keeper. */
	(void)umask(077);
	make("one", ALL "/state/one");
	(void)umask(022);
	assert_int_equal(stat(GIT_FOLDER_ROOT, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0711);
	assert_true(may_use(GIT_FOLDER_ROOT "/one"));
	assert_int_equal(stat(GIT_FOLDER_ROOT "/one", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(st.st_uid, UID);
	assert_int_equal(stat(GIT_FOLDER_ROOT "/one.of", &st), 0);
	assert_int_equal(st.st_uid, 0);
	touch(GIT_FOLDER_ROOT "/one/left");
	/* The same bottle again; another one of that name, in another state folder, is not touched.
	 */
	make("one", ALL "/state/one");
	assert_true(is_gone(GIT_FOLDER_ROOT "/one/left"));
	assert_int_equal(git_folder_make("one", ALL "/elsewhere/one", UID, path, &e), -EEXIST);
	assert_non_null(strstr(e.text, ALL "/state/one"));
	assert_int_equal(git_folder_remove("one", ALL "/elsewhere/one", &e), 0);
	assert_false(is_gone(GIT_FOLDER_ROOT "/one"));
	assert_int_equal(git_folder_remove("one", ALL "/state/one", &e), 0);
	assert_true(is_gone(GIT_FOLDER_ROOT "/one"));
	assert_true(is_gone(GIT_FOLDER_ROOT "/one.of"));
}

static void test_sweep(void **state)
{
	struct err e = ERR_INIT;
	size_t n;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(git_folder_sweep(ALL "/state", false, &n, &e), 0);
	assert_int_equal(n, 0);
	make("one", ALL "/state/one");	   /* lives */
	make("two", ALL "/state/two");	   /* its state folder is gone */
	make("three", ALL "/other/three"); /* likewise, but not ours to decide */
	touch(GIT_FOLDER_ROOT "/four.of"); /* says nothing */
	assert_int_equal(git_folder_sweep(ALL "/state", true, &n, &e), 0);
	assert_int_equal(n, 1);
	assert_false(is_gone(GIT_FOLDER_ROOT "/two"));
	assert_int_equal(git_folder_sweep(ALL "/state", false, &n, &e), 0);
	assert_int_equal(n, 1);
	assert_true(is_gone(GIT_FOLDER_ROOT "/two"));
	assert_true(is_gone(GIT_FOLDER_ROOT "/two.of"));
	assert_false(is_gone(GIT_FOLDER_ROOT "/one"));
	assert_false(is_gone(GIT_FOLDER_ROOT "/three"));
	/* Who may change the folder decides what is removed. */
	assert_int_equal(chmod(GIT_FOLDER_ROOT, 0777), 0);
	assert_int_equal(git_folder_sweep(ALL "/state", false, &n, &e), -EPERM);
}

/* A kill at any moment leaves something that is found. */
static void test_note_comes_first(void **state)
{
	struct err e = ERR_INIT;
	size_t n;

	(void)state;
	if (geteuid() != 0)
		skip();
	make("two", ALL "/state/two");
	assert_int_equal(io_remove_tree(AT_FDCWD, GIT_FOLDER_ROOT "/two", &e), 0);
	assert_int_equal(git_folder_sweep(ALL "/state", false, &n, &e), 0);
	assert_int_equal(n, 1);
	assert_true(is_gone(GIT_FOLDER_ROOT "/two.of"));
}

/* --- the shell before the agent's command --- */

static struct plan clone_plan(char *path)
{
	static char *command[] = {(char *)"echo", (char *)"it's $begun", NULL};

	return (struct plan){.slug = (char *)"slug",
			     .workspace = PLAN_WORKSPACE_CLONE,
			     .workspace_path = path,
			     .command = command,
			     .n_command = 2};
}

static void test_clone_folder(void **state)
{
	static const struct {
		const char *path, *want;
	} table[] = {
		{"/nowhere/project", "project"},
		{"/nowhere/a b;c", "a-b-c"},
		{"/nowhere/-rf", "_rf"},
		{"/nowhere/.ssh", "_ssh"},
		{"/nowhere/x.git", "x"},
		{"/nowhere/\xc3\xa9", "_-"},
		{"/", "workspace"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct plan p = clone_plan((char *)(uintptr_t)table[i].path);
		_cleanup_free_ char *got = agent_clone_folder(&p);

		assert_string_equal(got, table[i].want);
	}
}

/* The status; what is said in out. where: of the clone, instead of git-gate. */
static int run_clone(const char *where, const char *path, char *out, size_t size)
{
	struct plan p = clone_plan((char *)(uintptr_t) "/nowhere/pro ject");
	char **argv = agent_command_make(&p, "10.209.0.2");
	_cleanup_free_ char *env_path = mem_printf("PATH=%s", path);
	char *env[] = {(char *)"HOME=" ALL "/home", env_path, (char *)"GIT_CONFIG_NOSYSTEM=1",
		       NULL};
	struct collect c;
	int status;

	assert_string_equal(argv[4], "http://10.209.0.2:9418/workspace");
	assert_string_equal(argv[5], "pro-ject");
	assert_string_equal(argv[6], "slug");
	free(argv[4]);
	argv[4] = mem_strdup(where);
	if (collect_fork(&c)) {
		(void)execve(argv[0], argv, env);
		_exit(99);
	}
	status = collect_end(&c, out, size);
	agent_command_free(argv);
	return status;
}

static void test_clone_script(void **state)
{
	static const char bin[] = "/usr/bin:/bin";
	const struct repo_fixture at = {.path = ALL};
	char out[8192];

	(void)state;
	assert_int_equal(io_mkdir_p(ALL "/home", 0700, NULL), 0);
	/* No git; then nothing to clone. */
	assert_int_equal(run_clone(ALL "/none", "/nonexistent", out, sizeof(out)), 125);
	assert_string_equal(out,
			    "claude-bottle: the workspace was not cloned: there is no git here "
			    "(workspace: none goes without)\n");
	assert_int_equal(run_clone(ALL "/none", bin, out, sizeof(out)), 125);
	assert_non_null(strstr(out, "fatal: "));
	assert_non_null(
		strstr(out, "\nclaude-bottle: the workspace was not cloned: git ended with status "
			    "128\n"));
	assert_null(strstr(out, "begun"));
	assert_true(is_gone(ALL "/home/pro-ject"));
	/* An empty repository is one. */
	assert_int_equal(repo_sh(&at, NULL, 0, "git init -q --bare none"), 0);
	assert_int_equal(run_clone(ALL "/none", bin, out, sizeof(out)), 0);
	assert_string_equal(out, "it's $begun\n");
	assert_int_equal(repo_sh(&at, out, sizeof(out), "git -C home/pro-ject symbolic-ref HEAD"),
			 0);
	assert_string_equal(out, "refs/heads/slug\n");
	/* What is there is kept: a clone, a folder, a file. */
	touch(ALL "/home/pro-ject/mine");
	assert_int_equal(run_clone(ALL "/gone", bin, out, sizeof(out)), 0);
	assert_string_equal(out, "it's $begun\n");
	assert_false(is_gone(ALL "/home/pro-ject/mine"));
	assert_int_equal(io_remove_tree(AT_FDCWD, ALL "/home/pro-ject", NULL), 0);
	touch(ALL "/home/pro-ject");
	assert_int_equal(run_clone(ALL "/gone", bin, out, sizeof(out)), 0);
	assert_non_null(strstr(
		out, "claude-bottle: pro-ject is no folder: the agent begins in its home\n"));
	assert_non_null(strstr(out, "it's $begun\n"));
}

/* What is started beside it meanwhile begins there too. */
static void test_exec_waits(void **state)
{
	static char *command[] = {(char *)"pwd", NULL};
	const struct repo_fixture at = {.path = ALL};
	struct plan p = clone_plan((char *)(uintptr_t) "/nowhere/pro ject");
	char out[4096], **argv;
	struct collect c;

	(void)state;
	assert_int_equal(io_mkdir_p(ALL "/home", 0700, NULL), 0);
	argv = agent_exec_make(&p, ALL "/home", command);
	assert_non_null(argv);
	if (collect_fork(&c)) {
		(void)setenv("HOME", ALL "/home", 1);
		(void)execv(argv[0], argv);
		_exit(99);
	}
	assert_int_equal(repo_sh(&at, NULL, 0, "sleep 0.3; mkdir home/pro-ject"), 0);
	assert_int_equal(collect_end(&c, out, sizeof(out)), 0);
	assert_string_equal(out, ALL "/home/pro-ject\n");
	agent_command_free(argv);
	/* From then on nobody stands between. */
	assert_null(agent_exec_make(&p, ALL "/home", command));
	p.workspace = PLAN_WORKSPACE_NONE;
	assert_null(agent_exec_make(&p, ALL "/gone", command));
}

static void test_no_clone(void **state)
{
	struct plan p = clone_plan((char *)(uintptr_t) "/nowhere/x");
	char **argv;

	(void)state;
	p.workspace = PLAN_WORKSPACE_NONE;
	assert_null(agent_clone_folder(&p));
	argv = agent_command_make(&p, "10.209.0.2");
	assert_string_equal(argv[0], "echo");
	assert_string_equal(argv[1], "it's $begun");
	assert_null(argv[2]);
	agent_command_free(argv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_in_the_state_folder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_of_a_uid_of_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_note_comes_first, setup, teardown),
		cmocka_unit_test(test_clone_folder),
		cmocka_unit_test_setup_teardown(test_clone_script, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exec_waits, setup, teardown),
		cmocka_unit_test(test_no_clone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
