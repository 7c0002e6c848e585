/*
 * A policy that changes while the bundle runs, seen from the keeper's side: in force when init says
 * so, refused without a trace, and held against roles that do not take it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"

#include "base/clean.h"
#include "base/io.h"
#include "bundle/news.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define ROUTE(host)                                                                                \
	",{\"host\":\"" host "\",\"ports\":[443],\"methods\":[\"GET\"],\"paths\":[],"              \
	"\"on_match\":\"block\",\"websocket\":false,\"grant\":7,\"once\":false}"

static void send_policy(struct bundle *b, unsigned generation, int config)
{
	char text[80];
	int n = snprintf(text, sizeof(text), "{\"command\":\"policy\",\"generation\":%u}",
			 generation);

	assert_int_equal(io_send_fds(b->control, text, (size_t)n, &config, config >= 0, 0), n);
	if (config >= 0)
		close(config);
}

static void expect_policy(struct bundle *b, const char *event, unsigned generation)
{
	char text[80];

	(void)snprintf(text, sizeof(text), "{\"event\":\"%s\",\"generation\":%u", event,
		       generation);
	expect_event(b, text);
}

static void begin(struct bundle *b, unsigned with)
{
	bundle_start(b, with);
	expect_event(b, "\"ready\"");
	assert_int_equal(command(b, 'n'), '2');
}

static void end(struct bundle *b)
{
	pid_t pids[ROLES];

	roles_of(b, pids, ROLES);
	bundle_stop(b);
	expect_end(b, 0, pids, ROLES);
}

static void test_in_force(void **state)
{
	pid_t pid;
	struct bundle b;

	(void)state;
	begin(&b, WITH_SUPERVISE);
	pid = role_pid(&b, "pipelock");
	send_policy(&b, 1, bundle_config_file(WITH_SUPERVISE, ROUTE("a.example.com"), false));
	expect_policy(&b, "policy", 1);
	assert_int_equal(command(&b, 'n'), '3');
	assert_int_equal(command(&b, 'g'), '1');
	send_policy(&b, 2, bundle_config_file(WITH_SUPERVISE, "", true));
	expect_policy(&b, "policy", 2);
	assert_int_equal(command(&b, 'n'), 'c');
	assert_int_equal(role_pid(&b, "pipelock"), pid);
	/* Whoever starts later has it as well, and the next one. */
	(void)kill(pid, SIGKILL);
	expect_event(&b, "\"role\":\"pipelock\"");
	assert_int_equal(command(&b, 'n'), 'c');
	send_policy(&b, 3, bundle_config_file(WITH_SUPERVISE, ROUTE("a.example.com"), false));
	expect_policy(&b, "policy", 3);
	assert_int_equal(command(&b, 'n'), '3');
	end(&b);
}

/* Several at a time: one after the other, each answered. */
static void test_in_order(void **state)
{
	struct bundle b;

	(void)state;
	begin(&b, 0);
	for (unsigned i = 1; i <= 6; i++)
		send_policy(&b, i,
			    bundle_config_file(0, i % 2 ? ROUTE("a.example.com") : "", false));
	for (unsigned i = 1; i <= 6; i++)
		expect_policy(&b, "policy", i);
	assert_int_equal(command(&b, 'g'), '6');
	assert_int_equal(command(&b, 'n'), '2');
	end(&b);
}

static int other_config(const char *from, const char *to)
{
	_cleanup_close_ int fd = bundle_config_file(0, "", false);
	struct err e = ERR_INIT;
	struct str text;
	size_t at, n_from = strlen(from), n_to = strlen(to);
	char changed[4096];
	int made;

	assert_int_equal(io_read_all(fd, sizeof(changed) - n_to, &text, &e), 0);
	at = str_find(text, str_of(from));
	assert_true(at < text.n);
	memcpy(changed, text.p, at);
	memcpy(changed + at, to, n_to);
	memcpy(changed + at + n_to, text.p + at + n_from, text.n - at - n_from);
	made = io_memfd_sealed("config", str_slice(changed, text.n - n_from + n_to), &e);
	free((void *)(uintptr_t)text.p);
	return made;
}

/* Nothing changes by it, and the number is still free. */
static void test_refused(void **state)
{
	static const struct {
		const char *from, *to;
	} changes[] = {
		{"\"t-1\"", "\"t-2\""},
		{"10.209.0.2", "10.209.0.3"},
		{"\"supervised\":false", "\"supervised\":true"},
		{"\"uid_base\":", "\"uid_base\":1"},
		{"\"paused\":", "\"inside\":[\"192.0.2.1\"],\"paused\":"},
		{"\"paused\":", "\"pauses\":"},
		{"\"bearer\"", "\"token\""},
		{"/api/**", "/**"},
		/* Of the manifest, with a credential or not. */
		{"other.example.com", "evil.example.com"},
		{"\"resolve\":[]",
		 "\"resolve\":[{\"host\":\"a.example.com\",\"address\":\"192.0.2.1\"}]"},
		{"}", "}}"},
	};
	struct bundle b;
	pid_t pid;

	(void)state;
	begin(&b, 0);
	pid = role_pid(&b, "pipelock");
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		send_policy(&b, 1, other_config(changes[i].from, changes[i].to));
		expect_policy(&b, "policy-refused", 1);
	}
	send_policy(&b, 1, -1);
	expect_policy(&b, "policy-refused", 1);
	send_policy(&b, 2, bundle_config_file(0, "", true));
	expect_policy(&b, "policy-refused", 2);
	send_policy(&b, 0, bundle_config_file(0, "", true));
	expect_policy(&b, "policy-refused", 0);
	assert_int_equal(command(&b, 'g'), '0');
	assert_int_equal(command(&b, 'n'), '2');
	send_policy(&b, 1, bundle_config_file(0, "", true));
	expect_policy(&b, "policy", 1);
	assert_int_equal(role_pid(&b, "pipelock"), pid);
	end(&b);
}

/* A role that is silent, ends or lies is started again, with what it did not take; often, without
 * that the bundle ends by it. */
static void test_held_against_roles(void **state)
{
	static const char *const routes[] = {
		ROUTE("exit.example.com"),   ROUTE("lie.example.com"),	ROUTE("exit.example.com"),
		ROUTE("lie.example.com"),    ROUTE("exit.example.com"), ROUTE("exit.example.com"),
		ROUTE("silent.example.com"),
	};
	struct bundle b;

	(void)state;
	begin(&b, 0);
	for (unsigned i = 0; i < ARRAY_LEN(routes); i++) {
		send_policy(&b, i + 1, bundle_config_file(0, routes[i], false));
		expect_event(&b, "\"role\":\"pipelock\"");
		expect_policy(&b, "policy", i + 1);
		assert_int_equal(command(&b, 'n'), '3');
		assert_int_equal(command(&b, 'g'), '0');
	}
	end(&b);
}

/* Killed at some moment around the news, it has it afterwards. */
static void test_killed_meanwhile(void **state)
{
	struct bundle b;

	(void)state;
	begin(&b, 0);
	for (unsigned i = 1; i <= 4; i++) {
		int config = bundle_config_file(0, i % 2 ? ROUTE("a.example.com") : "", false);
		pid_t pid = role_pid(&b, "pipelock");

		if (i <= 2)
			(void)kill(pid, SIGKILL);
		send_policy(&b, i, config);
		if (i > 2)
			(void)kill(pid, SIGKILL);
		expect_policy(&b, "policy", i);
		assert_int_equal(command(&b, 'n'), i % 2 ? '3' : '2');
	}
	end(&b);
}

/* What supervise is given, and that it asks nothing of keyd. */
static void test_channels(void **state)
{
	static const struct {
		const char *name;
		unsigned roles;
	} expected[] = {
		{"news", 1u << BUNDLE_ROLE_PIPELOCK | 1u << BUNDLE_ROLE_EGRESS |
				 1u << BUNDLE_ROLE_SUPERVISE},
		{"desk", 1u << BUNDLE_ROLE_PIPELOCK | 1u << BUNDLE_ROLE_GITGATE |
				 1u << BUNDLE_ROLE_SUPERVISE},
		{"refused", 1u << BUNDLE_ROLE_RECORD | 1u << BUNDLE_ROLE_SUPERVISE},
		{"listen", 1u << BUNDLE_ROLE_PIPELOCK | 1u << BUNDLE_ROLE_GITGATE |
				   1u << BUNDLE_ROLE_SUPERVISE},
		{"keyd", (1u << BUNDLE_ROLE_COUNT) - 1 - (1u << BUNDLE_ROLE_KEYD) -
				 (1u << BUNDLE_ROLE_SUPERVISE)},
	};
	pid_t pids[BUNDLE_ROLE_COUNT];
	struct bundle b;

	(void)state;
	bundle_start(&b, WITH_GIT | WITH_SUPERVISE);
	expect_event(&b, "\"ready\"");
	roles_of(&b, pids, BUNDLE_ROLE_COUNT);
	for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
		for (unsigned r = 0; r < BUNDLE_ROLE_COUNT; r++)
			assert_int_equal(role_has(pids[r], expected[i].name),
					 (expected[i].roles >> r) & 1);
	}
	bundle_stop(&b);
	expect_end(&b, 0, pids, BUNDLE_ROLE_COUNT);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_force),	 cmocka_unit_test(test_in_order),
		cmocka_unit_test(test_refused),		 cmocka_unit_test(test_held_against_roles),
		cmocka_unit_test(test_killed_meanwhile), cmocka_unit_test(test_channels),
	};

	if (argc != 2)
		return 2;
	fake_bundle = argv[1];
	return cmocka_run_group_tests(tests, NULL, remove_records);
}
