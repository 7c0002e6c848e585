/* pipelock of a supervised bottle, with the test as the keeper at its desk; see world.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "pipelock/hold.h"

#include <poll.h>
#include <stdio.h>

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

static int group_setup(void **state)
{
	(void)state;
	engine = world_engine();
	return engine ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	scan_engine_free(engine);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	w = malloc(sizeof(*w));
	return world_start(w, engine, &policy);
}

static int teardown(void **state)
{
	(void)state;
	world_stop(w);
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

/* --- the canary --- */

static void test_canary(void **state)
{
	struct client c;
	struct record r;
	struct ask a;

	(void)state;
	c = send_to("open.example.com", TO_OPEN("GET /v1/a?q=" WORLD_CANARY));
	assert_int_equal(receive(&c), 403);
	assert_has(answer, "canary-leaving");
	assert_null(strstr(answer, "\"ask\""));
	take(&a, ASK_CANARY);
	take_record(&r, RECORD_BLOCK);
	assert_memory_equal(a.record, r.id, sizeof(a.record));
	assert_string_equal(a.host, "open.example.com");
	/* A second one right after it is no news. */
	c = send_to("open.example.com", TO_OPEN("GET /v1/a?q=" WORLD_CANARY));
	assert_int_equal(receive(&c), 403);
	assert_nothing_asked();
}

/* In a path that the policy refuses already, which cannot be written down because of it. */
static void test_canary_refused_anyway(void **state)
{
	struct client c = send_to("open.example.com", TO_OPEN("GET /v2/" WORLD_CANARY));
	struct ask a;

	(void)state;
	assert_int_equal(receive(&c), 403);
	assert_has(answer, "path-not-allowed");
	take(&a, ASK_CANARY);
	assert_nothing_asked();
}

/* --- what waits --- */

#define TO_HELD(line, fields) TO("held.example.com", line, fields)
#define BODY		      "{\"a\":\"before " WORLD_SHAPE " after\"}"

static struct client post_held(const char *body)
{
	return send_to("held.example.com",
		       TO_HELD("POST /x?y=1", "X-Z: 1\r\nContent-Length: %zu\r\n") "%s",
		       strlen(body), body);
}

/* Refusals fill the channel while the keeper reads nothing: it hears of the canary all the same. */
static void test_canary_behind_a_flood(void **state)
{
	struct client c = client_tunnel(w, "open.example.com");
	struct ask a = {0};
	int room = 2 * sizeof(a);

	(void)state;
	/* Smaller than what pipelock says at once of refusals. */
	assert_int_equal(setsockopt(w->parts.desk_fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)),
			 0);
	for (int i = 0; i < 40; i++) {
		const char *path = i < 39 ? "GET /v2/" : "GET /v1/a?q=" WORLD_CANARY;

		(void)snprintf(request, sizeof(request), TO_OPEN("%s"), path);
		assert_int_equal(client_ask(&c, request, answer, sizeof(answer)), 403);
		world_records_drop(w);
	}
	client_close(&c);
	while (a.op != ASK_CANARY)
		assert_true(world_ask(w, &a));
}

/* What the keeper cannot remember is not told: there is room for what waits for an answer. */
static void test_flood_leaves_room(void **state)
{
	struct client c = client_tunnel(w, "open.example.com"), held;
	struct ask a = {.op = ASK_SEEN};
	uint64_t read_ns = time_monotonic_ns();
	struct record r;

	(void)state;
	for (int i = 0; i < 400; i++) {
		assert_int_equal(client_ask(&c, TO_OPEN("GET /v2/"), answer, sizeof(answer)), 403);
		world_records_drop(w);
		/* As long as a busy host takes for it, a keeper would have read. */
		if (time_monotonic_ns() > read_ns + 500 * TIME_NS_PER_MS) {
			while (io_wait(w->desk_fd, POLLIN, 0) == 1)
				assert_true(world_ask(w, &a));
			read_ns = time_monotonic_ns();
		}
	}
	assert_has(answer, "request_egress");
	client_close(&c);
	held = post_held(BODY);
	take_record(&r, RECORD_HOLD);
	(void)usleep(50000); /* the keeper is asked right after that */
	for (int i = 0; i < 300 && a.op == ASK_SEEN; i++)
		assert_true(world_ask(w, &a));
	assert_int_equal(a.op, ASK_SPEND);
	client_close(&held);
}

/* Through the keeper's not knowing it, to where a human would be asked. */
static void take_held(struct ask *a)
{
	struct ask known, seen;

	take(&known, ASK_SPEND);
	assert_int_equal(known.kind, ASK_RELEASE);
	assert_int_equal(known.number, 0);
	world_answer(w, &known, ASK_UNKNOWN, (enum ask_release)0);
	take(&seen, ASK_SEEN);
	take(a, ASK_HELD);
	assert_memory_equal(a->record, seen.record, sizeof(a->record));
	assert_memory_equal(a->hash, seen.hash, sizeof(a->hash));
	assert_memory_equal(a->hash, known.hash, sizeof(a->hash));
	assert_int_equal(w->requests, 0);
	assert_int_equal(w->connections, 0);
}

/* The human grants what was held as a: nothing leaves before that is spent. */
static void grant_held(struct ask *a, enum ask_release how)
{
	struct ask spend;

	a->number = 4711;
	world_answer(w, a, ASK_GRANTED, how);
	take(&spend, ASK_SPEND);
	assert_int_equal(spend.number, a->number);
	assert_memory_equal(spend.hash, a->hash, sizeof(a->hash));
	assert_int_equal(w->connections, 0);
	world_answer(w, &spend, ASK_GRANTED, how);
}

static void test_held_pass(void **state)
{
	struct client c = post_held(BODY);
	struct record r;
	struct ask a;
	size_t n;
	char *last;

	(void)state;
	take_held(&a);
	take_record(&r, RECORD_HOLD);
	assert_memory_equal(a.record, r.id, sizeof(a.record));
	assert_int_equal(a.kind, ASK_RELEASE);
	assert_string_equal(a.host, "held.example.com");
	assert_string_equal(a.paths[0], "/x");
	assert_int_equal(a.methods, 1u << POLICY_METHOD_POST);
	assert_int_equal(a.hold_ms, WORLD_HOLD_MS);
	assert_true(a.rule[0] != '\0');
	assert_string_equal(a.where, "body, byte 13 of 61");
	assert_string_equal(a.shown, "{\"a\":\"before "
				     "******** after\"}");
	grant_held(&a, ASK_PASS);
	assert_int_equal(receive(&c), 200);
	take_record(&r, RECORD_ALLOW);
	assert_string_equal(r.reason, "held-released");
	last = world_last(w, &n);
	assert_has(last, BODY);
	free(last);
	assert_int_equal(w->requests, 1);
}

/* On a kept connection, which ends when it is used again, a request would be repeated. */
static void test_held_never_repeated(void **state)
{
	struct client c = send_to("open.example.com", TO_OPEN("GET /v1/a"));
	struct ask a;

	(void)state;
	assert_int_equal(receive(&c), 200);
	w->requests = w->connections = 0;
	c = send_to("held.example.com", TO_HELD("GET /v1/drop", "X-Key: " WORLD_SHAPE "\r\n"));
	take_held(&a);
	grant_held(&a, ASK_PASS);
	assert_int_equal(receive(&c), 502);
	assert_int_equal(w->requests, 1);
}

static void test_held_redact(void **state)
{
	struct client c = post_held(BODY);
	struct record r;
	struct ask a;
	size_t n;
	char *last;

	(void)state;
	take_held(&a);
	grant_held(&a, ASK_REDACT);
	assert_int_equal(receive(&c), 200);
	take_record(&r, RECORD_REDACT);
	last = world_last(w, &n);
	assert_null(strstr(last, WORLD_SHAPE));
	assert_has(last, "\"before ****");
	assert_has(last, "* after\"}");
	free(last);
}

/* Without a body; a value in a path cannot be masked. */
static void test_held_head(void **state)
{
	struct client c =
		send_to("held.example.com", TO_HELD("GET /a", "X-Key: " WORLD_SHAPE "\r\n"));
	struct ask a;
	size_t n;
	char *last;

	(void)state;
	take_held(&a);
	assert_true(str_starts(str_of(a.where), STR_LIT("header, byte ")));
	assert_has(a.shown, "X-Key: ****");
	assert_null(strstr(a.shown, WORLD_SHAPE));
	grant_held(&a, ASK_PASS);
	assert_int_equal(receive(&c), 200);
	last = world_last(w, &n);
	assert_has(last, "X-Key: " WORLD_SHAPE);
	free(last);
	world_records_drop(w);

	w->connections = w->requests = 0;
	c = send_to("held.example.com", TO_HELD("GET /" WORLD_SHAPE, ""));
	take_held(&a);
	assert_int_equal(a.n_paths, 0);
	grant_held(&a, ASK_REDACT);
	assert_int_equal(receive(&c), 403);
	assert_has(answer, "secret-in-path");
	assert_int_equal(w->requests, 0);
}

static void test_held_refused(void **state)
{
	struct client c = post_held(BODY);
	struct record r;
	struct ask a;

	(void)state;
	take_held(&a);
	world_answer(w, &a, ASK_REFUSED, (enum ask_release)0);
	assert_int_equal(receive(&c), 403);
	assert_has(answer, "\"reason\":\"held-refused\"");
	assert_has(answer, "\"hint\":\"not this one\"");
	assert_null(strstr(answer, "\"ask\""));
	take_record(&r, RECORD_BLOCK);
	assert_int_equal(w->requests, 0);
	assert_nothing_asked();
}

/* A grant whose hash is of something else, or that says not how, or has no number, is none. */
static void test_held_other(void **state)
{
	struct client c;
	struct ask a, other;

	(void)state;
	for (int i = 0; i < 3; i++) {
		c = post_held(BODY);
		take_held(&a);
		other = a;
		other.number = i == 2 ? 0 : 1;
		other.hash[0] ^= i == 0;
		world_answer(w, &other, ASK_GRANTED, i == 1 ? (enum ask_release)0 : ASK_PASS);
		assert_int_equal(receive(&c), 403);
		assert_has(answer, "held-expired");
		take(&a, ASK_SEEN);
	}
	assert_int_equal(w->requests, 0);
}

/* Granted, and used up by another before this one could. */
static void test_held_spent(void **state)
{
	struct client c = post_held(BODY);
	struct ask a;

	(void)state;
	take_held(&a);
	a.number = 1;
	world_answer(w, &a, ASK_GRANTED, ASK_PASS);
	take(&a, ASK_SPEND);
	world_answer(w, &a, ASK_UNKNOWN, (enum ask_release)0);
	assert_int_equal(receive(&c), 403);
	assert_has(answer, "held-expired");
	assert_int_equal(w->requests, 0);
}

/* Too late for this one; it can be asked for, and when exactly it comes again it passes. */
static void test_held_expired(void **state)
{
	struct ask a, seen, again;
	struct client c;

	(void)state;
	w->pipelock.hold_ms = 50;
	c = post_held(BODY);
	take_held(&a);
	assert_int_equal(receive(&c), 403);
	assert_has(answer, "\"reason\":\"held-expired\"");
	assert_has(answer, "\"ask\":{\"tool\":\"request_release\",\"arguments\":{\"record\":\"");
	take(&again, ASK_GONE);
	assert_int_equal(again.id, a.id);
	take(&seen, ASK_SEEN);
	assert_memory_equal(seen.hash, a.hash, sizeof(a.hash));
	assert_memory_not_equal(seen.record, a.record, sizeof(a.record));
	assert_string_equal(seen.shown, a.shown);
	c = post_held(BODY);
	take(&again, ASK_SPEND);
	assert_memory_equal(again.hash, a.hash, sizeof(a.hash));
	world_answer(w, &again, ASK_GRANTED, ASK_PASS);
	assert_int_equal(receive(&c), 200);
	assert_nothing_asked();
}

/* Each byte that would be sent counts. */
static void test_held_hash(void **state)
{
	static const char *const others[] = {
		TO_HELD("GET /a?b", "X-Key: " WORLD_SHAPE "\r\n"),
		TO_HELD("GET /a", "X-Key: " WORLD_SHAPE "\r\nX-More: 1\r\n"),
		TO_HELD("GET /b", "X-Key: " WORLD_SHAPE "\r\n"),
		TO_HELD("POST /a", "X-Key: " WORLD_SHAPE "\r\nContent-Length: 0\r\n"),
	};
	struct client c =
		send_to("held.example.com", TO_HELD("GET /a", "X-Key: " WORLD_SHAPE "\r\n"));
	struct ask first, a;

	(void)state;
	take(&first, ASK_SPEND);
	client_close(&c);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		c = send_to("held.example.com", "%s", others[i]);
		take(&a, ASK_SPEND);
		client_close(&c);
		assert_memory_not_equal(a.hash, first.hash, sizeof(a.hash));
	}
}

static void test_held_gone(void **state)
{
	struct client c = post_held(BODY);
	struct ask a, gone;

	(void)state;
	take_held(&a);
	client_close(&c);
	take(&gone, ASK_GONE);
	assert_int_equal(gone.id, a.id);
	assert_memory_equal(gone.record, a.record, sizeof(a.record));
	/* What comes now is for nobody. */
	world_answer(w, &a, ASK_GRANTED, ASK_PASS);
	c = send_to("open.example.com", TO_OPEN("GET /v1/a"));
	assert_int_equal(receive(&c), 200);
	assert_int_equal(w->requests, 1);
}

static void test_held_desk_closed(void **state)
{
	struct client c = post_held(BODY);
	struct ask a;

	(void)state;
	take_held(&a);
	close_fd(&w->desk_fd);
	assert_int_equal(receive(&c), 403);
	assert_has(answer, "held-expired");
	assert_null(strstr(answer, "\"ask\""));
	c = post_held(BODY);
	assert_int_equal(receive(&c), 403);
	assert_has(answer, "secret-in-body");
	assert_int_equal(w->requests, 0);
}

/* What redaction would not mask is blocked, whatever else is in the request. */
static void test_held_never(void **state)
{
	static const struct {
		const char *value, *reason;
	} never[] = {
		{WORLD_SECRET " " WORLD_SHAPE, "secret-in-body"},
		{WORLD_SHAPE " " WORLD_CANARY, "canary-leaving"},
		{WORLD_SHAPE " " WORLD_PLACEHOLDER, "placeholder-misplaced"},
	};
	struct client c;
	struct ask a;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(never); i++) {
		/* A shape in the head, which alone would be held, does not help. */
		c = send_to("held.example.com",
			    TO_HELD("POST /x?k=" WORLD_SHAPE, "Content-Length: %zu\r\n") "%s",
			    strlen(never[i].value), never[i].value);
		assert_int_equal(receive(&c), 403);
		assert_has(answer, never[i].reason);
		assert_null(strstr(answer, "\"ask\""));
	}
	take(&a, ASK_CANARY);
	assert_nothing_asked();
	assert_int_equal(w->requests, 0);
}

/* A longer body streams: blocked, as it could not be shown nor kept. */
static void test_held_long(void **state)
{
	size_t n = GATE_WHOLE_MAX + 100000;
	char *body = malloc(n + 1);
	struct client c;

	(void)state;
	memset(body, 'x', n);
	body[n] = '\0';
	memcpy(body + 1000, " " WORLD_SHAPE " ", sizeof(WORLD_SHAPE) + 1);
	c = post_held(body);
	assert_int_equal(receive(&c), 403);
	assert_has(answer, "secret-in-body");
	assert_null(strstr(answer, "\"ask\""));
	assert_nothing_asked();
	free(body);
}

static void test_held_many(void **state)
{
	struct client waiting[HOLD_MAX], c;
	struct ask a;

	(void)state;
	for (size_t i = 0; i < HOLD_MAX; i++) {
		waiting[i] = post_held(BODY);
		take_held(&a);
	}
	c = post_held(BODY);
	assert_int_equal(receive(&c), 403);
	assert_has(answer, "\"reason\":\"secret-in-body\"");
	assert_has(answer, "request_release");
	take(&a, ASK_SEEN);
	for (size_t i = 0; i < HOLD_MAX; i++)
		client_close(&waiting[i]);
	for (size_t i = 0; i < HOLD_MAX; i++)
		take(&a, ASK_GONE);
	c = post_held(BODY);
	take_held(&a);
	client_close(&c);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_names_request),
		CASE(test_names_connect),
		CASE(test_names_nothing),
		CASE(test_canary),
		CASE(test_canary_refused_anyway),
		CASE(test_canary_behind_a_flood),
		CASE(test_flood_leaves_room),
		CASE(test_held_pass),
		CASE(test_held_never_repeated),
		CASE(test_held_redact),
		CASE(test_held_head),
		CASE(test_held_refused),
		CASE(test_held_other),
		CASE(test_held_spent),
		CASE(test_held_expired),
		CASE(test_held_hash),
		CASE(test_held_gone),
		CASE(test_held_desk_closed),
		CASE(test_held_never),
		CASE(test_held_long),
		CASE(test_held_many),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
