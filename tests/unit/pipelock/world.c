#include "world.h"

#include "base/clean.h"
#include "base/io.h"
#include "bundle/bundle.h"
#include "bundle/news.h"
#include "keyd/ca.h"
#include "keyd/keyd_proto.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* --- keyd --- */

static void keyd_answer(struct world *w, const struct keyd_request *q, struct keyd_reply *r)
{
	struct err e = ERR_INIT;
	int n = 0;

	*r = (struct keyd_reply){.id = q->id};
	if (q->op == KEYD_OP_CA)
		n = ca_certificate(w->ca, r->data, sizeof(r->data));
	else if (q->op == KEYD_OP_LEAF_KEY)
		n = ca_set_leaf_key(w->ca, str_slice(q->data, q->data_n), &e);
	else if (q->op == KEYD_OP_MINT)
		n = ca_mint(w->ca, q->host, r->data, sizeof(r->data), &e);
	else
		n = -EINVAL;
	r->status = n < 0 ? KEYD_FAILED : KEYD_OK;
	r->data_n = n < 0 ? 0 : (uint32_t)n;
}

static void *keyd_thread(void *arg)
{
	struct world *w = arg;
	struct keyd_request q;
	struct keyd_reply r;

	while (recv(w->keyd_fd, &q, sizeof(q), 0) == (ssize_t)sizeof(q)) {
		keyd_answer(w, &q, &r);
		(void)send(w->keyd_fd, &r, offsetof(struct keyd_reply, data) + r.data_n, 0);
	}
	return NULL;
}

/* --- egress --- */

struct egress_conn {
	struct world *w;
	int fd;
};

static bool egress_say(int fd, const char *text)
{
	return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

static void egress_big(int fd)
{
	static char block[65536];

	memset(block, 'x', sizeof(block));
	(void)egress_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n");
	for (int i = 0; i < 16; i++)
		(void)!send(fd, block, sizeof(block), MSG_NOSIGNAL);
}

/* Three events, each sent only after the client has seen the one before. */
static void egress_sse(struct world *w, int fd)
{
	(void)egress_say(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
			     "Transfer-Encoding: chunked\r\n\r\n");
	for (int i = 0; i < 3; i++) {
		(void)egress_say(fd, "f\r\ndata: event\r\n\r\n"
				     "\r\n");
		(void)sem_wait(&w->go);
	}
	(void)egress_say(fd, "0\r\n\r\n");
}

static void egress_reply(int fd, const char *fields, const char *body)
{
	char text[4096];

	(void)snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n%s\r\n%s",
		       strlen(body), fields, body);
	(void)egress_say(fd, text);
}

static void egress_answer(struct world *w, int fd, const char *raw)
{
	if (strstr(raw, "/v1/sse"))
		egress_sse(w, fd);
	else if (strstr(raw, "/v1/big"))
		egress_big(fd);
	else if (strstr(raw, "/v1/leak-header"))
		egress_reply(fd, "X-Echo: " WORLD_SECRET "\r\n", "hello");
	else if (strstr(raw, "/v1/leak"))
		egress_reply(fd, "", "you sent " WORLD_SECRET);
	else if (strstr(raw, "/v1/readme"))
		egress_reply(fd, "", "for example " WORLD_SHAPE " and " WORLD_INJECTION);
	else if (strstr(raw, "/v1/close"))
		egress_reply(fd, "Connection: close\r\n", "bye");
	else if (strstr(raw, "/v1/drop"))
		return;
	else if (strstr(raw, "/v1/exotic"))
		egress_reply(fd, "Content-Encoding: exotic\r\n", "xyz");
	else
		egress_reply(fd, "Alt-Svc: h3=\":443\"\r\n", "hello");
}

/* Reads one request: head, and a body by length or in chunks, kept as sent. *whole: all of it. */
static size_t egress_read(int fd, char *raw, size_t size, bool *whole)
{
	size_t n = 0, body = 0, want = 0;
	bool is_chunked = false;

	for (;;) {
		ssize_t r;
		char *end;

		raw[n] = '\0';
		*whole = false;
		end = body ? NULL : strstr(raw, "\r\n\r\n");
		if (end) {
			const char *length = strstr(raw, "Content-Length: ");

			body = (size_t)(end - raw) + 4;
			is_chunked = strstr(raw, "Transfer-Encoding: chunked") != NULL;
			want = length ? strtoul(length + 16, NULL, 10) : 0;
		}
		*whole = body && (is_chunked ? n >= 5 && memcmp(raw + n - 5, "0\r\n\r\n", 5) == 0
					     : n >= body + want);
		if (*whole || n + 1 >= size)
			return n;
		r = recv(fd, raw + n, size - n - 1, 0);
		if (r <= 0)
			return n;
		n += (size_t)r;
	}
}

static void *egress_conn_thread(void *arg)
{
	struct egress_conn *c = arg;
	struct world *w = c->w;
	size_t size = sizeof(w->last);
	char *raw = malloc(size);

	for (bool whole = true; whole;) {
		size_t n = egress_read(c->fd, raw, size, &whole);

		if (n == 0)
			break;
		(void)pthread_mutex_lock(&w->lock);
		w->requests += whole;
		memcpy(w->last, raw, n + 1);
		w->last_n = n;
		(void)pthread_mutex_unlock(&w->lock);
		if (whole)
			egress_answer(w, c->fd, raw);
		whole = whole && !strstr(raw, "/v1/close") && !strstr(raw, "/v1/drop");
	}
	(void)close(c->fd);
	free(raw);
	free(c);
	return NULL;
}

static void *egress_thread(void *arg)
{
	struct world *w = arg;

	for (;;) {
		struct egress_conn *c;
		pthread_t t;
		char byte;
		int fd;
		size_t n_fds = 1;

		if (io_recv_fds(w->egress_fd, &byte, 1, &fd, &n_fds, 0) <= 0 || n_fds != 1)
			return NULL;
		(void)io_set_nonblock(fd, false);
		c = malloc(sizeof(*c));
		*c = (struct egress_conn){w, fd};
		(void)pthread_mutex_lock(&w->lock);
		w->connections++;
		(void)pthread_mutex_unlock(&w->lock);
		(void)pthread_create(&t, NULL, egress_conn_thread, c);
		(void)pthread_detach(t);
	}
}

/* --- pipelock --- */

static void on_stop(struct loop_watch *watch, uint32_t events)
{
	struct world *w = (struct world *)((char *)watch - offsetof(struct world, stop_watch));

	(void)events;
	loop_stop(w->parts.loop, 0);
}

static void *pipelock_thread(void *arg)
{
	struct world *w = arg;

	(void)loop_run(w->parts.loop);
	pipelock_stop(&w->pipelock);
	return NULL;
}

static void world_sockets(struct world *w)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(sin);
	int pair[2];

	(void)socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	w->keyd_fd = pair[0];
	w->parts.keyd_fd = pair[1];
	(void)socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	w->egress_fd = pair[0];
	w->parts.egress_fd = pair[1];
	(void)socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	w->records_fd = pair[0];
	w->parts.record_fd = pair[1];
	(void)socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	w->desk_fd = pair[0];
	w->parts.desk_fd = pair[1];
	(void)socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	w->news_fd = pair[0];
	w->parts.news_fd = pair[1];
	w->parts.dns_tcp_fd = -1;
	w->parts.dns_udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	(void)bind(w->parts.dns_udp_fd, (struct sockaddr *)&sin, sizeof(sin));
	(void)getsockname(w->parts.dns_udp_fd, (struct sockaddr *)&w->dns, &n);
	w->parts.pinned = "10.209.0.2";
	w->parts.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	(void)bind(w->parts.listen_fd, (struct sockaddr *)&sin, sizeof(sin));
	(void)listen(w->parts.listen_fd, 64);
	(void)getsockname(w->parts.listen_fd, (struct sockaddr *)&sin, &n);
	w->port = ntohs(sin.sin_port);
	if (pipe(w->stop_fd) < 0)
		abort();
}

static int world_client_ctx(struct world *w)
{
	uint8_t der[KEYD_DATA_MAX];
	const unsigned char *p = der;
	int n = ca_certificate(w->ca, der, sizeof(der));

	w->ca_cert = d2i_X509(NULL, &p, n);
	w->client_ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_verify(w->client_ctx, SSL_VERIFY_PEER, NULL);
	return X509_STORE_add_cert(SSL_CTX_get_cert_store(w->client_ctx), w->ca_cert) == 1 ? 0 : -1;
}

struct scan_engine *world_engine(void)
{
	static const struct {
		enum scan_kind kind;
		const char *value;
	} known[] = {{SCAN_KIND_SECRET, WORLD_SECRET},
		     {SCAN_KIND_CANARY, WORLD_CANARY},
		     {SCAN_KIND_PLACEHOLDER, WORLD_PLACEHOLDER}};
	const struct scan_print_key key = {.multiplier = 0x9e3779b97f4a7c15, .mac_key = {1, 2, 3}};
	struct scan_print prints[ARRAY_LEN(known)];
	struct scan_engine *engine = NULL;
	struct err e = ERR_INIT;
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(known); i++)
		ret = scan_print_make(&prints[i], &key, known[i].kind, 0, str_of(known[i].value),
				      &e);
	if (ret == 0)
		ret = scan_engine_new(&engine, STR_NULL, &e);
	if (ret == 0)
		ret = scan_engine_set_prints(engine, &key, prints, ARRAY_LEN(known), &e);
	if (ret == 0)
		return engine;
	(void)fprintf(stderr, "%s\n", e.text);
	scan_engine_free(engine);
	return NULL;
}

int world_start(struct world *w, struct scan_engine *engine, const struct policy *policy)
{
	_cleanup_close_ int state_fd = memfd_create("state", MFD_CLOEXEC);
	struct err e = ERR_INIT;

	memset(w, 0, sizeof(*w));
	(void)signal(SIGPIPE, SIG_IGN);
	w->parts.engine = engine;
	w->policy = *policy;
	w->shared = (struct policy_shared){.policy = &w->policy, .n_users = 1};
	w->parts.policy = &w->shared;
	w->parts.hold_ms = WORLD_HOLD_MS;
	(void)sem_init(&w->go, 0, 0);
	(void)pthread_mutex_init(&w->lock, NULL);
	world_sockets(w);
	if (ca_open(&w->ca, state_fd, "test", &e) < 0 || world_client_ctx(w) < 0)
		return -1;
	(void)pthread_create(&w->keyd_thread, NULL, keyd_thread, w);
	(void)pthread_create(&w->egress_thread, NULL, egress_thread, w);
	w->parts.loop = loop_new(&e);
	w->stop_watch = (struct loop_watch){.fd = -1, .fn = on_stop};
	if (loop_add(w->parts.loop, &w->stop_watch, w->stop_fd[0], EPOLLIN, &e) < 0 ||
	    pipelock_start(&w->pipelock, &w->parts, &e) < 0) {
		(void)fprintf(stderr, "%s\n", e.text);
		return -1;
	}
	return pthread_create(&w->pipelock_thread, NULL, pipelock_thread, w);
}

void world_stop(struct world *w)
{
	(void)!write(w->stop_fd[1], "x", 1);
	(void)pthread_join(w->pipelock_thread, NULL);
	(void)close(w->parts.keyd_fd);
	(void)close(w->parts.egress_fd);
	(void)pthread_join(w->keyd_thread, NULL);
	(void)pthread_join(w->egress_thread, NULL);
	loop_free(w->parts.loop);
	(void)close(w->parts.listen_fd);
	(void)close(w->parts.dns_udp_fd);
	(void)close(w->parts.record_fd);
	(void)close(w->parts.desk_fd);
	close_fd(&w->desk_fd);
	(void)close(w->parts.news_fd);
	(void)close(w->news_fd);
	(void)close(w->keyd_fd);
	(void)close(w->egress_fd);
	(void)close(w->records_fd);
	(void)close(w->stop_fd[0]);
	(void)close(w->stop_fd[1]);
	SSL_CTX_free(w->client_ctx);
	X509_free(w->ca_cert);
	ca_free(w->ca);
}

struct world *world_make(const struct policy *policy)
{
	struct scan_engine *engine = world_engine();
	struct world *w = malloc(sizeof(*w));

	if (engine && w && world_start(w, engine, policy) == 0)
		return w;
	scan_engine_free(engine);
	free(w);
	return NULL;
}

void world_free(struct world *w)
{
	struct scan_engine *engine = w->parts.engine;

	world_stop(w);
	scan_engine_free(engine);
	free(w);
}

/* A bundle's configuration with this policy; the descriptor, or -1. */
static int world_config(const struct policy *policy, bool is_paused)
{
	_cleanup_(buf_free) struct buf out;
	struct err e = ERR_INIT;

	buf_init(&out, BUNDLE_CONFIG_MAX);
	if (buf_printf(&out,
		       "{\"version\":1,\"slug\":\"t-1\",\"pinned\":\"10.209.0.2\",\"uid_base\":0,"
		       "\"supervised\":true,\"paused\":%s,\"policy\":",
		       is_paused ? "true" : "false") < 0 ||
	    policy_to_json(policy, &out, &e) < 0 || buf_append(&out, "}", 1) < 0)
		return -1;
	return io_memfd_sealed("config", buf_str(&out), &e);
}

bool world_renew(struct world *w, const struct policy_route *grants, size_t n, bool is_paused)
{
	struct policy_route routes[POLICY_ROUTES_MAX];
	struct policy policy = {.routes = routes, .n_routes = w->policy.n_routes + n};
	struct news news = {.generation = ++w->generation}, answer = {0};
	_cleanup_close_ int fd = -1;

	memcpy(routes, w->policy.routes, w->policy.n_routes * sizeof(*routes));
	if (n > 0)
		memcpy(routes + w->policy.n_routes, grants, n * sizeof(*routes));
	fd = world_config(&policy, is_paused);
	return fd >= 0 &&
	       io_send_fds(w->news_fd, &news, sizeof(news), &fd, 1, 0) == (ssize_t)sizeof(news) &&
	       io_wait(w->news_fd, POLLIN, 5000) == 1 &&
	       recv(w->news_fd, &answer, sizeof(answer), 0) == (ssize_t)sizeof(answer) &&
	       answer.generation == news.generation;
}

bool world_record(struct world *w, struct record *r)
{
	/* A refused handshake is recorded after the client knows. */
	return io_wait(w->records_fd, POLLIN, 500) == 1 &&
	       recv(w->records_fd, r, sizeof(*r), MSG_DONTWAIT) == (ssize_t)sizeof(*r);
}

void world_records_drop(struct world *w)
{
	struct record r;

	while (recv(w->records_fd, &r, sizeof(r), MSG_DONTWAIT) > 0)
		;
}

char *world_last(struct world *w, size_t *n)
{
	char *copy;

	(void)pthread_mutex_lock(&w->lock);
	copy = malloc(w->last_n + 1);
	memcpy(copy, w->last, w->last_n);
	copy[w->last_n] = '\0';
	*n = w->last_n;
	(void)pthread_mutex_unlock(&w->lock);
	return copy;
}

void world_last_drop(struct world *w)
{
	(void)pthread_mutex_lock(&w->lock);
	w->last_n = 0;
	(void)pthread_mutex_unlock(&w->lock);
}

char *world_last_wait(struct world *w, size_t *n)
{
	char *last = world_last(w, n);

	for (int i = 0; i < 1000 && *n == 0; i++) {
		free(last);
		(void)usleep(10000);
		last = world_last(w, n);
	}
	return last;
}

bool world_ask(struct world *w, struct ask *a)
{
	return io_wait(w->desk_fd, POLLIN, 5000) == 1 &&
	       recv(w->desk_fd, a, sizeof(*a), MSG_DONTWAIT) == (ssize_t)sizeof(*a);
}

void world_answer(struct world *w, const struct ask *a, enum ask_state state,
		  enum ask_release release)
{
	struct ask_answer answer = {.id = a->id,
				    .life = a->life,
				    .number = a->number,
				    .state = state,
				    .scope = ASK_ONCE,
				    .release = release,
				    .is_final = 1,
				    .text = "not this one"};

	memcpy(answer.hash, a->hash, sizeof(answer.hash));
	(void)send(w->desk_fd, &answer, sizeof(answer), MSG_NOSIGNAL);
}

/* --- clients --- */

struct client client_open(struct world *w)
{
	struct sockaddr_in sin = {.sin_family = AF_INET,
				  .sin_port = htons(w->port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval tv = {.tv_sec = 10};
	struct client c = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};

	(void)setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	(void)connect(c.fd, (struct sockaddr *)&sin, sizeof(sin));
	return c;
}

bool client_send(struct client *c, const void *data, size_t n)
{
	const char *p = data;

	while (n > 0) {
		ssize_t sent = c->ssl ? SSL_write(c->ssl, p, n > 65536 ? 65536 : (int)n)
				      : send(c->fd, p, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		p += sent;
		n -= (size_t)sent;
	}
	return true;
}

ssize_t client_read(struct client *c, void *out, size_t n)
{
	return c->ssl ? SSL_read(c->ssl, out, (int)n) : recv(c->fd, out, n, 0);
}

/* The rest of a body into out after `have` bytes of it; its length or -1. */
static ssize_t client_body(struct client *c, char *body, size_t have, size_t size, size_t want)
{
	while (have < want) {
		ssize_t n = have + 1 < size ? client_read(c, body + have, size - have - 1) : -1;

		if (n <= 0)
			return -1;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

/* Reads to the last chunk, then takes the framing out. */
static ssize_t client_chunks(struct client *c, char *body, size_t have, size_t size)
{
	size_t to = 0, at = 0;

	while (have < 5 || memcmp(body + have - 5, "0\r\n\r\n", 5) != 0) {
		ssize_t n = have + 1 < size ? client_read(c, body + have, size - have - 1) : -1;

		if (n <= 0)
			return -1;
		have += (size_t)n;
	}
	for (;;) {
		char *end;
		size_t chunk = strtoul(body + at, &end, 16);

		if (chunk == 0)
			return (ssize_t)to;
		at = (size_t)(end - body) + 2;
		memmove(body + to, body + at, chunk);
		to += chunk;
		at += chunk + 2;
	}
}

int client_response(struct client *c, char *out, size_t size)
{
	size_t n = 0, head;
	const char *length;
	ssize_t body;
	char *end;

	for (;;) {
		ssize_t r = n + 1 < size ? client_read(c, out + n, size - n - 1) : -1;

		if (r <= 0)
			return -1;
		n += (size_t)r;
		out[n] = '\0';
		end = strstr(out, "\r\n\r\n");
		if (end)
			break;
	}
	head = (size_t)(end - out) + 4;
	length = strstr(out, "Content-Length: ");
	if (length && length < end)
		body = client_body(c, out + head, n - head, size - head,
				   strtoul(length + 16, NULL, 10));
	else if (strstr(out, "ransfer-Encoding: chunked"))
		body = client_chunks(c, out + head, n - head, size - head);
	else
		body = 0;
	if (body < 0)
		return -1;
	out[head + (size_t)body] = '\0';
	return (int)strtol(out + 9, NULL, 10);
}

int client_ask(struct client *c, const char *request, char *out, size_t size)
{
	return client_send(c, request, strlen(request)) ? client_response(c, out, size) : -1;
}

int client_events(struct client *c, int count, char *out, size_t size, size_t *n)
{
	for (;;) {
		const char *at = out;
		int seen = 0;
		ssize_t got;

		out[*n] = '\0';
		while ((at = strstr(at, "data: event")) != NULL) {
			seen++;
			at++;
		}
		if (seen >= count)
			return seen;
		got = client_read(c, out + *n, size - *n - 1);
		if (got <= 0)
			return seen;
		*n += (size_t)got;
	}
}

int client_connect(struct client *c, const char *authority)
{
	char text[1024];

	(void)snprintf(text, sizeof(text), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", authority,
		       authority);
	return client_ask(c, text, text, sizeof(text));
}

bool client_tls(struct world *w, struct client *c, const char *sni)
{
	c->ssl = SSL_new(w->client_ctx);
	SSL_set_fd(c->ssl, c->fd);
	if (sni) {
		SSL_set_tlsext_host_name(c->ssl, sni);
		SSL_set1_host(c->ssl, sni);
	}
	return SSL_connect(c->ssl) == 1;
}

void client_close(struct client *c)
{
	if (c->ssl)
		SSL_free(c->ssl);
	(void)close(c->fd);
}

struct client client_tunnel(struct world *w, const char *host)
{
	struct client c = client_open(w);
	char authority[300];

	(void)snprintf(authority, sizeof(authority), "%s:443", host);
	if (client_connect(&c, authority) != 200 || !client_tls(w, &c, host))
		(void)fprintf(stderr, "no tunnel to %s\n", host);
	return c;
}
