#include "collect.h"

#include "base/clean.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

bool collect_fork(struct collect *c)
{
	int pair[2];

	if (pipe2(pair, O_CLOEXEC) < 0 || (c->pid = fork()) < 0)
		abort();
	if (c->pid == 0 && (dup2(pair[1], 1) < 0 || dup2(pair[1], 2) < 0))
		_exit(99);
	(void)close(pair[1]);
	c->fd = pair[0];
	return c->pid == 0;
}

int collect_wait(struct collect *c)
{
	int status;

	close_fd(&c->fd);
	while (waitpid(c->pid, &status, 0) < 0)
		if (errno != EINTR)
			abort();
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int collect_end(struct collect *c, char *out, size_t size)
{
	size_t n = 0;
	ssize_t got;

	while (n < size - 1 && (got = read(c->fd, out + n, size - 1 - n)) > 0)
		n += (size_t)got;
	out[n] = '\0';
	return collect_wait(c);
}
