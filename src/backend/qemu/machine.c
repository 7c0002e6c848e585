/* One QEMU in a cell, and this side's ends of everything that leads into it. */
#include "backend/qemu/qemu_int.h"

#include "base/clean.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

void qemu_machine_init(struct qemu_machine *m)
{
	*m = (struct qemu_machine){.cell = CELL_INIT,
				   .monitor_fd = -1,
				   .console_fd = -1,
				   .control_fd = -1,
				   .said_fd = -1};
	for (size_t i = 0; i < MACHINE_SESSIONS; i++)
		m->session_fds[i] = -1;
}

static int make_pair(int *ours, int *theirs, struct err *e)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	*ours = pair[0];
	*theirs = pair[1];
	return 0;
}

/* fds[i]: what QEMU gets. Those of parts are not ours to close. */
static int make_fds(struct qemu_machine *m, const struct qemu_parts *parts, int fds[QEMU_FD_COUNT],
		    struct err *e)
{
	int ret;

	fds[QEMU_FD_KERNEL] = parts->kernel_fd;
	fds[QEMU_FD_INITRAMFS] = parts->initramfs_fd;
	for (size_t i = 0; i < QEMU_DISKS; i++)
		fds[QEMU_FD_DISK + i] = parts->disk_fds[i];
	ret = make_pair(&m->monitor_fd, &fds[QEMU_FD_MONITOR], e);
	if (ret == 0)
		ret = make_pair(&m->console_fd, &fds[QEMU_FD_CONSOLE], e);
	if (ret == 0)
		ret = make_pair(&m->control_fd, &fds[QEMU_FD_CONTROL], e);
	for (size_t i = 0; ret == 0 && i < MACHINE_SESSIONS; i++)
		ret = make_pair(&m->session_fds[i], &fds[QEMU_FD_SESSION + i], e);
	return ret;
}

static int run(struct qemu_machine *m, const struct qemu_start *s, const int *fds, int said_fd,
	       struct err *e)
{
	char **argv = qemu_args_make(s->shape, s->is_paused);
	const struct cell_run r = {.argv = argv,
				   .in_fd = -1,
				   .out_fd = said_fd,
				   .err_fd = said_fd,
				   .fds = fds,
				   .n_fds = QEMU_FD_COUNT,
				   .address_space_bytes = qemu_shape_address_space(s->shape),
				   .until_fd = s->until_fd};
	int ret = cell_run(&m->cell, &r, &m->pid, e);

	qemu_args_free(argv);
	return ret;
}

/* Of the home's disk, and of a snapshot. */
static uint64_t file_size(const struct qemu_start *s)
{
	uint64_t state = s->is_saved ? s->shape->memory_bytes * 2 : 0;

	return state > VM_HOME_BYTES ? state : VM_HOME_BYTES;
}

int qemu_machine_start(struct qemu_machine *m, const struct qemu_start *s, struct err *e)
{
	/* The C library keeps room for as many heaps as the host has processors, eightfold. */
	static char *const env[] = {(char *)"PATH=/usr/bin", (char *)"LC_ALL=C",
				    (char *)"MALLOC_ARENA_MAX=4", NULL};
	static const struct cell_bind kvm = {
		.from = "/dev/kvm", .to = "/dev/kvm", .is_device = true};
	const struct cell_spec spec = {.wall = s->wall,
				       .cgroup = s->cgroup,
				       .slug = s->slug,
				       .binds = &kvm,
				       .n_binds = s->shape->is_kvm ? 1 : 0,
				       .env = env,
				       .file_size_bytes = file_size(s)};
	int fds[QEMU_FD_COUNT], said[2] = {-1, -1}, ret;

	for (size_t i = 0; i < QEMU_FD_COUNT; i++)
		fds[i] = -1;
	ret = cell_make(&m->cell, &spec, e);
	if (ret == 0)
		ret = make_fds(m, s->parts, fds, e);
	if (ret == 0 && pipe2(said, O_CLOEXEC) < 0)
		ret = err_errno(e, "pipe");
	m->said_fd = said[0];
	if (ret == 0)
		ret = run(m, s, fds, said[1], e);
	close_fd(&said[1]);
	for (size_t i = QEMU_FD_MONITOR; i < QEMU_FD_COUNT; i++)
		close_fd(&fds[i]);
	return ret;
}

void qemu_machine_wait(const struct qemu_machine *m, pid_t child, int timeout_ms)
{
	_cleanup_close_ int qemu = m->pid > 0 ? (int)syscall(SYS_pidfd_open, m->pid, 0) : -1;
	_cleanup_close_ int other = child > 0 ? (int)syscall(SYS_pidfd_open, child, 0) : -1;
	struct pollfd ends[] = {{.fd = qemu, .events = POLLIN}, {.fd = other, .events = POLLIN}};
	uint64_t until = time_monotonic_ns() + (uint64_t)timeout_ms * TIME_NS_PER_MS, now;
	int n = qemu >= 0 && other >= 0 ? 0 : 1;

	/* When QEMU closes its ports, which is the wire's end, it has closed its disks. */
	while (n <= 0 && (now = time_monotonic_ns()) < until)
		n = poll(ends, ARRAY_LEN(ends), (int)((until - now) / TIME_NS_PER_MS) + 1);
}

void qemu_machine_kill(struct qemu_machine *m)
{
	if (m->pid > 0)
		(void)kill(m->pid, SIGKILL);
	cell_free(&m->cell);
	m->cell = CELL_INIT;
	while (m->pid > 0 && waitpid(m->pid, NULL, 0) < 0 && errno == EINTR)
		;
	m->pid = 0;
}

void qemu_machine_free(struct qemu_machine *m)
{
	qemu_machine_kill(m);
	close_fd(&m->monitor_fd);
	close_fd(&m->console_fd);
	close_fd(&m->control_fd);
	close_fd(&m->said_fd);
	for (size_t i = 0; i < MACHINE_SESSIONS; i++)
		close_fd(&m->session_fds[i]);
}
