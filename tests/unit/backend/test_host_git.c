/* The host's repository, what is made of it for one request, and the box in which git runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "collect.h"
#include "repo_fixture.h"

#include "backend/host_git.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define SLUG "test-bottle"
#ifdef CLAUDE_BOTTLE_INSTRUMENTED /* its runtime needs more than the box has */
#define IS_INSTRUMENTED true
#else
#define IS_INSTRUMENTED false
#endif

static int setup(void **state)
{
	struct repo_fixture *r = calloc(1, sizeof(*r));

	repo_make(r);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	repo_free(*state);
	free(*state);
	return 0;
}

/* --- where it is --- */

static void test_find(void **state)
{
	struct repo_fixture *r = *state;
	_cleanup_free_ char *below = mem_printf("%s/deep/er", r->path);
	_cleanup_free_ char *dot_git = mem_printf("%s/.git", r->path);
	_cleanup_free_ char *tree = mem_printf("%s/tree", r->top);
	_cleanup_free_ char *bare = mem_printf("%s/bare.git", r->top);
	struct host_repo repo;
	struct err e = ERR_INIT;

	assert_int_equal(repo_sh(r, NULL, 0,
				 "mkdir -p deep/er; git worktree add -q ../tree side; "
				 "git clone -q --bare . ../bare.git"),
			 0);
	assert_int_equal(host_repo_find(&repo, below, &e), 0);
	assert_string_equal(repo.top, r->path);
	assert_string_equal(repo.git_dir, dot_git);
	assert_string_equal(repo.common_dir, dot_git);
	host_repo_free(&repo);
	assert_int_equal(host_repo_find(&repo, tree, &e), 0);
	assert_string_equal(repo.top, tree);
	assert_string_not_equal(repo.git_dir, dot_git);
	assert_string_equal(repo.common_dir, dot_git);
	host_repo_free(&repo);
	assert_int_equal(host_repo_find(&repo, bare, &e), 0);
	assert_string_equal(repo.git_dir, bare);
	host_repo_free(&repo);
	assert_int_equal(host_repo_find(&repo, r->top, &e), -ENOENT);
	assert_non_null(strstr(e.text, "in no git repository"));
	e = ERR_INIT;
	assert_int_equal(host_repo_find(&repo, "/nonexistent", &e), -ENOENT);
}

static void test_find_alternates(void **state)
{
	struct repo_fixture *r = *state;
	_cleanup_free_ char *path = mem_printf("%s/borrower", r->top);
	_cleanup_free_ char *objects = mem_printf("%s/.git/objects", r->path);
	struct host_repo repo;
	struct err e = ERR_INIT;

	assert_int_equal(repo_sh(r, NULL, 0,
				 "git clone -q -s . ../borrower; git clone -q -s "
				 "../borrower ../twice"),
			 0);
	assert_int_equal(host_repo_find(&repo, path, &e), 0);
	assert_int_equal(repo.n_alternates, 1);
	assert_string_equal(repo.alternates[0], objects);
	host_repo_free(&repo);
	/* One that borrows from itself is no endless one. */
	assert_int_equal(
		repo_sh(r, NULL, 0,
			"echo ../../../borrower/.git/objects > .git/objects/info/alternates"),
		0);
	assert_int_equal(host_repo_find(&repo, path, &e), 0);
	assert_int_equal(repo.n_alternates, 2);
	host_repo_free(&repo);
}

static void test_somebody_elses(void **state)
{
	struct repo_fixture *r = *state;
	struct host_repo repo;
	struct err e = ERR_INIT;

	if (geteuid() != 0) {
		print_message("skipped: only root gives files away\n");
		skip();
	}
	assert_int_equal(repo_sh(r, NULL, 0, "chown -R 1234 .git"), 0);
	assert_int_equal(host_repo_find(&repo, r->path, &e), -EPERM);
	assert_non_null(strstr(e.text, "belongs to uid 1234"));
}

static void test_branch_in_the_way(void **state)
{
	static const char *const names[] = {"bottle", "bottle/" SLUG};
	struct repo_fixture *r = *state;
	struct host_repo repo;
	struct err e = ERR_INIT;

	assert_int_equal(host_repo_find(&repo, r->path, &e), 0);
	assert_int_equal(host_repo_check_branch(&repo, SLUG, &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(repo_sh(r, NULL, 0,
					 "git branch -qD bottle/other/secret; git branch %s",
					 names[i]),
				 0);
		assert_int_equal(host_repo_check_branch(&repo, SLUG, &e), -EEXIST);
		assert_non_null(strstr(e.text, "rename it"));
		assert_int_equal(repo_sh(r, NULL, 0, "git pack-refs --all"), 0);
		e = ERR_INIT;
		assert_int_equal(host_repo_check_branch(&repo, SLUG, &e), -EEXIST);
		assert_int_equal(repo_sh(r, NULL, 0,
					 "git branch -qD %s; git branch bottle/other/secret",
					 names[i]),
				 0);
	}
	assert_int_equal(host_repo_check_branch(&repo, SLUG, &e), 0);
	host_repo_free(&repo);
}

/* --- what is made --- */

static const char *made_refs(struct repo_fixture *r, const char *path)
{
	static char out[4096];

	assert_int_equal(repo_sh(r, out, sizeof(out),
				 "git --git-dir=%s for-each-ref "
				 "--format='%%(refname)'",
				 path),
			 0);
	return out;
}

static void make(struct repo_fixture *r, struct host_repo *repo, enum host_git_power power,
		 const char *path)
{
	struct err e = ERR_INIT;
	struct host_git g = {.repo = repo, .slug = SLUG, .power = power, .made = path};

	(void)r;
	if (host_git_make(&g, &e) < 0)
		fail_msg("%s", e.text);
}

static void test_made(void **state)
{
	struct repo_fixture *r = *state;
	_cleanup_free_ char *up = mem_printf("%s/up", r->top),
			    *down = mem_printf("%s/down", r->top);
	static const char all[] =
		"refs/heads/bottle/" SLUG "/mine\nrefs/heads/main\nrefs/heads/side\n"
		"refs/tags/v1\n";
	struct host_repo repo;
	struct err e = ERR_INIT;

	assert_int_equal(repo_sh(r, NULL, 0,
				 "git branch bottle/" SLUG "/mine; git pack-refs --all; "
				 "git branch -f side HEAD~"),
			 0);
	assert_int_equal(host_repo_find(&repo, r->path, &e), 0);
	make(r, &repo, HOST_GIT_UPLOAD, up);
	assert_string_equal(made_refs(r, up), all);
	assert_string_equal(repo_line(r, "git --git-dir=%s symbolic-ref HEAD", up),
			    "refs/heads/main");
	assert_string_equal(repo_line(r, "git --git-dir=%s rev-parse side", up),
			    repo_line(r, "git rev-parse HEAD~"));
	assert_int_equal(repo_sh(r, NULL, 0, "git checkout -q --detach v1"), 0);
	make(r, &repo, HOST_GIT_RECEIVE, down);
	assert_string_equal(made_refs(r, down), all);
	assert_string_equal(repo_line(r, "git --git-dir=%s rev-parse HEAD", down),
			    repo_line(r, "git rev-parse 'v1^{commit}'"));
	host_repo_free(&repo);
}

static void test_sha256_is_refused(void **state)
{
	struct repo_fixture *r = *state;
	_cleanup_free_ char *path = mem_printf("%s/new", r->top);
	struct host_repo repo;
	struct err e = ERR_INIT;

	assert_int_equal(repo_sh(r, NULL, 0,
				 "git init -q --object-format=sha256 ../new; cd ../new; "
				 "git commit -q --allow-empty -m x"),
			 0);
	assert_int_equal(host_repo_find(&repo, path, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "SHA-256"));
}

static void test_version(void **state)
{
	char text[128];
	struct err e = ERR_INIT;

	(void)state;
	if (host_git_version(text, sizeof(text), &e) < 0)
		fail_msg("%s", e.text);
	assert_true(str_starts(str_of(text), STR_LIT("git version ")));
}

/* --- the box --- */

/* Whoever has taken over git in it: this program, in its place. Says what it could do. */
static void attack_open(const char *what, const char *path, int flags)
{
	_cleanup_close_ int fd = open(path, flags | O_CLOEXEC, 0600);

	(void)printf("%s %s\n", what, fd >= 0 ? "yes" : "no");
}

static void attack_say(const char *what, bool could)
{
	(void)printf("%s %s\n", what, could ? "yes" : "no");
}

/* What the user's other processes are and have. */
static void attack_others(void)
{
	struct sockaddr_un peer = {.sun_family = AF_UNIX, .sun_path = "/nonexistent"};
	struct rlimit limit;
	int id, pair[2] = {-1, -1};

	(void)socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
	/* Nobody is there; EPERM and EBADF say that it was not even looked. */
	attack_say("datagram",
		   sendto(pair[0], "x", 1, 0, (struct sockaddr *)&peer, sizeof(peer)) == 1 ||
			   errno == ENOENT);
	attack_say("owner", fcntl(1, F_SETOWN, getppid()) == 0);
	attack_say("limit", prlimit(getppid(), RLIMIT_CORE, NULL, &limit) == 0);
	attack_say("own-limit", getrlimit(RLIMIT_CORE, &limit) == 0);
	attack_say("priority", setpriority(PRIO_PROCESS, (id_t)getppid(), 0) == 0);
	id = shmget(IPC_PRIVATE, 4096, 0600);
	attack_say("shared", id >= 0);
	if (id >= 0)
		(void)shmctl(id, IPC_RMID, NULL);
}

static int attack(char **words)
{
	static char *const none[] = {NULL};
	struct sockaddr_un peer = {.sun_family = AF_UNIX};
	int fd, pair[2];

	(void)setvbuf(stdout, NULL, _IONBF, 0);
	for (; words[0] && words[1] && words[2]; words += 3) {
		bool is_write = words[0][0] == 'w', is_make = words[0][0] == 'm';

		attack_open(words[1], words[2],
			    is_make    ? O_WRONLY | O_CREAT | O_EXCL
			    : is_write ? O_WRONLY
				       : O_RDONLY);
	}
	fd = socket(AF_INET, SOCK_STREAM, 0);
	(void)printf("inet %s\n", fd >= 0 ? "yes" : "no");
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	(void)printf("unix %s\n", fd >= 0 ? "yes" : "no");
	(void)printf("pair %s\n",
		     socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 &&
				     connect(pair[0], (struct sockaddr *)&peer, sizeof(peer)) == 0
			     ? "yes"
			     : "no");
	(void)printf("signal %s\n", kill(getppid(), 0) == 0 ? "yes" : "no");
	attack_others();
	(void)printf("chdir-git %s\n", chdir("/usr/lib/git-core") == 0 ? "yes" : "no");
	if (fork() == 0) {
		(void)execve("/bin/sh", none, none);
		_exit(99);
	}
	(void)wait(&fd);
	(void)printf("shell %s\n", WIFEXITED(fd) && WEXITSTATUS(fd) == 99 ? "no" : "yes");
	return 0;
}

static bool has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1u) >= 2;
}

/* What a program in its place could do, one "WHAT yes" or "WHAT no" a line. */
static void run_attack(const struct host_git *g, const char *const *argv, char *out, size_t size)
{
	struct err e = ERR_INIT;
	struct collect c;

	if (collect_fork(&c)) {
		(void)!host_git_become(g, argv, &e);
		(void)dprintf(2, "%s\n", e.text);
		_exit(97);
	}
	if (collect_end(&c, out, size) != 0)
		fail_msg("%s", out);
}

static void box_holds(struct repo_fixture *r)
{
	static const struct {
		char how;
		const char *what, *path; /* below the repository, or absolute */
		bool in_upload, in_receive;
	} tries[] = {
		{'r', "objects", ".git/objects/info", true, true},
		{'m', "new-object", ".git/objects/new", false, true},
		{'m', "own-branch", ".git/refs/heads/bottle/" SLUG "/x", false, true},
		{'m', "own-log", ".git/logs/refs/heads/bottle/" SLUG "/x", false, true},
		{'r', "passwd", "/etc/passwd", false, false},
		{'r', "proc", "/proc/self/environ", false, false},
		{'r', "config", ".git/config", false, false},
		{'w', "config-write", ".git/config", false, false},
		{'w', "head", ".git/HEAD", false, false},
		{'w', "index", ".git/index", false, false},
		{'m', "index-lock", ".git/index.lock", false, false},
		{'m', "hook", ".git/hooks/post-checkout", false, false},
		{'w', "main", ".git/refs/heads/main", false, false},
		{'m', "main-lock", ".git/refs/heads/main.lock", false, false},
		{'m', "packed-lock", ".git/packed-refs.lock", false, false},
		{'m', "other-bottle", ".git/refs/heads/bottle/other/x", false, false},
		{'m', "bottles", ".git/refs/heads/bottle/x", false, false},
		{'r', "stash", ".git/refs/stash", false, false},
		{'r', "work-tree", "file", false, false},
		{'r', "untracked", ".env", false, false},
		{'m', "work-tree-new", "new", false, false},
		{'m', "tmp", "/tmp/claude-bottle-box-test", false, false},
		{'w', "made-config", "../made/config", false, false},
	};
	_cleanup_free_ char *path = mem_printf("%s/made", r->top);
	char out[8192], self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	assert_true(n > 0);
	self[n] = '\0';
	for (int power = HOST_GIT_UPLOAD; power <= HOST_GIT_RECEIVE; power++) {
		const char *argv[64] = {"--attack"};
		char *paths[ARRAY_LEN(tries)];
		struct host_repo repo;
		struct host_git g = {.repo = &repo,
				     .slug = SLUG,
				     .power = (enum host_git_power)power,
				     .made = path,
				     .program = self};
		struct err e = ERR_INIT;
		size_t at = 1;

		assert_int_equal(host_repo_find(&repo, r->path, &e), 0);
		g.program = NULL;
		(void)!io_remove_tree(AT_FDCWD, path, NULL);
		if (host_git_make(&g, &e) < 0)
			fail_msg("%s", e.text);
		g.program = self;
		/* In three runs: a command has as many arguments as git ever gets. */
		out[0] = '\0';
		for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
			paths[i] = tries[i].path[0] == '/'
					   ? mem_strdup(tries[i].path)
					   : mem_printf("%s/%s", r->path, tries[i].path);
			argv[at++] = tries[i].how == 'r' ? "r" : tries[i].how == 'w' ? "w" : "m";
			argv[at++] = tries[i].what;
			argv[at++] = paths[i];
			argv[at] = NULL;
			if (at < 50 && i + 1 < ARRAY_LEN(tries))
				continue;
			run_attack(&g, argv, out + strlen(out), sizeof(out) - strlen(out));
			at = 1;
		}
		for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
			bool may =
				power == HOST_GIT_UPLOAD ? tries[i].in_upload : tries[i].in_receive;
			_cleanup_free_ char *line =
				mem_printf("%s %s\n", tries[i].what, may ? "yes" : "no");

			if (!strstr(out, line))
				fail_msg("power %d: expected %s in\n%s", power, line, out);
			free(paths[i]);
		}
		assert_non_null(strstr(out, "inet no\n"));
		assert_non_null(strstr(out, "unix no\n"));
		assert_non_null(strstr(out, "pair no\n"));
		assert_non_null(strstr(out, "signal no\n"));
		assert_non_null(strstr(out, "datagram no\nowner no\nlimit no\nown-limit yes\n"
					    "priority no\nshared no\n"));
		assert_non_null(strstr(out, "shell no\n"));
		host_repo_free(&repo);
	}
}

static void test_box(void **state)
{
	/* Before anything is allocated. */
	if (!has_landlock() || IS_INSTRUMENTED) {
		print_message("skipped: %s\n", IS_INSTRUMENTED
						       ? "the sanitizers' runtime needs calls "
							 "that the filters refuse"
						       : "this kernel has no Landlock");
		skip();
	}
	box_holds(*state);
}

/* The test can fail: without the box all of it is possible. */
static void test_attacks_work_outside(void **state)
{
	struct repo_fixture *r = *state;
	char out[4096], self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	assert_true(n > 0);
	self[n] = '\0';
	assert_int_equal(repo_sh(r, out, sizeof(out),
				 "%s --attack r passwd /etc/passwd w head .git/HEAD m hook "
				 ".git/hooks/post-checkout r untracked .env",
				 self),
			 0);
	assert_null(strstr(strstr(out, "passwd") ? out : "x no", "passwd no"));
	assert_non_null(
		strstr(out, "passwd yes\nhead yes\nhook yes\nuntracked yes\ninet yes\nunix yes\n"));
	assert_non_null(strstr(out, "signal yes\n"));
	assert_non_null(strstr(out, "datagram yes\nowner yes\nlimit yes\nown-limit yes\n"
				    "priority yes\nshared yes\n"));
	assert_non_null(strstr(out, "shell yes\n"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_find, setup, teardown),
		cmocka_unit_test_setup_teardown(test_find_alternates, setup, teardown),
		cmocka_unit_test_setup_teardown(test_somebody_elses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_branch_in_the_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_made, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sha256_is_refused, setup, teardown),
		cmocka_unit_test(test_version),
		cmocka_unit_test_setup_teardown(test_box, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attacks_work_outside, setup, teardown),
	};

	if (argc > 1 && strcmp(argv[1], "--attack") == 0)
		return attack(argv + 2);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
