/*
 * The bundle's init as the keeper's child: found, checked, given its descriptors, listened to.
 * Secrets pass through here in one sealed memory file that is written before the keeper exists, so
 * the keeper's own memory never holds one.
 */
#include "backend/keeper_int.h"

#include "backend/native/wall.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define BUNDLE_NAME	  "claude-bottle-bundle"
#define BUNDLE_CONFIG_MAX (POLICY_JSON_MAX_BYTES + 65536)
#define BUNDLE_COMMAND_MS 30000
#define BUNDLE_KEY_SIZE	  65
#define BUNDLE_RULES_MAX  (64u << 20)
#define BUNDLE_UID_BASE	  1300000000u /* above what bottles' agents get */
#define BUNDLE_ARGS_MAX	  12

/* enum scan_kind, which the host's side does not include; the tests compare them. */
enum bundle_secret_kind {
	BUNDLE_KIND_SECRET = 1,
	BUNDLE_KIND_CANARY = 2,
	BUNDLE_KIND_PLACEHOLDER = 3
};

/* --- secrets --- */

static int secret_put(struct buf *b, unsigned kind, unsigned index, struct str value, struct err *e)
{
	struct bundle_secret_head h = {.kind = kind, .index = index, .length = (uint32_t)value.n};

	if (buf_append(b, &h, sizeof(h)) < 0 || buf_append_str(b, value) < 0)
		return err_set(e, -E2BIG, "too many secrets in one bottle");
	return 0;
}

static int secret_put_values(struct buf *b, const struct plan *p, struct err *e)
{
	for (size_t i = 0; i < p->n_secrets; i++) {
		struct str value = STR_NULL;
		int ret = plan_secret_fetch(&p->secrets[i], &value, e);

		if (ret == 0)
			ret = secret_put(b, BUNDLE_KIND_SECRET, (unsigned)i, value, e);
		if (value.p) {
			mem_wipe((void *)(uintptr_t)value.p, value.n);
			free((void *)(uintptr_t)value.p);
		}
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Each placeholder once, though several routes may share it. */
static int secret_put_placeholders(struct buf *b, const struct policy *p, struct err *e)
{
	for (size_t i = 0; i < p->n_routes; i++) {
		const struct policy_auth *a = &p->routes[i].auth;
		bool is_known = a->scheme == POLICY_AUTH_NONE || !a->placeholder;

		for (size_t j = 0; j < i && !is_known; j++)
			is_known = p->routes[j].auth.placeholder &&
				   strcmp(p->routes[j].auth.placeholder, a->placeholder) == 0;
		if (is_known)
			continue;
		if (secret_put(b, BUNDLE_KIND_PLACEHOLDER, a->credential, str_of(a->placeholder),
			       e) < 0)
			return e ? e->code : -E2BIG;
	}
	return 0;
}

int keeper_secrets(const struct plan *p, struct err *e)
{
	struct buf b;
	int ret;

	if (p->n_secrets > BUNDLE_SECRETS_MAX)
		return err_set(e, -E2BIG, "more than %d secrets in one bottle", BUNDLE_SECRETS_MAX);
	buf_init(&b, BUNDLE_SECRETS_MAX_BYTES);
	/* All at once: a buffer that grows would leave copies behind. */
	if (!buf_reserve(&b, BUNDLE_SECRETS_MAX_BYTES))
		return err_set(e, -ENOMEM, "no memory");
	ret = secret_put_values(&b, p, e);
	if (ret == 0)
		ret = secret_put_placeholders(&b, &p->policy, e);
	if (ret == 0 && p->canary)
		ret = secret_put(&b, BUNDLE_KIND_CANARY, 0, str_of(p->canary), e);
	if (ret == 0)
		ret = io_memfd_sealed("secrets", buf_str(&b), e);
	mem_wipe(b.p, b.size);
	buf_free(&b);
	return ret;
}

/* --- the executable --- */

static int bundle_open(const char *path, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return err_errno(e, "open \"%s\"", path);
	if (fstat(fd, &st) < 0)
		return err_errno(e, "stat \"%s\"", path);
	if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111))
		return err_set(e, -EACCES, "\"%s\" is not an executable file", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return err_set(e, -EPERM, "\"%s\" belongs to somebody else (uid %u)", path,
			       (unsigned)st.st_uid);
	if (st.st_mode & 0022)
		return err_set(e, -EPERM, "\"%s\" can be written by others (mode %04o)", path,
			       st.st_mode & 07777);
	return take_fd(&fd);
}

int keeper_bundle_find(struct err *e)
{
	static const char *const beside[] = {"/" BUNDLE_NAME,
					     "/../libexec/claude-bottle/" BUNDLE_NAME,
					     "/../libexec/" BUNDLE_NAME};
	const char *named = getenv("CLAUDE_BOTTLE_BUNDLE");
	char self[PATH_MAX];
	ssize_t n;
	char *slash;

	if (named && named[0])
		return bundle_open(named, e);
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0)
		return err_errno(e, "find our own executable");
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; i < ARRAY_LEN(beside); i++) {
		_cleanup_free_ char *path = mem_printf("%s%s", self, beside[i]);

		if (access(path, F_OK) == 0)
			return bundle_open(path, e);
	}
	return err_set(e, -ENOENT, BUNDLE_NAME " is neither beside %s/claude-bottle nor in libexec",
		       self);
}

/* --- the rules' cache --- */

static _Noreturn void bundle_exec(int bundle_fd, char *const *argv, char *const *env)
{
	(void)syscall(SYS_execveat, bundle_fd, "", argv, env, AT_EMPTY_PATH);
	_exit(127);
}

/* Runs one of the bundle's commands with its output in fd. True on status 0. */
static bool bundle_run(int bundle_fd, const char *command, int fd)
{
	char *argv[] = {(char *)(uintptr_t)BUNDLE_NAME, (char *)(uintptr_t)command, NULL};
	char *env[] = {NULL};
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(fd, STDOUT_FILENO) < 0)
			_exit(127);
		bundle_exec(bundle_fd, argv, env);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool rules_key(int bundle_fd, char key[BUNDLE_KEY_SIZE])
{
	_cleanup_close_ int fd = memfd_create("key", MFD_CLOEXEC);
	ssize_t got;

	if (fd < 0 || !bundle_run(bundle_fd, "rules-key", fd))
		return false;
	got = pread(fd, key, BUNDLE_KEY_SIZE - 1, 0);
	if (got != BUNDLE_KEY_SIZE - 1)
		return false;
	key[BUNDLE_KEY_SIZE - 1] = '\0';
	for (size_t i = 0; i < BUNDLE_KEY_SIZE - 1; i++) {
		if (ascii_hex_value(key[i]) < 0)
			return false;
	}
	return true;
}

/* $XDG_CACHE_HOME/claude-bottle as an open folder that is ours alone. */
static int rules_folder(void)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (cache && cache[0] == '/')
		path = mem_printf("%s/claude-bottle", cache);
	else if (home && home[0] == '/')
		path = mem_printf("%s/.cache/claude-bottle", home);
	else
		return -1;
	if (io_mkdir_p(path, 0700, NULL) < 0)
		return -1;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 0022))
		return -1;
	return take_fd(&fd);
}

static int rules_compile(int folder, int bundle_fd, const char *name)
{
	_cleanup_free_ char *tmp = mem_printf("%s.%d", name, (int)getpid());
	_cleanup_close_ int fd =
		openat(folder, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -1;
	if (!bundle_run(bundle_fd, "compile-rules", fd) ||
	    renameat(folder, tmp, folder, name) < 0) {
		(void)unlinkat(folder, tmp, 0);
		return -1;
	}
	(void)lseek(fd, 0, SEEK_SET);
	return take_fd(&fd);
}

int keeper_rules_open(int bundle_fd)
{
	_cleanup_close_ int folder = rules_folder(), fd = -1;
	_cleanup_free_ char *name = NULL;
	char key[BUNDLE_KEY_SIZE];
	struct stat st;

	if (folder < 0 || !rules_key(bundle_fd, key))
		return -1;
	name = mem_printf("rules-%s.db", key);
	fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
			(st.st_mode & 0022) || st.st_size > BUNDLE_RULES_MAX))
		close_fd(&fd);
	return fd >= 0 ? take_fd(&fd) : rules_compile(folder, bundle_fd, name);
}

/* --- start --- */

/* As root the roles get uids of their own, which nobody else has. 0: this user namespace has none
 * to give, or we are not root. */
static unsigned bundle_uid_base(void)
{
	struct str map;
	uint32_t random = 0;
	uid_t first, last;

	if (geteuid() != 0 || getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random) ||
	    io_read_file(AT_FDCWD, "/proc/self/uid_map", 65536, &map, NULL) < 0)
		return 0;
	first = BUNDLE_UID_BASE + (random & 0xfffffff0u) % 0x10000000u;
	last = wall_map_has(map.p, first) && wall_map_has(map.p, first + 15) ? first : 0;
	if (last == 0 && wall_pick_id(map.p, 0) > 64)
		last = wall_pick_id(map.p, 0) - 32;
	free((void *)(uintptr_t)map.p);
	return last;
}

static int bundle_config(const struct plan *p, struct err *e)
{
	_cleanup_(buf_free) struct buf b, policy;
	int ret;

	buf_init(&b, BUNDLE_CONFIG_MAX);
	buf_init(&policy, POLICY_JSON_MAX_BYTES);
	ret = policy_to_json(&p->policy, &policy, e);
	if (ret < 0)
		return ret;
	ret = buf_append_str(&b, STR_LIT("{\"version\":1,\"slug\":"));
	if (ret == 0)
		ret = text_json(&b, str_of(p->slug));
	if (ret == 0)
		ret = buf_append_str(&b, STR_LIT(",\"pinned\":"));
	if (ret == 0)
		ret = text_json(&b, str_of(p->pinned ? p->pinned : WALL_PINNED_DEFAULT));
	if (ret == 0)
		ret = buf_printf(&b, ",\"supervised\":%s,\"uid_base\":%u,\"policy\":",
				 p->is_supervised ? "true" : "false", bundle_uid_base());
	if (ret == 0)
		ret = buf_append_str(&b, buf_str(&policy));
	if (ret == 0)
		ret = buf_append_str(&b, STR_LIT("}"));
	if (ret < 0)
		return err_set(e, ret, "the policy is too large");
	return io_memfd_sealed("config", buf_str(&b), e);
}

struct bundle_fds {
	const char *name;
	int fd;
};

static _Noreturn void bundle_child(int bundle_fd, const struct bundle_fds *fds, size_t n,
				   const char *slug, pid_t parent)
{
	char *argv[BUNDLE_ARGS_MAX + 3], *env[4];
	const char *asan = getenv("ASAN_OPTIONS");
	size_t argc = 0, n_env = 0;
	sigset_t none;

	argv[argc++] = mem_strdup(BUNDLE_NAME);
	argv[argc++] = mem_strdup("init");
	for (size_t i = 0; i < n; i++) {
		if (fds[i].fd < 0)
			continue;
		if (io_set_cloexec(fds[i].fd, false) < 0)
			_exit(127);
		argv[argc++] = mem_printf("%s=%d", fds[i].name, fds[i].fd);
	}
	argv[argc] = NULL;
	env[n_env++] = mem_printf("CLAUDE_BOTTLE_SLUG=%s", slug);
	if (asan)
		env[n_env++] = mem_printf("ASAN_OPTIONS=%s", asan);
	env[n_env] = NULL;
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
		_exit(127);
	bundle_exec(bundle_fd, argv, env);
}

static int bundle_fork(struct keeper_bundle *b, const struct plan *p, int state_fd,
		       const struct backend_listeners *l, int secrets_fd, struct err *e)
{
	_cleanup_close_ int bundle = keeper_bundle_find(e), config = -1, records = -1, rules = -1,
			    theirs = -1;
	pid_t parent = getpid();
	int pair[2];

	if (bundle < 0)
		return bundle;
	config = bundle_config(p, e);
	if (config < 0)
		return config;
	records = openat(state_fd, "records.jsonl",
			 O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (records < 0)
		return err_errno(e, "open records.jsonl");
	rules = keeper_rules_open(bundle);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	b->control_fd = pair[0];
	theirs = pair[1];
	b->pid = fork();
	if (b->pid < 0)
		return err_errno(e, "fork");
	if (b->pid == 0) {
		const struct bundle_fds fds[] = {
			{"config", config},	    {"secrets", secrets_fd},
			{"control", theirs},	    {"records", records},
			{"rules", rules},	    {"pipelock", l->pipelock_fd},
			{"dns_udp", l->dns_udp_fd}, {"dns_tcp", l->dns_tcp_fd},
		};

		bundle_child(bundle, fds, ARRAY_LEN(fds), p->slug, parent);
	}
	b->pidfd = (int)syscall(SYS_pidfd_open, b->pid, 0);
	return b->pidfd < 0 ? err_errno(e, "pidfd_open") : 0;
}

/* Takes one message; *event is a static string. */
static void bundle_take(struct keeper_bundle *b, struct str message, bool *is_ready)
{
	json_t *j = json_loadb(message.p, message.n, JSON_REJECT_DUPLICATES, NULL);
	const char *event = json_string_value(json_object_get(j, "event"));
	const char *text = json_string_value(json_object_get(j, "text"));
	const char *pem = json_string_value(json_object_get(j, "ca_pem"));

	if (event && strcmp(event, "ready") == 0 && pem) {
		buf_reset(&b->ca_pem);
		*is_ready = buf_append_str(&b->ca_pem, str_of(pem)) == 0;
	} else if (event && strcmp(event, "failed") == 0) {
		text_visible_cstr(b->failure, sizeof(b->failure), str_of(text ? text : "?"));
	} else if (event && strcmp(event, "role") == 0) {
		log_warn("bundle: %s", text ? text : "a role was restarted");
	}
	json_decref(j);
}

void keeper_bundle_read(struct keeper_bundle *b)
{
	char message[BUNDLE_CONTROL_MAX];
	bool ignored = false;
	ssize_t got;

	while ((got = io_recv_fds(b->control_fd, message, sizeof(message), NULL, NULL,
				  MSG_DONTWAIT)) > 0)
		bundle_take(b, str_slice(message, (size_t)got), &ignored);
}

int keeper_bundle_wait(struct keeper_bundle *b, int abort_fd, struct err *e)
{
	uint64_t deadline_ns = time_monotonic_ns() + KEEPER_BUNDLE_READY_MS * TIME_NS_PER_MS;
	char message[BUNDLE_CONTROL_MAX];

	for (;;) {
		struct pollfd fds[] = {{.fd = b->control_fd, .events = POLLIN},
				       {.fd = abort_fd, .events = 0}};
		uint64_t now_ns = time_monotonic_ns();
		bool is_ready = false;
		ssize_t got;

		if (now_ns >= deadline_ns)
			return err_set(e, -ETIMEDOUT, "the bundle was not ready within %d s",
				       KEEPER_BUNDLE_READY_MS / 1000);
		(void)poll(fds, ARRAY_LEN(fds), (int)((deadline_ns - now_ns) / TIME_NS_PER_MS) + 1);
		if (fds[1].revents)
			return err_set(e, -EINTR, "interrupted while the bottle was being made");
		if (!fds[0].revents)
			continue;
		got = io_recv_fds(b->control_fd, message, sizeof(message), NULL, NULL,
				  MSG_DONTWAIT);
		if (got == -EAGAIN)
			continue;
		if (got <= 0)
			return err_set(e, -EIO, "the bundle did not start: %s",
				       b->failure[0] ? b->failure
						     : "it ended without a word (see the log)");
		bundle_take(b, str_slice(message, (size_t)got), &is_ready);
		if (is_ready)
			return 0;
	}
}

int keeper_bundle_start(struct keeper_bundle *b, const struct plan *p, int state_fd,
			struct backend_listeners *l, int secrets_fd, struct err *e)
{
	int ret;

	*b = (struct keeper_bundle){.pidfd = -1, .control_fd = -1};
	b->pid_watch.fd = b->control_watch.fd = -1;
	buf_init(&b->ca_pem, BUNDLE_CONTROL_MAX);
	ret = bundle_fork(b, p, state_fd, l, secrets_fd, e);
	close_fd(&l->pipelock_fd);
	close_fd(&l->dns_udp_fd);
	close_fd(&l->dns_tcp_fd);
	return ret;
}

void keeper_bundle_stop(struct keeper_bundle *b)
{
	static const char stop[] = "{\"command\":\"stop\"}";

	if (b->control_fd >= 0)
		(void)io_send_fds(b->control_fd, stop, sizeof(stop) - 1, NULL, 0, MSG_DONTWAIT);
}

void keeper_bundle_free(struct keeper_bundle *b)
{
	if (b->pid > 0) {
		(void)kill(b->pid, SIGKILL);
		while (waitpid(b->pid, NULL, 0) < 0 && errno == EINTR)
			;
		b->pid = 0;
	}
	close_fd(&b->pidfd);
	close_fd(&b->control_fd);
	buf_free(&b->ca_pem);
}
