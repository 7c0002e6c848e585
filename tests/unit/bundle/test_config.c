/* The configuration that every role reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/io.h"
#include "bundle/bundle.h"

#include <stdio.h>

static int make_config(const char *inside)
{
	static char text[80000];
	struct err e = ERR_INIT;
	int fd;

	(void)snprintf(text, sizeof(text),
		       "{\"version\":1,\"slug\":\"t-1\",\"pinned\":\"10.209.0.2\",%s"
		       "\"uid_base\":0,\"policy\":{\"version\":1,\"resolve\":[],\"routes\":[]}}",
		       inside);
	fd = io_memfd_sealed("config", str_of(text), &e);
	assert_true(fd >= 0);
	return fd;
}

/* Roles that start together share the open file: one that moved its offset would make another
 * read half of it. */
static void test_config_needs_no_offset(void **state)
{
	struct bundle_config c;
	struct err e = ERR_INIT;
	int fd;

	(void)state;
	fd = make_config("");
	assert_int_equal(lseek(fd, 100, SEEK_SET), 100);
	assert_int_equal(bundle_config_load(&c, fd, &e), 0);
	assert_string_equal(c.slug, "t-1");
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 100);
	bundle_config_free(&c);
	close(fd);
	fd = io_memfd_sealed("config", STR_LIT(""), &e);
	assert_true(fd >= 0 && bundle_config_load(&c, fd, &e) < 0);
	close(fd);
}

static int load_inside(struct bundle_config *c, const char *inside)
{
	_cleanup_close_ int fd = make_config(inside);
	struct err e = ERR_INIT;

	return bundle_config_load(c, fd, &e);
}

static void test_config_inside(void **state)
{
	static const char *const refused[] = {"null",
					      "true",
					      "{}",
					      "\"192.0.2.2\"",
					      "[]",
					      "[1]",
					      "[null]",
					      "[[\"192.0.2.2\"]]",
					      "[\"\"]",
					      "[\"192.0.2\"]",
					      "[\"192.0.2.2\",\"\"]",
					      "[\"192.0.2.2:80\"]",
					      "[\"192.0.2.0/24\"]",
					      "[\"fe80::1%lo\"]",
					      "[\" 192.0.2.2\"]",
					      "[\"host.test\"]",
					      "[\"2001:db8:1111:2222:3333:4444:5555:66660000000\"]",
					      "[\"192.0.2.2\"],\"inside\":[\"192.0.2.3\"]"};
	static char many[70000];
	struct bundle_config c;
	size_t n = 0;

	(void)state;
	assert_int_equal(load_inside(&c, ""), 0);
	assert_false(c.is_apart);
	assert_int_equal(c.n_inside, 0);
	bundle_config_free(&c);
	assert_int_equal(load_inside(&c, "\"inside\":[\"192.0.2.2\",\"2001:db8::2\"],"), 0);
	assert_true(c.is_apart);
	assert_int_equal(c.n_inside, 2);
	assert_string_equal(c.inside[0], "192.0.2.2");
	assert_string_equal(c.inside[1], "2001:db8::2");
	bundle_config_free(&c);
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		char text[256];

		(void)snprintf(text, sizeof(text), "\"inside\":%s,", refused[i]);
		if (load_inside(&c, text) == 0)
			fail_msg("%s was taken", text);
		assert_null(c.inside);
	}
	/* As many as there may be, then one more. */
	n = (size_t)snprintf(many, sizeof(many), "\"inside\":[\"192.0.2.2\"");
	for (int i = 1; i < BUNDLE_INSIDE_MAX; i++)
		n += (size_t)snprintf(many + n, sizeof(many) - n,
				      ",\"2001:db8:1111:2222:3333:4444:5555:%x\"", 0x1000 + i);
	(void)snprintf(many + n, sizeof(many) - n, "],");
	assert_int_equal(load_inside(&c, many), 0);
	assert_int_equal(c.n_inside, BUNDLE_INSIDE_MAX);
	bundle_config_free(&c);
	(void)snprintf(many + n, sizeof(many) - n, ",\"::2\"],");
	assert_true(load_inside(&c, many) < 0);
}

#define SSH_REMOTE                                                                                 \
	"{\"name\":\"origin\",\"transport\":\"ssh\",\"host\":\"git.example.com\",\"port\":22,"     \
	"\"user\":\"git\",\"path\":\"team/app.git\",\"credential\":3,\"host_key\":\"ssh-ed25519 "  \
	"AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\"," REFS
#define WORKSPACE "{\"name\":\"workspace\",\"transport\":\"workspace\"," REFS
#define REFS                                                                                       \
	"\"branches\":[],\"protected\":[],\"tags\":[],\"protect_head\":true,\"force\":false,"      \
	"\"delete\":false,\"stale\":false,\"oversize\":false,\"max_object\":1,\"max_pack\":1,"     \
	"\"allow\":[]}"
#define GIT(remotes) "\"git\":{\"version\":1,\"enforce_identity\":false,\"remotes\":[" remotes "]},"
#define FOLDER	     "\"git_folder\":\"/srv/git\","

static void test_config_git(void **state)
{
	static const char *const refused[] = {
		FOLDER,
		GIT(WORKSPACE),
		"\"git\":null," FOLDER,
		"\"git\":[]," FOLDER,
		"\"git\":{}," FOLDER,
		GIT("{}") FOLDER,
		GIT(WORKSPACE "," WORKSPACE) FOLDER,
		GIT(WORKSPACE) "\"git_folder\":\"srv/git\",",
		GIT(WORKSPACE) "\"git_folder\":\"/\",",
		GIT(WORKSPACE) "\"git_folder\":\"\",",
		GIT(WORKSPACE) "\"git_folder\":7,",
		GIT(WORKSPACE) "\"git_folder\":\"/srv\\u0000/git\",",
	};
	const unsigned always = 1u << BUNDLE_ROLE_RECORD | 1u << BUNDLE_ROLE_KEYD |
				1u << BUNDLE_ROLE_EGRESS | 1u << BUNDLE_ROLE_PIPELOCK;
	struct bundle_config c;

	(void)state;
	assert_int_equal(load_inside(&c, ""), 0);
	assert_null(c.git);
	assert_int_equal(bundle_config_roles(&c), always);
	bundle_config_free(&c);
	assert_int_equal(load_inside(&c, GIT(WORKSPACE) FOLDER), 0);
	assert_int_equal(c.git->n_remotes, 1);
	assert_string_equal(c.git_folder, "/srv/git");
	assert_int_equal(bundle_config_roles(&c), always | 1u << BUNDLE_ROLE_GITGATE);
	bundle_config_free(&c);
	assert_int_equal(load_inside(&c, GIT(WORKSPACE "," SSH_REMOTE) FOLDER), 0);
	assert_int_equal(bundle_config_roles(&c),
			 always | 1u << BUNDLE_ROLE_GITGATE | 1u << BUNDLE_ROLE_GITSSH);
	bundle_config_free(&c);
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		if (load_inside(&c, refused[i]) == 0)
			fail_msg("%s was taken", refused[i]);
		assert_null(c.git);
		assert_null(c.git_folder);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config_needs_no_offset),
		cmocka_unit_test(test_config_inside),
		cmocka_unit_test(test_config_git),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
