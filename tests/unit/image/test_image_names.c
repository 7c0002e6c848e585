/* What our images are called, which are hashes of inputs, and what the host adds to a build. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "image/image_int.h"
#include "conf/reference.h"

#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void names(struct image_names *out, const char *version, const char *machine,
		  const char *hash)
{
	struct err e = ERR_INIT;

	assert_int_equal(image_names_make(out, version, machine, hash, &e), 0);
}

static void test_names_are_those_of_their_inputs(void **state)
{
	struct image_names a, b;

	(void)state;
	names(&a, "1.0", "x86_64", HEX64);
	names(&b, "1.0", "x86_64", HEX64);
	assert_memory_equal(&a, &b, sizeof(a));
	for (unsigned k = 0; k < IMAGE_KIND_COUNT; k++) {
		char expected[64];
		struct reference r;

		(void)snprintf(expected, sizeof(expected), "claude-bottle/%s",
			       image_kind_name((enum image_kind)k));
		assert_int_equal(reference_parse(str_of(a.reference[k]), &r, NULL), 0);
		assert_true(str_eq(r.name, str_of(expected)));
		assert_int_equal(r.tag.n, IMAGE_TAG_DIGITS);
		for (unsigned o = 0; o < k; o++)
			assert_string_not_equal(strchr(a.reference[k], ':'),
						strchr(a.reference[o], ':'));
	}
	/* Another version or machine: all are others. */
	names(&b, "1.1", "x86_64", HEX64);
	for (unsigned k = 0; k < IMAGE_KIND_COUNT; k++)
		assert_string_not_equal(a.reference[k], b.reference[k]);
	names(&b, "1.0", "aarch64", HEX64);
	for (unsigned k = 0; k < IMAGE_KIND_COUNT; k++)
		assert_string_not_equal(a.reference[k], b.reference[k]);
}

static void test_a_new_program_renames_the_bundle_alone(void **state)
{
	struct image_names a, b;

	(void)state;
	names(&a, "1.0", "x86_64", HEX64);
	names(&b, "1.0", "x86_64", "f" HEX64);
	for (unsigned k = 0; k < IMAGE_KIND_COUNT; k++) {
		if (k == IMAGE_BUNDLE)
			assert_string_not_equal(a.reference[k], b.reference[k]);
		else
			assert_string_equal(a.reference[k], b.reference[k]);
	}
	names(&b, "1.0", "x86_64", NULL);
	assert_string_equal(b.reference[IMAGE_BUNDLE], "");
	assert_string_equal(a.reference[IMAGE_SHELL], b.reference[IMAGE_SHELL]);
}

static void test_kinds(void **state)
{
	enum image_kind kind;

	(void)state;
	for (unsigned k = 0; k < IMAGE_KIND_COUNT; k++) {
		assert_true(image_kind_parse(str_of(image_kind_name((enum image_kind)k)), &kind));
		assert_int_equal(kind, k);
	}
	assert_false(image_kind_parse(STR_LIT("stage"), &kind));
	assert_false(image_kind_parse(STR_LIT(""), &kind));
}

/* --- the program --- */

static void test_a_trimmed_program_runs(void **state)
{
	char path[] = "/tmp/test_image_XXXXXX";
	struct str text = STR_NULL;
	_cleanup_close_ int fd = -1;
	size_t n, again;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(io_read_file(AT_FDCWD, "/proc/self/exe", 1u << 28, &text, NULL), 0);
	n = image_program_trim((char *)text.p, text.n);
	assert_true(n < text.n);
	again = image_program_trim((char *)text.p, n);
	assert_int_equal(again, n);
	fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text.p, n), 0);
	assert_int_equal(fchmod(fd, 0700), 0);
	close_fd(&fd);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)execl(path, path, "--nothing", (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	(void)unlink(path);
	free((char *)text.p);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

static void test_what_is_no_program_stays_whole(void **state)
{
	char text[256] = "#!/bin/sh\n";
	struct str own = STR_NULL;

	(void)state;
	assert_int_equal(image_program_trim(text, 10), 10);
	assert_int_equal(image_program_trim(text, sizeof(text)), sizeof(text));
	/* Cut before its segments end. */
	assert_int_equal(io_read_file(AT_FDCWD, "/proc/self/exe", 1u << 28, &own, NULL), 0);
	assert_int_equal(image_program_trim((char *)own.p, 64), 64);
	assert_int_equal(image_program_trim((char *)own.p, 4096), 4096);
	/* A table of segments that lies nowhere. */
	memset((char *)own.p + 32, 0xff, 8);
	assert_int_equal(image_program_trim((char *)own.p, own.n), own.n);
	free((char *)own.p);
}

/* --- the host --- */

static void clear_host(void)
{
	static const char *const all[] = {"http_proxy",
					  "https_proxy",
					  "HTTP_PROXY",
					  "HTTPS_PROXY",
					  "no_proxy",
					  "NO_PROXY",
					  "npm_config_registry",
					  "NPM_CONFIG_REGISTRY",
					  "npm_config_userconfig",
					  "NPM_CONFIG_USERCONFIG",
					  "SSL_CERT_FILE",
					  "NODE_EXTRA_CA_CERTS",
					  "HOME"};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		assert_int_equal(unsetenv(all[i]), 0);
}

static void test_proxies(void **state)
{
	json_t *args = json_object();

	(void)state;
	clear_host();
	assert_int_equal(setenv("no_proxy", "x", 1), 0);
	assert_int_equal(setenv("http_proxy", "http://127.0.0.1:3128", 1), 0);
	assert_int_equal(setenv("HTTP_PROXY", "http://u:p@localhost:3128/", 1), 0);
	assert_int_equal(setenv("HTTPS_PROXY", "", 1), 0);
	image_host_proxies(args);
	assert_int_equal(json_object_size(args), 0);
	assert_int_equal(setenv("https_proxy", "http://proxy.example:3128", 1), 0);
	image_host_proxies(args);
	assert_int_equal(json_object_size(args), 2);
	assert_string_equal(json_string_value(json_object_get(args, "https_proxy")),
			    "http://proxy.example:3128");
	assert_string_equal(json_string_value(json_object_get(args, "no_proxy")), "x");
	json_decref(args);
}

static void test_the_registry_of_npm(void **state)
{
	char out[IMAGE_URL_MAX], path[] = "/tmp/test_npmrc_XXXXXX";
	static const char rc[] = "fund=false\n//h.example/:_authToken=x\n"
				 " registry = https://mirror.example/npm/ \n";
	_cleanup_close_ int fd = mkostemp(path, O_CLOEXEC);

	(void)state;
	clear_host();
	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, rc, sizeof(rc) - 1), 0);
	assert_int_equal(setenv("npm_config_userconfig", path, 1), 0);
	assert_true(image_host_registry(out));
	assert_string_equal(out, "https://mirror.example/npm/");
	assert_int_equal(setenv("NPM_CONFIG_REGISTRY", "http://other.example:4873", 1), 0);
	assert_true(image_host_registry(out));
	assert_string_equal(out, "http://other.example:4873");
	/* A password stays here; so does what a shell would read. */
	assert_int_equal(setenv("npm_config_registry", "https://u:p@h.example/", 1), 0);
	assert_false(image_host_registry(out));
	assert_int_equal(setenv("npm_config_registry", "https://h.example/$(x)", 1), 0);
	assert_false(image_host_registry(out));
	assert_int_equal(setenv("npm_config_registry", "file:///etc", 1), 0);
	assert_false(image_host_registry(out));
	(void)unlink(path);
}

static void test_certificates(void **state)
{
	char path[] = "/tmp/test_ca_XXXXXX", more[] = "/tmp/test_ca_XXXXXX";
	_cleanup_close_ int fd = mkostemp(path, O_CLOEXEC), fd_more = mkostemp(more, O_CLOEXEC);
	struct err e = ERR_INIT;
	struct buf out;

	(void)state;
	clear_host();
	assert_true(fd >= 0 && fd_more >= 0);
	assert_int_equal(io_write_all(fd, "one", 3), 0);
	assert_int_equal(io_write_all(fd_more, "two", 3), 0);
	assert_int_equal(setenv("SSL_CERT_FILE", path, 1), 0);
	assert_int_equal(setenv("NODE_EXTRA_CA_CERTS", path, 1), 0);
	assert_int_equal(image_host_ca(&out, &e), 0);
	assert_true(str_eq(buf_str(&out), STR_LIT("one\n")));
	buf_free(&out);
	assert_int_equal(setenv("NODE_EXTRA_CA_CERTS", more, 1), 0);
	assert_int_equal(image_host_ca(&out, &e), 0);
	assert_true(str_eq(buf_str(&out), STR_LIT("one\ntwo\n")));
	buf_free(&out);
	assert_int_equal(ftruncate(fd_more, IMAGE_CA_MAX + 1), 0);
	assert_int_equal(image_host_ca(&out, &e), -EFBIG);
	buf_free(&out);
	(void)unlink(path);
	(void)unlink(more);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {

		cmocka_unit_test(test_names_are_those_of_their_inputs),
		cmocka_unit_test(test_a_new_program_renames_the_bundle_alone),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_a_trimmed_program_runs),
		cmocka_unit_test(test_what_is_no_program_stays_whole),
		cmocka_unit_test(test_proxies),
		cmocka_unit_test(test_the_registry_of_npm),
		cmocka_unit_test(test_certificates),
	};

	(void)argv;
	return argc > 1 ? 42 : cmocka_run_group_tests(tests, NULL, NULL);
}
