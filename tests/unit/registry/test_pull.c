/* The registry on a socket: bytes in, and exactly what comes out; and those who take their time. */
#include "image.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"
#include "registry/pull.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define HEAD_MS 300
#define IDLE_MS 1200
#define SEND_MS 1000

struct world {
	struct image image;
	int listener;
	struct sockaddr_in at;
	pid_t server;
};

static _Noreturn void serve(struct world *w)
{
	const struct pull_limits limits = {
		.head_ms = HEAD_MS, .idle_ms = IDLE_MS, .send_ms = SEND_MS};
	struct err e = ERR_INIT;
	struct loop *l = loop_new(&e);
	struct blobs blobs;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!l || blobs_parse(&blobs, 6, w->image.argv, &e) < 0 ||
	    pull_listen(pull_new(l, &blobs, &limits), w->listener, &e) < 0)
		_exit(1);
	_exit(loop_run(l));
}

static int setup(void **state)
{
	struct world *w = mem_zalloc(sizeof(*w));
	socklen_t size = sizeof(w->at);

	image_make(&w->image);
	w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	w->at = (struct sockaddr_in){.sin_family = AF_INET,
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(w->listener, (struct sockaddr *)&w->at, sizeof(w->at)), 0);
	assert_int_equal(listen(w->listener, 128), 0);
	assert_int_equal(getsockname(w->listener, (struct sockaddr *)&w->at, &size), 0);
	w->server = fork();
	assert_true(w->server >= 0);
	if (w->server == 0)
		serve(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	(void)kill(w->server, SIGKILL);
	(void)waitpid(w->server, NULL, 0);
	close_fd(&w->listener);
	image_free(&w->image);
	free(w);
	return 0;
}

static int dial(struct world *w)
{
	const struct timeval patience = {.tv_sec = 5};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&w->at, sizeof(w->at)), 0);
	return fd;
}

static void say(int fd, struct str s)
{
	assert_int_equal(send(fd, s.p, s.n, MSG_NOSIGNAL), (ssize_t)s.n);
}

/* Until the other side hangs up, or n bytes are there. */
static size_t hear(int fd, char *p, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = recv(fd, p + got, n - got, 0);

		if (r <= 0) {
			assert_true(r == 0 || errno == ECONNRESET);
			break;
		}
		got += (size_t)r;
	}
	return got;
}

/* All that comes in answer to these bytes, on a connection of their own. */
static const char *ask(struct world *w, struct str request)
{
	static char answer[8192];
	_cleanup_close_ int fd = dial(w);

	say(fd, request);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	answer[hear(fd, answer, sizeof(answer) - 1)] = '\0';
	return answer;
}

#define API    "Docker-Distribution-API-Version: registry/2.0\r\n"
#define TO     " HTTP/1.1\r\nHost: 10.209.0.2:5000\r\n"
#define LAST   TO "Connection: close\r\n"
#define CLOSED "Connection: close\r\n"
#define JSON   API "Content-Type: application/json\r\n"
#define BYTES  API "Content-Type: application/octet-stream\r\n"
#define SMALL  "Docker-Content-Digest: " SMALL_DIGEST "\r\nAccept-Ranges: bytes\r\n"
#define IMAGE  "/v2/" IMAGE_NAME

static void answers(void **state)
{
	static const struct {
		const char *request, *answer;
	} cases[] = {
		{"GET /v2/" LAST "\r\n",
		 "HTTP/1.1 200 OK\r\n" JSON "Content-Length: 2\r\n" CLOSED "\r\n{}"},
		{"HEAD /v2/" LAST "\r\n",
		 "HTTP/1.1 200 OK\r\n" JSON "Content-Length: 2\r\n" CLOSED "\r\n"},
		{"GET " IMAGE "/manifests/" IMAGE_TAG LAST
		 "Accept: application/vnd.oci.image.manifest.v1+json\r\n\r\n",
		 "HTTP/1.1 200 OK\r\n" API
		 "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n"
		 "Docker-Content-Digest: " MANIFEST_DIGEST "\r\nAccept-Ranges: bytes\r\n"
		 "Content-Length: 19\r\n" CLOSED "\r\n" IMAGE_MANIFEST},
		{"HEAD " IMAGE "/manifests/" MANIFEST_DIGEST LAST "\r\n",
		 "HTTP/1.1 200 OK\r\n" API
		 "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n"
		 "Docker-Content-Digest: " MANIFEST_DIGEST "\r\nAccept-Ranges: bytes\r\n"
		 "Content-Length: 19\r\n" CLOSED "\r\n"},
		{"GET " IMAGE "/blobs/" SMALL_DIGEST LAST "\r\n",
		 "HTTP/1.1 200 OK\r\n" BYTES SMALL "Content-Length: 10\r\n" CLOSED
		 "\r\n0123456789"},
		{"HEAD " IMAGE "/blobs/" SMALL_DIGEST LAST "Range: bytes=3-4\r\n\r\n",
		 "HTTP/1.1 200 OK\r\n" BYTES SMALL "Content-Length: 10\r\n" CLOSED "\r\n"},
		{"GET " IMAGE "/blobs/" SMALL_DIGEST LAST "Range: bytes=3-4\r\n\r\n",
		 "HTTP/1.1 206 Partial Content\r\n" BYTES "Content-Range: bytes 3-4/10\r\n" SMALL
		 "Content-Length: 2\r\n" CLOSED "\r\n34"},
		{"GET " IMAGE "/blobs/" SMALL_DIGEST LAST
		 "Range: bytes=3-4\r\nIf-Range: \"x\"\r\n\r\n",
		 "HTTP/1.1 200 OK\r\n" BYTES SMALL "Content-Length: 10\r\n" CLOSED
		 "\r\n0123456789"},
		{"GET " IMAGE "/blobs/" SMALL_DIGEST LAST
		 "Range: bytes=3-4\r\nRange: bytes=5-6\r\n\r\n",
		 "HTTP/1.1 200 OK\r\n" BYTES SMALL "Content-Length: 10\r\n" CLOSED
		 "\r\n0123456789"},
		{"GET " IMAGE "/blobs/" NO_DIGEST LAST "\r\n",
		 "HTTP/1.1 404 Not Found\r\n" JSON "Content-Length: 72\r\n" CLOSED
		 "\r\n{\"errors\":[{\"code\":\"BLOB_UNKNOWN\","
		 "\"message\":\"no blob of this digest\"}]}\n"},
		{"HEAD " IMAGE "/blobs/" NO_DIGEST LAST "\r\n",
		 "HTTP/1.1 404 Not Found\r\n" JSON "Content-Length: 72\r\n" CLOSED "\r\n"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(ask(*state, str_of(cases[i].request)), cases[i].answer);
}

static void refusals(void **state)
{
	static const struct {
		struct str request;
		const char *status, *code;
	} cases[] = {
#define ASK(text, status, code) {STR_LIT(text), status, code}
		ASK("POST " IMAGE "/blobs/uploads/" LAST "\r\n", "405 Meth", "UNSUPPORTED"),
		ASK("PUT " IMAGE "/manifests/x" LAST "Content-Length: 2\r\n\r\n{}", "400 Bad",
		    "no request here has a body"),
		ASK("DELETE " IMAGE "/manifests/" IMAGE_TAG LAST "\r\n", "405 Meth", "UNSUPPORTED"),
		ASK("OPTIONS /v2/" LAST "\r\n", "405 Meth", "UNSUPPORTED"),
		ASK("PATCH /v2/" LAST "\r\n", "405 Meth", "UNSUPPORTED"),
		ASK("GET /v2/" TO "Content-Length: 4\r\n\r\nGET ", "400 Bad", "body"),
		ASK("GET /v2/" TO "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 Bad", "body"),
		ASK("GET /v2/?n=1" LAST "\r\n", "400 Bad", "a path, and nothing else"),
		ASK("GET http://10.209.0.2:5000/v2/" LAST "\r\n", "400 Bad", "a path"),
		ASK("CONNECT 10.209.0.2:5000 HTTP/1.1\r\nHost: 10.209.0.2:5000\r\n\r\n", "400 Bad",
		    "a path"),
		ASK("GET " IMAGE "/manifests/other" LAST "\r\n", "404 Not", "MANIFEST_UNKNOWN"),
		ASK("GET /v2/other/manifests/" IMAGE_TAG LAST "\r\n", "404 Not", "NAME_UNKNOWN"),
		ASK("GET " IMAGE "/blobs/sha256:1" LAST "\r\n", "400 Bad", "DIGEST_INVALID"),
		ASK("GET /v2/../../etc/passwd" LAST "\r\n", "404 Not", "nothing is here"),
		ASK("GET /%2e%2e/%2e%2e/etc/passwd" LAST "\r\n", "404 Not", "nothing is here"),
		ASK("GET /v2/\\..\\" LAST "\r\n", "4", ""),
		ASK("GET /v2/" TO "Range: bytes=0-0\r\n\0\r\n\r\n", "400 Bad", "nul-byte"),
		ASK("GET /v2/\n\n", "400 Bad", "bare-lf"),
		ASK("GET /v2/ HTTP/1.1\r\n\r\n", "400 Bad", "missing-host"),
		ASK("GET /v2/ HTTP/1.0\r\nHost: a\r\n\r\n", "505 ", "http-version"),
		ASK("GET /v2/" TO "Host: b\r\n\r\n", "400 Bad", "duplicate-host"),
		ASK("GET /v2/" TO "X : y\r\n\r\n", "400 Bad", "space-before-colon"),
		ASK("GET /v2/" TO "X: y\r\n z\r\n\r\n", "400 Bad", "obs-fold"),
		ASK("BREW /v2/" LAST "\r\n", "501 ", "unknown-method"),
		ASK("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 ", "http2-preface"),
		ASK("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "4", ""),
		ASK("GET " IMAGE "/blobs/" SMALL_DIGEST LAST "Range: bytes=10-\r\n\r\n",
		    "416 Range Not", "SIZE_INVALID"),
#undef ASK
	};
	char expected[64];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *answer = ask(*state, cases[i].request);

		(void)snprintf(expected, sizeof(expected), "HTTP/1.1 %s", cases[i].status);
		if (strncmp(answer, expected, strlen(expected)) != 0 ||
		    !strstr(answer, cases[i].code) || !strstr(answer, "{\"errors\":[{\"code\":\""))
			fail_msg("%s\nwas answered with\n%s", cases[i].request.p, answer);
	}
}

/* More than a head may be is not taken in. Whoever goes on sending may miss the reason, for the
 * connection is reset; but never gets anything else. */
static void long_heads(void **state)
{
	static const char *const begins[] = {
		"GET /v2/", "GET /v2/" TO "X: ", "GET " IMAGE "/blobs/" SMALL_DIGEST TO "Range: "};
	_cleanup_free_ char *name = mem_zalloc(1u << 20);

	memset(name, 'a', (1u << 20) - 1);
	for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
		_cleanup_close_ int fd = dial(*state);
		char answer[1024];

		say(fd, str_of(begins[i]));
		(void)send(fd, name, (1u << 20) - 1, MSG_NOSIGNAL);
		answer[hear(fd, answer, sizeof(answer) - 1)] = '\0';
		assert_true(answer[0] == '\0' || strstr(answer, "HTTP/1.1 4"));
	}
}

/* One connection, several requests, the last of them in pieces. */
static void keeps_alive(void **state)
{
	static const char two[] =
		"HEAD /v2/" TO "\r\nGET " IMAGE "/blobs/" SMALL_DIGEST TO "\r\nGE",
			  rest[] = "T /v2/" LAST "\r\nGET /never" TO "\r\n";
	_cleanup_close_ int fd = dial(*state);
	char answer[2048];

	say(fd, STR_LIT("GET /nothing" TO "\r\n"));
	assert_int_equal(hear(fd, answer, 12), 12);
	say(fd, str_of(two));
	say(fd, str_of(rest));
	answer[hear(fd, answer, sizeof(answer) - 1)] = '\0';
	assert_non_null(strstr(answer, "nothing is here"));
	assert_non_null(strstr(answer, "\r\n\r\n0123456789HTTP/1.1 200 OK"));
	assert_string_equal(answer + strlen(answer) - 6, "\r\n\r\n{}");
	assert_null(strstr(answer, "never"));
}

static void ask_large(int fd, const char *range)
{
	_cleanup_free_ char *request =
		mem_printf("GET " IMAGE "/blobs/" LARGE_DIGEST LAST "%s\r\n", range);

	say(fd, str_of(request));
}

/* The whole answer is there: its head, and the large layer from this byte on. */
static void expect_large(const char *p, size_t n, size_t from)
{
	const char *end = memmem(p, n, "\r\n\r\n", 4);

	assert_non_null(end);
	assert_int_equal(n - (size_t)(end + 4 - p), IMAGE_LARGE - from);
	for (size_t at = from; at < IMAGE_LARGE; at++) {
		if (end[4 + at - from] != image_byte(at))
			fail_msg("byte %zu is wrong", at);
	}
}

static void large(void **state)
{
	_cleanup_free_ char *p = mem_zalloc(IMAGE_LARGE + 1000);
	_cleanup_close_ int whole = dial(*state), part = dial(*state);

	ask_large(whole, "");
	ask_large(part, "Range: bytes=4194301-\r\n");
	expect_large(p, hear(whole, p, IMAGE_LARGE + 1000), 0);
	expect_large(p, hear(part, p, IMAGE_LARGE + 1000), 4194301);
}

/* However a head drips, it has its time. */
static void drip(int fd, uint64_t begin)
{
	uint64_t after_ms = 0;
	char c;

	for (int i = 0; i < 100 && after_ms == 0; i++) {
		(void)send(fd, "G", 1, MSG_NOSIGNAL);
		usleep(20000);
		if (recv(fd, &c, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET)
			after_ms = (time_monotonic_ns() - begin) / TIME_NS_PER_MS;
	}
	assert_true(after_ms >= HEAD_MS - 50);
}

/* Slow is not dead: somebody who reads on gets all of it. Dead is: who reads nothing is hung up on,
 * and so is who asks nothing, or for ever. */
static void the_slow(void **state)
{
	_cleanup_free_ char *p = mem_zalloc(IMAGE_LARGE + 1000);
	_cleanup_close_ int slow = dial(*state), dead = dial(*state), idle = dial(*state),
			    drips = dial(*state);
	uint64_t begin = time_monotonic_ns();
	size_t n = 0;

	ask_large(slow, "");
	ask_large(dead, "");
	drip(drips, begin);
	for (int i = 0; i < 6; i++) {
		n += hear(slow, p + n, 1000000);
		usleep(SEND_MS * 1000 / 6);
	}
	n += hear(slow, p + n, IMAGE_LARGE + 1000 - n);
	expect_large(p, n, 0);
	assert_int_equal(hear(idle, p, 1), 0);
	assert_true((time_monotonic_ns() - begin) / TIME_NS_PER_MS >= IDLE_MS - 50);
	assert_true(hear(dead, p, IMAGE_LARGE + 1000) < IMAGE_LARGE);
}

static void flood(void **state)
{
	int fds[REGISTRY_CONNECTIONS_MAX];
	_cleanup_close_ int late = -1, later = -1;
	char c;

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = dial(*state);
		say(fds[i], STR_LIT("GET /v2/" TO "\r\n"));
		assert_int_equal(hear(fds[i], &c, 1), 1); /* it has its place */
	}
	late = dial(*state);
	assert_int_equal(hear(late, &c, 1), 0);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close_fd(&fds[i]);
	for (int i = 0; i < 100; i++) { /* until it has seen that they are gone */
		close_fd(&later);
		later = dial(*state);
		say(later, STR_LIT("GET /v2/" TO "\r\n"));
		if (hear(later, &c, 1) == 1)
			return;
		usleep(10000);
	}
	fail_msg("nobody is let in any more");
}

/* Whoever holds the file can make it shorter; what was announced is then not pretended. */
static void shortened(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *p = mem_zalloc(IMAGE_LARGE + 1000);
	_cleanup_close_ int fd = dial(w);

	assert_int_equal(ftruncate(w->image.fds[2], 100000), 0);
	ask_large(fd, "");
	assert_in_range(hear(fd, p, IMAGE_LARGE + 1000), 100000, 101000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),    cmocka_unit_test(refusals),
		cmocka_unit_test(long_heads), cmocka_unit_test(keeps_alive),
		cmocka_unit_test(large),      cmocka_unit_test(the_slow),
		cmocka_unit_test(flood),      cmocka_unit_test(shortened),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
