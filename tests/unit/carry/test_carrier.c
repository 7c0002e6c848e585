/* What is carried, and what becomes of it when one side floods, sleeps, leaves, or is not there. */
#include <setjmp.h>
#include <stdarg.h>

#include "carrier_world.h"

#include "base/io.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BIG_BYTES    (24u << 20)
#define BIG_CHUNK    60000
#define SLOW_MAX     (32u << 20) /* what the kernel's buffers of two connections may hold */
#define FLOOD	     40
#define FLOOD_LIMIT  4
#define SHORT_MS     150
#define MANY_SENDERS 150

static const struct carrier_limits ordinary = {0};

/* --- one connection --- */

static void test_half_close(void **state)
{
	struct world w;
	int listener, client, server;

	(void)state;
	world_start(&w, &ordinary);
	listener = world_listen(&w, 0, SOCK_STREAM, -1);
	world_pair(&w, listener, &client, &server);
	world_send(client, "question");
	assert_int_equal(shutdown(client, SHUT_WR), 0);
	world_expect(server, "question");
	world_expect_end(server);
	/* The other direction is as it was. */
	world_send(server, "first part, ");
	world_expect(client, "first part, ");
	world_send(server, "second part");
	(void)close(server);
	world_expect(client, "second part");
	world_expect_end(client);
	(void)close(client);
	/* And from the other side. */
	world_pair(&w, listener, &client, &server);
	assert_int_equal(shutdown(server, SHUT_WR), 0);
	world_expect_end(client);
	world_send(client, "still here");
	world_expect(server, "still here");
	(void)close(client);
	world_expect_end(server);
	(void)close(server);
	(void)close(listener);
	world_end(&w);
}

static void test_reset(void **state)
{
	struct world w;
	int listener, client, server;

	(void)state;
	world_start(&w, &ordinary);
	listener = world_listen(&w, 0, SOCK_STREAM, -1);
	world_pair(&w, listener, &client, &server);
	world_reset(server);
	world_expect_reset(client);
	(void)close(client);
	world_pair(&w, listener, &client, &server);
	world_reset(client);
	world_expect_reset(server);
	(void)close(server);
	(void)close(listener);
	world_end(&w);
}

/* --- nobody there --- */

static void test_nobody(void **state)
{
	struct world w;
	int client, server, listener;
	uint64_t begin;
	size_t before;

	(void)state;
	world_start(&w, &ordinary);
	before = world_files(&w);
	begin = time_monotonic_ns();
	for (int i = 0; i < 20; i++) {
		client = world_connect(&w, 0, SOCK_STREAM);
		world_expect_reset(client);
		(void)close(client);
	}
	assert_true(time_monotonic_ns() - begin < 1000 * TIME_NS_PER_MS);
	world_expect_files(&w, before);
	/* It comes, it goes. */
	listener = world_listen(&w, 0, SOCK_STREAM, -1);
	world_pair(&w, listener, &client, &server);
	(void)close(listener);
	(void)close(server);
	world_expect_end(client);
	(void)close(client);
	client = world_connect(&w, 0, SOCK_STREAM);
	world_expect_reset(client);
	(void)close(client);
	world_end(&w);
}

/* Whose backlog is full, to which the kernel answers nothing. */
static void test_silence(void **state)
{
	struct world w;
	int listener, clients[4];
	uint64_t begin;

	(void)state;
	world_start(&w, &(struct carrier_limits){.dial_ms = SHORT_MS});
	listener = world_listen(&w, 0, SOCK_STREAM, 0);
	for (size_t i = 0; i < 4; i++)
		clients[i] = world_connect(&w, 0, SOCK_STREAM);
	begin = time_monotonic_ns();
	world_expect_reset(clients[3]);
	assert_in_range((time_monotonic_ns() - begin) / TIME_NS_PER_MS, 0, 10 * SHORT_MS);
	for (size_t i = 0; i < 4; i++)
		(void)close(clients[i]);
	(void)close(listener);
	world_end(&w);
}

/* With the process the ports are closed, and what was under way ends. */
static void test_end(void **state)
{
	struct world w;
	struct sockaddr_in sa;
	int listener, client, server, late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	world_start(&w, &ordinary);
	listener = world_listen(&w, 0, SOCK_STREAM, -1);
	world_pair(&w, listener, &client, &server);
	assert_int_equal(kill(w.pid, SIGKILL), 0);
	assert_int_equal(waitpid(w.pid, NULL, 0), w.pid);
	assert_true(recv(client, (char[1]){0}, 1, 0) <= 0);
	assert_true(recv(server, (char[1]){0}, 1, 0) <= 0);
	sa = world_address(WORLD_FRONT, w.ports[0]);
	assert_int_equal(connect(late, (const struct sockaddr *)&sa, sizeof(sa)), -1);
	assert_int_equal(errno, ECONNREFUSED);
	(void)close(late);
	(void)close(client);
	(void)close(server);
	(void)close(listener);
}

/* --- much --- */

static char byte_at(size_t at)
{
	return (char)(at * 2654435761u >> 13);
}

/* Sends BIG_BYTES and reads as many, both at once. */
static void talk_big(int fd)
{
	static char chunk[BIG_CHUNK];
	size_t sent = 0, got = 0;

	assert_int_equal(io_set_nonblock(fd, true), 0);
	while (sent < BIG_BYTES || got < BIG_BYTES) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (sent < BIG_BYTES)
			p.events |= POLLOUT;
		assert_int_equal(poll(&p, 1, WORLD_WAIT_MS), 1);
		if (p.revents & POLLOUT) {
			size_t want = BIG_BYTES - sent < BIG_CHUNK ? BIG_BYTES - sent : BIG_CHUNK;

			for (size_t i = 0; i < want; i++)
				chunk[i] = byte_at(sent + i);
			n = send(fd, chunk, want, MSG_NOSIGNAL);
			sent += n > 0 ? (size_t)n : 0;
		}
		if (p.revents & POLLIN) {
			n = recv(fd, chunk, sizeof(chunk), 0);
			assert_true(n > 0);
			for (size_t i = 0; i < (size_t)n; i++)
				assert_true(chunk[i] == byte_at(got + i));
			got += (size_t)n;
		}
	}
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_int_equal(io_set_nonblock(fd, false), 0);
	world_expect_end(fd);
}

static void test_big(void **state)
{
	struct world w;
	int listener, client, server, status = 0;
	pid_t other;

	(void)state;
	world_start(&w, &ordinary);
	listener = world_listen(&w, 0, SOCK_STREAM, -1);
	world_pair(&w, listener, &client, &server);
	other = fork();
	assert_true(other >= 0);
	if (other == 0) {
		talk_big(server);
		_exit(0);
	}
	talk_big(client);
	assert_int_equal(waitpid(other, &status, 0), other);
	assert_int_equal(status, 0);
	(void)close(client);
	(void)close(server);
	(void)close(listener);
	world_end(&w);
}

/* What goes in until nothing more does. */
static size_t fill(int fd)
{
	static char chunk[BIG_CHUNK];
	size_t total = 0;

	assert_int_equal(io_set_nonblock(fd, true), 0);
	while (total < SLOW_MAX && io_wait(fd, POLLOUT, SHORT_MS) == 1) {
		ssize_t n = send(fd, chunk, sizeof(chunk), MSG_NOSIGNAL);

		assert_true(n > 0 || errno == EAGAIN);
		total += n > 0 ? (size_t)n : 0;
	}
	assert_int_equal(io_set_nonblock(fd, false), 0);
	return total;
}

static size_t drain(int fd)
{
	static char chunk[BIG_CHUNK];
	size_t total = 0;
	ssize_t n;

	while ((n = recv(fd, chunk, sizeof(chunk), 0)) > 0)
		total += (size_t)n;
	assert_int_equal(n, 0);
	return total;
}

/* It holds up whom it should read from, and nobody else; and loses nothing. */
static void test_slow_reader(void **state)
{
	struct world w;
	int listener, client, server, other_client, other_server;
	size_t filled;

	(void)state;
	world_start(&w, &ordinary);
	listener = world_listen(&w, 0, SOCK_STREAM, -1);
	world_pair(&w, listener, &client, &server);
	filled = fill(client);
	assert_in_range(filled, 1, SLOW_MAX - 1);
	world_pair(&w, listener, &other_client, &other_server);
	world_send(other_client, "a word");
	world_expect(other_server, "a word");
	/* Its own way back is open. */
	world_send(server, "not yet");
	world_expect(client, "not yet");
	assert_int_equal(shutdown(client, SHUT_WR), 0);
	assert_int_equal(drain(server), filled);
	(void)close(server);
	world_expect_end(client);
	(void)close(client);
	(void)close(other_client);
	(void)close(other_server);
	(void)close(listener);
	world_end(&w);
}

/* A listener's limit is its own, and a place that is free again is taken. */
static void test_flood(void **state)
{
	struct world w;
	int listener, second, clients[FLOOD], servers[FLOOD], client, server;

	(void)state;
	world_start(&w, &(struct carrier_limits){.connections = FLOOD_LIMIT});
	listener = world_listen(&w, 0, SOCK_STREAM, -1);
	second = world_listen(&w, 1, SOCK_STREAM, -1);
	for (size_t i = 0; i < FLOOD; i++)
		clients[i] = world_connect(&w, 0, SOCK_STREAM);
	for (size_t i = 0; i < FLOOD_LIMIT; i++)
		assert_true((servers[i] = world_accept(listener, WORLD_WAIT_MS)) >= 0);
	assert_int_equal(world_accept(listener, SHORT_MS), -1);
	client = world_connect(&w, 1, SOCK_STREAM);
	server = world_accept(second, WORLD_WAIT_MS);
	world_send(client, "let me through");
	world_expect(server, "let me through");
	(void)close(client);
	(void)close(server);
	/* In their order; nobody is lost. */
	for (size_t i = 0; i < FLOOD; i++) {
		if (i >= FLOOD_LIMIT)
			assert_true((servers[i] = world_accept(listener, WORLD_WAIT_MS)) >= 0);
		world_send(clients[i], "hello");
		world_expect(servers[i], "hello");
		(void)close(clients[i]);
		world_expect_end(servers[i]);
		(void)close(servers[i]);
	}
	(void)close(listener);
	(void)close(second);
	world_end(&w);
}

/* --- datagrams --- */

/* Answers one question in capitals. */
static void answer_one(int server)
{
	struct sockaddr_in from;
	socklen_t size = sizeof(from);
	char text[CARRIER_DATAGRAM_MAX + 1];
	ssize_t n = recvfrom(server, text, sizeof(text), 0, (struct sockaddr *)&from, &size);

	assert_true(n >= 0);
	for (ssize_t i = 0; i < n; i++)
		text[i] = (char)(text[i] & ~0x20);
	assert_int_equal(sendto(server, text, (size_t)n, 0, (const struct sockaddr *)&from, size),
			 n);
}

/* Each gets its own answer, and the table has an end. */
static void test_datagrams(void **state)
{
	struct world w;
	int server, clients[MANY_SENDERS];
	size_t before;

	(void)state;
	world_start(&w, &ordinary);
	server = world_listen(&w, 0, SOCK_DGRAM, -1);
	before = world_files(&w);
	for (size_t i = 0; i < MANY_SENDERS; i++) {
		const char text[] = {(char)('a' + i % 26), (char)('a' + i / 26), '\0'};
		const char answer[] = {(char)('A' + i % 26), (char)('A' + i / 26), '\0'};

		clients[i] = world_connect(&w, 0, SOCK_DGRAM);
		world_send(clients[i], text);
		answer_one(server);
		world_expect(clients[i], answer);
	}
	world_expect_files(&w, before + CARRIER_FLOWS_MAX);
	/* The first one's place is somebody else's by now; it gets another. */
	world_send(clients[0], "again");
	answer_one(server);
	world_expect(clients[0], "AGAIN");
	for (size_t i = 0; i < MANY_SENDERS; i++)
		(void)close(clients[i]);
	(void)close(server);
	world_end(&w);
}

static void test_datagram_sizes(void **state)
{
	static const char long_one[CARRIER_DATAGRAM_MAX + 1];
	struct world w;
	int server, client;
	char got[CARRIER_DATAGRAM_MAX + 1];

	(void)state;
	world_start(&w, &ordinary);
	server = world_listen(&w, 0, SOCK_DGRAM, -1);
	client = world_connect(&w, 0, SOCK_DGRAM);
	assert_int_equal(send(client, long_one, sizeof(long_one), 0), sizeof(long_one));
	assert_int_equal(send(client, long_one, CARRIER_DATAGRAM_MAX, 0), CARRIER_DATAGRAM_MAX);
	assert_int_equal(send(client, "", 0, 0), 0);
	assert_int_equal(recv(server, got, sizeof(got), 0), CARRIER_DATAGRAM_MAX);
	assert_int_equal(recv(server, got, sizeof(got), 0), 0);
	(void)close(client);
	(void)close(server);
	world_end(&w);
}

/* Silent ones make room; one that nobody took over there is asked anew. */
static void test_datagrams_pass(void **state)
{
	struct world w;
	int server, client;
	size_t before;

	(void)state;
	world_start(&w, &(struct carrier_limits){.flow_ms = SHORT_MS});
	before = world_files(&w);
	client = world_connect(&w, 0, SOCK_DGRAM);
	world_send(client, "nobody");
	(void)poll(NULL, 0, SHORT_MS / 2); /* to be carried into nothing */
	world_expect_files(&w, before);
	server = world_listen(&w, 0, SOCK_DGRAM, -1);
	world_send(client, "somebody");
	answer_one(server);
	world_expect(client, "SOMEBODY");
	world_expect_files(&w, before + 1);
	world_expect_files(&w, before);
	(void)close(client);
	(void)close(server);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_silence),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_big),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_datagram_sizes),
		cmocka_unit_test(test_datagrams_pass),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
