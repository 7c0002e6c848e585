/* What an ordinary user is told that mmdebstrap needs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "image/bootstrap.c"

static char etc[] = "/tmp/cb-bootstrap-XXXXXX";

static void write_etc(const char *name, const char *text)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", etc, name);

	if (text)
		assert_int_equal(io_write_file_atomic(AT_FDCWD, path, str_of(text), 0644, NULL), 0);
	else
		(void)unlink(path);
}

static void test_says_what_root_has_to_do(void **state)
{
#define ADD_UIDS(range) "--add-subuids " range
#define ADD_GIDS(range) "--add-subgids " range
	static const struct {
		const char *subuid, *subgid;
		bool has_tools;
		const char *lacks;
	} cases[] = {
		{"me:100000:65536\n", "me:100000:65536\n", true, ""},
		{"1234:100000:65536\n", "me:100000:65536", true, ""},
		{"me:100000:65536\n", "me:100000:65536\n", false, "apt-get install uidmap"},
		{NULL, NULL, true,
		 "usermod " ADD_UIDS("100000-165535") " " ADD_GIDS("100000-165535") " me"},
		{NULL, NULL, false,
		 "apt-get install uidmap && usermod " ADD_UIDS("100000-165535") " " ADD_GIDS(
			 "100000-165535") " me"},
		/* Nobody else's range is offered. */
		{"you:100000:65536\nme2:165536:65536\n", "me:100000:65536\n", true,
		 "usermod " ADD_UIDS("231072-296607") " me"},
		/* Lines that mean nothing. */
		{"me\nme:\nme:1\nme:x:y\nme:1:0\nme:-1:5\n:1:1\n\n", "me:1:1", true,
		 "usermod " ADD_UIDS("100000-165535") " me"},
	};
	const struct passwd me = {.pw_name = (char *)(uintptr_t) "me", .pw_uid = 1234};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(buf_free) struct buf out = BUF_INIT(ERR_TEXT_MAX);
		bool lacks;

		write_etc("subuid", cases[i].subuid);
		write_etc("subgid", cases[i].subgid);
		lacks = find_lacks(&out, etc, &me, cases[i].has_tools);
		if (!str_eq(buf_str(&out), str_of(cases[i].lacks)))
			fail_msg("%zu: " STR_FMT, i, STR_ARG(buf_str(&out)));
		assert_int_equal(lacks, cases[i].lacks[0] != '\0');
	}
}

static int make_etc(void **state)
{
	(void)state;
	return mkdtemp(etc) ? 0 : -1;
}

static int remove_etc(void **state)
{
	(void)state;
	return io_remove_tree(AT_FDCWD, etc, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_says_what_root_has_to_do)};

	return cmocka_run_group_tests(tests, make_etc, remove_etc);
}
