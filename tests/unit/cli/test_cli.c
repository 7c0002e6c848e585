#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/cli.h"
#include "cli/picker.h"
#include "cli/preflight.h"
#include "cli/table.h"
#include "cli/verbs.h"

#include "base/mem.h"

#include <stdio.h>

enum { OPT_ALL, OPT_BACKEND };
static const struct cli_option options[] = {
	[OPT_ALL] = {"all", 'a', NULL, "every one", CLI_COMPLETE_NONE},
	[OPT_BACKEND] = {"backend", 'b', "BACKEND", "which", CLI_COMPLETE_BACKEND},
};
static const struct cli_verb verb = {.name = "thing",
				     .synopsis = "NAME",
				     .options = options,
				     .n_options = ARRAY_LEN(options),
				     .min_positionals = 1,
				     .max_positionals = 2};
static const struct cli_verb runner = {.name = "run",
				       .synopsis = "SLUG COMMAND",
				       .options = options,
				       .n_options = ARRAY_LEN(options),
				       .min_positionals = 1,
				       .max_positionals = 1,
				       .rest_after = 1,
				       .may_rest = true};

static int parse(const struct cli_verb *v, struct cli_args *out, struct err *e, const char *line)
{
	static char copy[256];
	static char *argv[32];
	char *save = NULL;
	bool wants_help;
	int argc = 0, r;

	(void)snprintf(copy, sizeof(copy), "%s", line);
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	argv[argc] = NULL;
	*e = ERR_INIT;
	r = cli_parse(out, v, argc, argv, &wants_help, e);
	return r == 0 && wants_help ? 1 : r;
}

static void test_parse_takes_every_form(void **state)
{
	static const char *const lines[] = {"one --backend native --all", "--backend=native one -a",
					    "-b native -a one", "--all --backend native one"};
	struct cli_args a;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		assert_int_equal(parse(&verb, &a, &e, lines[i]), 0);
		assert_string_equal(a.values[OPT_BACKEND], "native");
		assert_true(cli_has(&a, OPT_ALL));
		assert_int_equal(a.n_positionals, 1);
		assert_string_equal(a.positionals[0], "one");
		assert_false(a.has_rest);
	}
	assert_int_equal(parse(&verb, &a, &e, "one --backend="), 0);
	assert_string_equal(a.values[OPT_BACKEND], "");
	assert_int_equal(parse(&verb, &a, &e, "--help --nonsense"), 1);
	assert_int_equal(parse(&verb, &a, &e, "-h"), 1);
}

static void test_parse_refuses(void **state)
{
	static const struct {
		const char *line, *text;
	} cases[] = {
		{"one --bakend x", "unknown option \"--bakend\", did you mean --backend?"},
		{"one --backends=x", "unknown option \"--backends=x\", did you mean --backend?"},
		{"one --zzzzzz", "unknown option \"--zzzzzz\""},
		{"one -z", "unknown option \"-z\""},
		{"one -ab", "unknown option \"-ab\""},
		{"one --all=yes", "--all takes no value"},
		{"one --all --all", "--all is given twice"},
		{"one -a --all", "--all is given twice"},
		{"one --backend", "--backend needs a value: --backend BACKEND"},
		{"one -b", "--backend needs a value: --backend BACKEND"},
		{"", "missing argument: thing NAME"},
		{"one two three", "unexpected argument \"three\""},
		{"one -- ls", "thing takes no command"},
		{"one \x1b[31m three", "unexpected argument \"three\""},
		{"one two \x1b[31m", "unexpected argument \"\\x1b[31m\""},
	};
	struct cli_args a;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_true(parse(&verb, &a, &e, cases[i].line) < 0);
		assert_string_equal(e.text, cases[i].text);
	}
}

static void test_parse_leaves_the_command_alone(void **state)
{
	struct cli_args a;
	struct err e;

	(void)state;
	assert_int_equal(parse(&runner, &a, &e, "slug ls --all -la"), 0);
	assert_true(a.has_rest);
	assert_string_equal(a.rest[0], "ls");
	assert_string_equal(a.rest[1], "--all");
	assert_null(a.rest[3]);
	assert_false(cli_has(&a, OPT_ALL));
	assert_int_equal(parse(&runner, &a, &e, "slug --all -- --all"), 0);
	assert_true(cli_has(&a, OPT_ALL));
	assert_string_equal(a.rest[0], "--all");
	assert_true(parse(&runner, &a, &e, "slug --") < 0);
	assert_string_equal(e.text, "no command after \"--\"");
}

/* Each verb says enough for its help, and no option twice. */
static void test_verbs_are_whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < cli_n_verbs; i++) {
		const struct cli_verb *v = cli_verbs[i];
		struct buf out;

		assert_non_null(v->fn);
		assert_non_null(v->summary);
		assert_non_null(v->synopsis);
		assert_true(v->n_options <= CLI_OPTIONS_MAX);
		assert_ptr_equal(cli_verb_find(v->name), v);
		for (size_t k = 0; k < v->n_options; k++) {
			assert_non_null(v->options[k].help);
			for (size_t m = 0; m < k; m++) {
				assert_string_not_equal(v->options[k].name, v->options[m].name);
				assert_true(!v->options[k].letter ||
					    v->options[k].letter != v->options[m].letter);
			}
		}
		buf_init(&out, 16384);
		assert_int_equal(cli_help(v, &out), 0);
		assert_true(str_find(buf_str(&out), str_of(v->name)) < buf_len(&out));
		buf_free(&out);
	}
	assert_null(cli_verb_find("nonsense"));
	assert_string_equal(cli_verb_nearest("strat"), "start");
	assert_string_equal(cli_verb_nearest("lgos"), "logs");
}

static void test_slugs(void **state)
{
	char longest[PLACES_SLUG_MAX + 1];

	(void)state;
	assert_true(places_slug_is_valid("web-3f9a"));
	assert_false(places_slug_is_valid(""));
	assert_false(places_slug_is_valid("."));
	assert_false(places_slug_is_valid(".."));
	assert_false(places_slug_is_valid("-a"));
	assert_false(places_slug_is_valid("a/b"));
	assert_false(places_slug_is_valid("a.b"));
	assert_false(places_slug_is_valid("A"));
	memset(longest, 'a', sizeof(longest));
	longest[PLACES_SLUG_MAX] = '\0';
	assert_false(places_slug_is_valid(longest));
	longest[PLACES_SLUG_MAX - 1] = '\0';
	assert_true(places_slug_is_valid(longest));
}

static void test_table_aligns_and_shows_what_hides(void **state)
{
	struct table t;
	struct buf out;

	(void)state;
	table_init(&t, 3);
	table_add(&t, TABLE_BOLD, (const char *const[]){"A", "LONG", "C"});
	table_add(&t, TABLE_PLAIN, (const char *const[]){"\x1b[2J", "é", "x"});
	table_add(&t, TABLE_RED, (const char *const[]){"1", NULL, NULL});
	buf_init(&out, 4096);
	assert_int_equal(table_print(&t, false, &out), 0);
	assert_true(str_eq(buf_str(&out), STR_LIT("A        LONG  C\n"
						  "\\x1b[2J  é     x\n"
						  "1\n")));
	buf_reset(&out);
	assert_int_equal(table_print(&t, true, &out), 0);
	assert_true(str_ends(buf_str(&out), STR_LIT("\x1b[31m1\x1b[0m\n")));
	buf_free(&out);
	table_free(&t);
}

static void test_picker(void **state)
{
	static char web[] = "web", webapp[] = "webapp", docs[] = "docs", box[] = "box";
	static char evil[] = "fine\x1b]0;x\x07\nsecond";
	const struct plan_agent_info agents[] = {
		{.name = web, .bottle = box, .description = evil},
		{.name = webapp, .bottle = box},
		{.name = docs},
	};
	struct err e = ERR_INIT;
	struct buf out;

	(void)state;
	assert_int_equal(picker_choose(agents, 3, STR_LIT("2"), &e), 1);
	assert_int_equal(picker_choose(agents, 3, STR_LIT(" 1 "), &e), 0);
	assert_int_equal(picker_choose(agents, 3, STR_LIT("web"), &e), 0);
	assert_int_equal(picker_choose(agents, 3, STR_LIT("weba"), &e), 1);
	assert_int_equal(picker_choose(agents, 3, STR_LIT("d"), &e), 2);
	assert_true(picker_choose(agents, 3, STR_LIT("we"), &e) < 0);
	assert_string_equal(e.text, "\"we\" may mean web or webapp");
	assert_true(picker_choose(agents, 3, STR_LIT("0"), &e) < 0);
	assert_true(picker_choose(agents, 3, STR_LIT("4"), &e) < 0);
	assert_true(picker_choose(agents, 3, STR_LIT(""), &e) < 0);
	assert_true(picker_choose(agents, 3, STR_LIT("99999999999999999999"), &e) < 0);
	buf_init(&out, 4096);
	assert_int_equal(picker_print(agents, 3, &out), 0);
	assert_true(str_find(buf_str(&out), STR_LIT("\x1b")) == buf_len(&out));
	assert_true(str_find(buf_str(&out), STR_LIT("fine\\x1b")) < buf_len(&out));
	buf_free(&out);
}

static void test_preflight_names_no_value(void **state)
{
	static char host[] = "api.example.test", env[] = "API_TOKEN", agent[] = "web",
		    name[] = "web-1";
	static char argument[] = "a\nb";
	static char *command[] = {agent, argument, NULL};
	struct policy_route route = {.host = host,
				     .ports = {443},
				     .n_ports = 1,
				     .methods = 1u << POLICY_METHOD_GET | 1u << POLICY_METHOD_POST,
				     .auth = {.scheme = POLICY_AUTH_BEARER}};
	struct plan_secret secret = {.env = env};
	struct plan p = {.slug = name,
			 .agent = agent,
			 .bottle = agent,
			 .command = command,
			 .n_command = 2,
			 .policy = {.routes = &route, .n_routes = 1},
			 .secrets = &secret,
			 .n_secrets = 1,
			 .limits = {.memory_bytes = 1u << 30, .cpu_milli = 1500}};
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	assert_int_equal(preflight_print(&p, false, &out), 0);
	assert_true(str_eq(buf_str(&out),
			   STR_LIT("web-1  agent web in bottle web\n"
				   "command web a\\nb\n"
				   "may reach\n"
				   "  api.example.test  GET,POST, credential env:API_TOKEN\n"
				   "limits  1024 MiB of memory, 1.5 cores\n")));
	buf_reset(&out);
	p.policy.n_routes = 0;
	assert_int_equal(preflight_print(&p, false, &out), 0);
	assert_true(str_find(buf_str(&out), STR_LIT("may reach nothing\n")) < buf_len(&out));
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_takes_every_form),
		cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_parse_leaves_the_command_alone),
		cmocka_unit_test(test_verbs_are_whole),
		cmocka_unit_test(test_slugs),
		cmocka_unit_test(test_table_aligns_and_shows_what_hides),
		cmocka_unit_test(test_picker),
		cmocka_unit_test(test_preflight_names_no_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
