/* The base layer: slices, buffers with caps, visible text, descriptors, timers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/allowance.h"
#include "base/buf.h"
#include "base/io.h"
#include "base/siphash.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "net/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

static void test_str_numbers(void **state)
{
	uint64_t v;

	(void)state;
	assert_int_equal(str_to_u64(STR_LIT("65535"), 65535, &v), 0);
	assert_int_equal(v, 65535);
	assert_int_equal(str_to_u64(STR_LIT("65536"), 65535, &v), -ERANGE);
	assert_int_equal(str_to_u64(STR_LIT("18446744073709551616"), UINT64_MAX, &v), -ERANGE);
	assert_int_equal(str_to_u64(STR_LIT("18446744073709551615"), UINT64_MAX, &v), 0);
	assert_int_equal(str_to_u64(STR_LIT("+5"), 10, &v), -EINVAL);
	assert_int_equal(str_to_u64(STR_LIT(""), 10, &v), -EINVAL);
	assert_int_equal(str_to_u64(STR_LIT(" 5"), 10, &v), -EINVAL);
}

static void test_str_edges(void **state)
{
	char small[4];
	struct str head;
	bool found;

	(void)state;
	assert_true(str_to_cstr(small, sizeof(small), STR_LIT("abc")));
	assert_false(str_to_cstr(small, sizeof(small), STR_LIT("abcd")));
	assert_false(str_to_cstr(small, sizeof(small), str_slice("a\0b", 3)));
	assert_int_equal(small[0], '\0');
	assert_true(str_eq(str_cut(STR_LIT("a:b:c"), ':', &head, &found), STR_LIT("b:c")));
	assert_true(found && str_eq(head, STR_LIT("a")));
	(void)str_cut(STR_LIT("abc"), ':', &head, &found);
	assert_false(found);
	assert_true(str_ieq(STR_LIT("HoSt"), STR_LIT("hOsT")));
	assert_int_equal(str_find(STR_LIT("xxabc"), STR_LIT("abc")), 2);
	assert_int_equal(str_find(STR_LIT("ab"), STR_LIT("abc")), 2);
}

static void test_buf_cap(void **state)
{
	struct buf b;
	char kb[1024] = {0};

	(void)state;
	buf_init(&b, 2048);
	assert_int_equal(buf_append(&b, kb, 1024), 0);
	assert_int_equal(buf_append(&b, kb, 1024), 0);
	assert_int_equal(buf_append(&b, kb, 1), -ENOBUFS);
	assert_int_equal(buf_len(&b), 2048);
	buf_consume(&b, 100);
	assert_int_equal(buf_append(&b, kb, 100), 0);
	assert_null(buf_reserve(&b, 1));
	buf_reset(&b);
	assert_int_equal(buf_room(&b), 2048);
	buf_trim(&b);
	assert_null(b.p);
	buf_free(&b);
}

static void assert_visible(const char *in, size_t n, const char *want)
{
	char out[128];

	text_visible_cstr(out, sizeof(out), str_slice(in, n));
	assert_string_equal(out, want);
}

static void test_text_visible(void **state)
{
	char tiny[8];

	(void)state;
	assert_visible("plain é", 8, "plain é");
	assert_visible("\033]52;c;x\a", 9, "\\x1b]52;c;x\\x07");
	assert_visible("a\xe2\x80\xae"
		       "b",
		       5, "a\\u{202e}b"); /* right-to-left override */
	assert_visible("a\xe2\x80\x8b"
		       "b",
		       5, "a\\u{200b}b"); /* zero-width space */
	assert_visible("\xc2\x9b"
		       "31m",
		       5, "\\u{9b}31m");		      /* C1 CSI */
	assert_visible("\xc0\xaf", 2, "\\xc0\\xaf");	      /* overlong "/" */
	assert_visible("\xed\xa0\x80", 3, "\\xed\\xa0\\x80"); /* surrogate */
	assert_visible("a\0b", 3, "a\\x00b");
	text_visible_cstr(tiny, sizeof(tiny), STR_LIT("abcdefghijkl"));
	assert_string_equal(tiny, "abcd…");
}

/* Letters of every writing keep their marks; a pile of them is shown as what it is. */
static void test_text_visible_marks(void **state)
{
	static const char *const kept[] = {"e\u0301", "\u1ec7", "\u05e9\u05bc\u05b8\u05c1",
					   "\u0e17\u0e35\u0e48", "a\u0300\u0301\u0302\u0303"};
	char out[128], again[128];

	(void)state;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		text_visible_cstr(out, sizeof(out), str_of(kept[i]));
		assert_string_equal(out, kept[i]);
	}
	text_visible_cstr(out, sizeof(out), str_of("a\u0300\u0301\u0302\u0303\u0304\u20ddb\u0300"));
	assert_string_equal(out, "a\u0300\u0301\u0302\u0303\\u{304}\\u{20dd}b\u0300");
	text_visible_once_cstr(again, sizeof(again), str_of(out));
	assert_string_equal(again, out);
}

static void test_text_visible_once(void **state)
{
	static const char *const texts[] = {"plain \\ é", "a\033b\\c", "line\n\\x1b", "\\u{202e}",
					    "\xe2\x80\xae\\"};
	char once[64], twice[64], tiny[8];

	(void)state;
	text_visible_once_cstr(once, sizeof(once), STR_LIT("\\x1b[31m \\\\ é"));
	assert_string_equal(once, "\\x1b[31m \\\\ é");
	/* One character that is not visible, and nobody has been here before. */
	text_visible_once_cstr(once, sizeof(once), STR_LIT("\\x1b\033"));
	assert_string_equal(once, "\\\\x1b\\x1b");
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		text_visible_cstr(once, sizeof(once), str_of(texts[i]));
		text_visible_once_cstr(twice, sizeof(twice), str_of(once));
		assert_string_equal(once, twice);
	}
	text_visible_once_cstr(tiny, sizeof(tiny), STR_LIT("\\\\\\\\\\\\\\\\"));
	assert_string_equal(tiny, "\\\\\\\\…");
}

static void test_text_json(void **state)
{
	_cleanup_(buf_free) struct buf b;

	(void)state;
	buf_init(&b, 4096);
	assert_int_equal(text_json(&b, str_slice("a\"\\\n\xe2\x80\xae\xff", 8)), 0);
	assert_true(str_eq(buf_str(&b), STR_LIT("\"a\\\"\\\\\\u000a\\u202e\\ufffd\"")));
}

static void test_text_nearest(void **state)
{
	static const char *const keys[] = {"methods", "paths", "ports", "host"};

	(void)state;
	assert_string_equal(text_nearest(STR_LIT("method"), keys, 4), "methods");
	assert_string_equal(text_nearest(STR_LIT("prots"), keys, 4), "ports");
	assert_null(text_nearest(STR_LIT("zzzzzz"), keys, 4));
	assert_int_equal(text_distance(STR_LIT("ab"), STR_LIT("ba")), 1);
}

static void test_io_pass_fds(void **state)
{
	int pair[2], got[2];
	size_t n = 1;
	char byte;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(io_send_fds(pair[0], "x", 1, (int[]){0, 1}, 2, 0), 1);
	/* One more than allowed: all are closed, and it is an error. */
	assert_int_equal(io_recv_fds(pair[1], &byte, 1, got, &n, 0), -EPROTO);
	assert_int_equal(n, 0);
	assert_int_equal(io_send_fds(pair[0], "x", 1, (int[]){0, 1}, 2, 0), 1);
	n = 2;
	assert_int_equal(io_recv_fds(pair[1], &byte, 1, got, &n, 0), 1);
	assert_int_equal(n, 2);
	assert_int_equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	close(got[0]);
	close(got[1]);
	assert_int_equal(io_send_fds(pair[0], "xyz", 3, NULL, 0, 0), 3);
	assert_int_equal(io_recv_fds(pair[1], &byte, 1, NULL, NULL, 0), -EMSGSIZE);
	close(pair[0]);
	close(pair[1]);
}

static void test_io_remove_tree(void **state)
{
	char dir[] = "/tmp/cb-base-XXXXXX";
	char path[128], outside[] = "/tmp/cb-base-file-XXXXXX";
	int outside_fd = mkstemp(outside);

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/a/b/c", dir);
	assert_int_equal(io_mkdir_p(path, 0700, NULL), 0);
	(void)snprintf(path, sizeof(path), "%s/a/link", dir);
	assert_int_equal(symlink(outside, path), 0);
	assert_int_equal(io_remove_tree(AT_FDCWD, dir, NULL), 0);
	assert_int_equal(access(dir, F_OK), -1);
	assert_int_equal(access(outside, F_OK), 0);
	close(outside_fd);
	unlink(outside);
	assert_int_equal(io_remove_tree(AT_FDCWD, dir, NULL), 0);
}

/* What a hostile agent may leave: far deeper than descriptors or a path's length would reach. */
static void test_io_remove_deep_tree(void **state)
{
	char dir[] = "/tmp/base-deep-XXXXXX";
	int at;

	(void)state;
	assert_non_null(mkdtemp(dir));
	at = open(dir, O_RDONLY | O_DIRECTORY);
	for (unsigned i = 0; i < 3000; i++) {
		int next;

		assert_int_equal(mkdirat(at, "d", 0700), 0);
		next = openat(at, "d", O_RDONLY | O_DIRECTORY);
		assert_true(next >= 0);
		if (i % 50 == 0)
			assert_int_equal(fchmod(at, 0), 0);
		(void)close(at);
		at = next;
	}
	(void)close(at);
	assert_int_equal(io_remove_tree(AT_FDCWD, dir, NULL), 0);
	assert_int_equal(access(dir, F_OK), -1);
}

static void test_allowance(void **state)
{
	struct allowance a = {.burst = 3, .per_second = 10, .left = 3, .earned_ns = 1000};
	uint64_t now_ns = 1000;

	(void)state;
	for (; allowance_has(&a, now_ns); a.left--)
		;
	assert_int_equal(a.left, 0);
	/* A tenth of a second is one, and what is over is not lost. */
	assert_false(allowance_has(&a, now_ns += 99 * TIME_NS_PER_MS));
	assert_true(allowance_has(&a, now_ns += 71 * TIME_NS_PER_MS));
	a.left--;
	assert_true(allowance_has(&a, now_ns += 30 * TIME_NS_PER_MS));
	assert_int_equal(a.left, 1);
	/* Never more than at once, however long nobody asked. */
	assert_true(allowance_has(&a, now_ns += 3600 * TIME_NS_PER_SEC));
	assert_int_equal(a.left, 3);
}

static void test_has_deceptive(void **state)
{
	(void)state;
	assert_false(text_has_deceptive(STR_LIT("")));
	assert_false(text_has_deceptive(STR_LIT("caf\xc3\xa9 x")));
	assert_true(text_has_deceptive(STR_LIT("a\xe2\x80\xae")));
	assert_true(text_has_deceptive(STR_LIT("a\xc3")));
	assert_true(text_has_deceptive(STR_LIT("a\x1b")));
}

/* Of the paper's appendix: fifteen bytes 0, 1, 2 … under the key 0, 1, 2 … */
static void test_siphash(void **state)
{
	uint8_t bytes[16];
	uint64_t key[2], first;

	(void)state;
	for (uint8_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = i;
	memcpy(key, bytes, sizeof(key));
	memcpy(&first, bytes, sizeof(first));
	assert_true(siphash(key, first, str_slice(bytes + 8, 7)) == UINT64_C(0xa129ca6149be45e5));
}

static void test_time_format(void **state)
{
	char out[TIME_RFC3339_SIZE];

	(void)state;
	time_format_rfc3339(0, out);
	assert_string_equal(out, "1970-01-01T00:00:00.000Z");
	time_format_rfc3339(UINT64_C(951782399) * TIME_NS_PER_SEC, out);
	assert_string_equal(out, "2000-02-28T23:59:59.000Z");
	time_format_rfc3339(UINT64_C(951782400) * TIME_NS_PER_SEC, out);
	assert_string_equal(out, "2000-02-29T00:00:00.000Z");
	time_format_rfc3339(UINT64_C(4107542399999) * TIME_NS_PER_MS, out);
	assert_string_equal(out, "2100-02-28T23:59:59.999Z");
	time_format_rfc3339(UINT64_C(4107542400000) * TIME_NS_PER_MS, out);
	assert_string_equal(out, "2100-03-01T00:00:00.000Z");
}

static struct {
	struct loop *loop;
	struct loop_timer timers[3];
	int order[3], n;
	struct loop_watch watches[2];
	int calls;
} fixture;

static void on_timer(struct loop_timer *t)
{
	fixture.order[fixture.n++] = (int)(t - fixture.timers);
	if (fixture.n == 2)
		loop_stop(fixture.loop, 7);
}

static void test_loop_timers(void **state)
{
	(void)state;
	memset(&fixture, 0, sizeof(fixture));
	fixture.loop = loop_new(NULL);
	for (int i = 0; i < 3; i++)
		fixture.timers[i].fn = on_timer;
	loop_timer_set(fixture.loop, &fixture.timers[0], 20);
	loop_timer_set(fixture.loop, &fixture.timers[1], 10);
	loop_timer_set(fixture.loop, &fixture.timers[2], 1);
	loop_timer_set(fixture.loop, &fixture.timers[2], 5);
	loop_timer_del(fixture.loop, &fixture.timers[1]);
	assert_int_equal(loop_run(fixture.loop), 7);
	assert_int_equal(fixture.order[0], 2);
	assert_int_equal(fixture.order[1], 0);
	loop_free(fixture.loop);
}

/* Whichever of two ready watches comes first deletes the other, which then must not be called. */
static void on_ready(struct loop_watch *w, uint32_t events)
{
	(void)events;
	fixture.calls++;
	loop_del(fixture.loop,
		 w == &fixture.watches[0] ? &fixture.watches[1] : &fixture.watches[0]);
	loop_stop(fixture.loop, 0);
}

static void test_loop_delete_in_batch(void **state)
{
	int a[2], b[2];

	(void)state;
	memset(&fixture, 0, sizeof(fixture));
	fixture.loop = loop_new(NULL);
	assert_int_equal(pipe(a), 0);
	assert_int_equal(pipe(b), 0);
	fixture.watches[0].fn = fixture.watches[1].fn = on_ready;
	assert_int_equal(loop_add(fixture.loop, &fixture.watches[0], a[0], EPOLLIN, NULL), 0);
	assert_int_equal(loop_add(fixture.loop, &fixture.watches[1], b[0], EPOLLIN, NULL), 0);
	assert_int_equal(write(a[1], "x", 1), 1);
	assert_int_equal(write(b[1], "x", 1), 1);
	(void)loop_run(fixture.loop);
	assert_int_equal(fixture.calls, 1);
	loop_free(fixture.loop);
	close(a[0]);
	close(a[1]);
	close(b[0]);
	close(b[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_str_numbers),
		cmocka_unit_test(test_str_edges),
		cmocka_unit_test(test_buf_cap),
		cmocka_unit_test(test_text_visible),
		cmocka_unit_test(test_text_visible_marks),
		cmocka_unit_test(test_text_visible_once),
		cmocka_unit_test(test_text_json),
		cmocka_unit_test(test_text_nearest),
		cmocka_unit_test(test_io_pass_fds),
		cmocka_unit_test(test_io_remove_tree),
		cmocka_unit_test(test_io_remove_deep_tree),
		cmocka_unit_test(test_allowance),
		cmocka_unit_test(test_has_deceptive),
		cmocka_unit_test(test_siphash),
		cmocka_unit_test(test_time_format),
		cmocka_unit_test(test_loop_timers),
		cmocka_unit_test(test_loop_delete_in_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
