/* The DNS sink: one name is answered, every other question is refused and reported; hostile bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "pipelock/dns_sink.c"

static struct sockaddr_storage pinned_v4(void)
{
	struct sockaddr_storage ss;

	assert_int_equal(dns_parse_pinned(&ss, "10.209.0.2", NULL), 0);
	return ss;
}

/* A query for a dotted name; the length. */
static size_t make_query(uint8_t *out, const char *name, unsigned type, unsigned class_)
{
	static const uint8_t head[12] = {0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0};
	struct str rest = str_of(name), label;
	size_t n = sizeof(head);
	bool found = true;

	memcpy(out, head, n);
	while (rest.n > 0 && found) {
		rest = str_cut(rest, '.', &label, &found);
		out[n++] = (uint8_t)label.n;
		memcpy(out + n, label.p, label.n);
		n += label.n;
	}
	out[n++] = 0;
	dns_put16(out + n, type);
	dns_put16(out + n + 2, class_);
	return n + 4;
}

static enum dns_sink_result ask(const void *m, size_t n, uint8_t *out, size_t *out_n,
				struct dns_sink_question *q)
{
	struct sockaddr_storage ss = pinned_v4();

	return dns_sink_reply(str_slice(m, n), &ss, out, out_n, q);
}

static void test_own_name(void **state)
{
	uint8_t m[300], out[DNS_SINK_REPLY_MAX];
	struct dns_sink_question q;
	size_t n = make_query(m, "Claude-Bottle", DNS_TYPE_A, 1), out_n;

	(void)state;
	assert_int_equal(ask(m, n, out, &out_n, &q), DNS_SINK_ANSWERED);
	assert_int_equal(out_n, n + 16);
	assert_int_equal(dns_u16(out), 0x1234);
	assert_int_equal(dns_u16(out + 2), 0x8500);
	assert_int_equal(dns_u16(out + 6), 1);
	assert_memory_equal(out + out_n - 4, "\x0a\xd1\x00\x02", 4);

	n = make_query(m, "bundle", DNS_TYPE_AAAA, 1);
	assert_int_equal(ask(m, n, out, &out_n, &q), DNS_SINK_ANSWERED);
	assert_int_equal(out_n, n);
	assert_int_equal(dns_u16(out + 2), 0x8500);
	assert_int_equal(dns_u16(out + 6), 0);
}

static void test_refused(void **state)
{
	static const char *const names[] = {"example.com", "bundle.example.com", "xbundle",
					    "c2VjcmV0.bundle", "localhost"};
	uint8_t m[300], out[DNS_SINK_REPLY_MAX];
	struct dns_sink_question q;
	size_t n, out_n;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		n = make_query(m, names[i], DNS_TYPE_A, 1);
		assert_int_equal(ask(m, n, out, &out_n, &q), DNS_SINK_REFUSED);
		assert_int_equal(dns_u16(out + 2) & 0xf, DNS_RCODE_REFUSED);
		assert_int_equal(dns_u16(out + 6), 0);
		assert_int_equal(out_n, n);
		assert_string_equal(q.name, names[i]);
	}
	/* CHAOS class: version.bind and its like. */
	n = make_query(m, "bundle", 16, 3);
	assert_int_equal(ask(m, n, out, &out_n, &q), DNS_SINK_REFUSED);
}

static void test_malformed(void **state)
{
	uint8_t m[DNS_SINK_QUERY_MAX + 8] = {0}, out[DNS_SINK_REPLY_MAX];
	struct dns_sink_question q;
	size_t n = make_query(m, "example.com", DNS_TYPE_A, 1), out_n;

	(void)state;
	/* Every truncation is an error or no question, and none reads past its end (ASan). */
	for (size_t i = 0; i < n; i++) {
		uint8_t *cut = malloc(i ? i : 1);

		memcpy(cut, m, i);
		assert_int_equal(ask(cut, i, out, &out_n, &q),
				 i < 12 ? DNS_SINK_DROP : DNS_SINK_FORMERR);
		free(cut);
	}
	m[2] |= 0x80; /* a response must never be answered */
	assert_int_equal(ask(m, n, out, &out_n, &q), DNS_SINK_DROP);
	assert_int_equal(out_n, 0);
	m[2] = 0x28; /* UPDATE */
	assert_int_equal(ask(m, n, out, &out_n, &q), DNS_SINK_NOTIMP);
	assert_int_equal(out_n, 12);
	m[2] = 1;
	m[5] = 2; /* two questions */
	assert_int_equal(ask(m, n, out, &out_n, &q), DNS_SINK_FORMERR);
	m[5] = 1;
	m[12] = 0xc0; /* compression pointer to itself */
	m[13] = 12;
	assert_int_equal(ask(m, n, out, &out_n, &q), DNS_SINK_FORMERR);
	assert_int_equal(ask(m, sizeof(m), out, &out_n, &q), DNS_SINK_DROP);
}

static void test_longest_name(void **state)
{
	uint8_t m[400], out[DNS_SINK_REPLY_MAX];
	struct dns_sink_question q;
	char name[300];
	size_t out_n, n;

	(void)state;
	/* 63+63+63+61: 254 octets of labels and their lengths, and the root: the most there may be.
	 */
	memset(name, 'a', sizeof(name));
	name[63] = name[127] = name[191] = '.';
	name[253] = '\0';
	n = make_query(m, name, DNS_TYPE_A, 1);
	assert_int_equal(ask(m, n, out, &out_n, &q), DNS_SINK_REFUSED);
	assert_int_equal(q.name_n, 253);
	name[253] = 'a';
	name[254] = '\0';
	n = make_query(m, name, DNS_TYPE_A, 1);
	assert_int_equal(ask(m, n, out, &out_n, &q), DNS_SINK_FORMERR);
}

struct seen {
	unsigned calls;
	uint64_t count;
	bool is_tcp;
	char name[256];
};

static void on_attempt(const struct dns_sink_attempt *a, void *ctx)
{
	struct seen *s = ctx;

	s->calls++;
	s->count += a->count;
	s->is_tcp = a->is_tcp;
	memcpy(s->name, a->question->name, sizeof(s->name));
}

static int bound_socket(int type, struct sockaddr_in *sin)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	socklen_t n = sizeof(*sin);

	*sin = (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(fd, (struct sockaddr *)sin, sizeof(*sin)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)sin, &n), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 64), 0);
	return fd;
}

struct stopper {
	struct loop_timer timer;
	struct loop *loop;
};

static void on_stop(struct loop_timer *t)
{
	loop_stop(((struct stopper *)t)->loop, 0);
}

static void run_for(struct loop *l, uint64_t ms)
{
	struct stopper s = {.timer = {.fn = on_stop}, .loop = l};

	loop_timer_set(l, &s.timer, ms);
	(void)loop_run(l);
}

/* A flood of questions costs one report at once and one a second later, with the count. */
static void test_flood(void **state)
{
	struct loop *l = loop_new(NULL);
	struct sockaddr_in to;
	_cleanup_close_ int udp = bound_socket(SOCK_DGRAM, &to);
	_cleanup_close_ int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct seen seen = {0};
	struct dns_sink *s = dns_sink_new(l, udp, -1, "10.209.0.2", on_attempt, &seen, NULL);
	uint8_t m[300], in[300];
	size_t n = make_query(m, "leak.example.com", DNS_TYPE_A, 1);

	(void)state;
	assert_non_null(s);
	assert_int_equal(connect(client, (struct sockaddr *)&to, sizeof(to)), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(write(client, m, n), n);
	run_for(l, 200);
	assert_int_equal(seen.calls, 1);
	assert_int_equal(seen.count, 1);
	assert_int_equal(read(client, in, sizeof(in)), n);
	assert_int_equal(dns_u16(in + 2) & 0xf, DNS_RCODE_REFUSED);
	run_for(l, 1100);
	assert_int_equal(seen.calls, 2);
	assert_int_equal(seen.count, 100);
	assert_string_equal(seen.name, "leak.example.com");
	dns_sink_free(s);
	loop_free(l);
}

static void test_tcp(void **state)
{
	struct loop *l = loop_new(NULL);
	struct sockaddr_in to;
	_cleanup_close_ int tcp = bound_socket(SOCK_STREAM, &to);
	struct seen seen = {0};
	struct dns_sink *s = dns_sink_new(l, -1, tcp, "10.209.0.2", on_attempt, &seen, NULL);
	int clients[DNS_SINK_TCP_MAX + 2];
	uint8_t m[600], in[600];
	size_t n = make_query(m + 2, "bundle", DNS_TYPE_A, 1), n2;

	(void)state;
	assert_non_null(s);
	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(clients[i], (struct sockaddr *)&to, sizeof(to)), 0);
	}
	dns_put16(m, (unsigned)n);
	n2 = make_query(m + 2 + n + 2, "a.example.com", DNS_TYPE_A, 1);
	dns_put16(m + 2 + n, (unsigned)n2);
	/* Both frames in two writes cut at an odd place. */
	assert_int_equal(write(clients[0], m, 1), 1);
	run_for(l, 30);
	assert_int_equal(write(clients[0], m + 1, n + n2 + 3), n + n2 + 3);
	run_for(l, 30);
	assert_int_equal(read(clients[0], in, sizeof(in)), 2 + n + 16 + 2 + n2);
	assert_int_equal(seen.calls, 1);
	assert_true(seen.is_tcp);
	/* A frame that announces more than the cap ends the connection. */
	assert_int_equal(write(clients[1], "\xff\xff", 2), 2);
	run_for(l, 30);
	assert_int_equal(read(clients[1], in, sizeof(in)), 0);
	/* Past the cap a connection is closed at once. */
	assert_int_equal(read(clients[ARRAY_LEN(clients) - 1], in, sizeof(in)), 0);
	for (size_t i = 0; i < ARRAY_LEN(clients); i++)
		(void)close(clients[i]);
	dns_sink_free(s);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_name),  cmocka_unit_test(test_refused),
		cmocka_unit_test(test_malformed), cmocka_unit_test(test_longest_name),
		cmocka_unit_test(test_flood),	  cmocka_unit_test(test_tcp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
