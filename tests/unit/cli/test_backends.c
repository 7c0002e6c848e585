/*
 * What the command line does with several backends, shown with backends that are made up: the
 * choice among them, what dead bottles left with them, and the images that they keep.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define backend_preference fake_preference
#define backend_find	   fake_find
/* NOLINTBEGIN(bugprone-suspicious-include) */
#include "cli/cmd_commit.c"
#include "cli/leftovers.c"
#include "cli/preflight_choose.c"
/* NOLINTEND(bugprone-suspicious-include) */

/* "docker" is the better one of the two, and has an engine that may be away. */
static bool has_engine;
static const char *engine_words;
static unsigned n_cleanups, n_native_cleanups, n_sweeps;
static char cleaned[PLACES_PATH_MAX];

static int engine_offer(char why[BACKEND_WHY_MAX], struct err *e)
{
	if (!has_engine)
		return err_set(e, -ECONNREFUSED, "%s", engine_words);
	(void)snprintf(why, BACKEND_WHY_MAX, "an engine answers (20.10.24)");
	return 0;
}

static int engine_cleanup(const char *slug, const char *state_dir, struct err *e)
{
	(void)slug;
	n_cleanups++;
	(void)snprintf(cleaned, sizeof(cleaned), "%s", state_dir);
	return has_engine ? 0 : err_set(e, -ECONNREFUSED, "%s", engine_words);
}

static int engine_sweep(const char *state_root, bool is_dry, size_t *n, struct err *e)
{
	(void)state_root;
	(void)is_dry;
	n_sweeps++;
	*n = 2;
	return has_engine ? 0 : err_set(e, -ECONNREFUSED, "%s", engine_words);
}

/* --- the engine's images --- */

static const char *image_answer;
static char asked_slug[PLACES_SLUG_MAX], asked_name[BACKEND_REFERENCE_MAX],
	asked_dir[PLACES_PATH_MAX];
static bool was_locked;

static int engine_commit(const char *slug, const char *state_dir, const char *name,
			 char reference[BACKEND_REFERENCE_MAX], struct err *e)
{
	struct bottles_entry b;
	int bottles;

	(void)snprintf(asked_slug, sizeof(asked_slug), "%s", slug);
	(void)snprintf(asked_name, sizeof(asked_name), "%s", name);
	(void)snprintf(asked_dir, sizeof(asked_dir), "%s", state_dir);
	assert_int_equal(places_bottles_open(false, &bottles, NULL), 0);
	assert_int_equal(bottles_load(bottles, slug, &b, NULL), 0);
	was_locked = b.is_alive;
	(void)close(bottles);
	if (!has_engine)
		return err_set(e, -ECONNREFUSED, "%s", engine_words);
	(void)snprintf(reference, BACKEND_REFERENCE_MAX, "%s", image_answer);
	return 0;
}

static int plain_offer(char why[BACKEND_WHY_MAX], struct err *e)
{
	(void)e;
	(void)snprintf(why, BACKEND_WHY_MAX, "namespaces");
	return 0;
}

static int plain_cleanup(const char *slug, const char *state_dir, struct err *e)
{
	(void)slug;
	(void)state_dir;
	(void)e;
	n_native_cleanups++;
	return 0;
}

static const struct backend engine_backend = {.name = "docker",
					      .offer = engine_offer,
					      .cleanup = engine_cleanup,
					      .sweep = engine_sweep,
					      .commit = engine_commit};
static const struct backend plain_backend = {
	.name = "native", .offer = plain_offer, .cleanup = plain_cleanup};

const struct backend *const fake_preference[] = {&engine_backend, &plain_backend, NULL};

const struct backend *fake_find(enum plan_backend b)
{
	return b == PLAN_BACKEND_DOCKER	  ? &engine_backend
	       : b == PLAN_BACKEND_NATIVE ? &plain_backend
					  : NULL;
}

/* --- the choice --- */

static void test_unset_takes_the_best_that_is_offered(void **state)
{
	struct preflight_choice c;
	struct err e = ERR_INIT;

	(void)state;
	has_engine = true;
	assert_int_equal(preflight_choose(&c, NULL, PLAN_BACKEND_UNSET, &e), 0);
	assert_int_equal(c.backend, PLAN_BACKEND_DOCKER);
	assert_string_equal(c.why, "an engine answers (20.10.24)");
	assert_int_equal(preflight_check(&c, &e), 0);
	assert_string_equal(c.why, "an engine answers (20.10.24)");
	has_engine = false;
	engine_words = "no engine answers at unix:///run/x.sock";
	assert_int_equal(preflight_choose(&c, NULL, PLAN_BACKEND_UNSET, &e), 0);
	assert_int_equal(c.backend, PLAN_BACKEND_NATIVE);
	assert_string_equal(c.why,
			    "namespaces; not docker: no engine answers at unix:///run/x.sock");
}

static void test_flag_then_variable_then_manifest(void **state)
{
	struct preflight_choice c;
	struct err e = ERR_INIT;

	(void)state;
	has_engine = true;
	assert_int_equal(preflight_choose(&c, NULL, PLAN_BACKEND_QEMU, &e), 0);
	assert_int_equal(c.backend, PLAN_BACKEND_QEMU);
	assert_string_equal(c.why, "named by the manifest");
	(void)setenv("CLAUDE_BOTTLE_BACKEND", "docker", 1);
	assert_int_equal(preflight_choose(&c, NULL, PLAN_BACKEND_QEMU, &e), 0);
	assert_int_equal(c.backend, PLAN_BACKEND_DOCKER);
	assert_string_equal(c.why, "named by CLAUDE_BOTTLE_BACKEND");
	assert_int_equal(preflight_choose(&c, "native", PLAN_BACKEND_QEMU, &e), 0);
	assert_int_equal(c.backend, PLAN_BACKEND_NATIVE);
	assert_int_equal(preflight_check(&c, &e), 0);
	assert_string_equal(c.why, "named by --backend");
	(void)setenv("CLAUDE_BOTTLE_BACKEND", "", 1);
	assert_int_equal(preflight_choose(&c, NULL, PLAN_BACKEND_UNSET, &e), 0);
	assert_int_equal(c.backend, PLAN_BACKEND_DOCKER);
	assert_false(c.is_named);
	(void)unsetenv("CLAUDE_BOTTLE_BACKEND");
}

/* A named one that cannot be had is an error, though another could be. */
static void test_named_never_falls_back(void **state)
{
	struct preflight_choice c;
	struct err e = ERR_INIT;

	(void)state;
	has_engine = false;
	engine_words = "no engine answers";
	assert_int_equal(preflight_choose(&c, "docker", PLAN_BACKEND_NATIVE, &e), 0);
	assert_int_equal(c.backend, PLAN_BACKEND_DOCKER);
	assert_int_equal(preflight_check(&c, &e), -ECONNREFUSED);
	assert_string_equal(e.text, "backend docker (named by --backend): no engine answers");
	assert_int_equal(preflight_choose(&c, NULL, PLAN_BACKEND_QEMU, &e), 0);
	assert_int_equal(preflight_check(&c, &e), -ENOSYS);
	assert_string_equal(e.text, "backend qemu (named by the manifest) is not in this build "
				    "(see \"claude-bottle doctor\")");
	assert_int_equal(preflight_choose(&c, "dokcer", PLAN_BACKEND_NATIVE, &e), -EINVAL);
	assert_string_equal(e.text,
			    "--backend: unknown backend \"dokcer\"; did you mean \"docker\"?");
	(void)setenv("CLAUDE_BOTTLE_BACKEND", "dokcer", 1);
	assert_true(preflight_choose(&c, NULL, PLAN_BACKEND_NATIVE, &e) < 0);
	assert_true(preflight_choose(&c, NULL, PLAN_BACKEND_UNSET, &e) < 0);
	(void)unsetenv("CLAUDE_BOTTLE_BACKEND");
}

static void test_why_shows_what_an_engine_hides(void **state)
{
	struct preflight_choice c;
	struct err e = ERR_INIT;

	(void)state;
	has_engine = false;
	engine_words = "bad\x1b[2J\nwords";
	assert_int_equal(preflight_choose(&c, NULL, PLAN_BACKEND_UNSET, &e), 0);
	assert_string_equal(c.why, "namespaces; not docker: bad\\x1b[2J\\nwords");
}

/* --- what is left --- */

static char home[64];

static void make_bottle(const char *slug, const char *json)
{
	char path[PLACES_PATH_MAX + 64], root[PLACES_PATH_MAX];
	FILE *f;

	assert_int_equal(places_bottles_path(root, NULL), 0);
	(void)snprintf(path, sizeof(path), "%s/%s", root, slug);
	assert_int_equal(io_mkdir_p(path, 0700, NULL), 0);
	(void)snprintf(path, sizeof(path), "%s/%s/lock", root, slug);
	f = fopen(path, "w");
	assert_non_null(f);
	(void)fclose(f);
	(void)snprintf(path, sizeof(path), "%s/%s/bottle.json", root, slug);
	if (!json)
		return;
	f = fopen(path, "w");
	assert_non_null(f);
	(void)fputs(json, f);
	(void)fclose(f);
}

/* leftovers_remove() on it; *is_there: its folder is still there afterwards. */
static int remove_bottle(const char *slug, const char *json, bool *is_there, struct err *e)
{
	struct bottles_entry b;
	size_t n;
	int bottles, r;

	*e = ERR_INIT;
	n_cleanups = n_native_cleanups = 0;
	make_bottle(slug, json);
	assert_int_equal(places_bottles_open(false, &bottles, NULL), 0);
	assert_int_equal(bottles_load(bottles, slug, &b, NULL), 0);
	r = leftovers_remove(bottles, &b, &n, e);
	*is_there = faccessat(bottles, slug, F_OK, 0) == 0;
	(void)close(bottles);
	return r;
}

static void test_a_bottle_is_cleaned_by_its_own_backend(void **state)
{
	char expected[PLACES_PATH_MAX];
	struct err e;
	bool is_there;

	(void)state;
	has_engine = true;
	assert_int_equal(remove_bottle("a-1", "{\"backend\":\"docker\"}", &is_there, &e), 0);
	assert_false(is_there);
	assert_int_equal(n_cleanups, 1);
	assert_int_equal(n_native_cleanups, 0);
	(void)snprintf(expected, sizeof(expected), "%s/.local/state/claude-bottle/bottles/a-1",
		       home);
	assert_string_equal(cleaned, expected);
	has_engine = false;
	assert_int_equal(remove_bottle("a-2", "{\"backend\":\"native\"}", &is_there, &e), 0);
	assert_int_equal(n_cleanups, 0);
	assert_int_equal(n_native_cleanups, 1);
}

/* The folder is the only way to find the bottle again. */
static void test_an_engine_that_is_away_keeps_the_folder(void **state)
{
	struct err e;
	bool is_there;

	(void)state;
	has_engine = false;
	engine_words = "no engine answers";
	assert_int_equal(remove_bottle("a-3", "{\"backend\":\"docker\"}", &is_there, &e),
			 -ECONNREFUSED);
	assert_true(is_there);
	assert_string_equal(e.text, "a-3 is kept until docker can be asked: no engine answers");
	has_engine = true;
	assert_int_equal(remove_bottle("a-3", "{\"backend\":\"docker\"}", &is_there, &e), 0);
	assert_false(is_there);
	assert_int_equal(remove_bottle("a-4", "{\"backend\":\"qemu\"}", &is_there, &e), -ENOSYS);
	assert_true(is_there);
	assert_true(remove_bottle("a-4", "{\"backend\":\"x\\u001b[2J\"}", &is_there, &e) < 0);
	assert_true(is_there);
}

/* Killed before the keeper wrote it, or on a full disk. */
static void test_an_unknown_backend_means_all_of_them(void **state)
{
	static const char *const files[] = {NULL, "", "{\"backend\":", "{}", "[1]"};
	struct err e;
	bool is_there;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		has_engine = i % 2;
		assert_int_equal(remove_bottle("a-5", files[i], &is_there, &e), 0);
		assert_false(is_there);
		assert_int_equal(n_cleanups, 1);
		assert_int_equal(n_native_cleanups, 1);
	}
}

static void test_sweep_goes_on_without_an_engine(void **state)
{
	struct err e = ERR_INIT;
	size_t n = 7;

	(void)state;
	has_engine = false;
	n_sweeps = 0;
	assert_int_equal(leftovers_sweep(&engine_backend, false, &n, &e), 0);
	assert_int_equal(n, 0);
	assert_int_equal(n_sweeps, 0);
	assert_int_equal(leftovers_sweep(&plain_backend, false, &n, &e), 0);
	has_engine = true;
	assert_int_equal(leftovers_sweep(&engine_backend, true, &n, &e), 0);
	assert_int_equal(n, 2);
	assert_int_equal(n_sweeps, 1);
}

/* --- images --- */

static int commit_of(const char *json, char reference[BACKEND_REFERENCE_MAX], struct err *e)
{
	struct bottles_entry b;
	int bottles, r;

	*e = ERR_INIT;
	make_bottle("c-1", json);
	assert_int_equal(places_bottles_open(false, &bottles, NULL), 0);
	assert_int_equal(bottles_load(bottles, "c-1", &b, NULL), 0);
	r = commit(&b, "x/y:z", reference, e);
	(void)close(bottles);
	return r;
}

static void test_commit(void **state)
{
	char path[PLACES_PATH_MAX], refusal[2 * PLACES_PATH_MAX], reference[BACKEND_REFERENCE_MAX];
	struct err e;

	(void)state;
	assert_int_equal(bottles_path("c-1", path, NULL), 0);
	(void)snprintf(refusal, sizeof(refusal),
		       "backend native keeps no image: the home in %s/home is all there is; "
		       "claude-bottle resume c-1",
		       path);
	has_engine = true;
	image_answer = "x/y:z";
	assert_int_equal(commit_of("{\"backend\":\"docker\"}", reference, &e), 0);
	assert_string_equal(reference, "x/y:z");
	assert_string_equal(asked_slug, "c-1");
	assert_string_equal(asked_name, "x/y:z");
	assert_string_equal(asked_dir, path);
	assert_true(was_locked);
	image_answer = "\x1b[2J";
	assert_int_equal(commit_of("{\"backend\":\"docker\"}", reference, &e), -EINVAL);
	assert_non_null(strstr(e.text, "backend docker answers: \"\\x1b[2J\" is not"));
	image_answer = "";
	assert_int_equal(commit_of("{\"backend\":\"docker\"}", reference, &e), -EINVAL);
	has_engine = false;
	engine_words = "no engine answers";
	assert_int_equal(commit_of("{\"backend\":\"docker\"}", reference, &e), -ECONNREFUSED);
	assert_string_equal(e.text, "c-1: no engine answers");
	assert_int_equal(commit_of("{\"backend\":\"native\"}", reference, &e), -ENOTSUP);
	assert_string_equal(e.text, refusal);
	assert_int_equal(commit_of("{\"backend\":\"qemu\"}", reference, &e), -ENOSYS);
	assert_string_equal(e.text, "c-1 was made by backend qemu, which is not in this build");
	assert_int_equal(commit_of("{\"backend\":\"x\"}", reference, &e), -EINVAL);
	assert_int_equal(commit_of("{}", reference, &e), -ENOENT);
}

static void check_commit(const char *slug, const char *name, int status)
{
	struct cli_args a = {
		.verb = &cmd_commit, .positionals = {slug, name}, .n_positionals = name ? 2 : 1};

	asked_name[0] = '\0';
	assert_int_equal(cmd_commit.fn(&a), status);
}

static void test_commit_names(void **state)
{
	(void)state;
	make_bottle("c-1", "{\"backend\":\"docker\"}");
	has_engine = true;
	image_answer = "x:1";
	check_commit("c-1", NULL, CLI_OK);
	assert_string_equal(asked_name, "claude-bottle/snapshot:c-1");
	check_commit("c-", "registry.example:5000/x:1", CLI_OK);
	assert_string_equal(asked_name, "registry.example:5000/x:1");
	check_commit("c-1", "--rm", CLI_USAGE);
	check_commit("c-1", "X", CLI_USAGE);
	assert_string_equal(asked_name, "");
	check_commit("nobody", NULL, CLI_FAILED);
}

static int make_home(void **state)
{
	(void)state;
	(void)unsetenv("CLAUDE_BOTTLE_BACKEND");
	(void)unsetenv("XDG_STATE_HOME");
	(void)snprintf(home, sizeof(home), "/tmp/cb-unit-cli-XXXXXX");
	return mkdtemp(home) ? setenv("HOME", home, 1) : -1;
}

static int remove_home(void **state)
{
	(void)state;
	return io_remove_tree(AT_FDCWD, home, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unset_takes_the_best_that_is_offered),
		cmocka_unit_test(test_flag_then_variable_then_manifest),
		cmocka_unit_test(test_named_never_falls_back),
		cmocka_unit_test(test_why_shows_what_an_engine_hides),
		cmocka_unit_test(test_a_bottle_is_cleaned_by_its_own_backend),
		cmocka_unit_test(test_an_engine_that_is_away_keeps_the_folder),
		cmocka_unit_test(test_an_unknown_backend_means_all_of_them),
		cmocka_unit_test(test_sweep_goes_on_without_an_engine),
		cmocka_unit_test(test_commit),
		cmocka_unit_test(test_commit_names),
	};

	return cmocka_run_group_tests(tests, make_home, remove_home);
}
