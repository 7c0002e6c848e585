/* The qemu backend behind the common table: a wall, a cell in it, and in the cell QEMU with a
 * machine of the agent's own. What there is of one bottle is told in qemu_int.h. */
#include "backend/qemu/qemu_int.h"

#include "backend/agent_clone.h"
#include "backend/agent_env.h"
#include "backend/agent_go.h"
#include "backend/agent_home.h"
#include "backend/git_folder.h"
#include "backend/images.h"
#include "backend/guest_execs.h"
#include "backend/walled/walled.h"
#include "base/child.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/ports.h"
#include "base/text.h"
#include "guest/guest_host.h"
#include "priv/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define QEMU_UNDO_MS  10000
#define QEMU_BOOT_MS  60000 /* without a template, on a busy host */
#define QEMU_GREET_MS (QEMU_BOOT_MS + MACHINE_READY_MS + 5000)
#define QEMU_QUIT_MS  1000	 /* of a machine that is told to end */
#define QEMU_END_MS   5000	 /* of one whose agent has ended: it writes the home to its disk */
#define QEMU_WIRE_MS  500	 /* of the wire, after QEMU */
#define QEMU_DNS      "10.0.2.3" /* of QEMU's user networking */

#define QEMU_WIRE_DOES	"speaks with the virtual machine"
#define QEMU_RELAY_DOES "stands for the agent"

struct bottle {
	const struct plan *plan;
	struct walled walled;
	struct qemu_parts parts;
	struct qemu_shape shape;
	struct qemu_machine machine;
	struct qemu_ports *ports;
	char **env;
	char pinned[46];
	pid_t wire_pid, relay_pid; /* children; relay: stands for the agent */
	int conn_fd; /* to the wire, as if to guest init; its close asks for the end */
	int use_fd;  /* what the machine was started from is in use */
	int fail_fd; /* where the wire writes what broke, as a pipe that it ends with itself */
	bool has_tty, is_restored, has_ended;
	struct guest_execs execs;
	char note[256], reason[GUEST_TEXT_MAX + 32];
};

/* --- before there is a keeper --- */

static int check_plan(const struct plan *p, struct err *e)
{
	int ret;

	if (p->workspace == PLAN_WORKSPACE_MOUNT)
		return err_set(e, -EINVAL,
			       "workspace: mount cannot be had in a virtual machine: a folder "
			       "that both sides see would be a way through the wall; use "
			       "workspace: clone");
	ret = qemu_shape_check(p, e);
	return ret == 0 ? agent_expose_check(p, e) : ret;
}

static int qemu_offer(char why[BACKEND_WHY_MAX], struct err *e)
{
	(void)e;
	(void)snprintf(why, BACKEND_WHY_MAX, "QEMU on this host");
	return 0;
}

static int qemu_ensure(const struct plan *p, const struct progress *progress, struct err *e)
{
	struct qemu_shape shape;
	struct qemu_parts parts;
	char why[QEMU_WHY_MAX];
	struct err cold = ERR_INIT;
	int ret;

	qemu_parts_init(&parts);
	qemu_shape_plan(&shape, p);
	/* Before anything is made that takes minutes. */
	ret = check_plan(p, e);
	if (ret == 0)
		ret = qemu_host_check(e);
	if (ret == 0)
		qemu_shape_tell(p, &shape, progress);
	if (ret == 0)
		ret = qemu_parts_open(&parts, p, true, progress, e);
	if (ret == 0)
		ret = qemu_parts_blank(&parts, e);
	if (ret == 0) {
		shape.is_kvm = qemu_accel_try(&parts, &shape, progress, why);
		/* Every start then boots; it works without. */
		if (qemu_template_ensure(&parts, &shape, progress, &cold) < 0)
			progress_tell(progress, "template", cold.text, 0, 0);
	}
	qemu_parts_free(&parts);
	return ret;
}

/* --- the start --- */

static void make_note(struct bottle *b, const char *why)
{
	(void)snprintf(
		b->note, sizeof(b->note), "%.64s; a machine of %llu MiB, %s; %s%.110s",
		b->walled.cgroup.note, (unsigned long long)(b->shape.memory_bytes / QEMU_MIB),
		b->is_restored ? "restored" : "booted",
		b->shape.is_kvm ? "KVM" : "emulated, which is slow: ", b->shape.is_kvm ? "" : why);
}

/* The home outlives the run; what is exposed is as it is now. */
static int open_disks(struct bottle *b, struct err *e)
{
	_cleanup_free_ char *home = mem_printf("%s/" QEMU_HOME, b->walled.state_dir);
	const struct plan *p = b->plan;
	int ret = vm_disk_home(home, VM_HOME_BYTES, p->agent_uid, p->agent_uid,
			       &b->parts.disk_fds[QEMU_HOME_DISK], e);

	return ret == 0 ? qemu_parts_expose(&b->parts, p, e) : ret;
}

static int start_wire(struct bottle *b, int state_fd, int fail_fd, struct err *e)
{
	const struct qemu_order o = {.plan = b->plan,
				     .pinned = b->pinned,
				     .env = b->env,
				     .has_tty = b->has_tty,
				     .tmp_bytes = b->shape.memory_bytes / 2};
	_cleanup_json_ json_t *order = NULL;
	int ret = qemu_order_make(&o, &order, e);

	if (ret == 0) {
		const struct qemu_wire w = {.machine = &b->machine,
					    .state_fd = state_fd,
					    .order = order,
					    .boot_ms = QEMU_BOOT_MS};

		ret = qemu_wire_start(&w, fail_fd, &b->conn_fd, &b->wire_pid, e);
	}
	/* Nobody here speaks on these. */
	close_fd(&b->machine.monitor_fd);
	close_fd(&b->machine.console_fd);
	close_fd(&b->machine.control_fd);
	close_fd(&b->machine.said_fd);
	return ret;
}

/* Both go on while the bundle starts. */
static int start_machine(struct bottle *b, struct err *e)
{
	_cleanup_close_ int state = -1, fail = -1;
	struct qemu_start s = {.wall = &b->walled.wall,
			       .cgroup = &b->walled.cgroup,
			       .slug = b->plan->slug,
			       .parts = &b->parts,
			       .shape = &b->shape,
			       .until_fd = &b->fail_fd};
	int fds[2], ret;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(e, "pipe");
	b->fail_fd = fds[0];
	fail = fds[1];
	if (qemu_template_find(&b->parts, &b->shape, &state, NULL) == 0)
		b->is_restored = s.is_paused = true;
	ret = qemu_machine_start(&b->machine, &s, e);
	return ret == 0 ? start_wire(b, state, fail, e) : ret;
}

static int qemu_prepare(struct bottle **out, const struct plan *p, const char *state_dir,
			bool has_tty, struct backend_place *place, struct err *e)
{
	struct bottle *b = mem_zalloc(sizeof(*b));
	struct plan_limits limits;
	char why[QEMU_WHY_MAX];
	int ret;

	*out = b;
	b->plan = p;
	b->has_tty = has_tty;
	b->conn_fd = b->use_fd = b->fail_fd = -1;
	walled_init(&b->walled, p, state_dir);
	qemu_parts_init(&b->parts);
	qemu_machine_init(&b->machine);
	qemu_shape_plan(&b->shape, p);
	qemu_shape_limits(&limits, &b->shape, &p->limits);
	(void)qemu_accel_known(&b->shape.is_kvm, why);
	ret = check_plan(p, e);
	if (ret == 0)
		ret = walled_prepare(&b->walled, NULL, &limits, 0, place, e);
	if (ret < 0)
		return ret;
	(void)snprintf(b->pinned, sizeof(b->pinned), "%s", place->pinned);
	b->env = agent_env_make(p, b->pinned);
	b->ports = qemu_ports_make(e);
	if (!b->ports)
		return e->code;
	ret = qemu_parts_open(&b->parts, p, false, NULL, e);
	if (ret == 0)
		ret = open_disks(b, e);
	if (ret == 0)
		ret = start_machine(b, e);
	make_note(b, why);
	return ret;
}

static int qemu_start_bundle(struct bottle *b, const struct backend_fd *fds, size_t n,
			     struct err *e)
{
	return walled_start_bundle(&b->walled, fds, n, e);
}

static void qemu_reap_bundle(struct bottle *b, bool must_die, char *how, size_t how_size)
{
	walled_reap_bundle(&b->walled, must_die, how, how_size);
}

/* Its status as of waitpid(), reaped. -1: it does not end. */
static int wire_ended(struct bottle *b)
{
	_cleanup_close_ int pidfd =
		b->wire_pid > 0 ? (int)syscall(SYS_pidfd_open, b->wire_pid, 0) : -1;
	int status = 0;

	if (pidfd < 0 || io_wait(pidfd, POLLIN, QEMU_WIRE_MS) != 1)
		return -1;
	while (waitpid(b->wire_pid, &status, 0) < 0 && errno == EINTR)
		;
	b->wire_pid = 0;
	return status;
}

/* What a child has not said itself. */
static const char *killed_child(const char *what, int status, char *out, size_t size)
{
	(void)snprintf(out, size, "the process that %s was killed%s", what, priv_seal_why(status));
	return out;
}

/* e: what its end looks like on the connection. */
static void explain_wire(struct bottle *b, struct err *e)
{
	int status = wire_ended(b);
	char text[GUEST_TEXT_MAX];

	if (status >= 0 && WIFSIGNALED(status))
		(void)err_set(e, e->code, "%s",
			      killed_child(QEMU_WIRE_DOES, status, text, sizeof(text)));
	/* After what it has said it ends at once, or does not listen. */
	if (!b->is_restored ||
	    (status >= 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != QEMU_WIRE_MUTE)))
		return;
	qemu_template_forget(&b->parts, &b->shape);
	(void)err_prefix(e, "restored from a snapshot, which is put aside for a day (start again, "
			    "and the machine boots)");
}

static int qemu_launch(struct bottle *b, struct backend_stdio *io, pid_t *pid, struct err *e)
{
	int ret = guest_greet(b->conn_fd, QEMU_GREET_MS, -1, e);

	if (ret < 0)
		explain_wire(b, e);
	/* QEMU has them, and goes on with them. */
	b->use_fd = take_fd(&b->parts.use_fd);
	qemu_parts_free(&b->parts);
	if (ret == 0)
		ret = qemu_session_start(b->ports, 0, b->machine.session_fds[0], b->fail_fd, NULL,
					 io, &b->relay_pid, e);
	if (ret < 0)
		return ret;
	*pid = b->relay_pid;
	return 0;
}

static int qemu_canary(struct bottle *b, struct err *e)
{
	static const struct guest_target more[] = {
		{MACHINE_GATEWAY, 0, "the monitor's loopback"},
		{QEMU_DNS, SERVICE_PORT_DNS, "the monitor's resolver"},
	};

	return walled_canary_machine(&b->walled, b->conn_fd, more, ARRAY_LEN(more), e);
}

static int qemu_go(struct bottle *b, struct str ca_pem, struct err *e)
{
	int ret = qemu_send_ca(b->conn_fd, ca_pem, e);

	return ret == 0 ? agent_go(b->conn_fd, b->plan, b->pinned, b->env, b->has_tty, e) : ret;
}

/* --- beside the agent --- */

/* The first is the agent's. */
static size_t free_port(const struct bottle *b)
{
	size_t at = 1;

	while (at < MACHINE_SESSIONS && b->ports->state[at] != QEMU_PORT_FREE)
		at++;
	return at;
}

static int qemu_exec(struct bottle *b, char *const *argv, struct backend_stdio *io, pid_t *pid,
		     struct err *e)
{
	char **waiting = agent_exec_make(b->plan, NULL, argv);
	_cleanup_free_ char *order =
		qemu_session_order(waiting ? waiting : argv, guest_execs_next(&b->execs), io);
	size_t at = free_port(b);
	int ret;

	agent_command_free(waiting);
	if (!order)
		return err_set(e, -EILSEQ, "the command is not UTF-8");
	if (at == MACHINE_SESSIONS)
		return err_set(e, -EBUSY, "no more commands can run in the machine at once");
	ret = qemu_session_start(b->ports, at, b->machine.session_fds[at], b->fail_fd, order, io,
				 pid, e);
	if (ret == 0)
		guest_execs_add(&b->execs, *pid);
	return ret;
}

static int qemu_signal(struct bottle *b, pid_t pid, int signo)
{
	return guest_execs_signal(&b->execs, b->conn_fd, b->relay_pid, pid, signo);
}

/* --- the end --- */

static void qemu_kill(struct bottle *b)
{
	bool may_end = b->conn_fd >= 0 && b->wire_pid > 0;

	close_fd(&b->conn_fd);
	if (may_end)
		qemu_machine_wait(&b->machine, b->wire_pid,
				  b->has_ended ? QEMU_END_MS : QEMU_QUIT_MS);
	child_end(&b->wire_pid);
	qemu_machine_kill(&b->machine);
}

static const char *qemu_note(const struct bottle *b)
{
	return b->note;
}

/* Of the machine: the agent's relay ends with a status of its own. */
static const char *qemu_reason(struct bottle *b, int status)
{
	char line[GUEST_TEXT_MAX];
	const char *why = "the agent's session with its virtual machine broke";
	ssize_t n = 0;
	int wire;

	b->has_ended = WIFEXITED(status) && b->ports->state[0] == QEMU_PORT_FREE;
	if (b->reason[0])
		return b->reason;
	if (b->has_ended)
		return NULL;
	/* It writes when QEMU's end has told it everything, and may be at it. */
	if (io_wait(b->fail_fd, POLLIN, QEMU_WIRE_MS) == 1)
		n = read(b->fail_fd, line, sizeof(line));
	if (n > 0) {
		line[str_chr(str_slice(line, (size_t)n - 1), '\n')] = '\0';
		why = line;
	} else if (WIFSIGNALED(status)) {
		why = killed_child(QEMU_RELAY_DOES, status, line, sizeof(line));
	} else if ((wire = wire_ended(b)) >= 0 && WIFSIGNALED(wire)) {
		why = killed_child(QEMU_WIRE_DOES, wire, line, sizeof(line));
	}
	(void)snprintf(b->reason, sizeof(b->reason), "the bottle was stopped: %s", why);
	return b->reason;
}

static bool qemu_release(struct bottle *b)
{
	bool is_all;

	if (!b)
		return true;
	qemu_kill(b);
	qemu_machine_free(&b->machine);
	qemu_parts_free(&b->parts);
	qemu_ports_free(b->ports);
	close_fd(&b->use_fd);
	close_fd(&b->fail_fd);
	agent_env_free(b->env);
	is_all = walled_release(&b->walled);
	free(b);
	return is_all;
}

const struct backend backend_qemu = {
	.name = "qemu",
	.summary = "a virtual machine with a kernel of its own, in QEMU; no daemon, no root",
	.undo_ms = QEMU_UNDO_MS,
	.probe = qemu_probe,
	.offer = qemu_offer,
	.ensure = qemu_ensure,
	.prepare = qemu_prepare,
	.start_bundle = qemu_start_bundle,
	.reap_bundle = qemu_reap_bundle,
	.canary = qemu_canary,
	.launch = qemu_launch,
	.go = qemu_go,
	.exec = qemu_exec,
	.signal = qemu_signal,
	.kill = qemu_kill,
	.note = qemu_note,
	.reason = qemu_reason,
	.release = qemu_release,
	/* What QEMU is, ends with its cell, and that with its keeper. */
	.cleanup = walled_cleanup,
	.sweep = git_folder_sweep,
	.images = &backend_images_machines,
};
