/*
 * The keeper's side of a policy that changes, against an init that the test plays: in order, one
 * at a time, refused, answered wrongly or not at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/keeper_int.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

/* --- the keeper around it, as far as it is asked --- */

static const char *end_reason;

void keeper_end_bundle(struct keeper *k, const char *why)
{
	end_reason = why;
	k->bundle.is_started = false;
	keeper_policy_end(k);
	loop_stop(k->loop, 0);
}

int keeper_inside_put(struct buf *out, struct err *e)
{
	static unsigned last;

	(void)e;
	/* Another one each time: as if the host's addresses had changed. */
	return buf_printf(out, "\"192.0.2.%u\"", ++last);
}

void keeper_state_write(const struct keeper *k)
{
	(void)k;
}

static unsigned n_written;

int keeper_state_write_policy(const struct keeper *k, struct err *e)
{
	(void)k;
	(void)e;
	n_written++;
	return 0;
}

#include "backend/keeper_policy.c" /* NOLINT: the unit under test */

/* --- the world --- */

static struct plan plan = {.slug = (char *)"a-1", .is_supervised = true};
static struct keeper k;
static int init_fd;
static char said[64]; /* what was called back, a letter each */

static int set_up(void **state)
{
	struct err e = ERR_INIT;
	int pair[2];

	(void)state;
	k = (struct keeper){.plan = &plan,
			    .place = {.pinned = "10.209.0.2", .is_apart = true},
			    .loop = loop_new(&e)};
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	k.bundle.control_fd = pair[0];
	k.bundle.is_started = true;
	init_fd = pair[1];
	said[0] = '\0';
	end_reason = NULL;
	n_written = 0;
	assert_int_equal(keeper_policy_init(&k, &e), 0);
	close(keeper_policy_config(&k, &e));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	keeper_policy_free(&k.policy);
	loop_free(k.loop);
	close_fd(&k.bundle.control_fd);
	close_fd(&init_fd);
	return 0;
}

static void on_done(struct keeper *keeper, bool ok, void *ctx)
{
	size_t n = strlen(said);

	assert_ptr_equal(keeper, &k);
	said[n] = ok ? *(const char *)ctx : '-';
	said[n + 1] = '\0';
}

/* With n routes. */
static struct policy some_policy(size_t n)
{
	struct policy p = {.routes = mem_zalloc_array(n + 1, sizeof(*p.routes)), .n_routes = n};

	for (size_t i = 0; i < n; i++) {
		p.routes[i].host = mem_printf("h%zu.example.com", i);
		p.routes[i].ports[0] = 443;
		p.routes[i].n_ports = 1;
		p.routes[i].methods = 1;
	}
	return p;
}

static int apply(size_t n_routes, bool is_paused, keeper_policy_fn *fn, const char *letter)
{
	_cleanup_(policy_free) struct policy p = some_policy(n_routes);
	struct err e = ERR_INIT;

	return keeper_policy_apply(&k, &p, is_paused, fn, (void *)(uintptr_t)letter, &e);
}

/* What init is sent; nothing more comes meanwhile. */
static void expect_command(unsigned generation, size_t n_routes, bool is_paused)
{
	char message[128], want[128];
	struct err e = ERR_INIT;
	struct str text;
	size_t n_fds = 1;
	json_t *j;
	int fd = -1;
	ssize_t n = io_recv_fds(init_fd, message, sizeof(message) - 1, &fd, &n_fds, MSG_DONTWAIT);

	assert_true(n > 0 && n_fds == 1);
	message[n] = '\0';
	(void)snprintf(want, sizeof(want), "{\"command\":\"policy\",\"generation\":%u}",
		       generation);
	assert_string_equal(message, want);
	assert_int_equal(io_read_all(fd, BUNDLE_CONFIG_MAX, &text, &e), 0);
	j = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
	assert_int_equal(json_array_size(json_object_get(json_object_get(j, "policy"), "routes")),
			 n_routes);
	assert_int_equal(json_is_true(json_object_get(j, "paused")), is_paused);
	assert_true(json_is_true(json_object_get(j, "supervised")));
	/* As at the start, whatever the host's addresses are now. */
	assert_int_equal(json_array_size(json_object_get(j, "inside")), 1);
	assert_true(str_find(text, buf_str(&k.policy.inside)) < text.n);
	json_decref(j);
	free((void *)(uintptr_t)text.p);
	close(fd);
	assert_int_equal(io_recv_fds(init_fd, message, sizeof(message), NULL, NULL, MSG_DONTWAIT),
			 -EAGAIN);
}

static void test_in_order(void **state)
{
	(void)state;
	assert_int_equal(apply(1, false, on_done, "a"), 0);
	assert_int_equal(apply(2, true, on_done, "b"), 0);
	assert_int_equal(apply(0, false, on_done, "c"), 0);
	expect_command(1, 1, false);
	keeper_policy_answer(&k, 1, NULL);
	assert_string_equal(said, "a");
	assert_int_equal(k.policy.policy.n_routes, 1);
	expect_command(2, 2, true);
	assert_false(k.policy.is_paused);
	keeper_policy_answer(&k, 2, NULL);
	assert_true(k.policy.is_paused);
	expect_command(3, 0, false);
	keeper_policy_answer(&k, 3, NULL);
	assert_string_equal(said, "abc");
	assert_int_equal(n_written, 3);
	assert_null(end_reason);
}

/* Nothing is in force by it, and its number is free. */
static void test_refused(void **state)
{
	(void)state;
	assert_int_equal(apply(1, false, on_done, "a"), 0);
	assert_int_equal(apply(2, false, on_done, "b"), 0);
	expect_command(1, 1, false);
	keeper_policy_answer(&k, 1, "no");
	assert_string_equal(said, "-");
	assert_int_equal(k.policy.policy.n_routes, 0);
	assert_int_equal(n_written, 0);
	expect_command(1, 2, false);
	keeper_policy_answer(&k, 1, NULL);
	assert_string_equal(said, "-b");
	assert_int_equal(k.policy.policy.n_routes, 2);
}

static void apply_again(struct keeper *keeper, bool ok, void *ctx)
{
	on_done(keeper, ok, ctx);
	assert_int_equal(apply(3, false, on_done, "c"), 0);
}

/* From inside an answer: behind what waited already. */
static void test_from_inside(void **state)
{
	(void)state;
	assert_int_equal(apply(1, false, apply_again, "a"), 0);
	assert_int_equal(apply(2, false, on_done, "b"), 0);
	expect_command(1, 1, false);
	keeper_policy_answer(&k, 1, NULL);
	expect_command(2, 2, false);
	keeper_policy_answer(&k, 2, NULL);
	expect_command(3, 3, false);
	keeper_policy_answer(&k, 3, NULL);
	assert_string_equal(said, "abc");
}

/* The bundle ends, and all that waited hears of it. */
static void test_wrong_answers(void **state)
{
	(void)state;
	assert_int_equal(apply(1, false, on_done, "a"), 0);
	assert_int_equal(apply(1, false, on_done, "b"), 0);
	keeper_policy_answer(&k, 2, NULL);
	assert_non_null(end_reason);
	assert_string_equal(said, "--");
	assert_int_equal(apply(1, false, on_done, "c"), -ESHUTDOWN);
	assert_string_equal(said, "--");
}

static void test_unasked_answer(void **state)
{
	(void)state;
	keeper_policy_answer(&k, 1, NULL);
	assert_non_null(end_reason);
}

/* init that does not listen is as one that is silent; that takes a turn of the loop. */
static void test_no_init(void **state)
{
	(void)state;
	close_fd(&init_fd);
	assert_int_equal(apply(1, false, on_done, "a"), 0);
	assert_string_equal(said, "");
	(void)loop_run(k.loop);
	assert_non_null(end_reason);
	assert_string_equal(said, "-");
}

static void test_too_many(void **state)
{
	(void)state;
	for (unsigned i = 0; i < KEEPER_UPDATES_MAX; i++)
		assert_int_equal(apply(1, false, on_done, "a"), 0);
	assert_int_equal(apply(1, false, on_done, "b"), -EBUSY);
	expect_command(1, 1, false);
	keeper_policy_answer(&k, 1, NULL);
	assert_int_equal(apply(1, false, on_done, "b"), 0);
}

int main(void)
{
#define TEST_(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST_(in_order),       TEST_(refused), TEST_(from_inside), TEST_(wrong_answers),
		TEST_(unasked_answer), TEST_(no_init), TEST_(too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
