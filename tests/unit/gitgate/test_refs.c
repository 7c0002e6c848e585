/* The policy of refs, and the words for findings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "gitgate/commands.h"
#include "gitgate/push.h"
#include "gitgate/refs.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#define OID_A "1111111111111111111111111111111111111111"
#define OID_B "2222222222222222222222222222222222222222"
#define OID_C "3333333333333333333333333333333333333333"
#define ZERO  COMMANDS_ZERO_OID

/* What check.c has. */
const char *check_kind_name(enum check_kind k)
{
	static const char *const names[] = {
#define X(constant, name) [CHECK_##constant] = (name),
		CHECK_KINDS(X)
#undef X
	};

	return names[k];
}

static char *branches[] = {"fix/*", "agent/**", "deep/*/x"};
static char *protected_ones[] = {"agent/locked", "fix/no-*"};
static char *tags[] = {"v*"};

static const char refs_text[] =
	OID_A " refs/heads/agent/one\n" OID_A " refs/heads/fix/a\n" OID_A
	      " refs/heads/fix/dir/x\n" OID_A " refs/heads/main\n" OID_B " refs/tags/v1\n";

static bool follows(const char *old_oid, const char *new_oid, void *ctx)
{
	(void)ctx;
	return strcmp(old_oid, OID_A) == 0 && strcmp(new_oid, OID_B) == 0;
}

static struct git_remote the_remote(void)
{
	return (struct git_remote){
		.branches = branches,
		.n_branches = ARRAY_LEN(branches),
		.protected_branches = protected_ones,
		.n_protected_branches = ARRAY_LEN(protected_ones),
		.tags = tags,
		.n_tags = ARRAY_LEN(tags),
		.is_head_protected = true,
	};
}

static void facts_make(struct refs_facts *f)
{
	struct err e = ERR_INIT;

	memset(f, 0, sizeof(*f));
	assert_int_equal(refs_facts_parse(f, STR_LIT(refs_text), &e), 0);
	assert_int_equal(f->n, 5);
	(void)snprintf(f->head, sizeof(f->head), "refs/heads/main");
}

static enum refs_reason decide(const struct git_remote *r, const struct refs_facts *f,
			       const struct check_update *u, const enum refs_type *types, size_t n,
			       size_t *which)
{
	const struct refs_input in = {r, f, u, types, n, follows, NULL};

	return refs_decide(&in, which);
}

static struct check_update update(const char *old_oid, const char *new_oid, const char *ref)
{
	struct check_update u;

	(void)snprintf(u.ref, sizeof(u.ref), "%s", ref);
	(void)snprintf(u.old_oid, sizeof(u.old_oid), "%s", old_oid);
	(void)snprintf(u.new_oid, sizeof(u.new_oid), "%s", new_oid);
	return u;
}

static void test_one_update(void **state)
{
	static const struct {
		const char *old_oid, *new_oid, *ref;
		enum refs_type type;
		enum refs_reason reason;
	} cases[] = {
		{ZERO, OID_B, "refs/heads/fix/new", REFS_TYPE_COMMIT, REFS_OK},
		{ZERO, OID_B, "refs/heads/agent/a/b/c", REFS_TYPE_COMMIT, REFS_OK},
		{OID_A, OID_B, "refs/heads/fix/a", REFS_TYPE_COMMIT, REFS_OK},
		{ZERO, OID_B, "refs/tags/v2", REFS_TYPE_TAG, REFS_OK},
		{ZERO, OID_B, "refs/tags/v2", REFS_TYPE_COMMIT, REFS_OK},
		/* names */
		{ZERO, OID_B, "refs/heads/fix/..", REFS_TYPE_COMMIT, REFS_NAME},
		{ZERO, OID_B, "refs/heads/-x", REFS_TYPE_COMMIT, REFS_NAME},
		{ZERO, OID_B, "refs/heads/fix/a.lock", REFS_TYPE_COMMIT, REFS_NAME},
		{ZERO, OID_B, "refs/heads", REFS_TYPE_COMMIT, REFS_NAMESPACE},
		{ZERO, OID_B, "refs/notes/commits", REFS_TYPE_COMMIT, REFS_NAMESPACE},
		{ZERO, OID_B, "refs/replace/" OID_A, REFS_TYPE_COMMIT, REFS_NAMESPACE},
		{ZERO, OID_B, "refs/meta/config", REFS_TYPE_COMMIT, REFS_NAMESPACE},
		{ZERO, OID_B, "refs/Heads/fix/x", REFS_TYPE_COMMIT, REFS_NAMESPACE},
		{ZERO, OID_B, "refs/heads/HEAD", REFS_TYPE_COMMIT, REFS_AMBIGUOUS},
		{ZERO, OID_B, "refs/heads/head", REFS_TYPE_COMMIT, REFS_AMBIGUOUS},
		{ZERO, OID_B, "refs/heads/FETCH_HEAD", REFS_TYPE_COMMIT, REFS_AMBIGUOUS},
		{ZERO, OID_B, "refs/heads/refs/tags/v1", REFS_TYPE_COMMIT, REFS_AMBIGUOUS},
		{ZERO, OID_B, "refs/heads/heads/fix/a", REFS_TYPE_COMMIT, REFS_AMBIGUOUS},
		{ZERO, OID_B, "refs/heads/" OID_A, REFS_TYPE_COMMIT, REFS_AMBIGUOUS},
		{ZERO, OID_B, "refs/tags/" OID_A, REFS_TYPE_COMMIT, REFS_AMBIGUOUS},
		{ZERO, OID_B, "refs/heads/fix/HEAD", REFS_TYPE_COMMIT, REFS_OK},
		/* what may be pushed */
		{ZERO, OID_B, "refs/heads/other", REFS_TYPE_COMMIT, REFS_BRANCH},
		{ZERO, OID_B, "refs/heads/fix/a/b", REFS_TYPE_COMMIT, REFS_BRANCH},
		{ZERO, OID_B, "refs/heads/Fix/x", REFS_TYPE_COMMIT, REFS_BRANCH},
		{ZERO, OID_B, "refs/heads/agent/locked", REFS_TYPE_COMMIT, REFS_PROTECTED},
		{ZERO, OID_B, "refs/heads/fix/no-1", REFS_TYPE_COMMIT, REFS_PROTECTED},
		{OID_A, OID_B, "refs/heads/main", REFS_TYPE_COMMIT, REFS_HEAD},
		{ZERO, OID_B, "refs/heads/MAIN", REFS_TYPE_COMMIT, REFS_HEAD},
		{ZERO, OID_B, "refs/tags/w2", REFS_TYPE_COMMIT, REFS_TAG},
		/* how */
		{OID_B, OID_C, "refs/tags/v1", REFS_TYPE_TAG, REFS_TAG_MOVE},
		{ZERO, OID_C, "refs/tags/v1", REFS_TYPE_TAG, REFS_TAG_MOVE},
		{OID_B, ZERO, "refs/tags/v1", REFS_TYPE_NONE, REFS_TAG_DELETE},
		{OID_A, ZERO, "refs/heads/fix/a", REFS_TYPE_NONE, REFS_DELETE},
		{OID_A, OID_C, "refs/heads/fix/a", REFS_TYPE_COMMIT, REFS_FORCE},
		{OID_B, OID_C, "refs/heads/fix/a", REFS_TYPE_COMMIT, REFS_STALE},
		{ZERO, OID_B, "refs/heads/fix/a", REFS_TYPE_COMMIT, REFS_STALE},
		{OID_A, OID_B, "refs/heads/fix/none", REFS_TYPE_COMMIT, REFS_STALE},
		{ZERO, OID_B, "refs/heads/fix/new", REFS_TYPE_TAG, REFS_TYPE},
		{ZERO, OID_B, "refs/heads/fix/new", REFS_TYPE_OTHER, REFS_TYPE},
		{ZERO, OID_B, "refs/tags/v2", REFS_TYPE_OTHER, REFS_TYPE},
		/* beside others */
		{ZERO, OID_B, "refs/heads/fix/A", REFS_TYPE_COMMIT, REFS_CASE},
		{ZERO, OID_B, "refs/heads/fix/dir", REFS_TYPE_COMMIT, REFS_CONFLICT},
		{ZERO, OID_B, "refs/heads/agent/one/two", REFS_TYPE_COMMIT, REFS_CONFLICT},
		{ZERO, OID_B, "refs/heads/agent/ONE/two", REFS_TYPE_COMMIT, REFS_CASE},
		{ZERO, OID_B, "refs/tags/V1", REFS_TYPE_COMMIT, REFS_TAG},
	};
	struct git_remote r = the_remote();
	struct refs_facts f;

	(void)state;
	facts_make(&f);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct check_update u = update(cases[i].old_oid, cases[i].new_oid, cases[i].ref);
		size_t which;
		enum refs_reason got = decide(&r, &f, &u, &cases[i].type, 1, &which);

		if (got != cases[i].reason)
			fail_msg("%s %s %s: %s", u.ref, u.old_oid, u.new_oid,
				 refs_reason_name(got));
	}
	refs_facts_free(&f);
}

static void test_switches(void **state)
{
	const enum refs_type commit = REFS_TYPE_COMMIT;
	struct check_update force = update(OID_A, OID_C, "refs/heads/fix/a");
	struct check_update gone = update(OID_A, ZERO, "refs/heads/fix/a");
	struct check_update head = update(OID_A, OID_B, "refs/heads/main");
	char *all[] = {"**"};
	struct git_remote r = the_remote();
	struct refs_facts f;
	size_t which;

	(void)state;
	facts_make(&f);
	r.may_force = true;
	assert_int_equal(decide(&r, &f, &force, &commit, 1, &which), REFS_OK);
	r.may_delete = true;
	assert_int_equal(decide(&r, &f, &gone, &commit, 1, &which), REFS_OK);
	r.branches = all;
	r.n_branches = 1;
	assert_int_equal(decide(&r, &f, &head, &commit, 1, &which), REFS_HEAD);
	f.head[0] = '\0'; /* not known: nothing is the default branch for certain */
	assert_int_equal(decide(&r, &f, &force, &commit, 1, &which), REFS_UNKNOWN);
	r.is_head_protected = false;
	assert_int_equal(decide(&r, &f, &head, &commit, 1, &which), REFS_OK);
	r.n_branches = 0;
	assert_int_equal(decide(&r, &f, &head, &commit, 1, &which), REFS_READ_ONLY);
	assert_int_equal(decide(&r, &f, &head, &commit, 0, &which), REFS_UNKNOWN);
	refs_facts_free(&f);
}

static void test_several(void **state)
{
	const enum refs_type commits[] = {REFS_TYPE_COMMIT, REFS_TYPE_COMMIT, REFS_TYPE_COMMIT};
	struct git_remote r = the_remote();
	struct check_update u[3];
	struct refs_facts f;
	size_t which;

	(void)state;
	facts_make(&f);
	u[0] = update(ZERO, OID_B, "refs/heads/fix/x");
	u[1] = update(ZERO, OID_B, "refs/heads/fix/y");
	u[2] = update(ZERO, OID_B, "refs/heads/bad");
	assert_int_equal(decide(&r, &f, u, commits, 2, &which), REFS_OK);
	assert_int_equal(decide(&r, &f, u, commits, 3, &which), REFS_BRANCH);
	assert_int_equal(which, 2);
	u[2] = u[0];
	assert_int_equal(decide(&r, &f, u, commits, 3, &which), REFS_DUPLICATE);
	u[1] = update(ZERO, OID_B, "refs/heads/fix/X");
	assert_int_equal(decide(&r, &f, u, commits, 2, &which), REFS_CASE);
	u[0] = update(ZERO, OID_B, "refs/heads/agent/p");
	u[1] = update(ZERO, OID_B, "refs/heads/agent/p/q");
	assert_int_equal(decide(&r, &f, u, commits, 2, &which), REFS_CONFLICT);
	u[0] = update(ZERO, OID_B, "refs/heads/agent/P/r");
	assert_int_equal(decide(&r, &f, u, commits, 2, &which), REFS_CASE);
	u[1] = update(ZERO, OID_B, "refs/heads/agent/pq");
	assert_int_equal(decide(&r, &f, u, commits, 2, &which), REFS_OK);
	refs_facts_free(&f);
}

static void test_facts(void **state)
{
	static const char *const bad[] = {
		"short", OID_A "refs/heads/a\n", OID_A " refs/heads/b\n" OID_A " refs/heads/a\n",
		OID_A " refs/heads/a\n" OID_A " refs/heads/a\n", OID_A " \n"};
	struct refs_facts f = {0};
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(refs_facts_parse(&f, STR_LIT(""), &e), 0);
	assert_int_equal(f.n, 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(refs_facts_parse(&f, str_of(bad[i]), &e), -EPROTO);
		refs_facts_free(&f);
	}
}

static void test_most_facts(void **state)
{
	struct refs_facts f = {0};
	struct err e = ERR_INIT;
	struct buf b;

	(void)state;
	buf_init(&b, 32u << 20);
	for (size_t i = 0; i < REFS_EXISTING_MAX; i++)
		assert_int_equal(buf_printf(&b, OID_A " refs/tags/%07zu\n", i), 0);
	assert_int_equal(refs_facts_parse(&f, buf_str(&b), &e), 0);
	refs_facts_free(&f);
	assert_int_equal(buf_printf(&b, OID_A " refs/tags/one-more\n"), 0);
	assert_int_equal(refs_facts_parse(&f, buf_str(&b), &e), -EPROTO);
	refs_facts_free(&f);
	buf_free(&b);
}

/* --- words --- */

static void test_words(void **state)
{
	struct check_finding f = {.kind = CHECK_SECRET,
				  .rule = "aws-key",
				  .commit = OID_A,
				  .path = "src/a.c",
				  .what = "blob",
				  .line = 7,
				  .fingerprint = "00112233445566778899aabbccddeeff",
				  .decoders = "base64"};
	char line[1400];

	(void)state;
	words_finding(&f, line, sizeof(line));
	assert_string_equal(
		line, "git-gate: refused: aws-key in src/a.c:7 of commit 1111111111 (blob, under "
		      "base64), fingerprint 00112233445566778899aabbccddeeff");
	f = (struct check_finding){.kind = CHECK_IDENTITY, .commit = OID_B, .what = "author"};
	words_finding(&f, line, sizeof(line));
	assert_string_equal(line, "git-gate: refused: identity of commit 2222222222 (author)");
	/* Nothing that moves a terminal, whoever has forgotten to look. */
	(void)snprintf(f.path, sizeof(f.path), "a\033[2J\nb\342\200\256c\377");
	words_finding(&f, line, sizeof(line));
	for (const char *p = line; *p; p++)
		assert_true((unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f);
	/* What is visible already stays as it is. */
	(void)snprintf(f.path, sizeof(f.path), "d\\x1b/\303\244");
	words_finding(&f, line, sizeof(line));
	assert_non_null(strstr(line, " in d\\x1b/\303\244 of commit"));
}

static void test_words_of_all(void **state)
{
	const struct git_policy policy = {.user_name = (char *)"A", .user_email = (char *)"a@b"};
	static struct check_report r;
	char text[16384], summary[160];
	size_t n = 0;
	ssize_t got;
	int pair[2];

	(void)state;
	memset(&r, 0, sizeof(r));
	r.n_findings = 3;
	r.n_more = 5;
	r.findings[0] =
		(struct check_finding){.kind = CHECK_SENSITIVE, .path = ".github/workflows/x.yml"};
	r.findings[1] = (struct check_finding){.kind = CHECK_SECRET, .rule = "token"};
	r.findings[2] = (struct check_finding){.kind = CHECK_IDENTITY, .commit = OID_A};
	assert_string_equal(words_reason(&r), "push-secret");
	words_summary(&r, summary, sizeof(summary));
	assert_non_null(strstr(summary, "8 findings"));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	words_findings(pair[1], &policy, &r);
	(void)close(pair[1]);
	while ((got = read(pair[0], text + n, sizeof(text) - n - 1)) > 0)
		n += (size_t)got;
	(void)close(pair[0]);
	assert_true(str_find(str_slice(text, n), STR_LIT("refused: token (")) < n);
	assert_true(str_find(str_slice(text, n), STR_LIT("sensitive in .github/workflows/x.yml")) <
		    n);
	assert_true(str_find(str_slice(text, n), STR_LIT("and 5 more")) < n);
	assert_true(str_find(str_slice(text, n), STR_LIT("`allow`")) < n);
	assert_true(str_find(str_slice(text, n), STR_LIT("user is A <a@b>")) < n);
	assert_true(str_find(str_slice(text, n), STR_LIT("nothing was forwarded")) < n);
	/* What stands against it for good is not to be asked for. */
	assert_true(str_find(str_slice(text, n), STR_LIT("request_")) == n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_update),   cmocka_unit_test(test_switches),
		cmocka_unit_test(test_several),	     cmocka_unit_test(test_facts),
		cmocka_unit_test(test_most_facts),   cmocka_unit_test(test_words),
		cmocka_unit_test(test_words_of_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
