/*
 * The role's process: takes git-gate's requests, one child for each, and does for the children what
 * they may not do themselves.
 *
 * Theory of operation: what a child can ask for was decided when it was started: its remote, and by
 * that its key and its address. Its one channel to us speaks the ssh-agent protocol; keyd's channel
 * is ours alone, so that no two children can take each other's answers, and keyd judges what is
 * signed. A child that does not get going in time, or lives too long, is killed; the reason is then
 * written by us, into the pipe of which we keep an end until the child is gone.
 */
#include "gitssh/gitssh.h"

#include "bundle/bundle.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "keyd/keyd_proto.h"
#include "net/loop.h"
#include "priv/priv.h"
#include "record/record.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROLE_FILES_MAX	256
#define ROLE_MEMORY_MAX (256u << 20)

struct child {
	pid_t pid; /* 0: free */
	const struct git_remote *remote;
	uint32_t place;
	int why_fd, agent_fd;
	struct loop_watch agent_watch;
	struct loop_timer timer;
	struct gitssh_agent agent;
	bool is_going, was_too_slow;
	bool is_unsigned; /* keyd gave no signature */
	uint64_t start_ns;
};

struct role {
	struct loop *loop;
	struct bundle_config config;
	int keyd_fd, record_fd, dial_fd;
	struct loop_watch channel;
	struct keyd_reply keys[GIT_REMOTES_MAX]; /* public ones, by the remote's place */
	struct child children[GITSSH_CHILDREN_MAX];
	bool is_full; /* the channel is not watched */
};

static struct role role;

/* --- the agent's side of a child --- */

static int child_sign(void *ctx, struct str data, uint8_t *out, size_t size)
{
	struct child *c = ctx;
	struct keyd_request q = {.op = KEYD_OP_SSH_SIGN, .index = c->place};
	struct keyd_reply r;
	struct err e = ERR_INIT;

	c->is_unsigned = true;
	if (data.n > sizeof(q.data))
		return -EMSGSIZE;
	memcpy(q.data, data.p, data.n);
	q.data_n = (uint16_t)data.n;
	if (keyd_ask(role.keyd_fd, &q, &r, KEYD_TIMEOUT_MS, &e) < 0) {
		log_error("%s", e.text);
		return -EIO;
	}
	if (r.status != KEYD_OK || r.data_n > size)
		return -EPERM;
	c->is_unsigned = false;
	memcpy(out, r.data, r.data_n);
	return (int)r.data_n;
}

static void child_close_agent(struct child *c)
{
	if (c->agent_fd < 0)
		return;
	loop_del(role.loop, &c->agent_watch);
	close_fd(&c->agent_fd);
}

static void child_on_agent(struct loop_watch *w, uint32_t events)
{
	struct child *c = (struct child *)((char *)w - offsetof(struct child, agent_watch));
	char bytes[GITSSH_AGENT_MAX];
	size_t room = sizeof(c->agent.in) - c->agent.n;
	ssize_t n = recv(w->fd, bytes, room, MSG_DONTWAIT);
	struct buf out;
	int ret;

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		/* Its login is over: git's program runs, or the child ends. */
		c->is_going = true;
		loop_timer_set(role.loop, &c->timer, GITSSH_LIFE_MS);
		child_close_agent(c);
		return;
	}
	buf_init(&out, (size_t)4 * GITSSH_AGENT_MAX);
	ret = gitssh_agent_feed(&c->agent, str_slice(bytes, (size_t)n), &out);
	/* libssh would blame its memory for the answer: it gets none, and the reason is ours. */
	if (ret == 0 && !c->is_unsigned && buf_len(&out) > 0 &&
	    send(w->fd, buf_str(&out).p, buf_len(&out), MSG_NOSIGNAL | MSG_DONTWAIT) !=
		    (ssize_t)buf_len(&out))
		ret = -EIO;
	buf_free(&out);
	if (ret < 0)
		log_warn("a child of gitssh does not speak as an agent's client: killed");
	if (ret < 0 || c->is_unsigned)
		(void)kill(c->pid, SIGKILL);
}

static void child_on_timer(struct loop_timer *t)
{
	struct child *c = (struct child *)((char *)t - offsetof(struct child, timer));

	c->was_too_slow = true;
	(void)kill(c->pid, SIGKILL);
}

/* --- the end of a child --- */

static void child_record(const struct child *c, enum gitssh_end end, const char *detail)
{
	static const struct {
		enum record_verdict verdict;
		const char *reason;
	} kinds[] = {
		[GITSSH_OK] = {RECORD_NOTE, "ok"},
		[GITSSH_FAILED] = {RECORD_NOTE, "ssh-failed"},
		[GITSSH_HOST_KEY] = {RECORD_BLOCK, "ssh-host-key"},
		[GITSSH_AUTH] = {RECORD_NOTE, "ssh-auth-refused"},
		[GITSSH_SILENT] = {RECORD_NOTE, "ssh-timeout"},
	};
	struct record r;

	record_init(&r, "gitssh", kinds[end].verdict, kinds[end].reason);
	(void)snprintf(r.scanner, sizeof(r.scanner), "gitssh");
	(void)snprintf(r.rule, sizeof(r.rule), "%s", c->remote->name);
	(void)snprintf(r.host, sizeof(r.host), "%s", c->remote->host);
	r.port = c->remote->port;
	(void)snprintf(r.path, sizeof(r.path), "%.*s", RECORD_PATH_MAX - 1, c->remote->path);
	(void)snprintf(r.detail, sizeof(r.detail), "%s", detail);
	r.duration_us = (time_monotonic_ns() - c->start_ns) / 1000;
	if (record_send(role.record_fd, &r) < 0)
		log_error("cannot record that ssh to %s failed", c->remote->host);
}

static void child_judge(const struct child *c, int status)
{
	enum gitssh_end end = GITSSH_FAILED;
	char text[96] = "";

	if (WIFEXITED(status) && WEXITSTATUS(status) <= GITSSH_SILENT) {
		end = (enum gitssh_end)WEXITSTATUS(status);
	} else if (c->was_too_slow) {
		end = GITSSH_SILENT;
		(void)snprintf(text, sizeof(text), "the server took too long%s",
			       c->is_going ? "" : " to let git in");
	} else if (c->is_unsigned) {
		(void)snprintf(text, sizeof(text),
			       "keyd gave no signature for %.40s: see the bottle's log",
			       c->remote->name);
	} else if (WIFSIGNALED(status)) {
		(void)snprintf(text, sizeof(text), "gitssh's child was killed by signal %d",
			       WTERMSIG(status));
		log_error("%s", text);
	} else {
		(void)snprintf(text, sizeof(text), "gitssh's child ended with status %d",
			       WEXITSTATUS(status));
	}
	if (*text)
		(void)!write(c->why_fd, text, strlen(text));
	if (end != GITSSH_OK)
		child_record(c, end, text);
}

static void child_end(struct child *c, int status)
{
	child_close_agent(c);
	loop_timer_del(role.loop, &c->timer);
	child_judge(c, status);
	close_fd(&c->why_fd);
	c->pid = 0;
	if (role.is_full && loop_set(role.loop, &role.channel, EPOLLIN) == 0)
		role.is_full = false;
}

static void role_reap(void)
{
	for (size_t i = 0; i < GITSSH_CHILDREN_MAX; i++) {
		struct child *c = &role.children[i];
		int status;

		if (c->pid > 0 && waitpid(c->pid, &status, WNOHANG) == c->pid)
			child_end(c, status);
	}
}

/* --- the start of a child --- */

/* Everything of the parent's goes: what is left is the job. No descriptor is numbered higher than
 * the limit on them. */
static void close_all_but(const int *kept, size_t n)
{
	for (int fd = STDERR_FILENO + 1; fd < ROLE_FILES_MAX; fd++) {
		bool is_kept = false;

		for (size_t i = 0; i < n; i++)
			is_kept |= fd == kept[i];
		if (!is_kept)
			(void)close(fd);
	}
}

static _Noreturn void child_become(const struct gitssh_job *job, pid_t parent)
{
	const int kept[] = {job->stream_fd, job->why_fd, job->dial_fd, job->agent_fd};

	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
		_exit(GITSSH_FAILED);
	close_all_but(kept, ARRAY_LEN(kept));
	_exit(gitssh_child(job));
}

/* Our end of what egress answers goes to the child. */
static int ask_to_dial(uint32_t place, int *answer_fd, struct err *e)
{
	const struct git_stream_request q = {.remote = (uint16_t)place};
	_cleanup_close_ int theirs = -1;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	*answer_fd = pair[0];
	theirs = pair[1];
	if (io_send_fds(role.dial_fd, &q, sizeof(q), &theirs, 1, MSG_DONTWAIT) !=
	    (ssize_t)sizeof(q))
		return err_set(e, -EAGAIN, "egress takes no more connections now");
	return 0;
}

static int child_start(struct child *c, const struct git_stream_request *q, int stream_fd,
		       int why_fd, struct err *e)
{
	struct gitssh_job job = {.remote = &role.config.git->remotes[q->remote],
				 .service = (enum git_service)q->service,
				 .stream_fd = stream_fd,
				 .why_fd = why_fd};
	_cleanup_close_ int dial_fd = -1, ours = -1, theirs = -1;
	pid_t parent = getpid();
	int pair[2], ret = ask_to_dial(q->remote, &dial_fd, e);

	if (ret < 0)
		return ret;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	job.dial_fd = dial_fd;
	job.agent_fd = theirs;
	*c = (struct child){
		.remote = job.remote,
		.place = q->remote,
		.why_fd = -1,
		.agent_fd = -1,
		.agent_watch = {.fd = -1, .fn = child_on_agent},
		.timer = {.fn = child_on_timer},
		.agent = {.key = str_slice(role.keys[q->remote].data, role.keys[q->remote].data_n),
			  .sign = child_sign,
			  .ctx = c,
			  .signatures_left = GITSSH_SIGNATURES_MAX},
		.start_ns = time_monotonic_ns()};
	if (loop_add(role.loop, &c->agent_watch, ours, EPOLLIN, e) < 0)
		return e->code;
	c->agent_fd = take_fd(&ours);
	c->pid = fork();
	if (c->pid == 0)
		child_become(&job, parent);
	if (c->pid < 0) {
		c->pid = 0;
		ret = err_errno(e, "fork");
		child_close_agent(c);
		return ret;
	}
	loop_timer_set(role.loop, &c->timer, GITSSH_START_MS);
	return 0;
}

/* --- requests --- */

static bool is_good_request(const struct git_stream_request *q)
{
	const struct git_policy *git = role.config.git;

	return q->zero == 0 && q->remote < git->n_remotes &&
	       git->remotes[q->remote].transport == GIT_TRANSPORT_SSH &&
	       (q->service == GIT_UPLOAD_PACK || q->service == GIT_RECEIVE_PACK);
}

/* Owns both descriptors. */
static void role_serve(struct child *c, const struct git_stream_request *q, int stream, int why)
{
	_cleanup_close_ int stream_fd = stream, why_fd = why;
	struct err e = ERR_INIT;

	if (child_start(c, q, stream_fd, why_fd, &e) == 0) {
		c->why_fd = take_fd(&why_fd);
		return;
	}
	log_error("%s", e.text);
	(void)!write(why_fd, e.text, strnlen(e.text, GIT_STREAM_WHY_MAX));
}

static struct child *find_free(void)
{
	for (size_t i = 0; i < GITSSH_CHILDREN_MAX; i++) {
		if (role.children[i].pid == 0)
			return &role.children[i];
	}
	return NULL;
}

static void role_on_request(struct loop_watch *w, uint32_t events)
{
	struct child *c = find_free();
	struct git_stream_request q;
	int fds[2] = {-1, -1};
	size_t n_fds = 2;
	ssize_t n;

	(void)events;
	if (!c) {
		role.is_full = true;
		(void)loop_set(role.loop, w, 0);
		return;
	}
	n = io_recv_fds(w->fd, &q, sizeof(q), fds, &n_fds, MSG_DONTWAIT);
	if (n == -EAGAIN || n == -EPROTO || n == -EMSGSIZE)
		return;
	if (n <= 0) {
		loop_stop(role.loop, n < 0);
		return;
	}
	if (n == (ssize_t)sizeof(q) && n_fds == 2 && is_good_request(&q)) {
		role_serve(c, &q, fds[0], fds[1]);
		return;
	}
	log_warn("git-gate asked for what is no ssh remote");
	for (size_t i = 0; i < n_fds; i++)
		close_fd(&fds[i]);
}

static void role_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)ctx;
	if (signo == SIGCHLD)
		role_reap();
	else
		loop_stop(l, 0);
}

static int role_fetch_keys(struct err *e)
{
	const struct git_policy *git = role.config.git;

	for (uint32_t i = 0; i < git->n_remotes; i++) {
		struct keyd_request q = {.op = KEYD_OP_SSH_KEY, .index = i};

		if (git->remotes[i].transport != GIT_TRANSPORT_SSH)
			continue;
		if (keyd_ask(role.keyd_fd, &q, &role.keys[i], KEYD_TIMEOUT_MS, e) < 0)
			return e->code;
		if (role.keys[i].status != KEYD_OK)
			return err_set(e, -EPERM, "keyd has no key for the remote \"%s\"",
				       git->remotes[i].name);
	}
	return 0;
}

static int role_start(const struct bundle_role_env *env, struct err *e)
{
	int ret = bundle_config_load(&role.config, env->config_fd, e);

	if (ret < 0)
		return ret;
	if (!role.config.git || env->stream_fd < 0 || env->dial_fd < 0)
		return err_set(e, -EINVAL, "gitssh without git, stream= or dial=");
	role.keyd_fd = env->keyd_fd;
	role.record_fd = env->record_fd;
	role.dial_fd = env->dial_fd;
	ret = role_fetch_keys(e);
	if (ret < 0)
		return ret;
	role.loop = loop_new(e);
	if (!role.loop)
		return e->code;
	role.channel = (struct loop_watch){.fd = -1, .fn = role_on_request};
	ret = loop_add(role.loop, &role.channel, env->stream_fd, EPOLLIN, e);
	if (ret < 0)
		return ret;
	return loop_signals(role.loop, (int[]){SIGTERM, SIGCHLD}, 2, role_on_signal, NULL, e);
}

/* Not dialling: the sockets that the children get are connected. ACCEPT is there for getsockopt
 * and setsockopt, which libssh uses on its socket; nothing here listens. */
int gitssh_role_main(struct bundle_role_env *env)
{
	const struct priv_limits limits = {
		.files = ROLE_FILES_MAX,
		.processes = GITSSH_CHILDREN_MAX + 1,
		.address_space_bytes = priv_is_instrumented() ? 0 : ROLE_MEMORY_MAX,
	};
	struct err e = ERR_INIT;
	int status;

	if (role_start(env, &e) < 0)
		die("%s", e.text);
	if (bundle_role_seal(env, &limits, false,
			     PRIV_SECCOMP_PASS_FD | PRIV_SECCOMP_ACCEPT | PRIV_SECCOMP_FORK |
				     PRIV_SECCOMP_KILL,
			     &e) < 0)
		die("%s", e.text);
	bundle_role_ready(env);
	status = loop_run(role.loop);
	for (size_t i = 0; i < GITSSH_CHILDREN_MAX; i++) {
		if (role.children[i].pid > 0)
			(void)kill(role.children[i].pid, SIGKILL);
	}
	bundle_config_free(&role.config);
	loop_free(role.loop);
	return status;
}
