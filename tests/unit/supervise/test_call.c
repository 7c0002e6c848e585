/* What is asked of the keeper, and how its answers come back: at once, later, or not at all. */
#include "world.h"

#include "base/clean.h"
#include "base/json.h"
#include "base/mem.h"
#include "supervise/call.h"
#include "supervise/jsonrpc.h"

#include <stdio.h>
#include <sys/socket.h>

#define EGRESS(id, host, wait)                                                                     \
	"{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"tools/call\",\"params\":{\"name\":"       \
	"\"request_egress\",\"arguments\":{\"host\":\"" host "\",\"reason\":\"r\","                \
	"\"wait_seconds\":" wait "}}}"

static const char *text_of(const json_t *content, const char *name)
{
	const char *text = json_string_value(json_object_get(content, name));

	return text ? text : "";
}

/* --- which tools there are --- */

/* Exactly these: nothing that turns something off, and none comes or goes. */
static void the_tools(void **state)
{
	static const char *const names[] = {
		"network_policy", "recent_refusals",	"request_egress", "request_release",
		"request_push",	  "request_capability", "request_status", "tell_human"};
	_cleanup_json_ json_t *all = tools_list(SESSION_LATEST), *old = NULL;
	json_t *list = json_object_get(all, "tools"), *tool;
	size_t i;

	(void)state;
	assert_int_equal(json_array_size(list), ARRAY_LEN(names));
	json_array_foreach(list, i, tool)
	{
		assert_string_equal(text_of(tool, "name"), names[i]);
		assert_true(strlen(text_of(tool, "description")) > 40);
		assert_string_equal(text_of(json_object_get(tool, "inputSchema"), "type"),
				    "object");
		assert_true(json_is_false(json_object_get(json_object_get(tool, "inputSchema"),
							  "additionalProperties")));
		assert_string_equal(text_of(json_object_get(tool, "outputSchema"), "type"),
				    "object");
		assert_true(json_is_false(
			json_object_get(json_object_get(tool, "annotations"), "destructiveHint")));
	}
	old = tools_list(SESSION_2024_11_05);
	json_array_foreach(json_object_get(old, "tools"), i, tool)
		assert_int_equal(json_object_size(tool), 3);
}

static void old_clients_get_text_alone(void **state)
{
	struct world *w = *state;

	(void)world_initialize(w, "2025-03-26");
	assert_int_equal(world_post(w, EGRESS("1", "a.example", "0")), 200);
	assert_null(strstr(w->body, "structuredContent"));
	assert_non_null(strstr(w->body, "\\\"pending\\\""));
}

/* --- what is asked --- */

static void egress_is_asked(void **state)
{
	struct world *w = *state;
	const struct ask *a = &w->asks[0];
	_cleanup_json_ json_t *got = NULL;
	bool is_error;

	(void)world_initialize(w, "2025-11-25");
	got = world_tool(w, "request_egress",
			 "{\"host\":\"api.example.com\",\"ports\":[443,8443],"
			 "\"methods\":[\"GET\",\"POST\"],\"paths\":[\"/v1/**\",\"/x\"],"
			 "\"reason\":\"to\\nbuild\",\"wait_seconds\":0}",
			 &is_error);
	assert_string_equal(text_of(got, "state"), "pending");
	assert_int_equal(json_integer_value(json_object_get(got, "id")), 41);
	assert_false(is_error);
	assert_int_equal(w->n_asks, 1);
	assert_int_equal(a->op, ASK_REQUEST);
	assert_int_equal(a->kind, ASK_EGRESS);
	assert_int_equal(a->life, 7);
	assert_string_equal(a->host, "api.example.com");
	assert_int_equal(a->n_ports, 2);
	assert_int_equal(a->ports[1], 8443);
	assert_int_equal(a->methods, 1u << POLICY_METHOD_GET | 1u << POLICY_METHOD_POST);
	assert_int_equal(a->n_paths, 2);
	assert_string_equal(a->paths[0], "/v1/**");
	assert_string_equal(a->reason, "to\nbuild");
}

/* What a record stands for the keeper knows from who refused it: nothing is said beside it. */
static void record_is_asked(void **state)
{
	struct world *w = *state;
	const struct ask *a = &w->asks[0];
	_cleanup_json_ json_t *got = NULL;

	(void)world_initialize(w, "2025-11-25");
	got = world_tool(w, "request_egress",
			 "{\"record\":\"0123456789ABCDEF\",\"reason\":\"r\",\"wait_seconds\":0}",
			 NULL);
	assert_string_equal(text_of(got, "state"), "pending");
	assert_int_equal(a->kind, ASK_EGRESS);
	assert_memory_equal(a->record, "\x01\x23\x45\x67\x89\xab\xcd\xef", 8);
	assert_string_equal(a->host, "");
	assert_int_equal(a->n_ports + a->n_paths + a->methods, 0);
}

static void others_are_asked(void **state)
{
	struct world *w = *state;
	static const struct {
		const char *tool, *arguments;
	} calls[] = {
		{"request_release",
		 "{\"record\":\"0123456789abcdef\",\"reason\":\"r\",\"wait_seconds\":0}"},
		{"request_push", "{\"remote\":\"origin\",\"ref\":\"refs/heads/main\",\"commit\":"
				 "\"0123456789ABCDEF0123456789abcdef01234567\",\"reason\":\"r\","
				 "\"wait_seconds\":0}"},
		{"request_capability",
		 "{\"what\":\"jq\",\"reason\":\"to read\",\"wait_seconds\":0}"},
		{"request_status", "{\"id\":41,\"wait_seconds\":0}"},
	};

	(void)world_initialize(w, "2025-11-25");
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		_cleanup_json_ json_t *got = world_tool(w, calls[i].tool, calls[i].arguments, NULL);

		assert_string_equal(text_of(got, "state"), "pending");
	}
	assert_int_equal(w->asks[0].kind, ASK_RELEASE);
	assert_int_equal(w->asks[0].record[7], 0xef);
	assert_int_equal(w->asks[1].kind, ASK_PUSH);
	assert_string_equal(w->asks[1].ref, "refs/heads/main");
	assert_string_equal(w->asks[1].new_oid, "0123456789abcdef0123456789abcdef01234567");
	assert_int_equal(w->asks[2].kind, ASK_CAPABILITY);
	assert_string_equal(w->asks[2].reason, "jq - reason: to read");
	assert_int_equal(w->asks[3].op, ASK_LOOK);
	assert_int_equal(w->asks[3].number, 41);
}

#define LONG16 "aaaaaaaaaaaaaaaa"
#define LONG256                                                                                    \
	LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 \
		LONG16 LONG16 LONG16
#define LONG1024 LONG256 LONG256 LONG256 LONG256

static void bad_arguments(void **state)
{
	static const struct {
		const char *tool, *arguments, *says;
	} cases[] = {
		{"network_policy", "{\"x\":1}", "no argument \"x\""},
		{"recent_refusals", "{\"limit\":0}", "from 1 to 64"},
		{"recent_refusals", "{\"limit\":65}", "from 1 to 64"},
		{"recent_refusals", "{\"limt\":1}", "did you mean \"limit\"?"},
		{"request_egress", "{}", "\"reason\" is missing"},
		{"request_egress", "{\"reason\":\"r\"}", "\"host\" is missing"},
		{"request_egress", "{\"reason\":7,\"host\":\"a.b\"}", "\"reason\" must be a text"},
		{"request_egress", "{\"reason\":\"\",\"host\":\"a.b\"}", "\"reason\" is empty"},
		{"request_egress", "{\"reason\":\"" LONG1024 "\",\"host\":\"a.b\"}",
		 "is 1024 bytes long; at most 1023"},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"" LONG256 "\"}", "at most 253"},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"https://a.b/\"}", "no scheme"},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"a.b\\r\\nx\"}", "no scheme"},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"a.b:443\"}", "in \"ports\""},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"10.0.0.1\"}", "is an address"},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"[::1]\"}", "is an address"},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"a.b\",\"ports\":[0]}",
		 "from 1 to 65535"},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"a.b\",\"ports\":443}",
		 "a list of 1 to 8"},
		{"request_egress",
		 "{\"reason\":\"r\",\"host\":\"a.b\",\"ports\":[1,2,3,4,5,6,7,8,9]}",
		 "a list of 1 to 8"},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"a.b\",\"methods\":[\"get\"]}",
		 "in capitals"},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"a.b\",\"methods\":[\"CONNECT\"]}",
		 "in capitals"},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"a.b\",\"paths\":[\"x\"]}",
		 "\"paths\": "},
		{"request_egress",
		 "{\"reason\":\"r\",\"host\":\"a.b\",\"paths\":[\"/" LONG256 "\"]}", "at most 255"},
		{"request_egress",
		 "{\"reason\":\"r\",\"host\":\"a.b\",\"record\":\"0123456789abcdef\"}",
		 "\"record\" alone"},
		{"request_egress", "{\"reason\":\"r\",\"record\":\"xyz\"}", "16 hex digits"},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"a.b\",\"wait_seconds\":56}",
		 "from 0 to 55"},
		{"request_egress", "{\"reason\":\"r\",\"host\":\"a.b\",\"wait_seconds\":\"5\"}",
		 "from 0 to 55"},
		{"request_release", "{\"reason\":\"r\"}", "\"record\" is missing"},
		{"request_push",
		 "{\"reason\":\"r\",\"remote\":\"o\",\"ref\":\"main\",\"commit\":"
		 "\"0123456789abcdef0123456789abcdef01234567\"}",
		 "refs/heads/main"},
		{"request_push",
		 "{\"reason\":\"r\",\"remote\":\"o\",\"ref\":\"refs/heads/m\","
		 "\"commit\":\"0123456\"}",
		 "40 hex digits"},
		{"request_capability", "{\"reason\":\"r\",\"what\":\"" LONG1024 "\"}",
		 "at most 500"},
		{"request_status", "{}", "\"id\" is missing"},
		{"request_status", "{\"id\":0}", "from 1 on"},
		{"request_status", "{\"id\":-1}", "from 1 on"},
		{"tell_human", "{\"message\":\"" LONG1024 "\"}", "at most 1023"},
		{"tell_human", "{\"message\":[]}", "must be a text"},
	};
	struct world *w = *state;

	(void)world_initialize(w, "2025-11-25");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool is_error = false;
		_cleanup_json_ json_t *got =
			world_tool(w, cases[i].tool, cases[i].arguments, &is_error);

		if (!is_error || strcmp(text_of(got, "state"), "invalid") != 0 ||
		    !strstr(text_of(got, "message"), cases[i].says))
			fail_msg("%s %s: %s", cases[i].tool, cases[i].arguments, w->body);
	}
	assert_int_equal(w->n_asks, 0);
}

/* --- answers --- */

static void states(void **state)
{
	static const struct {
		enum ask_state state;
		const char *name;
		bool is_error;
	} cases[] = {
		{ASK_PENDING, "pending", false}, {ASK_GRANTED, "granted", false},
		{ASK_REFUSED, "refused", false}, {ASK_EXPIRED, "expired", false},
		{ASK_NEVER, "never", false},	 {ASK_INVALID, "invalid", true},
		{ASK_LIMITED, "limited", true},	 {ASK_UNKNOWN, "unknown", true},
	};
	struct world *w = *state;

	(void)world_initialize(w, "2025-11-25");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_json_ json_t *got = NULL;
		bool is_error;

		w->reply = (struct ask_answer){.number = 5,
					       .state = cases[i].state,
					       .is_final = 1,
					       .text = "why \x1b[31m"};
		got = world_tool(w, "request_egress",
				 "{\"host\":\"a.b\",\"reason\":\"r\",\"wait_seconds\":0}",
				 &is_error);
		assert_string_equal(text_of(got, "state"), cases[i].name);
		assert_int_equal(is_error, cases[i].is_error);
		assert_string_equal(text_of(got, "reason"), "why \\x1b[31m");
		assert_true(text_of(got, "message")[0]);
	}
}

static void grants_say_how_long(void **state)
{
	static const struct {
		enum ask_scope scope;
		uint64_t until;
		const char *name, *says;
	} cases[] = {
		{ASK_ONCE, 0, "once", ""},
		{ASK_BOTTLE, 0, "bottle", "the end of this bottle"},
		{ASK_BOTTLE, 1800000000, "bottle", "2027-01-15T08:00:00.000Z"},
		{ASK_ALWAYS, 0, "always", "the end of this bottle"},
	};
	struct world *w = *state;

	(void)world_initialize(w, "2025-11-25");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_json_ json_t *got = NULL;

		w->reply = (struct ask_answer){.number = 5,
					       .state = ASK_GRANTED,
					       .scope = cases[i].scope,
					       .until = cases[i].until,
					       .is_final = 1};
		got = world_tool(w, "request_status", "{\"id\":5}", NULL);
		assert_string_equal(text_of(got, "scope"), cases[i].name);
		assert_string_equal(text_of(got, "until"), cases[i].says);
		assert_non_null(strstr(text_of(got, "message"), "Retry"));
	}
}

static void telling(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *got = NULL;

	(void)world_initialize(w, "2025-11-25");
	w->reply = (struct ask_answer){.state = ASK_TAKEN, .is_final = 1};
	got = world_tool(w, "tell_human", "{\"message\":\"hello\"}", NULL);
	assert_string_equal(text_of(got, "state"), "taken");
	assert_int_equal(w->asks[0].op, ASK_TELL);
	assert_string_equal(w->asks[0].reason, "hello");
}

/* --- waiting --- */

static void wait_for_asks(struct world *w, size_t n)
{
	for (int i = 0; i < 1000 && w->n_asks < n; i++)
		world_run(w, 1);
	assert_int_equal(w->n_asks, n);
	world_run(w, 5);
}

static void decision_ends_the_wait(void **state)
{
	struct world *w = *state;
	int fd;

	(void)world_initialize(w, "2025-11-25");
	fd = world_begin(w, EGRESS("1", "a.example", "55"));
	wait_for_asks(w, 1);
	world_answer(w, 0, ASK_GRANTED, true);
	assert_int_equal(world_finish(w, fd), 200);
	assert_non_null(strstr(w->body, "\"state\":\"granted\""));
}

static void wait_ends_by_itself(void **state)
{
	struct world *w = *state;
	int fd;

	(void)world_initialize(w, "2025-11-25");
	fd = world_begin(w, EGRESS("1", "a.example", "1"));
	assert_int_equal(world_finish(w, fd), 200);
	assert_non_null(strstr(w->body, "\"state\":\"pending\",\"id\":41"));
	/* The decision comes when nobody waits any more. */
	world_answer(w, 0, ASK_GRANTED, true);
	world_run(w, 10);
}

/* A look is answered once: whoever waits looks again. */
static void status_looks_again(void **state)
{
	struct world *w = *state;
	int fd;

	w->protocol.poll_ms = 20;
	world_restart(w);
	(void)world_initialize(w, "2025-11-25");
	w->reply.is_final = 1;
	fd = world_begin(w, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{"
			    "\"name\":\"request_status\",\"arguments\":{\"id\":41}}}");
	wait_for_asks(w, 2);
	w->reply.state = ASK_REFUSED;
	assert_int_equal(world_finish(w, fd), 200);
	assert_non_null(strstr(w->body, "\"state\":\"refused\""));
	assert_int_equal(w->asks[w->n_asks - 1].op, ASK_LOOK);
	assert_int_equal(w->asks[w->n_asks - 1].number, 41);
}

static void silent_keeper(void **state)
{
	struct world *w = *state;

	w->protocol.first_ms = 30;
	world_restart(w);
	w->is_silent = true;
	(void)world_initialize(w, "2025-11-25");
	assert_int_equal(world_post(w, EGRESS("1", "a.example", "55")), 200);
	assert_non_null(strstr(w->body, "\"state\":\"unavailable\""));
	assert_non_null(strstr(w->body, "\"isError\":true"));
}

static void ended_desk(void **state)
{
	struct world *w = *state;
	int fd;

	(void)world_initialize(w, "2025-11-25");
	fd = world_begin(w, EGRESS("1", "a.example", "55"));
	wait_for_asks(w, 1);
	loop_del(w->loop, &w->keeper);
	close_fd(&w->keeper_fd);
	assert_int_equal(world_finish(w, fd), 200);
	assert_non_null(strstr(w->body, "\"state\":\"unavailable\""));
	assert_int_equal(world_post(w, EGRESS("2", "a.example", "55")), 200);
	assert_non_null(strstr(w->body, "\"state\":\"unavailable\""));
}

static void begin_waits(struct world *w, int fds[CALL_WAITING_MAX], size_t n_asked)
{
	for (int i = 0; i < CALL_WAITING_MAX; i++) {
		_cleanup_free_ char *body = mem_printf(EGRESS("%d", "a.example", "55"), i + 1);

		fds[i] = world_begin(w, body);
	}
	wait_for_asks(w, n_asked + CALL_WAITING_MAX);
}

/* One more than may wait hears at once how it stands; those who went away wait no longer. */
static void waits_are_bounded(void **state)
{
	struct world *w = *state;
	int fds[CALL_WAITING_MAX];

	(void)world_initialize(w, "2025-11-25");
	begin_waits(w, fds, 0);
	assert_int_equal(world_post(w, EGRESS("99", "a.example", "55")), 200);
	assert_non_null(strstr(w->body, "\"state\":\"pending\""));
	for (int i = 0; i < CALL_WAITING_MAX; i++)
		close_fd(&fds[i]);
	world_run(w, 20);
	w->n_asks = 0;
	begin_waits(w, fds, 0);
	for (size_t i = 0; i < CALL_WAITING_MAX; i++)
		world_answer(w, i, ASK_GRANTED, true);
	for (int i = 0; i < CALL_WAITING_MAX; i++) {
		assert_int_equal(world_finish(w, fds[i]), 200);
		assert_non_null(strstr(w->body, "\"state\":\"granted\""));
	}
}

static void ids_in_flight_are_taken(void **state)
{
	struct world *w = *state;
	int fd;

	(void)world_initialize(w, "2025-11-25");
	fd = world_begin(w, EGRESS("\"x\"", "a.example", "55"));
	wait_for_asks(w, 1);
	assert_int_equal(world_post(w, EGRESS("\"x\"", "b.example", "0")), 200);
	assert_int_equal(world_error(w), JSONRPC_INVALID_REQUEST);
	assert_int_equal(w->n_asks, 1);
	/* Not by another session. */
	(void)world_initialize(w, "2025-11-25");
	assert_int_equal(world_post(w, EGRESS("\"x\"", "b.example", "0")), 200);
	assert_int_equal(world_error(w), 0);
	world_answer(w, 0, ASK_REFUSED, true);
	assert_int_equal(world_finish(w, fd), 200);
	assert_non_null(strstr(w->body, "\"state\":\"refused\""));
}

#define CANCEL(id)                                                                                 \
	"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/"                                         \
	"cancelled\",\"params\":{\"requestId\":" id "}}"

static void cancelled_waits_are_forgotten(void **state)
{
	struct world *w = *state;
	char session[64];
	int fd;

	(void)world_initialize(w, "2025-11-25");
	memcpy(session, w->session, sizeof(session));
	fd = world_begin(w, EGRESS("1", "a.example", "55"));
	wait_for_asks(w, 1);
	/* Another id, and another session's: nothing happens. */
	assert_int_equal(world_post(w, CANCEL("2")), 202);
	(void)world_initialize(w, "2025-11-25");
	assert_int_equal(world_post(w, CANCEL("1")), 202);
	memcpy(w->session, session, sizeof(session));
	assert_int_equal(world_post(w, EGRESS("1", "a.example", "0")), 200);
	assert_int_equal(world_error(w), JSONRPC_INVALID_REQUEST);
	assert_int_equal(world_post(w, CANCEL("1")), 202);
	assert_int_equal(world_finish(w, fd), 202);
	assert_string_equal(w->body, "");
	world_answer(w, 0, ASK_GRANTED, true);
	assert_int_equal(world_post(w, EGRESS("1", "a.example", "0")), 200);
	assert_non_null(strstr(w->body, "\"state\":\"pending\""));
}

/* The rest of a batch is answered; what it cancels of itself is not. */
static void batch_cancels_itself(void **state)
{
	struct world *w = *state;

	(void)world_initialize(w, "2025-03-26");
	assert_int_equal(
		world_post(w, "[" EGRESS("1", "a.example", "55") "," CANCEL(
				      "1") ","
					   "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}]"),
		200);
	assert_string_equal(w->body, "[{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}]");
}

/* The end of a session reaches what waits in it, also when the one connection does both: the end
 * comes behind the wait and is not read before it. */
static void end_of_session_ends_its_waits(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *end = NULL;
	int fds[2];

	(void)world_initialize(w, "2025-11-25");
	fds[0] = world_begin(w, EGRESS("1", "a.example", "55"));
	fds[1] = world_begin(w, EGRESS("2", "a.example", "55"));
	wait_for_asks(w, 2);
	end = mem_printf("DELETE /mcp HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nMcp-Session-Id: "
			 "%s\r\n\r\n",
			 w->port, w->session);
	/* Each of them has one more to say, as soon as it is answered. */
	for (int i = 0; i < 2; i++)
		world_send(w, fds[i], end, strlen(end));
	assert_int_equal(world_raw(w, end), 200);
	for (int i = 0; i < 2; i++)
		assert_int_equal(world_finish(w, fds[i]), 404);
}

int main(void)
{
#define WORLD(fn) cmocka_unit_test_setup_teardown(fn, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_tools),
		WORLD(old_clients_get_text_alone),
		WORLD(egress_is_asked),
		WORLD(record_is_asked),
		WORLD(others_are_asked),
		WORLD(bad_arguments),
		WORLD(states),
		WORLD(grants_say_how_long),
		WORLD(telling),
		WORLD(decision_ends_the_wait),
		WORLD(wait_ends_by_itself),
		WORLD(status_looks_again),
		WORLD(silent_keeper),
		WORLD(ended_desk),
		WORLD(waits_are_bounded),
		WORLD(ids_in_flight_are_taken),
		WORLD(cancelled_waits_are_forgotten),
		WORLD(batch_cancels_itself),
		WORLD(end_of_session_ends_its_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
