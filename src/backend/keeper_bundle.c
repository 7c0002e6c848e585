/*
 * The bundle's init as the keeper's child: found, checked, given its descriptors, listened to.
 * Secrets pass through here in one sealed memory file that is written before the keeper exists, so
 * the keeper's own memory never holds one.
 */
#include "backend/keeper_int.h"

#include "backend/bundle_process.h"
#include "base/cache.h"
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

#define BUNDLE_COMMAND_MS 30000
#define BUNDLE_KEY_SIZE	  65
#define BUNDLE_RULES_MAX  (64u << 20)

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
			ret = secret_put(b,
					 p->secrets[i].is_key ? BUNDLE_SECRET_SSH_KEY
							      : BUNDLE_KIND_SECRET,
					 (unsigned)i, value, e);
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

/* Each has its own: git-gate's, which no agent holds. */
static int secret_put_git_placeholders(struct buf *b, const struct git_policy *g, struct err *e)
{
	for (size_t i = 0; i < g->n_remotes; i++) {
		const struct git_remote *r = &g->remotes[i];

		if (r->placeholder && secret_put(b, BUNDLE_KIND_PLACEHOLDER, r->credential,
						 str_of(r->placeholder), e) < 0)
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
	if (ret == 0)
		ret = secret_put_git_placeholders(&b, &p->git, e);
	if (ret == 0 && p->canary)
		ret = secret_put(&b, BUNDLE_KIND_CANARY, 0, str_of(p->canary), e);
	if (ret == 0)
		ret = io_memfd_sealed("secrets", buf_str(&b), e);
	mem_wipe(b.p, b.size);
	buf_free(&b);
	return ret;
}

/* --- the rules' cache --- */

/* Runs one of the bundle's commands with its output in fd. True on status 0. */
static bool bundle_run(int bundle_fd, const char *command, int fd)
{
	char *argv[] = {(char *)(uintptr_t)BUNDLE_PROGRAM, (char *)(uintptr_t)command, NULL};
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
	_cleanup_close_ int folder = cache_open(), fd = -1;
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

struct desk_ends {
	int fds[KEEPER_DESK_COUNT];
};

static void desk_ends_close(struct desk_ends *d)
{
	for (size_t i = 0; i < KEEPER_DESK_COUNT; i++)
		close_fd(&d->fds[i]);
}

static int bundle_start(struct keeper_bundle *b, struct keeper *k, int secrets_fd, struct err *e)
{
	_cleanup_(desk_ends_close) struct desk_ends desks = {{-1, -1, -1}};
	_cleanup_close_ int bundle = bundle_find(e), config = -1, records = -1, rules = -1,
			    theirs = -1, reach = -1, door = -1;
	int pair[2];

	if (bundle < 0)
		return bundle;
	/* Before the configuration: what was granted before the bottle was resumed is in it. */
	if (keeper_desk_open(k, desks.fds, e) < 0)
		return e->code;
	if (keeper_state_write_policy(k, e) < 0)
		return e->code;
	config = keeper_policy_config(k, e);
	if (config < 0)
		return config;
	records = openat(k->state_fd, "records.jsonl",
			 O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (records < 0)
		return err_errno(e, "open records.jsonl");
	rules = keeper_rules_open(bundle);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	b->control_fd = pair[0];
	theirs = pair[1];
	/* Served from the loop, so not before the agent goes, and egress dials for the agent alone.
	 */
	if (k->place.is_apart &&
	    keeper_reach_open(&k->reach, k->loop, &k->policy.policy, &k->plan->git, &reach, e) < 0)
		return e->code;
	/* Likewise: git-gate asks when the agent does. */
	if (keeper_door_open(&k->door, k->loop, &door, e) < 0)
		return e->code;
	b->is_started = true;
	return k->backend->start_bundle(
		k->bottle,
		(const struct backend_fd[]){
			{"config", config},
			{"secrets", secrets_fd},
			{"control", theirs},
			{"records", records},
			{"rules", rules},
			{"reach", reach},
			{"door", door},
			{"desk_supervise", desks.fds[KEEPER_DESK_SUPERVISE]},
			{"desk_pipelock", desks.fds[KEEPER_DESK_PIPELOCK]},
			{"desk_gitgate", desks.fds[KEEPER_DESK_GITGATE]},
		},
		10, e);
}

/* Takes one message; *event is a static string. */
static void bundle_take(struct keeper *k, struct str message, bool *is_ready)
{
	struct keeper_bundle *b = &k->bundle;
	json_t *j = json_loadb(message.p, message.n, JSON_REJECT_DUPLICATES, NULL);
	const char *event = json_string_value(json_object_get(j, "event"));
	const char *text = json_string_value(json_object_get(j, "text"));
	const char *pem = json_string_value(json_object_get(j, "ca_pem"));
	uint64_t generation = (uint64_t)json_integer_value(json_object_get(j, "generation"));

	if (event && strcmp(event, "ready") == 0 && pem) {
		buf_reset(&b->ca_pem);
		*is_ready = buf_append_str(&b->ca_pem, str_of(pem)) == 0;
	} else if (event && strcmp(event, "failed") == 0) {
		text_visible_cstr(b->failure, sizeof(b->failure), str_of(text ? text : "?"));
	} else if (event && strcmp(event, "role") == 0) {
		log_warn("bundle: %s", text ? text : "a role was restarted");
	} else if (event && strcmp(event, "policy") == 0) {
		keeper_policy_answer(k, generation, NULL);
	} else if (event && strcmp(event, "policy-refused") == 0) {
		keeper_policy_answer(k, generation, text ? text : "?");
	}
	json_decref(j);
}

bool keeper_bundle_read(struct keeper *k)
{
	char message[BUNDLE_CONTROL_MAX];
	bool ignored = false;
	ssize_t got;

	while ((got = io_recv_fds(k->bundle.control_fd, message, sizeof(message), NULL, NULL,
				  MSG_DONTWAIT)) > 0)
		bundle_take(k, str_slice(message, (size_t)got), &ignored);
	return got == -EAGAIN;
}

int keeper_bundle_wait(struct keeper *k, int abort_fd, struct err *e)
{
	struct keeper_bundle *b = &k->bundle;
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
		bundle_take(k, str_slice(message, (size_t)got), &is_ready);
		if (is_ready)
			return 0;
	}
}

int keeper_bundle_start(struct keeper *k, int secrets_fd, struct err *e)
{
	struct keeper_bundle *b = &k->bundle;

	*b = (struct keeper_bundle){.control_fd = -1};
	b->control_watch.fd = -1;
	buf_init(&b->ca_pem, BUNDLE_CONTROL_MAX);
	return bundle_start(b, k, secrets_fd, e);
}

void keeper_bundle_stop(struct keeper_bundle *b)
{
	static const char stop[] = "{\"command\":\"stop\"}";

	if (b->control_fd >= 0)
		(void)io_send_fds(b->control_fd, stop, sizeof(stop) - 1, NULL, 0, MSG_DONTWAIT);
}

void keeper_bundle_free(struct keeper_bundle *b)
{
	close_fd(&b->control_fd);
	buf_free(&b->ca_pem);
}
