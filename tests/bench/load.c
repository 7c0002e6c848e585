/*
 * The benchmark's client: HTTPS over keep-alive connections, directly or through a forward proxy
 * (CONNECT once per connection), the same code for every proxy that is compared.
 *
 * Theory of operation: one thread, one epoll, each connection a small state machine (dial, CONNECT,
 * handshake, write, read). The loop is closed: a connection has one request in flight. Only what
 * completes between the end of the warm-up and the end of the run is counted. With --fresh every
 * request gets a connection of its own, without session resumption. With --hold the connections are
 * opened, used once, and then held idle until the time is up ("holding" is printed when all are
 * open), so that somebody else can look at the proxy's memory.
 *
 * One JSON object on standard output; status 0 only if nothing failed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX    16384
#define SAMPLES_MAX (1u << 23)
#define EVENTS_MAX  256

enum state { DIALING, PROXY_WRITE, PROXY_READ, HANDSHAKE, WRITE, READ, HELD };

struct conn {
	int fd;
	enum state state;
	SSL *ssl;
	uint32_t events;
	uint64_t started_ns;
	size_t out_done;
	char head[HEAD_MAX];
	size_t head_n;
	bool in_body, is_chunked, must_close;
	uint64_t body_left;
	/* Chunked coding: 0 size line, 1 data, 2 line end after data, 3 trailer. */
	int chunk_step;
	uint64_t chunk_left;
	size_t trailer_line_n;
	uint64_t body_bytes;
};

static struct options {
	struct sockaddr_in dial;
	bool has_proxy, is_fresh, is_held;
	const char *host; /* NAME of NAME:PORT */
	const char *authority;
	const char *ca;
	const char *method;
	const char *path;
	size_t body_bytes;
	size_t n_conns;
	double seconds, warmup;
	uint64_t max_requests;
	const char *header;
} opt = {.method = "GET", .path = "/", .n_conns = 1, .seconds = 5};

static SSL_CTX *ctx;
static int epoll_fd;
static char *request, connect_request[1024];
static size_t request_n, connect_request_n;
static uint32_t *samples; /* units of 100 ns */
static size_t n_samples;
static uint64_t n_done, n_errors, n_refused, n_bytes, n_held;
static uint64_t counting_from_ns, ends_ns;
static char first_error[256];

static void conn_drive(struct conn *c);

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die_text(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void conn_watch(struct conn *c, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	if (c->events == events)
		return;
	if (epoll_ctl(epoll_fd, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &ev))
		die_text("epoll_ctl");
	c->events = events;
}

static void conn_close(struct conn *c)
{
	if (c->ssl) {
		if (c->state >= WRITE)
			SSL_shutdown(c->ssl);
		SSL_free(c->ssl);
	}
	c->ssl = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->events = 0;
}

static void conn_open(struct conn *c)
{
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die_text("socket");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->events = 0;
	c->out_done = c->head_n = 0;
	c->state = DIALING;
	c->started_ns = now_ns();
	if (connect(c->fd, (struct sockaddr *)&opt.dial, sizeof(opt.dial)) && errno != EINPROGRESS)
		die_text("connect");
	conn_watch(c, EPOLLOUT);
}

static void conn_fail(struct conn *c, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	char text[160] = "";

	if (code)
		ERR_error_string_n(code, text, sizeof(text));
	ERR_clear_error();
	if (!first_error[0])
		snprintf(first_error, sizeof(first_error), "%s %s", what, text);
	n_errors++;
	conn_close(c);
	if (n_errors > 1000) {
		fprintf(stderr, "load: too many failures; the first: %s\n", first_error);
		exit(1);
	}
	if (now_ns() < ends_ns)
		conn_open(c);
}

static void conn_request(struct conn *c)
{
	if (!opt.is_fresh)
		c->started_ns = now_ns();
	c->out_done = c->head_n = 0;
	c->in_body = c->is_chunked = c->must_close = false;
	c->body_bytes = 0;
	c->state = WRITE;
}

/* The response is complete. */
static void conn_done(struct conn *c, bool is_ok)
{
	uint64_t now = now_ns();

	if (!is_ok)
		n_refused++;
	if (now >= counting_from_ns && now < ends_ns) {
		uint64_t t = (now - c->started_ns) / 100;

		if (n_samples < SAMPLES_MAX)
			samples[n_samples++] = t > UINT32_MAX ? UINT32_MAX : (uint32_t)t;
		n_bytes += c->body_bytes;
		n_done++;
	}
	if (opt.is_held) {
		c->state = HELD;
		conn_watch(c, EPOLLIN);
		if (++n_held == opt.n_conns) {
			printf("holding %zu\n", opt.n_conns);
			fflush(stdout);
		}
		return;
	}
	if (opt.max_requests && n_done >= opt.max_requests)
		ends_ns = now;
	if (opt.is_fresh || c->must_close) {
		conn_close(c);
		conn_open(c);
	} else {
		conn_request(c);
	}
}

/* Finds a header's value in a head that ends with an empty line; NULL if absent. */
static const char *head_find(const char *head, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = strstr(head, "\r\n"); p; p = strstr(p + 2, "\r\n"))
		if (!strncasecmp(p + 2, name, n) && p[2 + n] == ':')
			return p + 3 + n + strspn(p + 3 + n, " ");
	return NULL;
}

/* Takes body bytes; true when the body is complete. */
static bool body_take(struct conn *c, const char *p, size_t n)
{
	c->body_bytes += n;
	if (!c->is_chunked) {
		c->body_left -= n < c->body_left ? n : c->body_left;
		return c->body_left == 0;
	}
	while (n > 0) {
		if (c->chunk_step == 1) {
			size_t take = n < c->chunk_left ? n : (size_t)c->chunk_left;

			p += take;
			n -= take;
			c->chunk_left -= take;
			if (c->chunk_left == 0)
				c->chunk_step = 2;
			continue;
		}
		char ch = *p++;

		n--;
		if (c->chunk_step == 0) {
			if (ch == '\n')
				c->chunk_step = c->chunk_left ? 1 : 3;
			else if (ch >= '0' && ch <= '9')
				c->chunk_left = c->chunk_left * 16 + (uint64_t)(ch - '0');
			else if ((ch | 32) >= 'a' && (ch | 32) <= 'f')
				c->chunk_left =
					c->chunk_left * 16 + (uint64_t)((ch | 32) - 'a' + 10);
			c->trailer_line_n = 0;
		} else if (c->chunk_step == 2) {
			if (ch == '\n')
				c->chunk_step = 0;
		} else if (ch == '\n') {
			if (c->trailer_line_n == 0)
				return true;
			c->trailer_line_n = 0;
		} else if (ch != '\r') {
			c->trailer_line_n++;
		}
	}
	return false;
}

/* The head is complete: how long is the body? -1 on nonsense, 1 if there is none. */
static int head_read(struct conn *c)
{
	const char *v;
	int status = c->head_n > 12 ? (int)strtol(c->head + 9, NULL, 10) : 0;

	if (status < 100)
		return -1;
	v = head_find(c->head, "connection");
	c->must_close = v && !strncasecmp(v, "close", 5);
	v = head_find(c->head, "transfer-encoding");
	if (v && !strncasecmp(v, "chunked", 7)) {
		c->is_chunked = true;
		c->chunk_step = 0;
		c->chunk_left = 0;
		return 0;
	}
	v = head_find(c->head, "content-length");
	if (!v)
		return status == 204 || status == 304 ? 1 : -1;
	c->body_left = strtoull(v, NULL, 10);
	return c->body_left == 0;
}

/* -1: failed; 0: wants more; 1: complete */
static int response_take(struct conn *c, const char *p, size_t n)
{
	if (!c->in_body) {
		size_t room = sizeof(c->head) - 1 - c->head_n, take = n < room ? n : room;
		size_t before = c->head_n;
		char *end;
		int r;

		memcpy(c->head + c->head_n, p, take);
		c->head_n += take;
		c->head[c->head_n] = 0;
		end = strstr(c->head, "\r\n\r\n");
		if (!end)
			return take < n || room == take ? -1 : 0;
		size_t head_end = (size_t)(end - c->head) + 4;

		end[2] = 0;
		c->head_n = head_end;
		r = head_read(c);
		if (r)
			return r;
		c->in_body = true;
		p += head_end - before;
		n -= head_end - before;
		if (n == 0)
			return 0;
	}
	return body_take(c, p, n) ? 1 : 0;
}

static bool is_again(struct conn *c, int r)
{
	int e = SSL_get_error(c->ssl, r);

	if (e == SSL_ERROR_WANT_READ)
		conn_watch(c, EPOLLIN);
	else if (e == SSL_ERROR_WANT_WRITE)
		conn_watch(c, EPOLLOUT);
	else
		return false;
	return true;
}

static bool drive_read(struct conn *c)
{
	static char bytes[65536];
	int n = SSL_read(c->ssl, bytes, sizeof(bytes)), r;

	if (n <= 0) {
		if (!is_again(c, n))
			conn_fail(c, "read");
		return false;
	}
	r = response_take(c, bytes, (size_t)n);
	if (r < 0) {
		conn_fail(c, "response");
		return false;
	}
	if (r > 0) {
		bool is_ok = c->head[9] == '2';

		if (!is_ok && !first_error[0])
			snprintf(first_error, sizeof(first_error), "status %.3s", c->head + 9);
		conn_done(c, is_ok);
		return c->state == WRITE;
	}
	return true;
}

static bool drive_proxy_read(struct conn *c)
{
	ssize_t n = recv(c->fd, c->head + c->head_n, sizeof(c->head) - 1 - c->head_n, 0);

	if (n < 0 && errno == EAGAIN) {
		conn_watch(c, EPOLLIN);
		return false;
	}
	if (n <= 0) {
		conn_fail(c, "CONNECT was not answered");
		return false;
	}
	c->head_n += (size_t)n;
	c->head[c->head_n] = 0;
	if (!strstr(c->head, "\r\n\r\n"))
		return true;
	if (c->head_n < 12 || c->head[9] != '2') {
		c->head[c->head_n < 40 ? c->head_n : 40] = 0;
		conn_fail(c, c->head);
		return false;
	}
	c->state = HANDSHAKE;
	return true;
}

static bool drive_handshake(struct conn *c)
{
	int r;

	if (!c->ssl) {
		c->ssl = SSL_new(ctx);
		if (!c->ssl || !SSL_set_fd(c->ssl, c->fd) ||
		    !SSL_set_tlsext_host_name(c->ssl, opt.host) || !SSL_set1_host(c->ssl, opt.host))
			die_text("TLS");
	}
	r = SSL_connect(c->ssl);
	if (r != 1) {
		if (!is_again(c, r))
			conn_fail(c, "handshake");
		return false;
	}
	conn_request(c);
	return true;
}

static bool drive_write(struct conn *c)
{
	int r = SSL_write(c->ssl, request + c->out_done, (int)(request_n - c->out_done));

	if (r <= 0) {
		if (!is_again(c, r))
			conn_fail(c, "write");
		return false;
	}
	c->out_done += (size_t)r;
	if (c->out_done == request_n) {
		c->head_n = 0;
		c->state = READ;
		conn_watch(c, EPOLLIN);
		return false;
	}
	return true;
}

static bool drive_dialing(struct conn *c)
{
	int error = 0;
	socklen_t n = sizeof(error);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) || error) {
		errno = error;
		conn_fail(c, strerror(error));
		return false;
	}
	c->state = opt.has_proxy ? PROXY_WRITE : HANDSHAKE;
	return true;
}

/* Goes on until the socket has nothing more to give. */
static void conn_drive(struct conn *c)
{
	bool more = true;

	while (more && c->fd >= 0) {
		switch (c->state) {
		case DIALING:
			more = drive_dialing(c);
			break;
		case PROXY_WRITE:
			if (send(c->fd, connect_request, connect_request_n, MSG_NOSIGNAL) !=
			    (ssize_t)connect_request_n) {
				conn_fail(c, "CONNECT");
				return;
			}
			c->state = PROXY_READ;
			c->head_n = 0;
			conn_watch(c, EPOLLIN);
			more = false;
			break;
		case PROXY_READ:
			more = drive_proxy_read(c);
			break;
		case HANDSHAKE:
			more = drive_handshake(c);
			break;
		case WRITE:
			more = drive_write(c);
			break;
		case READ:
			more = drive_read(c);
			break;
		case HELD: {
			/* Session tickets may still come; an end means that we were dropped. */
			char byte;
			int r = SSL_read(c->ssl, &byte, 1);

			if (r <= 0 && !is_again(c, r)) {
				n_errors++;
				conn_close(c);
			}
			more = false;
			break;
		}
		}
	}
}

static int compare_samples(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double percentile_us(double p)
{
	size_t i = (size_t)(p * (double)n_samples);

	if (n_samples == 0)
		return 0;
	return samples[i >= n_samples ? n_samples - 1 : i] / 10.0;
}

static void parse_address(const char *text, struct sockaddr_in *out)
{
	char host[64] = "";
	const char *colon = strrchr(text, ':');

	if (colon && (size_t)(colon - text) < sizeof(host))
		memcpy(host, text, (size_t)(colon - text));
	out->sin_family = AF_INET;
	if (!colon || inet_pton(AF_INET, host, &out->sin_addr) != 1) {
		fprintf(stderr, "load: not ADDRESS:PORT: %s\n", text);
		exit(2);
	}
	out->sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
}

static void parse_options(int argc, char **argv)
{
	static const struct option longs[] = {{"proxy", 1, NULL, 'p'},
					      {"dial", 1, NULL, 'd'},
					      {"target", 1, NULL, 't'},
					      {"ca", 1, NULL, 'a'},
					      {"connections", 1, NULL, 'c'},
					      {"seconds", 1, NULL, 's'},
					      {"warmup", 1, NULL, 'w'},
					      {"method", 1, NULL, 'm'},
					      {"path", 1, NULL, 'u'},
					      {"body", 1, NULL, 'b'},
					      {"fresh", 0, NULL, 'f'},
					      {"hold", 0, NULL, 'H'},
					      {"requests", 1, NULL, 'n'},
					      {"header", 1, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (o) {
		case 'p':
			opt.has_proxy = true;
			parse_address(optarg, &opt.dial);
			break;
		case 'd':
			parse_address(optarg, &opt.dial);
			break;
		case 't': {
			char *host = strdup(optarg);

			opt.authority = optarg;
			if (!host)
				die_text("memory");
			host[strcspn(host, ":")] = 0;
			opt.host = host;
			break;
		}
		case 'a':
			opt.ca = optarg;
			break;
		case 'c':
			opt.n_conns = strtoul(optarg, NULL, 10);
			break;
		case 's':
			opt.seconds = strtod(optarg, NULL);
			break;
		case 'w':
			opt.warmup = strtod(optarg, NULL);
			break;
		case 'm':
			opt.method = optarg;
			break;
		case 'u':
			opt.path = optarg;
			break;
		case 'b':
			opt.body_bytes = strtoul(optarg, NULL, 10);
			break;
		case 'f':
			opt.is_fresh = true;
			break;
		case 'H':
			opt.is_held = true;
			break;
		case 'n':
			opt.max_requests = strtoul(optarg, NULL, 10);
			break;
		case 'h':
			opt.header = optarg;
			break;
		default:
			exit(2);
		}
	}
	if (!opt.authority || !opt.dial.sin_port || opt.n_conns == 0) {
		fprintf(stderr,
			"usage: load (--proxy|--dial) ADDR:PORT --target NAME:PORT [--ca F]"
			" [--connections N] [--seconds S] [--warmup S] [--requests N] [--method M]"
			" [--path P] [--body BYTES] [--header LINE] [--fresh] [--hold]\n");
		exit(2);
	}
}

/* JSON that looks like what an agent posts: words, numbers, identifiers; nothing secret-shaped. */
static size_t fill_body(char *out, size_t n)
{
	size_t at = 0;

	for (unsigned i = 0; at + 160 < n; i++)
		at += (size_t)snprintf(
			out + at, n - at,
			"%s{\"id\":%u,\"name\":\"item number %u\",\"kind\":\"tool_result\","
			"\"text\":\"The quick brown fox, line %u of it.\\n\",\"ok\":true}",
			i ? "," : "[", i, i * 7, i);
	while (at + 1 < n)
		out[at++] = ' ';
	out[at++] = ']';
	return at;
}

static void make_requests(void)
{
	size_t room = opt.body_bytes + 4096, n;

	request = malloc(room);
	if (!request)
		die_text("memory");
	n = (size_t)snprintf(
		request, room,
		"%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\nAccept: */*\r\n%s%s", opt.method,
		opt.path, opt.authority, opt.header ? opt.header : "", opt.header ? "\r\n" : "");
	if (opt.body_bytes)
		n += (size_t)snprintf(request + n, room - n,
				      "Content-Type: application/json\r\nContent-Length: %zu\r\n",
				      opt.body_bytes);
	n += (size_t)snprintf(request + n, room - n, "\r\n");
	if (opt.body_bytes)
		n += fill_body(request + n, opt.body_bytes);
	request_n = n;
	connect_request_n = (size_t)snprintf(connect_request, sizeof(connect_request),
					     "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n",
					     opt.authority, opt.authority);
}

static int report(double seconds)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	qsort(samples, n_samples, sizeof(*samples), compare_samples);
	printf("{\"requests\":%llu,\"errors\":%llu,\"refused\":%llu,\"seconds\":%.3f,\"per_"
	       "second\":%.1f,"
	       "\"mib_per_second\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":"
	       "%.1f,"
	       "\"first_error\":\"%.*s\",\"client_cpu_s\":%.2f}\n",
	       (unsigned long long)n_done, (unsigned long long)n_errors,
	       (unsigned long long)n_refused, seconds, (double)n_done / seconds,
	       (double)n_bytes / seconds / 1048576, percentile_us(0.5), percentile_us(0.9),
	       percentile_us(0.99), percentile_us(1), (int)strcspn(first_error, "\"\r\n\\"),
	       first_error,
	       (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
		       (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6);
	return n_errors || n_refused || (opt.is_held ? n_held < opt.n_conns : n_done == 0);
}

int main(int argc, char **argv)
{
	struct rlimit files = {65536, 65536};
	uint64_t finished;

	parse_options(argc, argv);
	make_requests();
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	ctx = SSL_CTX_new(TLS_client_method());
	samples = malloc(sizeof(*samples) * SAMPLES_MAX);
	struct conn *conns = calloc(opt.n_conns, sizeof(*conns));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!ctx || !samples || !conns || epoll_fd < 0)
		die_text("start");
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (opt.ca ? !SSL_CTX_load_verify_locations(ctx, opt.ca, NULL)
		   : !SSL_CTX_set_default_verify_paths(ctx))
		die_text("CA");

	counting_from_ns = now_ns() + (uint64_t)(opt.warmup * 1e9);
	ends_ns = counting_from_ns + (uint64_t)(opt.seconds * 1e9);
	for (size_t i = 0; i < opt.n_conns; i++)
		conn_open(&conns[i]);
	for (;;) {
		struct epoll_event events[EVENTS_MAX];
		uint64_t now = now_ns();
		int n;

		if (now >= ends_ns)
			break;
		n = epoll_wait(epoll_fd, events, EVENTS_MAX, (int)((ends_ns - now) / 1000000 + 1));
		for (int i = 0; i < n; i++)
			conn_drive(events[i].data.ptr);
	}
	finished = now_ns();
	return report((double)(finished - counting_from_ns) / 1e9);
}
