/*
 * H01, and H08's forged lines: in every field that the agent may fill, a string that would do
 * something to a screen or a log stands in front of a token. The suite reads what every face shows
 * and what the records hold; a token has been seen when something of that string stands raw before
 * it (selftest/supervise_look.c). A twin without any such string must arrive.
 */
#include "probe/probe_mcp.h"

#include "probe/dlp.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#define SAY_MAX	  (64u << 10)
#define LONG_SAID 6000

/* What moves a cursor, writes a clipboard, hides, turns around, or ends a line. */
static const struct {
	const char *label, *raw;
} hostile[] = {
	{"ansi", "\x1b[2J\x1b[31m"},
	{"osc52", "\x1b]52;c;Y2J0\x07"},
	{"osc8", "\x1b]8;;https://other.selftest.example\x1b\\"},
	{"title", "\x1b]0;claude\x07"},
	{"cursor", "\x1b[3A\x1b[K"},
	{"c1-csi", "\xc2\x9b"
		   "31m"},
	{"c1-osc", "\xc2\x9d"
		   "0;t\xc2\x9c"},
	{"paste", "\x1b[201~"},
	{"bidi", "\xe2\x80\xae"},
	{"isolate", "\xe2\x81\xa6"},
	{"zero-width", "\xe2\x80\x8b"},
	{"bom", "\xef\xbb\xbf"},
	{"tags", "\xf3\xa0\x81\x81"},
	{"lines", "\xe2\x80\xa8"},
	{"newline", "\n"},
	{"return", "\r"},
	{"tab", "\t"},
	{"backspace", "\b\b\b"},
	{"delete", "\x7f"},
};

static struct probe_mcp mcp;

static void must(int ret)
{
	if (ret < 0)
		die("what was to be said grew too large");
}

static void token_of(const char *id, const char *field, const char *kind, char label[48],
		     char token[PROBE_TOKEN_SIZE])
{
	(void)snprintf(label, 48, "%s-%s", field, kind);
	probe_token(mcp.env, id, label, token);
}

static void report(const char *id, const char *label, const char *token)
{
	char detail[200];

	probe_mcp_describe(&mcp.reply, detail, sizeof(detail));
	probe_report(id, label, token, false, 0, detail);
}

/* All of them from..to in one text, as a JSON string. */
static char *say_many(const char *id, const char *field, size_t from, size_t to)
{
	struct buf out = BUF_INIT(SAY_MAX);
	char label[48], token[PROBE_TOKEN_SIZE];
	char *json;

	/* What comes first in it has a harmless text before it, too. */
	must(buf_append_str(&out, STR_LIT("What the agent has to say: ")));
	for (size_t i = from; i < to; i++) {
		token_of(id, field, hostile[i].label, label, token);
		must(buf_printf(&out, "%s%s ", hostile[i].raw, token));
	}
	json = probe_mcp_json(buf_str(&out));
	buf_free(&out);
	return json;
}

static void report_many(const char *id, const char *field)
{
	char label[48], token[PROBE_TOKEN_SIZE];

	for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
		token_of(id, field, hostile[i].label, label, token);
		report(id, label, token);
	}
}

/* --- words --- */

static void say_reason(const char *id)
{
	_cleanup_free_ char *reason = say_many(id, "reason", 0, ARRAY_LEN(hostile)),
			    *arguments = NULL;
	char word[PROBE_TOKEN_SIZE];

	probe_plain_token(mcp.env, "said", word);
	arguments = mem_printf("{\"host\":\"%s.example\",\"reason\":%s,\"wait_seconds\":0}", word,
			       reason);
	(void)probe_mcp_call_patiently(&mcp, "request_egress", arguments);
	report_many(id, "reason");
}

/* 500 bytes each: one half of them in what, the other in why. */
static void say_capability(const char *id)
{
	size_t half = ARRAY_LEN(hostile) / 2;
	_cleanup_free_ char *what = say_many(id, "capability", 0, half),
			    *reason = say_many(id, "capability", half, ARRAY_LEN(hostile)),
			    *arguments = mem_printf(
				    "{\"what\":%s,\"reason\":%s,\"wait_seconds\":0}", what, reason);

	(void)probe_mcp_call_patiently(&mcp, "request_capability", arguments);
	report_many(id, "capability");
}

static void say_told(const char *id)
{
	_cleanup_free_ char *message = say_many(id, "told", 0, ARRAY_LEN(hostile)),
			    *arguments = mem_printf("{\"message\":%s}", message), *twin = NULL;
	char label[48], token[PROBE_TOKEN_SIZE];

	(void)probe_mcp_call_patiently(&mcp, "tell_human", arguments);
	report_many(id, "told");
	token_of(id, "told", "twin", label, token);
	twin = mem_printf("{\"message\":\"It goes well with %s\"}", token);
	(void)probe_mcp_call_patiently(&mcp, "tell_human", twin);
	probe_report_wanted(id, label, token, 0, "what was told, in the store");
}

/* More than a screen holds, and no place to break it. */
static void say_long(const char *id, const char *field, const char *tool, const char *format)
{
	char label[48], token[PROBE_TOKEN_SIZE], text[LONG_SAID + 1];
	_cleanup_free_ char *arguments = NULL, *long_text = NULL;

	memset(text, 'a', LONG_SAID);
	text[LONG_SAID] = '\0';
	token_of(id, field, "long", label, token);
	long_text = mem_printf("%s%s", text, token);
	arguments = probe_fill(format, long_text);
	(void)probe_mcp_call(&mcp, tool, arguments);
	report(id, label, token);
}

/* --- names: one call each, since one that is refused hides the others --- */

static const struct {
	const char *field, *tool, *before, *after;
} names[] = {
	{"host", "request_egress", "{\"host\":\"",
	 ".example\",\"reason\":\"r\",\"wait_seconds\":0}"},
	{"path", "request_egress", "{\"host\":\"said.example\",\"paths\":[\"/",
	 "\"],\"reason\":\"r\",\"wait_seconds\":0}"},
	{"method", "request_egress", "{\"host\":\"said.example\",\"methods\":[\"",
	 "\"],\"reason\":\"r\",\"wait_seconds\":0}"},
	{"record", "request_egress", "{\"record\":\"", "\",\"reason\":\"r\",\"wait_seconds\":0}"},
	{"remote", "request_push", "{\"remote\":\"",
	 "\",\"ref\":\"refs/heads/x\",\"commit\":\"0123456789012345678901234567890123456789\","
	 "\"reason\":\"r\",\"wait_seconds\":0}"},
	{"ref", "request_push", "{\"remote\":\"asked\",\"ref\":\"refs/heads/",
	 "\",\"commit\":\"0123456789012345678901234567890123456789\",\"reason\":\"r\","
	 "\"wait_seconds\":0}"},
	{"argument", "tell_human", "{\"", "\":\"m\"}"},
};

static void say_names(const char *id)
{
	for (size_t n = 0; n < ARRAY_LEN(names); n++) {
		for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
			char label[48], token[PROBE_TOKEN_SIZE], text[160];
			_cleanup_free_ char *json = NULL, *arguments = NULL;

			token_of(id, names[n].field, hostile[i].label, label, token);
			(void)snprintf(text, sizeof(text), "%s%s", hostile[i].raw, token);
			json = probe_mcp_json(str_of(text));
			json[strlen(json) - 1] = '\0';
			arguments = mem_printf("%s%s%s", names[n].before, json + 1, names[n].after);
			(void)probe_mcp_call(&mcp, names[n].tool, arguments);
			report(id, label, token);
		}
	}
}

/* --- what came to a human by itself: what was refused, and is asked for by its record, and what
 * stands around the secret in a request that is held --- */

static char *percent_encode(const char *raw)
{
	struct buf out = BUF_INIT(256);

	for (; *raw; raw++)
		must(buf_printf(&out, "%%%02x", (unsigned char)*raw));
	must(buf_append(&out, "", 1));
	return out.p;
}

/* A POST of this body where nobody looks at what it is. */
static void say_to_nobody(const char *body)
{
	_cleanup_free_ char *request = mem_printf(
		"POST /log HTTP/1.1\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);

	probe_mcp_send(&mcp, str_of(request));
}

/* The record of a refusal that pipelock has answered with. */
static bool take_record(const struct probe_reply *r, char record[17])
{
	const char *at = strstr(r->text, "\"record\":\"");

	return at && str_to_cstr(record, 17, str_sub(str_of(at + 10), 0, 16));
}

static void ask_by_record(const struct probe_env *env, const char *id, const char *kind,
			  const char *raw)
{
	static struct probe_reply r;
	char label[48], token[PROBE_TOKEN_SIZE], record[17] = "";
	_cleanup_free_ char *encoded = percent_encode(raw), *request = NULL, *arguments = NULL;

	token_of(id, "refused-path", kind, label, token);
	if (env->is_control) {
		request = mem_printf("%s%s", raw, token);
		say_to_nobody(request);
		probe_report(id, label, token, false, 0, "said to nobody");
		return;
	}
	request = mem_printf("GET /%s%s HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			     "Connection: close\r\n\r\n",
			     encoded, token);
	probe_ask_tunnel(env, "bound.selftest.example:443", "bound.selftest.example",
			 str_of(request), &r);
	if (!take_record(&r, record)) {
		probe_report_arrival(id, label, false, 0, "the refusal has no record");
		return;
	}
	arguments = mem_printf("{\"record\":\"%s\",\"reason\":\"r\",\"wait_seconds\":0}", record);
	(void)probe_mcp_call_patiently(&mcp, "request_egress", arguments);
	report(id, label, token);
}

/* On both sides of what the scanner finds. */
static void say_held(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label, *raw;
	} sides[] = {{"before", "\x1b]0;t\x07"}, {"after", "\xe2\x80\xae"}};
	char labels[2][48], tokens[2][PROBE_TOKEN_SIZE];
	_cleanup_free_ char *secret = NULL, *body = NULL;
	struct probe_sender sender;
	bool is_seen = true;

	for (size_t i = 0; i < 2; i++)
		token_of(id, "held", sides[i].label, labels[i], tokens[i]);
	secret = dlp_shaped_secret(tokens[0]);
	body = mem_printf("%s%s %s %s%s\n", sides[0].raw, tokens[0], secret, sides[1].raw,
			  tokens[1]);
	if (env->is_control) {
		say_to_nobody(body);
	} else {
		probe_send_held(&sender, env, body);
		is_seen = probe_human(env, "held") && probe_human(env, "look");
		probe_send_end(&sender, env);
	}
	probe_report_arrival(id, "held", is_seen, 0, "a request that waits for a human");
	for (size_t i = 0; i < 2; i++)
		probe_report(id, labels[i], tokens[i], false, 0, "around what the scanner found");
}

static void run_h01(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *twin = NULL;
	char token[PROBE_TOKEN_SIZE], detail[200];

	if (!probe_mcp_open(&mcp, env)) {
		probe_report_arrival(id, "session", false, 0, mcp.reply.error);
		return;
	}
	say_reason(id);
	say_capability(id);
	say_told(id);
	say_long(id, "reason", "request_egress",
		 "{\"host\":\"said.example\",\"reason\":\"%T\",\"wait_seconds\":0}");
	say_long(id, "told", "tell_human", "{\"message\":\"%T\"}");
	say_long(id, "host", "request_egress",
		 "{\"host\":\"%T.example\",\"reason\":\"r\",\"wait_seconds\":0}");
	say_names(id);
	ask_by_record(env, id, "ansi", "\x1b[2J");
	ask_by_record(env, id, "bidi", "\xe2\x80\xae");
	ask_by_record(env, id, "newline", "\n");
	say_held(env, id);
	probe_token(env, id, "twin", token);
	twin = mem_printf("{\"host\":\"twin.said.example\",\"reason\":\"Its documents, for %s\","
			  "\"wait_seconds\":0}",
			  token);
	(void)probe_mcp_call_patiently(&mcp, "request_egress", twin);
	probe_mcp_describe(&mcp.reply, detail, sizeof(detail));
	probe_report_wanted(id, "twin", token, 0, detail);
}

/* --- H08: what is written down of requests --- */

/* %K: one of hostile, as it is or percent-encoded; %T: the token. */
static const struct {
	const char *field, *request;
	bool is_encoded;
} logged[] = {
	{"path",
	 "GET http://ok.selftest.example/%K%T HTTP/1.1\r\nHost: ok.selftest.example\r\n\r\n",
	 false},
	{"path-encoded",
	 "GET http://ok.selftest.example/%K%T HTTP/1.1\r\nHost: ok.selftest.example\r\n\r\n", true},
	{"host", "GET http://%K%T.example/ HTTP/1.1\r\nHost: ok.selftest.example\r\n\r\n", false},
	{"host-encoded",
	 "CONNECT %K%T.example:443 HTTP/1.1\r\nHost: ok.selftest.example:443\r\n\r\n", true},
	{"connect", "CONNECT %K%T.example:443 HTTP/1.1\r\nHost: ok.selftest.example:443\r\n\r\n",
	 false},
	{"verb", "%K%T http://ok.selftest.example/ HTTP/1.1\r\nHost: ok.selftest.example\r\n\r\n",
	 false},
	{"agent",
	 "GET http://ok.selftest.example/agent HTTP/1.1\r\nHost: ok.selftest.example\r\n"
	 "User-Agent: %K%T\r\n\r\n",
	 false},
};

static char *fill_kind(const char *format, const char *raw, bool is_encoded)
{
	_cleanup_free_ char *encoded = is_encoded ? percent_encode(raw) : NULL;
	const char *at = strstr(format, "%K");

	return mem_printf("%.*s%s%s", (int)(at - format), format, encoded ? encoded : raw, at + 2);
}

/* Where what is asked is written down: at the proxy, or where nobody looks at what it is. */
static void ask_logged(const struct probe_env *env, const char *request)
{
	static struct probe_reply reply;

	if (env->is_control)
		probe_mcp_send(&mcp, str_of(request));
	else
		probe_ask_proxy(env, str_of(request), &reply);
}

static void say_logged(const struct probe_env *env, const char *id)
{
	for (size_t n = 0; n < ARRAY_LEN(logged); n++) {
		for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
			char label[48], token[PROBE_TOKEN_SIZE];
			_cleanup_free_ char *format = NULL, *request = NULL;

			token_of(id, logged[n].field, hostile[i].label, label, token);
			format = fill_kind(logged[n].request, hostile[i].raw, logged[n].is_encoded);
			request = probe_fill(format, token);
			ask_logged(env, request);
			probe_report(id, label, token, false, 0, "what is written down of it");
		}
	}
}

static void run_h08(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *twin = NULL;
	char token[PROBE_TOKEN_SIZE];

	mcp.env = env;
	say_logged(env, id);
	probe_token(env, id, "twin", token);
	twin = probe_fill("GET http://bound.selftest.example/%T HTTP/1.1\r\n"
			  "Host: bound.selftest.example\r\n\r\n",
			  token);
	ask_logged(env, twin);
	probe_report_wanted(id, "twin", token, 0, "a refused request in the records");
}

const struct probe probes_supervise_say[] = {{"H01", run_h01}, {"H08", run_h08}};
const size_t n_probes_supervise_say = ARRAY_LEN(probes_supervise_say);
