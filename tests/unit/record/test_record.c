/* The chain of records: what is written verifies, and every kind of tampering is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "record/record.h"

#include "base/clean.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

static struct buf lines[3];

static struct record sample(const char *path)
{
	struct record r;

	record_init(&r, "pipelock", RECORD_BLOCK, "secret-in-body");
	(void)snprintf(r.method, sizeof(r.method), "POST");
	(void)snprintf(r.host, sizeof(r.host), "api.example.com");
	(void)snprintf(r.path, sizeof(r.path), "%s", path);
	r.port = 443;
	r.status = 403;
	return r;
}

static int make_chain(void **state)
{
	static const char *const paths[] = {"/a", "/b\",\"prev\":\"x", "/c"};
	char hash[RECORD_HASH_HEX];

	(void)state;
	record_chain_start(hash);
	for (int i = 0; i < 3; i++) {
		struct record r = sample(paths[i]);

		buf_init(&lines[i], RECORD_LINE_MAX);
		if (record_to_line(&lines[i], &r, (uint64_t)i + 1, 1000000000, hash, NULL) < 0)
			return -1;
	}
	return 0;
}

static int free_chain(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		buf_free(&lines[i]);
	return 0;
}

static void test_chain_verifies(void **state)
{
	char hash[RECORD_HASH_HEX];
	uint64_t seq = 0;

	(void)state;
	record_chain_start(hash);
	for (int i = 0; i < 3; i++)
		assert_int_equal(record_verify_line(buf_str(&lines[i]), &seq, hash, NULL), 0);
	assert_int_equal(seq, 3);
}

/* Every single byte of a line matters. */
static void test_each_changed_byte_is_found(void **state)
{
	struct str line = buf_str(&lines[0]);
	char copy[RECORD_LINE_MAX];

	(void)state;
	for (size_t i = 0; i < line.n; i++) {
		char hash[RECORD_HASH_HEX];
		uint64_t seq = 0;

		memcpy(copy, line.p, line.n);
		copy[i] ^= 1;
		record_chain_start(hash);
		assert_int_equal(record_verify_line(str_slice(copy, line.n), &seq, hash, NULL),
				 -EBADMSG);
	}
}

static void test_removed_and_swapped_lines_are_found(void **state)
{
	char hash[RECORD_HASH_HEX];
	struct err e = ERR_INIT;
	uint64_t seq = 0;

	(void)state;
	record_chain_start(hash);
	assert_int_equal(record_verify_line(buf_str(&lines[0]), &seq, hash, &e), 0);
	assert_int_equal(record_verify_line(buf_str(&lines[2]), &seq, hash, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "sequence number 3 where 2"));
	seq = 2; /* as if renumbered */
	assert_int_equal(record_verify_line(buf_str(&lines[2]), &seq, hash, &e), -EBADMSG);
}

static void test_cut_line_is_found(void **state)
{
	char hash[RECORD_HASH_HEX];
	uint64_t seq = 0;

	(void)state;
	for (size_t n = 0; n < buf_len(&lines[0]); n++) {
		record_chain_start(hash);
		assert_int_equal(
			record_verify_line(str_sub(buf_str(&lines[0]), 0, n), &seq, hash, NULL),
			-EBADMSG);
	}
}

/* A struct from another process need not end its strings. */
static void test_unterminated_fields(void **state)
{
	_cleanup_(buf_free) struct buf out;
	char hash[RECORD_HASH_HEX];
	struct record r;

	(void)state;
	memset(&r, 'A', sizeof(r));
	r.verdict = RECORD_NOTE;
	buf_init(&out, 64 * 1024);
	record_chain_start(hash);
	assert_int_equal(record_to_line(&out, &r, 1, 0, hash, NULL), 0);
	assert_true(buf_len(&out) < RECORD_LINE_MAX);
}

/* The worst that fields can become when escaped still fits one line. */
static void test_longest_line(void **state)
{
	_cleanup_(buf_free) struct buf out;
	char hash[RECORD_HASH_HEX];
	struct record r;

	(void)state;
	memset(&r, 0x01, sizeof(r));
	r.verdict = RECORD_NOTE;
	buf_init(&out, 2 * RECORD_LINE_MAX);
	record_chain_start(hash);
	assert_int_equal(record_to_line(&out, &r, UINT64_MAX, 0, hash, NULL), 0);
}

static void test_send_gives_up(void **state)
{
	struct record r = sample("/x");
	int pair[2];
	int sent = 0;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(record_send(pair[0], &r), 0);
	while (send(pair[0], &r, sizeof(r), MSG_DONTWAIT) > 0)
		sent++;
	assert_true(sent > 1);
	/* Nobody reads: the verdict must not be acted on. */
	assert_int_equal(record_send(pair[0], &r), -ETIMEDOUT);
	close(pair[1]);
	assert_true(record_send(pair[0], &r) < 0);
	close(pair[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain_verifies),
		cmocka_unit_test(test_each_changed_byte_is_found),
		cmocka_unit_test(test_removed_and_swapped_lines_are_found),
		cmocka_unit_test(test_cut_line_is_found),
		cmocka_unit_test(test_unterminated_fields),
		cmocka_unit_test(test_longest_line),
		cmocka_unit_test(test_send_gives_up),
	};

	return cmocka_run_group_tests(tests, make_chain, free_chain);
}
