/*
 * A policy that changes while pipelock runs: a grant lets in at once, a revocation and a pause have
 * closed what they forbid when they are answered, and whatever else flows goes on flowing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"

#include "base/clean.h"
#include "base/timeutil.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

#define BOTH	    ((1u << POLICY_METHOD_GET) | (1u << POLICY_METHOD_POST))
#define TUNNELS_MAX 1000
#define BUSY	    2

static char host_open[] = "open.example.com", host_new[] = "new.example.com";
static char path_v1[] = "/v1/**";
static char *paths[] = {path_v1};
static struct policy_route routes[] = {
	{.host = host_open, .ports = {443, 80}, .n_ports = 2, .methods = BOTH},
};
static const struct policy policy = {.routes = routes, .n_routes = ARRAY_LEN(routes)};
static const struct policy_route grant = {.host = host_new,
					  .ports = {443, 80},
					  .n_ports = 2,
					  .methods = BOTH,
					  .paths = paths,
					  .n_paths = 1,
					  .grant = 7};
static struct world *w;
static char answer[64 << 10];
static int n_tunnels = 60; /* the figure is asked for with as many as the first argument says */

static int group_setup(void **state)
{
	(void)state;
	w = world_make(&policy);
	return w ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	world_free(w);
	return 0;
}

/* As the manifest says, and nothing recorded. */
static int each(void **state)
{
	(void)state;
	assert_true(world_renew(w, NULL, 0, false));
	world_records_drop(w);
	return 0;
}

#define GET(host, path) "GET " path " HTTP/1.1\r\nHost: " host "\r\n\r\n"

static int get(struct client *c, const char *request)
{
	return client_ask(c, request, answer, sizeof(answer));
}

static void assert_reason(const char *reason)
{
	char want[80];

	(void)snprintf(want, sizeof(want), "\"reason\":\"%s\"", reason);
	if (!strstr(answer, want))
		fail_msg("no %s in %s", want, answer);
}

static int connect_status(const char *authority)
{
	struct client c = client_open(w);
	char request[300];
	int status;

	(void)snprintf(request, sizeof(request), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n",
		       authority, authority);
	status = get(&c, request);
	client_close(&c);
	return status;
}

/* What the peer closes ends, and soon: a client waits 10 s for what does not. */
static void assert_ended(struct client *c)
{
	uint64_t start_ns = time_monotonic_ns();
	ssize_t n;

	do
		n = client_read(c, answer, sizeof(answer));
	while (n > 0);
	assert_true(time_monotonic_ns() - start_ns < 8 * TIME_NS_PER_SEC);
	client_close(c);
}

/* The first event of an answer that has more. */
static struct client stream_open(const char *host, bool is_plain)
{
	struct client c = is_plain ? client_open(w) : client_tunnel(w, host);
	char request[300];
	size_t n = 0;

	(void)snprintf(request, sizeof(request), "GET %s%s/v1/sse HTTP/1.1\r\nHost: %s\r\n\r\n",
		       is_plain ? "http://" : "", is_plain ? host : "", host);
	assert_true(client_send(&c, request, strlen(request)));
	assert_int_equal(client_events(&c, 1, answer, sizeof(answer), &n), 1);
	return c;
}

/* The egress of the world waits for each event to be seen: for n streams that nobody reads. */
static void streams_let_go(int n)
{
	for (int i = 0; i < 3 * n; i++)
		(void)sem_post(&w->go);
	(void)usleep(20000);
	while (sem_trywait(&w->go) == 0)
		;
}

static unsigned count_blocks(const char *reason)
{
	struct record r;
	unsigned n = 0;

	/* They are written before the news is answered, and before a refusal is sent. */
	while (recv(w->records_fd, &r, sizeof(r), MSG_DONTWAIT) == (ssize_t)sizeof(r))
		n += r.verdict == RECORD_BLOCK && strcmp(r.reason, reason) == 0;
	return n;
}

static void test_a_grant_lets_in(void **state)
{
	struct client c;

	(void)state;
	assert_int_equal(connect_status("new.example.com:443"), 403);
	assert_reason("host-not-allowed");
	assert_true(world_renew(w, &grant, 1, false));
	c = client_tunnel(w, host_new);
	assert_int_equal(get(&c, GET("new.example.com", "/v1/a")), 200);
	/* What was granted, and no more. */
	assert_int_equal(get(&c, GET("new.example.com", "/v2/a")), 403);
	assert_reason("path-not-allowed");
	client_close(&c);
}

/* Streams and a kept-alive tunnel go on over news that do not concern them. */
static void test_the_rest_is_undisturbed(void **state)
{
	struct client stream = client_tunnel(w, host_open), kept = client_tunnel(w, host_open);
	static const char request[] = GET("open.example.com", "/v1/sse");
	static char events[4096];
	size_t n = 0;

	(void)state;
	assert_true(client_send(&stream, request, strlen(request)));
	for (int seen = 1; seen <= 3; seen++) {
		assert_int_equal(client_events(&stream, seen, events, sizeof(events), &n), seen);
		for (int i = 0; i < 4; i++)
			assert_true(world_renew(w, &grant, i % 2 == 0, false));
		assert_int_equal(get(&kept, GET("open.example.com", "/v1/a")), 200);
		assert_int_equal(sem_post(&w->go), 0);
	}
	/* To its last chunk. */
	while (!strstr(events, "0\r\n\r\n")) {
		ssize_t got = client_read(&stream, events + n, sizeof(events) - n - 1);

		assert_true(got > 0);
		n += (size_t)got;
	}
	client_close(&stream);
	client_close(&kept);
}

/* A stream by a grant goes on for as long as the grant is there. */
static void test_a_stream_by_a_grant_goes_on(void **state)
{
	const struct policy_route both[] = {
		{.host = host_open, .ports = {8443}, .n_ports = 1, .methods = BOTH, .grant = 3},
		grant};
	struct client c;
	size_t n = 0;

	(void)state;
	assert_true(world_renew(w, &grant, 1, false));
	c = stream_open(host_new, false);
	assert_true(world_renew(w, both, 2, false));
	assert_int_equal(sem_post(&w->go), 0);
	assert_int_equal(client_events(&c, 1, answer, sizeof(answer), &n), 1);
	client_close(&c);
	streams_let_go(1);
}

static void test_a_revocation_closes(void **state)
{
	static const char half[] = "POST /v1/a HTTP/1.1\r\nHost: new.example.com\r\n"
				   "Content-Length: 9\r\n\r\nhalf";
	struct client idle, stream, plain, posts, bare, head, kept;

	(void)state;
	assert_true(world_renew(w, &grant, 1, false));
	kept = client_tunnel(w, host_open);
	idle = client_tunnel(w, host_new);
	assert_int_equal(get(&idle, GET("new.example.com", "/v1/a")), 200);
	stream = stream_open(host_new, false);
	plain = stream_open(host_new, true);
	posts = client_tunnel(w, host_new);
	assert_true(client_send(&posts, half, strlen(half)));
	head = client_tunnel(w, host_new);
	assert_true(client_send(&head, half, 20));
	bare = client_open(w);
	assert_int_equal(client_connect(&bare, "new.example.com:443"), 200);
	(void)usleep(20000); /* what was sent has arrived */
	world_records_drop(w);

	assert_true(world_renew(w, NULL, 0, false));
	assert_ended(&idle);
	assert_ended(&stream);
	assert_ended(&plain);
	assert_ended(&head);
	assert_ended(&bare);
	/* There is room for words where no answer had begun. */
	assert_int_equal(client_response(&posts, answer, sizeof(answer)), 403);
	assert_reason("host-not-allowed");
	assert_ended(&posts);
	assert_int_equal(get(&kept, GET("open.example.com", "/v1/a")), 200);
	client_close(&kept);
	assert_int_equal(connect_status("new.example.com:443"), 403);
	/* Two streams, the upload, the CONNECT without its TLS; and the new one. */
	assert_int_equal(count_blocks("host-not-allowed"), 5);
	streams_let_go(2);
}

/* A route that goes while another of its host stays: the tunnel may stay, its exchange may not. */
static void test_a_revocation_of_a_path(void **state)
{
	static char path_other[] = "/other";
	static char *other_paths[] = {path_other};
	struct policy_route other = grant;
	struct client stream, idle;

	(void)state;
	other.paths = other_paths;
	other.grant = 8;
	assert_true(world_renew(w, (struct policy_route[]){grant, other}, 2, false));
	stream = stream_open(host_new, false);
	idle = client_tunnel(w, host_new);
	assert_true(world_renew(w, &other, 1, false));
	assert_ended(&stream);
	assert_int_equal(get(&idle, GET("new.example.com", "/v1/a")), 403);
	assert_reason("path-not-allowed");
	assert_int_equal(get(&idle, GET("new.example.com", "/other")), 200);
	client_close(&idle);
	streams_let_go(1);
}

static void test_a_pause_ends_all(void **state)
{
	struct client idle, stream, plain, posts;
	static const char half[] = "POST /v1/a HTTP/1.1\r\nHost: open.example.com\r\n"
				   "Content-Length: 9\r\n\r\nhalf";

	(void)state;
	idle = client_tunnel(w, host_open);
	stream = stream_open(host_open, false);
	plain = stream_open(host_open, true);
	posts = client_tunnel(w, host_open);
	assert_true(client_send(&posts, half, strlen(half)));
	(void)usleep(20000);
	assert_true(world_renew(w, NULL, 0, true));
	assert_ended(&idle);
	assert_ended(&stream);
	assert_ended(&plain);
	assert_int_equal(client_response(&posts, answer, sizeof(answer)), 403);
	assert_reason("network-paused");
	assert_non_null(strstr(answer, "resume"));
	assert_ended(&posts);
	assert_int_equal(connect_status("open.example.com:443"), 403);
	assert_reason("network-paused");
	plain = client_open(w);
	assert_int_equal(get(&plain, "GET http://open.example.com/v1/a HTTP/1.1\r\n"
				     "Host: open.example.com\r\n\r\n"),
			 403);
	assert_reason("network-paused");
	client_close(&plain);
	assert_int_equal(count_blocks("network-paused"), 5);
	/* And back. */
	assert_true(world_renew(w, NULL, 0, false));
	idle = client_tunnel(w, host_open);
	assert_int_equal(get(&idle, GET("open.example.com", "/v1/a")), 200);
	client_close(&idle);
	streams_let_go(2);
}

/* Asks without a pause, until it is told to stop. */
static void *busy_run(void *stop)
{
	static const char request[] = GET("open.example.com", "/v1/a");
	struct client c = client_tunnel(w, host_open);
	char text[4096];

	while (!atomic_load((atomic_bool *)stop) &&
	       client_ask(&c, request, text, sizeof(text)) == 200)
		world_records_drop(w);
	client_close(&c);
	return NULL;
}

/* With many tunnels open, of which half are revoked, and others that are busy. */
static void test_many_tunnels(void **state)
{
	static struct client c[TUNNELS_MAX];
	uint64_t start_ns, renewed_ns, closed_ns;
	pthread_t busy[BUSY];
	atomic_bool stop = false;

	(void)state;
	assert_true(world_renew(w, &grant, 1, false));
	for (int i = 0; i < n_tunnels; i++)
		c[i] = client_tunnel(w, i % 2 ? host_new : host_open);
	for (int i = 0; i < BUSY; i++)
		assert_int_equal(pthread_create(&busy[i], NULL, busy_run, &stop), 0);
	(void)usleep(50000); /* they are under way */
	start_ns = time_monotonic_ns();
	assert_true(world_renew(w, &grant, 1, false));
	assert_int_equal(get(&c[1], GET("new.example.com", "/v1/a")), 200);
	renewed_ns = time_monotonic_ns() - start_ns;
	start_ns = time_monotonic_ns();
	assert_true(world_renew(w, NULL, 0, false));
	closed_ns = time_monotonic_ns() - start_ns;
	atomic_store(&stop, true);
	for (int i = 0; i < BUSY; i++)
		assert_int_equal(pthread_join(busy[i], NULL), 0);
	for (int i = 0; i < n_tunnels; i++) {
		if (i % 2) {
			assert_ended(&c[i]);
			continue;
		}
		assert_int_equal(get(&c[i], GET("open.example.com", "/v1/a")), 200);
		client_close(&c[i]);
		world_records_drop(w);
	}
	(void)printf(
		"with %d tunnels and %d that are busy: %llu us to a request by the new policy, "
		"%llu us to close "
		"half\n",
		n_tunnels, BUSY, (unsigned long long)renewed_ns / 1000,
		(unsigned long long)closed_ns / 1000);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_grant_lets_in, each),
		cmocka_unit_test_setup(test_the_rest_is_undisturbed, each),
		cmocka_unit_test_setup(test_a_stream_by_a_grant_goes_on, each),
		cmocka_unit_test_setup(test_a_revocation_closes, each),
		cmocka_unit_test_setup(test_a_revocation_of_a_path, each),
		cmocka_unit_test_setup(test_a_pause_ends_all, each),
		cmocka_unit_test_setup(test_many_tunnels, each),
	};

	if (argc > 1)
		n_tunnels = (int)strtol(argv[1], NULL, 10);
	if (n_tunnels < 2 || n_tunnels > TUNNELS_MAX)
		return 2;
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
