/*
 * Fetching a secret's value on the host, at start. It exists here only between this call and its
 * hand-over to keyd through a descriptor; on every way out it is wiped.
 */
#include "conf/plan.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* Room for the newline, and for one byte more that shows that it was too long. */
#define READ_SPARE 3
#define READ_MAX   (PLAN_KEY_MAX + READ_SPARE)

static size_t value_max(const struct plan_secret *s)
{
	return s->is_key ? PLAN_KEY_MAX : PLAN_SECRET_MAX;
}

char *plan_secret_describe(const struct plan_secret *s)
{
	if (s->env)
		return mem_printf("env:%s", s->env);
	if (s->file)
		return mem_printf("file:%s", s->file);
	return mem_printf("command:%s", s->command ? s->command : "");
}

static int read_env(const struct plan_secret *s, char *out, size_t *n, struct err *e)
{
	const char *value = getenv(s->env);

	if (!value || !*value)
		return err_set(e, -ENOENT, "environment variable %s is not set", s->env);
	*n = strnlen(value, value_max(s) + READ_SPARE);
	memcpy(out, value, *n);
	return 0;
}

static int read_fd(int fd, size_t max, char *out, size_t *n, struct err *e)
{
	while (*n < max) {
		ssize_t got = read(fd, out + *n, max - *n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "read");
		if (got == 0)
			return 0;
		*n += (size_t)got;
	}
	return 0;
}

static int read_file(const struct plan_secret *s, char *out, size_t *n, struct err *e)
{
	_cleanup_close_ int fd = open(s->file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return err_errno(e, "open \"%s\"", s->file);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "\"%s\" is not a regular file", s->file);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return err_set(e, -EPERM, "\"%s\" belongs to another user", s->file);
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		return err_set(
			e, -EPERM,
			"\"%s\" holds a secret but is open to others (mode %04o); run: chmod 600 "
			"\"%s\"",
			s->file, (unsigned)(st.st_mode & 07777), s->file);
	return read_fd(fd, value_max(s) + READ_SPARE, out, n, e);
}

/* The child: a process group of its own, so that the time-out ends all that it has started. */
_Noreturn static void run_command(const char *line, int out_fd)
{
	_cleanup_close_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)setpgid(0, 0);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out_fd, STDOUT_FILENO) < 0)
		_exit(127);
	(void)execl("/bin/sh", "sh", "-c", line, (char *)NULL);
	_exit(127);
}

/* Reads until the end, the cap or the deadline. */
static int read_until(int fd, uint64_t deadline_ns, size_t max, char *out, size_t *n, struct err *e)
{
	while (*n < max) {
		uint64_t now = time_monotonic_ns();
		ssize_t got;
		int ret;

		if (now >= deadline_ns)
			return err_set(e, -ETIMEDOUT, "no answer within %d s",
				       PLAN_SECRET_TIMEOUT_MS / 1000);
		ret = io_wait(fd, POLLIN, (int)((deadline_ns - now) / TIME_NS_PER_MS) + 1);
		if (ret < 0)
			return err_set(e, ret, "poll");
		if (ret == 0)
			continue;
		got = read(fd, out + *n, max - *n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "read");
		if (got == 0)
			return 0;
		*n += (size_t)got;
	}
	return 0;
}

/* Waits for the command itself until the deadline; -ETIMEDOUT when it goes on without output. */
static int wait_until(pid_t pid, uint64_t deadline_ns, int *status, struct err *e)
{
	for (;;) {
		pid_t done = waitpid(pid, status, WNOHANG);
		struct timespec pause = {.tv_nsec = 5000000};

		if (done == pid)
			return 0;
		if (done < 0 && errno != EINTR)
			return err_errno(e, "wait");
		if (time_monotonic_ns() >= deadline_ns)
			return err_set(e, -ETIMEDOUT, "did not end within %d s",
				       PLAN_SECRET_TIMEOUT_MS / 1000);
		(void)nanosleep(&pause, NULL);
	}
}

static int read_command(const struct plan_secret *s, char *out, size_t *n, struct err *e)
{
	uint64_t deadline = time_monotonic_ns() + PLAN_SECRET_TIMEOUT_MS * TIME_NS_PER_MS;
	_cleanup_close_ int from = -1, to = -1;
	int ends[2], status = 0, ret;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	from = ends[0];
	to = ends[1];
	pid = fork();
	if (pid < 0)
		return err_errno(e, "fork");
	if (pid == 0)
		run_command(s->command, to);
	(void)setpgid(pid, pid);
	close_fd(&to);
	ret = read_until(from, deadline, value_max(s) + READ_SPARE, out, n, e);
	close_fd(&from);
	if (ret == 0 && *n == value_max(s) + READ_SPARE)
		ret = err_set(e, -EINVAL, "the value is longer than %zu bytes", value_max(s));
	if (ret == 0)
		ret = wait_until(pid, deadline, &status, e);
	if (ret < 0) {
		(void)kill(-pid, SIGKILL);
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, &status, 0);
		return ret;
	}
	if (WIFSIGNALED(status))
		return err_set(e, -ECHILD, "ended by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		return err_set(e, -ECHILD, "ended with status %d", WEXITSTATUS(status));
	return 0;
}

/* What may stand in a header, and is long enough to be recognised in what the agent sends. */
static int check_value(const char *value, size_t n, struct err *e)
{
	if (n < PLAN_SECRET_MIN)
		return err_set(
			e, -EINVAL,
			"the value has %zu bytes; a secret shorter than %d cannot be told from "
			"ordinary text",
			n, PLAN_SECRET_MIN);
	if (n > PLAN_SECRET_MAX)
		return err_set(e, -EINVAL, "the value is longer than %d bytes", PLAN_SECRET_MAX);
	for (size_t i = 0; i < n; i++)
		if (value[i] < 0x20 || value[i] > 0x7e)
			return err_set(
				e, -EINVAL,
				"the value holds a byte that is not printable ASCII (at %zu)",
				i + 1);
	return 0;
}

/* What can be seen without decoding it: keys with a passphrase, which nobody is there to type. */
static bool is_encrypted(struct str key)
{
	static const char form[] = "b3BlbnNzaC1rZXktdjEAAAAA"; /* openssh-key-v1 and a length */
	size_t at = str_find(key, STR_LIT(form));

	if (str_find(key, STR_LIT("ENCRYPTED")) < key.n)
		return true;
	return at < key.n && !str_starts(str_sub(key, at + sizeof(form) - 1, key.n),
					 STR_LIT("BG5vbmU")); /* cipher "none" */
}

static int check_key(const char *value, size_t n, struct err *e)
{
	struct str key = str_slice(value, n), first;
	bool found;

	if (n < PLAN_KEY_MIN || n > PLAN_KEY_MAX)
		return err_set(e, -EINVAL, "an ssh private key has %d to %u bytes", PLAN_KEY_MIN,
			       PLAN_KEY_MAX);
	for (size_t i = 0; i < n; i++)
		if (value[i] != '\n' && (value[i] < 0x20 || value[i] > 0x7e))
			return err_set(e, -EINVAL,
				       "the key holds a byte that is neither printable ASCII nor a "
				       "newline (at %zu)",
				       i + 1);
	(void)str_cut(key, '\n', &first, &found);
	if (!found || !str_starts(first, STR_LIT("-----BEGIN ")) ||
	    !str_ends(first, STR_LIT("PRIVATE KEY-----")) ||
	    str_find(key, STR_LIT("\n-----END ")) == n)
		return err_set(e, -EINVAL,
			       "that is no ssh private key: expected \"-----BEGIN … PRIVATE "
			       "KEY-----\", lines, \"-----END …\"");
	if (is_encrypted(key))
		return err_set(e, -EINVAL,
			       "the key is protected by a passphrase; give one without (a deploy "
			       "key of its own is best), or a command that prints it decrypted");
	return 0;
}

/* Says which secret, and where the manifest names it. */
static int refuse(const struct plan_secret *s, int ret, struct err *e)
{
	_cleanup_free_ char *what = plan_secret_describe(s);
	char text[ERR_TEXT_MAX];

	if (!e)
		return ret;
	(void)snprintf(text, sizeof(text), "%s", e->text);
	if (s->origin_file)
		return err_at(e, s->origin_file, s->origin_line, 1,
			      "cannot fetch the secret %.200s: %.500s", what, text);
	return err_set(e, ret, "cannot fetch the secret %.200s: %.500s", what, text);
}

int plan_secret_fetch(const struct plan_secret *s, struct str *out, struct err *e)
{
	char value[READ_MAX];
	size_t n = 0;
	int ret;

	*out = STR_NULL;
	if (!!s->env + !!s->file + !!s->command != 1)
		return err_set(e, -EINVAL, "a secret needs exactly one place");
	if (s->env)
		ret = read_env(s, value, &n, e);
	else if (s->file)
		ret = read_file(s, value, &n, e);
	else
		ret = read_command(s, value, &n, e);
	if (ret == 0 && !s->is_key && n > 0 && value[n - 1] == '\n')
		n--;
	if (ret == 0)
		ret = s->is_key ? check_key(value, n, e) : check_value(value, n, e);
	if (ret == 0)
		*out = str_slice(str_dup(str_slice(value, n)), n);
	mem_wipe(value, sizeof(value));
	return ret < 0 ? refuse(s, ret, e) : 0;
}
