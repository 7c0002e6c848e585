/* G02: a secret in every place that a push can carry one. */
#include "probe/probe_git.h"

#include "probe/dlp.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"

#define CARRY_MAX     (600u << 10)
#define OVERSIZE      (300u << 10) /* the scratch manifest allows 256 KiB */
#define LFS_POINTER   "version https://git-lfs.github.com/spec/v1\n"
#define HARMLESS_LINE "harmless words that are here to make it longer\n"

static void must(int ret)
{
	if (ret < 0)
		die("a secret's carrier grew too large");
}

static void carry_blob(struct probe_attempt *a, const char *secret)
{
	_cleanup_free_ char *text = mem_printf("key: %s\n", secret);

	probe_attempt_text(a, "conf/app.yml", text);
	probe_attempt_commit(a, "Add a configuration");
}

static void carry_deleted(struct probe_attempt *a, const char *secret)
{
	probe_attempt_text(a, "oops.txt", secret);
	probe_attempt_commit(a, "Add a file");
	probe_attempt_text(a, "other.txt", "nothing\n");
	probe_attempt_commit(a, "Remove it again");
}

static void carry_message(struct probe_attempt *a, const char *secret)
{
	_cleanup_free_ char *message = mem_printf("Log in with %s", secret);

	probe_attempt_text(a, "a.txt", "a\n");
	probe_attempt_commit(a, message);
}

static void carry_author(struct probe_attempt *a, const char *secret)
{
	_cleanup_free_ char *author =
		mem_printf("%s <selftest@selftest.example> 1700000000 +0000", secret);

	a->author = author;
	probe_attempt_text(a, "a.txt", "a\n");
	probe_attempt_commit(a, "Change a file");
}

/* In a header that no client writes. */
static void carry_header(struct probe_attempt *a, const char *secret)
{
	_cleanup_free_ char *committer = mem_printf(PROBE_GIT_AUTHOR "\nx-note %s", secret);

	a->committer = committer;
	probe_attempt_text(a, "a.txt", "a\n");
	probe_attempt_commit(a, "Change a file");
}

static void carry_path(struct probe_attempt *a, const char *secret)
{
	_cleanup_free_ char *path = mem_printf("notes/%s.txt", secret);

	probe_attempt_text(a, path, "a\n");
	probe_attempt_commit(a, "Add a file");
}

static void carry_symlink(struct probe_attempt *a, const char *secret)
{
	_cleanup_free_ char *target = mem_printf("/tmp/%s", secret);

	probe_attempt_file(a, "link", "120000", str_of(target));
	probe_attempt_commit(a, "Add a link");
}

static void carry_submodule(struct probe_attempt *a, const char *secret)
{
	_cleanup_free_ char *text = mem_printf(
		"[submodule \"m\"]\n\tpath = m\n\turl = https://x:%s@git.selftest.example/m.git\n",
		secret);

	probe_attempt_text(a, ".gitmodules", text);
	probe_attempt_commit(a, "Add a module");
}

static void carry_branch(struct probe_attempt *a, const char *secret)
{
	(void)snprintf(a->push.ref, sizeof(a->push.ref), "refs/heads/fix-%s", secret);
	probe_attempt_text(a, "a.txt", "a\n");
	probe_attempt_commit(a, "Fix it");
}

static void carry_tag_name(struct probe_attempt *a, const char *secret)
{
	(void)snprintf(a->push.ref, sizeof(a->push.ref), "refs/tags/v%s", secret);
	probe_attempt_text(a, "a.txt", "a\n");
	probe_attempt_commit(a, "Release it");
}

/* The tag is what is pushed: its name is the token then. */
static void carry_tag(struct probe_attempt *a, const char *secret)
{
	_cleanup_(buf_free) struct buf tag;

	probe_attempt_text(a, "a.txt", "a\n");
	probe_attempt_commit(a, "Release it");
	buf_init(&tag, 4096);
	must(buf_printf(&tag, "object %s\ntype commit\ntag v-%s\ntagger %s\n\nsigned with %s\n",
			a->push.new_oid, a->word, PROBE_GIT_AUTHOR, secret));
	probe_pack_add(&a->push.pack, PROBE_TAG, buf_str(&tag), a->push.new_oid);
	(void)snprintf(a->push.ref, sizeof(a->push.ref), "refs/tags/v-%s-%s", a->label, a->word);
}

static void carry_lfs(struct probe_attempt *a, const char *secret)
{
	_cleanup_free_ char *text = mem_printf(
		LFS_POINTER "ext-0-note sha256:%s\noid sha256:"
			    "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
			    "\nsize 12345\n",
		secret);

	probe_attempt_text(a, "picture.psd", text);
	probe_attempt_commit(a, "Add a picture");
}

static void carry_coded(struct probe_attempt *a, const char *secret, const char *path,
			int (*encode)(struct buf *out, struct str text))
{
	_cleanup_free_ char *text = mem_printf("key: %s\n", secret);
	_cleanup_(buf_free) struct buf coded;

	buf_init(&coded, 65536);
	must(encode(&coded, str_of(text)));
	probe_attempt_file(a, path, "100644", buf_str(&coded));
	probe_attempt_commit(a, "Add a file");
}

static int zip_notes(struct buf *out, struct str text)
{
	return dlp_zip(out, "notes.txt", text);
}

static void carry_utf16(struct probe_attempt *a, const char *secret)
{
	carry_coded(a, secret, "notes.txt", dlp_utf16);
}

static void carry_gzip(struct probe_attempt *a, const char *secret)
{
	carry_coded(a, secret, "notes.gz", dlp_gzip);
}

static void carry_zip(struct probe_attempt *a, const char *secret)
{
	carry_coded(a, secret, "notes.zip", zip_notes);
}

static void carry_base64(struct probe_attempt *a, const char *secret)
{
	_cleanup_free_ char *coded = dlp_base64(secret);

	probe_attempt_text(a, "notes.b64", coded);
	probe_attempt_commit(a, "Add a file");
}

/* In the pack the secret stands in a delta, and the rest of the file elsewhere. */
static void carry_delta(struct probe_attempt *a, const char *secret)
{
	_cleanup_(buf_free) struct buf base;
	char oid[PROBE_OID_SIZE];

	buf_init(&base, 65536);
	for (unsigned i = 0; i < 400; i++)
		must(buf_printf(&base, "%u " HARMLESS_LINE, i));
	probe_attempt_file(a, "lines.txt", "100644", buf_str(&base));
	probe_attempt_commit(a, "Add lines");
	probe_pack_add_delta(&a->push.pack, buf_str(&base), STR_LIT("200 harmless"), str_of(secret),
			     oid);
	probe_tree_add(&a->tree, "100644", STR_LIT("lines.txt"), oid);
	probe_attempt_commit(a, "Change one of them");
}

/* Behind more than anybody reads: what is not looked at must not pass. */
static void carry_oversize(struct probe_attempt *a, const char *secret)
{
	_cleanup_(buf_free) struct buf text;

	buf_init(&text, CARRY_MAX);
	while (buf_len(&text) < OVERSIZE)
		must(buf_append_str(&text, STR_LIT(HARMLESS_LINE)));
	must(buf_append_str(&text, str_of(secret)));
	probe_attempt_file(a, "large.txt", "100644", buf_str(&text));
	probe_attempt_commit(a, "Add a large file");
}

static const struct {
	const char *label;
	void (*make)(struct probe_attempt *a, const char *secret);
} carriers[] = {
	{"blob", carry_blob},
	{"deleted-later", carry_deleted},
	{"message", carry_message},
	{"author", carry_author},
	{"commit-header", carry_header},
	{"path", carry_path},
	{"symlink", carry_symlink},
	{"submodule-url", carry_submodule},
	{"branch-name", carry_branch},
	{"tag-name", carry_tag_name},
	{"tag-message", carry_tag},
	{"lfs-pointer", carry_lfs},
	{"utf-16", carry_utf16},
	{"gzip", carry_gzip},
	{"zip", carry_zip},
	{"base64", carry_base64},
	{"delta", carry_delta},
	{"over-size", carry_oversize},
};

static void run_g02(const struct probe_env *env, const char *id)
{
	for (size_t i = 0; i < ARRAY_LEN(carriers); i++) {
		_cleanup_free_ char *secret = NULL;
		char token[PROBE_TOKEN_SIZE];
		struct probe_attempt a;

		probe_token(env, id, carriers[i].label, token);
		secret = dlp_shaped_secret(token);
		if (!probe_attempt_begin(&a, env, id, carriers[i].label, "project"))
			return;
		carriers[i].make(&a, secret);
		(void)probe_attempt_push(&a);
	}
	/* Of everything there is a twin: a file in each form, and nothing in them. */
	for (size_t i = 0; i < ARRAY_LEN(carriers); i++) {
		_cleanup_free_ char *label = mem_printf("%s-twin", carriers[i].label);
		struct probe_attempt a;

		/* A module is for the human to approve, whatever its URL. */
		if (strcmp(carriers[i].label, "submodule-url") == 0 ||
		    strcmp(carriers[i].label, "over-size") == 0 ||
		    strcmp(carriers[i].label, "author") == 0 ||
		    strcmp(carriers[i].label, "commit-header") == 0)
			continue;
		if (!probe_attempt_begin(&a, env, id, label, "project"))
			return;
		carriers[i].make(&a, a.word);
		(void)probe_attempt_want(&a);
	}
}

const struct probe probes_git_carry[] = {{"G02", run_g02}};
const size_t n_probes_git_carry = ARRAY_LEN(probes_git_carry);
