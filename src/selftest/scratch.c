#include "selftest/scratch.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/signals.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CANARY_READY_MS 8000
#define OUTPUT_MAX	(16u << 20)
#define END_MS		10000

/* Of the providers that one whose image is smallest: the agent is the probe. */
static const char bottle_manifest[] =
	"---\n"
	"provider: shell\n"
	"expose: [%s/expose]\n"
	"egress:\n"
	"  ca: %s/canary/ca.pem\n"
	"  dns: [127.0.0.1:%s]\n"
	"  resolve:\n"
	"    ok.selftest.example: 127.0.0.1:%s\n"
	"    bound.selftest.example: 127.0.0.1:%s\n"
	"  routes:\n"
	"    - host: ok.selftest.example\n"
	"    - host: bound.selftest.example\n"
	"      paths: [\"/api/**\"]\n"
	"      auth: {scheme: bearer, env: SELFTEST_TOKEN, token_ref: \"file:%s/secret/token\"}\n"
	"    - host: \"*.wild.selftest.example\"\n"
	"      ports: [443, %s]\n"
	"---\n";

/* Its upstream is the canary. */
static const char git_manifest[] =
	"---\n"
	"provider: shell\n"
	"expose: [%s/expose]\n"
	"workspace: clone\n"
	"egress:\n"
	"  ca: %s/canary/ca.pem\n"
	"  resolve:\n"
	"    git.selftest.example: 127.0.0.1:%s\n"
	"git:\n"
	"  user: {name: Selftest, email: selftest@selftest.example, enforce: true}\n"
	"  remotes:\n"
	"    - name: project\n"
	"      upstream: https://git.selftest.example/git/project.git\n"
	"      token_ref: \"file:%s/secret/token\"\n"
	"      branches: [\"**\"]\n"
	"      tags: [\"v*\"]\n"
	"      protected: [\"release/*\"]\n"
	"      max_object: 256KiB\n"
	"    - name: echo\n"
	"      upstream: https://git.selftest.example/git/echo/x.git\n"
	"      token_ref: \"file:%s/secret/token\"\n"
	"---\n";

static const char mount_manifest[] = "---\n"
				     "provider: shell\n"
				     "expose: [%s/expose]\n"
				     "workspace: mount\n"
				     "egress:\n"
				     "  routes: []\n"
				     "---\n";

static const char empty_manifest[] = "---\n"
				     "provider: shell\n"
				     "expose: [%s/expose]\n"
				     "egress:\n"
				     "  routes: []\n"
				     "---\n";

/* Each must stop the start itself. */
static const struct {
	const char *name, *text;
} bad_manifests[] = {
	{"bad-key", "---\negress:\n  rotues:\n    - host: ok.selftest.example\n---\n"},
	{"bad-wildcard", "---\negress:\n  routes:\n    - host: \"*\"\n---\n"},
	{"bad-yaml", "---\negress: {routes: [\n---\n"},
	{"bad-head", "no head at all\n"},
};

static int write_text(const struct scratch *s, const char *path, const char *text, mode_t mode,
		      struct err *e)
{
	_cleanup_free_ char *full = mem_printf("%s/%s", s->root, path);

	return io_write_file_atomic(AT_FDCWD, full, str_of(text), mode, e);
}

int scratch_write_bottle(const struct scratch *s, const char *name, const char *bottle,
			 struct err *e)
{
	_cleanup_free_ char *bottle_path = mem_printf("home/.claude-bottle/bottles/%s.md", name);
	_cleanup_free_ char *agent_path = mem_printf("home/.claude-bottle/agents/%s.md", name);
	_cleanup_free_ char *agent = mem_printf("---\nbottle: %s\n---\n", name);
	int ret = write_text(s, bottle_path, bottle, 0600, e);

	return ret < 0 ? ret : write_text(s, agent_path, agent, 0600, e);
}

static int make_folders(struct scratch *s, struct err *e)
{
	static const struct {
		const char *name;
		mode_t mode;
	} folders[] = {
		{"home/.claude-bottle/bottles", 0700},
		{"home/.claude-bottle/agents", 0700},
		{"home/.ssh", 0700},
		{"state", 0700},
		{"secret", 0700},
		{"canary", 0700},
		{"expose", 0755},
		{"work", 0700},
		{"runtime", 0700},
	};

	(void)snprintf(s->root, sizeof(s->root), "/tmp/claude-bottle-selftest-XXXXXX");
	if (!mkdtemp(s->root)) {
		s->root[0] = '\0';
		return err_errno(e, "make a scratch folder in /tmp");
	}
	/* A bottle's own uid walks through it to `expose`. */
	if (chmod(s->root, 0711) < 0)
		return err_errno(e, "chmod \"%s\"", s->root);
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", s->root, folders[i].name);
		int ret = io_mkdir_p(path, folders[i].mode, e);

		if (ret < 0)
			return ret;
		/* Whatever the umask says. */
		if (chmod(path, folders[i].mode) < 0)
			return err_errno(e, "chmod \"%s\"", path);
	}
	return 0;
}

static int copy_file(const char *from, const char *to, struct err *e)
{
	_cleanup_close_ int in = open(from, O_RDONLY | O_CLOEXEC), out = -1;
	struct stat st;
	off_t at = 0;

	if (in < 0 || fstat(in, &st) < 0)
		return err_errno(e, "open \"%s\"", from);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (out < 0)
		return err_errno(e, "create \"%s\"", to);
	while (at < st.st_size) {
		if (sendfile(out, in, &at, (size_t)(st.st_size - at)) <= 0)
			return err_errno(e, "copy \"%s\"", from);
	}
	return fchmod(out, 0755) < 0 ? err_errno(e, "chmod \"%s\"", to) : 0;
}

static int find_executables(struct scratch *s, struct err *e)
{
	const char *named = getenv("CLAUDE_BOTTLE_BUNDLE");
	_cleanup_free_ char *beside = NULL;
	ssize_t n = readlink("/proc/self/exe", s->self, sizeof(s->self) - 1);
	char *slash;

	if (n < 0)
		return err_errno(e, "own executable");
	s->self[n] = '\0';
	beside = mem_printf("%s", s->self);
	slash = strrchr(beside, '/');
	*slash = '\0';
	{
		_cleanup_free_ char *bundle = mem_printf("%s/claude-bottle-bundle", beside);
		_cleanup_free_ char *libexec =
			mem_printf("%s/../libexec/claude-bottle-bundle", beside);
		const char *from = named ? named : access(bundle, X_OK) == 0 ? bundle : libexec;

		(void)snprintf(s->bundle, sizeof(s->bundle), "%s/expose/claude-bottle-bundle",
			       s->root);
		return copy_file(from, s->bundle, e);
	}
}

static int start_canary(struct scratch *s, struct err *e)
{
	_cleanup_free_ char *folder = mem_printf("%s/canary", s->root);
	_cleanup_free_ char *targets = mem_printf("%s/canary/targets", s->root);
	int pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	s->canary = fork();
	if (s->canary == 0) {
		/* It ends with its standard input, that is with us. */
		(void)dup2(pipe_fds[0], STDIN_FILENO);
		(void)dup2(STDERR_FILENO, STDOUT_FILENO);
		(void)execl(s->bundle, s->bundle, "canary", folder, (char *)NULL);
		_exit(127);
	}
	(void)close(pipe_fds[0]);
	s->canary_stdin = pipe_fds[1];
	if (s->canary < 0)
		return err_errno(e, "fork");
	for (int waited_ms = 0; waited_ms < CANARY_READY_MS; waited_ms += 5) {
		if (access(targets, F_OK) == 0)
			return io_read_file(AT_FDCWD, targets, 8192, &s->targets, e);
		if (waitpid(s->canary, NULL, WNOHANG) == s->canary) {
			s->canary = 0;
			return err_set(e, -EIO, "the canary did not start");
		}
		(void)usleep(5000);
	}
	return err_set(e, -ETIMEDOUT, "the canary did not start in time");
}

bool scratch_target(const struct scratch *s, const char *key, char *out, size_t size)
{
	struct str rest = s->targets;
	bool more = rest.n > 0;

	while (more) {
		struct str line, name, value;
		bool found;

		rest = str_cut(rest, '\n', &line, &more);
		value = str_cut(line, '=', &name, &found);
		if (found && str_eq(name, str_of(key)))
			return str_to_cstr(out, size, value);
	}
	return false;
}

/* A value that no rule knows by its shape: only the exact match can find it. */
static int make_secret(struct scratch *s, struct err *e)
{
	static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
	unsigned char random[56];

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return err_errno(e, "getrandom");
	for (size_t i = 0; i < 40; i++)
		s->secret[i] = letters[random[i] & 31];
	s->secret[40] = '\0';
	for (size_t i = 0; i < 40; i++)
		(void)snprintf(s->secret_mask + 2 * i, 3, "%02x",
			       (unsigned char)s->secret[i] ^ 0x55u);
	text_hex(s->nonce, random + 40, 16);
	return write_text(s, "home/" SCRATCH_KEY, "a tripwire\n", 0600, e) < 0
		       ? e->code
		       : write_text(s, "secret/token", s->secret, 0600, e);
}

static int write_manifests(struct scratch *s, struct err *e)
{
	_cleanup_free_ char *empty = mem_printf(empty_manifest, s->root);
	_cleanup_free_ char *mount = mem_printf(mount_manifest, s->root);
	_cleanup_free_ char *bottle = NULL, *git = NULL;
	char tls[16], dns[16];
	int ret;

	if (!scratch_target(s, "tls", tls, sizeof(tls)) ||
	    !scratch_target(s, "dns", dns, sizeof(dns)))
		return err_set(e, -EPROTO, "the canary named no targets");
	bottle = mem_printf(bottle_manifest, s->root, s->root, dns, tls, tls, s->root, tls);
	git = mem_printf(git_manifest, s->root, s->root, tls, s->root, s->root);
	ret = scratch_write_bottle(s, "selftest", bottle, e);
	if (ret == 0)
		ret = scratch_write_bottle(s, "git", git, e);
	if (ret == 0)
		ret = scratch_write_bottle(s, "mount", mount, e);
	/* The same policy under other names: so a bottle can be told from the others. */
	if (ret == 0)
		ret = scratch_write_bottle(s, "sibling", bottle, e);
	if (ret == 0)
		ret = scratch_write_bottle(s, "broken", bottle, e);
	if (ret == 0)
		ret = scratch_write_bottle(s, "again", bottle, e);
	if (ret == 0)
		ret = scratch_write_bottle(s, "engine", bottle, e);
	if (ret == 0)
		ret = scratch_write_bottle(s, "empty", empty, e);
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(bad_manifests); i++)
		ret = scratch_write_bottle(s, bad_manifests[i].name, bad_manifests[i].text, e);
	return ret;
}

int scratch_open(struct scratch *s, struct err *e)
{
	int ret;

	memset(s, 0, sizeof(*s));
	s->canary_stdin = -1;
	ret = make_folders(s, e);
	if (ret == 0)
		ret = find_executables(s, e);
	if (ret == 0)
		ret = make_secret(s, e);
	if (ret == 0)
		ret = start_canary(s, e);
	if (ret == 0)
		ret = write_manifests(s, e);
	return ret;
}

void scratch_close(struct scratch *s)
{
	close_fd(&s->canary_stdin);
	if (s->canary > 0) {
		(void)kill(s->canary, SIGTERM);
		(void)waitpid(s->canary, NULL, 0);
	}
	free((char *)(uintptr_t)s->targets.p);
	mem_wipe(s->secret, sizeof(s->secret));
	if (s->root[0] && !getenv("CLAUDE_BOTTLE_SELFTEST_KEEP"))
		(void)!io_remove_tree(AT_FDCWD, s->root, NULL);
	s->root[0] = '\0';
}

/* What else of our environment the runs get: where the engine is, and which bundle is tried. */
static const char *const run_passed[] = {"CLAUDE_BOTTLE_BUNDLE", "CLAUDE_BOTTLE_SMOLVM",
					 "DOCKER_HOST",		 "DOCKER_CONTEXT",
					 "DOCKER_CONFIG",	 "XDG_RUNTIME_DIR"};
#define RUN_ENV_MAX 16

static char *env_path(const char *name, const char *value, const char *base, const char *below)
{
	return value && value[0] ? mem_printf("%s=%s", name, value)
				 : mem_printf("%s=%s/%s", name, base, below);
}

static void run_env(const struct scratch *s, char *env[RUN_ENV_MAX])
{
	const char *home = getenv("HOME") ? getenv("HOME") : s->root;
	size_t n = 0;

	env[n++] = mem_printf("HOME=%s/home", s->root);
	env[n++] = mem_printf("XDG_STATE_HOME=%s/state", s->root);
	env[n++] = mem_strdup("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	env[n++] = mem_strdup("LANG=C.UTF-8");
	/* The compiled rules are the same for all, and so is the engine: the user's own. */
	env[n++] = env_path("XDG_CACHE_HOME", getenv("XDG_CACHE_HOME"), home, ".cache");
	for (size_t i = 0; i < ARRAY_LEN(run_passed); i++) {
		const char *value = getenv(run_passed[i]);

		if (strcmp(run_passed[i], "DOCKER_CONFIG") == 0)
			env[n++] = env_path(run_passed[i], value, home, ".docker");
		else if (value && value[0])
			env[n++] = mem_printf("%s=%s", run_passed[i], value);
	}
	env[n] = NULL;
}

_Noreturn static void run_child(const struct scratch *s, char *const *argv, int in, int out,
				int err)
{
	_cleanup_free_ char *work = mem_printf("%s/work", s->root);
	char *env[RUN_ENV_MAX];

	run_env(s, env);
	(void)dup2(in, STDIN_FILENO);
	(void)dup2(out, STDOUT_FILENO);
	(void)dup2(err, STDERR_FILENO);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	run_env(s, env);
	if (chdir(work) == 0)
		(void)execve(argv[0], argv, env);
	_exit(127);
}

int scratch_spawn(const struct scratch *s, char *const *argv, const char *name,
		  struct scratch_process *p, struct err *e)
{
	_cleanup_free_ char *out_path = mem_printf("%s/%s.out", s->root, name);
	_cleanup_free_ char *err_path = mem_printf("%s/%s.err", s->root, name);
	const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
	_cleanup_close_ int out = open(out_path, flags, 0600), err = open(err_path, flags, 0600);
	_cleanup_close_ int in = -1;
	int pipe_fds[2];

	*p = (struct scratch_process){.stdin_fd = -1};
	(void)snprintf(p->name, sizeof(p->name), "%s", name);
	if (out < 0 || err < 0 || pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_errno(e, "run %s", name);
	in = pipe_fds[0];
	p->stdin_fd = pipe_fds[1];
	p->pid = fork();
	if (p->pid == 0)
		run_child(s, argv, in, out, err);
	if (p->pid < 0) {
		p->pid = 0;
		close_fd(&p->stdin_fd);
		return err_errno(e, "run %s", name);
	}
	return 0;
}

/* True when it has ended; its status is kept. */
static bool wait_until(struct scratch_process *p, int timeout_ms)
{
	_cleanup_close_ int pidfd = p->pid > 0 ? (int)syscall(SYS_pidfd_open, p->pid, 0) : -1;
	int status = 0;

	if (p->pid <= 0)
		return true;
	if (pidfd >= 0 && io_wait(pidfd, POLLIN, timeout_ms) != 1)
		return false;
	(void)waitpid(p->pid, &status, 0);
	p->pid = 0;
	p->status = signals_exit_status(status);
	close_fd(&p->stdin_fd);
	return true;
}

void scratch_end(struct scratch_process *p)
{
	if (p->pid <= 0)
		return;
	(void)kill(p->pid, SIGTERM);
	if (!wait_until(p, END_MS)) {
		(void)kill(p->pid, SIGKILL);
		(void)wait_until(p, -1);
	}
}

bool scratch_is_running(struct scratch_process *p)
{
	return !wait_until(p, 0);
}

int scratch_wait(struct scratch_process *p, unsigned timeout_s, struct err *e)
{
	if (!wait_until(p, (int)timeout_s * 1000)) {
		scratch_end(p);
		return err_set(e, -ETIMEDOUT, "%s did not end within %u s", p->name, timeout_s);
	}
	return p->status;
}

int scratch_output(const struct scratch *s, const char *name, struct str *out, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/%s.out", s->root, name);

	return io_read_file(AT_FDCWD, path, OUTPUT_MAX, out, e);
}

int scratch_run(const struct scratch *s, char *const *argv, const char *name, unsigned timeout_s,
		struct buf *out, struct err *e)
{
	struct scratch_process p;
	struct str text;
	int ret = scratch_spawn(s, argv, name, &p, e);
	int status;

	if (ret < 0)
		return ret;
	close_fd(&p.stdin_fd);
	status = scratch_wait(&p, timeout_s, e);
	if (status < 0)
		return status;
	ret = scratch_output(s, name, &text, e);
	if (ret < 0)
		return ret;
	ret = buf_append_str(out, text);
	free((char *)(uintptr_t)text.p);
	return ret < 0 ? err_set(e, ret, "%s printed too much", name) : status;
}

/* --- bottles --- */

static void take_text(char *out, size_t size, const json_t *from, const char *key)
{
	const char *text = json_string_value(json_object_get(from, key));

	(void)snprintf(out, size, "%s", text ? text : "");
}

/* False when it is no bottle of this agent. */
static bool load_bottle(const char *folder, const char *slug, const char *agent,
			struct scratch_bottle *out, char started[64])
{
	_cleanup_free_ char *path = mem_printf("%s/%s/bottle.json", folder, slug);
	json_t *state = json_load_file(path, 0, NULL);
	const char *name = json_string_value(json_object_get(state, "agent"));
	bool is_its = state && (!agent || (name && strcmp(name, agent) == 0));

	if (is_its) {
		take_text(out->slug, sizeof(out->slug), state, "slug");
		take_text(out->backend, sizeof(out->backend), state, "backend");
		take_text(out->state, sizeof(out->state), state, "state");
		take_text(out->reason, sizeof(out->reason), state, "reason");
		take_text(out->note, sizeof(out->note), state, "limits");
		take_text(started, 64, state, "started");
		out->keeper = (pid_t)json_integer_value(json_object_get(state, "pid"));
	}
	json_decref(state);
	return is_its;
}

bool scratch_find_bottle(const struct scratch *s, const char *agent, struct scratch_bottle *out)
{
	_cleanup_free_ char *folder = mem_printf("%s/state/claude-bottle/bottles", s->root);
	_cleanup_closedir_ DIR *dir = opendir(folder);
	char newest[64] = "", started[64];
	struct scratch_bottle one;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' ||
		    !load_bottle(folder, entry->d_name, agent, &one, started) ||
		    strcmp(started, newest) <= 0)
			continue;
		memcpy(newest, started, sizeof(newest));
		*out = one;
	}
	return newest[0] != '\0';
}

int scratch_seen(const struct scratch *s, struct str *out, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/canary/seen.log", s->root);

	return io_read_file(AT_FDCWD, path, 64u << 20, out, e);
}

void scratch_last_words(const struct scratch *s, const char *name, char *out, size_t size)
{
	_cleanup_free_ char *path = mem_printf("%s/%s.err", s->root, name);
	struct str text;
	size_t from;

	out[0] = '\0';
	if (io_read_file(AT_FDCWD, path, 1u << 20, &text, NULL) < 0)
		return;
	while (text.n > 0 && text.p[text.n - 1] == '\n')
		text.n--;
	from = text.n > 300 ? text.n - 300 : 0;
	text_visible_cstr(out, size, str_sub(text, from, text.n));
	free((char *)(uintptr_t)text.p);
}
