#include "double.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/mem.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#define WORDS_MAX 48

pid_t double_start(const char *folder, const char *word, const char *argument,
		   const char *const *before)
{
	_cleanup_free_ char *program = mem_printf("%s/claude-bottle-bundle", folder);
	_cleanup_free_ char *script = mem_printf("%s/%s", folder, word);
	char *const env[] = {(char *)(uintptr_t) "PATH=/usr/bin:/bin", NULL};
	int fd = open(script, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	static const char text[] = "read line\n";
	const char *argv[WORDS_MAX + 4];
	int pipe_fds[2]; /* it reads for ever: nobody writes */
	size_t n = 0;
	pid_t pid;

	for (; before && before[n]; n++)
		argv[n] = before[n];
	argv[n] = program;
	argv[n + 1] = word;
	argv[n + 2] = argument;
	argv[n + 3] = NULL;
	assert_int_equal(pipe(pipe_fds), 0);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	close(fd);
	(void)!symlink("/bin/sh", program);
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		(void)dup2(pipe_fds[0], STDIN_FILENO);
		if (chdir(folder) == 0)
			(void)execve(argv[0], (char *const *)(uintptr_t)argv, env);
		_exit(127);
	}
	return pid;
}

void double_remove(const char *folder, const char *word)
{
	_cleanup_free_ char *script = mem_printf("%s/%s", folder, word);
	_cleanup_free_ char *program = mem_printf("%s/claude-bottle-bundle", folder);

	(void)unlink(script);
	(void)unlink(program);
	(void)rmdir(folder);
}
