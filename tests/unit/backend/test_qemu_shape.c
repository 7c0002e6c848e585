/* What a machine gets of what the plan's limits ask for, and what its human is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/qemu/shape.c"

#include <string.h>

struct told {
	unsigned n;
	char last[200];
};

static void note(void *ctx, const char *step, const char *text, uint64_t done, uint64_t total)
{
	struct told *t = ctx;

	(void)step;
	(void)done;
	(void)total;
	t->n++;
	(void)snprintf(t->last, sizeof(t->last), "%s", text);
}

static struct plan limits(uint64_t mib, uint64_t cpu_milli)
{
	return (struct plan){.limits = {.memory_bytes = mib * QEMU_MIB, .cpu_milli = cpu_milli}};
}

static void test_refuses_what_does_not_boot(void **state)
{
	struct plan none = limits(0, 0), least = limits(256, 0), little = limits(64, 0);
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(qemu_shape_check(&none, &e), 0);
	assert_int_equal(qemu_shape_check(&least, &e), 0);
	assert_int_equal(qemu_shape_check(&little, &e), -EINVAL);
	assert_non_null(strstr(e.text, "64 MiB"));
	assert_non_null(strstr(e.text, "at least 256 MiB"));
}

static void test_tells_what_this_host_has_not(void **state)
{
	struct plan modest = limits(256, 1000), greedy = limits(UINT64_C(1) << 30, 1000000);
	struct told told = {.n = 0};
	const struct progress progress = {.fn = note, .ctx = &told};
	struct qemu_shape s;

	(void)state;
	qemu_shape_plan(&s, &modest);
	assert_int_equal(s.memory_bytes, 256 * QEMU_MIB);
	assert_int_equal(s.cpus, 1);
	qemu_shape_tell(&modest, &s, &progress);
	assert_int_equal(told.n, 0);
	qemu_shape_plan(&s, &greedy);
	assert_true(s.memory_bytes <= host_memory() && s.cpus <= SHAPE_CPUS_MAX);
	qemu_shape_tell(&greedy, &s, &progress);
	assert_int_equal(told.n, 2);
	assert_non_null(strstr(told.last, "limits: cpu: 1000 cannot be had"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refuses_what_does_not_boot),
		cmocka_unit_test(test_tells_what_this_host_has_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
