/*
 * CONNECT, interception and verified upstreams, over two relays as in a bottle: a client's thread,
 * a relay that ends its TLS, a relay behind a socketpair that makes TLS anew, an upstream's thread.
 */
#include "net/relay.h"

#include "base/clean.h"
#include "base/mem.h"

#include "tls_fixture.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

struct world {
	struct loop *loop;
	struct relay *front, *back; /* pipelock's part, egress's part */
	struct tls_server *server;
	struct tls_client *client;
	struct fixture_ca ca, upstream_ca, strange_ca;
	EVP_PKEY *leaf_key;
	SSL_CTX *upstream_ctx, *client_ctx;
	bool is_cert_late, was_cert_asked;
	struct relay_front *waiting;
	struct loop_timer late, watchdog, over;
	const char *upstream_name;
	bool is_upstream_strange;
	unsigned n_upstreams, n_resumed_upstreams;
	pthread_t threads[8];
	/* the client's script */
	const char *connect, *sni, *request;
	bool sends_early, resumes;
	SSL_SESSION *session;
	bool was_resumed;
	char answer[65536];
	int client_fd;
	char outcomes[2][1024];
};

/* --- owners --- */

static void note(struct world *w, unsigned which, const struct relay_result *r)
{
	char *o = w->outcomes[which];
	size_t n = strlen(o);

	(void)snprintf(o + n, sizeof(w->outcomes[0]) - n, "%s %s\n", relay_outcome_name(r->outcome),
		       r->reason);
}

static enum relay_step forward(struct relay_exchange *x)
{
	(void)x;
	return RELAY_FORWARD;
}

static enum relay_dial dial_egress(struct relay_exchange *x, unsigned attempt,
				   struct relay_back_spec *spec)
{
	struct world *w = relay_ctx(x->relay);
	int fds[2];

	if (attempt > 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return RELAY_DIAL_NONE;
	assert_non_null(relay_front_add(w->back, fds[1]));
	spec->fd = fds[0];
	return RELAY_DIAL_NOW;
}

static void done_front(struct relay_exchange *x, const struct relay_result *r)
{
	note(relay_ctx(x->relay), 0, r);
}

struct upstream {
	struct world *w;
	int fd;
	X509 *cert;
};

static void *upstream_run(void *arg)
{
	struct upstream *u = arg;
	SSL *ssl = SSL_new(u->w->upstream_ctx);
	char in[65536], out[256];
	int n;

	(void)SSL_use_certificate(ssl, u->cert);
	(void)SSL_use_PrivateKey(ssl, u->w->leaf_key);
	(void)SSL_set_fd(ssl, u->fd);
	if (SSL_accept(ssl) == 1) {
		u->w->n_resumed_upstreams += (unsigned)SSL_session_reused(ssl);
		while ((n = SSL_read(ssl, in, sizeof(in) - 1)) > 0) {
			in[n] = '\0';
			n = snprintf(out, sizeof(out),
				     "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nsaw %.11s", 15,
				     in);
			(void)SSL_write(ssl, out, n);
		}
		(void)SSL_shutdown(ssl);
	}
	SSL_free(ssl);
	(void)close(u->fd);
	X509_free(u->cert);
	free(u);
	return NULL;
}

static enum relay_dial dial_upstream(struct relay_exchange *x, unsigned attempt,
				     struct relay_back_spec *spec)
{
	struct world *w = relay_ctx(x->relay);
	struct fixture_ca *ca = w->is_upstream_strange ? &w->strange_ca : &w->upstream_ca;
	struct upstream *u;
	int fds[2];

	if (attempt > 0 || w->n_upstreams == ARRAY_LEN(w->threads))
		return RELAY_DIAL_NONE;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return RELAY_DIAL_NONE;
	u = calloc(1, sizeof(*u));
	u->w = w;
	u->fd = fds[1];
	u->cert = fixture_cert(w->leaf_key, w->upstream_name, ca->cert, ca->key);
	assert_int_equal(pthread_create(&w->threads[w->n_upstreams++], NULL, upstream_run, u), 0);
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	spec->fd = fds[0];
	spec->tls = w->client;
	assert_true(str_to_cstr(spec->tls_host, sizeof(spec->tls_host), x->req.host));
	return RELAY_DIAL_NOW;
}

static void done_back(struct relay_exchange *x, const struct relay_result *r)
{
	note(relay_ctx(x->relay), 1, r);
}

static const struct relay_ops front_ops = {
	.on_connect = forward, .on_request = forward, .dial = dial_egress, .on_done = done_front};
static const struct relay_ops back_ops = {
	.on_request = forward, .dial = dial_upstream, .on_done = done_back};

static enum tls_cert_result leaf(void *conn_ctx, const char *host, X509 **cert, EVP_PKEY **key)
{
	static struct world *w;
	static X509 *last;

	if (!host) {
		w = conn_ctx; /* how the test tells us */
		X509_free(last);
		last = NULL;
		return TLS_CERT_NONE;
	}
	if (strcmp(host, "nocert.test") == 0)
		return TLS_CERT_NONE;
	if (w->is_cert_late && !w->was_cert_asked) {
		w->was_cert_asked = true;
		w->waiting = conn_ctx;
		loop_timer_set(w->loop, &w->late, 5);
		return TLS_CERT_LATER;
	}
	X509_free(last);
	last = fixture_cert(w->leaf_key, host, w->ca.cert, w->ca.key);
	*cert = last;
	*key = w->leaf_key;
	return TLS_CERT_OK;
}

static void on_late(struct loop_timer *t)
{
	struct world *w = (struct world *)(void *)((char *)t - offsetof(struct world, late));

	relay_cert_ready(w->waiting);
}

static void on_watchdog(struct loop_timer *t)
{
	struct world *w = (struct world *)(void *)((char *)t - offsetof(struct world, watchdog));

	loop_stop(w->loop, 1);
}

/* --- the client --- */

static void client_tls(struct world *w)
{
	SSL *ssl = SSL_new(w->client_ctx);
	size_t have = 0;
	int n;

	if (w->sni)
		(void)SSL_set_tlsext_host_name(ssl, w->sni);
	if (w->session)
		(void)SSL_set_session(ssl, w->session);
	(void)SSL_set_fd(ssl, w->client_fd);
	if (SSL_connect(ssl) != 1) {
		(void)snprintf(w->answer, sizeof(w->answer), "tls: %s",
			       ERR_reason_error_string(ERR_peek_error()));
		ERR_clear_error();
		SSL_free(ssl);
		return;
	}
	w->was_resumed = SSL_session_reused(ssl) == 1;
	(void)SSL_write(ssl, w->request, (int)strlen(w->request));
	while ((n = SSL_read(ssl, w->answer + have, (int)(sizeof(w->answer) - 1 - have))) > 0)
		have += (size_t)n;
	w->answer[have] = '\0';
	SSL_SESSION_free(w->session);
	w->session = SSL_get1_session(ssl);
	(void)SSL_shutdown(ssl);
	SSL_free(ssl);
}

static void *client_run(void *arg)
{
	struct world *w = arg;
	char line[512];
	ssize_t n;

	(void)send(w->client_fd, w->connect, strlen(w->connect), 0);
	n = recv(w->client_fd, line, sizeof(line) - 1, 0);
	line[n > 0 ? n : 0] = '\0';
	if (strncmp(line, "HTTP/1.1 200 ", 13) != 0)
		(void)snprintf(w->answer, sizeof(w->answer), "%s", line);
	else if (!w->request)
		(void)recv(w->client_fd, w->answer, sizeof(w->answer) - 1, 0);
	else
		client_tls(w);
	(void)close(w->client_fd);
	return NULL;
}

static void on_over(struct loop_timer *t)
{
	struct world *w = (struct world *)(void *)((char *)t - offsetof(struct world, over));

	if (relay_front_count(w->front) == 0)
		loop_stop(w->loop, 0);
	else
		loop_timer_set(w->loop, t, 2);
}

/* One client from start to end. */
static void visit(struct world *w)
{
	pthread_t thread;
	int fds[2];

	memset(w->answer, 0, sizeof(w->answer));
	memset(w->outcomes, 0, sizeof(w->outcomes));
	w->was_cert_asked = false;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
	w->client_fd = fds[0];
	assert_non_null(relay_front_add(w->front, fds[1]));
	assert_int_equal(pthread_create(&thread, NULL, client_run, w), 0);
	loop_timer_set(w->loop, &w->watchdog, 5000);
	loop_timer_set(w->loop, &w->over, 2);
	assert_int_equal(loop_run(w->loop), 0);
	loop_timer_del(w->loop, &w->watchdog);
	(void)pthread_join(thread, NULL);
}

/* A bundle of a root of that name with a key of its own, and of ca. */
static char *roots_pem(const char *name, const struct fixture_ca *ca)
{
	struct fixture_ca other = fixture_ca_new(name);
	struct str a, b;
	char *both;

	a.p = fixture_pem(other.cert, &a.n);
	b.p = fixture_pem(ca->cert, &b.n);
	both = mem_printf(STR_FMT "# a comment\n" STR_FMT, STR_ARG(a), STR_ARG(b));
	free((char *)(uintptr_t)a.p);
	free((char *)(uintptr_t)b.p);
	fixture_ca_free(&other);
	return both;
}

/* What is no certificate is told at the start; what only looks like one verifies nothing. */
static void test_bad_roots(void **state)
{
	static const char *const bad[] = {
		"-----BEGIN CERTIFICATE-----\nAAAA\n",
		"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n",
		"-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n",
		"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
		"-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n",
		"no certificate at all",
		"",
	};
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct tls_client *c = NULL;

		assert_true(tls_client_new(&c,
					   &(struct tls_client_config){.ca_bundle = str_of(bad[i])},
					   &e) < 0);
		assert_null(c);
	}
}

static int world_new(void **state)
{
	static const struct relay_config front_config = {.accept = RELAY_ACCEPT_CONNECT,
							 .back_is_absolute = true};
	static const struct relay_config back_config = {.accept = RELAY_ACCEPT_ABSOLUTE_HTTPS};
	struct world *w = calloc(1, sizeof(*w));
	struct relay_config config = front_config;
	struct err e = ERR_INIT;
	char *bundle;

	w->ca = fixture_ca_new("bottle");
	w->upstream_ca = fixture_ca_new("world");
	w->strange_ca = fixture_ca_new("stranger");
	w->leaf_key = EVP_EC_gen("P-256");
	w->upstream_ctx = SSL_CTX_new(TLS_server_method());
	w->client_ctx = SSL_CTX_new(TLS_client_method());
	(void)X509_STORE_add_cert(SSL_CTX_get_cert_store(w->client_ctx), w->ca.cert);
	SSL_CTX_set_verify(w->client_ctx, SSL_VERIFY_PEER, NULL);
	w->loop = loop_new(&e);
	w->late.fn = on_late;
	w->watchdog.fn = on_watchdog;
	w->over.fn = on_over;
	assert_int_equal(tls_server_new(&w->server, leaf, NULL, &e), 0);
	/* Two roots, of which the second has signed. */
	bundle = roots_pem("other", &w->upstream_ca);
	assert_int_equal(tls_client_new(&w->client,
					&(struct tls_client_config){.ca_bundle = str_of(bundle)},
					&e),
			 0);
	assert_int_equal(tls_client_roots(w->client), 2);
	free(bundle);
	(void)leaf(w, NULL, NULL, NULL);
	config.tls_server = w->server;
	assert_int_equal(relay_new(&w->front, w->loop, &config, &front_ops, w, &e), 0);
	assert_int_equal(relay_new(&w->back, w->loop, &back_config, &back_ops, w, &e), 0);
	w->connect = "CONNECT up.test:443 HTTP/1.1\r\nHost: up.test:443\r\n\r\n";
	w->sni = w->upstream_name = "up.test";
	w->request = "GET /abc HTTP/1.1\r\nHost: up.test\r\nConnection: close\r\n\r\n";
	*state = w;
	return 0;
}

static int world_free(void **state)
{
	struct world *w = *state;

	relay_free(w->front);
	relay_free(w->back);
	loop_free(w->loop);
	(void)leaf(w, NULL, NULL, NULL);
	tls_server_free(w->server);
	tls_client_free(w->client);
	SSL_CTX_free(w->client_ctx);
	SSL_SESSION_free(w->session);
	fixture_ca_free(&w->ca);
	fixture_ca_free(&w->upstream_ca);
	fixture_ca_free(&w->strange_ca);
	/* The relay has closed their connections. */
	for (unsigned i = 0; i < w->n_upstreams; i++)
		(void)pthread_join(w->threads[i], NULL);
	SSL_CTX_free(w->upstream_ctx);
	EVP_PKEY_free(w->leaf_key);
	free(w);
	return 0;
}

static const char answer_ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n"
				"saw GET /abc HT";

static void test_through(void **state)
{
	struct world *w = *state;

	visit(w);
	assert_string_equal(w->answer, answer_ok);
	assert_string_equal(w->outcomes[0], "tunnel ok\ndone ok\n");
	assert_string_equal(w->outcomes[1], "done ok\n");
	assert_false(w->was_resumed);
	/* A ticket for the client, and the pooled backs of both relays. */
	visit(w);
	assert_string_equal(w->answer, answer_ok);
	assert_true(w->was_resumed);
	assert_int_equal(w->n_upstreams, 1);
	/* Without the pool: resumption towards the upstream. */
	relay_backs_drop(w->back, STR_NULL);
	visit(w);
	assert_string_equal(w->answer, answer_ok);
	assert_int_equal(w->n_upstreams, 2);
	assert_int_equal(w->n_resumed_upstreams, 1);
}

static void test_http10_connect(void **state)
{
	struct world *w = *state;

	w->connect = "CONNECT up.test:443 HTTP/1.0\r\n\r\n";
	visit(w);
	assert_string_equal(w->answer, answer_ok);
}

static void test_late_certificate(void **state)
{
	struct world *w = *state;

	w->is_cert_late = true;
	visit(w);
	assert_true(w->was_cert_asked);
	assert_string_equal(w->answer, answer_ok);
}

static void test_no_certificate(void **state)
{
	struct world *w = *state;

	w->connect = "CONNECT nocert.test:443 HTTP/1.1\r\nHost: nocert.test:443\r\n\r\n";
	w->sni = "nocert.test";
	visit(w);
	assert_string_equal(w->outcomes[0], "bad-request no-leaf-certificate\n");
}

static void test_sni(void **state)
{
	struct world *w = *state;

	w->sni = "other.test";
	visit(w);
	assert_string_equal(w->outcomes[0], "bad-request sni-mismatch\n");
	assert_string_equal(w->answer, "tls: tlsv1 unrecognized name");
	w->sni = NULL;
	visit(w);
	assert_string_equal(w->outcomes[0], "bad-request no-sni\n");
	w->sni = "UP.test";
	visit(w);
	assert_string_equal(w->outcomes[0], "tunnel ok\ndone ok\n");
}

static void test_versions(void **state)
{
	struct world *w = *state;

	(void)SSL_CTX_set_max_proto_version(w->client_ctx, TLS1_2_VERSION);
	visit(w);
	assert_string_equal(w->answer, answer_ok);
	SSL_CTX_set_security_level(w->client_ctx, 0);
	(void)SSL_CTX_set_min_proto_version(w->client_ctx, TLS1_VERSION);
	(void)SSL_CTX_set_max_proto_version(w->client_ctx, TLS1_1_VERSION);
	visit(w);
	assert_string_equal(w->outcomes[0], "bad-request tls-version\n");
}

static void test_alpn(void **state)
{
	struct world *w = *state;

	(void)SSL_CTX_set_alpn_protos(w->client_ctx, (const unsigned char *)"\2h2", 3);
	visit(w);
	assert_string_equal(w->outcomes[0], "bad-request tls-handshake\n");
	(void)SSL_CTX_set_alpn_protos(w->client_ctx, (const unsigned char *)"\2h2\10http/1.1", 12);
	visit(w);
	assert_string_equal(w->answer, answer_ok);
}

static void test_not_tls(void **state)
{
	struct world *w = *state;

	w->request = NULL;
	w->connect =
		"CONNECT up.test:443 HTTP/1.1\r\nHost: up.test:443\r\n\r\nSSH-2.0-OpenSSH_9.2\r\n";
	visit(w);
	assert_string_equal(w->outcomes[0], "bad-request not-tls\n");
	w->connect = "CONNECT up.test:443 HTTP/1.1\r\nHost: up.test:443\r\n\r\nGET / HTTP/1.1\r\n";
	visit(w);
	assert_string_equal(w->outcomes[0], "bad-request not-tls\n");
}

static void test_identity(void **state)
{
	struct world *w = *state;

	w->request = "GET /abc HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n";
	visit(w);
	assert_memory_equal(w->answer, "HTTP/1.1 421 ", 13);
	w->request = "GET https://other.test/abc HTTP/1.1\r\nHost: other.test\r\nConnection: "
		     "close\r\n\r\n";
	visit(w);
	assert_memory_equal(w->answer, "HTTP/1.1 421 ", 13);
	w->request =
		"GET http://up.test/abc HTTP/1.1\r\nHost: up.test\r\nConnection: close\r\n\r\n";
	visit(w);
	assert_memory_equal(w->answer, "HTTP/1.1 421 ", 13);
	w->request = "GET /abc HTTP/1.1\r\nHost: up.test:8443\r\nConnection: close\r\n\r\n";
	visit(w);
	assert_memory_equal(w->answer, "HTTP/1.1 421 ", 13);
	w->request =
		"CONNECT up.test:443 HTTP/1.1\r\nHost: up.test:443\r\nConnection: close\r\n\r\n";
	visit(w);
	assert_memory_equal(w->answer, "HTTP/1.1 403 ", 13);
	assert_int_equal(w->n_upstreams, 0);
}

static void test_upstream_certificate(void **state)
{
	struct world *w = *state;

	w->is_upstream_strange = true;
	visit(w);
	assert_memory_equal(w->answer, "HTTP/1.1 502 ", 13);
	assert_string_equal(w->outcomes[1], "dial-failed upstream-certificate\n");
	w->is_upstream_strange = false;
	w->upstream_name = "other.test";
	visit(w);
	assert_memory_equal(w->answer, "HTTP/1.1 502 ", 13);
	assert_string_equal(w->outcomes[1], "dial-failed upstream-certificate\n");
	w->upstream_name = "up.test";
	visit(w);
	assert_string_equal(w->answer, answer_ok);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, world_new, world_free)
	static const struct CMUnitTest tests[] = {
		T(test_through),
		T(test_http10_connect),
		T(test_late_certificate),
		T(test_no_certificate),
		T(test_sni),
		T(test_versions),
		T(test_alpn),
		T(test_not_tls),
		T(test_identity),
		T(test_upstream_certificate),
		cmocka_unit_test(test_bad_roots),
	};
#undef T

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
