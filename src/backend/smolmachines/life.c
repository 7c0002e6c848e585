/*
 * A guest's life. Each of the agent's and its neighbours' processes is an `exec` of the tool's, in
 * the cell, with the streams that people see; what stands for it in the keeper is the cell's child.
 * Always with input (-i): without, the tool keeps all output until the end.
 */
#include "backend/smolmachines/smol_int.h"

#include "backend/agent_clone.h"
#include "backend/agent_go.h"
#include "base/child.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "guest/guest_host.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIFE_ANSWER_MS	3000
#define LIFE_GREET_MS	25000
#define LIFE_STOP_MS	5000
#define LIFE_DELETE_MS	3000
#define LIFE_STATUS_MS	5000
#define LIFE_STATUS	"status"
#define LIFE_STATUS_MAX 16
#define LIFE_HEAD	12 /* words before those of a command beside the agent */
#define LIFE_DEAF	"the process that speaks with smolvm was killed"
#define LIFE_GONE	"the process that watches over smolvm was killed"
#define LIFE_FULL	"smolvm has written more into its folder than a machine can need"

/* --- processes --- */

/* argv in the guest, as its root, with the streams of io; *pid stands for it. */
static int life_run(struct bottle *b, char *const *command, struct backend_stdio *io,
		    const int *until_fd, pid_t *pid, struct err *e)
{
	const struct dialect_args a = {
		.name = b->cli.name, .has_input = true, .has_tty = io->has_tty, .command = command};
	_cleanup_close_ int master = -1, slave = -1;
	char **argv = dialect_argv(b->cli.dialect, DIALECT_EXEC, b->cli.program, &a);
	struct cell_run run = {.argv = argv,
			       .in_fd = io->in_fd,
			       .out_fd = io->out_fd,
			       .err_fd = io->err_fd,
			       .has_terminal = io->has_tty,
			       .until_fd = until_fd};
	int ret = 0;

	if (io->has_tty) {
		ret = child_open_pty(io->rows, io->columns, &master, &slave, e);
		/* The tool's own to set. */
		if (ret == 0 && io_set_nonblock(slave, false) < 0)
			ret = err_set(e, -EIO, "set the pseudo-terminal up");
		run.in_fd = run.out_fd = run.err_fd = slave;
	}
	if (ret == 0)
		ret = cell_run(&b->cell, &run, pid, e);
	free(argv);
	if (ret == 0)
		io->master_fd = take_fd(&master);
	return ret;
}

/* The tool gives a terminal of 0 x 0: whoever it is in the guest sets its size before the agent
 * sees it. */
static int life_hold(struct bottle *b, struct backend_stdio *io, struct err *e)
{
	char uid[32], gid[32], processes[40], rows[32], columns[32];
	char *const command[] = {(char *)(uintptr_t)GUEST_BUNDLE,
				 (char *)(uintptr_t) "guest",
				 (char *)(uintptr_t) "hold",
				 uid,
				 gid,
				 processes,
				 rows,
				 columns,
				 NULL};

	(void)snprintf(uid, sizeof(uid), "uid=%u", b->plan->agent_uid);
	(void)snprintf(gid, sizeof(gid), "gid=%u", b->plan->agent_uid);
	(void)snprintf(processes, sizeof(processes), "processes=%llu",
		       (unsigned long long)b->plan->limits.processes);
	(void)snprintf(rows, sizeof(rows), "rows=%u", io->has_tty ? io->rows : 0);
	(void)snprintf(columns, sizeof(columns), "columns=%u", io->has_tty ? io->columns : 0);
	return life_run(b, command, io, &b->watch_fd, &b->hold, e);
}

static int life_await_held(struct bottle *b, struct err *e)
{
	_cleanup_close_ int ended = (int)syscall(SYS_pidfd_open, b->hold, 0);
	int ret;

	if (ended < 0)
		return err_errno(e, "pidfd_open");
	ret = bridge_start(b, e);
	if (ret == 0)
		ret = smol_watch_start(b, SMOL_SPACE_BYTES, e);
	return ret < 0 ? ret : guest_greet(b->guest_fd, LIFE_GREET_MS, ended, e);
}

int smol_launch(struct bottle *b, struct backend_stdio *io, pid_t *pid, struct err *e)
{
	int ret = smol_boot(b, e);

	if (ret == 0)
		ret = smol_place(b, e);
	if (ret == 0)
		ret = smol_expose(b, e);
	if (ret == 0)
		ret = smol_load_home(b, e);
	if (ret == 0)
		ret = smol_watch_prepare(b, e);
	if (ret == 0)
		ret = life_hold(b, io, e);
	if (ret == 0)
		ret = life_await_held(b, e);
	*pid = b->hold;
	if (ret < 0)
		close_fd(&io->master_fd);
	return ret;
}

/* --- the proof --- */

int smol_canary(struct bottle *b, struct err *e)
{
	const struct guest_target more[] = {{b->walled.wall.pinned, 0, "the bundle's address"}};
	int ret = walled_canary_machine(&b->walled, b->guest_fd, more, ARRAY_LEN(more), e);

	/* On any doubt nothing of it is left; the keeper says why. */
	if (ret < 0)
		smol_kill(b);
	return ret;
}

int smol_go(struct bottle *b, struct str ca_pem, struct err *e)
{
	int ret = smol_place_ca(b, ca_pem, e);

	if (ret == 0)
		ret = agent_go(b->guest_fd, b->plan, b->walled.wall.pinned, b->env, b->has_tty, e);
	b->has_begun = ret == 0;
	return ret;
}

/* --- beside the agent --- */

int smol_exec_beside(struct bottle *b, char *const *argv, struct backend_stdio *io, pid_t *pid,
		     struct err *e)
{
	char id[32], rows[32], columns[32];
	const char *const head[] = {GUEST_BUNDLE, "guest", "beside", id, rows, columns, "--"};
	char **waiting = agent_exec_make(b->plan, NULL, argv);
	char *const *own = waiting ? waiting : argv;
	_cleanup_free_ const char **command = NULL;
	size_t n = 0;
	int ret;

	_Static_assert(ARRAY_LEN(head) < LIFE_HEAD, "room for each");
	(void)snprintf(id, sizeof(id), "id=%u", guest_execs_next(&b->execs));
	(void)snprintf(rows, sizeof(rows), "rows=%u", io->has_tty ? io->rows : 0);
	(void)snprintf(columns, sizeof(columns), "columns=%u", io->has_tty ? io->columns : 0);
	while (own[n])
		n++;
	command = mem_zalloc_array(LIFE_HEAD + n + 1, sizeof(*command));
	memcpy(command, head, sizeof(head));
	memcpy(command + ARRAY_LEN(head), own, n * sizeof(*own));
	ret = life_run(b, (char *const *)(uintptr_t)command, io, NULL, pid, e);
	agent_command_free(waiting);
	if (ret == 0)
		guest_execs_add(&b->execs, *pid);
	return ret;
}

int smol_signal(struct bottle *b, pid_t pid, int signo)
{
	return guest_execs_signal(&b->execs, b->guest_fd, b->hold, pid, signo);
}

void smol_resize(struct bottle *b, pid_t pid, unsigned rows, unsigned columns)
{
	int64_t number = guest_execs_number(&b->execs, b->hold, pid);

	/* Later versions see it at the terminal that they have. */
	if (b->guest_fd >= 0 && number >= 0 && !dialect_follows_size(&b->cli.version))
		(void)bridge_resize(b->guest_fd, (unsigned)number, rows, columns);
}

/* --- the end --- */

/* Whether it is worth while to ask it for more: one that hangs costs the time of each call. */
static bool life_answers(const struct bottle *b, struct err *e)
{
	static const char *const nothing[] = {GUEST_BUNDLE, "version", NULL};

	return smol_exec(&b->cli, nothing, LIFE_ANSWER_MS, NULL, e) == 0;
}

static int life_stop(const struct bottle *b, struct err *e)
{
	const struct dialect_args a = {.name = b->cli.name};
	struct str said = STR_NULL;
	int ret = smol_call(&b->cli, DIALECT_STOP, &a, LIFE_STOP_MS, NULL, e);

	if (ret == 0)
		ret = smol_call(&b->cli, DIALECT_STATUS, &a, LIFE_DELETE_MS, &said, e);
	if (ret == 0 && smol_says(said, "state", "\"running\""))
		ret = err_set(e, -EBUSY, "smolvm machine stop: the machine runs on");
	free((void *)(uintptr_t)said.p);
	return ret;
}

/* `delete` leaves a machine running, and `stop` of what there is not is no failure: neither is
 * believed. What ends it for certain is the cell's end. */
static void life_remove(struct bottle *b)
{
	const struct dialect_args a = {.name = b->cli.name};
	struct err e = ERR_INIT;
	int ret = 0;

	if (b->has_begun && (!life_answers(b, &e) || smol_save_home(b, &e) < 0)) {
		log_warn("what is new in the agent's home is lost: %s", e.text);
		e = ERR_INIT;
	}
	ret = life_stop(b, &e);
	if (ret == 0)
		ret = smol_call(&b->cli, DIALECT_DELETE, &a, LIFE_DELETE_MS, NULL, &e);
	if (ret < 0)
		log_warn("%s: it is ended with its cell", e.text);
}

void smol_kill(struct bottle *b)
{
	bool is_full = smol_watch_said(b) == SMOL_WATCH_FULL;

	smol_watch_end(b);
	bridge_end(b);
	smol_end_registry(b);
	/* No tool that works comes to that, so it is given no time to write more. */
	if (b->is_created && is_full)
		log_warn("what is new in the agent's home is lost: " LIFE_FULL);
	else if (b->is_created)
		life_remove(b);
	b->is_created = false;
	cell_kill(&b->cell);
}

/* The first one stays: what comes later follows from it. */
static void life_reason(struct bottle *b, const char *why)
{
	char shown[sizeof(b->reason) - 32];

	if (b->reason[0])
		return;
	text_visible_once_cstr(shown, sizeof(shown), str_of(why));
	(void)snprintf(b->reason, sizeof(b->reason), "the bottle was stopped: %s", shown);
}

/* What guest hold has noted, by way of a file that the tool writes where it may. */
static int life_noted_status(struct bottle *b, struct err *e)
{
	_cleanup_close_ int home = -1, fd = -1;
	char text[LIFE_STATUS_MAX];
	struct str line;
	uint64_t status;
	ssize_t got;
	bool found;
	int ret = smol_copy_out(&b->cli, GUEST_STATUS, LIFE_STATUS, LIFE_STATUS_MS, e);

	if (ret < 0)
		return ret;
	home = open(b->home, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	fd = home < 0 ? -1
		      : openat(home, LIFE_STATUS, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, text, sizeof(text));
	(void)str_cut(str_slice(text, got > 0 ? (size_t)got : 0), '\n', &line, &found);
	if (got <= 0 || str_to_u64(line, 255, &status) < 0)
		return err_set(e, -EPROTO, "the guest does not say how its agent ended");
	return (int)status;
}

/* The tool ends with 1 when it fails and with 137 when it loses the guest, and so may the agent:
 * what it ends with must be what the guest has noted. */
const char *smol_reason(struct bottle *b, int status)
{
	enum smol_watch watch = smol_watch_said(b);
	struct err e = ERR_INIT;
	char text[256];
	int noted;

	if (watch == SMOL_WATCH_FULL) {
		life_reason(b, LIFE_FULL);
	} else if (watch == SMOL_WATCH_DEAF) {
		(void)snprintf(text, sizeof(text), LIFE_DEAF "%s", bridge_why(b));
		life_reason(b, text);
	} else if (watch == SMOL_WATCH_GONE) {
		life_reason(b, LIFE_GONE);
	} else if (WIFSIGNALED(status)) {
		life_reason(b, "the process that stands for the agent was killed");
	} else if (b->is_created) {
		noted = life_noted_status(b, &e);
		if (noted < 0)
			life_reason(b, e.text);
		else if (noted != WEXITSTATUS(status))
			life_reason(b, "smolvm lost the agent");
	}
	return b->reason[0] ? b->reason : NULL;
}
