/*
 * Keys that ssh-keygen and OpenSSL made are read, and what they sign is what OpenSSL accepts; keys
 * that cannot be used say why; and nothing is signed but a login as the remote's own user.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/io.h"
#include "keyd/git_key.h"
#include "keyd/sshwire.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/cb-ssh-key-XXXXXX";

struct made {
	struct str private, public;
};

static void run(const char *const *argv)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		(void)dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status != 0)
		fail_msg("%s: status %x", argv[0], (unsigned)status);
}

static struct str read_file(const char *path)
{
	struct str text = STR_NULL;
	struct err e = ERR_INIT;

	if (io_read_file(AT_FDCWD, path, 65536, &text, &e) < 0)
		fail_msg("%s", e.text);
	return text;
}

/* format: NULL for OpenSSH's own. Only one RSA key is made, since that takes its time. */
static struct made keygen(const char *type, const char *bits, const char *passphrase,
			  const char *format)
{
	char path[64], public[80];
	bool is_new = strcmp(type, "rsa") != 0 || strcmp(bits, "2048") != 0;
	const char *make[] = {"ssh-keygen", "-q", "-t", type, "-N", "",	 "-C",
			      "me",	    "-f", path, "-b", bits, NULL};
	const char *convert[] = {"ssh-keygen",
				 "-q",
				 "-p",
				 "-P",
				 "",
				 "-N",
				 passphrase,
				 "-f",
				 path,
				 "-m",
				 format ? format : "RFC4716",
				 NULL};
	struct made m;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, is_new ? "key" : "rsa");
	(void)snprintf(public, sizeof(public), "%s.pub", path);
	if (is_new) {
		(void)unlink(path);
		(void)unlink(public);
	}
	if (access(path, F_OK) < 0)
		run(make);
	run(convert);
	m.private = read_file(path);
	m.public = read_file(public);
	return m;
}

static void made_free(struct made *m)
{
	free((char *)(uintptr_t)m->private.p);
	free((char *)(uintptr_t)m->public.p);
}

/* The bytes of the second field of "ssh-ed25519 AAAA… me". */
static size_t blob_of(struct str public, uint8_t *out)
{
	struct str type, field, rest;
	bool found;
	int n;

	rest = str_cut(public, ' ', &type, &found);
	(void)str_cut(rest, ' ', &field, &found);
	n = EVP_DecodeBlock(out, (const unsigned char *)field.p, (int)field.n);
	assert_true(n > 0);
	for (size_t i = field.n; i > 0 && field.p[i - 1] == '='; i--)
		n--;
	return (size_t)n;
}

/* --- what may be signed --- */

struct asked {
	uint32_t session_n;
	uint8_t message;
	const char *user, *service, *method;
	uint8_t has_signature;
	const char *algorithm;
	struct str blob;
	struct str after;
};

static struct asked asked_for(const struct git_key *k, const char *algorithm)
{
	return (struct asked){.session_n = 32,
			      .message = 50,
			      .user = "git",
			      .service = "ssh-connection",
			      .method = "publickey",
			      .has_signature = 1,
			      .algorithm = algorithm,
			      .blob = str_slice(k->blob, k->blob_n)};
}

static struct str request(const struct asked *a, uint8_t out[2048])
{
	static const uint8_t session[128] = {1, 2, 3};
	struct sshwire_writer w = {.p = out, .cap = 2048};

	sshwire_write_string(&w, str_slice(session, a->session_n));
	sshwire_write_byte(&w, a->message);
	sshwire_write_string(&w, str_of(a->user));
	sshwire_write_string(&w, str_of(a->service));
	sshwire_write_string(&w, str_of(a->method));
	sshwire_write_byte(&w, a->has_signature);
	sshwire_write_string(&w, str_of(a->algorithm));
	sshwire_write_string(&w, a->blob);
	for (size_t i = 0; i < a->after.n; i++)
		sshwire_write_byte(&w, (uint8_t)a->after.p[i]);
	assert_false(w.is_full);
	return str_slice(out, w.n);
}

static int sign(const struct git_key *k, const struct asked *a, uint8_t *out)
{
	struct err e = ERR_INIT;
	uint8_t bytes[2048];

	return git_key_sign_userauth(k, request(a, bytes), "git", out, &e);
}

/* RFC 5656's two numbers as OpenSSL's DER. */
static int der_of(struct str inner, uint8_t *der)
{
	struct sshwire_reader r = sshwire_reader_of(inner);
	struct str a = sshwire_read_mpint(&r), b = sshwire_read_mpint(&r);
	ECDSA_SIG *sig = ECDSA_SIG_new();
	int n;

	assert_true(sshwire_reader_is_done(&r));
	ECDSA_SIG_set0(sig, BN_bin2bn((const uint8_t *)a.p, (int)a.n, NULL),
		       BN_bin2bn((const uint8_t *)b.p, (int)b.n, NULL));
	n = i2d_ECDSA_SIG(sig, &der);
	ECDSA_SIG_free(sig);
	return n;
}

static void expect_signature(const struct git_key *k, const char *algorithm, const EVP_MD *hash)
{
	struct asked a = asked_for(k, algorithm);
	uint8_t signature[GIT_KEY_SIGNATURE_MAX], data[2048], der[128];
	int n = sign(k, &a, signature);
	struct sshwire_reader r = sshwire_reader_of(str_slice(signature, (size_t)(n > 0 ? n : 0)));
	struct str name = sshwire_read_string(&r), raw = sshwire_read_string(&r);
	struct str text = request(&a, data);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	assert_true(n > 0);
	assert_true(sshwire_reader_is_done(&r));
	assert_true(str_eq(name, str_of(algorithm)));
	if (k->type == GIT_KEY_ECDSA)
		raw = str_slice(der, (size_t)der_of(raw, der));
	assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, hash, NULL, k->pkey), 1);
	assert_int_equal(EVP_DigestVerify(ctx, (const uint8_t *)raw.p, raw.n,
					  (const uint8_t *)text.p, text.n),
			 1);
	EVP_MD_CTX_free(ctx);
}

static void expect_all_signatures(const struct git_key *k)
{
	switch (k->type) {
	case GIT_KEY_ED25519:
		expect_signature(k, "ssh-ed25519", NULL);
		break;
	case GIT_KEY_ECDSA:
		expect_signature(k, "ecdsa-sha2-nistp256", EVP_sha256());
		break;
	case GIT_KEY_RSA:
		expect_signature(k, "rsa-sha2-256", EVP_sha256());
		expect_signature(k, "rsa-sha2-512", EVP_sha512());
		break;
	}
}

static void test_made_by_ssh_keygen(void **state)
{
	static const struct {
		const char *type, *bits, *format;
		enum git_key_type is;
	} made[] = {
		{"ed25519", "256", NULL, GIT_KEY_ED25519}, {"ecdsa", "256", NULL, GIT_KEY_ECDSA},
		{"rsa", "2048", NULL, GIT_KEY_RSA},	   {"rsa", "2048", "PEM", GIT_KEY_RSA},
		{"ecdsa", "256", "PEM", GIT_KEY_ECDSA},	   {"rsa", "2048", "PKCS8", GIT_KEY_RSA},
		{"ecdsa", "256", "PKCS8", GIT_KEY_ECDSA},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(made); i++) {
		struct made m = keygen(made[i].type, made[i].bits, "", made[i].format);
		uint8_t blob[2048];
		size_t n = blob_of(m.public, blob);
		struct err e = ERR_INIT;
		struct git_key k;

		if (git_key_parse(&k, m.private, &e) < 0)
			fail_msg("%s %s: %s", made[i].type, made[i].bits, e.text);
		assert_int_equal(k.type, made[i].is);
		assert_int_equal(k.blob_n, n);
		assert_memory_equal(k.blob, blob, n);
		expect_all_signatures(&k);
		git_key_free(&k);
		made_free(&m);
	}
}

static void test_made_by_openssl(void **state)
{
	EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	BIO *bio = BIO_new(BIO_s_mem());
	struct err e = ERR_INIT;
	struct git_key k;
	char *text;
	long n;

	(void)state;
	assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL), 1);
	n = BIO_get_mem_data(bio, &text);
	assert_int_equal(git_key_parse(&k, str_slice(text, (size_t)n), &e), 0);
	expect_all_signatures(&k);
	git_key_free(&k);
	BIO_free(bio);
	EVP_PKEY_free(pkey);
}

static void test_refused(void **state)
{
	static const struct {
		const char *type, *bits, *passphrase, *format;
		int code;
		const char *says;
	} refused[] = {
		{"ed25519", "256", "secret", NULL, -EACCES, "ssh-keygen -p"},
		{"ecdsa", "256", "secret", "PEM", -EACCES, "ssh-keygen -p"},
		{"ecdsa", "256", "secret", "PKCS8", -EACCES, "deploy key"},
		{"ecdsa", "384", "", NULL, -ERANGE, "ed25519"},
		{"ecdsa", "384", "", "PEM", -EBADMSG, ""},
		{"rsa", "1024", "", NULL, -ERANGE, "2048"},
		{"rsa", "1024", "", "PEM", -ERANGE, "2048"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		struct made m = keygen(refused[i].type, refused[i].bits, refused[i].passphrase,
				       refused[i].format);
		struct err e = ERR_INIT;
		struct git_key k;
		int ret = git_key_parse(&k, m.private, &e);

		if (ret >= 0 || (refused[i].code && ret != refused[i].code) ||
		    !strstr(e.text, refused[i].says))
			fail_msg("%s %s: %d, %s", refused[i].type, refused[i].bits, ret, e.text);
		assert_null(k.pkey);
		made_free(&m);
	}
}

/* Cut anywhere, or with any one character changed: no key, or this key (a comment, a check word).
 */
static void test_damaged(void **state)
{
	static const char *const types[] = {"ed25519", "ecdsa"};

	(void)state;
	for (size_t t = 0; t < ARRAY_LEN(types); t++) {
		struct made m = keygen(types[t], "256", "", NULL);
		struct err e = ERR_INIT;
		struct git_key whole, k;
		char *copy;

		assert_int_equal(git_key_parse(&whole, m.private, &e), 0);
		for (size_t n = 0; n + 36 < m.private.n; n++) {
			copy = malloc(n + 1);
			memcpy(copy, m.private.p, n);
			assert_true(git_key_parse(&k, str_slice(copy, n), &e) < 0);
			free(copy);
		}
		copy = str_dup(m.private);
		for (size_t i = 0; i < m.private.n; i++) {
			copy[i] = (char)(copy[i] == 'A' ? 'B' : 'A');
			if (git_key_parse(&k, str_slice(copy, m.private.n), &e) == 0) {
				assert_true(str_eq(str_slice(k.blob, k.blob_n),
						   str_slice(whole.blob, whole.blob_n)));
				git_key_free(&k);
			}
			copy[i] = m.private.p[i];
		}
		free(copy);
		git_key_free(&whole);
		made_free(&m);
	}
}

static void test_signs_logins_only(void **state)
{
	struct made m = keygen("ed25519", "256", "", NULL);
	struct made other = keygen("ed25519", "256", "", NULL);
	uint8_t out[GIT_KEY_SIGNATURE_MAX], blob[2048], bytes[2048];
	struct str whole;
	struct err e = ERR_INIT;
	struct git_key k;
	struct asked good;

	(void)state;
	assert_int_equal(git_key_parse(&k, m.private, &e), 0);
	good = asked_for(&k, "ssh-ed25519");
	assert_true(sign(&k, &good, out) > 0);
	for (int i = 0; i < 13; i++) {
		struct asked a = good;

		switch (i) {
		case 0:
			a.user = "root";
			break;
		case 1:
			a.user = "";
			break;
		case 2:
			a.service = "ssh-userauth";
			break;
		case 3:
			a.method = "hostbased";
			break;
		case 4:
			a.has_signature = 0;
			break;
		case 5:
			a.algorithm = "ssh-rsa";
			break;
		case 6:
			a.algorithm = "rsa-sha2-256";
			break;
		case 7:
			a.blob = str_slice(blob, blob_of(other.public, blob));
			break;
		case 8:
			a.after = STR_LIT("x");
			break;
		case 9:
			a.session_n = 31;
			break;
		case 10:
			a.session_n = 65;
			break;
		case 11:
			a.message = 51;
			break;
		default:
			a.has_signature = 2;
			break;
		}
		if (sign(&k, &a, out) != -EBADMSG)
			fail_msg("case %d was signed", i);
	}
	whole = request(&good, bytes);
	for (size_t n = 0; n < whole.n; n++)
		assert_int_equal(git_key_sign_userauth(&k, str_slice(bytes, n), "git", out, &e),
				 -EBADMSG);
	/* Not of the right kind at all: what an agent's owner might be tricked into. */
	assert_int_equal(git_key_sign_userauth(&k, STR_LIT("SSHSIG\0\0\0\3git"), "git", out, &e),
			 -EBADMSG);
	git_key_free(&k);
	made_free(&m);
	made_free(&other);
}

static void test_rsa_never_with_sha1(void **state)
{
	struct made m = keygen("rsa", "2048", "", NULL);
	uint8_t out[GIT_KEY_SIGNATURE_MAX];
	struct err e = ERR_INIT;
	struct git_key k;
	struct asked a;

	(void)state;
	assert_int_equal(git_key_parse(&k, m.private, &e), 0);
	a = asked_for(&k, "ssh-rsa");
	assert_int_equal(sign(&k, &a, out), -EBADMSG);
	git_key_free(&k);
	made_free(&m);
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	return io_remove_tree(AT_FDCWD, folder, &e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_made_by_ssh_keygen),
		cmocka_unit_test(test_made_by_openssl),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_signs_logins_only),
		cmocka_unit_test(test_rsa_never_with_sha1),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
