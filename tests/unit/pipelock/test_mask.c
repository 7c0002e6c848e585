/*
 * What covers a credential in a request that goes on without it, and in what a human is shown of
 * one that waits: all of it, with the engine as it is. The keys are made here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "pipelock/gate.h"

#include "base/clean.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>

#define PIECE 12 /* bytes of a value that may not be left in a row */
#define SHAPE                                                                                      \
	"ghp_"                                                                                     \
	"0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R"
#define JWT_HEAD                                                                                   \
	"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"                                                     \
	".eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0I"
#define JWT_TAIL "joxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"

static struct scan_engine *engine;
static char long_secret[2 * SCAN_PRINT_COVER + 1];
static struct gate gate;

static int group_setup(void **state)
{
	const struct scan_print_key key = {.multiplier = 0x9e3779b97f4a7c15, .mac_key = {1, 2, 3}};
	static const struct policy none;
	struct scan_print print;
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(long_secret) - 1; i++)
		long_secret[i] = (char)('a' + (i * i + i / 7) % 26);
	if (scan_engine_new(&engine, STR_NULL, &e) < 0 ||
	    scan_print_make(&print, &key, SCAN_KIND_SECRET, 0, str_of(long_secret), &e) < 0 ||
	    scan_engine_set_prints(engine, &key, &print, 1, &e) < 0)
		return -1;
	gate_init(&gate, &none, engine);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	gate_close(&gate);
	scan_engine_free(engine);
	return 0;
}

static enum record_verdict judge(char *body, enum policy_on_match on_match)
{
	static struct policy_route route;
	struct gate_verdict v = {.verdict = RECORD_ALLOW, .route = &route, .on_match = on_match};

	bool may_pass;

	route.on_match = on_match;
	may_pass = gate_body(&gate, str_of(body), STR_NULL, &v);
	assert_int_equal(may_pass, v.verdict != RECORD_BLOCK);
	return v.verdict;
}

/* No piece of value stands in text. */
static void assert_none_of(const char *text, const char *value)
{
	char piece[PIECE + 1] = "";

	for (size_t i = 0; i + PIECE <= strlen(value); i++) {
		memcpy(piece, value + i, PIECE);
		if (strstr(text, piece))
			fail_msg("%s of %s is left in %s", piece, value, text);
	}
}

/* As a body with text on either side; whether it could be masked. */
static bool assert_covered(const char *value)
{
	static char body[16384];
	bool is_masked;

	(void)snprintf(body, sizeof(body), "{\"a\": \"%s\", \"b\": \"behind it\"}", value);
	assert_int_equal(judge(body, POLICY_MATCH_SUPERVISE), RECORD_HOLD);
	assert_non_null(strstr(gate.mark.shown, "********"));
	assert_none_of(gate.mark.shown, value);
	is_masked = judge(body, POLICY_MATCH_REDACT) == RECORD_REDACT;
	if (is_masked)
		assert_none_of(body, value);
	return is_masked;
}

/* --- tokens --- */

static void test_tokens(void **state)
{
	static const char *const values[] = {
		SHAPE,
		(SHAPE SHAPE),
		(JWT_HEAD JWT_TAIL),
		/* Folded by a transport, or by a shell. */
		(JWT_HEAD "=\n" JWT_TAIL),
		(JWT_HEAD "=\r\n" JWT_TAIL),
		(JWT_HEAD "\\\n" JWT_TAIL),
		("root:$6$gQBN3IEr4gP"
		 "9X993$d8K1bB2IMX3SnRnUbIblJqjfRMHR3bkl4xS0kpRC1EN1pJjxUDFJf.7hw0pNY/1234567"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(values); i++)
		assert_true(assert_covered(values[i]));
}

/* Two of them, and what stands between. */
static void test_text_is_left(void **state)
{
	char body[] = "one " SHAPE ", two.\n" SHAPE "\nthree";

	(void)state;
	assert_int_equal(judge(body, POLICY_MATCH_SUPERVISE), RECORD_HOLD);
	assert_string_equal(gate.mark.shown, "one ********, two.\\n********\\nthree");
	assert_int_equal(judge(body, POLICY_MATCH_REDACT), RECORD_REDACT);
	assert_string_equal(body, "one ****************************************, two.\n"
				  "****************************************\nthree");
}

/* How much of a coded text is the value nobody knows: none of what follows is shown. */
static void test_coded(void **state)
{
	static const struct {
		const char *before, *after;
	} codings[] = {{"%", ""}, {"&#x", ";"}, {"\\u00", ""}, {"", ""}};
	char value[2048];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(codings); i++) {
		size_t n = 0;

		for (const char *p = JWT_HEAD JWT_TAIL; *p; p++)
			n += (size_t)snprintf(value + n, sizeof(value) - n, "%s%02x%s",
					      codings[i].before, *p, codings[i].after);
		assert_false(assert_covered(value));
	}
}

/* --- lines --- */

/* As a file, in a JSON text, and in base64 with lines of 76. */
static void assert_key_covered(const char *pem)
{
	char other[8192];
	size_t n = 0;

	assert_true(assert_covered(pem));
	for (const char *p = pem; *p; p++) {
		if (*p == '\n')
			other[n++] = '\\';
		other[n++] = *p == '\n' ? 'n' : *p;
	}
	other[n] = '\0';
	assert_true(assert_covered(other));
	n = (size_t)EVP_EncodeBlock((unsigned char *)other, (const unsigned char *)pem,
				    (int)strlen(pem));
	for (size_t i = 76; i < n; i += 77) {
		memmove(other + i + 1, other + i, ++n - i);
		other[i] = '\n';
	}
	assert_false(assert_covered(other));
}

static void assert_made_covered(EVP_PKEY *key, const EVP_CIPHER *cipher, bool is_traditional)
{
	BIO *b = BIO_new(BIO_s_mem());
	char pem[4096];
	int n, ok;

	assert_non_null(key);
	ok = is_traditional
		     ? PEM_write_bio_PrivateKey_traditional(b, key, NULL, NULL, 0, NULL, NULL)
		     : PEM_write_bio_PKCS8PrivateKey(b, key, cipher, cipher ? "pass" : NULL,
						     cipher ? 4 : 0, NULL, NULL);
	assert_int_equal(ok, 1);
	n = BIO_read(b, pem, sizeof(pem) - 1);
	assert_true(n > 0);
	pem[n] = '\0';
	assert_key_covered(pem);
	BIO_free(b);
}

static void test_keys(void **state)
{
	EVP_PKEY *rsa = EVP_RSA_gen(2048), *ec = EVP_EC_gen("P-256");
	EVP_PKEY *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

	(void)state;
	assert_made_covered(rsa, NULL, false);
	assert_made_covered(rsa, NULL, true);
	assert_made_covered(rsa, EVP_aes_128_cbc(), false);
	assert_made_covered(ec, NULL, true);
	assert_made_covered(ed, NULL, false);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(ec);
	EVP_PKEY_free(ed);
}

/* Without its end there is no telling where it is. */
static void test_endless(void **state)
{
	static const char *const begins[] = {
		("-----BEG"
		 "IN OPENSSH PRIVATE KEY-----\n"),
		("Pu"
		 "TTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 14\n"),
		("$A"
		 "NSIBLE_VAULT;1.1;AES256\n"),
		("-----BEG"
		 "IN PRIVATE KEY-----\n-----END"),
	};
	char body[500];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
		(void)snprintf(body, sizeof(body), "a %slines of it\nmore lines of it\n",
			       begins[i]);
		assert_int_equal(judge(body, POLICY_MATCH_SUPERVISE), RECORD_HOLD);
		assert_non_null(strstr(gate.mark.shown, "********"));
		assert_null(strstr(gate.mark.shown, "lines"));
		assert_int_equal(judge(body, POLICY_MATCH_REDACT), RECORD_REDACT);
		assert_null(strstr(body, "lines"));
	}
}

/* Of a long secret of the bottle's only the head is known, and that alone is not taken away. */
static void test_long_secret(void **state)
{
	char body[sizeof(long_secret) + 20];

	(void)state;
	(void)snprintf(body, sizeof(body), "a %s b", long_secret);
	assert_int_equal(judge(body, POLICY_MATCH_REDACT), RECORD_BLOCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tokens),	cmocka_unit_test(test_text_is_left),
		cmocka_unit_test(test_coded),	cmocka_unit_test(test_keys),
		cmocka_unit_test(test_endless), cmocka_unit_test(test_long_secret),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
