/* What `resume` says has changed since a bottle was started: in its routes, its remotes, around
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/changes.h"

/* *text is what is said. */
static void say(const struct resume_was *w, const struct plan *p, char text[CHANGES_BYTES])
{
	struct buf b;

	buf_init(&b, CHANGES_BYTES);
	assert_int_equal(changes_print(w, p, &b), 0);
	assert_true(str_to_cstr(text, CHANGES_BYTES, buf_str(&b)));
	buf_free(&b);
}

static char *a_example(void)
{
	return mem_strdup("a.example");
}

static struct policy_route route(const char *host, unsigned methods)
{
	return (struct policy_route){.host = host ? mem_strdup(host) : a_example(),
				     .ports = {443},
				     .n_ports = 1,
				     .methods = methods};
}

/* Compares one route with another; *text is what is said. */
static void compare(struct policy_route was, struct policy_route now, const char *token_was,
		    const char *token_now, char text[CHANGES_BYTES])
{
	char *refs[] = {(char *)(uintptr_t)token_was};
	struct plan_secret secret = {.env = (char *)(uintptr_t)token_now};
	struct resume_was w = {.policy = {.routes = &was, .n_routes = 1},
			       .token_refs = refs,
			       .n_token_refs = token_was != NULL};
	struct plan p = {.policy = {.routes = &now, .n_routes = 1},
			 .secrets = &secret,
			 .n_secrets = token_now != NULL};

	say(&w, &p, text);
	free(was.host);
	free(now.host);
}

#define GET  (1u << POLICY_METHOD_GET)
#define HEAD (1u << POLICY_METHOD_HEAD)

static void test_changes_of_a_route(void **s)
{
	static char *one[] = {(char *)(uintptr_t) "/v1/**"},
		    *two[] = {(char *)(uintptr_t) "/x", (char *)(uintptr_t) "/v1/**"},
		    *again[] = {(char *)(uintptr_t) "/v1/**", (char *)(uintptr_t) "/x"};
	struct policy_route was, now;
	char text[CHANGES_BYTES];

	(void)s;
	compare(route(NULL, GET), route(NULL, GET), NULL, NULL, text);
	assert_string_equal(text, "");
	compare(route(NULL, GET), route("b.example", GET | HEAD), NULL, NULL, text);
	assert_string_equal(text, "+ b.example GET,HEAD; - a.example GET");
	compare(route(NULL, GET), route(NULL, (1u << POLICY_METHOD_COUNT) - 1), NULL, NULL, text);
	assert_string_equal(text, "+ a.example any method; - a.example GET");
	/* The order of ports and paths says nothing. */
	was = now = route(NULL, GET);
	was.host = a_example();
	was.ports[1] = now.ports[0] = 8443;
	now.ports[1] = 443;
	was.n_ports = now.n_ports = 2;
	was.paths = two;
	now.paths = again;
	was.n_paths = now.n_paths = 2;
	compare(was, now, NULL, NULL, text);
	assert_string_equal(text, "");
	/* A list of paths is less than none. */
	was = route(NULL, GET);
	now = route(NULL, GET);
	was.paths = one;
	was.n_paths = 1;
	compare(was, now, NULL, NULL, text);
	assert_string_equal(text, "+ a.example GET; - a.example GET /v1/**");
	now = route(NULL, GET);
	was.host = a_example();
	now.paths = two;
	now.n_paths = 2;
	compare(was, now, NULL, NULL, text);
	assert_string_equal(text, "+ a.example GET /x /v1/**; - a.example GET /v1/**");
	/* A placeholder is another one each time; where the credential comes from is not. */
	was = now = route(NULL, GET);
	was.host = a_example();
	was.auth = now.auth = (struct policy_auth){.scheme = POLICY_AUTH_BEARER,
						   .header = (char *)(uintptr_t) "authorization",
						   .placeholder = (char *)(uintptr_t) "one"};
	now.auth.placeholder = (char *)(uintptr_t) "two";
	compare(was, now, "env:T", "T", text);
	assert_string_equal(text, "");
	was.host = a_example();
	now.host = a_example();
	compare(was, now, "env:T", "U", text);
	assert_string_equal(text, "+ a.example GET with env:U; - a.example GET with env:T");
	was.host = a_example();
	now.host = a_example();
	compare(was, now, NULL, "U", text);
	assert_string_equal(text, "+ a.example GET with env:U; - a.example GET with a credential");
}

/* What was granted is no change; a route that takes its place is one. */
static void test_changes_and_grants(void **s)
{
	struct policy_route was = route("b.example", GET);
	char text[CHANGES_BYTES];

	(void)s;
	was.grant = 7;
	compare(was, route(NULL, GET), NULL, NULL, text);
	assert_string_equal(text, "+ a.example GET");
	was.host = a_example();
	compare(was, route(NULL, GET), NULL, NULL, text);
	assert_string_equal(text, "+ a.example GET");
}

static void test_changes_around_routes(void **s)
{
	char *was_expose[] = {(char *)(uintptr_t) "/a", (char *)(uintptr_t) "/b"};
	char *now_expose[] = {(char *)(uintptr_t) "/b", (char *)(uintptr_t) "/c\x1b[2J"};
	struct policy_resolve resolve = {.host = (char *)(uintptr_t) "a.example"};
	struct resume_was w = {.expose = was_expose, .n_expose = 2};
	struct plan p = {.expose = now_expose, .n_expose = 2};
	char text[CHANGES_BYTES];

	(void)s;
	p.policy.resolve = &resolve;
	p.policy.n_resolve = 1;
	p.policy.ca_pem = (char *)(uintptr_t) "x";
	say(&w, &p, text);
	assert_string_equal(text, "+ reads /c\\x1b[2J; - reads /a; egress.resolve differs; "
				  "egress.ca differs");
}

#define TEXT(literal) ((char *)(uintptr_t)(literal))

/* Compares one git remote with another, NULL being none; *text is what is said. */
static void compare_git(struct git_remote *was, struct git_remote *now, const char *token_was,
			const char *token_now, char text[CHANGES_BYTES])
{
	char *refs[] = {TEXT(token_was)};
	struct plan_secret secret = {.env = TEXT(token_now)};
	struct resume_was w = {.git = {.remotes = was, .n_remotes = was != NULL},
			       .token_refs = refs,
			       .n_token_refs = token_was != NULL};
	struct plan p = {.git = {.remotes = now, .n_remotes = now != NULL},
			 .secrets = &secret,
			 .n_secrets = token_now != NULL};

	say(&w, &p, text);
}

static void test_changes_of_a_remote(void **s)
{
	static char *one[] = {TEXT("agent/**")}, *two[] = {TEXT("main"), TEXT("agent/**")},
		    *again[] = {TEXT("agent/**"), TEXT("main")};
	static char allow[1][GIT_FINGERPRINT_SIZE] = {"00112233445566778899aabbccddeeff"};
	const struct git_remote base = {.name = TEXT("origin"),
					.transport = GIT_TRANSPORT_HTTPS,
					.host = TEXT("a.example"),
					.port = 443,
					.path = TEXT("/me/x.git"),
					.placeholder = TEXT("one"),
					.branches = two,
					.n_branches = 2,
					.is_head_protected = true};
	struct git_remote was = base, now = base;
	char text[CHANGES_BYTES];

	(void)s;
	/* Another placeholder, another order, another place in the manifest: nothing. */
	now.placeholder = TEXT("two");
	now.branches = again;
	now.origin_line = 7;
	compare_git(&was, &now, NULL, NULL, text);
	assert_string_equal(text, "");
	compare_git(NULL, &now, NULL, NULL, text);
	assert_string_equal(text, "+ git origin https a.example/me/x.git push agent/** main");
	now.branches = one;
	now.n_branches = 1;
	now.may_force = true;
	now.is_head_protected = false;
	compare_git(&was, &now, NULL, NULL, text);
	assert_string_equal(text, "+ git origin https a.example/me/x.git push agent/** (force) "
				  "(default branch); - git origin https a.example/me/x.git push "
				  "main agent/**");
	now = base;
	now.n_branches = 0;
	compare_git(&now, NULL, NULL, NULL, text);
	assert_string_equal(text, "- git origin https a.example/me/x.git fetch only");
	/* What the line does not show is not kept back. */
	now = base;
	now.allow = allow;
	now.n_allow = 1;
	compare_git(&was, &now, NULL, NULL, text);
	assert_string_equal(text, "git origin differs in a port, limit, finding or key");
	now = base;
	now.pack_max_bytes = 1;
	compare_git(&was, &now, NULL, NULL, text);
	assert_string_equal(text, "git origin differs in a port, limit, finding or key");
	now = was = base;
	now.has_credential = was.has_credential = true;
	compare_git(&was, &now, "env:T", "T", text);
	assert_string_equal(text, "");
	compare_git(&was, &now, "env:T", "U", text);
	assert_string_equal(text, "+ git origin https a.example/me/x.git push main agent/** with "
				  "env:U; - git origin https a.example/me/x.git push main agent/** "
				  "with env:T");
}

static void test_changes_around_remotes(void **s)
{
	struct resume_was w = {.workspace = PLAN_WORKSPACE_CLONE, .git = {.user_name = TEXT("a")}};
	struct plan p = {.workspace = PLAN_WORKSPACE_MOUNT, .git = {.user_name = TEXT("b")}};
	char text[CHANGES_BYTES];

	(void)s;
	say(&w, &p, text);
	assert_string_equal(text, "workspace: mount, was clone; git.user differs");
	p.workspace = w.workspace;
	p.git = w.git;
	say(&w, &p, text);
	assert_string_equal(text, "");
}

/* However much has changed, and however long it is: one line. */
static void test_changes_cap(void **s)
{
	struct policy_route many[20];
	char host[POLICY_HOST_MAX + 1];
	struct resume_was w = {.agent = NULL};
	struct plan p = {.policy = {.routes = many, .n_routes = ARRAY_LEN(many)}};
	char text[CHANGES_BYTES];

	(void)s;
	memset(host, 'a', sizeof(host) - 1);
	host[sizeof(host) - 1] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		host[0] = (char)('a' + i);
		many[i] = route(host, GET);
	}
	say(&w, &p, text);
	assert_non_null(strstr(text, "; and 14 more"));
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		free(many[i].host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes_of_a_route),
		cmocka_unit_test(test_changes_and_grants),
		cmocka_unit_test(test_changes_around_routes),
		cmocka_unit_test(test_changes_of_a_remote),
		cmocka_unit_test(test_changes_around_remotes),
		cmocka_unit_test(test_changes_cap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
