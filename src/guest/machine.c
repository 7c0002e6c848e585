/*
 * Theory of operation. Process 1 of the machine is what a container engine is elsewhere: it makes
 * the agent's compartment, says what the keeper says to guest init in it, and carries standard
 * input and output. It runs in the initramfs, with all capabilities, and reads nothing of the
 * agent's but bytes that it hands on. One loop; nothing in it waits for anybody.
 *
 * Boot: every port is opened, then 'H'. Nothing that differs between two machines has been looked
 * at by then (the other disks are mounted after 'm'), so that a snapshot of this moment fits them
 * all. Then 'm' is carried out; then letters go to and fro until guest init ends or the host has
 * had enough ('q', or nobody at the control port any more). With guest init the kernel ends every
 * process of its pid namespace, and with the last of them its mounts; the home is on its disk when
 * 'x' is said. After that the machine waits for the host to say that it has taken all output: what
 * a port still holds goes with the machine.
 */
#include "guest/machine_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/signals.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define MACHINE_PORTS_MS       15000
#define MACHINE_PORTS_RETRY_MS 5
#define MACHINE_OUT_MAX	       65536
#define MACHINE_PORTS_FOLDER   "/sys/class/virtio-ports"

enum machine_phase {
	MACHINE_WAITS, /* for 'm' */
	MACHINE_RUNS,
	MACHINE_IS_OVER, /* guest init has ended, or never began */
};

enum { MACHINE_POLL_CONTROL, MACHINE_POLL_INIT, MACHINE_POLL_SIGNALS, MACHINE_POLL_RELAYS };

struct machine {
	enum machine_phase phase;
	struct machine_port control;
	struct machine_relay relays[MACHINE_SESSIONS];
	struct machine_orders orders;
	struct machine_place place;
	int init; /* connection with guest init */
	int signals;
	bool is_done;	   /* the host wants nothing more of it */
	uint64_t until_ns; /* MACHINE_IS_OVER: it is waited for so long */
};

static _Noreturn void machine_power_off(void)
{
	sync();
	for (;;) {
		(void)reboot(RB_POWER_OFF);
		(void)reboot((int)RB_HALT_SYSTEM);
		(void)poll(NULL, 0, 1000);
	}
}

/* --- ports --- */

/* Its device, by its name; -ENOENT while it is not there. */
static int machine_open_port(const char *name)
{
	_cleanup_closedir_ DIR *dir = opendir(MACHINE_PORTS_FOLDER);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char path[320];
		struct str text;
		bool is_it;

		(void)snprintf(path, sizeof(path), MACHINE_PORTS_FOLDER "/%s/name", entry->d_name);
		if (entry->d_name[0] == '.' || io_read_file(AT_FDCWD, path, 128, &text, NULL) < 0)
			continue;
		is_it = str_eq(str_sub(text, 0, str_chr(text, '\n')), str_of(name));
		free((void *)(uintptr_t)text.p);
		if (is_it) {
			(void)snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		}
	}
	errno = ENOENT;
	return -1;
}

/* The host names them one after the other while the kernel boots. */
static int machine_await_port(const char *name, uint64_t until_ns, struct err *e)
{
	for (;;) {
		int fd = machine_open_port(name);

		if (fd >= 0)
			return fd;
		if (errno != ENOENT || time_monotonic_ns() > until_ns)
			return err_errno(e, "open the port %s", name);
		(void)poll(NULL, 0, MACHINE_PORTS_RETRY_MS);
	}
}

static int machine_open_ports(struct machine *m, struct err *e)
{
	uint64_t until_ns = time_monotonic_ns() + MACHINE_PORTS_MS * TIME_NS_PER_MS;
	int fd = machine_await_port(MACHINE_CONTROL_PORT, until_ns, e);
	int ret = fd < 0 ? fd
			 : machine_port_init(&m->control, fd, MACHINE_CONTROL_MAX, MACHINE_OUT_MAX,
					     e);

	for (unsigned i = 0; ret == 0 && i < MACHINE_SESSIONS; i++) {
		char name[64];

		(void)snprintf(name, sizeof(name), MACHINE_SESSION_PORT "%u", i + 1);
		fd = machine_await_port(name, until_ns, e);
		ret = fd < 0 ? fd : machine_relay_init(&m->relays[i], fd, &m->place, e);
	}
	return ret;
}

/* --- the end --- */

static void machine_say(struct machine *m, char letter, struct str text)
{
	if (machine_port_say(&m->control, letter, text) < 0)
		m->is_done = true;
}

static void machine_end(struct machine *m)
{
	m->phase = MACHINE_IS_OVER;
	m->until_ns = time_monotonic_ns() + MACHINE_LAST_MS * TIME_NS_PER_MS;
	m->place.is_open = false;
}

/* Before 'M', or of the machine's own. */
static void machine_fail(struct machine *m, const struct err *e)
{
	agent_complain(e);
	machine_say(m, 'n', str_sub(str_of(e->text), 0, GUEST_TEXT_MAX));
	if (m->place.init > 0)
		(void)kill(m->place.init, SIGKILL);
	machine_end(m);
}

static void machine_kill(struct machine *m)
{
	if (m->place.init > 0)
		(void)kill(m->place.init, SIGKILL);
	else
		machine_end(m);
}

static void machine_reap(struct machine *m)
{
	for (;;) {
		int how;
		pid_t pid = waitpid(-1, &how, WNOHANG);

		if (pid < 0 && errno == EINTR)
			continue;
		if (pid <= 0)
			return;
		for (size_t i = 0; i < MACHINE_SESSIONS; i++)
			machine_relay_reaped(&m->relays[i], pid, how);
		if (pid != m->place.init)
			continue;
		m->place.init = 0;
		sync();
		if (m->phase == MACHINE_RUNS &&
		    machine_port_say_status(&m->control, signals_exit_status(how)) < 0)
			m->is_done = true;
		machine_end(m);
	}
}

/* --- orders --- */

static void machine_obey(struct machine *m, struct str payload)
{
	struct machine_stdio io = MACHINE_STDIO_INIT;
	struct err e = ERR_INIT;
	int ret = machine_orders_parse(&m->orders, payload, &e);

	if (ret == 0)
		ret = machine_kernel_set(&m->orders.order, &e);
	if (ret == 0)
		ret = machine_place_make(&m->place, &m->orders, &m->init, &io, &e);
	if (ret < 0) {
		machine_stdio_close(&io);
		machine_fail(m, &e);
		return;
	}
	machine_relay_adopt(&m->relays[0], m->place.init, &io);
	m->phase = MACHINE_RUNS;
	machine_say(m, 'M', STR_NULL);
}

/* As a keeper sends it to guest init of a container. */
static void machine_forward(struct machine *m, char letter, struct str payload)
{
	_cleanup_close_ int file = -1;
	struct err e = ERR_INIT;

	file = io_memfd_sealed("order", payload, &e);
	if (file >= 0 && io_send_fds(m->init, &letter, 1, &file, 1, MSG_DONTWAIT) != 1)
		(void)err_set(&e, -EPIPE, "the agent's first process does not listen");
	if (e.code < 0)
		machine_fail(m, &e);
}

static void machine_pass(struct machine *m, struct str payload)
{
	char message[GUEST_PASS_BYTES] = {'p'};

	if (payload.n != GUEST_PASS_BYTES - 1) {
		m->is_done = true;
		return;
	}
	memcpy(message + 1, payload.p, GUEST_PASS_BYTES - 1);
	/* Some hundred signals that process 1 has not come to yet: one more makes no difference. */
	(void)io_send_fds(m->init, message, sizeof(message), NULL, 0, MSG_DONTWAIT);
}

static void machine_write(struct machine *m, struct str payload)
{
	struct machine_file file;
	struct err e = ERR_INIT;
	json_t *json = NULL;
	int ret = machine_file_parse(payload, &json, &file, &e);

	if (ret == 0)
		ret = machine_root_write(m->place.writable, &file, &e);
	json_decref(json);
	if (ret < 0)
		machine_fail(m, &e);
}

static void machine_hear(void *ctx, char letter, struct str payload)
{
	struct machine *m = ctx;

	if (letter == 'q' && payload.n == 0) {
		m->is_done = true;
		machine_kill(m);
	} else if (letter == 'm' && m->phase == MACHINE_WAITS) {
		machine_obey(m, payload);
	} else if ((letter == 'c' || letter == 'g') && m->phase == MACHINE_RUNS) {
		machine_forward(m, letter, payload);
	} else if (letter == 'f' && m->phase == MACHINE_RUNS && !m->place.is_open) {
		machine_write(m, payload);
	} else if (letter == 'p' && m->phase == MACHINE_RUNS) {
		machine_pass(m, payload);
	} else if (m->phase != MACHINE_IS_OVER) {
		m->is_done = true;
		machine_kill(m);
	}
}

/* What guest init says. */
static void machine_hear_init(struct machine *m)
{
	char message[1 + GUEST_TEXT_MAX];
	ssize_t got = io_recv_fds(m->init, message, sizeof(message), NULL, NULL, MSG_DONTWAIT);

	if (got == -EAGAIN)
		return;
	if (got <= 0 || !memchr("hkns", message[0], 4)) {
		close_fd(&m->init);
		return;
	}
	if (message[0] == 's')
		m->place.is_open = true;
	machine_say(m, message[0], str_slice(message + 1, (size_t)got - 1));
}

/* --- the loop --- */

static int machine_timeout(const struct machine *m, uint64_t due_ns)
{
	uint64_t now_ns = time_monotonic_ns();

	if (m->phase == MACHINE_IS_OVER && m->until_ns < due_ns)
		due_ns = m->until_ns;
	if (due_ns == UINT64_MAX)
		return -1;
	return due_ns <= now_ns ? 0 : (int)((due_ns - now_ns) / TIME_NS_PER_MS) + 1;
}

static void machine_turn(struct machine *m)
{
	struct pollfd polls[MACHINE_POLL_RELAYS + MACHINE_SESSIONS * RELAY_POLLS];
	struct signalfd_siginfo info;
	uint64_t due_ns = UINT64_MAX;
	int ret;

	machine_port_poll(&m->control, true, &polls[MACHINE_POLL_CONTROL], &due_ns);
	polls[MACHINE_POLL_INIT] = (struct pollfd){.fd = m->init, .events = POLLIN};
	polls[MACHINE_POLL_SIGNALS] = (struct pollfd){.fd = m->signals, .events = POLLIN};
	for (size_t i = 0; i < MACHINE_SESSIONS; i++)
		machine_relay_poll(&m->relays[i], &polls[MACHINE_POLL_RELAYS + i * RELAY_POLLS],
				   &due_ns);
	if (poll(polls, ARRAY_LEN(polls), machine_timeout(m, due_ns)) < 0)
		return;
	if (polls[MACHINE_POLL_INIT].revents)
		machine_hear_init(m);
	ret = machine_port_turn(&m->control, polls[MACHINE_POLL_CONTROL].revents, machine_hear, m);
	/* Before 'm', a template's keeper may leave and another's come. */
	if (ret == -EPROTO || (ret < 0 && m->phase != MACHINE_WAITS)) {
		m->is_done = true;
		machine_kill(m);
	}
	for (size_t i = 0; i < MACHINE_SESSIONS; i++)
		machine_relay_turn(&m->relays[i], &polls[MACHINE_POLL_RELAYS + i * RELAY_POLLS]);
	if (polls[MACHINE_POLL_SIGNALS].revents &&
	    read(m->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
		machine_reap(m);
}

/* Whatever signal is not asked for has no business with this process. */
static int machine_open_signals(struct machine *m, struct err *e)
{
	sigset_t all, child;

	(void)sigfillset(&all);
	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
		return err_errno(e, "sigprocmask");
	m->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	return m->signals < 0 ? err_errno(e, "signalfd") : 0;
}

void machine_run(void)
{
	static struct machine m;
	struct err e = ERR_INIT;
	int ret;

	m.init = m.signals = -1;
	m.place = MACHINE_PLACE_INIT;
	if (getpid() != 1)
		ret = err_set(&e, -EPERM, "guest machine is for process 1 of a microVM");
	else if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || reboot(RB_DISABLE_CAD) < 0)
		ret = err_errno(&e, "begin");
	else
		ret = machine_open_signals(&m, &e);
	if (ret == 0)
		ret = machine_kernel_prepare(&m.place.members, &e);
	if (ret == 0)
		ret = machine_open_ports(&m, &e);
	if (ret < 0) {
		agent_complain(&e);
		if (getpid() != 1)
			_exit(1);
		machine_power_off();
	}
	machine_say(&m, 'H', STR_NULL);
	while (m.phase != MACHINE_IS_OVER || (!m.is_done && time_monotonic_ns() < m.until_ns))
		machine_turn(&m);
	machine_power_off();
}
