/* What git-gate reads of upstreams, line by line, and how long it waits. The whole with git at the
 * other end is in tests/it/test_27 and test_28. */
#include "gitgate/advert.h"
#include "gitgate/pump.h"
#include "gitgate/push_report.h"
#include "gitgate/wire.h"

#include "base/clean.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define A "1111111111111111111111111111111111111111"
#define B "2222222222222222222222222222222222222222"
#define C "3333333333333333333333333333333333333333"

/* --- lines --- */

static void test_lines(void **state)
{
	static const struct {
		const char *text;
		ssize_t taken;
		enum wire_kind kind;
		const char *payload;
	} cases[] = {
		{"", 0, WIRE_DATA, ""},		  {"000", 0, WIRE_DATA, ""},
		{"0000x", 4, WIRE_FLUSH, ""},	  {"0001", 4, WIRE_DELIM, ""},
		{"0002", -EPROTO, WIRE_DATA, ""}, {"0003", -EPROTO, WIRE_DATA, ""},
		{"0004", 4, WIRE_DATA, ""},	  {"0006a", 0, WIRE_DATA, ""},
		{"0006ab0", 6, WIRE_DATA, "ab"},  {"000Aabcdef", 10, WIRE_DATA, "abcdef"},
		{"00g0", -EPROTO, WIRE_DATA, ""}, {"+00a", -EPROTO, WIRE_DATA, ""},
		{"fff0", 0, WIRE_DATA, ""},	  {"fff1", -EPROTO, WIRE_DATA, ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		enum wire_kind kind;
		struct str payload;
		ssize_t n = wire_next(str_of(cases[i].text), &kind, &payload);

		assert_int_equal(n, cases[i].taken);
		if (n > 0)
			assert_int_equal(kind, cases[i].kind);
		assert_true(str_eq(payload, str_of(cases[i].payload)));
	}
}

/* However the bytes are cut, the same is seen. */
static void test_walks_alike_however_cut(void **state)
{
	static const char good[] = "0008NAK\n"
				   "0006\1P"
				   "000a\2hello"
				   "000e\1ACK\0\0\0\2\0\0"
				   "0007\1\0\1"
				   "0000";
	static const char many[] = "0011\1PACK\0\0\0\2\377\0\0\0";
	static const char fatal[] = "000a\3no \033\n";

	(void)state;
	for (size_t cut = 1; cut < 12; cut++) {
		const struct {
			const char *p;
			size_t n;
			int code;
		} cases[] = {{good, sizeof(good) - 1, 0},
			     {many, sizeof(many) - 1, -EFBIG},
			     {fatal, sizeof(fatal) - 1, -EREMOTEIO}};

		for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
			struct wire_walk w;
			struct err e = ERR_INIT;
			int ret = 0;

			wire_walk_init(&w, 1000);
			for (size_t at = 0; ret == 0 && at < cases[i].n; at += cut)
				ret = wire_walk(
					&w,
					str_sub(str_slice(cases[i].p, cases[i].n), at, at + cut),
					&e);
			assert_int_equal(ret, cases[i].code);
			if (ret == 0)
				assert_true(w.is_flushed);
			if (ret == -EREMOTEIO)
				assert_string_equal(e.text, "it says: no \\x1b");
		}
	}
}

static void test_a_walk_ends_at_its_limit(void **state)
{
	struct wire_walk w;

	(void)state;
	wire_walk_init(&w, 10);
	assert_int_equal(wire_walk(&w, STR_LIT("000bab"), NULL), 0);
	assert_false(w.is_flushed);
	assert_int_equal(wire_walk(&w, STR_LIT("cdefg"), NULL), -EFBIG);
}

/* --- refs --- */

static int take(struct advert *a, const char *const *lines, struct err *e)
{
	int ret = 0;

	for (; ret == 0 && *lines; lines++)
		ret = advert_take_v2(a, str_of(*lines), e);
	return ret;
}

static void assert_refs(struct advert *a, const char *expected)
{
	struct buf out;

	buf_init(&out, 65536);
	for (size_t i = 0; i < a->n_refs; i++)
		assert_int_equal(buf_printf(&out, "%c" STR_FMT " ", a->refs[i].oid[0],
					    STR_ARG(advert_name(a, &a->refs[i]))),
				 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_string_equal(out.p + out.from, expected);
	buf_free(&out);
}

static void test_a_bottles_view(void **state)
{
	static const char *const lines[] = {
		A " HEAD symref-target:refs/heads/bottle/s/deep/x",
		A " refs/heads/main",
		B " refs/heads/bottle/s/main",
		B " refs/heads/bottle/s/deep/x",
		A " refs/heads/deep",	/* a file where the bottle has a folder */
		A " refs/heads/file/a", /* a folder where the bottle has a file */
		A " refs/heads/file/b/c",
		B " refs/heads/bottle/s/file",
		C " refs/heads/bottle/other/main",
		C " refs/heads/bottle/s2/main",
		C " refs/heads/bottle/s",
		C " refs/heads/bottler",
		A " refs/heads/deep-er",
		A " refs/tags/v1 peeled:" B,
		A " refs/tags/bottle/s/v2",
		A " refs/pull/1/head",
		NULL};
	_cleanup_(advert_free) struct advert a = {0};
	char head[GIT_REF_MAX + 1];

	(void)state;
	assert_int_equal(take(&a, lines, NULL), 0);
	assert_int_equal(advert_settle(&a, NULL), 0);
	assert_int_equal(advert_overlay(&a, "s", NULL), 0);
	assert_refs(&a,
		    "3refs/heads/bottler 1refs/heads/deep-er 2refs/heads/deep/x 2refs/heads/file "
		    "2refs/heads/main 1refs/tags/bottle/s/v2 1refs/tags/v1 ");
	advert_head(&a, head);
	assert_string_equal(head, "refs/heads/deep/x");
	assert_null(advert_find(&a, STR_LIT("refs/heads/bottle/s/main")));
	assert_string_equal(advert_find(&a, STR_LIT("refs/heads/main"))->oid, B);
}

/* More refs than anybody has, none of which is kept; and capabilities that go on for ever, of which
 * the first count. */
static void test_lists_end_at_their_limit(void **state)
{
	static const char first[] = B " refs/heads/b\0";
	_cleanup_(advert_free) struct advert many = {0}, able = {0};
	char line[3 * ADVERT_CAPS_MAX];
	size_t n = sizeof(first) - 1;

	(void)state;
	for (size_t i = 0; i < ADVERT_LINES_MAX; i++)
		assert_int_equal(advert_take_v2(&many, STR_LIT(A " refs/pull/1/head"), NULL), 0);
	assert_int_equal(advert_take_v2(&many, STR_LIT(A " refs/pull/1/head"), NULL), -EFBIG);
	memcpy(line, first, n);
	for (; n + 16 < sizeof(line); n += 8)
		memcpy(line + n, " abcdefg", 8);
	memcpy(line + n, " furthest", 9);
	assert_int_equal(advert_take_v0(&able, str_slice(line, n + 9), NULL), 0);
	assert_true(strlen(able.caps) < ADVERT_CAPS_MAX);
	assert_true(advert_has_cap(&able, "abcdefg") && !advert_has_cap(&able, "furthest"));
}

static void test_which_head(void **state)
{
	static const struct {
		const char *lines[6], *head;
	} cases[] = {
		{{A " HEAD symref-target:refs/heads/x", A " refs/heads/x", A " refs/heads/main"},
		 "refs/heads/x"},
		/* HEAD is hidden, gone, detached, or not there. */
		{{A " HEAD symref-target:refs/heads/y", A " refs/heads/x", B " refs/heads/main"},
		 "refs/heads/x"},
		{{A " HEAD", A " refs/heads/a", A " refs/heads/main"}, "refs/heads/main"},
		{{C " HEAD", A " refs/heads/a", A " refs/heads/master"}, "refs/heads/master"},
		{{A " refs/heads/b", A " refs/heads/a", A " refs/tags/main"}, "refs/heads/a"},
		{{A " refs/tags/main"}, ""},
		{{NULL}, ""},
		{{"unborn HEAD symref-target:refs/heads/trunk"}, "refs/heads/trunk"},
		{{"unborn HEAD symref-target:refs/heads/../../hooks/x"}, ""},
		{{"unborn HEAD symref-target:refs/tags/x"}, ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(advert_free) struct advert a = {0};
		char head[GIT_REF_MAX + 1];

		assert_int_equal(take(&a, cases[i].lines, NULL), 0);
		assert_int_equal(advert_settle(&a, NULL), 0);
		advert_head(&a, head);
		assert_string_equal(head, cases[i].head);
	}
}

static void test_what_git_is_given(void **state)
{
	static const char first[] =
		B " refs/heads/b\0 shallow deepen-since filter symref=HEAD:refs/heads/b "
		  "side-band-64k multi_ack_detailed agent=x ofs-delta push-options\n";
	_cleanup_(advert_free) struct advert a = {0};
	struct buf out;

	(void)state;
	assert_int_equal(advert_take_v0(&a, wire_chomp(str_slice(first, sizeof(first) - 1)), NULL),
			 0);
	assert_int_equal(advert_take_v0(&a, STR_LIT(A " refs/heads/a"), NULL), 0);
	assert_int_equal(advert_take_v0(&a, STR_LIT(A " .have"), NULL), 0);
	assert_int_equal(advert_settle(&a, NULL), 0);
	assert_true(advert_has_cap(&a, "push-options") && advert_has_cap(&a, "agent"));
	assert_false(advert_has_cap(&a, "push-option") || advert_has_cap(&a, "symref"));
	buf_init(&out, 4096);
	assert_int_equal(advert_put_v0(&a, false, &out, NULL), 0);
	/* Sorted, and nothing that would open another door. */
	static const char expected[] =
		"0066" A " refs/heads/a\0 side-band-64k ofs-delta multi_ack_detailed\n"
		"003a" B " refs/heads/b\n0000";
	assert_int_equal(buf_len(&out), sizeof(expected) - 1);
	assert_memory_equal(out.p + out.from, expected, sizeof(expected) - 1);
	buf_free(&out);
}

/* --- reports --- */

static void test_a_report_that_comes_in_crumbs(void **state)
{
	static const char text[] = "000eunpack ok\n0009ok x\n0010ng y no way\n0000";
	const char *const names[] = {"x", "y"};
	struct upstream_ref_result results[2];
	struct push_report p;

	(void)state;
	for (size_t cut = 1; cut < 8; cut++) {
		push_report_init(&p, true, names, 2, results, NULL);
		for (size_t at = 0; at < sizeof(text) - 1; at += cut) {
			char piece[16] = {1};
			struct str s = str_sub(str_slice(text, sizeof(text) - 1), at, at + cut);

			memcpy(piece + 1, s.p, s.n);
			assert_int_equal(
				push_report_take(&p, WIRE_DATA, str_slice(piece, s.n + 1), NULL),
				0);
		}
		assert_true(p.is_done && !p.is_ended);
		assert_int_equal(push_report_take(&p, WIRE_FLUSH, STR_NULL, NULL), 0);
		assert_int_equal(push_report_finish(&p), -EPERM);
		assert_true(results[0].is_ok && !results[1].is_ok && p.is_ended);
		assert_string_equal(results[1].reason, "no way");
		push_report_free(&p);
	}
}

/* What it says to people is cut, and does not go on for ever. */
static void test_a_report_that_says_too_much(void **state)
{
	const char *const names[] = {"x"};
	struct upstream_ref_result results[1];
	_cleanup_free_ char *band = calloc(1, 60000);
	struct push_report p;
	struct buf said;
	uint64_t n = 0;
	int ret = 0;

	(void)state;
	assert_non_null(band);
	memset(band, 'x', 60000);
	band[0] = 2;
	for (size_t i = 1000; i < 60000; i += 1000)
		band[i] = '\n';
	buf_init(&said, 2 * UPSTREAM_TEXT_MAX);
	push_report_init(&p, true, names, 1, results, &said);
	for (; ret == 0 && n < 2000; n++)
		ret = push_report_take(&p, WIRE_DATA, str_slice(band, 60000), NULL);
	assert_int_equal(ret, -EFBIG);
	assert_int_equal(n, PUSH_REPORT_MAX_BYTES * 64ull / 60004 + 1);
	assert_true(buf_len(&said) > UPSTREAM_TEXT_MAX / 2 && buf_len(&said) <= UPSTREAM_TEXT_MAX);
	assert_int_equal(str_chr(buf_str(&said), '\n'), PUSH_SAID_LINE_MAX);
	push_report_free(&p);
	buf_free(&said);
}

/* --- waiting --- */

static void pair(int out[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, out),
			 0);
}

static struct wire_clock clock_of(unsigned silence_ms, unsigned all_ms)
{
	return (struct wire_clock){time_monotonic_ns() + all_ms * TIME_NS_PER_MS, silence_ms, -1};
}

static void test_waits_end(void **state)
{
	struct wire_clock silent = clock_of(30, 10000), late = clock_of(10000, 30);
	struct err e = ERR_INIT;
	int ends[2], life[2];

	(void)state;
	pair(ends);
	assert_int_equal(wire_wait(&silent, ends[0], POLLIN, &e), -ETIMEDOUT);
	assert_non_null(strstr(e.text, "silent"));
	assert_int_equal(wire_wait(&late, ends[0], POLLIN, &e), -ETIMEDOUT);
	assert_non_null(strstr(e.text, "too long"));
	assert_int_equal(pipe2(life, O_CLOEXEC), 0);
	silent = clock_of(10000, 10000);
	silent.life_fd = life[1];
	(void)close(life[0]);
	assert_int_equal(wire_wait(&silent, ends[0], POLLIN, &e), -ECANCELED);
	(void)close(life[1]);
	(void)close(ends[0]);
	(void)close(ends[1]);
}

static struct pump_way *ways_between(int git, int upstream)
{
	struct pump_way *w = calloc(2, sizeof(*w));

	assert_non_null(w);
	w[0].from = w[1].to = git;
	w[0].to = w[1].from = upstream;
	return w;
}

static void test_a_pump_ends_when_one_side_is_silent(void **state)
{
	int git[2], upstream[2];
	struct wire_clock c = clock_of(50, 10000);
	_cleanup_free_ struct pump_way *w = NULL;

	(void)state;
	pair(git);
	pair(upstream);
	w = ways_between(git[1], upstream[0]);
	assert_int_equal(write(git[0], "x", 1), 1);
	assert_int_equal(pump_run(&w[0], &w[1], &c, 0, NULL), -ETIMEDOUT);
	/* git has ended, and the upstream does not: that is no error after a little while. */
	c = clock_of(10000, 10000);
	assert_int_equal(shutdown(git[0], SHUT_WR), 0);
	assert_int_equal(pump_run(&w[0], &w[1], &c, 50, NULL), 0);
	assert_true(w[0].is_from_done && !w[1].is_from_done);
	for (int i = 0; i < 2; i++) {
		(void)close(git[i]);
		(void)close(upstream[i]);
	}
}

/* The far side's end reaches git after all that came before; git's end reaches the far side. */
static void test_a_pump_passes_ends_on(void **state)
{
	int git[2], upstream[2];
	struct wire_clock c = clock_of(5000, 10000);
	_cleanup_free_ struct pump_way *w = NULL;
	char text[8];

	(void)state;
	pair(git);
	pair(upstream);
	w = ways_between(git[1], upstream[0]);
	assert_int_equal(write(git[0], "ask", 3), 3);
	assert_int_equal(shutdown(git[0], SHUT_WR), 0);
	assert_int_equal(write(upstream[1], "answer", 6), 6);
	assert_int_equal(shutdown(upstream[1], SHUT_WR), 0);
	assert_int_equal(pump_run(&w[0], &w[1], &c, 0, NULL), 0);
	assert_int_equal(read(git[0], text, sizeof(text)), 6);
	assert_int_equal(read(git[0], text, sizeof(text)), 0);
	assert_int_equal(read(upstream[1], text, sizeof(text)), 3);
	assert_int_equal(read(upstream[1], text, sizeof(text)), 0);
	for (int i = 0; i < 2; i++) {
		(void)close(git[i]);
		(void)close(upstream[i]);
	}
}

static void test_a_pump_ends_when_nobody_takes_anything(void **state)
{
	int git[2], upstream[2];
	struct wire_clock c = clock_of(5000, 10000);
	_cleanup_free_ struct pump_way *w = NULL;

	(void)state;
	pair(git);
	pair(upstream);
	w = ways_between(git[1], upstream[0]);
	(void)close(git[0]);
	assert_int_equal(write(upstream[1], "answer", 6), 6);
	assert_int_equal(pump_run(&w[0], &w[1], &c, 0, NULL), 0);
	(void)close(git[1]);
	(void)close(upstream[0]);
	(void)close(upstream[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_walks_alike_however_cut),
		cmocka_unit_test(test_a_walk_ends_at_its_limit),
		cmocka_unit_test(test_a_bottles_view),
		cmocka_unit_test(test_lists_end_at_their_limit),
		cmocka_unit_test(test_which_head),
		cmocka_unit_test(test_what_git_is_given),
		cmocka_unit_test(test_a_report_that_comes_in_crumbs),
		cmocka_unit_test(test_a_report_that_says_too_much),
		cmocka_unit_test(test_waits_end),
		cmocka_unit_test(test_a_pump_ends_when_one_side_is_silent),
		cmocka_unit_test(test_a_pump_passes_ends_on),
		cmocka_unit_test(test_a_pump_ends_when_nobody_takes_anything),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
