/* The gate: what it makes of policy and findings, on heads, whole bodies and streams. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "pipelock/gate.h"

#include "base/clean.h"
#include "fake_scan.h"

#define GET_BIT	 (1u << POLICY_METHOD_GET)
#define POST_BIT (1u << POLICY_METHOD_POST)

static char host_api[] = "api.example.com", host_open[] = "open.example.com";
static char host_wild[] = "*.wild.example.com", host_mask[] = "mask.example.com";
static char host_held[] = "held.example.com";
static char header[] = "authorization", placeholder[] = "cb-placeholder-0123456789abcdef";
static char path_v1[] = "/v1/**";
static char *paths[] = {path_v1};

static struct policy_route routes[] = {
	{.host = host_api,
	 .ports = {443},
	 .n_ports = 1,
	 .methods = GET_BIT | POST_BIT,
	 .auth = {.scheme = POLICY_AUTH_BEARER,
		  .header = header,
		  .placeholder = placeholder,
		  .credential = 7}},
	{.host = host_open,
	 .ports = {443, 80},
	 .n_ports = 2,
	 .methods = GET_BIT | POST_BIT,
	 .paths = paths,
	 .n_paths = 1},
	{.host = host_wild, .ports = {443}, .n_ports = 1, .methods = GET_BIT},
	{.host = host_mask,
	 .ports = {443},
	 .n_ports = 1,
	 .methods = POST_BIT,
	 .on_match = POLICY_MATCH_REDACT},
	{.host = host_held,
	 .ports = {443},
	 .n_ports = 1,
	 .methods = POST_BIT,
	 .on_match = POLICY_MATCH_SUPERVISE},
};
static const struct policy policy = {.routes = routes, .n_routes = ARRAY_LEN(routes)};
static struct gate gate;

static int setup(void **state)
{
	(void)state;
	gate_init(&gate, &policy, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	gate_close(&gate);
	return fake_streams_open == 0 ? 0 : -1;
}

static struct gate_verdict verdict;

/* A head from raw bytes in memory of its own; the verdict's reason. */
static char head_raw[4096];
static struct http1_head head;
static bool redacts;

static const char *judge(const char *host, const char *raw)
{
	struct gate_request q = {.host = str_of(host),
				 .port = 443,
				 .is_tls = true,
				 .redacts = redacts,
				 .head = &head};
	bool may_pass;

	memcpy(head_raw, raw, strlen(raw) + 1);
	assert_int_equal(http1_parse_request(&head, str_of(head_raw), HTTP1_SCHEME_HTTPS),
			 HTTP1_OK);
	memset(&verdict, 0, sizeof(verdict));
	may_pass = gate_head(&gate, &q, &verdict);
	assert_int_equal(may_pass, verdict.verdict != RECORD_BLOCK);
	return verdict.reason;
}

#define HEAD(host, line, fields) line " HTTP/1.1\r\nHost: " host "\r\n" fields "\r\n"
#define RULES			 "RULE! RULE! RULE! RULE! "
#define OPEN(line, fields)	 judge("open.example.com", HEAD("open.example.com", line, fields))
#define API(line, fields)	 judge("api.example.com", HEAD("api.example.com", line, fields))

static void test_policy_first(void **state)
{
	(void)state;
	assert_string_equal(OPEN("GET /v1/a", ""), "ok");
	assert_string_equal(OPEN("DELETE /v1/a", ""), "method-not-allowed");
	assert_string_equal(OPEN("GET /v2/a", ""), "path-not-allowed");
	fake_texts = 0;
	assert_string_equal(judge("evil.example.org", HEAD("evil.example.org", "GET /RULE!", "")),
			    "host-not-allowed");
	assert_string_equal(verdict.scanner, "policy");
	assert_int_equal(fake_texts, 0);
}

/* No route can allow a push; a fetch, and reading about it, goes its way. */
static void test_git_push(void **state)
{
	static const struct {
		const char *line, *fields;
		bool is_push;
	} rows[] = {
		{"GET /v1/r.git/info/refs?service=git-receive-pack", "", true},
		{"POST /v1/r.git/git-receive-pack", "", true},
		{"POST /v1/r/git-receive-pack",
		 "Content-Type: application/x-git-receive-pack-request\r\n", true},
		/* spellings */
		{"GET /v1/r/info/refs?service=Git-Receive-Pack", "", true},
		{"GET /v1/r/info/refs?service=git%2Dreceive%2dpack", "", true},
		{"GET /v1/r/info/refs?service=%67it-receive-pack", "", true},
		{"GET /v1/r/info/refs?%73ervice=git-receive-pack", "", true},
		{"GET /v1/r/info/refs?service%3Dgit-receive-pack", "", true},
		{"GET /v1/r/info/refs?service=git%252dreceive%252dpack", "", true},
		{"GET /v1/r/info/refs?a=b&service=git-receive-pack", "", true},
		{"GET /v1/r/info/refs?service=git-receive-pack&a=b", "", true},
		{"GET /v1/r/info/refs?service=git-upload-pack&service=git-receive-pack", "", true},
		{"GET /v1/r/info/refs?service=git-receive-pack&service=git-upload-pack", "", true},
		{"GET /v1/r/info/refs?a;service=git-receive-pack", "", true},
		{"GET /v1/r/info/refs?service[]=git-receive-pack", "", true},
		{"GET /v1/r/info/refs?%20service=git-receive-pack", "", true},
		{"GET /v1/r/info/refs?service=+git-receive-pack", "", true},
		{"GET /v1/r/info/refs?service=git-receive-pack%00", "", true},
		{"GET /v1/r/info/refs?service=receive-pack", "", true},
		{"HEAD /v1/r/info/refs?service=git-receive-pack", "", true},
		{"POST /v1/r/info/refs?service=git-receive-pack", "", true},
		{"GET /v1/elsewhere?service=git-receive-pack", "", true},
		{"POST /v1/r/Git-Receive-Pack", "", true},
		{"POST /v1/r/git%2Dreceive-pack", "", true},
		{"POST /v1/r/git%252Dreceive-pack", "", true},
		{"POST /v1/r%2fgit-receive-pack", "", true},
		{"POST /v1/r%5cgit-receive-pack", "", true},
		{"POST /v1/r/git-receive-pack/", "", true},
		{"POST /v1/r/git-receive-pack;x=y", "", true},
		{"POST /v1/r/git-receive-pack%20", "", true},
		{"POST /v1/r/git-receive-pack%00x", "", true},
		{"POST /v1/r/git-receive-pack?x", "", true},
		{"PUT /v1/r/git-receive-pack", "", true},
		{"OPTIONS /v1/r/git-receive-pack", "", true},
		{"POST /v1/other", "Content-Type: application/X-Git-Receive-Pack-Request\r\n",
		 true},
		{"POST /v1/other", "accept: application/x-git-receive-pack-result\r\n", true},
		/* a host, a port and a path that no route allows: the same */
		{"POST /v2/git-receive-pack", "", true},
		/* innocent */
		{"GET /v1/r.git/info/refs?service=git-upload-pack", "", false},
		{"POST /v1/r.git/git-upload-pack",
		 "Content-Type: application/x-git-upload-pack-request\r\n", false},
		{"GET /v1/r.git/info/refs", "", false},
		{"GET /v1/docs/git-receive-pack", "", false},
		{"GET /v1/docs/git-receive-pack.html", "", false},
		{"POST /v1/docs/git-receive-pack.html", "", false},
		{"POST /v1/docs/git-receive-packs", "", false},
		{"POST /v1/my-git-receive-pack", "", false},
		{"GET /v1/search?q=git-receive-pack", "", false},
		{"GET /v1/search?q=service+git-receive-pack", "", false},
		{"GET /v1/search?services=git-receive-pack", "", false},
		{"GET /v1/search?service=git-receive", "", false},
		{"GET /v1/search?service=%", "", false},
		{"GET /v1/a", "X-Note: application/x-git-receive-pack-request\r\n", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char raw[512];
		const char *reason;

		(void)snprintf(raw, sizeof(raw), "%s HTTP/1.1\r\nHost: open.example.com\r\n%s\r\n",
			       rows[i].line, rows[i].fields);
		reason = judge("open.example.com", raw);
		if ((strcmp(reason, "git-push") == 0) != rows[i].is_push)
			fail_msg("%s: %s", rows[i].line, reason);
		if (rows[i].is_push)
			assert_string_equal(verdict.scanner, "policy");
	}
	/* Before the policy: the hint says where to push instead. */
	assert_string_equal(
		judge("evil.example.org", HEAD("evil.example.org", "POST /r/git-receive-pack", "")),
		"git-push");
}

static void test_places(void **state)
{
	static const struct {
		const char *raw, *reason, *scanner, *rule;
	} cases[] = {
		{HEAD("open.example.com", "GET /v1/RULE!", ""), "secret-in-path", "url",
		 "test-rule"},
		{HEAD("open.example.com", "GET /v1/a?x=RULE!", ""), "secret-in-query", "url",
		 "test-rule"},
		{HEAD("open.example.com", "GET /v1/a?x=rule!", ""), "secret-in-query", "url",
		 "test-rule"},
		{HEAD("open.example.com", "GET /v1/a", "X-A: SECRET!\r\n"), "secret-in-header",
		 "header", "bottle-secret"},
		{HEAD("open.example.com", "GET /v1/a", "RULE!: 1\r\n"), "secret-in-header",
		 "header", "test-rule"},
		{HEAD("open.example.com", "GET /v1/a", "X-A: 1\r\nX-B: canary!\r\n"),
		 "canary-leaving", "header", "canary"},
		{HEAD("open.example.com", "GET /v1/LIMIT!", ""), "scan-limit", "url", "depth"},
		{HEAD("open.example.com", "GET /v1/ERROR!", ""), "scan-limit", "url", ""},
		/* The gravest finding decides, not the first. */
		{HEAD("open.example.com", "GET /v1/a", "X-A: LIMIT! RULE! CANARY! SECRET!\r\n"),
		 "canary-leaving", "header", "canary"},
		{HEAD("open.example.com", "GET /v1/a", "X-A: " RULES RULES RULES "CANARY!\r\n"),
		 "canary-leaving", "header", "canary"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_string_equal(judge("open.example.com", cases[i].raw), cases[i].reason);
		assert_string_equal(verdict.scanner, cases[i].scanner);
		assert_string_equal(verdict.rule, cases[i].rule);
	}
}

static void test_placeholders(void **state)
{
	(void)state;
	assert_string_equal(API("GET /", "Authorization: Bearer HOME7!\r\n"), "ok");
	assert_string_equal(API("GET /", "Authorization: Basic home7!\r\n"), "ok");
	/* Another route's. */
	assert_string_equal(API("GET /", "Authorization: Bearer HOME9!\r\n"),
			    "placeholder-misplaced");
	assert_true(verdict.is_alert);
	assert_string_equal(OPEN("GET /v1/a", "Authorization: Bearer HOME7!\r\n"),
			    "placeholder-misplaced");
	assert_string_equal(OPEN("GET /v1/a?k=home7!", ""), "placeholder-misplaced");
	/* In a chat history, many times over. */
	assert_string_equal(API("POST /", ""), "ok");
	for (int i = 0; i < 2; i++) {
		static char body[4000];

		memset(body, 0, sizeof(body));
		for (int j = 0; j < 100; j++)
			memcpy(body + 7 * j, i ? "home7! " : "HOME7! ", 7);
		assert_true(gate_body(&gate, str_of(body), STR_NULL, &verdict));
	}
	assert_false(gate_body(&gate, STR_LIT("HOME9!"), STR_NULL, &verdict));
	assert_string_equal(verdict.reason, "placeholder-misplaced");
}

/* A placeholder may look like a key, a key that stands beside it may not pass for it. */
static void test_placeholder_shape(void **state)
{
	(void)state;
	assert_string_equal(API("GET /", "Authorization: Bearer SHAPE7!\r\n"), "ok");
	assert_string_equal(API("GET /", "Authorization: Bearer SHAPE7! RULE!\r\n"),
			    "secret-in-header");
	assert_string_equal(API("GET /", "Authorization: Basic shape7!\r\n"), "secret-in-header");
	assert_string_equal(OPEN("GET /v1/a", "X: SHAPE7!\r\n"), "placeholder-misplaced");
}

static void test_wildcard_host(void **state)
{
	(void)state;
	assert_true(gate_authority(&gate, STR_LIT("a.wild.example.com"), 443, &verdict));
	assert_false(gate_authority(&gate, STR_LIT("rule!.wild.example.com"), 443, &verdict));
	assert_string_equal(verdict.reason, "secret-in-host");
	assert_false(gate_authority(&gate, STR_LIT("open.example.com"), 22, &verdict));
	assert_string_equal(verdict.reason, "port-not-allowed");
	assert_false(gate_authority(&gate, STR_LIT("example.org"), 443, &verdict));
	assert_string_equal(verdict.reason, "host-not-allowed");
}

static void test_plain_http(void **state)
{
	struct gate_request q = {.host = STR_LIT("open.example.com"), .port = 80, .head = &head};

	(void)state;
	assert_string_equal(OPEN("GET /v1/a", ""), "ok");
	assert_true(gate_head(&gate, &q, &verdict));
	assert_string_equal(OPEN("GET /v1/a", "Cookie: a=b\r\n"), "ok");
	assert_false(gate_head(&gate, &q, &verdict));
	assert_string_equal(verdict.reason, "plain-http-credential");
	assert_string_equal(OPEN("GET /v1/a", "authorization: Basic eA==\r\n"), "ok");
	assert_false(gate_head(&gate, &q, &verdict));
	/* Where https is meant, nothing goes in clear. */
	assert_string_equal(OPEN("GET /v1/a", ""), "ok");
	q.port = 443;
	assert_false(gate_head(&gate, &q, &verdict));
	assert_string_equal(verdict.reason, "plain-http");
}

static void test_redact(void **state)
{
	char body[] = "a RULE! b SECRET! c RULE! RULE! RULE! RULE! RULE! RULE! RULE! RULE! d";
	char coded[] = "x rule! y";
	char canary[] = "x RULE! CANARY! y";

	(void)state;
	assert_string_equal(
		judge("mask.example.com", HEAD("mask.example.com", "POST /a?b=RULE!",
					       "X-A: 1\r\nX-B: p SECRET! q\r\nX-C: 3\r\n")),
		"secret-in-header");
	assert_int_equal(verdict.verdict, RECORD_REDACT);
	assert_true(str_eq(head.query, STR_LIT("b=*****")));
	assert_true(str_eq(head.fields[1].value, STR_LIT("p ******* q")));
	assert_true(str_eq(head.fields[2].value, STR_LIT("3")));
	/* A name cannot be masked, a path neither. */
	assert_string_equal(
		judge("mask.example.com", HEAD("mask.example.com", "POST /a", "RULE!: 1\r\n")),
		"secret-in-header");
	assert_int_equal(verdict.verdict, RECORD_BLOCK);
	assert_string_equal(judge("mask.example.com", HEAD("mask.example.com", "POST /RULE!", "")),
			    "secret-in-path");

	assert_string_equal(judge("mask.example.com", HEAD("mask.example.com", "POST /", "")),
			    "ok");
	assert_true(gate_body(&gate, str_of(body), STR_NULL, &verdict));
	assert_int_equal(verdict.verdict, RECORD_REDACT);
	assert_string_equal(
		body, "a ***** b ******* c ***** ***** ***** ***** ***** ***** ***** ***** d");
	assert_false(gate_body(&gate, str_of(coded), STR_NULL, &verdict));
	assert_string_equal(coded, "x rule! y");
	assert_string_equal(judge("mask.example.com", HEAD("mask.example.com", "POST /", "")),
			    "ok");
	assert_false(gate_body(&gate, str_of(canary), STR_NULL, &verdict));
	assert_string_equal(verdict.reason, "canary-leaving");
}

static void assert_mark(const char *where, const char *shown)
{
	assert_int_equal(verdict.verdict, RECORD_HOLD);
	assert_string_equal(gate.mark.rule, "test-rule");
	assert_string_equal(gate.mark.where, where);
	assert_string_equal(gate.mark.shown, shown);
}

#define HELD(line, fields) judge("held.example.com", HEAD("held.example.com", line, fields))

/* What may wait for a human, and what he is shown of it. */
static void test_held(void **state)
{
	char text[] = "{\"a\": \"RULE!tail\", \"b\": \"RULE!\"}\x1b";
	char padded[300];

	(void)state;
	assert_string_equal(HELD("POST /a?b=RULE!", ""), "secret-in-query");
	assert_mark("query, byte 2 of 7", "b=********");
	assert_string_equal(HELD("POST /x/RULE!", ""), "secret-in-path");
	assert_mark("url, byte 3 of 8", "/x/********");
	assert_string_equal(HELD("POST /a", "X-B: p rule! q\r\n"), "secret-in-header");
	assert_int_equal(verdict.verdict, RECORD_HOLD);
	assert_string_equal(verdict.decoders, "base64");
	/* A second one is shown no more, and changes nothing. */
	assert_string_equal(HELD("POST /a?b=RULE!", "X-B: RULE!\r\n"), "secret-in-query");
	assert_true(gate_body(&gate, str_of(text), STR_NULL, &verdict));
	assert_mark("query, byte 2 of 7", "b=********");
	/* All of each value is covered, and what would move a terminal is made visible. */
	assert_string_equal(HELD("POST /a", ""), "ok");
	assert_true(gate_body(&gate, str_of(text), STR_NULL, &verdict));
	assert_mark("body, byte 7 of 33", "{\"a\": \"********\", \"b\": \"********\"}\\x1b");
	assert_true(str_starts(str_of(text), STR_LIT("{\"a\": \"RULE!tail")));
	/* So much on either side. */
	memset(padded, 'x', sizeof(padded) - 1);
	padded[sizeof(padded) - 1] = '\0';
	memcpy(padded + 150, " RULE! ", 7);
	assert_string_equal(HELD("POST /a", ""), "ok");
	assert_true(gate_body(&gate, str_of(padded), STR_NULL, &verdict));
	assert_int_equal(strlen(gate.mark.shown), 60 + 8 + 60);
	/* Masked instead, when a human has said so. */
	redacts = true;
	assert_string_equal(HELD("POST /a?b=RULE!tail", ""), "secret-in-query");
	redacts = false;
	assert_int_equal(verdict.verdict, RECORD_REDACT);
	assert_true(str_eq(head.query, STR_LIT("b=*********")));
}

/* More than is known of, or of another kind, or coded. */
static void test_not_held(void **state)
{
	static const char *const queries[] = {
		"POST /a?RULE!SECRET!", "POST /a?RULE!LIMIT!", "POST /a?CANARY!RULE!",
		"POST /a?RULE!HOME7!",
		"POST /a?RULE!&RULE!&RULE!&RULE!&RULE!&RULE!&RULE!&RULE!&RULE!"};
	char raw[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
		(void)snprintf(raw, sizeof(raw), HEAD("held.example.com", "%s", ""), queries[i]);
		(void)judge("held.example.com", raw);
		assert_int_equal(verdict.verdict, RECORD_BLOCK);
	}
	assert_string_equal(HELD("POST /a?RULE!", ""), "secret-in-query");
	assert_false(gate_body(&gate, STR_LIT("SECRET!"), STR_NULL, &verdict));
	assert_string_equal(verdict.reason, "secret-in-body");
	assert_string_equal(HELD("POST /a", ""), "ok");
	assert_false(gate_body(&gate, STR_LIT("SVMF\""), STR_LIT("gzip"), &verdict));
	assert_string_equal(HELD("POST /a", ""), "ok");
	assert_false(gate_body(&gate, STR_LIT("RULE!"), STR_LIT("gzip"), &verdict));
}

static void test_coded_body(void **state)
{
	(void)state;
	assert_string_equal(OPEN("POST /v1/a", ""), "ok");
	assert_true(gate_body(&gate, STR_LIT("ifmmp"), STR_LIT("gzip"), &verdict));
	assert_false(gate_body(&gate, STR_LIT("SVMF\""), STR_LIT("gzip"), &verdict)); /* RULE! */
	assert_string_equal(verdict.reason, "secret-in-body");
	/* In the coded bytes themselves. */
	assert_false(gate_body(&gate, STR_LIT("RULE!"), STR_LIT("gzip"), &verdict));
	assert_false(gate_body(&gate, STR_LIT("x"), STR_LIT("exotic"), &verdict));
	assert_string_equal(verdict.reason, "body-coding-unsupported");
	assert_false(gate_body(&gate, STR_LIT("x"), STR_LIT("broken"), &verdict));
	assert_string_equal(verdict.reason, "body-coding-corrupt");
	assert_true(gate_body(&gate, STR_LIT("x"), STR_LIT("identity"), &verdict));
}

/* Whether a response made of the pieces may pass to its end. */
static bool response(struct gate_stream *s, const char *coding, const char *a, const char *b)
{
	struct gate_verdict v = verdict;
	bool may = gate_stream_open(&gate, s, SCAN_PLACE_RESPONSE, str_of(coding), &v) &&
		   gate_stream_feed(s, str_of(a), false, &v) &&
		   gate_stream_feed(s, str_of(b), true, &v);

	gate_stream_close(s);
	if (!may)
		verdict = v;
	return may;
}

static void test_responses(void **state)
{
	struct gate_stream s;

	(void)state;
	assert_string_equal(OPEN("GET /v1/a", ""), "ok");
	assert_true(response(&s, "", "hello", "world"));
	assert_false(s.has_note);
	/* Credentials in a README are noted, not stopped; the bottle's own are stopped. */
	assert_true(response(&s, "", "RU", "LE! and CANARY!"));
	assert_true(s.has_note);
	assert_true(response(&s, "", "HOME9!", "LIMIT!"));
	assert_true(response(&s, "gzip", "SVM", "F\""));
	assert_string_equal(s.note_rule, "test-rule");
	assert_true(response(&s, "broken", "x", "y"));
	assert_false(response(&s, "", "xxSEC", "RET!"));
	assert_string_equal(verdict.reason, "secret-in-response");
	/* Also behind more findings than are kept. */
	assert_false(response(&s, "", "RULE!RULE!RULE!RULE!RULE!RULE!RULE!RULE!RULE!SECRET!", "y"));
	assert_false(response(&s, "", "CANARY! SECRET!", "y"));
	assert_string_equal(verdict.reason, "secret-in-response");
	assert_false(response(&s, "exotic", "x", "y"));
	assert_string_equal(verdict.reason, "response-coding-unsupported");
	/* Where a credential was sent, any doubt stops. */
	assert_string_equal(API("GET /", ""), "ok");
	assert_false(response(&s, "", "LIMIT!", ""));
	assert_string_equal(API("GET /", ""), "ok");
	assert_false(response(&s, "broken", "x", ""));
	assert_string_equal(verdict.reason, "response-coding-corrupt");
}

/* Many small pieces may wear a stream's budget out; a slow text may not. */
static void test_worn_stream(void **state)
{
	struct gate_stream s;

	(void)state;
	assert_string_equal(API("GET /", ""), "ok");
	assert_true(gate_stream_open(&gate, &s, SCAN_PLACE_RESPONSE, STR_NULL, &verdict));
	for (int i = 0; i < GATE_RENEW_PIECES; i++)
		assert_true(gate_stream_feed(&s, STR_LIT("0123456789"), false, &verdict));
	/* A text that is slow is so in a new stream too. */
	assert_false(gate_stream_feed(&s, STR_LIT("LIMIT!"), false, &verdict));
	assert_string_equal(verdict.reason, "scan-limit");
	gate_stream_close(&s);
	assert_string_equal(API("GET /", ""), "ok");
	assert_true(gate_stream_open(&gate, &s, SCAN_PLACE_RESPONSE, STR_NULL, &verdict));
	fake_worn_after = GATE_RENEW_PIECES + 5;
	for (int i = 0; i < 500; i++)
		assert_true(gate_stream_feed(&s, STR_LIT("0123456789"), false, &verdict));
	gate_stream_close(&s);
	assert_true(gate_stream_open(&gate, &s, SCAN_PLACE_RESPONSE, STR_NULL, &verdict));
	fake_worn_after = 5;
	for (int i = 0; i < 4; i++)
		assert_true(gate_stream_feed(&s, STR_LIT("0123456789"), false, &verdict));
	assert_false(gate_stream_feed(&s, STR_LIT("0123456789"), false, &verdict));
	gate_stream_close(&s);
	fake_worn_after = 0;
}

static void test_body_stream(void **state)
{
	struct gate_stream s;

	(void)state;
	assert_string_equal(OPEN("POST /v1/a", ""), "ok");
	assert_true(gate_stream_open(&gate, &s, SCAN_PLACE_BODY, STR_NULL, &verdict));
	assert_true(gate_stream_feed(&s, STR_LIT("aaa RU"), false, &verdict));
	assert_false(gate_stream_feed(&s, STR_LIT("LE! bbb"), false, &verdict));
	assert_string_equal(verdict.reason, "secret-in-body");
	/* Blocked for good. */
	assert_false(gate_stream_feed(&s, STR_LIT("ccc"), true, &verdict));
	gate_stream_close(&s);
}

/* The same head is not scanned twice; one byte, place or route more makes it another. */
static void test_known(void **state)
{
	unsigned first;

	(void)state;
	known_init(&gate.known);
	/* Not a random key: with one in a hundred of them two of these texts share a slot, and the
	 * later one puts the earlier one out. */
	memset(gate.known.key, 7, sizeof(gate.known.key));
	fake_texts = 0;
	assert_string_equal(API("GET /a?b", "X: 1\r\nAuthorization: HOME7!\r\n"), "ok");
	first = fake_texts;
	assert_int_equal(first, 3);
	assert_string_equal(API("GET /a?b", "X: 1\r\nAuthorization: HOME7!\r\n"), "ok");
	assert_int_equal(fake_texts, first);
	assert_string_equal(API("GET /a?b", "X: 2\r\nAuthorization: HOME7!\r\n"), "ok");
	assert_int_equal(fake_texts, first + 1);
	assert_string_equal(API("GET /b?/a", "X: 2\r\nAuthorization: HOME7!\r\n"), "ok");
	assert_int_equal(fake_texts, first + 3);
	/* At home on one route is not at home on another. */
	assert_string_equal(OPEN("GET /v1/a", "X: 1\r\nAuthorization: HOME7!\r\n"),
			    "placeholder-misplaced");
	for (int i = 0; i < 2; i++)
		assert_string_equal(API("GET /a?RULE!", ""), "secret-in-query");
	/* A masked text is not remembered as clean. */
	for (int i = 0; i < 2; i++) {
		assert_string_equal(
			judge("mask.example.com", HEAD("mask.example.com", "POST /a?b=RULE!", "")),
			"secret-in-query");
		assert_int_equal(verdict.verdict, RECORD_REDACT);
	}
}

static void test_known_names(void **state)
{
	/* The reference vector of SipHash-2-4 for eight bytes: key 00..0f, text 00..07. */
	struct known k;
	uint64_t salt = UINT64_C(0x0706050403020100), vector = UINT64_C(0x93f5f5799a932462);
	char text[17] = "0123456789abcdef";

	(void)state;
	memcpy(k.key, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f", 16);
	assert_int_equal(known_name(&k, salt, STR_NULL), vector);
	for (size_t n = 1; n < 16; n++) {
		uint64_t name = known_name(&k, 1, str_slice(text, n));

		assert_true(name != known_name(&k, 2, str_slice(text, n)));
		assert_true(name != known_name(&k, 1, str_slice(text, n - 1)));
		text[n - 1] ^= 1;
		assert_true(name != known_name(&k, 1, str_slice(text, n)));
		text[n - 1] ^= 1;
	}
}

static void test_names(void **state)
{
	(void)state;
	for (int i = 0; i < GATE_REASON_COUNT; i++)
		assert_true(strlen(gate_reason_name((enum gate_reason)i)) > 1);
	assert_string_equal(gate_reason_name(GATE_REASON_COUNT), "unknown");
	assert_true(gate_may_show(&gate, SCAN_PLACE_PATH, STR_LIT("/plain")));
	assert_false(gate_may_show(&gate, SCAN_PLACE_PATH, STR_LIT("/rule!")));
	assert_false(gate_may_show(&gate, SCAN_PLACE_PATH, STR_LIT("/ERROR!")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_policy_first),
		cmocka_unit_test(test_git_push),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_placeholders),
		cmocka_unit_test(test_placeholder_shape),
		cmocka_unit_test(test_wildcard_host),
		cmocka_unit_test(test_plain_http),
		cmocka_unit_test(test_redact),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_not_held),
		cmocka_unit_test(test_coded_body),
		cmocka_unit_test(test_responses),
		cmocka_unit_test(test_body_stream),
		cmocka_unit_test(test_worn_stream),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_known_names),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
