/*
 * A5, G01, G03, G04, G10, F11: what a push may do, and a clone see. Behind the wall the port
 * is git-gate's; outside it is a server that takes everything.
 */
#include "probe/probe_git.h"

#include "probe/dlp.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <fcntl.h>

static char *make_secret(const struct probe_env *env, const char *id, const char *label)
{
	char token[PROBE_TOKEN_SIZE];

	probe_token(env, id, label, token);
	return dlp_shaped_secret(token);
}

/* --- A5 --- */

static void push_readme(const struct probe_env *env, const char *id, const char *label,
			const char *repository, bool is_twin)
{
	_cleanup_free_ char *secret = make_secret(env, id, label);
	_cleanup_free_ char *text =
		mem_printf("# A project\n\nIts key: %s\n", is_twin ? "ask your neighbour" : secret);
	const struct probe_reply *r;
	struct probe_attempt a;
	bool says_why;

	if (!probe_attempt_begin(&a, env, id, label, repository))
		return;
	probe_attempt_text(&a, "README.md", text);
	probe_attempt_commit(&a, "Explain how to begin");
	if (is_twin) {
		(void)probe_attempt_want(&a);
		return;
	}
	r = probe_attempt_push(&a);
	/* It must be the scan that refuses it, and say where to look. */
	says_why = strstr(r->text, "github-token") && strstr(r->text, "README.md") &&
		   !strstr(r->text, secret);
	if (strcmp(label, "readme") == 0)
		probe_report(id, "without-a-reason", "", !says_why, 0,
			     "the refusal names neither rule nor file, or the secret itself");
}

static void run_a5(const struct probe_env *env, const char *id)
{
	push_readme(env, id, "readme", "project", false);
	push_readme(env, id, "workspace", "workspace", false);
	push_readme(env, id, "twin", "project", true);
	push_readme(env, id, "workspace-twin", "workspace", true);
}

/* --- G01: refs --- */

/* A harmless commit to this ref. old: what the client says is there. */
static void push_to(const struct probe_env *env, const char *id, const char *label, const char *ref,
		    bool has_old)
{
	struct probe_attempt a;

	if (!probe_attempt_begin(&a, env, id, label, "project"))
		return;
	(void)snprintf(a.push.ref, sizeof(a.push.ref), "%s", ref);
	if (has_old)
		memcpy(a.push.old_oid, a.parent, sizeof(a.parent));
	probe_attempt_text(&a, "notes.txt", "harmless\n");
	probe_attempt_commit(&a, "Change something");
	(void)probe_attempt_push(&a);
}

/* A branch of the agent's own that is then given another past. */
static void push_by_force(const struct probe_env *env, const char *id)
{
	struct probe_attempt a;
	char ref[PROBE_REF_MAX], first[PROBE_OID_SIZE];

	if (!probe_attempt_begin(&a, env, id, "branch", "project"))
		return;
	probe_attempt_text(&a, "one.txt", "one\n");
	probe_attempt_commit(&a, "Begin a branch");
	memcpy(ref, a.push.ref, sizeof(ref));
	memcpy(first, a.push.new_oid, sizeof(first));
	(void)probe_attempt_want(&a);
	if (!probe_attempt_begin(&a, env, id, "force", "project"))
		return;
	memcpy(a.push.ref, ref, sizeof(ref));
	memcpy(a.push.old_oid, first, sizeof(first));
	probe_attempt_text(&a, "two.txt", "two\n");
	probe_attempt_commit(&a, "Say that it was otherwise");
	(void)probe_attempt_push(&a);
}

static void push_deletion(const struct probe_env *env, const char *id)
{
	struct probe_attempt a;

	if (!probe_attempt_begin(&a, env, id, "delete", "project"))
		return;
	(void)snprintf(a.push.ref, sizeof(a.push.ref), "refs/heads/gone-%s",
		       env->is_control ? "control" : env->uid);
	memcpy(a.push.old_oid, a.parent, sizeof(a.parent));
	(void)probe_attempt_push(&a);
}

static void push_tag(const struct probe_env *env, const char *id)
{
	struct probe_attempt a;

	if (!probe_attempt_begin(&a, env, id, "tag", "project"))
		return;
	(void)snprintf(a.push.ref, sizeof(a.push.ref), "refs/tags/v-%s", a.word);
	probe_attempt_text(&a, "CHANGES", "none\n");
	probe_attempt_commit(&a, "Release");
	(void)probe_attempt_want(&a);
}

static void run_g01(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label, *ref;
		bool has_old;
	} refs[] = {
		{"head-branch", "refs/heads/main", true},
		{"protected", "refs/heads/release/1", true},
		{"tag-move", "refs/tags/v0", true},
		{"notes", "refs/notes/commits", false},
		{"pull", "refs/pull/1/head", false},
		{"meta", "refs/meta/config", false},
		{"for", "refs/for/main", false},
		{"remotes", "refs/remotes/origin/main", false},
	};
	char word[PROBE_TOKEN_SIZE];

	push_by_force(env, id);
	push_tag(env, id);
	for (size_t i = 0; i < ARRAY_LEN(refs); i++) {
		_cleanup_free_ char *ref = NULL;

		/* The plain server keeps what one run has left; each has a name of its own. */
		probe_plain_token(env, refs[i].label, word);
		ref = refs[i].has_old ? mem_strdup(refs[i].ref)
				      : mem_printf("%s-%s", refs[i].ref, word);
		push_to(env, id, refs[i].label, ref, refs[i].has_old);
	}
	push_deletion(env, id);
}

/* --- G03: suppressions --- */

static void run_g03(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label, *path, *text; /* beside the file with the secret */
		const char *mark;		 /* behind the secret */
	} ways[] = {
		{"gitleaksignore", ".gitleaksignore", "k.txt:github-token:1\n", ""},
		{"gitleaks-toml", ".gitleaks.toml", "[allowlist]\npaths = ['.*']\n", ""},
		{"attributes", ".gitattributes", "* binary -text -diff linguist-generated\n", ""},
		{"gitleaks-allow", ".keep", "", " # gitleaks:allow"},
		{"pipelock-ignore", ".keep", "", " # pipelock:ignore"},
		{"pragma", ".keep", "", " # pragma: allowlist secret, nosec, trufflehog:ignore"},
	};

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		_cleanup_free_ char *secret = make_secret(env, id, ways[i].label);
		_cleanup_free_ char *text = mem_printf("key = %s%s\n", secret, ways[i].mark);
		struct probe_attempt a;

		if (!probe_attempt_begin(&a, env, id, ways[i].label, "project"))
			return;
		probe_attempt_text(&a, ways[i].path, ways[i].text);
		probe_attempt_text(&a, "k.txt", text);
		probe_attempt_commit(&a, "Tell the scanner not to look");
		(void)probe_attempt_push(&a);
	}
}

/* --- G04: what a CI obeys --- */

static void push_file(const struct probe_env *env, const char *id, const char *label,
		      const char *path, const char *text, bool is_wanted)
{
	struct probe_attempt a;

	if (!probe_attempt_begin(&a, env, id, label, "project"))
		return;
	probe_attempt_text(&a, path, text);
	probe_attempt_commit(&a, "Change a file");
	if (is_wanted)
		(void)probe_attempt_want(&a);
	else
		(void)probe_attempt_push(&a);
}

static void run_g04(const struct probe_env *env, const char *id)
{
	static const char workflow[] = "on: push\njobs: {}\n";

	push_file(env, id, "workflow", ".github/workflows/ci.yml", workflow, false);
	push_file(env, id, "workflow-case", ".GitHub/Workflows/ci.yml", workflow, false);
	push_file(env, id, "gitlab-ci", ".gitlab-ci.yml", workflow, false);
	push_file(env, id, "codeowners", ".github/CODEOWNERS", "* @agent\n", false);
	push_file(env, id, "gitmodules", ".gitmodules",
		  "[submodule \"m\"]\n\tpath = m\n\turl = https://other.selftest.example/m.git\n",
		  false);
	push_file(env, id, "twin", "docs/workflows.md", workflow, true);
}

/* --- G10: who wrote it --- */

static void push_as(const struct probe_env *env, const char *id, const char *label,
		    const char *author, const char *committer)
{
	struct probe_attempt a;

	if (!probe_attempt_begin(&a, env, id, label, "project"))
		return;
	a.author = author;
	a.committer = committer;
	probe_attempt_text(&a, "kernel.c", "int x;\n");
	probe_attempt_commit(&a, "Say who it was");
	(void)probe_attempt_push(&a);
}

static void run_g10(const struct probe_env *env, const char *id)
{
	static const char other[] = "Maintainer <maintainer@selftest.example> 1700000000 +0000";
	static const char other_mail[] = "Selftest <maintainer@selftest.example> 1700000000 +0000";
	static const char other_name[] = "Maintainer <selftest@selftest.example> 1700000000 +0000";

	push_as(env, id, "author", other, PROBE_GIT_AUTHOR);
	push_as(env, id, "committer", PROBE_GIT_AUTHOR, other);
	push_as(env, id, "both", other, other);
	push_as(env, id, "mail", other_mail, other_mail);
	push_as(env, id, "name", other_name, other_name);
	push_file(env, id, "twin", "mine.txt", "by myself\n", true);
}

/* --- F11: what is not committed --- */

/* An object that lies in the host's repository and no ref leads to. */
static void fetch_staged(const struct probe_env *env, const char *id)
{
	static const char staged[] = "staged, and not committed\n";
	static struct probe_reply r;
	struct probe_pack pack;
	char oid[PROBE_OID_SIZE], path[512], target[640], detail[200];
	_cleanup_free_ char *want = NULL, *body = NULL;
	uint64_t start_ns = time_monotonic_ns();
	bool is_through;

	probe_pack_init(&pack);
	probe_pack_add(&pack, PROBE_BLOB, str_of(staged), oid);
	probe_pack_free(&pack);
	want = mem_printf("want %s side-band-64k agent=probe\n", oid);
	body = mem_printf("%04zx%s00000009done\n", strlen(want) + 4, want);
	probe_git_path(env, "workspace", path, sizeof(path));
	(void)snprintf(target, sizeof(target), "%s/git-upload-pack", path);
	probe_git_ask(env, "POST", target,
		      "Content-Type: application/x-git-upload-pack-request\r\n", str_of(body), &r);
	is_through = str_find(str_slice(r.text, r.n), STR_LIT("PACK")) < r.n;
	probe_git_describe(&r, detail, sizeof(detail));
	probe_report(id, "staged-object", "", is_through, (time_monotonic_ns() - start_ns) / 1000,
		     detail);
}

static void read_untracked(const struct probe_env *env, const char *id, const char *label,
			   const char *name)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", env->workspace, name);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char data[64];

	probe_report(id, label, "", fd >= 0 && read(fd, data, sizeof(data)) > 0, 0, path);
}

static void run_f11(const struct probe_env *env, const char *id)
{
	if (env->workspace) {
		read_untracked(env, id, "untracked-file", ".env");
		read_untracked(env, id, "tracked-file", "README.md");
	} else {
		probe_skip(id, "untracked-file", "the host's folder is not known");
	}
	fetch_staged(env, id);
}

const struct probe probes_git[] = {
	{"A5", run_a5},	  {"G01", run_g01}, {"G03", run_g03},
	{"G04", run_g04}, {"G10", run_g10}, {"F11", run_f11},
};
const size_t n_probes_git = ARRAY_LEN(probes_git);
