/* Each power that a role gives away is gone: tried in a child, with a control that it was there. */
#include "priv_fixture.h"

#include "priv/priv.h"

#include "base/clean.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int seal(unsigned sets)
{
	struct priv_limits limits = {.files = 64, .processes = sets & PRIV_SECCOMP_FORK ? 16 : 0};

	return priv_basics(NULL) < 0 || priv_limit(&limits, NULL) < 0 ||
	       priv_landlock(NULL, 0, false, NULL) < 0 ||
	       priv_drop_uid(geteuid() == 0 ? 61999 : 0, NULL) < 0 || priv_seccomp(sets, NULL) < 0;
}

static int child_base_works(void)
{
	char byte = 'x';
	void *p;

	if (seal(0))
		return 2;
	p = malloc(1 << 20);
	return p && write(STDERR_FILENO, &byte, 0) == 0 ? 0 : 3;
}

static int child_opens(void)
{
	return seal(0) ? 2 : open("/etc/passwd", O_RDONLY) >= 0 ? 3 : errno == EACCES ? 0 : 4;
}

static int child_opens_with_set(void)
{
	/* seccomp lets it through; Landlock still has no path for it. */
	return seal(PRIV_SECCOMP_OPEN) ? 2 : open("/etc/passwd", O_RDONLY) >= 0 ? 3 : 0;
}

static int child_dials(void)
{
	return seal(0) ? 2 : socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 3 : 4;
}

static int child_forks(void)
{
	return seal(0) ? 2 : fork() >= 0 ? 3 : 4;
}

static int child_execs(void)
{
	if (seal(0))
		return 2;
	(void)execl("/bin/true", "true", (char *)NULL);
	return 3;
}

static int child_maps_code(void)
{
	void *p;

	if (seal(0))
		return 2;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		 0);
	return p == MAP_FAILED ? 4 : 3;
}

/* From a file to a socket, under a filter with these sets. */
static int sends_file(unsigned sets)
{
	int file = memfd_create("file", MFD_CLOEXEC), ends[2];

	if (file < 0 || write(file, "x", 1) != 1 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 ||
	    seal(sets))
		return 2;
	return sendfile(ends[0], file, &(off_t){0}, 1) == 1 ? 0 : 3;
}

static int child_sends_file(void)
{
	return sends_file(0);
}

static int child_sends_file_with_set(void)
{
	return sends_file(PRIV_SECCOMP_SENDFILE);
}

/* As gitssh: children of the same program, and nothing else of what EXEC has. */
static int child_forks_with_set(void)
{
	int status = -1;
	pid_t pid;

	if (seal(PRIV_SECCOMP_FORK | PRIV_SECCOMP_KILL))
		return 2;
	pid = fork();
	if (pid == 0)
		_exit(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 ? 5 : 6);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 5 << 8)
		return 3;
	pid = fork();
	if (pid == 0)
		for (;;)
			(void)poll(NULL, 0, -1);
	if (kill(pid, SIGKILL) < 0 || waitpid(pid, &status, 0) != pid || status != SIGKILL)
		return 4;
	return 0;
}

static int child_forks_and_execs(void)
{
	if (seal(PRIV_SECCOMP_FORK))
		return 2;
	(void)execl("/bin/true", "true", (char *)NULL);
	return 3;
}

static int child_forks_and_kills_all(void)
{
	if (seal(PRIV_SECCOMP_FORK | PRIV_SECCOMP_KILL))
		return 2;
	(void)kill(-1, 0);
	return 3;
}

static int child_forks_and_kills(void)
{
	if (seal(PRIV_SECCOMP_FORK))
		return 2;
	(void)kill(getppid(), 0);
	return 3;
}

static int child_forks_into_namespace(void)
{
	if (seal(PRIV_SECCOMP_FORK))
		return 2;
	(void)syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER, NULL, NULL, NULL, 0);
	return 3;
}

/* As gitgate: sealed with a work folder of its own and what programs are made of. In the child,
 * which becomes `program`. */
static char work_folder[] = "/tmp/cb-priv-XXXXXX";

static int seal_for_programs(void)
{
	const struct priv_limits limits = {
		.files = 64, .processes = 64, .file_size_bytes = 1 << 20};
	const struct priv_path paths[] = {{"/usr", PRIV_READ | PRIV_EXECUTE},
					  {"/bin", PRIV_READ | PRIV_EXECUTE},
					  {"/lib", PRIV_READ | PRIV_EXECUTE},
					  {"/lib64", PRIV_READ | PRIV_EXECUTE | PRIV_OPTIONAL},
					  {"/lib65", PRIV_READ | PRIV_OPTIONAL},
					  {"/dev/null", PRIV_READ | PRIV_WRITE},
					  {"/dev/urandom", PRIV_READ},
					  {work_folder, PRIV_READ | PRIV_WRITE | PRIV_MANAGE}};
	const uid_t uid = geteuid() == 0 ? 61999 : 0;

	if (uid && chown(work_folder, uid, uid) < 0)
		return 1;
	return priv_basics(NULL) < 0 || priv_limit(&limits, NULL) < 0 ||
	       priv_landlock(paths, ARRAY_LEN(paths), false, NULL) < 0 ||
	       priv_drop_uid(uid, NULL) < 0 || priv_seccomp(PRIV_SECCOMP_EXEC, NULL) < 0 ||
	       chdir(work_folder) < 0;
}

static int child_runs_programs(void)
{
	static const char script[] =
		"set -e; no() { if \"$@\" 2>no; then exit 9; fi; }; "
		"mkdir a b; echo x >a/f; mv a/f b/g; ln b/g a/h; cat a/h | grep -q x; "
		"chmod 400 b/g; no ln -s /etc a/s; rm b/g a/h; rmdir a b; no cat /etc/passwd; "
		"no touch /usr/f; no ls /proc; no ls /tmp";

	if (seal_for_programs())
		return 2;
	(void)execl("/bin/sh", "sh", "-c", script, (char *)NULL);
	return 3;
}

/* What was linked against a library of the system, with threads. */
static int child_runs_git(void)
{
	static const char script[] =
		"set -e; git init -q r; cd r; export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b "
		"GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; "
		"for i in 1 2 3 4 5 6 7 8 9; do echo $i$i >$i; done; git add .; git commit -qm x; "
		"git -c pack.threads=2 repack -qad; git clone -q --bare . ../m; cd ..; "
		"git -C m config receive.unpackLimit 1; git -C m config pack.threads 3; "
		"head -c 300000 /dev/urandom >r/big; git -C r add .; git -C r commit -qm y; "
		"git -C r push -q \"file://$PWD/m\" HEAD:refs/heads/y; git -C m fsck --strict; "
		"git -C m cat-file -e y; git clone -q --bare \"file://$PWD/m\" n; "
		"git -C n fetch -q --prune \"file://$PWD/m\" \"+refs/heads/*:refs/heads/*\"; "
		"export GIT_PROJECT_ROOT=$PWD GIT_HTTP_EXPORT_ALL=1 REQUEST_METHOD=GET "
		"PATH_INFO=/m/info/refs QUERY_STRING=service=git-upload-pack; "
		"git http-backend >answer; grep -q refs/heads/y answer";

	if (seal_for_programs())
		return 2;
	(void)setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
	(void)setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
	(void)setenv("HOME", "/nonexistent", 1);
	(void)execl("/bin/sh", "sh", "-c", script, (char *)NULL);
	return 3;
}

/* Programs are told that there is no such call. */
static int child_programs_are_refused(void)
{
	if (seal_for_programs())
		return 2;
	if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || errno != EACCES)
		return 3;
	if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || ptrace(PTRACE_TRACEME, 0, 0, 0) == 0)
		return 4;
	if (unshare(CLONE_NEWUSER) == 0 || errno != ENOSYS || kill(-1, 0) == 0)
		return 5;
	if (syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER, NULL, NULL, NULL, 0) >= 0)
		return 6;
	if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
	    MAP_FAILED)
		return 7;
	/* A group of its own a worker may make, and go into no other. */
	if (setsid() >= 0 || setpgid(0, getppid()) == 0)
		return 8;
	if (chmod(".", 04755) == 0 || chmod(".", 0700) < 0)
		return 9;
	return 0;
}

static int child_traces(void)
{
	return seal(0) ? 2 : ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 ? 3 : 4;
}

static int child_becomes_root(void)
{
	return priv_basics(NULL) < 0 || priv_drop_uid(61999, NULL) < 0 ? 2
	       : setuid(0) == 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0 ||
			       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 ||
			       prctl(PR_CAPBSET_READ, 0, 0, 0, 0) != 0
		       ? 3
		       : 0;
}

static int child_landlock_connects(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(1),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	/* Control: nobody listens there, so it is refused by the peer. */
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 || errno != ECONNREFUSED)
		return 2;
	if (priv_basics(NULL) < 0)
		return 2;
	if (priv_landlock(NULL, 0, false, NULL) != 0)
		return 77;
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno == EACCES ? 0 : 3;
}

static void assert_killed_by_filter(int status)
{
	assert_true(is_killed_by_filter(status));
}

static void test_base_works(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_base_works), 0);
}

static void test_files_are_gone(void **state)
{
	(void)state;
	if (!priv_is_instrumented())
		assert_int_equal(in_child(child_opens), 0);
	assert_int_equal(in_child(child_opens_with_set), 0);
}

static void test_filter_kills(void **state)
{
	(void)state;
	if (priv_is_instrumented())
		skip_because(NO_FILTERS);
	assert_killed_by_filter(in_child(child_dials));
	assert_killed_by_filter(in_child(child_forks));
	assert_killed_by_filter(in_child(child_execs));
	assert_killed_by_filter(in_child(child_maps_code));
	assert_killed_by_filter(in_child(child_traces));
	assert_killed_by_filter(in_child(child_sends_file));
	assert_int_equal(in_child(child_sends_file_with_set), 0);
}

static void test_fork_set(void **state)
{
	(void)state;
	if (priv_is_instrumented())
		skip_because(NO_FILTERS);
	assert_int_equal(in_child(child_forks_with_set), 0);
	assert_killed_by_filter(in_child(child_forks_and_execs));
	assert_killed_by_filter(in_child(child_forks_and_kills_all));
	assert_killed_by_filter(in_child(child_forks_and_kills));
	assert_killed_by_filter(in_child(child_forks_into_namespace));
}

static void test_exec_set(void **state)
{
	(void)state;
	if (priv_is_instrumented())
		skip_because(NO_FILTERS);
	assert_int_equal(in_child(child_programs_are_refused), 0);
	assert_int_equal(in_child(child_runs_programs), 0);
	assert_int_equal(in_child(child_runs_git), 0);
}

static void test_uid_is_gone(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip_because("only root has a uid to give away");
	assert_int_equal(in_child(child_becomes_root), 0);
}

static void test_landlock_network(void **state)
{
	int status;

	(void)state;
	status = in_child(child_landlock_connects);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip_because("this kernel has no Landlock");
	assert_int_equal(status, 0);
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(work_folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char command[64];
	int status;

	(void)state;
	(void)snprintf(command, sizeof(command), "exec rm -rf %s", work_folder);
	if (fork() == 0) {
		(void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	return wait(&status) > 0 ? status : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base_works),
		cmocka_unit_test(test_files_are_gone),
		cmocka_unit_test(test_filter_kills),
		cmocka_unit_test(test_uid_is_gone),
		cmocka_unit_test(test_fork_set),
		cmocka_unit_test_setup_teardown(test_exec_set, make_folder, remove_folder),
		cmocka_unit_test(test_landlock_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
