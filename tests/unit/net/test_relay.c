/*
 * The relay's promises to its owner: LATER, time-outs, caps, back-pressure, one on_done for each
 * exchange, no allocation once warm. What bytes look like is tests/wire/'s matter.
 */
#include "net/relay.h"

#include "base/clean.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

/* Counted through the linker's --wrap, so only calls from our own code. */
static unsigned n_allocations;
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
	n_allocations++;
	return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	n_allocations++;
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	n_allocations++;
	return __real_realloc(p, n);
}

struct world {
	struct loop *loop;
	struct relay *relay;
	struct loop_timer stop;
	int client, upstream;
	char in[1 << 20];
	struct relay_exchange *x; /* the last that on_request saw */
	enum relay_step request_step, response_step;
	enum relay_data data_step;
	enum relay_dial dial_step;
	bool breaks_promise, uses_tcp, is_unpooled;
	uint16_t ports[2]; /* of the addresses to dial, in this order */
	unsigned n_dials, n_data;
	char outcomes[512];
};

static enum relay_step on_request(struct relay_exchange *x)
{
	struct world *w = relay_ctx(x->relay);

	w->x = x;
	x->is_unpooled = w->is_unpooled;
	return w->request_step;
}

static enum relay_data on_request_data(struct relay_exchange *x, struct str in, bool is_last,
				       struct buf *out)
{
	struct world *w = relay_ctx(x->relay);

	(void)out;
	(void)in;
	if (w->data_step == RELAY_DATA_LATER && is_last && w->n_data++ == 0)
		return RELAY_DATA_LATER;
	if (w->data_step == RELAY_DATA_LATER)
		return buf_append_str(out, STR_LIT("judged")) == 0 ? RELAY_DATA_OK
								   : RELAY_DATA_REFUSE;
	return w->data_step;
}

static enum relay_step on_response(struct relay_exchange *x)
{
	struct world *w = relay_ctx(x->relay);

	x->res_keeps_length = true;
	return w->response_step;
}

static enum relay_data on_response_data(struct relay_exchange *x, struct str in, bool is_last,
					struct buf *out)
{
	struct world *w = relay_ctx(x->relay);

	(void)is_last;
	if (w->breaks_promise)
		return buf_append_str(out, STR_LIT("more than was promised")) == 0
			       ? RELAY_DATA_OK
			       : RELAY_DATA_REFUSE;
	return buf_append_str(out, in) == 0 ? RELAY_DATA_OK : RELAY_DATA_REFUSE;
}

static enum relay_dial dial_tcp(struct world *w, unsigned attempt, struct relay_back_spec *spec)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	if (attempt >= 2 || w->ports[attempt] == 0)
		return RELAY_DIAL_NONE;
	to.sin_port = htons(w->ports[attempt]);
	spec->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	(void)connect(spec->fd, (struct sockaddr *)&to, sizeof(to));
	spec->is_connecting = true;
	return RELAY_DIAL_NOW;
}

static int pair(int *theirs)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
			 0);
	*theirs = fds[1];
	return fds[0];
}

static enum relay_dial dial(struct relay_exchange *x, unsigned attempt,
			    struct relay_back_spec *spec)
{
	struct world *w = relay_ctx(x->relay);

	w->n_dials++;
	if (w->uses_tcp)
		return dial_tcp(w, attempt, spec);
	if (w->dial_step == RELAY_DIAL_NOW) {
		close_fd(&w->upstream);
		w->upstream = pair(&spec->fd);
	}
	return w->dial_step;
}

static void on_done(struct relay_exchange *x, const struct relay_result *r)
{
	struct world *w = relay_ctx(x->relay);
	size_t n = strlen(w->outcomes);

	(void)snprintf(w->outcomes + n, sizeof(w->outcomes) - n, "%s/%s ",
		       relay_outcome_name(r->outcome), r->reason);
	if (w->x == x)
		w->x = NULL;
}

static const struct relay_ops ops = {
	.on_request = on_request,
	.on_request_data = on_request_data,
	.dial = dial,
	.on_response = on_response,
	.on_response_data = on_response_data,
	.on_done = on_done,
};

static void on_stop(struct loop_timer *t)
{
	struct world *w = (struct world *)(void *)((char *)t - offsetof(struct world, stop));

	loop_stop(w->loop, 0);
}

static void spin(struct world *w, uint64_t ms)
{
	loop_timer_set(w->loop, &w->stop, ms);
	(void)loop_run(w->loop);
}

static void world_start(struct world *w, struct relay_config config)
{
	struct err e = ERR_INIT;
	int theirs;

	relay_free(w->relay);
	close_fd(&w->client);
	close_fd(&w->upstream);
	w->outcomes[0] = '\0';
	w->n_dials = w->n_data = 0;
	config.accept = RELAY_ACCEPT_ORIGIN;
	assert_int_equal(relay_new(&w->relay, w->loop, &config, &ops, w, &e), 0);
	w->client = pair(&theirs);
	assert_non_null(relay_front_add(w->relay, theirs));
}

static int world_new(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct err e = ERR_INIT;

	w->loop = loop_new(&e);
	w->stop.fn = on_stop;
	w->client = w->upstream = -1;
	w->data_step = RELAY_DATA_PASS;
	world_start(w, (struct relay_config){0});
	*state = w;
	return 0;
}

static int world_free(void **state)
{
	struct world *w = *state;

	relay_free(w->relay);
	loop_free(w->loop);
	close_fd(&w->client);
	close_fd(&w->upstream);
	free(w);
	return 0;
}

static void say(struct world *w, int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	spin(w, 3);
}

/* What has come by now. */
static const char *hear(struct world *w, int fd)
{
	ssize_t n = recv(fd, w->in, sizeof(w->in) - 1, 0);

	w->in[n > 0 ? n : 0] = '\0';
	return w->in;
}

#define GET    "GET / HTTP/1.1\r\nHost: up.test\r\n\r\n"
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
#define STATUS(w, code)                                                                            \
	do {                                                                                       \
		(void)hear(w, (w)->client);                                                        \
		assert_memory_equal((w)->in, "HTTP/1.1 " code, 12);                                \
	} while (0)

/* An owner that answers itself, and has nothing to say beside its fields. */
static void test_empty_answer(void **state)
{
	struct world *w = *state;

	w->request_step = RELAY_LATER;
	say(w, w->client, GET);
	relay_refuse_fields(w->x, 202, "taken", STR_LIT("X-A: b\r\n"), STR_NULL);
	spin(w, 3);
	assert_string_equal(hear(w, w->client),
			    "HTTP/1.1 202 Accepted\r\nX-A: b\r\nContent-Length: 0\r\n\r\n");
	assert_string_equal(w->outcomes, "refused/taken ");
}

static void test_request_later(void **state)
{
	struct world *w = *state;

	w->request_step = RELAY_LATER;
	say(w, w->client, GET);
	assert_non_null(w->x);
	assert_int_equal(w->n_dials, 0);
	relay_continue(w->x);
	spin(w, 3);
	assert_string_equal(hear(w, w->upstream), GET);
	say(w, w->upstream, ANSWER);
	assert_string_equal(hear(w, w->client), ANSWER);
	say(w, w->client, GET);
	relay_refuse(w->x, 403, "no", STR_LIT("{}"));
	spin(w, 3);
	STATUS(w, "403");
	say(w, w->client, GET);
	close_fd(&w->client);
	spin(w, 3);
	assert_null(w->x);
	assert_string_equal(w->outcomes, "done/ok refused/no client-closed/client-closed ");
}

static void test_data_later(void **state)
{
	struct world *w = *state;

	w->data_step = RELAY_DATA_LATER;
	say(w, w->client, "POST / HTTP/1.1\r\nHost: up.test\r\nContent-Length: 3\r\n\r\nabc");
	assert_int_equal(w->n_dials, 0);
	relay_continue(w->x);
	spin(w, 3);
	assert_string_equal(hear(w, w->upstream),
			    "POST / HTTP/1.1\r\nHost: up.test\r\nContent-Length: 6\r\n\r\njudged");
	say(w, w->upstream, ANSWER);
	assert_string_equal(hear(w, w->client), ANSWER);
}

static void test_response_later(void **state)
{
	struct world *w = *state;

	w->response_step = RELAY_LATER;
	say(w, w->client, GET);
	say(w, w->upstream, ANSWER);
	assert_string_equal(hear(w, w->client), "");
	relay_continue(w->x);
	spin(w, 3);
	assert_string_equal(hear(w, w->client), ANSWER);
	assert_string_equal(w->outcomes, "done/ok ");
}

static void test_dial_later(void **state)
{
	struct world *w = *state;
	struct relay_back_spec spec = {.fd = -1};

	w->dial_step = RELAY_DIAL_LATER;
	say(w, w->client, GET);
	w->upstream = pair(&spec.fd);
	relay_dial_done(w->x, &spec, NULL);
	spin(w, 3);
	assert_string_equal(hear(w, w->upstream), GET);
	say(w, w->upstream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
	assert_string_equal(hear(w, w->client), ANSWER);
	say(w, w->client, GET);
	spec.fd = -1;
	relay_dial_done(w->x, &spec, "no-such-name");
	spin(w, 3);
	STATUS(w, "502");
	assert_string_equal(w->outcomes, "done/ok dial-failed/no-such-name ");
}

static void test_timeouts(void **state)
{
	struct world *w = *state;

	world_start(w, (struct relay_config){.head_ms = 20});
	say(w, w->client, "GET / HT");
	spin(w, 60);
	STATUS(w, "408");
	assert_string_equal(w->outcomes, "timed-out/head-timeout ");
	world_start(w, (struct relay_config){.body_ms = 20});
	say(w, w->client, "POST / HTTP/1.1\r\nHost: up.test\r\nContent-Length: 30\r\n\r\n");
	spin(w, 60);
	STATUS(w, "408");
	assert_string_equal(w->outcomes, "timed-out/body-timeout ");
	world_start(w, (struct relay_config){.response_ms = 20});
	say(w, w->client, GET);
	spin(w, 60);
	STATUS(w, "504");
	assert_string_equal(w->outcomes, "timed-out/response-timeout ");
	world_start(w, (struct relay_config){.stream_ms = 20});
	say(w, w->client, GET);
	say(w, w->upstream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi");
	spin(w, 60);
	assert_string_equal(w->outcomes, "timed-out/stream-timeout ");
	w->dial_step = RELAY_DIAL_LATER;
	world_start(w, (struct relay_config){.dial_ms = 20});
	say(w, w->client, GET);
	spin(w, 60);
	STATUS(w, "504");
	assert_string_equal(w->outcomes, "timed-out/dial-timeout ");
	w->request_step = RELAY_LATER;
	world_start(w, (struct relay_config){.later_ms = 20});
	say(w, w->client, GET);
	spin(w, 60);
	STATUS(w, "503");
	assert_string_equal(w->outcomes, "timed-out/owner-timeout ");
	world_start(w, (struct relay_config){.idle_ms = 20});
	spin(w, 60);
	assert_int_equal(recv(w->client, w->in, 1, 0), 0);
	assert_string_equal(w->outcomes, "");
}

#define BIG 33554432u

static size_t piece(size_t sent)
{
	return BIG - sent < 65536 ? BIG - sent : 65536;
}

static void test_front_that_does_not_read(void **state)
{
	struct world *w = *state;
	size_t sent = 0, got = 0;
	static char data[65536];
	ssize_t n;

	say(w, w->client, GET);
	say(w, w->upstream, "HTTP/1.1 200 OK\r\nContent-Length: 33554432\r\n\r\n");
	for (int i = 0; i < 50; i++) {
		while (sent < BIG && (n = send(w->upstream, data, piece(sent), 0)) > 0)
			sent += (size_t)n;
		spin(w, 1);
	}
	/* Two socket buffers and what the relay holds. */
	assert_in_range(sent, 65536, 4u << 20);
	while (got < BIG + 45) {
		while ((n = recv(w->client, w->in, sizeof(w->in), 0)) > 0)
			got += (size_t)n;
		while (sent < BIG && (n = send(w->upstream, data, piece(sent), 0)) > 0)
			sent += (size_t)n;
		spin(w, 0);
	}
	assert_int_equal(sent, BIG);
	spin(w, 3);
	assert_string_equal(w->outcomes, "done/ok ");
}

static void test_back_that_does_not_read(void **state)
{
	struct world *w = *state;
	size_t sent = 0;
	static char data[65536];
	ssize_t n;

	say(w, w->client, "POST / HTTP/1.1\r\nHost: up.test\r\nContent-Length: 33554432\r\n\r\n");
	for (int i = 0; i < 50; i++) {
		while (sent < BIG && (n = send(w->client, data, piece(sent), 0)) > 0)
			sent += (size_t)n;
		spin(w, 1);
	}
	assert_in_range(sent, 65536, 4u << 20);
	close_fd(&w->upstream);
	spin(w, 3);
	STATUS(w, "502");
	assert_string_equal(w->outcomes, "upstream-closed/upstream-closed ");
}

static void test_broken_promise(void **state)
{
	struct world *w = *state;

	w->breaks_promise = true;
	say(w, w->client, GET);
	say(w, w->upstream, ANSWER);
	STATUS(w, "502");
	assert_string_equal(w->outcomes, "refused/internal ");
	/* The head has gone already: the connection ends. */
	say(w, w->client, GET);
	say(w, w->upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
	STATUS(w, "200");
	say(w, w->upstream, "hi");
	assert_string_equal(hear(w, w->client), "");
	assert_int_equal(recv(w->client, w->in, 1, 0), 0);
	assert_string_equal(w->outcomes, "refused/internal refused/internal ");
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in a;
	socklen_t n = sizeof(a);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	return ntohs(a.sin_port);
}

static void test_addresses(void **state)
{
	struct world *w = *state;
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int dead = socket(AF_INET, SOCK_STREAM, 0), alive = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(dead, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(bind(alive, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(listen(alive, 5), 0);
	w->uses_tcp = true;
	w->ports[0] = port_of(dead);
	say(w, w->client, GET);
	spin(w, 10);
	STATUS(w, "502");
	assert_string_equal(w->outcomes, "dial-failed/connection-refused ");
	w->ports[1] = port_of(alive);
	say(w, w->client, GET);
	spin(w, 10);
	w->upstream = accept4(alive, NULL, NULL, SOCK_NONBLOCK);
	assert_string_equal(hear(w, w->upstream), GET);
	say(w, w->upstream, ANSWER);
	assert_string_equal(hear(w, w->client), ANSWER);
	(void)close(dead);
	(void)close(alive);
}

static void test_caps(void **state)
{
	struct world *w = *state;
	int one, two, theirs;

	w->is_unpooled = true;
	world_start(w, (struct relay_config){.fronts_max = 2, .backs_max = 1});
	one = pair(&theirs);
	assert_non_null(relay_front_add(w->relay, theirs));
	two = pair(&theirs);
	assert_null(relay_front_add(w->relay, theirs));
	assert_int_equal(recv(two, w->in, 1, 0), 0);
	say(w, one, GET);
	say(w, w->client, GET);
	STATUS(w, "503");
	assert_string_equal(w->outcomes, "dial-failed/too-many-upstream-connections ");
	(void)close(one);
	(void)close(two);
	spin(w, 3);
	assert_int_equal(relay_front_count(w->relay), 1);
	assert_int_equal(relay_back_count(w->relay), 0);
}

/* At the cap, what was idle for a second goes for what comes; what is in use does not. */
static void test_idle_makes_room(void **state)
{
	struct world *w = *state;
	int one, two, three, theirs;

	world_start(w, (struct relay_config){.fronts_max = 2});
	one = pair(&theirs);
	assert_non_null(relay_front_add(w->relay, theirs));
	two = pair(&theirs);
	assert_null(relay_front_add(w->relay, theirs));
	(void)close(two);
	say(w, w->client, "GET / HT");
	spin(w, 1100);
	two = pair(&theirs);
	assert_non_null(relay_front_add(w->relay, theirs));
	assert_int_equal(relay_front_count(w->relay), 2);
	assert_int_equal(recv(one, w->in, 1, 0), 0);
	three = pair(&theirs);
	assert_null(relay_front_add(w->relay, theirs));
	(void)close(one);
	(void)close(two);
	(void)close(three);
	spin(w, 3);
	assert_int_equal(relay_front_count(w->relay), 1);
}

static void test_pool(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 3; i++) {
		say(w, w->client, GET);
		say(w, w->upstream, ANSWER);
		assert_string_equal(hear(w, w->client), ANSWER);
	}
	assert_int_equal(w->n_dials, 1);
	assert_int_equal(relay_back_count(w->relay), 1);
	relay_backs_drop(w->relay, STR_LIT("http://other"));
	assert_int_equal(relay_back_count(w->relay), 1);
	relay_backs_drop(w->relay, STR_LIT("http://up.test:80"));
	assert_int_equal(relay_back_count(w->relay), 0);
	/* An idle back that speaks is not trusted any more. */
	say(w, w->client, GET);
	say(w, w->upstream, ANSWER);
	say(w, w->upstream, ANSWER);
	assert_int_equal(relay_back_count(w->relay), 0);
}

static void test_shutdown(void **state)
{
	struct world *w = *state;

	say(w, w->client, GET);
	relay_free(w->relay);
	w->relay = NULL;
	assert_string_equal(w->outcomes, "shutdown/closed ");
	assert_int_equal(recv(w->client, w->in, 1, 0), 0);
}

static void test_no_allocation(void **state)
{
	static const char post[] =
		"POST / HTTP/1.1\r\nHost: up.test\r\nContent-Length: 3\r\n\r\nabc";
	struct world *w = *state;
	unsigned before = 0;

	for (int i = 0; i < 50; i++) {
		if (i == 5)
			before = n_allocations;
		say(w, w->client, i % 2 ? GET : post);
		(void)hear(w, w->upstream);
		say(w, w->upstream, ANSWER);
		assert_string_equal(hear(w, w->client), ANSWER);
	}
	assert_true(before > 0);
	assert_int_equal(n_allocations, before);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, world_new, world_free)
	static const struct CMUnitTest tests[] = {
		T(test_empty_answer),
		T(test_request_later),
		T(test_data_later),
		T(test_response_later),
		T(test_dial_later),
		T(test_timeouts),
		T(test_front_that_does_not_read),
		T(test_back_that_does_not_read),
		T(test_broken_promise),
		T(test_addresses),
		T(test_caps),
		T(test_idle_makes_room),
		T(test_pool),
		T(test_shutdown),
		T(test_no_allocation),
	};
#undef T

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
