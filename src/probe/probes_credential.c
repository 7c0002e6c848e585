/*
 * C: the credential. Inside, the agent has a placeholder; the value itself comes here masked, so
 * that looking for it does not plant it. In the control the value lies open in the environment, a
 * file and memory, and each search must find it.
 */
#include "probe/probe.h"

#include "probe/search.h"

#include "base/clean.h"
#include "base/mem.h"

/* The value in the forms in which it could lie around, masked while it is not compared. */
struct needle {
	char masked[4096];
	size_t n;
};

static struct needle needles[3];
static size_t n_needles;

static void needle_add(const char *text, size_t n)
{
	struct needle *out = &needles[n_needles++];

	for (size_t i = 0; i < n; i++)
		out->masked[i] = text[i] ^ 0x55;
	out->n = n;
}

/* Plain, base64 (the part that does not depend on what stands around it), hex. */
static bool needles_make(const struct probe_env *env)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char value[1024], coded[2048];
	size_t n, at = 0;

	n_needles = 0;
	if (!probe_secret(env, value, sizeof(value)))
		return false;
	n = strlen(value);
	needle_add(value, n);
	for (size_t i = 0; i + 3 <= n; i += 3) {
		unsigned v = (unsigned)value[i] << 16 | (unsigned)value[i + 1] << 8 |
			     (unsigned)value[i + 2];

		for (int shift = 18; shift >= 0; shift -= 6)
			coded[at++] = digits[v >> shift & 63];
	}
	needle_add(coded, at);
	for (size_t i = 0; i < n; i++)
		(void)snprintf(coded + 2 * i, 3, "%02x", (unsigned char)value[i]);
	needle_add(coded, 2 * n);
	mem_wipe(value, sizeof(value));
	mem_wipe(coded, sizeof(coded));
	return true;
}

static bool needle_in(const char *p, size_t n, const void *ctx)
{
	(void)ctx;
	for (size_t k = 0; k < n_needles; k++) {
		const struct needle *needle = &needles[k];
		char first = (char)(needle->masked[0] ^ 0x55);
		const char *at = p, *end = p + n;

		while ((at = memchr(at, first, (size_t)(end - at))) != NULL) {
			size_t i = 0;

			if ((size_t)(end - at) < needle->n)
				break;
			while (i < needle->n && at[i] == (needle->masked[i] ^ 0x55))
				i++;
			if (i == needle->n)
				return true;
			at++;
		}
	}
	return false;
}

static void run_c01(const struct probe_env *env, const char *id)
{
	struct search s = {.has = needle_in};

	if (!needles_make(env))
		probe_skip(id, "search", "no credential to look for");
	else
		search_all(env, id, &s);
}

static void run_c02(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *header =
		mem_printf("GET /%%T HTTP/1.1\r\nHost: ok.selftest.example\r\n"
			   "Authorization: Bearer %s\r\n\r\n",
			   env->placeholder);
	_cleanup_free_ char *query = mem_printf(
		"GET /%%T?key=%s HTTP/1.1\r\nHost: ok.selftest.example\r\n\r\n", env->placeholder);
	_cleanup_free_ char *path =
		mem_printf("GET /other/%%T HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			   "Authorization: Bearer %s\r\n\r\n",
			   env->placeholder);

	probe_try_tunnel(env, id, "header-to-other-host", "ok.selftest.example:443",
			 "ok.selftest.example", header);
	probe_try_tunnel(env, id, "query-to-other-host", "ok.selftest.example:443",
			 "ok.selftest.example", query);
	probe_try_tunnel(env, id, "other-path", "bound.selftest.example:443",
			 "bound.selftest.example", path);
}

static void run_c03(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *request =
		mem_printf("GET /api/%%T HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			   "Authorization: Bearer %s\r\n\r\n",
			   env->placeholder);

	probe_try_tunnel(env, id, "tls-to-ok-host-of-bound", "ok.selftest.example:443",
			 "ok.selftest.example", request);
}

/* The upstream says what it was sent; the agent must not learn the value from that. */
static void run_c04(const struct probe_env *env, const char *id)
{
	static struct probe_reply r;
	char token[PROBE_TOKEN_SIZE], value[1024];
	_cleanup_free_ char *format = NULL, *request = NULL;
	char detail[128];

	if (!probe_secret(env, value, sizeof(value)) || !needles_make(env)) {
		probe_skip(id, "echo", "no credential to look for");
		return;
	}
	probe_token(env, id, "echo", token);
	format = mem_printf("GET /api/echo/%%T HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			    "Authorization: Bearer %s\r\n\r\n",
			    env->is_control ? value : env->placeholder);
	request = probe_fill(format, token);
	mem_wipe(value, sizeof(value));
	probe_ask_tunnel(env, "bound.selftest.example:443", "bound.selftest.example",
			 str_of(request), &r);
	(void)snprintf(detail, sizeof(detail), "status %d %s", r.status, r.error);
	if (r.status != 200)
		/* Nothing was echoed, so nothing was shown: count that as a hole in the test. */
		probe_report(id, "echo", "", true, 0, detail);
	else
		probe_report(id, "echo", "", needle_in(r.text, r.n, NULL), 0, detail);
}

static void run_c05(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *plain =
		mem_printf("GET http://bound.selftest.example/api/%%T HTTP/1.1\r\n"
			   "Host: bound.selftest.example\r\n"
			   "Authorization: Bearer %s\r\n\r\n",
			   env->placeholder);
	_cleanup_free_ char *plain_port =
		mem_printf("GET http://bound.selftest.example:443/api/%%T HTTP/1.1\r\n"
			   "Host: bound.selftest.example:443\r\nAuthorization: Bearer %s\r\n\r\n",
			   env->placeholder);
	_cleanup_free_ char *upgrade =
		mem_printf("GET /api/%%T HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			   "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
			   "HTTP2-Settings: AAMAAABk\r\n"
			   "Authorization: Bearer %s\r\n\r\n",
			   env->placeholder);
	/* An attacker's own key at a bound host is a way to take data out with. */
	const char *own_key = "GET /api/%T HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			      "Authorization: Bearer attackers-own-key-0123456789\r\n\r\n";

	probe_try_proxy(env, id, "plain-http", plain);
	probe_try_proxy(env, id, "plain-http-443", plain_port);
	probe_try_tunnel(env, id, "h2c", "bound.selftest.example:443", "bound.selftest.example",
			 upgrade);
	probe_try_tunnel(env, id, "own-key", "bound.selftest.example:443", "bound.selftest.example",
			 own_key);
	probe_try_tunnel(env, id, "no-key", "bound.selftest.example:443", "bound.selftest.example",
			 "GET /api/%T HTTP/1.1\r\nHost: bound.selftest.example\r\n\r\n");
}

const struct probe probes_credential[] = {
	{"C01", run_c01}, {"C02", run_c02}, {"C03", run_c03}, {"C04", run_c04}, {"C05", run_c05},
};
const size_t n_probes_credential = ARRAY_LEN(probes_credential);
