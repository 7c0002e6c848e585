/*
 * Theory of operation
 *
 * init makes every channel between the roles before it starts the first of them, and keeps both
 * ends of each for as long as the bundle lives. So a role that dies and is started again finds the
 * same channels, its siblings' ends stay valid, and what was asked meanwhile waits in the kernel's
 * queue. The listening sockets are kept in the same way: while pipelock is away, connections wait
 * and nothing passes. init reads none of it: it holds descriptors, not bytes.
 *
 * A policy that changes meanwhile is init_news.c's.
 *
 * Roles start at once, side by side; the bundle is ready when the last of them has said so. A role
 * that ends, for whatever reason, is started again, at most INIT_RESTARTS_MAX times in
 * INIT_RESTARTS_WINDOW_MS; past that the whole bundle ends with status 1, which takes the agent's
 * network with it. Dead means closed, never open.
 *
 * When the host's end of the control channel closes, or it says stop, roles are ended one by one.
 * If init itself is killed, the kernel kills the roles (parent-death signal).
 */
#include "bundle/init.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "bundle/init_argv.h"
#include "bundle/init_channels.h"
#include "bundle/init_fds.h"
#include "bundle/init_news.h"
#include "bundle/role.h"
#include "keyd/keyd_proto.h"
#include "net/loop.h"
#include "priv/priv.h"
#include "record/record.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define INIT_READY_MS		15000
#define INIT_RESTARTS_MAX	5
#define INIT_RESTARTS_WINDOW_MS 60000
#define INIT_STOP_MS		1500

struct init;

struct init_role {
	struct init *init;
	struct loop_watch pid_watch, ready_watch;
	pid_t pid;
	int pid_fd;
	bool is_ready;
	uint64_t restarts_ns[INIT_RESTARTS_MAX]; /* a ring of the last ones */
	unsigned n_restarts;
	uint32_t life; /* counts the processes of this role, from 1 */
};

struct init {
	struct loop *loop;
	struct bundle_config config;
	int self_fd; /* this executable */
	struct init_fds given;
	struct init_channels channels;
	struct init_news news;
	unsigned enabled; /* 1 << role of each that this bottle has */
	struct init_role roles[BUNDLE_ROLE_COUNT];
	struct loop_watch control_watch, notice_watch;
	struct loop_timer ready_timer, stop_timer;
	bool has_reported_ready, is_stopping;
	int status;
};

static struct init init;

/* --- what init tells the host, and the record --- */

static void init_tell(struct init *in, const char *event, const char *key, struct str text,
		      const char *role)
{
	struct buf b;

	buf_init(&b, BUNDLE_CONTROL_MAX);
	if (buf_printf(&b, "{\"event\":\"%s\"", event) == 0 &&
	    (!role || buf_printf(&b, ",\"role\":\"%s\",\"state\":\"restarted\"", role) == 0) &&
	    buf_printf(&b, ",\"%s\":", key) == 0 && text_json(&b, text) == 0 &&
	    buf_append(&b, "}", 1) == 0 && in->given.control >= 0)
		(void)io_send_fds(in->given.control, b.p + b.from, buf_len(&b), NULL, 0,
				  MSG_DONTWAIT);
	buf_free(&b);
}

static void init_note(struct init *in, const char *reason, const char *detail)
{
	struct record r;

	record_init(&r, "init", RECORD_NOTE, reason);
	(void)snprintf(r.detail, sizeof(r.detail), "%s", detail);
	/* Not record_send(): init must not wait for the role that it may have to restart. */
	(void)io_send_fds(in->channels.record[INIT_SELF][0], &r, sizeof(r), NULL, 0, MSG_DONTWAIT);
}

/* Who needs longest until it is ready goes first; each waits at its channels for those it asks. */
static const enum bundle_role start_order[BUNDLE_ROLE_COUNT] = {
	BUNDLE_ROLE_PIPELOCK, BUNDLE_ROLE_GITGATE, BUNDLE_ROLE_EGRESS, BUNDLE_ROLE_SUPERVISE,
	BUNDLE_ROLE_GITSSH,   BUNDLE_ROLE_KEYD,	   BUNDLE_ROLE_RECORD};

/* One after the other: record still writes what the others say, and has keyd sign it. */
static const enum bundle_role stop_order[BUNDLE_ROLE_COUNT] = {
	BUNDLE_ROLE_SUPERVISE, BUNDLE_ROLE_GITGATE, BUNDLE_ROLE_GITSSH, BUNDLE_ROLE_PIPELOCK,
	BUNDLE_ROLE_EGRESS,    BUNDLE_ROLE_RECORD,  BUNDLE_ROLE_KEYD};

static bool init_has(const struct init *in, unsigned role)
{
	return in->enabled & 1u << role;
}

static void init_stop_next(struct init *in)
{
	for (size_t i = 0; i < BUNDLE_ROLE_COUNT; i++) {
		pid_t pid = in->roles[stop_order[i]].pid;

		if (pid > 0) {
			(void)kill(pid, SIGTERM);
			return;
		}
	}
	loop_stop(in->loop, in->status);
}

static void init_stop(struct init *in, int status)
{
	if (in->is_stopping)
		return;
	in->is_stopping = true;
	in->status = status;
	loop_timer_set(in->loop, &in->stop_timer, INIT_STOP_MS);
	init_stop_next(in);
}

static void init_fail(struct init *in, const char *text)
{
	if (in->is_stopping)
		return;
	log_error("%s", text);
	init_tell(in, "failed", "text", str_of(text), NULL);
	init_note(in, "bundle-failed", text);
	init_stop(in, 1);
}

/* --- starting roles --- */

static void init_announce_life(struct init *in, unsigned role)
{
	struct keyd_request q = {
		.op = KEYD_OP_LIFE, .index = role, .asker_life = in->roles[role].life};

	if (in->roles[role].life > 0)
		(void)io_send_fds(in->channels.keyd[INIT_SELF][0], &q, sizeof(q), NULL, 0,
				  MSG_DONTWAIT);
}

/* Before the process is there: keyd lets a new one do its first steps again, and does not take what
 * the one before left in the queue for its word. A new keyd knows nobody yet. */
static void init_announce_lives(struct init *in, enum bundle_role role)
{
	if (role != BUNDLE_ROLE_KEYD) {
		init_announce_life(in, role);
		return;
	}
	for (unsigned other = 0; other < BUNDLE_ROLE_COUNT; other++)
		init_announce_life(in, other);
}

static void init_on_role_end(struct loop_watch *w, uint32_t events);
static void init_on_role_ready(struct loop_watch *w, uint32_t events);

static int init_start_role(struct init *in, enum bundle_role role, struct err *e)
{
	struct init_role *r = &in->roles[role];
	struct init_argv a = {0};
	_cleanup_close_ int news = -1;
	pid_t parent = getpid();
	int ready[2];

	if (init_news_role_start(&in->news, role, &news, e) < 0)
		return e->code;
	if (pipe2(ready, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(e, "pipe");
	r->life++;
	init_announce_lives(in, role);
	init_argv_begin(&a, role);
	init_argv_say(&a, "uid", in->config.uid_base ? in->config.uid_base + role : 0);
	init_argv_say(&a, "life", r->life);
	init_argv_give(&a, "ready", ready[1]);
	init_argv_give(&a, "news", news);
	init_channels_give(&in->channels, &in->given, role, &a);
	r->is_ready = false;
	r->pid = fork();
	if (r->pid < 0) {
		(void)close(ready[0]);
		(void)close(ready[1]);
		return err_errno(e, "start %s", bundle_role_name(role));
	}
	if (r->pid == 0)
		init_argv_exec(&a, in->self_fd, parent);
	(void)close(ready[1]);
	r->pid_fd = (int)syscall(SYS_pidfd_open, r->pid, 0);
	if (r->pid_fd < 0) {
		(void)close(ready[0]);
		return err_errno(e, "pidfd_open");
	}
	if (loop_add(in->loop, &r->ready_watch, ready[0], EPOLLIN, e) < 0 ||
	    loop_add(in->loop, &r->pid_watch, r->pid_fd, EPOLLIN, e) < 0)
		return e ? e->code : -EIO;
	return 0;
}

/* --- readiness --- */

/* The CA certificate in PEM, for the agent's trust store. */
static int init_fetch_ca(struct init *in, char *pem, size_t size, struct err *e)
{
	struct keyd_request q = {.op = KEYD_OP_CA};
	struct keyd_reply r;
	unsigned char text[KEYD_DATA_MAX * 2];
	size_t n = 0;
	int encoded;

	if (keyd_ask(in->channels.keyd[INIT_SELF][0], &q, &r, KEYD_TIMEOUT_MS, e) < 0)
		return e->code;
	if (r.status != KEYD_OK)
		return err_set(e, -EPERM, "keyd gave no certificate");
	encoded = EVP_EncodeBlock(text, r.data, (int)r.data_n);
	n = (size_t)snprintf(pem, size, "-----BEGIN CERTIFICATE-----\n");
	for (int at = 0; at < encoded; at += 64)
		n += (size_t)snprintf(pem + n, n < size ? size - n : 0, "%.64s\n",
				      (char *)text + at);
	n += (size_t)snprintf(pem + n, n < size ? size - n : 0, "-----END CERTIFICATE-----\n");
	return n < size ? 0 : err_set(e, -EMSGSIZE, "certificate too large");
}

static void init_report_ready(struct init *in)
{
	char pem[8192];
	struct err e = ERR_INIT;

	for (int r = 0; r < BUNDLE_ROLE_COUNT; r++) {
		if (init_has(in, (unsigned)r) && !in->roles[r].is_ready)
			return;
	}
	loop_timer_del(in->loop, &in->ready_timer);
	if (in->has_reported_ready)
		return;
	in->has_reported_ready = true;
	if (init_fetch_ca(in, pem, sizeof(pem), &e) < 0) {
		init_fail(in, e.text);
		return;
	}
	init_note(in, "bundle-ready", "all roles serve");
	init_tell(in, "ready", "ca_pem", str_of(pem), NULL);
}

static void init_on_role_ready(struct loop_watch *w, uint32_t events)
{
	struct init_role *r =
		(struct init_role *)((char *)w - offsetof(struct init_role, ready_watch));
	int fd = w->fd;
	char byte;

	(void)events;
	if (read(fd, &byte, 1) == 1)
		r->is_ready = true;
	loop_del(r->init->loop, w);
	(void)close(fd);
	if (!r->is_ready)
		return;
	init_news_role_ready(&r->init->news, (enum bundle_role)(r - r->init->roles));
	init_report_ready(r->init);
}

static void init_on_ready_timeout(struct loop_timer *t)
{
	(void)t;
	for (int r = 0; r < BUNDLE_ROLE_COUNT; r++) {
		char text[96];

		if (!init_has(&init, (unsigned)r) || init.roles[r].is_ready)
			continue;
		(void)snprintf(text, sizeof(text), "%s was not ready within %d s",
			       bundle_role_name((enum bundle_role)r), INIT_READY_MS / 1000);
		init_fail(&init, text);
		return;
	}
}

/* --- ends and restarts --- */

static void init_describe_end(const struct init_role *r, int wait_status, char *out, size_t size)
{
	const char *name = bundle_role_name((enum bundle_role)(r - r->init->roles));

	if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGSYS)
		(void)snprintf(out, size, "%s was killed by its own system call filter", name);
	else if (WIFSIGNALED(wait_status))
		(void)snprintf(out, size, "%s was killed by signal %d", name,
			       WTERMSIG(wait_status));
	else
		(void)snprintf(out, size, "%s ended with status %d", name,
			       WEXITSTATUS(wait_status));
}

static bool init_may_restart(struct init_role *r)
{
	uint64_t now_ns = time_monotonic_ns();
	uint64_t *oldest = &r->restarts_ns[r->n_restarts % INIT_RESTARTS_MAX];

	if (r->n_restarts >= INIT_RESTARTS_MAX &&
	    now_ns - *oldest < INIT_RESTARTS_WINDOW_MS * TIME_NS_PER_MS)
		return false;
	*oldest = now_ns;
	r->n_restarts++;
	return true;
}

/* A role leads a process group of its own: what it had started ends with it. git-gate's workers
 * lead groups of their own; they die with their parent by its death signal, and what they had
 * started finds its pipes closed. Before the role is collected, while its number is still its own.
 */
static bool init_collect(pid_t pid, int *wait_status)
{
	siginfo_t ended = {0};

	if (waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) < 0 ||
	    ended.si_pid != pid)
		return false;
	(void)kill(-pid, SIGKILL);
	return waitpid(pid, wait_status, WNOHANG) == pid;
}

static void init_on_role_end(struct loop_watch *w, uint32_t events)
{
	struct init_role *r =
		(struct init_role *)((char *)w - offsetof(struct init_role, pid_watch));
	struct init *in = r->init;
	enum bundle_role role = (enum bundle_role)(r - in->roles);
	struct err e = ERR_INIT;
	char text[128];
	int wait_status = 0;
	bool owed_answer;

	(void)events;
	if (!init_collect(r->pid, &wait_status))
		return;
	loop_del(in->loop, w);
	close_fd(&r->pid_fd);
	if (r->ready_watch.fd >= 0) {
		int fd = r->ready_watch.fd;

		loop_del(in->loop, &r->ready_watch);
		(void)close(fd);
	}
	r->pid = 0;
	owed_answer = init_news_role_end(&in->news, role);
	if (in->is_stopping) {
		init_stop_next(in);
		return;
	}
	init_describe_end(r, wait_status, text, sizeof(text));
	/* Before the bundle was ever ready, a role that ends has found something that a second try
	 * would find again. */
	if (!in->has_reported_ready || (!owed_answer && !init_may_restart(r))) {
		init_fail(in, text);
		return;
	}
	log_warn("%s; starting it again", text);
	init_note(in, "role-restarted", text);
	init_tell(in, "role", "text", str_of(text), bundle_role_name(role));
	loop_timer_set(in->loop, &in->ready_timer, INIT_READY_MS);
	if (init_start_role(in, role, &e) < 0)
		init_fail(in, e.text);
}

static void init_on_stop_timeout(struct loop_timer *t)
{
	(void)t;
	for (int r = 0; r < BUNDLE_ROLE_COUNT; r++) {
		if (init.roles[r].pid > 0)
			(void)kill(init.roles[r].pid, SIGKILL);
	}
	loop_timer_set(init.loop, &init.stop_timer, INIT_STOP_MS);
	init_stop_next(&init);
}

/* --- what comes in --- */

static void init_on_control(struct loop_watch *w, uint32_t events)
{
	char message[BUNDLE_CONTROL_MAX];
	size_t n_fds = 1;
	int fd = -1;
	ssize_t n = io_recv_fds(w->fd, message, sizeof(message), &fd, &n_fds, MSG_DONTWAIT);

	(void)events;
	if (n == -EAGAIN)
		return;
	if (n > 0 && init_news_take(&init.news, str_slice(message, (size_t)n), fd))
		return;
	if (n > 0 && !str_eq(str_slice(message, (size_t)n), STR_LIT("{\"command\":\"stop\"}"))) {
		log_warn("unknown command on the control channel");
		return;
	}
	loop_del(init.loop, w);
	init_stop(&init, 0);
}

static void init_kill(enum bundle_role role, void *ctx)
{
	const struct init *in = ctx;

	if (in->roles[role].pid > 0)
		(void)kill(in->roles[role].pid, SIGKILL);
}

/* keyd's answers to init: only its unasked notice, that a role asked for what it may not have,
 * matters here. */
static void init_on_notice(struct loop_watch *w, uint32_t events)
{
	struct keyd_reply r;
	uint32_t role;
	ssize_t n = io_recv_fds(w->fd, &r, sizeof(r), NULL, NULL, MSG_DONTWAIT);

	(void)events;
	if (n < (ssize_t)(offsetof(struct keyd_reply, data) + sizeof(role)) || r.id != 0 ||
	    r.status != KEYD_DENIED)
		return;
	memcpy(&role, r.data, sizeof(role));
	if (role < BUNDLE_ROLE_COUNT && init.roles[role].pid > 0) {
		log_error("%s overstepped at keyd: killed",
			  bundle_role_name((enum bundle_role)role));
		init_kill((enum bundle_role)role, &init);
	}
}

/* As process 1 of a container init is the parent of whatever was left behind in there. */
static void init_reap_strays(struct init *in)
{
	for (;;) {
		siginfo_t child = {0};
		bool is_role = false;

		if (waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) < 0 || child.si_pid == 0)
			return;
		for (int r = 0; r < BUNDLE_ROLE_COUNT && !is_role; r++) {
			is_role = in->roles[r].pid == child.si_pid;
			if (is_role)
				init_on_role_end(&in->roles[r].pid_watch, EPOLLIN);
		}
		if (!is_role)
			(void)waitpid(child.si_pid, NULL, WNOHANG);
	}
}

static void init_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)l;
	(void)ctx;
	if (signo == SIGCHLD)
		init_reap_strays(&init);
	else
		init_stop(&init, 0);
}

/* --- start --- */

static int init_take(struct init *in, char **argv, struct err *e)
{
	const char *address;
	int ret = init_fds_take(&in->given, argv, &address, e);

	if (ret == 0)
		ret = bundle_config_load(&in->config, in->given.config, e);
	if (ret == 0 && address && strcmp(address, in->config.pinned) != 0)
		ret = err_set(e, -EINVAL, "listen=%.64s is not the pinned address", address);
	if (ret == 0 && address)
		ret = init_fds_listen(&in->given, &in->config, e);
	return ret == 0 ? init_fds_check(&in->given, &in->config, e) : ret;
}

static int init_make(struct init *in, struct err *e)
{
	in->enabled = bundle_config_roles(&in->config);
	in->self_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	if (in->self_fd < 0)
		return err_errno(e, "open own executable");
	return init_channels_make(&in->channels, in->enabled, e);
}

static int init_watch_all(struct init *in, struct err *e)
{
	int ret;

	in->loop = loop_new(e);
	if (!in->loop)
		return e->code;
	in->control_watch = (struct loop_watch){.fd = -1, .fn = init_on_control};
	in->notice_watch = (struct loop_watch){.fd = -1, .fn = init_on_notice};
	in->news = (struct init_news){.loop = in->loop,
				      .config = &in->config,
				      .config_fd = &in->given.config,
				      .control_fd = in->given.control,
				      .kill = init_kill,
				      .ctx = in};
	init_news_init(&in->news);
	in->ready_timer.fn = init_on_ready_timeout;
	in->stop_timer.fn = init_on_stop_timeout;
	for (int r = 0; r < BUNDLE_ROLE_COUNT; r++) {
		in->roles[r] = (struct init_role){
			.init = in,
			.pid_fd = -1,
			.pid_watch = {.fd = -1, .fn = init_on_role_end},
			.ready_watch = {.fd = -1, .fn = init_on_role_ready},
		};
	}
	ret = loop_signals(in->loop, (int[]){SIGTERM, SIGINT, SIGHUP, SIGCHLD}, 4, init_on_signal,
			   NULL, e);
	if (ret == 0)
		ret = loop_add(in->loop, &in->control_watch, in->given.control, EPOLLIN, e);
	if (ret == 0)
		ret = loop_add(in->loop, &in->notice_watch, in->channels.keyd[INIT_SELF][0],
			       EPOLLIN, e);
	return ret;
}

static void init_on_early_signal(int signo)
{
	_exit(128 + signo);
}

/* Until the loop takes them. Process 1 of a container has no default actions: without a handler it
 * would not hear that it shall end while it waits for its descriptors. */
static void init_heed_signals(void)
{
	(void)signal(SIGTERM, init_on_early_signal);
	(void)signal(SIGINT, init_on_early_signal);
}

int init_main(char **argv)
{
	struct err e = ERR_INIT;
	int status;

	memset(&init, 0, sizeof(init));
	init_heed_signals();
	if (init_take(&init, argv, &e) < 0 || init_make(&init, &e) < 0 ||
	    init_watch_all(&init, &e) < 0)
		die("%s", e.text);
	/* Not before the roles: no-new-privs and an undumpable init are inherited only as they
	 * should be, but the capabilities to change uid must last as long as init does. */
	if (priv_basics(&e) < 0 || priv_keep_caps_of_init(&e) < 0)
		die("%s", e.text);
	loop_timer_set(init.loop, &init.ready_timer, INIT_READY_MS);
	for (size_t i = 0; i < ARRAY_LEN(start_order); i++) {
		if (init_has(&init, start_order[i]) &&
		    init_start_role(&init, start_order[i], &e) < 0) {
			init_fail(&init, e.text);
			break;
		}
	}
	status = loop_run(init.loop);
	bundle_config_free(&init.config);
	return status;
}
