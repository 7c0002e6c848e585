/* The role's working parts as a whole: a played pipelock, keyd and record role, a name server and
 * upstreams on loopback. */
#include "dns_stub.h"
#include "upstream.h"

#include "egress/egress.h"
#include "record/record.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PLACEHOLDER "ph-test-0123456789abcdefghij"
#define AUTH	    "Authorization: Bearer " PLACEHOLDER "\r\n"

/* bound.test and open.test lead to the TLS upstream, plain.test to the plain one; wrong.test to the
 * TLS one, whose certificate has other names; the others are looked up. */
enum {
	ROUTE_BOUND,
	ROUTE_OPEN,
	ROUTE_PLAIN,
	ROUTE_WRONG,
	ROUTE_DNS,
	ROUTE_NOBODY,
	ROUTE_SECOND,
	ROUTE_GIT,
	ROUTE_COUNT
};

struct world {
	struct dns_stub dns;
	struct upstream tls, plain;
	struct policy policy;
	struct policy_shared shared;
	struct policy_route routes[ROUTE_COUNT];
	struct policy_resolve resolve[7];
	struct loop *loop;
	struct egress *egress;
	int record_fds[2];
	unsigned n_asked;
	struct loop_watch done;
	char answer[65536]; /* of the last exchange, head and body */
	size_t answer_n;
};

static int fake_ask(void *ctx, struct keyd_request *q, struct keyd_reply *r, struct err *e)
{
	struct world *w = ctx;

	(void)e;
	w->n_asked++;
	r->status = q->index == 7 && strcmp(q->host, "bound.test") == 0 ? KEYD_OK : KEYD_DENIED;
	r->data_n = (uint32_t)strlen("Bearer " UPSTREAM_CREDENTIAL);
	memcpy(r->data, "Bearer " UPSTREAM_CREDENTIAL, r->data_n);
	return 0;
}

static void route(struct world *w, int i, const char *host, uint16_t port)
{
	w->routes[i] = (struct policy_route){.host = (char *)(uintptr_t)host,
					     .ports = {port},
					     .n_ports = 1,
					     .methods = 1u << POLICY_METHOD_GET |
							1u << POLICY_METHOD_POST};
}

static void resolve(struct world *w, int i, const char *host, uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	w->resolve[i].host = (char *)(uintptr_t)host;
	memcpy(&w->resolve[i].address, &a, sizeof(a));
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct egress_config config = {.n_servers = 1,
				       .ask = fake_ask,
				       .ask_ctx = w,
				       .pinned = "10.209.0.2",
				       .dns_ms = 800,
				       .response_ms = 600,
				       .stream_ms = 10000};
	struct err e = ERR_INIT;

	(void)signal(SIGPIPE, SIG_IGN);
	dns_stub_start(&w->dns);
	upstream_start(&w->tls, "bound.test,DNS:open.test");
	upstream_start(&w->plain, NULL);
	route(w, ROUTE_BOUND, "bound.test", 443);
	w->routes[ROUTE_BOUND].auth = (struct policy_auth){.scheme = POLICY_AUTH_BEARER,
							   .placeholder = (char *)PLACEHOLDER,
							   .header = (char *)"authorization",
							   .credential = 7};
	w->routes[ROUTE_BOUND].ports[w->routes[ROUTE_BOUND].n_ports++] = 80;
	route(w, ROUTE_OPEN, "open.test", 443);
	route(w, ROUTE_PLAIN, "plain.test", 80);
	route(w, ROUTE_WRONG, "wrong.example.net", 443);
	route(w, ROUTE_DNS, "*.dns.test", 443);
	route(w, ROUTE_NOBODY, "nobody.test", 443);
	route(w, ROUTE_SECOND, "second.test", 80);
	route(w, ROUTE_GIT, "git.test", 443);
	w->routes[ROUTE_GIT].auth =
		(struct policy_auth){.scheme = POLICY_AUTH_BASIC,
				     .placeholder = (char *)"ph-git-0123456789abcdefghijk",
				     .header = (char *)"authorization",
				     .user = (char *)"bot",
				     .credential = 8};
	resolve(w, 0, "bound.test", w->tls.port);
	resolve(w, 1, "open.test", w->tls.port);
	resolve(w, 2, "plain.test", w->plain.port);
	resolve(w, 3, "wrong.example.net", w->tls.port);
	resolve(w, 4, "nobody.test", 1);
	resolve(w, 5, "second.test", 1);
	resolve(w, 6, "second.test", w->plain.port);
	w->policy = (struct policy){.routes = w->routes,
				    .n_routes = ROUTE_COUNT,
				    .resolve = w->resolve,
				    .n_resolve = 7,
				    .ca_pem = w->tls.ca_pem};
	w->loop = loop_new(&e);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->record_fds) < 0)
		return -1;
	w->shared = (struct policy_shared){.policy = &w->policy, .n_users = 1};
	config.policy = &w->shared;
	config.servers = &w->dns.address;
	config.record_fd = w->record_fds[0];
	if (!w->loop || egress_new(&w->egress, w->loop, &config, &e) < 0) {
		print_error("%s\n", e.text);
		return -1;
	}
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	egress_free(w->egress);
	loop_free(w->loop);
	dns_stub_stop(&w->dns);
	upstream_stop(&w->tls);
	upstream_stop(&w->plain);
	(void)close(w->record_fds[0]);
	(void)close(w->record_fds[1]);
	free(w);
	return 0;
}

/* --- a played pipelock: one thread that sends and reads, while the test runs the loop --- */

struct client {
	struct world *w;
	int fd, done_fd;
	const char *request;
	size_t want; /* stop after so many bytes; 0: when the answer is complete */
};

static bool is_complete(const char *p, size_t n)
{
	const char *end = memmem(p, n, "\r\n\r\n", 4), *length;

	if (!end)
		return false;
	if (memmem(p, (size_t)(end - p), "chunked", 7))
		return n >= 5 && memcmp(p + n - 5, "0\r\n\r\n", 5) == 0;
	length = memmem(p, (size_t)(end - p), "Content-Length: ", 16);
	return length && n >= (size_t)(end + 4 - p) + strtoul(length + 16, NULL, 10);
}

static void *client_run(void *arg)
{
	struct client *c = arg;
	struct world *w = c->w;

	w->answer_n = 0;
	if (io_write_all(c->fd, c->request, strlen(c->request)) == 0) {
		while (w->answer_n + 1 < sizeof(w->answer)) {
			ssize_t n = read(c->fd, w->answer + w->answer_n,
					 sizeof(w->answer) - 1 - w->answer_n);

			if (n <= 0)
				break;
			w->answer_n += (size_t)n;
			w->answer[w->answer_n] = '\0';
			if (c->want ? w->answer_n >= c->want : is_complete(w->answer, w->answer_n))
				break;
		}
	}
	w->answer[w->answer_n] = '\0';
	(void)!write(c->done_fd, "x", 1);
	return NULL;
}

static void on_done(struct loop_watch *watch, uint32_t events)
{
	struct world *w = (struct world *)((char *)watch - offsetof(struct world, done));

	(void)events;
	loop_del(w->loop, watch);
	loop_stop(w->loop, 0);
}

static void run_part(struct world *w, int fd, const char *request, size_t want)
{
	struct client c = {.w = w, .fd = fd, .request = request, .want = want};
	pthread_t t;
	int done[2];

	assert_int_equal(pipe2(done, O_CLOEXEC), 0);
	c.done_fd = done[1];
	w->done = (struct loop_watch){.fd = -1, .fn = on_done};
	assert_int_equal(loop_add(w->loop, &w->done, done[0], EPOLLIN, NULL), 0);
	assert_int_equal(pthread_create(&t, NULL, client_run, &c), 0);
	(void)loop_run(w->loop);
	assert_int_equal(pthread_join(t, NULL), 0);
	(void)close(done[0]);
	(void)close(done[1]);
}

static void run_client(struct world *w, int fd, const char *request)
{
	run_part(w, fd, request, 0);
}

static int connect_client(struct world *w)
{
	struct timeval limit = {.tv_sec = 20};
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	(void)setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(io_set_nonblock(pair[1], true), 0);
	egress_serve(w->egress, pair[1]);
	return pair[0];
}

/* The status of the answer, which is in w->answer. */
static unsigned ask(struct world *w, const char *method, const char *url, const char *host,
		    const char *fields)
{
	char request[4096];
	unsigned status = 0;
	int fd = connect_client(w);

	(void)snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", method,
		       url, host, fields);
	run_client(w, fd, request);
	(void)close(fd);
	(void)sscanf(w->answer, "HTTP/1.1 %u", &status);
	return status;
}

/* The next record, or one without a reason. */
static struct record next_record(struct world *w)
{
	struct record r = {0};

	if (recv(w->record_fds[1], &r, sizeof(r), MSG_DONTWAIT) != (ssize_t)sizeof(r))
		memset(&r, 0, sizeof(r));
	return r;
}

static void assert_refused(struct world *w, unsigned status, const char *reason,
			   enum record_verdict verdict)
{
	struct record r = next_record(w);
	char want[128], id[17];

	(void)snprintf(want, sizeof(want), "\"reason\":\"%s\"", reason);
	if (!strstr(w->answer, want))
		fail_msg("no %s in: %s", want, w->answer);
	assert_string_equal(r.reason, reason);
	assert_string_equal(r.role, "egress");
	assert_int_equal(r.verdict, verdict);
	assert_int_equal(r.status, status);
	for (int i = 0; i < 8; i++)
		(void)snprintf(id + 2 * i, 3, "%02x", r.id[i]);
	assert_non_null(strstr(w->answer, id));
	assert_string_equal(next_record(w).reason, "");
}

/* --- what works --- */

static void test_swaps_and_scrubs(void **state)
{
	struct world *w = *state;
	unsigned status = ask(w, "GET", "https://bound.test/echo?q=1", "bound.test",
			      AUTH "Cookie: a=b\r\nX-Api-Key: attackers-own-key\r\n"
				   "Accept-Encoding: gzip, br\r\nRange: bytes=0-4\r\n"
				   "X-HTTP-Method-Override: DELETE\r\nX-Kept: yes\r\n"
				   "X_HTTP_Method-Override: PUT\r\nContent_Length: 7\r\n"
				   "Proxy: http://a.test/\r\n");

	assert_int_equal(status, 200);
	/* The body is the request as the upstream got it, its credential masked. */
	assert_non_null(strstr(w->answer, "GET /echo?q=1 HTTP/1.1\r\n"));
	assert_non_null(strstr(w->answer, "Host: bound.test\r\n"));
	assert_non_null(strstr(w->answer, "Bearer ****************************\r\n"));
	assert_null(strstr(w->answer, UPSTREAM_CREDENTIAL));
	assert_null(strstr(w->answer, PLACEHOLDER));
	assert_null(strstr(w->answer, "attackers"));
	assert_null(strcasestr(w->answer, "cookie"));
	assert_null(strcasestr(w->answer, "gzip"));
	assert_null(strcasestr(w->answer, "range"));
	assert_null(strcasestr(w->answer, "override"));
	assert_null(strcasestr(w->answer, "content_length"));
	assert_null(strcasestr(w->answer, "proxy"));
	assert_non_null(strcasestr(w->answer, "accept-encoding: identity"));
	assert_non_null(strcasestr(w->answer, "x-kept: yes"));
	assert_string_equal(next_record(w).reason, "credential-echoed");
	assert_string_equal(next_record(w).reason, "");
	assert_int_equal(w->n_asked, 1);
}

static void test_scrubs_across_chunks(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, "GET", "https://bound.test/chunked", "bound.test", AUTH), 200);
	assert_null(strstr(w->answer, "sk-real"));
	assert_null(strstr(w->answer, "8b7c6d5e"));
	assert_non_null(strstr(w->answer, "****************************"));
	assert_non_null(strstr(w->answer, "you sent "));
	assert_non_null(strstr(w->answer, " bye"));
	assert_string_equal(next_record(w).reason, "credential-echoed");
	/* In a field, and on another route than the credential's own. */
	assert_int_equal(ask(w, "GET", "https://open.test/header", "open.test", ""), 200);
	assert_non_null(strstr(w->answer, "X-Echo: Bearer ****************************\r\n"));
	assert_null(strcasestr(w->answer, "alt-svc"));
	assert_string_equal(next_record(w).reason, "credential-echoed");
	assert_int_equal(w->n_asked, 1);
}

static void test_open_and_plain(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, "GET", "https://open.test/echo", "open.test",
			     "Authorization: Bearer own\r\nAccept-Encoding: gzip\r\n"),
			 200);
	assert_non_null(strstr(w->answer, "Bearer own\r\n"));
	assert_non_null(strstr(w->answer, "gzip"));
	assert_int_equal(ask(w, "GET", "http://plain.test/echo", "plain.test", ""), 200);
	assert_non_null(strstr(w->answer, "GET /echo HTTP/1.1\r\n"));
	/* Its first address refuses the connection. */
	assert_int_equal(ask(w, "GET", "http://second.test/echo", "second.test", ""), 200);
	assert_int_equal(ask(w, "GET", "https://open.test/coded", "open.test", ""), 200);
	/* A redirect is passed on, never followed. */
	assert_int_equal(ask(w, "GET", "https://open.test/redirect", "open.test", ""), 302);
	assert_non_null(strstr(w->answer, "Location: https://evil.test/\r\n"));
	assert_string_equal(next_record(w).reason, "");
	assert_int_equal(w->n_asked, 0);
}

static void test_pools_by_credential(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 5; i++)
		assert_int_equal(ask(w, "GET", "https://bound.test/echo", "bound.test", AUTH), 200);
	assert_int_equal(atomic_load(&w->tls.n_connections), 1);
	for (int i = 0; i < 5; i++)
		assert_int_equal(ask(w, "GET", "https://open.test/echo", "open.test", ""), 200);
	assert_int_equal(atomic_load(&w->tls.n_connections), 2);
	assert_int_equal(w->n_asked, 1);
}

/* The first event is here before the upstream has sent the second one. */
static void test_streams(void **state)
{
	struct world *w = *state;
	int fd = connect_client(w);
	uint64_t start_ns = time_monotonic_ns();

	run_client(w, fd,
		   "GET https://bound.test/echo HTTP/1.1\r\nHost: bound.test\r\n" AUTH "\r\n");
	(void)next_record(w);
	run_part(w, fd, "GET https://bound.test/sse HTTP/1.1\r\nHost: bound.test\r\n" AUTH "\r\n",
		 1);
	while (w->answer_n > 0 && !strstr(w->answer, "first event"))
		run_part(w, fd, "", 1);
	assert_non_null(strstr(w->answer, "first event"));
	assert_null(strstr(w->answer, "second event"));
	assert_true(time_monotonic_ns() - start_ns < 3 * TIME_NS_PER_SEC);
	atomic_store(&w->tls.go, 1);
	do {
		run_part(w, fd, "", 1);
	} while (w->answer_n > 0 && !strstr(w->answer, "second event"));
	assert_non_null(strstr(w->answer, "second event"));
	(void)close(fd);
}

/* --- what does not --- */

static void test_refuses_by_policy(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, "GET", "https://evil.test/", "evil.test", ""), 403);
	assert_refused(w, 403, "host-not-allowed", RECORD_BLOCK);
	assert_int_equal(ask(w, "GET", "https://open.test:8443/", "open.test:8443", ""), 403);
	assert_refused(w, 403, "port-not-allowed", RECORD_BLOCK);
	assert_int_equal(ask(w, "DELETE", "https://open.test/", "open.test", ""), 403);
	assert_refused(w, 403, "method-not-allowed", RECORD_BLOCK);
	assert_int_equal(ask(w, "GET", "https://127.0.0.1/", "127.0.0.1", ""), 403);
	assert_refused(w, 403, "ip-literal", RECORD_BLOCK);
	assert_int_equal(ask(w, "GET", "https://open.test/a/../b", "open.test", ""), 403);
	assert_refused(w, 403, "path-syntax", RECORD_BLOCK);
	assert_int_equal(atomic_load(&w->tls.n_connections), 0);
}

static void test_refuses_credentials(void **state)
{
	struct world *w = *state;
	struct record r;

	assert_int_equal(ask(w, "GET", "https://bound.test/echo", "bound.test", ""), 403);
	assert_refused(w, 403, "placeholder-missing", RECORD_BLOCK);
	assert_int_equal(ask(w, "GET", "https://bound.test/echo", "bound.test",
			     "Authorization: Bearer attackers-own-key-123\r\n"),
			 403);
	assert_refused(w, 403, "placeholder-missing", RECORD_BLOCK);
	assert_int_equal(ask(w, "GET", "http://bound.test/echo", "bound.test", AUTH), 403);
	assert_refused(w, 403, "plain-http-credential", RECORD_BLOCK);
	assert_int_equal(ask(w, "GET", "https://open.test/echo", "open.test", AUTH), 403);
	assert_refused(w, 403, "placeholder-misplaced", RECORD_BLOCK);
	assert_int_equal(ask(w, "GET", "https://bound.test/echo?api_key=x", "bound.test", AUTH),
			 403);
	assert_refused(w, 403, "foreign-credential", RECORD_BLOCK);
	/* A client that shows its password only when it is asked for is asked. */
	assert_int_equal(ask(w, "GET", "https://git.test/info/refs", "git.test", ""), 401);
	assert_non_null(strstr(w->answer, "WWW-Authenticate: Basic realm=\"claude-bottle\"\r\n"));
	assert_non_null(strstr(w->answer, "Content-Type: application/json\r\n"));
	assert_refused(w, 401, "placeholder-missing", RECORD_BLOCK);
	assert_int_equal(ask(w, "GET", "https://git.test/info/refs", "git.test",
			     "Authorization: Basic YTpi\r\n"),
			 403);
	assert_refused(w, 403, "placeholder-missing", RECORD_BLOCK);
	/* What is recorded of a path holds no placeholder. */
	assert_int_equal(ask(w, "GET", "https://open.test/x/" PLACEHOLDER, "open.test", ""), 403);
	r = next_record(w);
	assert_string_equal(r.path, "/x/****************************");
	assert_string_equal(r.host, "open.test");
	assert_string_equal(r.method, "GET");
	assert_int_equal(r.port, 443);
	assert_int_equal(w->n_asked, 0);
	assert_int_equal(atomic_load(&w->tls.n_connections), 0);
	assert_int_equal(atomic_load(&w->plain.n_connections), 0);
}

/* The certificate is for other names. The credential must not have been sent before it was checked,
 * nor anything else. */
static void test_refuses_certificate(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, "GET", "https://wrong.example.net/echo", "wrong.example.net", ""),
			 502);
	assert_refused(w, 502, "upstream-certificate", RECORD_BLOCK);
	assert_int_equal(atomic_load(&w->tls.n_connections), 1);
	assert_int_equal(atomic_load(&w->tls.n_requests), 0);
}

static void test_refuses_inside(void **state)
{
	static const char *const hosts[] = {"mixed.dns.test", "mapped.dns.test",
					    "metadata.dns.test"};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		char url[128];

		(void)snprintf(url, sizeof(url), "https://%s/", hosts[i]);
		assert_int_equal(ask(w, "GET", url, hosts[i], ""), 403);
		assert_refused(w, 403, "inside-address", RECORD_BLOCK);
	}
	assert_int_equal(ask(w, "GET", "https://nx.dns.test/", "nx.dns.test", ""), 502);
	assert_refused(w, 502, "dns-no-address", RECORD_NOTE);
	assert_int_equal(ask(w, "GET", "https://silent.dns.test/", "silent.dns.test", ""), 504);
	assert_refused(w, 504, "dns-timeout", RECORD_NOTE);
	assert_int_equal(ask(w, "GET", "https://nobody.test/", "nobody.test", ""), 502);
	assert_refused(w, 502, "connect-failed", RECORD_NOTE);
	assert_int_equal(atomic_load(&w->tls.n_connections), 0);
}

static void test_refuses_answers(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, "GET", "https://bound.test/coded", "bound.test", AUTH), 502);
	assert_refused(w, 502, "coded-response", RECORD_BLOCK);
	assert_int_equal(ask(w, "GET", "https://bound.test/partial", "bound.test", AUTH), 502);
	assert_refused(w, 502, "partial-response", RECORD_BLOCK);
	assert_null(strstr(w->answer, "sk-re"));
	assert_int_equal(ask(w, "GET", "https://bound.test/silent", "bound.test", AUTH), 504);
	assert_refused(w, 504, "response-timeout", RECORD_NOTE);
	/* It ends early: whatever came through does not look complete. */
	(void)ask(w, "GET", "https://open.test/close", "open.test", "");
	assert_false(is_complete(w->answer, w->answer_n) && strstr(w->answer, " 200 "));
	assert_string_equal(next_record(w).reason, "upstream-closed-early");
}

/* Only sockets of the kind that pipelock makes are served. */
static void test_serves_unix_only(void **state)
{
	struct world *w = *state;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), file = open("/dev/null", O_RDONLY);

	egress_serve(w->egress, fd);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	egress_serve(w->egress, file);
	assert_int_equal(fcntl(file, F_GETFD), -1);
}

#define EGRESS_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EGRESS_TEST(test_swaps_and_scrubs),
		EGRESS_TEST(test_scrubs_across_chunks),
		EGRESS_TEST(test_open_and_plain),
		EGRESS_TEST(test_pools_by_credential),
		EGRESS_TEST(test_streams),
		EGRESS_TEST(test_refuses_by_policy),
		EGRESS_TEST(test_refuses_credentials),
		EGRESS_TEST(test_refuses_certificate),
		EGRESS_TEST(test_refuses_inside),
		EGRESS_TEST(test_refuses_answers),
		EGRESS_TEST(test_serves_unix_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
