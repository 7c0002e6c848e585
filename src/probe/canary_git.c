/*
 * Theory of operation: bare repositories below FOLDER/git, served by `git http-backend` as a child
 * for each request, with everything allowed and nothing checked. It is the upstream that git-gate
 * forwards to, and what a push meets when git-gate is not there; which of them it was the log of
 * the listener tells.
 *
 *   project  what is pushed to and fetched from, with an object that no ref leads to
 *   asked    the same for a bottle that asks: what the others leave in it no gate would serve
 *   hidden   not declared in any manifest
 *   naive    runs what is pushed to it as hooks/post-receive
 */
#include "probe/canary_git.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define BACKEND_ANSWER_MAX (4u << 20)
#define BACKEND_ENV_MAX	   32

static char root[256];

/* The history that is there before anybody comes. The names are those that probes_git*.c use. */
static const char history[] = "commit refs/heads/main\n"
			      "committer Canary <canary@selftest.example> 1700000000 +0000\n"
			      "data 6\nfirst\n"
			      "M 100644 inline README.md\n"
			      "data 10\na project\n\n"
			      "reset refs/heads/release/1\nfrom refs/heads/main\n\n"
			      "reset refs/heads/gone-agent\nfrom refs/heads/main\n\n"
			      "reset refs/heads/gone-root\nfrom refs/heads/main\n\n"
			      "reset refs/heads/gone-control\nfrom refs/heads/main\n\n"
			      "reset refs/tags/v0\nfrom refs/heads/main\n\n";
static const char hidden_history[] = "commit refs/heads/hidden-mark\n"
				     "committer Canary <canary@selftest.example> 1700000000 +0000\n"
				     "data 7\nhidden\n";
/* What a server comes to that trusts what is pushed to it. */
static const char naive_hook[] = "#!/bin/sh\n"
				 "while read old new ref; do\n"
				 "git cat-file blob $new:hooks/post-receive 2>/dev/null | sh\n"
				 "done\n";

_Noreturn static void exec_git(const char *const *args, int in)
{
	static const char *const env[] = {"PATH=/usr/local/bin:/usr/bin:/bin",
					  "GIT_CONFIG_NOSYSTEM=1", "HOME=/nonexistent", NULL};
	int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)dup2(in, STDIN_FILENO);
	(void)dup2(nowhere, STDOUT_FILENO);
	(void)execvpe("git", (char *const *)(uintptr_t)args, (char *const *)(uintptr_t)env);
	_exit(127);
}

/* Runs git with `input`; true when it ended well. */
static bool run_git(const char *const *args, const char *input)
{
	int fds[2], status = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return false;
	pid = fork();
	if (pid == 0)
		exec_git(args, fds[0]);
	(void)close(fds[0]);
	if (pid > 0 && input)
		(void)!io_write_all(fds[1], input, strlen(input));
	(void)close(fds[1]);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

static bool make_repository(const char *name, const char *text)
{
	/* Everything that an operator may have allowed, so that a refusal is the gate's. */
	static const char *const settings[][2] = {
		{"http.receivepack", "true"},
		{"receive.fsckObjects", "false"},
		{"receive.advertisePushOptions", "true"},
		{"uploadpack.allowAnySHA1InWant", "true"},
		{"core.logAllRefUpdates", "false"},
		{"gc.auto", "0"},
	};
	_cleanup_free_ char *path = mem_printf("%s/%s.git", root, name);
	bool is_fine = run_git(
		(const char *[]){"git", "init", "-q", "--bare", "-b", "main", path, NULL}, NULL);

	for (size_t i = 0; is_fine && i < ARRAY_LEN(settings); i++)
		is_fine = run_git((const char *[]){"git", "-C", path, "config", settings[i][0],
						   settings[i][1], NULL},
				  NULL);
	return is_fine &&
	       run_git((const char *[]){"git", "-C", path, "fast-import", "--quiet", NULL}, text);
}

bool canary_git_open(const char *folder)
{
	_cleanup_free_ char *hook = NULL, *project = NULL;
	struct err e = ERR_INIT;

	(void)snprintf(root, sizeof(root), "%s/git", folder);
	if (mkdir(root, 0700) < 0 || !run_git((const char *[]){"git", "--version", NULL}, NULL))
		return false;
	if (!make_repository("project", history) || !make_repository("naive", history) ||
	    !make_repository("asked", history) || !make_repository("hidden", hidden_history))
		return false;
	project = mem_printf("%s/project.git", root);
	hook = mem_printf("%s/naive.git/hooks/post-receive", root);
	/* The same object lies in the workspace's repository, staged and not committed (F11). */
	return run_git((const char *[]){"git", "-C", project, "hash-object", "-w", "--stdin", NULL},
		       "staged, and not committed\n") &&
	       io_write_file_atomic(AT_FDCWD, hook, str_of(naive_hook), 0755, &e) == 0;
}

/* --- requests --- */

static struct str first_line(struct str request)
{
	return str_sub(request, 0, str_chr(request, '\r'));
}

/* "GET /git/…": with its dots and percents still in it. */
static struct str target_of(struct str request)
{
	struct str line = first_line(request), word;
	bool found;

	line = str_cut(line, ' ', &word, &found);
	(void)str_cut(line, ' ', &word, &found);
	return word;
}

bool canary_git_is_for(struct str request)
{
	struct str target = target_of(request);

	/* What is to be echoed is the other server's. */
	return root[0] && str_starts(target, STR_LIT("/git/")) &&
	       !str_starts(target, STR_LIT("/git/echo/"));
}

/* A server that checks nothing resolves whatever it is given. */
static char *resolve_path(struct str path)
{
	char *out = mem_zalloc(path.n + 2);
	size_t n = 0;

	for (size_t i = 0; i < path.n; i++) {
		char c = path.p[i];

		if (c == '%' && i + 2 < path.n && ascii_hex_value(path.p[i + 1]) >= 0) {
			c = (char)(ascii_hex_value(path.p[i + 1]) << 4 |
				   ascii_hex_value(path.p[i + 2]));
			i += 2;
		}
		out[n++] = c;
		if (n >= 4 && strncmp(out + n - 4, "/../", 4) == 0) {
			for (n -= 4; n > 0 && out[n - 1] != '/'; n--)
				;
			n += n == 0;
			out[0] = '/';
		} else if (n >= 3 && strncmp(out + n - 3, "/./", 3) == 0) {
			n -= 2;
		} else if (n >= 2 && strncmp(out + n - 2, "//", 2) == 0) {
			n--;
		}
		out[n] = '\0';
	}
	return out;
}

static char *header_of(struct str head, const char *name)
{
	for (size_t at = 0; at < head.n;) {
		struct str line = str_sub(head, at, head.n);
		size_t end = str_chr(line, '\r');

		at += end + 2;
		line = str_sub(line, 0, end);
		if (str_istarts(line, str_of(name)) && line.n > strlen(name) &&
		    line.p[strlen(name)] == ':')
			return str_dup(str_trim(str_sub(line, strlen(name) + 1, line.n)));
	}
	return mem_strdup("");
}

static void backend_env(struct str request, struct str head, size_t body_n,
			char *env[BACKEND_ENV_MAX])
{
	static const char *const settings[] = {
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"HOME=/nonexistent",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_HTTP_EXPORT_ALL=1",
		"REMOTE_USER=anybody",
		"REMOTE_ADDR=127.0.0.1",
		"GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=safe.directory",
		"GIT_CONFIG_VALUE_0=*",
	};
	struct str target = target_of(request), path, query, line = first_line(request);
	_cleanup_free_ char *type = header_of(head, "content-type");
	_cleanup_free_ char *coding = header_of(head, "content-encoding");
	_cleanup_free_ char *protocol = header_of(head, "git-protocol");
	_cleanup_free_ char *resolved = NULL;
	bool found;
	size_t n = 0;

	query = str_cut(target, '?', &path, &found);
	resolved = resolve_path(str_sub(path, 4, path.n));
	for (; n < ARRAY_LEN(settings); n++)
		env[n] = mem_strdup(settings[n]);
	env[n++] = mem_printf("GIT_PROJECT_ROOT=%s", root);
	env[n++] = mem_printf("REQUEST_METHOD=" STR_FMT,
			      STR_ARG(str_sub(line, 0, str_chr(line, ' '))));
	env[n++] = mem_printf("PATH_INFO=%s", resolved);
	env[n++] = mem_printf("QUERY_STRING=" STR_FMT, STR_ARG(found ? query : STR_NULL));
	env[n++] = mem_printf("CONTENT_TYPE=%s", type);
	env[n++] = mem_printf("CONTENT_LENGTH=%zu", body_n);
	env[n++] = mem_printf("GIT_PROTOCOL=%s", protocol);
	if (coding[0])
		env[n++] = mem_printf("HTTP_CONTENT_ENCODING=%s", coding);
	env[n] = NULL;
}

/* Its body is in a file, so that neither side of two pipes can wait for the other. */
static int run_backend(char *const *env, struct str body, struct buf *out)
{
	_cleanup_close_ int in = io_memfd_sealed("body", body, NULL), from = -1;
	int fds[2], status = 0;
	pid_t pid;

	if (in < 0 || pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		char *const argv[] = {(char *)(uintptr_t) "git", (char *)(uintptr_t) "http-backend",
				      NULL};

		/* What it starts ends with its pipe: the canary's own children end with the canary.
		 */
		(void)dup2(in, STDIN_FILENO);
		(void)dup2(fds[1], STDOUT_FILENO);
		(void)signal(SIGPIPE, SIG_DFL);
		(void)execvpe("git", argv, env);
		_exit(127);
	}
	(void)close(fds[1]);
	from = fds[0];
	for (;;) {
		char *room = buf_reserve(out, 65536);
		ssize_t n = room ? read(from, room, 65536) : -1;

		if (n <= 0)
			break;
		buf_commit(out, (size_t)n);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -EIO;
}

/* Chunks, put together into out unless that is NULL. What they take in text, or SIZE_MAX. */
static size_t dechunk(struct str text, struct buf *out)
{
	for (size_t at = 0;;) {
		struct str rest = str_sub(text, at, text.n);
		size_t end = str_find(rest, STR_LIT("\r\n")), n = 0;

		if (end == rest.n)
			return SIZE_MAX;
		for (size_t i = 0; i < end && ascii_hex_value(rest.p[i]) >= 0 && n < (1u << 24);
		     i++)
			n = n << 4 | (size_t)ascii_hex_value(rest.p[i]);
		if (rest.n < end + 2 + n + 2 ||
		    (out && buf_append_str(out, str_sub(rest, end + 2, end + 2 + n)) < 0))
			return SIZE_MAX;
		at += end + 2 + n + 2;
		if (n == 0)
			return at;
	}
}

size_t canary_git_chunked_length(struct str text)
{
	return dechunk(text, NULL);
}

void canary_git_answer(struct str request, struct buf *out)
{
	size_t end = str_find(request, STR_LIT("\r\n\r\n"));
	struct str head = str_sub(request, 0, end + 2), body = str_sub(request, end + 4, request.n);
	_cleanup_free_ char *transfer = header_of(head, "transfer-encoding");
	_cleanup_(buf_free) struct buf whole, said;
	char *env[BACKEND_ENV_MAX];
	_cleanup_free_ char *status = NULL, *type = NULL;
	size_t split;
	struct str answer;

	buf_init(&whole, BACKEND_ANSWER_MAX);
	buf_init(&said, BACKEND_ANSWER_MAX);
	if (transfer[0] && dechunk(body, &whole) != SIZE_MAX)
		body = buf_str(&whole);
	backend_env(request, head, body.n, env);
	(void)run_backend(env, body, &said);
	for (size_t i = 0; env[i]; i++)
		free(env[i]);
	answer = buf_str(&said);
	split = str_find(answer, STR_LIT("\r\n\r\n"));
	status = header_of(str_sub(answer, 0, split + 2), "status");
	type = header_of(str_sub(answer, 0, split + 2), "content-type");
	answer = str_sub(answer, split + 4, answer.n);
	(void)!buf_printf(out,
			  "HTTP/1.1 %s\r\nContent-Type: %s\r\nCache-Control: no-cache\r\n"
			  "Content-Length: %zu\r\n\r\n",
			  status[0] ? status : "200 OK", type[0] ? type : "text/plain", answer.n);
	(void)!buf_append_str(out, answer);
}
