/* pipelock of a supervised bottle, with the test as the keeper at its desk; see world.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"

#include "base/clean.h"
#include "base/text.h"
#include "pipelock/hold.h"

#include <stdio.h>

#define WAIT_MS 300 /* for a human, here */

static char host_open[] = "open.example.com", host_held[] = "held.example.com";
static char path_v1[] = "/v1/**";
static char *paths[] = {path_v1};
#define BOTH ((1u << POLICY_METHOD_GET) | (1u << POLICY_METHOD_POST))

static struct policy_route routes[] = {
	{.host = host_open,
	 .ports = {443},
	 .n_ports = 1,
	 .methods = BOTH,
	 .paths = paths,
	 .n_paths = 1},
	{.host = host_held,
	 .ports = {443},
	 .n_ports = 1,
	 .methods = BOTH,
	 .on_match = POLICY_MATCH_SUPERVISE},
};
static const struct policy policy = {.routes = routes, .n_routes = ARRAY_LEN(routes)};
static struct scan_engine *engine;
static struct world *w;
static char answer[1 << 16], request[1 << 20];

static int setup(void **state)
{
	(void)state;
	w = malloc(sizeof(*w));
	return world_engine(&engine) < 0 ? -1 : world_start(w, engine, &policy, WAIT_MS);
}

static int teardown(void **state)
{
	(void)state;
	world_stop(w);
	scan_engine_free(engine);
	free(w);
	return 0;
}

static void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no %s in %s", part, text);
}

/* Sends one request in a tunnel of its own. */
__attribute__((format(printf, 2, 3))) static struct client send_to(const char *host,
								   const char *format, ...)
{
	struct client c = client_tunnel(w, host);
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(request, sizeof(request), format, ap);
	va_end(ap);
	assert_true(client_send(&c, request, strlen(request)));
	return c;
}

/* The answer to it. */
static int receive(struct client *c)
{
	int status = client_response(c, answer, sizeof(answer));

	client_close(c);
	return status;
}

static void take(struct ask *a, enum ask_op op)
{
	assert_true(world_ask(w, a));
	assert_int_equal(a->op, op);
}

static void take_record(struct record *r, enum record_verdict verdict)
{
	do
		assert_true(world_record(w, r));
	while (r->verdict != verdict);
}

static void assert_nothing_asked(void)
{
	struct ask a;

	assert_false(recv(w->desk_fd, &a, sizeof(a), MSG_DONTWAIT) > 0);
}

/* --- what a refusal names --- */

#define TO(host, line, fields) line " HTTP/1.1\r\nHost: " host "\r\n" fields "\r\n"
#define TO_OPEN(line)	       TO("open.example.com", line, "")

static void test_names_request(void **state)
{
	struct client c;
	struct record r;
	struct ask a;

	(void)state;
	c = send_to("open.example.com", TO_OPEN("GET /v2/%%61?q=1"));
	assert_int_equal(receive(&c), 403);
	assert_has(answer, "\"ask\":{\"tool\":\"request_egress\",\"arguments\":{"
			   "\"host\":\"open.example.com\",\"ports\":[443],\"methods\":[\"GET\"],"
			   "\"paths\":[\"/v2/a\"]}}");
	take(&a, ASK_SEEN);
	take_record(&r, RECORD_BLOCK);
	assert_memory_equal(a.record, r.id, sizeof(a.record));
	assert_int_equal(a.kind, ASK_EGRESS);
	assert_string_equal(a.host, "open.example.com");
	assert_int_equal(a.n_ports, 1);
	assert_int_equal(a.ports[0], 443);
	assert_int_equal(a.methods, 1u << POLICY_METHOD_GET);
	assert_int_equal(a.n_paths, 1);
	assert_string_equal(a.paths[0], "/v2/a");
	c = send_to("open.example.com", TO_OPEN("DELETE /v1/a"));
	assert_int_equal(receive(&c), 403);
	assert_has(answer, "\"methods\":[\"DELETE\"]");
	take(&a, ASK_SEEN);
}

static void test_names_connect(void **state)
{
	struct client c = client_open(w);
	const char text[] = "CONNECT New.Example.Com:8443 HTTP/1.1\r\n"
			    "Host: New.Example.Com:8443\r\n\r\n";
	struct ask a;

	(void)state;
	assert_int_equal(client_ask(&c, text, answer, sizeof(answer)), 403);
	client_close(&c);
	assert_has(answer, "\"arguments\":{\"host\":\"new.example.com\",\"ports\":[8443]}}");
	take(&a, ASK_SEEN);
	assert_int_equal(a.methods, 0);
	assert_int_equal(a.n_paths, 0);
}

/* What is final, and what the scan would stop afterwards or cannot show, is not offered. */
static void test_names_nothing(void **state)
{
	static const char *const final[] = {
		TO_OPEN("GET /v2/" WORLD_SHAPE),
		TO_OPEN("GET /v1/a?q=" WORLD_SHAPE), /* on_match block */
		TO_OPEN("GET /v1/a?q=" WORLD_SECRET),
		TO_OPEN("GET /%2e%2e/a"),
	};
	const char address[] = "CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: 10.0.0.1:443\r\n\r\n";
	struct client c;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(final); i++) {
		c = send_to("open.example.com", "%s", final[i]);
		assert_int_equal(receive(&c), 403);
		assert_null(strstr(answer, "\"ask\""));
	}
	c = client_open(w);
	assert_int_equal(client_ask(&c, address, answer, sizeof(answer)), 403);
	client_close(&c);
	assert_null(strstr(answer, "\"ask\""));
	assert_nothing_asked();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_names_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_connect, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
