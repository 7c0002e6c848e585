/* QEMU's monitor, played: what is an answer and what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "qemu_fixture.h"

#include "base/clean.h"
#include "base/timeutil.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"

static int ask(const char *monitor, size_t n, int timeout_ms, char text[256])
{
	uint64_t until = time_monotonic_ns() + (uint64_t)timeout_ms * TIME_NS_PER_MS;
	json_t *answer = NULL;
	struct err e = ERR_INIT;
	struct port p;
	struct qmp q;
	int ret;

	port_open(&p);
	port_send(&p, monitor, n);
	ret = qmp_open(&q, p.theirs, until, &e);
	if (ret == 0)
		ret = qmp_call(&q, "query-status", NULL, -1, &answer, until, &e);
	json_decref(answer);
	qmp_free(&q);
	port_close(&p);
	(void)snprintf(text, 256, "%.255s", e.text);
	return ret;
}

static void test_asks_and_is_answered(void **state)
{
	static const char monitor[] =
		GREETING "{\"return\": {}, \"id\": 1}\n"
			 "{\"timestamp\": {\"seconds\": 1}, \"event\": \"RESUME\"}\n"
			 "{\"return\": {\"status\": \"running\"}, \"id\": 2}\n";
	char text[256];

	(void)state;
	assert_int_equal(ask(monitor, strlen(monitor), 2000, text), 0);
}

static void test_takes_nothing_else_for_an_answer(void **state)
{
	static const struct {
		const char *after; /* the greeting and its answer */
		int code;
	} cases[] = {
		{"{\"error\": {\"class\": \"X\", \"desc\": \"no\\n\"}, \"id\": 2}\n", -EREMOTEIO},
		{"{\"error\": {\"class\": \"X\"}, \"id\": 2}\n", -EPROTO},
		{"{\"return\": {}, \"id\": 3}\n", -EPROTO},
		{"{\"return\": {}}\n", -EPROTO},
		{"{\"return\": {}, \"error\": {\"desc\": \"\"}, \"id\": 2}\n", -EPROTO},
		{"{\"return\": {}, \"id\": 2, \"id\": 2}\n", -EPROTO},
		{"{\"return\": {}, \"id\": 2, \"more\": 1}\n", -EPROTO},
		{"[]\n", -EPROTO},
		{"{\"return\": {}, \"id\": 2} {}\n", -EPROTO},
		{"{\"return\": {}, \"id\": 2}", -ETIMEDOUT},
		{"", -ETIMEDOUT},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_free_ char *monitor = NULL;
		char text[256];
		int n = asprintf(&monitor, GREETING "{\"return\": {}, \"id\": 1}\n%s",
				 cases[i].after),
		    ret;

		assert_true(n > 0);
		ret = ask(monitor, (size_t)n, 50, text);
		if (ret != cases[i].code)
			fail_msg("%s: %d %s", cases[i].after, ret, text);
	}
}

static void test_reads_no_line_past_its_limit(void **state)
{
	static char monitor[QMP_LINE_MAX + 1];
	char text[256];

	(void)state;
	memset(monitor, ' ', sizeof(monitor));
	assert_int_equal(ask(monitor, sizeof(monitor), 2000, text), -EPROTO);
	assert_string_equal(text, "QEMU's monitor says too much");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_asks_and_is_answered),
		cmocka_unit_test(test_takes_nothing_else_for_an_answer),
		cmocka_unit_test(test_reads_no_line_past_its_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
