#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cell_fixture.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define FIXTURE_UID	 12345
#define FIXTURE_WAIT_MS	 10000
#define FIXTURE_SAID_MAX 65536

static const char *program_path;

void fixture_begin(int argc, char **argv)
{
	program_path = argc > 1 ? argv[1] : NULL;
	if (argc < 3 || strcmp(argv[2], "user") != 0 || geteuid() != 0)
		return;
	if (setgroups(0, NULL) < 0 || setresgid(FIXTURE_UID, FIXTURE_UID, FIXTURE_UID) < 0 ||
	    setresuid(FIXTURE_UID, FIXTURE_UID, FIXTURE_UID) < 0 ||
	    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		abort();
}

static void fixture_write(const char *path, struct str text, mode_t mode)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text.p, text.n), 0);
}

void fixture_prepare(struct cell_fixture *f)
{
	static char *env[] = {(char *)(uintptr_t) "PATH=/usr/bin:/bin",
			      (char *)(uintptr_t) "LC_ALL=C", NULL};
	char path[96];
	struct str program;
	struct err e = ERR_INIT;

	memset(f, 0, sizeof(*f));
	f->cell = CELL_INIT;
	(void)snprintf(f->top, sizeof(f->top), "/tmp/cell-test-XXXXXX");
	assert_non_null(mkdtemp(f->top));
	(void)snprintf(f->shown, sizeof(f->shown), "%s/shown", f->top);
	(void)snprintf(f->kept, sizeof(f->kept), "%s/kept", f->top);
	(void)snprintf(path, sizeof(path), "%s/text", f->shown);
	(void)snprintf(f->program, sizeof(f->program), "%s/bundle", f->top);
	if (wall_make(&f->wall, WALL_PINNED_DEFAULT, NULL, 0, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(mkdir(f->shown, 0755), 0);
	assert_int_equal(mkdir(f->kept, 0700), 0);
	assert_int_equal(chown(f->kept, f->wall.uid, f->wall.gid), 0);
	fixture_write(path, STR_LIT("shown text\n"), 0644);
	assert_int_equal(io_read_file(AT_FDCWD, program_path, 256u << 20, &program, NULL), 0);
	fixture_write(f->program, program, 0755);
	free((void *)(uintptr_t)program.p);
	assert_int_equal(setenv("CLAUDE_BOTTLE_BUNDLE", f->program, 1), 0);
	f->binds[0] = (struct cell_bind){.from = f->shown, .to = "/shown"};
	f->binds[1] = (struct cell_bind){.from = f->kept, .to = "/kept", .is_writable = true};
	f->spec = (struct cell_spec){.wall = &f->wall,
				     .cgroup = &f->cgroup,
				     .slug = "test-cell",
				     .binds = f->binds,
				     .n_binds = 2,
				     .env = env};
}

void fixture_make(struct cell_fixture *f)
{
	struct err e = ERR_INIT;

	fixture_prepare(f);
	if (cell_make(&f->cell, &f->spec, &e) < 0)
		fail_msg("%s", e.text);
}

void fixture_free(struct cell_fixture *f)
{
	cell_free(&f->cell);
	wall_free(&f->wall);
	assert_int_equal(io_remove_tree(AT_FDCWD, f->top, NULL), 0);
}

static char *const *fixture_shell(const char *script)
{
	static char *argv[] = {(char *)(uintptr_t) "/bin/bash", (char *)(uintptr_t) "-c", NULL,
			       NULL};

	argv[2] = (char *)(uintptr_t)script;
	return argv;
}

int fixture_script(struct cell_fixture *f, const char *script, char *out, size_t size)
{
	struct cell_run r = {
		.argv = fixture_shell(script), .in_fd = -1, .out_fd = -1, .err_fd = -1};
	struct str said, complained;
	struct err e = ERR_INIT;
	int ret =
		cell_call(&f->cell, &r, FIXTURE_WAIT_MS, FIXTURE_SAID_MAX, &said, &complained, &e);

	if (ret < 0)
		fail_msg("%s", e.text);
	(void)snprintf(out, size, "\n%.*s", (int)said.n, said.p);
	if (complained.n > 0)
		print_message("%.*s", (int)complained.n, complained.p);
	free((void *)(uintptr_t)said.p);
	free((void *)(uintptr_t)complained.p);
	return ret;
}

void fixture_start(struct cell_fixture *f, const char *script, int out_fd, const int *fds,
		   size_t n_fds, pid_t *pid)
{
	struct cell_run r = {.argv = fixture_shell(script),
			     .in_fd = -1,
			     .out_fd = out_fd,
			     .err_fd = out_fd,
			     .fds = fds,
			     .n_fds = n_fds};
	struct err e = ERR_INIT;

	if (cell_run(&f->cell, &r, pid, &e) < 0)
		fail_msg("%s", e.text);
}

int fixture_wait(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void fixture_assert_line(const char *out, const char *line)
{
	_cleanup_free_ char *whole = NULL;

	if (asprintf(&whole, "\n%s\n", line) < 0 || !strstr(out, whole))
		fail_msg("no line \"%s\" in:%s", line, out);
}

bool fixture_has_ended(int fd)
{
	char byte;

	return io_wait(fd, POLLIN, FIXTURE_WAIT_MS) == 1 && read(fd, &byte, 1) == 0;
}

bool fixture_has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1u) > 0;
}
