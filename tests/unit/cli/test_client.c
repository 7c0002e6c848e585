/* What the client does to bytes: the detach keys, the terminal's modes, the records' lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/client.h"
#include "cli/logs.h"
#include "cli/termstate.h"

#include "base/clean.h"
#include "base/text.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>

static void expect_keys(const char *const *reads, size_t n, const char *expected, bool detaches)
{
	struct client_keys k = {0};
	char all[256], out[64 + CLIENT_KEYS_ROOM];
	size_t to = 0;

	for (size_t i = 0; i < n; i++) {
		size_t got = client_keys_filter(&k, str_of(reads[i]), out);

		assert_true(got <= strlen(reads[i]) + CLIENT_KEYS_ROOM);
		memcpy(all + to, out, got);
		to += got;
	}
	all[to] = '\0';
	assert_string_equal(all, expected);
	assert_int_equal(k.wants_detach, detaches);
}

#define EXPECT_KEYS(expected, detaches, ...)                                                       \
	expect_keys((const char *const[]){__VA_ARGS__},                                            \
		    ARRAY_LEN(((const char *const[]){__VA_ARGS__})), expected, detaches)

static void test_keys(void **state)
{
	(void)state;
	EXPECT_KEYS("hello", false, "hello");
	EXPECT_KEYS("ab", true,
		    "ab\x1c"
		    "dxyz");
	EXPECT_KEYS("ab", true, "ab\x1c", "dxyz");
	EXPECT_KEYS("ab", true, "ab\x1b[92;5u", "d");
	EXPECT_KEYS("a\x1c", false, "a\x1c\x1c");
	EXPECT_KEYS("a\x1cx", false, "a\x1cx");
	EXPECT_KEYS("a\x1cx", false, "a\x1c", "x");
	EXPECT_KEYS("\x1b[92;5ux", false, "\x1b[92;5u", "x");
	EXPECT_KEYS("d\x1b[92;6ud", false, "d\x1b[92;6ud");
}

static void expect_undo(const char *output, const char *expected)
{
	for (size_t cut = 0; cut <= strlen(output); cut++) {
		struct termstate t = {0};
		struct buf out;

		termstate_feed(&t, str_slice(output, cut));
		termstate_feed(&t, str_of(output + cut));
		buf_init(&out, 4096);
		assert_int_equal(termstate_undo(&t, &out), 0);
		assert_int_equal(buf_append(&out, "", 1), 0);
		assert_string_equal(buf_str(&out).p, expected);
		buf_free(&out);
	}
}

#define PLAIN "\x18\x1b[0m"

static void test_termstate(void **state)
{
	(void)state;
	expect_undo("plain text\n", "");
	expect_undo("\x1b[31mred", PLAIN);
	expect_undo("\x1b[?1049h\x1b[?25l", PLAIN "\x1b[?25h\x1b[?1049l");
	expect_undo("\x1b[?1049h\x1b[?25l\x1b[?25h\x1b[?1049l", PLAIN);
	expect_undo("\x1b[?1000;1006;2004h", PLAIN "\x1b[?1000l\x1b[?1006l\x1b[?2004l");
	expect_undo("\x1b[>1u\x1b[>5u\x1b[<u", PLAIN "\x1b[<1u");
	expect_undo("\x1b[<9u", PLAIN);
	expect_undo("\x1b[>4;2m", PLAIN "\x1b[>4;0m");
	expect_undo("\x1b[2;20r", PLAIN "\x1b"
					"7\x1b[r\x1b"
					"8");
	expect_undo("\x1b[2;20r\x1b[r", PLAIN);
	expect_undo("\x1b[?1049h\x1b"
		    "c",
		    PLAIN);
	expect_undo("\x0e", "\x0f");
	/* Neither too many parameters nor another sequence's bytes are taken for a mode. */
	expect_undo("\x1b[?1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1049h", PLAIN);
	expect_undo("\x1b[?1049$p\x1b[1049h", PLAIN);
	expect_undo("\x1b[?99999999999999999999h", PLAIN);
}

static void expect_line(const char *line, const char *expected)
{
	struct buf out;

	buf_init(&out, 65536);
	assert_int_equal(logs_format(str_of(line), false, &out), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_string_equal(buf_str(&out).p, expected);
	buf_free(&out);
}

static void test_logs_format(void **state)
{
	(void)state;
	expect_line(
		"{\"seq\":1,\"time\":\"2026-01-02T03:04:05.678Z\",\"id\":\"0011223344556677\","
		"\"role\":\"pipelock\","
		"\"verdict\":\"block\",\"reason\":\"host-not-allowed\",\"method\":\"GET\","
		"\"host\":\"evil.test\",\"port\":443,\"path\":\"/a\",\"status\":403}",
		"2026-01-02T03:04:05.678Z  00112233  block   pipelock  403  GET      evil.test/a  "
		"host-not-allowed\n");
	expect_line("{\"time\":\"T\",\"role\":\"x\",\"verdict\":\"allow\",\"reason\":\"ok\","
		    "\"host\":\"a\\u001b[2J\\u202e\",\"port\":8443}",
		    "T                                   allow   x                       "
		    "a\\x1b[2J\\u{202e}:8443\n");
	expect_line("not a record \x1b[2J", "not a record \\x1b[2J\n");
	expect_line("[]", "[]\n");
	expect_line("", "\n");
}

struct chain {
	uint64_t seq;
	char hash[RECORD_HASH_HEX];
	EVP_PKEY *key;
	struct buf lines[12];
	size_t n;
	struct runs runs;
};

static void chain_add(struct chain *c, const char *role, const char *reason, const char *detail)
{
	struct record r;
	struct err e = ERR_INIT;

	record_init(&r, role, RECORD_NOTE, reason);
	(void)snprintf(r.detail, sizeof(r.detail), "%s", detail);
	buf_init(&c->lines[c->n], RECORD_LINE_MAX);
	assert_int_equal(record_to_line(&c->lines[c->n], &r, ++c->seq, 1, c->hash, &e), 0);
	c->n++;
}

static void chain_checkpoint(struct chain *c, const char *role)
{
	char message[25 + 32] = "claude-bottle checkpoint", hex[129];
	unsigned char signature[64];
	size_t n = sizeof(signature);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	assert_true(text_unhex(message + 25, 32, str_slice(c->hash, 64)));
	assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, c->key), 1);
	assert_int_equal(
		EVP_DigestSign(ctx, signature, &n, (unsigned char *)message, sizeof(message)), 1);
	EVP_MD_CTX_free(ctx);
	text_hex(hex, signature, sizeof(signature));
	chain_add(c, role, "checkpoint", hex);
}

static void chain_name_key(struct chain *c)
{
	unsigned char public_key[32];
	size_t n = sizeof(public_key);
	char hex[65];

	assert_int_equal(EVP_PKEY_get_raw_public_key(c->key, public_key, &n), 1);
	text_hex(hex, public_key, sizeof(public_key));
	chain_add(c, "record", "signing-key", hex);
}

static void chain_make(struct chain *c)
{
	*c = (struct chain){.key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")};
	record_chain_start(c->hash);
	chain_add(c, "pipelock", "one", "");
	chain_name_key(c);
	chain_checkpoint(c, "record");
	chain_add(c, "pipelock", "checkpoint", "what the agent may have said");
}

static int chain_check(const struct chain *c, struct logs_chain *check, struct err *e)
{
	int r = 0;

	*e = ERR_INIT;
	logs_chain_start(check, &c->runs);
	for (size_t i = 0; r == 0 && i < c->n; i++)
		r = logs_chain_add(check, buf_str(&c->lines[i]), e);
	return r < 0 ? r : logs_chain_end(check, e);
}

static void chain_free(struct chain *c)
{
	for (size_t i = 0; i < c->n; i++)
		buf_free(&c->lines[i]);
	EVP_PKEY_free(c->key);
}

static void test_chain(void **state)
{
	struct logs_chain check;
	struct chain c;
	struct err e;
	char *byte;

	(void)state;
	chain_make(&c);
	assert_int_equal(chain_check(&c, &check, &e), 0);
	assert_int_equal(check.seq, 4);
	assert_int_equal(check.n_checkpoints, 1);
	assert_int_equal(check.n_signed, 2);
	/* A changed byte, anywhere in the second record. */
	for (size_t at = 0; at < buf_len(&c.lines[1]); at++) {
		byte = c.lines[1].p + c.lines[1].from + at;
		*byte ^= 1;
		assert_true(chain_check(&c, &check, &e) < 0);
		assert_int_equal(check.seq, 1);
		*byte ^= 1;
	}
	chain_free(&c);

	/* The key may be named again, as after a restart; another one may not. */
	chain_make(&c);
	chain_name_key(&c);
	chain_checkpoint(&c, "record");
	assert_int_equal(chain_check(&c, &check, &e), 0);
	assert_int_equal(check.n_checkpoints, 2);
	EVP_PKEY_free(c.key);
	c.key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	chain_name_key(&c);
	assert_int_equal(chain_check(&c, &check, &e), -EBADMSG);
	assert_string_equal(e.text, "a second signing key in record 7");
	chain_free(&c);

	/* The chain written anew by somebody without the key: only the signature shows it. */
	chain_make(&c);
	EVP_PKEY_free(c.key);
	c.key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	chain_checkpoint(&c, "record");
	assert_int_equal(chain_check(&c, &check, &e), -EBADMSG);
	assert_string_equal(e.text, "the signature in record 5 is not good");
	chain_free(&c);
}

/* A run has a key of its own, from where the host saw the one before it end, and only there. */
static void test_chain_of_two_runs(void **state)
{
	struct runs_end ends[2];
	struct logs_chain check;
	EVP_PKEY *first;
	struct chain c;
	struct err e;

	(void)state;
	chain_make(&c);
	ends[0].after = c.seq;
	memcpy(ends[0].hash_hex, c.hash, sizeof(c.hash));
	first = c.key;
	c.key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	chain_add(&c, "pipelock", "two", "");
	chain_name_key(&c);
	chain_checkpoint(&c, "record");
	assert_int_equal(chain_check(&c, &check, &e), -EBADMSG);
	assert_string_equal(e.text, "a second signing key in record 6");
	c.runs = (struct runs){ends, 1};
	assert_int_equal(chain_check(&c, &check, &e), 0);
	assert_int_equal(check.n_checkpoints, 2);
	assert_int_equal(check.n_signed, 6);
	/* The first run's key is not the second one's. */
	EVP_PKEY_free(c.key);
	c.key = first;
	chain_checkpoint(&c, "record");
	assert_int_equal(chain_check(&c, &check, &e), -EBADMSG);
	assert_string_equal(e.text, "the signature in record 8 is not good");
	/* An earlier run written anew, by a later one that has the file. */
	ends[0].hash_hex[0] ^= 1;
	assert_int_equal(chain_check(&c, &check, &e), -EBADMSG);
	assert_string_equal(e.text, "record 4 is not the one after which the bottle was resumed");
	ends[0].hash_hex[0] ^= 1;
	/* And cut off. */
	buf_free(&c.lines[--c.n]);
	ends[1] = (struct runs_end){.after = 9};
	c.runs.n = 2;
	assert_int_equal(chain_check(&c, &check, &e), -EBADMSG);
	assert_string_equal(e.text, "the bottle was resumed after record 9, which is not there");
	chain_free(&c);
	/* The first run recorded nothing. */
	chain_make(&c);
	ends[0] = (struct runs_end){.after = 0};
	record_chain_start(ends[0].hash_hex);
	c.runs = (struct runs){ends, 1};
	assert_int_equal(chain_check(&c, &check, &e), 0);
	chain_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_termstate),
		cmocka_unit_test(test_logs_format),
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_chain_of_two_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
