/* The frames for a hook that does not take them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define HOOK_SEND_MS 50
#include "gitgate/hook.c"

/* It has room again before the verdict comes, but has lost what it was told in between. */
static void test_late_reader(void **state)
{
	char line[3000], taken[65536];
	int pair[2], small = 1;

	(void)state;
	memset(line, 'x', sizeof(line));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	for (int i = 0; i < 10; i++)
		hook_say(pair[0], "%.*s", (int)sizeof(line), line);
	while (recv(pair[1], taken, sizeof(taken), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(hook_answer(pair[0], 0), -EPIPE);
	assert_int_equal(recv(pair[1], taken, sizeof(taken), MSG_DONTWAIT), 0);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_late_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
