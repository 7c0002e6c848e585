/* The bundle of a bottle with git: who is given which channel, and gitssh and git-gate as roles
 * that overstep, die and come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"

#include "base/clean.h"

#include <signal.h>
#include <unistd.h>

/* Its child, as soon as there is one. */
static pid_t child_of(pid_t parent)
{
	pid_t pid = 0;

	for (int tries = 0; tries < 500 && children_of(parent, &pid, 1) == 0; tries++)
		(void)usleep(10000);
	assert_true(pid > 0);
	return pid;
}

/* Each has what it is for, and nothing of what the others have. */
static void test_git_roles(void **state)
{
	static const struct {
		const char *name;
		unsigned roles;
	} expected[] = {
		{"stream", 1u << BUNDLE_ROLE_GITSSH},
		{"dial", 1u << BUNDLE_ROLE_GITSSH | 1u << BUNDLE_ROLE_EGRESS},
		{"ssh", 1u << BUNDLE_ROLE_GITGATE},
		{"git_egress", 1u << BUNDLE_ROLE_EGRESS},
		{"egress",
		 1u << BUNDLE_ROLE_EGRESS | 1u << BUNDLE_ROLE_PIPELOCK | 1u << BUNDLE_ROLE_GITGATE},
		{"listen", 1u << BUNDLE_ROLE_PIPELOCK | 1u << BUNDLE_ROLE_GITGATE},
		{"secrets", 1u << BUNDLE_ROLE_KEYD},
	};
	pid_t pids[GIT_ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b, WITH_GIT);
	expect_event(&b, "\"ready\"");
	roles_of(&b, pids, GIT_ROLES);
	for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
		for (unsigned r = 0; r < GIT_ROLES; r++)
			assert_int_equal(role_has(pids[r], expected[i].name),
					 (expected[i].roles >> r) & 1);
	}
	wait_for_record(&b, "\"heard\"");
	bundle_stop(&b);
	expect_end(&b, 0, pids, GIT_ROLES);
	/* What one wrote to the other over the channel between them. */
	assert_int_equal(records_with(&b, "\"role\":\"gitssh\",\"verdict\":\"note\""), 6);
	assert_int_equal(records_with(&b, "\"heard\""), 1);
	/* keyd gives gitssh what it needs to log in, and nothing besides. */
	assert_int_equal(records_with(&b, "\"as-expected\""), 5);
}

/* gitssh asks for a credential: as with pipelock. */
static void test_git_oversteps(void **state)
{
	pid_t pids[GIT_ROLES];
	struct bundle b;

	(void)state;
	bundle_start(&b, WITH_GIT);
	expect_event(&b, "\"ready\"");
	roles_of(&b, pids, GIT_ROLES);
	(void)kill(pids[BUNDLE_ROLE_GITSSH], SIGUSR1);
	expect_event(&b, "\"role\":\"gitssh\"");
	(void)kill(pids[BUNDLE_ROLE_GITGATE], SIGUSR1);
	expect_event(&b, "\"role\":\"gitgate\"");
	roles_of(&b, pids, GIT_ROLES);
	bundle_stop(&b);
	expect_end(&b, 0, pids, GIT_ROLES);
	assert_int_equal(records_with(&b, "\"keyd-request-refused\""), 2);
}

/* Killed, whatever it had started is gone before it is there again; the others did not notice. */
static void test_git_restarts(void **state)
{
	pid_t pids[GIT_ROLES], child;
	struct bundle b;

	(void)state;
	bundle_start(&b, WITH_GIT);
	expect_event(&b, "\"ready\"");
	roles_of(&b, pids, GIT_ROLES);
	child = child_of(pids[BUNDLE_ROLE_GITGATE]);
	(void)kill(pids[BUNDLE_ROLE_GITGATE], SIGKILL);
	expect_event(&b, "\"role\":\"gitgate\"");
	expect_gone(child);
	(void)kill(pids[BUNDLE_ROLE_GITSSH], SIGKILL);
	expect_event(&b, "\"role\":\"gitssh\"");
	assert_int_equal(command(&b, 'm'), '+');
	assert_int_equal(role_pid(&b, "pipelock"), pids[BUNDLE_ROLE_PIPELOCK]);
	roles_of(&b, pids, GIT_ROLES);
	child = child_of(pids[BUNDLE_ROLE_GITGATE]);
	bundle_stop(&b);
	expect_end(&b, 0, pids, GIT_ROLES);
	expect_gone(child);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_git_roles),
		cmocka_unit_test(test_git_oversteps),
		cmocka_unit_test(test_git_restarts),
	};

	if (argc != 2)
		return 2;
	fake_bundle = argv[1];
	return cmocka_run_group_tests(tests, NULL, remove_records);
}
