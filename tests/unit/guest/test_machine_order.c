/* What process 1 of a machine takes from the host: every key, and nothing besides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/clean.h"
#include "guest/machine_int.h"

#include <errno.h>

#define SEED "00112233445566778899aabbccddeeff"

/* A good order, of which a test replaces one value. */
static const struct {
	const char *key, *value;
} order[] = {
	{"time_ns", "1700000000000000001"},
	{"seed", "\"" SEED SEED SEED SEED "\""},
	{"hostname", "\"bottle-1\""},
	{"pinned", "\"10.209.0.2\""},
	{"uid", "1000"},
	{"gid", "1001"},
	{"has_writable_root", "false"},
	{"has_tty", "true"},
	{"rows", "24"},
	{"columns", "65535"},
	{"env", "[\"HOME=/home/agent\",\"X=\"]"},
	{"expose", "[\"/srv/data\"]"},
	{"files", "[{\"path\":\"/etc/ssl/x\",\"mode\":292,\"text\":\"a\\u00e4\"}]"},
	{"tmp_bytes", "1048576"},
};
static const struct {
	const char *key, *value;
} session[] = {
	{"argv", "[\"sh\",\"-c\",\"\"]"},
	{"number", "7"},
	{"tty", "false"},
	{"rows", "1"},
	{"columns", "2"},
};

static char *with(char *out, const char *key, const char *value, const char *wanted,
		  const char *instead)
{
	char *longer;

	if (wanted && strcmp(key, wanted) == 0)
		value = instead;
	longer = value ? mem_printf("%s%s\"%s\":%s", out, out[1] ? "," : "", key, value)
		       : mem_strdup(out);
	free(out);
	return longer;
}

static char *order_with(const char *wanted, const char *instead)
{
	char *out = mem_strdup("{");

	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		out = with(out, order[i].key, order[i].value, wanted, instead);
	return out;
}

static char *session_with(const char *wanted, const char *instead)
{
	char *out = mem_strdup("{");

	for (size_t i = 0; i < ARRAY_LEN(session); i++)
		out = with(out, session[i].key, session[i].value, wanted, instead);
	return out;
}

static int parse(char *text, const char *end, struct machine_orders *o, struct err *e)
{
	_cleanup_free_ char *whole = mem_printf("%s%s", text, end);

	free(text);
	*e = ERR_INIT;
	return machine_orders_parse(o, str_of(whole), e);
}

static int parse_session(char *text, struct machine_start *s, struct err *e)
{
	_cleanup_free_ char *whole = mem_printf("%s}", text);

	free(text);
	*e = ERR_INIT;
	return machine_start_parse(s, str_of(whole), e);
}

static void test_order(void **state)
{
	static struct machine_orders o;
	const struct machine_order *m = &o.order;
	struct err e;

	(void)state;
	assert_int_equal(parse(order_with(NULL, NULL), "}", &o, &e), 0);
	assert_int_equal(m->time_ns, 1700000000000000001);
	assert_memory_equal(m->seed + 16, "\x00\x11\x22", 3);
	assert_string_equal(m->hostname, "bottle-1");
	assert_string_equal(m->pinned, "10.209.0.2");
	assert_int_equal(m->uid, 1000);
	assert_int_equal(m->gid, 1001);
	assert_true(m->has_tty && !m->has_writable_root);
	assert_int_equal(m->rows, 24);
	assert_int_equal(m->columns, 65535);
	assert_int_equal(m->n_env, 2);
	assert_string_equal(m->env[1], "X=");
	assert_null(m->env[2]);
	assert_int_equal(m->n_expose, 1);
	assert_string_equal(m->expose[0], "/srv/data");
	assert_int_equal(m->n_files, 1);
	assert_string_equal(m->files[0].path, "/etc/ssl/x");
	assert_int_equal(m->files[0].mode, 0444);
	assert_int_equal(m->files[0].text.n, 3);
	assert_int_equal(m->tmp_bytes, 1048576);
	machine_orders_free(&o);
}

static void test_order_refused(void **state)
{
	static const struct {
		const char *key, *value;
	} bad[] = {
		{"time_ns", "-1"},
		{"time_ns", "1.5"},
		{"seed", "\"00\""},
		{"seed", "\"" SEED SEED SEED "zz112233445566778899aabbccddeeff\""},
		{"seed", "3"},
		{"hostname", "\"\""},
		{"hostname", "\"a b\""},
		{"hostname",
		 "\"0123456789012345678901234567890123456789012345678901234567890123\""},
		{"pinned", "\"fd00::1\""},
		{"pinned", "\"10.209.0.2/8\""},
		{"uid", "4294967295"},
		{"gid", "-1"},
		{"has_writable_root", "0"},
		{"has_tty", "null"},
		{"rows", "65536"},
		{"columns", "\"80\""},
		{"env", "[\"=x\"]"},
		{"env", "{}"},
		{"expose", "[\"srv\"]"},
		{"expose", "[\"/srv/../etc\"]"},
		{"expose", "[\"/\"]"},
		{"expose", "\"/srv\""},
		{"files", "[{\"path\":\"/etc/../x\",\"mode\":292,\"text\":\"\"}]"},
		{"files", "[{\"path\":\"/usr/x\",\"mode\":292,\"text\":\"\"}]"},
		{"files", "[{\"path\":\"/etc/\",\"mode\":292,\"text\":\"\"}]"},
		{"files", "[{\"path\":\"/etc/x\",\"mode\":512,\"text\":\"\"}]"},
		{"files", "[{\"path\":\"/etc/x\",\"mode\":1}]"},
		{"files", "[{\"path\":\"/etc/x\",\"mode\":1,\"text\":\"\",\"more\":1}]"},
		{"tmp_bytes", "0"},
		{"tmp_bytes", "-5"},
	};
	static struct machine_orders o;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (parse(order_with(bad[i].key, bad[i].value), "}", &o, &e) != -EPROTO ||
		    !strstr(e.text, bad[i].key))
			fail_msg("%s %s: \"%s\"", bad[i].key, bad[i].value, e.text);
		machine_orders_free(&o);
	}
	/* None may be missing. */
	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		if (parse(order_with(order[i].key, NULL), "}", &o, &e) != -EPROTO ||
		    !strstr(e.text, order[i].key))
			fail_msg("without %s: \"%s\"", order[i].key, e.text);
		machine_orders_free(&o);
	}
	assert_int_equal(parse(order_with(NULL, NULL), ",\"more\":1}", &o, &e), -EPROTO);
	machine_orders_free(&o);
	assert_int_equal(parse(order_with(NULL, NULL), ",\"uid\":0}", &o, &e), -EPROTO);
	machine_orders_free(&o);
	assert_int_equal(parse(order_with(NULL, NULL), "}}", &o, &e), -EPROTO);
	machine_orders_free(&o);
}

static void test_session(void **state)
{
	static const struct {
		const char *key, *value;
	} bad[] = {
		{"argv", "[]"},	  {"argv", "[\"\"]"},	    {"argv", "[1]"},	{"number", "0"},
		{"number", "-1"}, {"number", "1000000000"}, {"tty", "\"yes\""}, {"rows", "65536"},
		{"argv", NULL},	  {"number", NULL},	    {"tty", NULL},	{"columns", NULL},
	};
	static struct machine_start s;
	struct err e;

	(void)state;
	assert_int_equal(parse_session(session_with(NULL, NULL), &s, &e), 0);
	assert_string_equal(s.session.argv[1], "-c");
	assert_null(s.session.argv[3]);
	assert_int_equal(s.session.number, 7);
	assert_int_equal(s.session.columns, 2);
	machine_start_free(&s);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (parse_session(session_with(bad[i].key, bad[i].value), &s, &e) != -EPROTO ||
		    !strstr(e.text, bad[i].key))
			fail_msg("%s %s: \"%s\"", bad[i].key, bad[i].value ? bad[i].value : "gone",
				 e.text);
		machine_start_free(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_order_refused),
		cmocka_unit_test(test_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
