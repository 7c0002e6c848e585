/*
 * What the tests run in place of the bundle's executable: its guest commands, process 1 with a
 * socket elsewhere, and an attacker.
 */
#include "guest/guest_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The leak checker traces its own process, which a process that is not dumpable does not allow; and
 * the real process 1 has no handlers of faults, which make an agent's forged ones count. */
const char *__asan_default_options(void); /* NOLINT: the sanitizer's name */
const char *__asan_default_options(void)  /* NOLINT */
{
	return "detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigill=0:"
	       "handle_sigfpe=0";
}

static int said(const char *what)
{
	return printf("%s ", what) > 0;
}

static void try_file(const char *pid, const char *name, int flags)
{
	char path[280];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd >= 0) {
		char byte;

		/* Opened is not yet read: what is there may still be closed to this process. */
		if (strcmp(name, "environ") != 0 || read(fd, &byte, 1) == 1)
			(void)said(name);
		(void)close(fd);
	}
}

static void try_descriptors(const char *pid, int pidfd)
{
	for (int fd = 0; fd < 16; fd++) {
		char path[64], target[64];

		(void)snprintf(path, sizeof(path), "/proc/%s/fd/%d", pid, fd);
		if (readlink(path, target, sizeof(target)) > 0)
			(void)said("readlink");
		if (syscall(SYS_pidfd_getfd, pidfd, fd, 0) >= 0)
			(void)said("pidfd_getfd");
	}
}

/* Says which ways into a process are open. */
static int attack(const char *pid)
{
	char byte;
	struct iovec here = {&byte, 1}, there = {(void *)attack, 1};
	pid_t number = (pid_t)strtol(pid, NULL, 10);
	int pidfd = (int)syscall(SYS_pidfd_open, number, 0);

	try_file(pid, "mem", O_RDWR);
	try_file(pid, "environ", O_RDONLY);
	try_file(pid, "exe", O_PATH);
	try_file(pid, "root", O_PATH);
	try_file(pid, "ns/net", O_RDONLY);
	try_descriptors(pid, pidfd);
	if (process_vm_readv(number, &here, 1, &there, 1, 0) >= 0 || errno == EFAULT)
		(void)said("process_vm_readv");
	if (ptrace(PTRACE_SEIZE, number, NULL, NULL) == 0)
		(void)said("ptrace");
	return fflush(stdout);
}

/* For guest_close_from_host(): what must not hold its caller up. */
static int misbehave(const char *pinned)
{
	if (strcmp(pinned, "10.99.0.1") == 0) {
		for (;;)
			(void)pause();
	}
	if (strcmp(pinned, "10.99.0.2") == 0) {
		for (int i = 0; i < 100000; i++)
			(void)fprintf(stderr, "long ");
		return 1;
	}
	if (strcmp(pinned, "10.99.0.3") == 0) {
		(void)close(STDERR_FILENO);
		(void)poll(NULL, 0, 50);
		return 7;
	}
	return -1;
}

int main(int argc, char **argv)
{
	int ret = argc == 4 && strcmp(argv[2], "close") == 0 ? misbehave(argv[3]) : -1;

	if (ret >= 0)
		return ret;
	if (argc > 1 && strcmp(argv[1], "guest") == 0)
		return guest_main(argc - 2, argv + 2);
	if (argc == 3 && strcmp(argv[1], "init-at") == 0)
		return init_run(argv[2], 300);
	if (argc == 3 && strcmp(argv[1], "attack") == 0)
		return attack(argv[2]);
	return 99;
}
