/* The proxy's client: as hostile as need be, so it is none of the product's own. */
#include "probe/probe.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"

#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#define PROBE_CONNECT_MS 1000
#define PROBE_ANSWER_MS	 4000

static void probe_add_reply(struct probe_reply *r, const char *data, ssize_t n)
{
	size_t room = sizeof(r->text) - 1 - r->n;
	size_t take = n > 0 ? (size_t)n : 0;

	if (take > room)
		take = room;
	memcpy(r->text + r->n, data, take);
	r->n += take;
	r->text[r->n] = '\0';
}

static void probe_find_status(struct probe_reply *r)
{
	struct str text = str_slice(r->text, r->n);
	uint64_t status;

	if (str_starts(text, STR_LIT("HTTP/1.")) && text.n > 12 &&
	    str_to_u64(str_sub(text, 9, 12), 999, &status) == 0)
		r->status = (int)status;
}

/* True when the head and a body of Content-Length are there: no need to wait for a close. */
static bool probe_reply_is_whole(const struct probe_reply *r)
{
	const char *end = strstr(r->text, "\r\n\r\n");
	const char *length = strcasestr(r->text, "\r\ncontent-length:");

	return end && length && length < end &&
	       r->n >= (size_t)(end + 4 - r->text) + strtoul(length + 17, NULL, 10);
}

static int probe_proxy_fd(const struct probe_env *env, struct probe_reply *r)
{
	int fd = probe_connect(env->proxy_host, env->proxy, PROBE_CONNECT_MS);

	if (fd < 0)
		(void)snprintf(r->error, sizeof(r->error), "proxy: %s", strerror(-fd));
	return fd;
}

void probe_read_reply(int fd, struct probe_reply *r)
{
	char data[8192];

	while (!probe_reply_is_whole(r) && io_wait(fd, POLLIN, PROBE_ANSWER_MS) == 1) {
		ssize_t n = recv(fd, data, sizeof(data), 0);

		if (n <= 0)
			break;
		probe_add_reply(r, data, n);
	}
	probe_find_status(r);
}

void probe_ask_proxy(const struct probe_env *env, struct str request, struct probe_reply *r)
{
	_cleanup_close_ int fd = -1;

	memset(r, 0, sizeof(*r));
	fd = probe_proxy_fd(env, r);
	if (fd < 0)
		return;
	(void)send(fd, request.p, request.n, MSG_NOSIGNAL);
	probe_read_reply(fd, r);
}

static void probe_read_tls(SSL *ssl, struct probe_reply *r)
{
	char data[8192];

	r->n = 0;
	r->text[0] = '\0';
	r->status = 0;
	while (!probe_reply_is_whole(r)) {
		int n = SSL_read(ssl, data, sizeof(data));

		if (n <= 0)
			break;
		probe_add_reply(r, data, n);
	}
	probe_find_status(r);
}

void probe_ask_tunnel(const struct probe_env *env, const char *authority, const char *sni,
		      struct str request, struct probe_reply *r)
{
	struct timeval patience = {.tv_sec = PROBE_ANSWER_MS / 1000};
	_cleanup_close_ int fd = -1;
	char connect_text[1024];
	SSL_CTX *ctx;
	SSL *ssl;
	int n;

	memset(r, 0, sizeof(*r));
	fd = probe_proxy_fd(env, r);
	if (fd < 0)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	n = snprintf(connect_text, sizeof(connect_text),
		     "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", authority, authority,
		     env->connect_headers ? env->connect_headers : "");
	(void)send(fd, connect_text, (size_t)n, MSG_NOSIGNAL);
	/* The answer to CONNECT has no body when it is a 200. */
	n = (int)recv(fd, r->text, sizeof(r->text) - 1, 0);
	if (n <= 0) {
		(void)snprintf(r->error, sizeof(r->error), "no answer to CONNECT");
		return;
	}
	r->n = (size_t)n;
	r->text[n] = '\0';
	probe_find_status(r);
	if (r->status != 200) {
		(void)snprintf(r->error, sizeof(r->error), "CONNECT: status %d", r->status);
		return;
	}
	/* An attacker does not verify; whether verification works is asked elsewhere. */
	ctx = SSL_CTX_new(TLS_client_method());
	ssl = SSL_new(ctx);
	(void)SSL_set_fd(ssl, fd);
	if (sni)
		(void)SSL_set_tlsext_host_name(ssl, sni);
	if (SSL_connect(ssl) != 1) {
		(void)snprintf(r->error, sizeof(r->error), "TLS handshake refused");
	} else {
		(void)SSL_write(ssl, request.p, (int)request.n);
		probe_read_tls(ssl, r);
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
}

void probe_describe_reply(const struct probe_reply *r, char *out, size_t size)
{
	const char *reason = strstr(r->text, "\"reason\"");

	(void)snprintf(out, size, "status %d %.90s%s", r->status, reason ? reason : "", r->error);
}

static void probe_report_reply(const char *id, const char *label, const char *token,
			       const struct probe_reply *r, uint64_t us)
{
	char detail[220];

	probe_describe_reply(r, detail, sizeof(detail));
	probe_report(id, label, token, r->status / 100 <= 3 && strstr(r->text, "canary") != NULL,
		     us, detail);
}

void probe_try_proxy(const struct probe_env *env, const char *id, const char *label,
		     const char *request)
{
	static struct probe_reply r;
	char token[PROBE_TOKEN_SIZE];
	_cleanup_free_ char *text = NULL;
	uint64_t start_ns = time_monotonic_ns();

	probe_token(env, id, label, token);
	text = probe_fill(request, token);
	probe_ask_proxy(env, str_of(text), &r);
	probe_report_reply(id, label, token, &r, (time_monotonic_ns() - start_ns) / 1000);
}

/* Fills in the token and asks. */
static void probe_tunnel(const struct probe_env *env, const char *token, const char *authority,
			 const char *sni, const char *request, struct probe_reply *r)
{
	_cleanup_free_ char *text = probe_fill(request, token), *to = probe_fill(authority, token),
			    *name = sni ? probe_fill(sni, token) : NULL;

	probe_ask_tunnel(env, to, name, str_of(text), r);
}

void probe_try_tunnel(const struct probe_env *env, const char *id, const char *label,
		      const char *authority, const char *sni, const char *request)
{
	static struct probe_reply r;
	char token[PROBE_TOKEN_SIZE];
	uint64_t start_ns = time_monotonic_ns();

	probe_token(env, id, label, token);
	probe_tunnel(env, token, authority, sni, request, &r);
	probe_report_reply(id, label, token, &r, (time_monotonic_ns() - start_ns) / 1000);
}

void probe_want_tunnel(const struct probe_env *env, const char *id, const char *label,
		       const char *authority, const char *sni, const char *request)
{
	static struct probe_reply r;
	char token[PROBE_TOKEN_SIZE], detail[220];
	uint64_t start_ns = time_monotonic_ns();

	probe_token(env, id, label, token);
	probe_tunnel(env, token, authority, sni, request, &r);
	probe_describe_reply(&r, detail, sizeof(detail));
	probe_report_wanted(id, label, token, (time_monotonic_ns() - start_ns) / 1000, detail);
}
