/* pkt-lines, the head of a push, and what the hook sends: cut anywhere, and wrong in every place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "gitgate/commands.h"
#include "gitgate/hook.h"
#include "gitgate/pkt.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#define OID_A "1111111111111111111111111111111111111111"
#define OID_B "2222222222222222222222222222222222222222"
#define ZERO  COMMANDS_ZERO_OID

static struct commands c;

static int setup(void **state)
{
	(void)state;
	commands_init(&c, 1000);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	commands_free(&c);
	return 0;
}

/* --- pkt-lines --- */

static void test_pkt_kinds(void **state)
{
	static const struct {
		const char *in;
		enum pkt_kind kind;
		size_t used;
	} cases[] = {
		{"0000", PKT_FLUSH, 4},	      {"0001x", PKT_DELIM, 4}, {"0002", PKT_END, 4},
		{"0003", PKT_BAD, 0},	      {"0004", PKT_DATA, 4},   {"0005a", PKT_DATA, 5},
		{"0006a", PKT_MORE, 0},	      {"", PKT_MORE, 0},       {"00", PKT_MORE, 0},
		{"0g", PKT_BAD, 0},	      {"-001", PKT_BAD, 0},    {" 004", PKT_BAD, 0},
		{"fff1", PKT_BAD, 0},	      {"FFF0", PKT_MORE, 0},   {"0x04", PKT_BAD, 0},
		{"000Aabcdef", PKT_DATA, 10},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct str data;
		size_t used;

		if (pkt_next(str_of(cases[i].in), &data, &used) != cases[i].kind ||
		    used != cases[i].used)
			fail_msg("%s", cases[i].in);
	}
}

static void test_pkt_write(void **state)
{
	struct buf out;
	struct str data;
	size_t used;
	char *large = mem_zalloc(PKT_DATA_MAX + 1);

	(void)state;
	buf_init(&out, PKT_MAX_BYTES);
	assert_int_equal(pkt_write(&out, STR_LIT("hello")), 0);
	assert_int_equal(pkt_write_flush(&out), 0);
	assert_true(str_eq(buf_str(&out), STR_LIT("0009hello0000")));
	assert_int_equal(pkt_write(&out, str_slice(large, PKT_DATA_MAX + 1)), -EMSGSIZE);
	assert_int_equal(pkt_write(&out, str_slice(large, PKT_DATA_MAX)), -ENOBUFS);
	assert_int_equal(buf_len(&out), 13);
	buf_reset(&out);
	assert_int_equal(pkt_write(&out, str_slice(large, PKT_DATA_MAX)), 0);
	assert_int_equal(pkt_next(buf_str(&out), &data, &used), PKT_DATA);
	assert_int_equal(used, PKT_MAX_BYTES);
	buf_free(&out);
	free(large);
}

/* --- the head of a push --- */

static void put(struct buf *b, const char *line, const char *capabilities)
{
	char text[4096];
	int n = snprintf(text, sizeof(text), "%s%c%s", line, '\0',
			 capabilities ? capabilities : "");

	assert_int_equal(pkt_write(b, str_slice(text, capabilities ? (size_t)n : strlen(line))), 0);
}

#define CAPS                                                                                       \
	" report-status-v2 side-band-64k quiet atomic ofs-delta object-format=sha1 agent=git/2.39"
#define NEW  ZERO " " OID_A " refs/heads/fix/a"
#define MOVE OID_A " " OID_B " refs/heads/b"
#define GONE OID_A " " ZERO " refs/heads/c"

static void put_pack(struct buf *b, uint32_t version, uint32_t objects, size_t more)
{
	const char header[12] = {'P',
				 'A',
				 'C',
				 'K',
				 0,
				 0,
				 0,
				 (char)version,
				 (char)(objects >> 24),
				 (char)(objects >> 16),
				 (char)(objects >> 8),
				 (char)objects};

	assert_int_equal(buf_append(b, header, sizeof(header)), 0);
	for (size_t i = 0; i < more; i++)
		assert_int_equal(buf_append(b, "x", 1), 0);
}

/* step: bytes a time. Nothing may come out before the head is whole, and then exactly the input. */
static enum commands_reason feed(struct str in, size_t step, struct buf *out)
{
	enum commands_reason r = COMMANDS_OK;

	buf_reset(out);
	for (size_t at = 0; at < in.n && r == COMMANDS_OK; at += step) {
		r = commands_feed(&c, str_sub(in, at, at + step), out);
		if (c.state != COMMANDS_PACK && c.state != COMMANDS_END)
			assert_int_equal(buf_len(out), 0);
	}
	return r == COMMANDS_OK ? commands_end(&c) : r;
}

static void test_good_in_all_cuts(void **state)
{
	struct buf in, out;

	(void)state;
	buf_init(&in, 65536);
	buf_init(&out, 2 * COMMANDS_HEAD_MAX);
	put(&in, "shallow " OID_B, NULL);
	put(&in, NEW, CAPS);
	put(&in, MOVE "\n", NULL);
	put(&in, GONE, NULL);
	assert_int_equal(pkt_write_flush(&in), 0);
	put_pack(&in, 2, 3, 100);
	for (size_t step = 1; step <= buf_len(&in); step++) {
		commands_free(&c);
		commands_init(&c, 1000);
		buf_reset(&out);
		assert_int_equal(feed(buf_str(&in), step, &out), COMMANDS_OK);
		assert_true(str_eq(buf_str(&out), buf_str(&in)));
		assert_int_equal(c.n_updates, 3);
		assert_int_equal(c.n_objects, 3);
		assert_int_equal(c.n_shallow, 1);
		assert_int_equal(c.pack_bytes, 112);
		assert_true(c.is_atomic && c.has_report && c.has_side_band && c.is_quiet);
		assert_string_equal(c.updates[0].ref, "refs/heads/fix/a");
		assert_string_equal(c.updates[1].ref, "refs/heads/b");
		assert_string_equal(c.updates[1].old_oid, OID_A);
		assert_string_equal(c.updates[2].new_oid, ZERO);
	}
	buf_free(&in);
	buf_free(&out);
}

static void test_without_pack(void **state)
{
	struct buf in, out;

	(void)state;
	buf_init(&in, 65536);
	buf_init(&out, 2 * COMMANDS_HEAD_MAX);
	put(&in, GONE, " report-status");
	assert_int_equal(pkt_write_flush(&in), 0);
	assert_int_equal(feed(buf_str(&in), 7, &out), COMMANDS_OK);
	assert_int_equal(c.state, COMMANDS_END);
	assert_int_equal(commands_feed(&c, STR_LIT("P"), &out), COMMANDS_TRAILING);
	commands_free(&c);
	commands_init(&c, 1000);
	assert_int_equal(feed(STR_LIT("0000"), 1, &out), COMMANDS_OK);
	assert_int_equal(c.n_updates, 0);
	commands_free(&c);
	commands_init(&c, 1000);
	assert_int_equal(feed(STR_LIT("00000000"), 8, &out), COMMANDS_TRAILING);
	buf_free(&in);
	buf_free(&out);
}

static void test_bad_heads(void **state)
{
	static const struct {
		const char *line, *capabilities, *second;
		enum commands_reason reason;
	} cases[] = {
		{NEW, "", NULL, COMMANDS_OK},
		{NEW, NULL, NULL, COMMANDS_OK},
		{NEW, " push-options", NULL, COMMANDS_PUSH_OPTIONS},
		{NEW, " push-cert=x", NULL, COMMANDS_PUSH_CERT},
		{NEW, " object-format=sha256", NULL, COMMANDS_OBJECT_FORMAT},
		{NEW, " object-format", NULL, COMMANDS_BAD_CAPABILITY},
		{NEW, " side-band", NULL, COMMANDS_BAD_CAPABILITY},
		{NEW, " report-status=1", NULL, COMMANDS_BAD_CAPABILITY},
		{NEW, " agent=a\033[b", NULL, COMMANDS_BAD_CAPABILITY},
		{NEW, " agent=git\nx", NULL, COMMANDS_BAD_CAPABILITY},
		{NEW, "", MOVE "\n\n", COMMANDS_BAD_REF},
		{NEW, "", NEW, COMMANDS_BAD_COMMAND}, /* twice */
		{"push-cert", " x", NULL, COMMANDS_PUSH_CERT},
		{"shallow " OID_A " ", NULL, NULL, COMMANDS_BAD_SHALLOW},
		{"shallow 123", NULL, NULL, COMMANDS_BAD_SHALLOW},
		{NEW, "", "shallow " OID_A, COMMANDS_BAD_SHALLOW},
		{ZERO " " ZERO " refs/heads/a", "", NULL, COMMANDS_BAD_COMMAND},
		{ZERO " " OID_A "refs/heads/a", "", NULL, COMMANDS_BAD_COMMAND},
		{ZERO "  " OID_A " refs/heads/a", "", NULL, COMMANDS_BAD_COMMAND},
		{"0 1 refs/heads/a", "", NULL, COMMANDS_BAD_COMMAND},
		{"G000000000000000000000000000000000000000 " OID_A " refs/heads/a", "", NULL,
		 COMMANDS_BAD_COMMAND},
		{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA " OID_A " refs/heads/a", "", NULL,
		 COMMANDS_BAD_COMMAND},
		{ZERO " " OID_A " ", "", NULL, COMMANDS_BAD_COMMAND},
		{ZERO " " OID_A " -x", "", NULL, COMMANDS_BAD_REF},
		{ZERO " " OID_A " HEAD", "", NULL, COMMANDS_BAD_REF},
		{ZERO " " OID_A " refs/heads/../a", "", NULL, COMMANDS_BAD_REF},
		{ZERO " " OID_A " refs/heads/a b", "", NULL, COMMANDS_BAD_REF},
		{ZERO " " OID_A " refs/heads/a.lock", "", NULL, COMMANDS_BAD_REF},
		{ZERO " " OID_A " refs/heads/\342\200\256x", "", NULL, COMMANDS_BAD_REF},
		{ZERO " " OID_A " refs/heads/\033[31m", "", NULL, COMMANDS_BAD_REF},
		{"", NULL, NULL, COMMANDS_BAD_COMMAND},
	};
	struct buf in, out;

	(void)state;
	buf_init(&in, 65536);
	buf_init(&out, 2 * COMMANDS_HEAD_MAX);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		enum commands_reason r;

		commands_free(&c);
		commands_init(&c, 1000);
		buf_reset(&in);
		buf_reset(&out);
		put(&in, cases[i].line, cases[i].capabilities);
		if (cases[i].second)
			put(&in, cases[i].second, NULL);
		assert_int_equal(pkt_write_flush(&in), 0);
		put_pack(&in, 2, 1, 10);
		r = feed(buf_str(&in), 50, &out);
		if (r != cases[i].reason)
			fail_msg("case %zu: %s, not %s", i, commands_reason_name(r),
				 commands_reason_name(cases[i].reason));
		if (r != COMMANDS_OK)
			assert_int_equal(buf_len(&out), 0);
	}
	buf_free(&in);
	buf_free(&out);
}

static void test_capabilities_once(void **state)
{
	struct buf in, out;

	(void)state;
	buf_init(&in, 65536);
	buf_init(&out, 2 * COMMANDS_HEAD_MAX);
	put(&in, NEW, " quiet");
	put(&in, MOVE, " atomic");
	assert_int_equal(feed(buf_str(&in), 1000, &out), COMMANDS_BAD_COMMAND);
	buf_free(&in);
	buf_free(&out);
}

static void test_bad_packs(void **state)
{
	static const struct {
		uint32_t version, objects;
		size_t more;
		enum commands_reason reason;
	} cases[] = {
		{2, 0, 20, COMMANDS_OK},
		{3, 1, 20, COMMANDS_BAD_PACK},
		{0, 1, 20, COMMANDS_BAD_PACK},
		{2, CHECK_OBJECTS_MAX, 20, COMMANDS_OK},
		{2, CHECK_OBJECTS_MAX + 1, 20, COMMANDS_TOO_MANY_OBJECTS},
		{2, UINT32_MAX, 20, COMMANDS_TOO_MANY_OBJECTS},
		{2, 1, 1000 - 12, COMMANDS_OK},
		{2, 1, 1001 - 12, COMMANDS_PACK_TOO_LARGE},
	};
	struct buf in, out;

	(void)state;
	buf_init(&in, 65536);
	buf_init(&out, 2 * COMMANDS_HEAD_MAX);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		commands_free(&c);
		commands_init(&c, 1000);
		buf_reset(&in);
		buf_reset(&out);
		put(&in, NEW, "");
		assert_int_equal(pkt_write_flush(&in), 0);
		put_pack(&in, cases[i].version, cases[i].objects, cases[i].more);
		assert_int_equal(feed(buf_str(&in), 9, &out), cases[i].reason);
	}
	buf_reset(&in);
	put(&in, NEW, "");
	assert_int_equal(pkt_write_flush(&in), 0);
	commands_free(&c);
	commands_init(&c, 1000);
	assert_int_equal(feed(buf_str(&in), 1, &out), COMMANDS_CUT);
	buf_free(&in);
	buf_free(&out);
}

static void test_caps(void **state)
{
	struct buf in, out;
	char line[400];

	(void)state;
	buf_init(&in, 1u << 20);
	buf_init(&out, 2 * COMMANDS_HEAD_MAX);
	for (size_t i = 0; i <= CHECK_UPDATES_MAX; i++) {
		(void)snprintf(line, sizeof(line), ZERO " " OID_A " refs/heads/%zu", i);
		put(&in, line, NULL);
	}
	assert_int_equal(feed(buf_str(&in), 65536, &out), COMMANDS_TOO_MANY);
	commands_free(&c);
	commands_init(&c, 1000);
	buf_reset(&in);
	for (size_t i = 0; i <= COMMANDS_SHALLOW_MAX; i++)
		put(&in, "shallow " OID_A, NULL);
	assert_int_equal(feed(buf_str(&in), 65536, &out), COMMANDS_TOO_MANY);
	/* One that never ends. */
	commands_free(&c);
	commands_init(&c, 1000);
	assert_int_equal(feed(STR_LIT("fff0xxxxxxxx"), 1, &out), COMMANDS_CUT);
	buf_free(&in);
	buf_free(&out);
}

/* One command with n bytes more: of one capability, or of many. */
static enum commands_reason feed_capabilities(struct buf *in, struct buf *out, size_t n,
					      bool is_one)
{
	char caps[2 * COMMANDS_LINE_MAX];

	for (size_t i = 0; i < n; i++)
		caps[i] = is_one ? "x agent="[i < 8 ? (i + 1) % 8 : 0] : " quiet"[i % 6];
	caps[n] = '\0';
	commands_free(&c);
	commands_init(&c, 1000);
	buf_reset(in);
	put(in, NEW, caps);
	assert_int_equal(pkt_write_flush(in), 0);
	put_pack(in, 2, 1, 20);
	return feed(buf_str(in), 65536, out);
}

static void test_caps_of_a_line(void **state)
{
	/* Before the capabilities a NUL byte; one word of six bytes ends the longest line. */
	const size_t most = (COMMANDS_LINE_MAX - strlen(NEW) - 1) / 6 * 6;
	struct buf in, out;

	(void)state;
	buf_init(&in, 65536);
	buf_init(&out, 2 * COMMANDS_HEAD_MAX);
	assert_int_equal(feed_capabilities(&in, &out, 1 + COMMANDS_CAPABILITY_MAX, true),
			 COMMANDS_OK);
	assert_int_equal(feed_capabilities(&in, &out, 2 + COMMANDS_CAPABILITY_MAX, true),
			 COMMANDS_BAD_CAPABILITY);
	assert_int_equal(feed_capabilities(&in, &out, most, false), COMMANDS_OK);
	assert_int_equal(feed_capabilities(&in, &out, most + 6, false), COMMANDS_TOO_LARGE);
	buf_free(&in);
	buf_free(&out);
}

/* --- the hook's request --- */

static void hook_bytes(struct buf *b, const char *path, const char *list, int more)
{
	struct hook_head head = {HOOK_MAGIC, (uint32_t)strlen(path),
				 (uint32_t)((int)strlen(list) + more)};

	buf_reset(b);
	assert_int_equal(buf_append(b, &head, sizeof(head)), 0);
	assert_int_equal(buf_append_str(b, str_of(path)), 0);
	assert_int_equal(buf_append_str(b, str_of(list)), 0);
}

static void test_hook_request(void **state)
{
	static const struct {
		const char *path, *list;
		int more, ret;
		size_t n;
	} cases[] = {
		{"/r.git/./objects/incoming-x", NEW "\n" MOVE "\n", 0, 0, 2},
		{"", GONE "\n", 0, 0, 1},
		{"/a/objects/x", "", 0, 0, 0},
		{"/a/objects/x", NEW "\n", 1, -EPROTO, 0},  /* cut */
		{"/a/objects/x", NEW "\n", -1, -EPROTO, 0}, /* too much */
		{"relative/objects/x", NEW "\n", 0, -EPROTO, 0},
		{"/a/objects/../x", NEW "\n", 0, -EPROTO, 0},
		{"/a/b", NEW "\n", 0, -EPROTO, 0},
		{"/a/objects/x", "garbage\n", 0, -EPROTO, 0},
		{"/a/objects/x", OID_A " " OID_B "\n", 0, -EPROTO, 0},
	};
	struct hook_request *r = mem_zalloc(sizeof(*r));
	struct err e = ERR_INIT;
	struct buf b;

	(void)state;
	buf_init(&b, 65536);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int ret;

		hook_bytes(&b, cases[i].path, cases[i].list, cases[i].more);
		hook_request_init(r);
		ret = hook_request_parse(r, buf_str(&b), &e);
		if (ret != cases[i].ret || (ret == 0 && r->n_updates != cases[i].n))
			fail_msg("case %zu: %d", i, ret);
		hook_request_free(r);
	}
	buf_free(&b);
	free(r);
}

static void test_hook_caps(void **state)
{
	struct hook_head heads[] = {{HOOK_MAGIC, HOOK_PATH_MAX, 0},
				    {HOOK_MAGIC, 0, HOOK_LIST_MAX + 1}};
	struct hook_request *r = mem_zalloc(sizeof(*r));
	struct err e = ERR_INIT;
	struct buf list;

	(void)state;
	/* Before any of it has come. */
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		hook_request_init(r);
		e = ERR_INIT;
		assert_int_equal(
			hook_request_parse(r, str_slice((char *)&heads[i], sizeof(heads[i])), &e),
			-EPROTO);
		assert_non_null(strstr(e.text, "cannot be read"));
		hook_request_free(r);
	}
	for (size_t n = CHECK_UPDATES_MAX; n <= CHECK_UPDATES_MAX + 1; n++) {
		struct hook_head head = {HOOK_MAGIC, 0, 0};

		buf_init(&list, HOOK_LIST_MAX);
		assert_int_equal(buf_append(&list, &head, sizeof(head)), 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(buf_printf(&list, ZERO " " OID_A " refs/heads/%zu\n", i),
					 0);
		head.list_bytes = (uint32_t)(buf_len(&list) - sizeof(head));
		memcpy(list.p + list.from, &head, sizeof(head));
		hook_request_init(r);
		assert_int_equal(hook_request_parse(r, buf_str(&list), &e),
				 n <= CHECK_UPDATES_MAX ? 0 : -E2BIG);
		hook_request_free(r);
		buf_free(&list);
	}
	free(r);
}

/* In pieces, over a socket; and an end without a request is nobody's. */
static void test_hook_socket(void **state)
{
	struct hook_request *r = mem_zalloc(sizeof(*r));
	struct err e = ERR_INIT;
	struct buf b;
	int pair[2];

	(void)state;
	buf_init(&b, 65536);
	hook_bytes(&b, "/a/objects/x", NEW "\n", 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	hook_request_init(r);
	for (size_t i = 0; i < buf_len(&b); i++) {
		assert_false(r->is_complete);
		assert_int_equal(write(pair[1], buf_str(&b).p + i, 1), 1);
		assert_int_equal(hook_request_read(r, pair[0], &e), 0);
	}
	assert_true(r->is_complete);
	assert_string_equal(r->updates[0].ref, "refs/heads/fix/a");
	hook_request_free(r);
	hook_request_init(r);
	(void)close(pair[1]);
	assert_int_equal(hook_request_read(r, pair[0], &e), -EPIPE);
	/* Nobody listens: no signal, no success. */
	assert_int_equal(hook_answer(pair[0], 0), -EPIPE);
	hook_say(pair[0], "x");
	(void)close(pair[0]);
	hook_request_free(r);
	buf_free(&b);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pkt_kinds),
		cmocka_unit_test(test_pkt_write),
		cmocka_unit_test_setup_teardown(test_good_in_all_cuts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_pack, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_heads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_capabilities_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_packs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_caps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_caps_of_a_line, setup, teardown),
		cmocka_unit_test(test_hook_request),
		cmocka_unit_test(test_hook_caps),
		cmocka_unit_test(test_hook_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
