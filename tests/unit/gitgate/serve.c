/*
 * A git-gate without a bundle, for serve.py to try a real git on: `serve FOLDER POLICY UPSTREAMS`
 * prints its port and serves until its standard input ends; with SERVE_SEALED in
 * the environment with the powers of the role alone. The upstream of a remote is the
 * repository UPSTREAMS/NAME.git; a file UPSTREAMS/NAME.down keeps it from being reached, and
 * UPSTREAMS/NAME.slow holds a push up, UPSTREAMS/NAME.refuse has each of its refs refused, with
 * UPSTREAMS/NAME.moved "moving" is its default branch. Records are printed, one line each. What
 * check.c does is played too: a commit message with "FAKE-SECRET" has a finding, a name with it is
 * masked; one with "FAKE-SENSITIVE" brings a path that needs approval, one with "FAKE-CANARY" the
 * canary. With SERVE_DESK in the environment the keeper is played as well: what it is told is
 * printed, a line each, and UPSTREAMS/approved holds the hash, in hex, of a push that was approved.
 */
#include "gitgate/gitgate.h"
#include "gitgate/seal.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "record/record.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#define SERVE_COMMAND_MS 60000

const char *serve_upstreams;

static bool serve_has(const struct git_remote *r, const char *what)
{
	_cleanup_free_ char *path = mem_printf("%s/%s.%s", serve_upstreams, r->name, what);

	return access(path, F_OK) == 0;
}

static char *serve_url(const struct git_remote *r)
{
	return mem_printf("file://%s/%s.git", serve_upstreams, r->name);
}

/* git with transports that git_run() would never allow. */
static int serve_git(const struct git_run_env *env, const char *const *argv, struct buf *said)
{
	_cleanup_free_ char *alternate =
		mem_printf("GIT_ALTERNATE_OBJECT_DIRECTORIES=%s/objects", env->repo);
	_cleanup_free_ char *objects =
		mem_printf("GIT_OBJECT_DIRECTORY=%s", env->quarantine ? env->quarantine : "");
	_cleanup_free_ char *repo = mem_printf("GIT_DIR=%s", env->repo);
	char *const with[] = {
		"PATH=/usr/bin:/bin", repo, "GIT_CONFIG_NOSYSTEM=1", objects, alternate, NULL};
	char *const without[] = {"PATH=/usr/bin:/bin", repo, "GIT_CONFIG_NOSYSTEM=1", NULL};
	int out[2], status;
	pid_t pid;
	ssize_t n;

	if (pipe2(out, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		(void)dup2(out[1], STDERR_FILENO);
		(void)dup2(out[1], STDOUT_FILENO);
		(void)execve("/usr/bin/git", (char *const *)(uintptr_t)argv,
			     env->quarantine ? with : without);
		_exit(127);
	}
	(void)close(out[1]);
	while ((n = read(out[0], buf_reserve(said, 512), 512)) > 0) {
		buf_commit(said, (size_t)n);
		if (buf_room(said) < 1024)
			buf_reset(said);
	}
	(void)close(out[0]);
	if (waitpid(pid, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int upstream_fetch(const struct upstream_place *p, const struct git_remote *r,
		   const struct git_run_env *git, struct err *e)
{
	_cleanup_free_ char *url = serve_url(r);
	const char *const fetch[] = {"git",
				     "fetch",
				     "-q",
				     "--prune",
				     url,
				     "+refs/heads/*:refs/heads/*",
				     "+refs/tags/*:refs/tags/*",
				     NULL};
	const char *const head[] = {"git", "symbolic-ref", "HEAD",
				    serve_has(r, "moved") ? "refs/heads/moving" : "refs/heads/main",
				    NULL};
	struct buf said;
	int ret;

	(void)p;
	if (serve_has(r, "down"))
		return err_set(e, -ECONNREFUSED, "connection \\x1b[31mrefused");
	buf_init(&said, 65536);
	ret = serve_git(git, fetch, &said);
	if (ret == 0)
		ret = serve_git(git, head, &said);
	if (ret != 0)
		(void)err_set(e, -EIO, "fetch: " STR_FMT, STR_ARG(buf_str(&said)));
	buf_free(&said);
	return ret == 0 ? 0 : -EIO;
}

int upstream_push(const struct upstream_place *p, const struct git_remote *r,
		  const struct git_run_env *git, const struct check_update *updates, size_t n,
		  struct upstream_ref_result *results, struct buf *said, struct err *e)
{
	_cleanup_free_ char *url = serve_url(r);
	const char *argv[CHECK_UPDATES_MAX + 8] = {"git", "push", "-q", "--atomic", url};
	struct buf own;
	size_t at = 5;
	int ret;

	(void)p;
	if (serve_has(r, "slow"))
		(void)nanosleep(&(struct timespec){.tv_sec = 30}, NULL);
	if (serve_has(r, "down"))
		return err_set(e, -ECONNREFUSED, "connection \\x1b[31mrefused");
	for (size_t i = 0; i < n && serve_has(r, "refuse"); i++)
		(void)snprintf(results[i].reason, sizeof(results[i].reason), "as it pleases");
	if (serve_has(r, "refuse"))
		return err_set(e, -EPERM, "the upstream did not take it");
	for (size_t i = 0; i < n; i++) {
		bool is_delete = strspn(updates[i].new_oid, "0") == 40;

		argv[at++] =
			mem_printf("+%s:%s", is_delete ? "" : updates[i].new_oid, updates[i].ref);
		if (is_delete)
			argv[at - 1]++; /* ":ref" */
		results[i].is_ok = true;
	}
	argv[at] = NULL;
	buf_init(&own, 65536);
	ret = serve_git(git, argv, &own);
	if (buf_append_str(said, ret == 0 ? STR_LIT("hello from upstream\n") : buf_str(&own)) < 0)
		ret = -1;
	buf_free(&own);
	return ret == 0 ? 0 : err_set(e, -EIO, "the upstream said no");
}

static void serve_finding(struct check_report *out, struct str text, const struct check_update *u)
{
	static const struct {
		const char *word, *rule, *path;
		enum check_kind kind;
	} marks[] = {
		{"FAKE-SECRET", "fake-secret", "", CHECK_SECRET},
		{"FAKE-CANARY", "canary", "", CHECK_SECRET},
		{"FAKE-SENSITIVE", "sensitive", ".github/workflows/a.yml", CHECK_SENSITIVE},
	};

	for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
		struct check_finding *f = &out->findings[out->n_findings];

		if (str_find(text, str_of(marks[i].word)) == text.n)
			continue;
		out->n_findings++;
		f->kind = marks[i].kind;
		(void)snprintf(f->rule, sizeof(f->rule), "%s", marks[i].rule);
		(void)snprintf(f->path, sizeof(f->path), "%s", marks[i].path);
		(void)snprintf(f->commit, sizeof(f->commit), "%s", u->new_oid);
		(void)snprintf(f->what, sizeof(f->what), "commit message");
		(void)snprintf(f->fingerprint, sizeof(f->fingerprint),
			       "0123456789abcdef0123456789abcdef");
		f->line = f->path[0] ? 0 : 1;
	}
}

int check_push(const struct check_input *in, struct check_report *out, struct err *e)
{
	struct buf text;
	int ret = 0;

	memset(out, 0, sizeof(*out));
	buf_init(&text, 1u << 20);
	for (size_t i = 0; i < in->n_updates && ret == 0; i++) {
		const struct check_update *u = &in->updates[i];

		if (strspn(u->new_oid, "0") == 40)
			continue;
		buf_reset(&text);
		ret = git_run(in->git,
			      (const char *const[]){"log", "--format=%B", u->new_oid, "--not",
						    "--all", NULL},
			      STR_NULL, &text, NULL,
			      time_monotonic_ns() + SERVE_COMMAND_MS * TIME_NS_PER_MS, e);
		if (ret > 0)
			ret = err_set(e, -EIO, "git log");
		serve_finding(out, buf_str(&text), u);
	}
	buf_free(&text);
	return ret;
}

void check_name_show(struct scan_engine *engine, char *out, size_t size, struct str name)
{
	bool is_secret = str_find(name, STR_LIT("FAKE-SECRET")) < name.n;

	(void)engine;
	text_visible_cstr(out, size, is_secret ? STR_LIT("refs/***") : name);
}

/* As upstream.c and check.c have them. */
int git_connect_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return 1;
}

const char *check_kind_name(enum check_kind k)
{
	static const char *const names[] = {
#define X(constant, name) [CHECK_##constant] = (name),
		CHECK_KINDS(X)
#undef X
	};

	return k < CHECK_KIND_COUNT ? names[k] : "?";
}

/* --- the program --- */

static int record_fds[2];

static void on_record(struct loop_watch *w, uint32_t events)
{
	struct record r;

	(void)events;
	while (recv(w->fd, &r, sizeof(r), MSG_DONTWAIT) == (ssize_t)sizeof(r)) {
		(void)printf("record %s %s %s %s %s\n",
			     record_verdict_name((enum record_verdict)r.verdict), r.reason,
			     r.method[0] ? r.method : "-", r.path[0] ? r.path : "-", r.detail);
		(void)fflush(stdout);
	}
}

/* --- the keeper --- */

static bool serve_spend(const char *hex)
{
	_cleanup_free_ char *path = mem_printf("%s/approved", serve_upstreams);
	struct str text = STR_NULL;
	struct err e = ERR_INIT;
	bool is_it;

	if (io_read_file(AT_FDCWD, path, 4096, &text, &e) < 0)
		return false;
	is_it = str_eq(str_trim(text), str_of(hex));
	free((char *)(uintptr_t)text.p);
	return is_it && unlink(path) == 0;
}

static void on_ask(struct loop_watch *w, uint32_t events)
{
	static const char *const ops[] = {
		[ASK_SPEND] = "spend", [ASK_SEEN] = "seen", [ASK_CANARY] = "canary"};
	struct ask a;

	(void)events;
	while (recv(w->fd, &a, sizeof(a), MSG_DONTWAIT) == (ssize_t)sizeof(a)) {
		char hash[2 * sizeof(a.hash) + 1], record[2 * sizeof(a.record) + 1];

		text_hex(hash, a.hash, sizeof(a.hash));
		text_hex(record, a.record, sizeof(a.record));
		(void)printf("ask %s %u %s %s %s %s %s %s %s\n",
			     a.op < ARRAY_LEN(ops) && ops[a.op] ? ops[a.op] : "?", a.kind, a.remote,
			     a.ref, a.old_oid, a.new_oid, hash, record, a.shown);
		(void)fflush(stdout);
		if (a.op == ASK_SPEND) {
			struct ask_answer answer = {.id = a.id,
						    .life = a.life,
						    .state = serve_spend(hash) ? ASK_GRANTED
									       : ASK_UNKNOWN,
						    .is_final = 1};

			memcpy(answer.hash, a.hash, sizeof(answer.hash));
			(void)send(w->fd, &answer, sizeof(answer), MSG_NOSIGNAL);
		}
	}
}

static struct loop *loop;

static int serve_desk(struct desk **out, struct err *e)
{
	static struct loop_watch keeper = {.fn = on_ask};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	return loop_add(loop, &keeper, pair[1], EPOLLIN, e) < 0
		       ? e->code
		       : desk_open(out, loop, pair[0], 1, e);
}

static void on_input(struct loop_watch *w, uint32_t events)
{
	char byte;

	(void)events;
	if (read(w->fd, &byte, 1) <= 0)
		loop_stop(loop, 0);
}

static int listen_somewhere(uint16_t *port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 128) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &n) < 0)
		die("no socket");
	*port = ntohs(sa.sin_port);
	return fd;
}

static int serve(char **argv)
{
	struct gitgate_config config = {.slug = "test",
					.folder = argv[1],
					.upstream = {-1, -1, -1, NULL, NULL},
					.program_fd = -1};
	static struct loop_watch input, records;
	_cleanup_free_ char *text = NULL;
	struct git_policy policy = {0};
	struct gitgate *g;
	struct err e = ERR_INIT;
	struct str json;
	uint16_t port;
	int status, listen_fd = listen_somewhere(&port);

	serve_upstreams = argv[3];
	if (io_read_file(AT_FDCWD, argv[2], 1u << 20, &json, &e) < 0)
		die("%s", e.text);
	text = (char *)(uintptr_t)json.p;
	if (git_policy_from_json(&policy, json, &e) < 0)
		die("%s", e.text);
	config.policy = &policy;
	if (getenv("SERVE_WORKERS"))
		config.workers_max = (unsigned)strtoul(getenv("SERVE_WORKERS"), NULL, 10);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, record_fds) < 0)
		die("socketpair");
	config.record_fd = record_fds[0];
	(void)signal(SIGPIPE, SIG_IGN);
	loop = loop_new(&e);
	if (io_mkdir_p(config.folder, 0700, &e) < 0)
		die("%s", e.text);
	input.fn = on_input;
	records.fn = on_record;
	config.program_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (getenv("SERVE_SEALED")) {
		const struct bundle_role_env env = {.uid = 0};

		if (!loop || gitgate_seal(&env, config.folder, &e) < 0)
			die("%s", e.text);
	}
	if (loop && getenv("SERVE_DESK") && serve_desk(&config.desk, &e) < 0)
		die("%s", e.text);
	if (!loop || loop_add(loop, &input, STDIN_FILENO, EPOLLIN, &e) < 0 ||
	    loop_add(loop, &records, record_fds[1], EPOLLIN, &e) < 0 ||
	    gitgate_new(&g, loop, &config, &e) < 0 || gitgate_listen(g, listen_fd, &e) < 0)
		die("%s", e.text);
	(void)printf("port %u\n", port);
	(void)fflush(stdout);
	status = loop_run(loop);
	gitgate_free(g);
	desk_close(config.desk);
	loop_free(loop);
	git_policy_free(&policy);
	return status;
}

int main(int argc, char **argv)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;

	if (slash && strcmp(slash, "/pre-receive") == 0)
		return git_hook_main(argc, argv);
	if (argc != 4)
		die("serve FOLDER POLICY UPSTREAMS");
	log_set_role("gitgate");
	return serve(argv);
}
