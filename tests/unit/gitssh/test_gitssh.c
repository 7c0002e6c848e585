/* The parts of gitssh that need no server: what the parent answers a child, what a server's shell
 * is told, and how a key is shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "gitssh/gitssh.h"
#include "keyd/sshwire.h"

#include <errno.h>
#include <openssl/evp.h>

#define KEY "the public key"

struct fixture {
	struct gitssh_agent agent;
	struct buf out;
	unsigned n_signed;
	char last[64];
	int answer;
};

static int sign(void *ctx, struct str data, uint8_t *out, size_t size)
{
	struct fixture *f = ctx;

	assert_true(size >= GIT_KEY_SIGNATURE_MAX);
	f->n_signed++;
	assert_true(str_to_cstr(f->last, sizeof(f->last), data));
	if (f->answer > 0)
		memset(out, 's', (size_t)f->answer);
	return f->answer;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->answer = 70;
	f->agent = (struct gitssh_agent){
		.key = STR_LIT(KEY), .sign = sign, .ctx = f, .signatures_left = 2};
	buf_init(&f->out, 1u << 20);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	buf_free(&f->out);
	free(f);
	return 0;
}

static struct str message(uint8_t *out, size_t size, uint8_t type, const char *key,
			  const char *data)
{
	struct sshwire_writer w = {.p = out + 4, .cap = size - 4};
	struct sshwire_writer head = {.p = out, .cap = 4};

	sshwire_write_byte(&w, type);
	if (key) {
		sshwire_write_string(&w, str_of(key));
		sshwire_write_string(&w, str_of(data));
		sshwire_write_u32(&w, 2);
	}
	sshwire_write_u32(&head, (uint32_t)w.n);
	return str_slice(out, w.n + 4);
}

static struct str ask(struct fixture *f, uint8_t type, const char *key, const char *data)
{
	uint8_t bytes[1024];
	struct sshwire_reader r;
	struct str said;

	buf_reset(&f->out);
	assert_int_equal(gitssh_agent_feed(&f->agent,
					   message(bytes, sizeof(bytes), type, key, data), &f->out),
			 0);
	r = sshwire_reader_of(buf_str(&f->out));
	said = sshwire_read_string(&r);
	assert_true(sshwire_reader_is_done(&r));
	assert_true(said.n > 0);
	return said;
}

static void test_agent_answers(void **state)
{
	struct fixture *f = *state;
	struct sshwire_reader r = sshwire_reader_of(ask(f, 11, NULL, NULL));

	assert_int_equal(sshwire_read_byte(&r), 12);
	assert_int_equal(sshwire_read_u32(&r), 1);
	assert_true(str_eq(sshwire_read_string(&r), STR_LIT(KEY)));
	assert_int_equal(sshwire_read_string(&r).n, 0);
	assert_true(sshwire_reader_is_done(&r));

	r = sshwire_reader_of(ask(f, 13, KEY, "a login"));
	assert_int_equal(sshwire_read_byte(&r), 14);
	assert_int_equal(sshwire_read_string(&r).n, 70);
	assert_true(sshwire_reader_is_done(&r));
	assert_string_equal(f->last, "a login");
}

/* Another key, what keyd refuses, too often, and everything that an agent may do besides. */
static void test_agent_refuses(void **state)
{
	static const uint8_t others[] = {0,  1,	 9,  12, 14, 17, 18, 19, 20,
					 21, 22, 23, 25, 26, 27, 30, 255};
	struct fixture *f = *state;

	assert_int_equal(ask(f, 13, "another key", "a login").p[0], 5);
	assert_int_equal(f->n_signed, 0);
	f->answer = -EPERM;
	assert_int_equal(ask(f, 13, KEY, "a letter").p[0], 5);
	f->answer = 70;
	assert_int_equal(ask(f, 13, KEY, "a login").p[0], 14);
	assert_int_equal(ask(f, 13, KEY, "a login").p[0], 5);
	assert_int_equal(f->n_signed, 2);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		assert_int_equal(ask(f, others[i], KEY, "x").p[0], 5);
	assert_int_equal(f->n_signed, 2);
}

static void test_agent_in_pieces(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[1024];
	struct str m = message(bytes, sizeof(bytes), 13, KEY, "a login");

	for (size_t i = 0; i < m.n; i++) {
		assert_int_equal(buf_len(&f->out), 0);
		assert_int_equal(gitssh_agent_feed(&f->agent, str_sub(m, i, i + 1), &f->out), 0);
	}
	assert_int_equal(buf_len(&f->out), 4 + 1 + 4 + 70);
}

static void test_agent_malformed(void **state)
{
	struct fixture *f = *state;
	uint8_t many[GITSSH_AGENT_MAX + 1] = {0};

	assert_int_equal(gitssh_agent_feed(&f->agent, str_slice(many, sizeof(many)), &f->out),
			 -EPROTO);
	assert_int_equal(gitssh_agent_feed(&f->agent, STR_LIT("\0\0\0\0"), &f->out), -EPROTO);
	f->agent.n = 0;
	assert_int_equal(gitssh_agent_feed(&f->agent, STR_LIT("\0\0\x08\0"), &f->out), -EPROTO);
	f->agent.n = 0;
	assert_int_equal(gitssh_agent_feed(&f->agent, STR_LIT("\xff\xff\xff\xff"), &f->out),
			 -EPROTO);
	assert_int_equal(buf_len(&f->out), 0);
}

static void test_command(void **state)
{
	static const char *const bad[] = {
		"",	"-x",  "a'b", "a b", "a\nb", "$x",  "`x`",   "a\"b",
		"a\\b", "a;b", "a&b", "*",   "é",    "a!b", "a\x7f", "--upload-pack=x"};
	char out[128], longest[200];

	(void)state;
	assert_int_equal(gitssh_command(out, sizeof(out), GIT_UPLOAD_PACK, "~me/a-b_c+d@e.git"), 0);
	assert_string_equal(out, "git-upload-pack '~me/a-b_c+d@e.git'");
	assert_int_equal(gitssh_command(out, sizeof(out), GIT_RECEIVE_PACK, "/srv/x"), 0);
	assert_string_equal(out, "git-receive-pack '/srv/x'");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (gitssh_command(out, sizeof(out), GIT_UPLOAD_PACK, bad[i]) != -EINVAL)
			fail_msg("%s", bad[i]);
	}
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(gitssh_command(out, sizeof(out), GIT_UPLOAD_PACK, longest), -EINVAL);
}

/* Of github.com's ed25519 key, as its documentation publishes both. */
static void test_fingerprint(void **state)
{
	static const char key[] =
		"AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
	unsigned char blob[64];
	char text[64];
	int n = EVP_DecodeBlock(blob, (const unsigned char *)key, sizeof(key) - 1);

	(void)state;
	assert_int_equal(n, 51);
	gitssh_fingerprint(str_slice(blob, (size_t)n), text);
	assert_string_equal(text, "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_agent_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_agent_refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_agent_in_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_agent_malformed, setup, teardown),
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_fingerprint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
