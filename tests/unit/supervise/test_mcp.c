/* What a message may be, and which error answers which mistake; what the tools say of the wall. */
#include "world.h"

#include "base/clean.h"
#include "base/json.h"
#include "base/mem.h"
#include "supervise/jsonrpc.h"
#include "supervise/look.h"

#include <stdio.h>

#define CALL(id, name, arguments)                                                                  \
	"{\"jsonrpc\":\"2.0\",\"id\":" id                                                          \
	",\"method\":\"tools/call\",\"params\":{\"name\":\"" name "\",\"arguments\":" arguments    \
	"}}"
#define PING(id) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"ping\"}"

static void versions(void **state)
{
	static const struct {
		const char *asked, *agreed;
	} cases[] = {
		{"2025-11-25", "2025-11-25"}, {"2025-06-18", "2025-06-18"},
		{"2025-03-26", "2025-03-26"}, {"2024-11-05", "2024-11-05"},
		{"2024-10-07", "2025-11-25"}, {"2099-01-01", "2025-11-25"},
		{"", "2025-11-25"},
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_string_equal(world_initialize(w, cases[i].asked), cases[i].agreed);
		assert_int_equal(world_post(w, "{\"jsonrpc\":\"2.0\",\"method\":"
					       "\"notifications/initialized\"}"),
				 202);
		assert_int_equal(world_post(w, PING("1")), 200);
		assert_string_equal(w->body, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}");
	}
}

/* A version in the head that nobody speaks is refused even where there is nothing to compare it
 * with; an old session there is not. */
static void initialize_anew(void **state)
{
	static const char body[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\","
				   "\"params\":{\"protocolVersion\":\"2025-11-25\"}}";
	struct world *w = *state;

	(void)snprintf(w->session, sizeof(w->session), "%032d", 0);
	assert_int_equal(world_post(w, body), 200);
	w->version = "2025-06-18";
	assert_int_equal(world_post(w, body), 200);
	w->version = "1999-01-01";
	assert_int_equal(world_post(w, body), 400);
}

/* --- errors by the book --- */

static void errors(void **state)
{
	static const struct {
		const char *body;
		unsigned status;
		int code;
	} cases[] = {
		{"", 400, JSONRPC_INVALID_REQUEST}, /* no body at all */
		{" ", 400, JSONRPC_PARSE_ERROR},
		{"{", 400, JSONRPC_PARSE_ERROR},
		{"{}}", 400, JSONRPC_PARSE_ERROR},
		{PING("1") PING("2"), 400, JSONRPC_PARSE_ERROR},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}", 400,
		 JSONRPC_PARSE_ERROR},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"a\":1,\"a\":1}}",
		 400, JSONRPC_PARSE_ERROR},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"pi\xffng\"}", 400,
		 JSONRPC_PARSE_ERROR},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xed\xa0\x80\"}", 400,
		 JSONRPC_PARSE_ERROR},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\u0000\"}", 400, JSONRPC_PARSE_ERROR},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\ud800\"}", 400, JSONRPC_PARSE_ERROR},
		{"{\"jsonrpc\":\"2.0\",\"id\":99999999999999999999,\"method\":\"ping\"}", 400,
		 JSONRPC_PARSE_ERROR},
		{"null", 400, JSONRPC_INVALID_REQUEST},
		{"7", 400, JSONRPC_INVALID_REQUEST},
		{"{}", 400, JSONRPC_INVALID_REQUEST},
		{"[]", 400, JSONRPC_INVALID_REQUEST},
		{"[" PING("1") "]", 400, JSONRPC_INVALID_REQUEST}, /* not in this version */
		{"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}", 400,
		 JSONRPC_INVALID_REQUEST},
		{"{\"id\":1,\"method\":\"ping\"}", 400, JSONRPC_INVALID_REQUEST},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":1}", 400, JSONRPC_INVALID_REQUEST},
		{PING("null"), 400, JSONRPC_INVALID_REQUEST},
		{PING("1.0"), 400, JSONRPC_INVALID_REQUEST},
		{PING("true"), 400, JSONRPC_INVALID_REQUEST},
		{PING("[1]"), 400, JSONRPC_INVALID_REQUEST},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"result\":1}", 400,
		 JSONRPC_INVALID_REQUEST},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":1}", 400,
		 JSONRPC_INVALID_REQUEST},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/list\"}", 200,
		 JSONRPC_METHOD_NOT_FOUND},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"approve\"}", 200,
		 JSONRPC_METHOD_NOT_FOUND},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":[]}", 200,
		 JSONRPC_INVALID_PARAMS},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}", 200,
		 JSONRPC_INVALID_PARAMS},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{"
		 "\"cursor\":\"x\"}}",
		 200, JSONRPC_INVALID_PARAMS},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}", 200,
		 JSONRPC_INVALID_PARAMS},
		{CALL("1", "approve", "{}"), 200, JSONRPC_INVALID_PARAMS},
		{CALL("1", "network_policy", "[]"), 200, JSONRPC_INVALID_PARAMS},
	};
	struct world *w = *state;

	(void)world_initialize(w, "2025-11-25");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned status = world_post(w, cases[i].body);

		if (status != cases[i].status || world_error(w) != cases[i].code)
			fail_msg("%s: %u %s", cases[i].body, status, w->body);
	}
	assert_int_equal(w->n_asks, 0);
}

/* Bytes that the sender chose are not sent back as if they were ours. */
static void errors_quote_nothing(void **state)
{
	struct world *w = *state;

	(void)world_initialize(w, "2025-11-25");
	(void)world_post(w, "{\"jsonrpc\":\"2.0\",\"id\":1,\"evil\":1,\"evil\":2}");
	assert_null(strstr(w->body, "evil"));
	(void)world_post(w, CALL("1", "evil", "{}"));
	assert_null(strstr(w->body, "evil"));
}

static unsigned post_nested(struct world *w, unsigned depth)
{
	_cleanup_free_ char *open = mem_zalloc(depth + 1), *close = mem_zalloc(depth + 1);
	_cleanup_free_ char *body = NULL;

	memset(open, '[', depth);
	memset(close, ']', depth);
	body = mem_printf("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{"
			  "\"a\":%s\"[[[[\"%s}}",
			  open, close);
	return world_post(w, body);
}

static void depth(void **state)
{
	struct world *w = *state;

	(void)world_initialize(w, "2025-11-25");
	assert_int_equal(post_nested(w, JSONRPC_DEPTH_MAX - 2), 200);
	assert_int_equal(post_nested(w, JSONRPC_DEPTH_MAX - 1), 400);
	assert_int_equal(world_error(w), JSONRPC_PARSE_ERROR);
	assert_int_equal(post_nested(w, 100000), 400);
}

static void ids(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *longest = mem_zalloc(JSONRPC_ID_MAX + 2);
	_cleanup_free_ char *body = NULL, *beyond = NULL;

	(void)world_initialize(w, "2025-11-25");
	assert_int_equal(world_post(w, PING("-9223372036854775808")), 200);
	assert_int_equal(world_post(w, PING("\"\"")), 200);
	memset(longest, 'i', JSONRPC_ID_MAX);
	body = mem_printf("{\"jsonrpc\":\"2.0\",\"id\":\"%s\",\"method\":\"ping\"}", longest);
	assert_int_equal(world_post(w, body), 200);
	longest[JSONRPC_ID_MAX] = 'i';
	beyond = mem_printf("{\"jsonrpc\":\"2.0\",\"id\":\"%s\",\"method\":\"ping\"}", longest);
	assert_int_equal(world_post(w, beyond), 400);
}

static void unsolicited_responses(void **state)
{
	struct world *w = *state;

	(void)world_initialize(w, "2025-11-25");
	assert_int_equal(world_post(w, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"), 202);
	assert_string_equal(w->body, "");
	assert_int_equal(world_post(w, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1}}"),
			 202);
}

/* --- batches --- */

static void batches(void **state)
{
	struct world *w = *state;
	char big[2048] = "[";

	(void)world_initialize(w, "2025-03-26");
	w->reply = (struct ask_answer){.state = ASK_TAKEN, .is_final = 1};
	assert_int_equal(
		world_post(w, "[" PING("1") ",{\"jsonrpc\":\"2.0\",\"method\":\"x\"},7," PING(
				      "1") "," CALL("2", "tell_human", "{\"message\":\"m\"}") "]"),
		200);
	assert_string_equal(
		w->body,
		"[{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}},"
		"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,\"message\":"
		"\"a message is an object\"}},"
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32600,\"message\":"
		"\"\\\"id\\\" is in use\"}},"
		"{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"content\":[{\"type\":\"text\","
		"\"text\":\"{\\\"state\\\":\\\"taken\\\",\\\"message\\\":\\\"The human will see "
		"it. There is no answer to wait for.\\\"}\"}],\"isError\":false}}]");
	assert_int_equal(world_post(w, "[{\"jsonrpc\":\"2.0\",\"method\":\"x\"}]"), 202);
	assert_int_equal(world_post(w, "[]"), 400);
	assert_int_equal(world_post(w, "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\","
				       "\"params\":{\"protocolVersion\":\"2025-03-26\"}}]"),
			 200);
	assert_non_null(strstr(w->body, "-32600"));
	for (int i = 0; i < JSONRPC_BATCH_MAX; i++)
		(void)snprintf(big + strlen(big), sizeof(big) - strlen(big), "%s" PING("%d"),
			       i ? "," : "", i);
	(void)strncat(big, "]", sizeof(big) - strlen(big) - 1);
	assert_int_equal(world_post(w, big), 200);
	big[strlen(big) - 1] = '\0';
	(void)strncat(big, "," PING("99") "]", sizeof(big) - strlen(big) - 1);
	assert_int_equal(world_post(w, big), 400);
	(void)world_initialize(w, "2025-06-18");
	assert_int_equal(world_post(w, "[" PING("1") "]"), 400);
}

/* What would be too long to send is one error, not half an answer. */
static void long_answers(void **state)
{
	struct world *w = *state;
	char body[4096] = "[";
	struct record r;

	(void)world_initialize(w, "2025-03-26");
	record_init(&r, "pipelock", RECORD_BLOCK, "host-not-allowed");
	memset(r.host, '\\', sizeof(r.host) - 1);
	memset(r.path, '\\', sizeof(r.path) - 1);
	for (int i = 0; i < REFUSED_MAX; i++)
		assert_true(refused_add(&w->view.refused, &r));
	for (int i = 0; i < JSONRPC_BATCH_MAX; i++)
		(void)snprintf(body + strlen(body), sizeof(body) - strlen(body),
			       "%s" CALL("%d", "recent_refusals", "{\"limit\":64}"), i ? "," : "",
			       i);
	(void)strncat(body, "]", sizeof(body) - strlen(body) - 1);
	assert_int_equal(world_post(w, body), 200);
	assert_int_equal(world_error(w), JSONRPC_INTERNAL_ERROR);
	/* One alone is never too long. */
	assert_int_equal(world_post(w, CALL("1", "recent_refusals", "{\"limit\":64}")), 200);
	assert_int_equal(world_error(w), 0);
}

/* --- what the wall is --- */

static void policy_is_shown(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *all = NULL, *paused = NULL;
	json_t *first;

	(void)world_initialize(w, "2025-11-25");
	all = world_tool(w, "network_policy", NULL, NULL);
	first = json_array_get(json_object_get(all, "routes"), 0);
	assert_true(json_is_false(json_object_get(all, "paused")));
	assert_string_equal(json_string_value(json_object_get(first, "host")), "api.example.com");
	assert_true(json_is_true(json_object_get(first, "credential_is_added")));
	assert_null(strstr(w->body, "hidden"));
	w->view.is_paused = true;
	paused = world_tool(w, "network_policy", "{}", NULL);
	assert_true(json_is_true(json_object_get(paused, "paused")));
}

static void grants_come_first(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *all = NULL;
	json_t *first;

	(void)world_initialize(w, "2025-11-25");
	w->policy.routes[1].grant = 12;
	w->policy.routes[1].is_once = true;
	all = world_tool(w, "network_policy", NULL, NULL);
	first = json_array_get(json_object_get(all, "routes"), 0);
	assert_int_equal(json_integer_value(json_object_get(first, "granted_by")), 12);
	assert_true(json_is_true(json_object_get(first, "once")));
	assert_int_equal(json_array_size(json_object_get(all, "routes")), 2);
}

static void long_policies_are_cut(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *all = NULL;
	struct policy_route *own = w->policy.routes;
	size_t n_own = w->policy.n_routes, shown, left_out;

	(void)world_initialize(w, "2025-11-25");
	w->policy.n_routes = POLICY_ROUTES_MAX;
	w->policy.routes = mem_zalloc_array(POLICY_ROUTES_MAX, sizeof(*own));
	for (size_t i = 0; i < POLICY_ROUTES_MAX; i++)
		w->policy.routes[i] = own[0];
	all = world_tool(w, "network_policy", NULL, NULL);
	free(w->policy.routes);
	w->policy.routes = own;
	w->policy.n_routes = n_own;
	shown = json_array_size(json_object_get(all, "routes"));
	left_out = (size_t)json_integer_value(json_object_get(all, "left_out"));
	assert_int_equal(shown + left_out, POLICY_ROUTES_MAX);
	assert_true(left_out > 0 && strlen(w->body) < 4 * LOOK_POLICY_MAX);
}

/* --- what was refused --- */

static void refuse(struct world *w, const char *reason, const char *host, const char *path)
{
	struct record r;

	record_init(&r, "pipelock", RECORD_BLOCK, reason);
	(void)snprintf(r.host, sizeof(r.host), "%s", host);
	(void)snprintf(r.path, sizeof(r.path), "%s", path);
	(void)snprintf(r.method, sizeof(r.method), "GET");
	r.port = 443;
	assert_true(refused_add(&w->view.refused, &r));
}

static void refusals_are_shown(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *all = NULL, *one = NULL;
	const json_t *list, *first;
	char host[32];

	(void)world_initialize(w, "2025-11-25");
	refuse(w, "canary-leaving", "old.example", "/");
	for (int i = 0; i < REFUSED_MAX; i++) {
		(void)snprintf(host, sizeof(host), "h%d.example", i);
		refuse(w, "host-not-allowed", host, "/a?token=hidden");
	}
	all = world_tool(w, "recent_refusals", "{\"limit\":64}", NULL);
	list = json_object_get(all, "refusals");
	assert_int_equal(json_array_size(list), REFUSED_MAX);
	assert_null(strstr(w->body, "hidden"));
	assert_null(strstr(w->body, "old.example"));
	first = json_array_get(list, 0);
	assert_string_equal(json_string_value(json_object_get(first, "host")), "h63.example");
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(first, "ask"), "tool")),
		"request_egress");
	one = world_tool(w, "recent_refusals", "{\"limit\":1}", NULL);
	assert_int_equal(json_array_size(json_object_get(one, "refusals")), 1);
}

static void refusals_are_visible(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *all = NULL;
	const json_t *first;

	(void)world_initialize(w, "2025-11-25");
	refuse(w, "canary-leaving", "a\xe2\x80\xae.example", "/\x1b]52;c;x\x07");
	all = world_tool(w, "recent_refusals", NULL, NULL);
	first = json_array_get(json_object_get(all, "refusals"), 0);
	assert_string_equal(json_string_value(json_object_get(first, "host")),
			    "a\\u{202e}.example");
	assert_null(strchr(json_string_value(json_object_get(first, "path")), '\x1b'));
	/* Nobody could let it through. */
	assert_null(json_object_get(first, "ask"));
}

/* What each of them is asked for with; a release only where a human may decide about content. */
static void refusals_name_the_tool(void **state)
{
	static const struct {
		const char *reason, *host, *tool;
	} cases[] = {
		{"path-not-allowed", "api.example.com", "request_egress"},
		{"secret-in-body", "a.files.example.org", "request_release"},
		{"secret-in-body", "api.example.com", NULL},
		{"secret-in-body", "nowhere.example", NULL},
		{"push-needs-approval", "git.example", "request_push"},
		{"ip-literal", "10.0.0.1", NULL},
	};
	struct world *w = *state;

	(void)world_initialize(w, "2025-11-25");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_json_ json_t *all = NULL;
		const json_t *ask;
		const char *tool;

		refuse(w, cases[i].reason, cases[i].host, "/v1/x");
		all = world_tool(w, "recent_refusals", "{\"limit\":1}", NULL);
		ask = json_object_get(json_array_get(json_object_get(all, "refusals"), 0), "ask");
		tool = json_string_value(json_object_get(ask, "tool"));
		if (tool && cases[i].tool ? strcmp(tool, cases[i].tool) != 0
					  : tool != cases[i].tool)
			fail_msg("%s to %s: %s", cases[i].reason, cases[i].host, tool);
	}
}

/* What waits for a human is no refusal yet, and says so. */
static void held_ones_are_shown(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *all = NULL;
	const json_t *first, *second;
	struct record r;

	(void)world_initialize(w, "2025-11-25");
	refuse(w, "host-not-allowed", "nowhere.example", "/");
	record_init(&r, "pipelock", RECORD_HOLD, "secret-in-body");
	(void)snprintf(r.host, sizeof(r.host), "a.files.example.org");
	assert_true(refused_add(&w->view.refused, &r));
	all = world_tool(w, "recent_refusals", NULL, NULL);
	first = json_array_get(json_object_get(all, "refusals"), 0);
	second = json_array_get(json_object_get(all, "refusals"), 1);
	assert_true(json_is_true(json_object_get(first, "held")));
	assert_null(json_object_get(second, "held"));
}

static void malformed_records_are_left_out(void **state)
{
	struct world *w = *state;
	struct record r;

	record_init(&r, "pipelock", RECORD_ALLOW, "ok");
	assert_false(refused_add(&w->view.refused, &r));
	record_init(&r, "pipelock", RECORD_BLOCK, "host-not-allowed");
	memset(r.host, 'a', sizeof(r.host));
	assert_false(refused_add(&w->view.refused, &r));
	assert_int_equal(w->view.refused.n, 0);
}

int main(void)
{
#define WORLD(fn) cmocka_unit_test_setup_teardown(fn, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		WORLD(versions),
		WORLD(initialize_anew),
		WORLD(errors),
		WORLD(errors_quote_nothing),
		WORLD(depth),
		WORLD(ids),
		WORLD(unsolicited_responses),
		WORLD(batches),
		WORLD(long_answers),
		WORLD(policy_is_shown),
		WORLD(grants_come_first),
		WORLD(long_policies_are_cut),
		WORLD(refusals_are_shown),
		WORLD(refusals_are_visible),
		WORLD(refusals_name_the_tool),
		WORLD(held_ones_are_shown),
		WORLD(malformed_records_are_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
