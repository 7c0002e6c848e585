#include "probe/probe.h"

#include "probe/only.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>

#define PROBE_CONNECT_MS 1000
#define PROBE_ANSWER_MS	 4000

static const struct {
	const struct probe *probes;
	const size_t *n;
} groups[] = {
	{probes_network, &n_probes_network},
	{probes_proxy, &n_probes_proxy},
	{probes_credential, &n_probes_credential},
	{probes_kernel, &n_probes_kernel},
};

/* --- reporting --- */

void probe_token(const struct probe_env *env, const char *id, const char *label,
		 char out[PROBE_TOKEN_SIZE])
{
	unsigned char digest[32];
	char text[512];
	unsigned n;

	(void)snprintf(text, sizeof(text), "%s|%s|%s|%s|%s", env->nonce,
		       env->is_control ? "c" : "a", env->uid, id, label);
	if (EVP_Digest(text, strlen(text), digest, &n, EVP_sha256(), NULL) != 1)
		die("SHA-256");
	memcpy(out, "cbt", 3);
	text_hex(out + 3, digest, 12);
}

void probe_report(const char *id, const char *label, const char *token, bool is_through,
		  uint64_t us, const char *detail)
{
	char visible[200];

	text_visible_cstr(visible, sizeof(visible), str_of(detail));
	(void)printf("%s\t%s\t%s\t%s\t%llu\t%s\n", id, label, token,
		     is_through ? "through" : "stopped", (unsigned long long)us, visible);
	(void)fflush(stdout);
}

void probe_skip(const char *id, const char *label, const char *why)
{
	(void)printf("%s\t%s\t\tskipped\t0\t%s\n", id, label, why);
	(void)fflush(stdout);
}

char *probe_fill(const char *format, const char *token)
{
	char *out = mem_strdup("");

	for (;;) {
		const char *at = strstr(format, "%T");
		size_t n = at ? (size_t)(at - format) : strlen(format);
		char *next = mem_printf("%s%.*s%s", out, (int)n, format, at ? token : "");

		free(out);
		out = next;
		if (!at)
			return out;
		format = at + 2;
	}
}

bool probe_secret(const struct probe_env *env, char *out, size_t size)
{
	size_t n = env->secret_mask ? strlen(env->secret_mask) / 2 : 0;

	if (n == 0 || n >= size || !text_unhex(out, n, str_of(env->secret_mask)))
		return false;
	for (size_t i = 0; i < n; i++)
		out[i] ^= 0x55;
	out[n] = '\0';
	return true;
}

static bool probe_write_file(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && io_write_all(fd, text, strlen(text)) == 0;
}

bool probe_become_root(int flags)
{
	char uid_map[32], gid_map[32];

	(void)snprintf(uid_map, sizeof(uid_map), "0 %u 1", (unsigned)geteuid());
	(void)snprintf(gid_map, sizeof(gid_map), "0 %u 1", (unsigned)getegid());
	return unshare(CLONE_NEWUSER | flags) == 0 &&
	       probe_write_file("/proc/self/uid_map", uid_map) &&
	       probe_write_file("/proc/self/setgroups", "deny") &&
	       probe_write_file("/proc/self/gid_map", gid_map);
}

/* --- plain sockets --- */

static socklen_t probe_address(struct sockaddr_storage *out, const char *address, uint16_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return sizeof(*v6);
	}
	return 0;
}

int probe_connect(const char *address, uint16_t port, int timeout_ms)
{
	struct sockaddr_storage sa;
	socklen_t n = probe_address(&sa, address, port), error_n = sizeof(int);
	_cleanup_close_ int fd = -1;
	int error = 0, ret;

	if (n == 0)
		return -EINVAL;
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, n) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		ret = io_wait(fd, POLLOUT, timeout_ms);
		if (ret <= 0)
			return ret < 0 ? ret : -ETIMEDOUT;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_n) < 0 || error)
			return error ? -error : -EIO;
	}
	ret = io_set_nonblock(fd, false);
	return ret < 0 ? ret : take_fd(&fd);
}

void probe_try_tcp(const struct probe_env *env, const char *id, const char *label,
		   const char *address, uint16_t port)
{
	char token[PROBE_TOKEN_SIZE], detail[128];
	uint64_t start_ns = time_monotonic_ns();
	_cleanup_close_ int fd = probe_connect(address, port, PROBE_CONNECT_MS);
	uint64_t us = (time_monotonic_ns() - start_ns) / 1000;

	probe_token(env, id, label, token);
	(void)snprintf(detail, sizeof(detail), "%s port %u: %s", address, port,
		       fd >= 0 ? "connected" : strerror(-fd));
	if (fd >= 0) {
		char byte;

		(void)send(fd, token, strlen(token), MSG_NOSIGNAL);
		(void)shutdown(fd, SHUT_WR);
		/* Until the other side has read it. */
		if (io_wait(fd, POLLIN, PROBE_CONNECT_MS) == 1)
			(void)!read(fd, &byte, 1);
	}
	probe_report(id, label, token, fd >= 0, us, detail);
}

void probe_try_udp(const struct probe_env *env, const char *id, const char *label,
		   const char *address, uint16_t port)
{
	char token[PROBE_TOKEN_SIZE], detail[128], answer[64];
	struct sockaddr_storage sa;
	socklen_t n = probe_address(&sa, address, port);
	_cleanup_close_ int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t start_ns = time_monotonic_ns(), us;
	bool is_through = false;
	int error = 0;

	probe_token(env, id, label, token);
	if (fd < 0 || sendto(fd, token, strlen(token), 0, (struct sockaddr *)&sa, n) < 0)
		error = errno;
	us = (time_monotonic_ns() - start_ns) / 1000;
	if (!error && io_wait(fd, POLLIN, 200) == 1)
		is_through = recv(fd, answer, sizeof(answer), 0) > 0;
	(void)snprintf(detail, sizeof(detail), "%s port %u: %s", address, port,
		       error	    ? strerror(error)
		       : is_through ? "answered"
				    : "sent, no answer");
	probe_report(id, label, token, is_through, us, detail);
}

/* --- through the proxy --- */

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

static void probe_read_reply(int fd, struct probe_reply *r)
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
	n = snprintf(connect_text, sizeof(connect_text), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n",
		     authority, authority);
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

static void probe_report_reply(const char *id, const char *label, const char *token,
			       const struct probe_reply *r, uint64_t us)
{
	char detail[160];
	const char *reason = strstr(r->text, "\"reason\"");

	(void)snprintf(detail, sizeof(detail), "status %d %.90s%s", r->status, reason ? reason : "",
		       r->error);
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

void probe_try_tunnel(const struct probe_env *env, const char *id, const char *label,
		      const char *authority, const char *sni, const char *request)
{
	static struct probe_reply r;
	char token[PROBE_TOKEN_SIZE];
	_cleanup_free_ char *text = NULL, *to = NULL, *name = NULL;
	uint64_t start_ns = time_monotonic_ns();

	probe_token(env, id, label, token);
	text = probe_fill(request, token);
	to = probe_fill(authority, token);
	name = sni ? probe_fill(sni, token) : NULL;
	probe_ask_tunnel(env, to, name, str_of(text), &r);
	probe_report_reply(id, label, token, &r, (time_monotonic_ns() - start_ns) / 1000);
}

/* --- the command --- */

static void probe_take_argument(struct probe_env *env, const char *argument)
{
	const struct {
		const char *key;
		const char **text;
		uint16_t *number;
	} keys[] = {
		{"nonce", &env->nonce, NULL},
		{"uid", &env->uid, NULL},
		{"only", &env->only, NULL},
		{"proxy_host", &env->proxy_host, NULL},
		{"proxy", NULL, &env->proxy},
		{"ca", &env->ca, NULL},
		{"tls", NULL, &env->tls},
		{"plain", NULL, &env->plain},
		{"any", NULL, &env->any},
		{"loop", NULL, &env->loop},
		{"dns", NULL, &env->dns},
		{"host", &env->host, NULL},
		{"pinned", &env->pinned, NULL},
		{"abstract", &env->abstract, NULL},
		{"path", &env->path, NULL},
		{"secret_mask", &env->secret_mask, NULL},
		{"placeholder", &env->placeholder, NULL},
		{"canary_secret", &env->canary_secret, NULL},
	};
	struct str key, value;
	bool found;

	value = str_cut(str_of(argument), '=', &key, &found);
	if (str_eq(key, STR_LIT("mode"))) {
		env->is_control = str_eq(value, STR_LIT("control"));
		return;
	}
	for (size_t i = 0; found && i < ARRAY_LEN(keys); i++) {
		uint64_t number;

		if (!str_eq(key, str_of(keys[i].key)))
			continue;
		if (keys[i].text)
			*keys[i].text = value.p;
		else if (str_to_u64(value, 65535, &number) == 0)
			*keys[i].number = (uint16_t)number;
		return;
	}
	die("probe: unknown argument \"%s\"", argument);
}

/* In a bottle the agent's own environment says where the proxy is and what it holds. */
static void probe_take_environment(struct probe_env *env)
{
	struct str proxy = str_of(getenv("HTTPS_PROXY")), host;
	bool found;
	uint64_t port;

	if (str_starts(proxy, STR_LIT("http://")))
		proxy = str_sub(proxy, 7, proxy.n);
	proxy = str_cut(proxy, ':', &host, &found);
	if (found && str_ends(proxy, STR_LIT("/")))
		proxy.n--;
	if (found && str_to_u64(proxy, 65535, &port) == 0) {
		env->proxy_host = env->pinned = str_dup(host);
		env->proxy = (uint16_t)port;
	}
	env->placeholder = getenv("SELFTEST_TOKEN");
	env->canary_secret = getenv("DEPLOY_TOKEN_BACKUP");
}

int probe_main(int argc, char **argv)
{
	struct probe_env env = {.nonce = "0", .uid = "agent", .proxy_host = "127.0.0.1"};

	log_set_role("probe");
	(void)signal(SIGPIPE, SIG_IGN);
	probe_take_environment(&env);
	for (int i = 0; i < argc; i++)
		probe_take_argument(&env, argv[i]);
	for (size_t g = 0; g < ARRAY_LEN(groups); g++) {
		for (size_t i = 0; i < *groups[g].n; i++) {
			const struct probe *p = &groups[g].probes[i];

			if (probe_is_wanted(env.only, p->id))
				p->run(&env, p->id);
		}
	}
	(void)printf("end\n");
	return 0;
}
