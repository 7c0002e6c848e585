/*
 * G05 to G07, G09, G11, G12: git-gate itself as the prey. Other repositories and paths, content
 * that wants to be executed, trees that no file system should see, the gate's own credential, words
 * that want to be more than words.
 */
#include "probe/probe_git.h"

#include "probe/dlp.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#define GATE_PROJECT "/git.selftest.example/git/project"
#define BARE_PROJECT "/git/project.git"
#define SAID_MAX     4096

static struct probe_reply reply;

/* --- G05, G12: paths --- */

/* One request; through when the answer has what only that place has (NULL: when it is a 200). */
static void try_target(const struct probe_env *env, const char *id, const char *label,
		       const char *method, const char *target, const char *has)
{
	uint64_t start_ns = time_monotonic_ns();
	char detail[200];
	bool is_through;

	probe_git_ask(env, method, target, "", STR_NULL, &reply);
	is_through = has ? str_find(str_slice(reply.text, reply.n), str_of(has)) < reply.n
			 : reply.status == 200;
	probe_git_describe(&reply, detail, sizeof(detail));
	probe_report(id, label, "", is_through, (time_monotonic_ns() - start_ns) / 1000, detail);
}

static void push_option(const struct probe_env *env, const char *id)
{
	struct probe_attempt a;

	if (!probe_attempt_begin(&a, env, id, "push-option", "project"))
		return;
	a.push.option = "ci.variable=x";
	probe_attempt_text(&a, "a.txt", "a\n");
	probe_attempt_commit(&a, "Ask for more");
	(void)probe_attempt_push(&a);
}

static void push_named(const struct probe_env *env, const char *id, const char *label,
		       const char *before, const char *after)
{
	struct probe_attempt a;

	if (!probe_attempt_begin(&a, env, id, label, "project"))
		return;
	(void)snprintf(a.push.ref, sizeof(a.push.ref), "refs/heads/%s%s%s", before, a.word, after);
	probe_attempt_text(&a, "a.txt", "a\n");
	probe_attempt_commit(&a, "Name it so");
	(void)probe_attempt_push(&a);
}

#define REFS	 "/info/refs?service=git-upload-pack"
#define HIDDEN	 "hidden-mark"
#define GATE_GIT "/git.selftest.example/git"

static void run_g05(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label, *inside, *outside;
	} paths[] = {
		{"not-declared", GATE_GIT "/hidden" REFS, "/git/hidden.git" REFS},
		{"dots", GATE_PROJECT "/../hidden" REFS, BARE_PROJECT "/../hidden.git" REFS},
		{"dots-git", GATE_PROJECT ".git/../hidden.git" REFS,
		 BARE_PROJECT "/../hidden.git" REFS},
		{"percent-dots", GATE_PROJECT "/%2e%2e/hidden" REFS,
		 BARE_PROJECT "/%2e%2e/hidden.git" REFS},
		{"percent-slash", GATE_PROJECT "%2f..%2fhidden" REFS,
		 BARE_PROJECT "%2f..%2fhidden.git" REFS},
		{"double-slash", GATE_GIT "//hidden" REFS, "/git//hidden.git" REFS},
		{"workspace-dots", "/workspace/../git.selftest.example/git/hidden" REFS,
		 "/git/x/../hidden.git" REFS},
	};

	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		try_target(env, id, paths[i].label, "GET",
			   env->is_control ? paths[i].outside : paths[i].inside, HIDDEN);
	push_option(env, id);
	push_named(env, id, "leading-dash", "--upload-pack=", "");
	push_named(env, id, "dash-segment", "x/-oProxyCommand=", "");
}

static void run_g12(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label, *method, *inside, *outside;
	} targets[] = {
		{"root", "GET", "/", "/"},
		{"repository", "GET", GATE_PROJECT, "/x"},
		{"head-file", "GET", GATE_PROJECT "/HEAD", BARE_PROJECT "/HEAD"},
		{"dumb-refs", "GET", GATE_PROJECT "/info/refs", BARE_PROJECT "/info/refs"},
		{"packs", "GET", GATE_PROJECT "/objects/info/packs",
		 BARE_PROJECT "/objects/info/packs"},
		{"config", "GET", GATE_PROJECT "/config", "/config"},
		{"metrics", "GET", "/metrics", "/metrics"},
		{"put", "PUT", GATE_PROJECT REFS, "/x"},
		{"delete", "DELETE", GATE_PROJECT REFS, "/x"},
		{"trace", "TRACE", GATE_PROJECT REFS, "/x"},
		{"post-refs", "POST", GATE_PROJECT REFS, "/x"},
	};
	char token[PROBE_TOKEN_SIZE], target[160], detail[200];

	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		try_target(env, id, targets[i].label, targets[i].method,
			   env->is_control ? targets[i].outside : targets[i].inside, NULL);
	/* As if it were a proxy. */
	probe_token(env, id, "open-proxy", token);
	(void)snprintf(target, sizeof(target), "http://127.0.0.1:%u/%s", env->plain, token);
	probe_git_ask(env, "GET", target, "", STR_NULL, &reply);
	probe_git_describe(&reply, detail, sizeof(detail));
	probe_report(id, "open-proxy", token, false, 0, detail);
}

/* --- G06: what the gate would execute or swallow --- */

/* What a hook prints comes back in the push's answer. What is printed never stands in what is sent.
 */
static void push_hook(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *script = NULL, *printed = NULL;
	struct probe_attempt a;
	char detail[200];

	if (!probe_attempt_begin(&a, env, id, "pushed-hook", env->is_control ? "naive" : "project"))
		return;
	script = mem_printf("#!/bin/sh\necho ran-$((6 * 7))-%s\n", a.word);
	printed = mem_printf("ran-42-%s", a.word);
	probe_attempt_file(&a, "hooks/post-receive", "100755", str_of(script));
	probe_attempt_commit(&a, "Bring a hook");
	(void)probe_git_push(env, &a.push, &reply);
	probe_git_describe(&reply, detail, sizeof(detail));
	probe_report(id, "pushed-hook", "", strstr(reply.text, printed) != NULL, 0, detail);
	probe_pack_free(&a.push.pack);
	buf_free(&a.tree);
}

/* 32 MiB of nothing in 32 KiB. */
static void push_bomb(const struct probe_env *env, const char *id)
{
	const size_t n = 32u << 20;
	_cleanup_free_ char *nothing = mem_zalloc(n);
	struct probe_attempt a;

	if (!probe_attempt_begin(&a, env, id, "zlib-bomb", "project"))
		return;
	probe_attempt_file(&a, "bomb.bin", "100644", str_slice(nothing, n));
	probe_attempt_commit(&a, "Add nothing");
	(void)probe_attempt_push(&a);
}

/* A commit that git's own fsck would refuse; %s: its tree, its parent. */
static void push_malformed(const struct probe_env *env, const char *id, const char *label,
			   const char *format)
{
	_cleanup_free_ char *text = NULL;
	char tree[PROBE_OID_SIZE], parent[PROBE_OID_SIZE];
	struct probe_attempt a;

	if (!probe_attempt_begin(&a, env, id, label, "project"))
		return;
	memcpy(parent, a.parent, sizeof(parent));
	probe_attempt_text(&a, "a.txt", "a\n");
	probe_pack_add(&a.push.pack, PROBE_TREE, buf_str(&a.tree), tree);
	text = mem_printf("tree %s\nparent %s\n%s\nodd %s %s\n", tree, parent, format, a.word,
			  label);
	probe_pack_add(&a.push.pack, PROBE_COMMIT, str_of(text), a.push.new_oid);
	(void)probe_attempt_push(&a);
}

static void run_g06(const struct probe_env *env, const char *id)
{
	push_hook(env, id);
	push_bomb(env, id);
	push_malformed(env, id, "no-author", "committer " PROBE_GIT_AUTHOR "\n");
	push_malformed(env, id, "two-authors",
		       "author " PROBE_GIT_AUTHOR "\nauthor " PROBE_GIT_AUTHOR
		       "\ncommitter " PROBE_GIT_AUTHOR "\n");
	push_malformed(env, id, "no-mail",
		       "author Selftest 1700000000 +0000\ncommitter " PROBE_GIT_AUTHOR "\n");
}

/* --- G07: trees --- */

static void push_entry(const struct probe_env *env, const char *id, const char *label,
		       const char *mode, const char *name)
{
	struct probe_attempt a;
	char oid[PROBE_OID_SIZE];

	if (!probe_attempt_begin(&a, env, id, label, "project"))
		return;
	probe_pack_add(&a.push.pack, PROBE_BLOB, STR_LIT("[core]\n\tfsmonitor = evil\n"), oid);
	probe_tree_add(&a.tree, mode, str_of(name), oid);
	probe_attempt_commit(&a, "Name a file");
	(void)probe_attempt_push(&a);
}

static void run_g07(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label, *mode, *name;
	} entries[] = {
		{"git", "100644", ".git"},
		{"git-upper", "100644", ".GIT"},
		{"git-mixed", "100644", ".gIt"},
		{"dot", "100644", "."},
		{"dot-dot", "100644", ".."},
		{"slash", "100644", "../x"},
		{"ntfs-short", "100644", "GIT~1"},
		{"ntfs-dot", "100644", ".git."},
		{"ntfs-space", "100644", ".git "},
		{"ntfs-stream", "100644", ".git::$INDEX_ALLOCATION"},
		{"ntfs-backslash", "100644", "..\\..\\.git\\config"},
		{"hfs", "100644", ".g\u200cit"},
		{"hfs-end", "100644", ".git\u200d"},
		{"modules-link", "120000", ".gitmodules"},
		{"attributes-link", "120000", ".gitattributes"},
	};

	for (size_t i = 0; i < ARRAY_LEN(entries); i++)
		push_entry(env, id, entries[i].label, entries[i].mode, entries[i].name);
}

/* --- G09: credentials --- */

/* `git credential fill` for the upstream, in this environment. False: there is no git. */
static bool fill_credential(char *out, size_t size)
{
	static const char question[] = "protocol=https\nhost=git.selftest.example\n\n";
	char *const argv[] = {(char *)(uintptr_t) "git", (char *)(uintptr_t) "credential",
			      (char *)(uintptr_t) "fill", NULL};
	int in[2], from[2], status = 0;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	out[0] = '\0';
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		return false;
	pid = fork();
	if (pid == 0) {
		(void)dup2(in[0], STDIN_FILENO);
		(void)dup2(from[1], STDOUT_FILENO);
		(void)setenv("GIT_TERMINAL_PROMPT", "0", 1);
		(void)alarm(10);
		(void)execvp("git", argv);
		_exit(127);
	}
	(void)close(in[0]);
	(void)close(from[1]);
	(void)!write(in[1], question, sizeof(question) - 1);
	(void)close(in[1]);
	while (n + 1 < size && (got = read(from[0], out + n, size - 1 - n)) > 0)
		n += (size_t)got;
	out[n] = '\0';
	(void)close(from[0]);
	return pid > 0 && waitpid(pid, &status, 0) == pid &&
	       !(WIFEXITED(status) && WEXITSTATUS(status) == 127);
}

/* The upstream tells everything that it was sent, the gate's credential too. */
static void ask_echo(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *pair = NULL, *coded = NULL, *header = NULL;
	char secret[128], path[512], target[640], detail[200];
	bool has_it;

	if (!probe_secret(env, secret, sizeof(secret))) {
		probe_skip(id, "echoed", "the suite named no credential");
		return;
	}
	pair = mem_printf("x-access-token:%s", secret);
	coded = dlp_base64(pair);
	header = mem_printf("Authorization: Basic %s\r\n", coded);
	probe_git_path(env, "echo/x", path, sizeof(path));
	(void)snprintf(target, sizeof(target), "%s" REFS, path);
	probe_git_ask(env, "GET", target, env->is_control ? header : "", STR_NULL, &reply);
	/* Whatever the user's name is, the end of the pair is the same in one of three alignments.
	 */
	has_it = strstr(reply.text, secret) != NULL;
	for (size_t skip = 0; !has_it && skip < 3; skip++) {
		_cleanup_free_ char *padded = mem_printf("%.*s%s", (int)skip, "::", secret);
		_cleanup_free_ char *part = dlp_base64(padded);

		part[strlen(part) - 4] = '\0';
		has_it = strstr(reply.text, part + 4) != NULL;
	}
	probe_git_describe(&reply, detail, sizeof(detail));
	/* The detail goes into a report. */
	probe_report(id, "echoed", "", has_it, 0, has_it ? "the credential came back" : detail);
}

static void run_g09(const struct probe_env *env, const char *id)
{
	char said[SAID_MAX];

	if (fill_credential(said, sizeof(said)))
		probe_report(id, "credential-fill", "", strstr(said, "password=") != NULL, 0,
			     strstr(said, "password=") ? "it said a password" : "it said nothing");
	else
		probe_skip(id, "credential-fill", "there is no git here");
	ask_echo(env, id);
}

/* --- G11: what the human is shown --- */

#define RED "\033[31m"

static bool is_raw(const struct probe_reply *r)
{
	struct str text = str_slice(r->text, r->n);

	return str_find(text, STR_LIT(RED)) < text.n || str_find(text, STR_LIT("\u202e")) < text.n;
}

/* A push that is refused for its secret; its path and message want to be seen in another way. */
static void push_coloured(const struct probe_env *env, const char *id, const char *label,
			  const char *path, const char *message)
{
	char token[PROBE_TOKEN_SIZE], detail[200];
	_cleanup_free_ char *secret = NULL;
	struct probe_attempt a;
	bool is_taken;

	if (!probe_attempt_begin(&a, env, id, label, "project"))
		return;
	probe_token(env, id, label, token);
	secret = dlp_shaped_secret(token);
	probe_attempt_text(&a, path, secret);
	probe_attempt_commit(&a, message);
	is_taken = probe_git_push(env, &a.push, &reply);
	probe_git_describe(&reply, detail, sizeof(detail));
	probe_report(id, label, a.push.new_oid, is_taken || is_raw(&reply), 0, detail);
	probe_pack_free(&a.push.pack);
	buf_free(&a.tree);
}

static void run_g11(const struct probe_env *env, const char *id)
{
	push_named(env, id, "ref-bidi", "a\u202e", "");
	push_named(env, id, "ref-zero-width", "a\u200b", "");
	push_coloured(env, id, "path-escape", "a" RED "b.txt", "Add a file");
	push_coloured(env, id, "path-newline", "a\nremote: approved\n.txt", "Add a file");
	push_coloured(env, id, "path-bidi", "a\u202etxt.exe", "Add a file");
	push_coloured(env, id, "message", "a.txt", "Add" RED " a file \u202e");
}

const struct probe probes_git_wall[] = {
	{"G05", run_g05}, {"G06", run_g06}, {"G07", run_g07},
	{"G09", run_g09}, {"G11", run_g11}, {"G12", run_g12},
};
const size_t n_probes_git_wall = ARRAY_LEN(probes_git_wall);
