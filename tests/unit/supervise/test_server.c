/* Who may speak, and how: HTTP as the agent sends it, byte for byte. */
#include "world.h"

#include "base/clean.h"
#include "base/mem.h"
#include "supervise/jsonrpc.h"

#include <stdio.h>

#define PING "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}"

/* A POST of PING, with a session; %s are what stands before its fields and after them. */
static unsigned post_with(struct world *w, const char *line, const char *host, const char *fields)
{
	_cleanup_free_ char *request =
		mem_printf("%s HTTP/1.1\r\nHost: %s\r\nMcp-Session-Id: %s\r\n%s"
			   "Content-Length: %zu\r\n\r\n%s",
			   line, host, w->session, fields, strlen(PING), PING);

	return world_raw(w, request);
}

#define JSON "Content-Type: application/json\r\n"

static void heads(void **state)
{
	struct world *w = *state;
	char own[32], other[32];
	const struct {
		const char *line, *host, *fields;
		unsigned status;
	} cases[] = {
		{"POST /mcp", own, JSON, 200},
		{"POST /mcp", own, JSON "Accept: application/json, text/event-stream\r\n", 200},
		{"POST /mcp", own, JSON "Accept: text/event-stream, */*;q=0.1\r\n", 200},
		{"POST /mcp", own, JSON "Accept: text/event-stream\r\n", 406},
		{"POST /mcp", own, JSON "Accept: application/json;q=0.00\r\n", 406},
		{"POST /mcp", own, JSON "Accept: */*\r\nAccept: text/html\r\n", 400},
		{"POST /mcp", own, "Content-Type: Application/JSON; charset=UTF-8\r\n", 200},
		{"POST /mcp", own, "Content-Type: application/json; charset=latin1\r\n", 415},
		{"POST /mcp", own, "Content-Type: application/jsonp\r\n", 415},
		{"POST /mcp", own, "Content-Type: text/plain\r\n", 415},
		{"POST /mcp", own, "", 415},
		{"POST /mcp", own, JSON "Content-Encoding: gzip\r\n", 415},
		/* Web pages, and other names for here. */
		{"POST /mcp", own, JSON "Origin: http://127.0.0.1:9100\r\n", 403},
		{"POST /mcp", own, JSON "Origin: null\r\n", 403},
		{"GET /mcp", own, "Origin: null\r\n", 403},
		{"POST /mcp", "127.0.0.1", JSON, 421},
		{"POST /mcp", other, JSON, 421},
		{"POST /mcp", "evil.example:9100", JSON, 421},
		/* Other ways. */
		{"GET /mcp", own, "Accept: text/event-stream\r\n", 405},
		{"PUT /mcp", own, JSON, 405},
		{"OPTIONS /mcp", own, JSON, 405},
		{"POST /", own, JSON, 404},
		{"POST /mcp/", own, JSON, 404},
		{"POST /MCP", own, JSON, 404},
		{"POST /mcp?x=1", own, JSON, 404},
		{"POST http://api.example.com/mcp", "api.example.com", JSON, 400},
		{"CONNECT api.example.com:443", "api.example.com:443", "", 400},
		/* Versions. */
		{"POST /mcp", own, JSON "MCP-Protocol-Version: 2025-11-25\r\n", 200},
		{"POST /mcp", own, JSON "MCP-Protocol-Version: 2025-06-18\r\n", 400},
		{"POST /mcp", own, JSON "MCP-Protocol-Version: 1999-01-01\r\n", 400},
		{"POST /mcp", own,
		 JSON "MCP-Protocol-Version: 2025-11-25\r\nMCP-Protocol-Version: 2025-11-25\r\n",
		 400},
		{"POST /mcp", own, JSON "Mcp-Session-Id: 0\r\n", 400},
	};

	(void)world_initialize(w, "2025-11-25");
	(void)snprintf(own, sizeof(own), "127.0.0.1:%u", w->port);
	(void)snprintf(other, sizeof(other), "127.0.0.1:%u", w->port ^ 1u);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned status = post_with(w, cases[i].line, cases[i].host, cases[i].fields);

		if (status != cases[i].status)
			fail_msg("%s, Host %s, %s: %u, not %u", cases[i].line, cases[i].host,
				 cases[i].fields, status, cases[i].status);
		assert_null(strstr(w->head, "Access-Control"));
	}
	/* None of these got as far as to the keeper. */
	assert_int_equal(w->n_asks, 0);
}

static void get_says_what_is_allowed(void **state)
{
	struct world *w = *state;
	char host[32];

	(void)snprintf(host, sizeof(host), "127.0.0.1:%u", w->port);
	assert_int_equal(post_with(w, "GET /mcp", host, ""), 405);
	assert_non_null(strstr(w->head, "Allow: POST, DELETE\r\n"));
}

/* --- bodies --- */

static void giant_bodies(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *body = mem_zalloc(JSONRPC_MESSAGE_MAX + 2);
	_cleanup_free_ char *chunked = NULL, *head = NULL;
	int fd;

	(void)world_initialize(w, "2025-11-25");
	memset(body, ' ', JSONRPC_MESSAGE_MAX);
	memcpy(body, PING, strlen(PING));
	assert_int_equal(world_post(w, body), 200);
	body[JSONRPC_MESSAGE_MAX] = ' ';
	assert_int_equal(world_post(w, body), 413);
	/* Its length is enough to know; without one it shows only on the way. */
	head = mem_printf("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n" JSON
			  "Content-Length: %u\r\n\r\n",
			  w->port, JSONRPC_MESSAGE_MAX + 1);
	assert_int_equal(world_raw(w, head), 413);
	chunked = mem_printf("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n" JSON
			     "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
			     w->port, JSONRPC_MESSAGE_MAX + 1, body);
	fd = world_dial(w);
	world_send(w, fd, chunked, strlen(chunked));
	w->n_raw = 0;
	w->body = NULL;
	assert_true(world_receive(w, fd));
	assert_int_equal(w->status, 413);
	close_fd(&fd);
}

static void slow_bodies(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *head = NULL;
	int fd;

	w->config.body_ms = 60;
	world_restart(w);
	head = mem_printf("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n" JSON
			  "Content-Length: 1000\r\n\r\n",
			  w->port);
	fd = world_dial(w);
	world_send(w, fd, head, strlen(head));
	for (int i = 0; i < 8; i++) {
		world_send(w, fd, " ", 1);
		world_run(w, 10);
	}
	assert_true(world_receive(w, fd));
	assert_int_equal(w->status, 408);
	close_fd(&fd);
}

static void no_body(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *request = mem_printf(
		"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n" JSON "Content-Length: 0\r\n\r\n",
		w->port);

	assert_int_equal(world_raw(w, request), 400);
}

/* Three requests in one write are answered one after the other. */
static void pipelining(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *three = NULL;
	int fd;

	(void)world_initialize(w, "2025-11-25");
#define ONE                                                                                        \
	"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n" JSON "Mcp-Session-Id: %s\r\n"               \
	"Content-Length: 40\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"ping\"}"
	three = mem_printf(ONE ONE ONE, w->port, w->session, 1, w->port, w->session, 2, w->port,
			   w->session, 3);
	fd = world_dial(w);
	w->n_raw = 0;
	w->body = NULL;
	world_send(w, fd, three, strlen(three));
	for (int i = 1; i <= 3; i++) {
		char id[16];

		(void)snprintf(id, sizeof(id), "\"id\":%d", i);
		assert_true(world_receive(w, fd));
		assert_int_equal(w->status, 200);
		/* The second and third use an id again that is in flight no more. */
		assert_non_null(strstr(w->body, id));
	}
	close_fd(&fd);
}

/* --- sessions --- */

static void sessions_end(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *end = NULL;

	assert_int_equal(world_post(w, PING), 400);
	(void)snprintf(w->session, sizeof(w->session), "%032d", 0);
	assert_int_equal(world_post(w, PING), 404);
	(void)world_initialize(w, "2025-11-25");
	assert_int_equal(world_post(w, PING), 200);
	end = mem_printf("DELETE /mcp HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nMcp-Session-Id: %s\r\n\r\n",
			 w->port, w->session);
	assert_int_equal(world_raw(w, end), 200);
	assert_string_equal(w->body, "");
	assert_int_equal(world_raw(w, end), 404);
	assert_int_equal(world_post(w, PING), 404);
}

static void oldest_session_makes_room(void **state)
{
	struct world *w = *state;
	char first[64], second[64];

	(void)world_initialize(w, "2025-11-25");
	memcpy(first, w->session, sizeof(first));
	(void)world_initialize(w, "2025-11-25");
	memcpy(second, w->session, sizeof(second));
	for (int i = 2; i < SESSION_MAX; i++)
		(void)world_initialize(w, "2025-11-25");
	memcpy(w->session, first, sizeof(first));
	assert_int_equal(world_post(w, PING), 200);
	(void)world_initialize(w, "2025-11-25");
	memcpy(w->session, first, sizeof(first));
	assert_int_equal(world_post(w, PING), 200);
	memcpy(w->session, second, sizeof(second));
	assert_int_equal(world_post(w, PING), 404);
}

/* What costs nothing may come without end. */
static void notification_flood(void **state)
{
	struct world *w = *state;

	(void)world_initialize(w, "2025-11-25");
	for (int i = 0; i < 300; i++)
		assert_int_equal(
			world_post(w, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\","
				      "\"params\":{\"progressToken\":1,\"progress\":1}}"),
			202);
	assert_string_equal(w->body, "");
	assert_int_equal(world_post(w, PING), 200);
	assert_int_equal(w->n_asks, 0);
}

int main(void)
{
#define WORLD(fn) cmocka_unit_test_setup_teardown(fn, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		WORLD(heads),
		WORLD(get_says_what_is_allowed),
		WORLD(giant_bodies),
		WORLD(slow_bodies),
		WORLD(no_body),
		WORLD(pipelining),
		WORLD(sessions_end),
		WORLD(oldest_session_makes_room),
		WORLD(notification_flood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
