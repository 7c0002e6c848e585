/* pipelock as a whole, in process: real relay, real TLS, real scan engine; see world.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"

#include "base/clean.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <zlib.h>

static char host_open[] = "open.example.com", host_api[] = "api.example.com";
static char host_mask[] = "mask.example.com", host_wild[] = "*.wild.example.com";
static char header[] = "authorization", placeholder[] = WORLD_PLACEHOLDER;
static char path_v1[] = "/v1/**";
static char *paths[] = {path_v1};
#define BOTH ((1u << POLICY_METHOD_GET) | (1u << POLICY_METHOD_POST))

static struct policy_route routes[] = {
	{.host = host_open,
	 .ports = {443, 80},
	 .n_ports = 2,
	 .methods = BOTH,
	 .paths = paths,
	 .n_paths = 1},
	{.host = host_api,
	 .ports = {443},
	 .n_ports = 1,
	 .methods = BOTH,
	 .auth = {.scheme = POLICY_AUTH_BEARER, .header = header, .placeholder = placeholder}},
	{.host = host_mask,
	 .ports = {443},
	 .n_ports = 1,
	 .methods = BOTH,
	 .on_match = POLICY_MATCH_REDACT},
	{.host = host_wild, .ports = {443}, .n_ports = 1, .methods = BOTH},
};
static const struct policy policy = {.routes = routes, .n_routes = ARRAY_LEN(routes)};
static struct world *w;
static char answer[2 << 20];

static int group_setup(void **state)
{
	(void)state;
	w = world_make(&policy);
	return w ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	world_free(w);
	return 0;
}

static int each(void **state)
{
	(void)state;
	world_records_drop(w);
	return 0;
}

/* The answer and the record of one refusal. */
static void assert_refused(int got, int status, const char *reason)
{
	char want[80];
	struct record r;

	(void)snprintf(want, sizeof(want), "\"reason\":\"%s\"", reason);
	assert_int_equal(got, status);
	if (!strstr(answer, want))
		fail_msg("no %s in %s", want, answer);
	do
		assert_true(world_record(w, &r));
	while (r.verdict != RECORD_BLOCK);
	assert_string_equal(r.reason, reason);
	assert_null(strstr(answer, WORLD_SECRET));
	assert_null(strstr(r.path, WORLD_SECRET));
	assert_null(strstr(r.host, WORLD_SECRET));
}

#define REQUEST(line, fields) line " HTTP/1.1\r\nHost: open.example.com\r\n" fields "\r\n"

/* One request to host in a tunnel of its own. */
__attribute__((format(printf, 2, 3))) static int ask(const char *host, const char *format, ...)
{
	struct client c = client_tunnel(w, host);
	static char request[65536];
	va_list ap;
	int status;

	va_start(ap, format);
	(void)vsnprintf(request, sizeof(request), format, ap);
	va_end(ap);
	status = client_ask(&c, request, answer, sizeof(answer));
	client_close(&c);
	return status;
}

static void test_allowed(void **state)
{
	struct client c = client_tunnel(w, "open.example.com");
	struct record r;
	size_t n;
	char *last;

	(void)state;
	assert_int_equal(
		client_ask(
			&c,
			REQUEST("GET /v1/a?x=1",
				"Via: 1.1 me\r\nX-Forwarded-For: 1.2.3.4\r\n"
				"X-Pipelock-Agent: root\r\nProxy-Foo: 1\r\nForwarded: a\r\n"
				"x_Forwarded_For: 1\r\nx_pipelock_agent: 1\r\nProxy: http://a\r\n"
				"Accept-Encoding: gzip, dcb, br;q=0.5, *\r\nX-Kept: yes\r\n"),
			answer, sizeof(answer)),
		200);
	assert_non_null(strstr(answer, "\r\n\r\nhello"));
	assert_null(strstr(answer, "lt-Svc"));
	assert_true(world_record(w, &r));
	assert_int_equal(r.verdict, RECORD_ALLOW);
	assert_string_equal(r.reason, "ok");
	assert_string_equal(r.host, "open.example.com");
	assert_string_equal(r.path, "/v1/a");
	assert_string_equal(r.method, "GET");
	last = world_last(w, &n);
	assert_true(str_starts(str_of(last), STR_LIT("GET https://open.example.com/v1/a?x=1 ")));
	assert_non_null(strstr(last, "X-Kept: yes"));
	assert_non_null(strstr(last, "gzip, br;q=0.5\r\n"));
	assert_null(strstr(last, "orwarded"));
	assert_null(strstr(last, "Via"));
	assert_null(strstr(last, "ipelock"));
	assert_null(strstr(last, "Proxy"));
	free(last);
	client_close(&c);
}

/* Many requests on one tunnel, one connection to egress, a refusal in between. */
static void test_keep_alive(void **state)
{
	struct client c = client_tunnel(w, "open.example.com");
	unsigned before = w->connections;

	(void)state;
	for (int i = 0; i < 20; i++)
		assert_int_equal(client_ask(&c, REQUEST("GET /v1/a", ""), answer, sizeof(answer)),
				 200);
	assert_int_equal(client_ask(&c, REQUEST("GET /v2/a", ""), answer, sizeof(answer)), 403);
	assert_int_equal(client_ask(&c, REQUEST("GET /v1/a", ""), answer, sizeof(answer)), 200);
	assert_in_range(w->connections, before, before + 1);
	client_close(&c);
}

static void test_policy(void **state)
{
	(void)state;
	assert_refused(ask("open.example.com", REQUEST("GET /v2/x", "")), 403, "path-not-allowed");
	assert_refused(ask("open.example.com", REQUEST("DELETE /v1/x", "")), 403,
		       "method-not-allowed");
	assert_refused(ask("mask.example.com", "GET /%%2e%%2e/x HTTP/1.1\r\n"
					       "Host: mask.example.com\r\n\r\n"),
		       403, "path-syntax");
}

static void test_connect_refused(void **state)
{
	static const struct {
		const char *authority, *reason;
	} cases[] = {
		{"evil.example.org:443", "host-not-allowed"},
		{"open.example.com:22", "port-not-allowed"},
		{"127.0.0.1:443", "ip-literal"},
		{"2130706433:443", "ip-literal"},
		{"0x7f.1:443", "ip-literal"},
		{"open.example.com.evil.org:443", "host-not-allowed"},
		{"xopen.example.com:443", "host-not-allowed"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct client c = client_open(w);
		char request[300];

		(void)snprintf(request, sizeof(request), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n",
			       cases[i].authority, cases[i].authority);
		assert_refused(client_ask(&c, request, answer, sizeof(answer)), 403,
			       cases[i].reason);
		client_close(&c);
	}
}

static void test_secret_places(void **state)
{
	unsigned before = w->requests;
	const char *host = "open.example.com";

	(void)state;
	for (int i = 0; i < 2; i++) {
		const char *text = i ? WORLD_SHAPE : WORLD_SECRET;

		assert_refused(ask(host, REQUEST("GET /v1/%s", ""), text), 403, "secret-in-path");
		assert_refused(ask(host, REQUEST("GET /v1/a?k=%s", ""), text), 403,
			       "secret-in-query");
		assert_refused(ask(host, REQUEST("GET /v1/a", "X-Data: %s\r\n"), text), 403,
			       "secret-in-header");
		assert_refused(ask(host, REQUEST("GET /v1/a", "Cookie: a=%s\r\n"), text), 403,
			       "secret-in-header");
		assert_refused(
			ask(host, REQUEST("POST /v1/a", "Content-Length: 60\r\n") "%-60s", text),
			403, "secret-in-body");
	}
	assert_refused(ask(host, REQUEST("GET /v1/a?k=%s", ""), WORLD_CANARY), 403,
		       "canary-leaving");
	/* Nothing of it was dialled, let alone sent. */
	assert_int_equal(w->requests, before);
}

static void test_secret_encoded(void **state)
{
	char base64[128], hex[128];
	struct str secret = STR_LIT(WORLD_SECRET);

	(void)state;
	EVP_EncodeBlock((unsigned char *)base64, (const unsigned char *)secret.p, (int)secret.n);
	text_hex(hex, secret.p, secret.n);
	assert_refused(ask("open.example.com", REQUEST("GET /v1/a?k=%s", ""), base64), 403,
		       "secret-in-query");
	assert_refused(ask("open.example.com", REQUEST("GET /v1/a", "X-D: %s\r\n"), hex), 403,
		       "secret-in-header");
	assert_refused(
		ask("open.example.com",
		    REQUEST("POST /v1/a", "Content-Length: 120\r\n") "%-21s{\"data\":\"%-88s\"}",
		    "", base64),
		403, "secret-in-body");
}

static size_t gzip(const char *text, unsigned char *out, size_t size)
{
	z_stream z = {.next_in = (Bytef *)(uintptr_t)text,
		      .avail_in = (uInt)strlen(text),
		      .next_out = out,
		      .avail_out = (uInt)size};

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return z.total_out;
}

static int post_gzip(const char *text)
{
	struct client c = client_tunnel(w, "open.example.com");
	unsigned char body[1024];
	size_t n = gzip(text, body, sizeof(body));
	char head[200];
	int status;

	(void)snprintf(head, sizeof(head),
		       REQUEST("POST /v1/a", "Content-Encoding: gzip\r\nContent-Length: %zu\r\n"),
		       n);
	assert_true(client_send(&c, head, strlen(head)) && client_send(&c, body, n));
	status = client_response(&c, answer, sizeof(answer));
	client_close(&c);
	return status;
}

static void test_gzip(void **state)
{
	size_t n;
	char *last;

	(void)state;
	assert_int_equal(post_gzip("a plain text"), 200);
	/* What is forwarded is what was sent. */
	last = world_last(w, &n);
	assert_non_null(strstr(last, "Content-Encoding: gzip"));
	assert_memory_equal(strstr(last, "\r\n\r\n") + 4, "\x1f\x8b", 2);
	free(last);
	world_records_drop(w);
	assert_refused(post_gzip("hidden " WORLD_SECRET), 403, "secret-in-body");
	assert_refused(
		ask("open.example.com",
		    REQUEST("POST /v1/a", "Content-Encoding: lzma\r\nContent-Length: 3\r\n") "%s",
		    "abc"),
		403, "body-coding-unsupported");
	assert_refused(
		ask("open.example.com",
		    REQUEST("POST /v1/a", "Content-Encoding: gzip\r\nContent-Length: 3\r\n") "%s",
		    "abc"),
		403, "body-coding-corrupt");
}

/* Refused and recorded, before anything is dialled; fetches pass. */
static void test_git_push(void **state)
{
	char *before, *after;
	size_t n;

	(void)state;
	assert_int_equal(ask("open.example.com",
			     REQUEST("GET /v1/r.git/info/refs?service=git-upload-pack", "")),
			 200);
	assert_int_equal(
		ask("open.example.com",
		    REQUEST("POST /v1/r.git/git-upload-pack", "Content-Length: 4\r\n") "%s",
		    "0000"),
		200);
	before = world_last(w, &n);
	world_records_drop(w);
	assert_refused(ask("open.example.com",
			   REQUEST("GET /v1/r.git/info/refs?service=git-receive-pack", "")),
		       403, "git-push");
	assert_non_null(strstr(answer, "git-gate forwards it after its scan"));
	assert_refused(ask("open.example.com",
			   REQUEST("POST /v1/r.git/git-receive-pack", "Content-Length: 4\r\n") "%s",
			   "0000"),
		       403, "git-push");
	after = world_last(w, &n);
	assert_string_equal(before, after);
	free(before);
	free(after);
}

static void test_placeholder(void **state)
{
	static const char api[] = "GET / HTTP/1.1\r\nHost: api.example.com\r\n"
				  "Authorization: Bearer %s\r\n\r\n";

	(void)state;
	assert_int_equal(ask("api.example.com", api, WORLD_PLACEHOLDER), 200);
	assert_int_equal(
		ask("api.example.com",
		    "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 40\r\n\r\n"
		    "%40s",
		    WORLD_PLACEHOLDER),
		200);
	world_records_drop(w);
	assert_refused(ask("open.example.com", REQUEST("GET /v1/a", "Authorization: Bearer %s\r\n"),
			   WORLD_PLACEHOLDER),
		       403, "placeholder-misplaced");
	assert_refused(ask("open.example.com", REQUEST("GET /v1/a?%s", ""), WORLD_PLACEHOLDER), 403,
		       "placeholder-misplaced");
}

static void test_redact(void **state)
{
	size_t n;
	char *last;
	struct record r;

	(void)state;
	assert_int_equal(
		ask("mask.example.com",
		    "POST /x HTTP/1.1\r\nHost: mask.example.com\r\nContent-Length: 60\r\n\r\n"
		    "%-60s",
		    "key=" WORLD_SECRET " end"),
		200);
	assert_true(world_record(w, &r));
	assert_int_equal(r.verdict, RECORD_REDACT);
	last = world_last(w, &n);
	assert_null(strstr(last, WORLD_SECRET));
	assert_non_null(strstr(last, "******"));
	assert_non_null(strstr(last, " end"));
	free(last);
}

/* CONNECT, SNI and Host must agree; what is not TLS gets nowhere. */
static void test_identity(void **state)
{
	struct client c = client_open(w);
	struct record r;

	(void)state;
	assert_int_equal(client_connect(&c, "open.example.com:443"), 200);
	assert_false(client_tls(w, &c, "api.example.com"));
	assert_true(world_record(w, &r));
	assert_string_equal(r.reason, "sni-mismatch");
	client_close(&c);

	c = client_open(w);
	assert_int_equal(client_connect(&c, "open.example.com:443"), 200);
	assert_false(client_tls(w, &c, NULL));
	assert_true(world_record(w, &r));
	assert_string_equal(r.reason, "no-sni");
	client_close(&c);

	c = client_tunnel(w, "open.example.com");
	assert_refused(client_ask(&c, "GET /v1/a HTTP/1.1\r\nHost: api.example.com\r\n\r\n", answer,
				  sizeof(answer)),
		       421, "host-mismatch");
	client_close(&c);

	c = client_open(w);
	assert_int_equal(client_connect(&c, "open.example.com:443"), 200);
	assert_true(client_send(&c, "SSH-2.0-OpenSSH_9.2\r\n", 21));
	assert_true(client_read(&c, answer, sizeof(answer)) <= 0);
	assert_true(world_record(w, &r));
	assert_string_equal(r.reason, "not-tls");
	client_close(&c);
}

static void test_plain_http(void **state)
{
	struct client c = client_open(w);
	size_t n;
	char *last;

	(void)state;
	assert_int_equal(client_ask(&c,
				    "GET http://open.example.com/v1/a HTTP/1.1\r\n"
				    "Host: open.example.com\r\n\r\n",
				    answer, sizeof(answer)),
			 200);
	last = world_last(w, &n);
	assert_true(str_starts(str_of(last), STR_LIT("GET http://open.example.com/v1/a ")));
	free(last);
	world_records_drop(w);
	assert_refused(client_ask(&c,
				  "GET http://open.example.com/v1/a HTTP/1.1\r\n"
				  "Host: open.example.com\r\nAuthorization: Basic eDp5\r\n\r\n",
				  answer, sizeof(answer)),
		       403, "plain-http-credential");
	assert_refused(client_ask(&c,
				  "GET http://mask.example.com/v1/a HTTP/1.1\r\n"
				  "Host: mask.example.com\r\n\r\n",
				  answer, sizeof(answer)),
		       403, "port-not-allowed");
	client_close(&c);
}

/* Each event arrives before the next one is made. */
static void test_sse(void **state)
{
	struct client c = client_tunnel(w, "open.example.com");
	static const char request[] = REQUEST("GET /v1/sse", "");
	size_t n = 0;

	(void)state;
	assert_true(client_send(&c, request, strlen(request)));
	for (int seen = 1; seen <= 3; seen++) {
		assert_int_equal(client_events(&c, seen, answer, sizeof(answer), &n), seen);
		assert_int_equal(sem_post(&w->go), 0);
	}
	client_close(&c);
}

static void test_responses(void **state)
{
	struct record r;

	(void)state;
	assert_refused(ask("open.example.com", REQUEST("GET /v1/leak", "")), 502,
		       "secret-in-response");
	assert_refused(ask("open.example.com", REQUEST("GET /v1/leak-header", "")), 502,
		       "secret-in-response");
	assert_refused(ask("open.example.com", REQUEST("GET /v1/exotic", "")), 502,
		       "response-coding-unsupported");
	world_records_drop(w);
	assert_int_equal(ask("open.example.com", REQUEST("GET /v1/readme", "")), 200);
	assert_non_null(strstr(answer, WORLD_SHAPE));
	assert_true(world_record(w, &r));
	assert_int_equal(r.verdict, RECORD_ALLOW);
	assert_true(world_record(w, &r));
	assert_int_equal(r.verdict, RECORD_NOTE);
	assert_string_equal(r.reason, "injection-in-response");
	assert_int_equal(ask("open.example.com", REQUEST("GET /v1/big", "")), 200);
	assert_int_equal(strlen(strstr(answer, "\r\n\r\n") + 4), 1 << 20);
}

/* A body of n bytes, chunked or with its length, with text at an offset; the status. */
static int post_body(size_t n, const char *text, size_t at, bool is_chunked)
{
	struct client c = client_tunnel(w, "open.example.com");
	char *body = malloc(n + 1), line[300];
	int status;

	for (size_t i = 0; i < n; i++)
		body[i] = i % 64 == 63 ? '\n' : (char)('a' + i % 7);
	memcpy(body + at, text, strlen(text));
	if (is_chunked)
		(void)snprintf(line, sizeof(line),
			       REQUEST("POST /v1/a", "Transfer-Encoding: chunked\r\n") "%zx\r\n",
			       n);
	else
		(void)snprintf(line, sizeof(line), REQUEST("POST /v1/a", "Content-Length: %zu\r\n"),
			       n);
	(void)client_send(&c, line, strlen(line));
	if (client_send(&c, body, n) && is_chunked)
		(void)client_send(&c, "\r\n0\r\n\r\n", 7);
	status = client_response(&c, answer, sizeof(answer));
	client_close(&c);
	free(body);
	return status;
}

static void test_bodies(void **state)
{
	static const size_t sizes[] = {100, 70000, GATE_WHOLE_MAX, GATE_WHOLE_MAX + 1, 400000};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		for (int chunked = 0; chunked < 2; chunked++) {
			size_t n;
			char *last;

			assert_int_equal(post_body(sizes[i], "", 0, chunked), 200);
			last = world_last(w, &n);
			/* Whatever fits the cap goes on with its exact length. */
			if (sizes[i] <= GATE_WHOLE_MAX)
				assert_non_null(strstr(last, "Content-Length: "));
			assert_true(n > sizes[i]);
			free(last);
			world_records_drop(w);
			assert_refused(post_body(sizes[i], WORLD_SECRET, 10, chunked), 403,
				       "secret-in-body");
		}
	}
}

/* Past the cap the body streams: what was found late never leaves. */
static void test_long_body(void **state)
{
	size_t n;
	char *last;

	(void)state;
	world_last_drop(w);
	assert_int_equal(post_body(400000, WORLD_SECRET, 399900, false), 403);
	last = world_last_wait(w, &n);
	assert_true(str_starts(str_of(last), STR_LIT("POST https://open")));
	assert_in_range(n, GATE_WHOLE_MAX - SCAN_HOLDBACK_BYTES, 400000);
	assert_true(str_find(str_slice(last, n), STR_LIT(WORLD_SECRET)) == n);
	free(last);
}

/* A secret in a question is recorded as an attempt, without the secret. */
static void test_dns(void **state)
{
	static const uint8_t start[] = {1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
	static const uint8_t end[] = {3, 'o', 'r', 'g', 0, 0, 1, 0, 1};
	static const char *const labels[] = {"harmless", WORLD_SECRET};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
		size_t label = strlen(labels[i]), n = sizeof(start);
		uint8_t m[300], in[300];
		struct record r;

		memcpy(m, start, n);
		m[n++] = (uint8_t)label;
		memcpy(m + n, labels[i], label);
		n += label;
		memcpy(m + n, end, sizeof(end));
		n += sizeof(end);
		assert_int_equal(sendto(fd, m, n, 0, (struct sockaddr *)&w->dns, sizeof(w->dns)),
				 n);
		assert_int_equal(recv(fd, in, sizeof(in), 0), n);
		assert_int_equal(in[3] & 0xf, 5);
		/* The second one comes a second after the first. */
		for (int tries = 0; !world_record(w, &r); tries++)
			assert_true(tries < 4);
		assert_string_equal(r.reason, "dns-query");
		assert_string_equal(r.host, i ? "[masked]" : "harmless.org");
	}
}

static bool answer_has(const char *reason)
{
	char want[80];

	(void)snprintf(want, sizeof(want), "\"reason\":\"%s\"", reason);
	return strstr(answer, want) != NULL;
}

/* The last test, since nothing is mended afterwards: whatever part is missing, nothing gets out. */
static void test_parts_missing(void **state)
{
	struct client c = client_open(w);
	int status = 0;

	(void)state;
	/* keyd: hosts that are known go on, others are refused. */
	(void)shutdown(w->keyd_fd, SHUT_RDWR);
	assert_int_equal(ask("open.example.com", REQUEST("GET /v1/a", "")), 200);
	assert_int_equal(client_ask(&c,
				    "CONNECT new.wild.example.com:443 HTTP/1.1\r\n"
				    "Host: new.wild.example.com:443\r\n\r\n",
				    answer, sizeof(answer)),
			 503);
	assert_true(answer_has("keyd-unavailable"));
	client_close(&c);
	/* egress: when its last connection is used up. */
	(void)shutdown(w->egress_fd, SHUT_RDWR);
	for (int i = 0; i <= PIPELOCK_IDLE_BACKS_MAX && status != 503; i++)
		status = ask("open.example.com", REQUEST("GET /v1/close", ""));
	assert_int_equal(status, 503);
	assert_true(answer_has("egress-unavailable"));
	/* record: what cannot be recorded does not happen, not even a refusal without its reason.
	 */
	(void)shutdown(w->records_fd, SHUT_RDWR);
	assert_int_equal(ask("open.example.com", REQUEST("GET /v1/a", "")), 503);
	assert_true(answer_has("record-unavailable"));
	assert_int_equal(ask("open.example.com", REQUEST("GET /v2/a", "")), 503);
	assert_int_equal(
		ask("open.example.com", REQUEST("POST /v1/a", "Content-Length: 3\r\n") "abc"), 503);
	assert_true(answer_has("record-unavailable"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_allowed, each),
		cmocka_unit_test_setup(test_keep_alive, each),
		cmocka_unit_test_setup(test_policy, each),
		cmocka_unit_test_setup(test_connect_refused, each),
		cmocka_unit_test_setup(test_secret_places, each),
		cmocka_unit_test_setup(test_secret_encoded, each),
		cmocka_unit_test_setup(test_gzip, each),
		cmocka_unit_test_setup(test_git_push, each),
		cmocka_unit_test_setup(test_placeholder, each),
		cmocka_unit_test_setup(test_redact, each),
		cmocka_unit_test_setup(test_identity, each),
		cmocka_unit_test_setup(test_plain_http, each),
		cmocka_unit_test_setup(test_sse, each),
		cmocka_unit_test_setup(test_responses, each),
		cmocka_unit_test_setup(test_bodies, each),
		cmocka_unit_test_setup(test_long_body, each),
		cmocka_unit_test_setup(test_dns, each),
		cmocka_unit_test_setup(test_parts_missing, each),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
