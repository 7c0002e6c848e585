/*
 * Two relays in two processes, as pipelock and egress run them, with owners that allow all and look
 * at nothing, and a client: for measuring what the relay itself costs.
 *
 *   chain HOST PORT CA.pem PATH CONNECTIONS SECONDS [reconnect|idle]
 *
 * prints requests per second, MiB per second, and the CPU time of both relays for each request;
 * or, with idle, what one tunnel that has had one request costs the front's process in memory.
 */
#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "net/relay.h"

#include "tls_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

static struct {
	struct loop *loop;
	struct relay *relay;
	int channel;
	struct tls_client *client;
	struct sockaddr_in upstream;
	struct fixture_ca ca;
	EVP_PKEY *leaf_key;
	X509 *leaf;
	char last[256];
} g;

static enum relay_step forward(struct relay_exchange *x)
{
	(void)x;
	return RELAY_FORWARD;
}

static enum relay_step keep_length(struct relay_exchange *x)
{
	x->res_keeps_length = true;
	return RELAY_FORWARD;
}

static enum relay_data look(struct relay_exchange *x, struct str in, bool is_last, struct buf *out)
{
	(void)x;
	(void)is_last;
	return buf_append_str(out, in) == 0 ? RELAY_DATA_OK : RELAY_DATA_REFUSE;
}

static void done(struct relay_exchange *x, const struct relay_result *r)
{
	(void)x;
	if (r->outcome != RELAY_DONE && r->outcome != RELAY_TUNNEL &&
	    r->outcome != RELAY_FRONT_CLOSED)
		(void)fprintf(stderr, "%s %s\n", relay_outcome_name(r->outcome), r->reason);
}

static enum relay_dial dial_egress(struct relay_exchange *x, unsigned attempt,
				   struct relay_back_spec *spec)
{
	int fds[2];

	if (attempt > 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return RELAY_DIAL_NONE;
	if (io_send_fds(g.channel, "f", 1, &fds[1], 1, 0) < 0)
		return RELAY_DIAL_NONE;
	(void)close(fds[1]);
	(void)x;
	spec->fd = fds[0];
	return RELAY_DIAL_NOW;
}

static enum relay_step on_request_front(struct relay_exchange *x)
{
	x->pool_key = STR_LIT("egress");
	return RELAY_FORWARD;
}

static enum relay_dial dial_upstream(struct relay_exchange *x, unsigned attempt,
				     struct relay_back_spec *spec)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (attempt > 0 || fd < 0)
		return RELAY_DIAL_NONE;
	if (connect(fd, (struct sockaddr *)&g.upstream, sizeof(g.upstream)) < 0 &&
	    errno != EINPROGRESS)
		return RELAY_DIAL_NONE;
	spec->fd = fd;
	spec->is_connecting = true;
	spec->tls = g.client;
	return str_to_cstr(spec->tls_host, sizeof(spec->tls_host), x->req.host) ? RELAY_DIAL_NOW
										: RELAY_DIAL_NONE;
}

static enum tls_cert_result leaf(void *conn_ctx, const char *host, X509 **cert, EVP_PKEY **key)
{
	(void)conn_ctx;
	if (strcmp(g.last, host) != 0) {
		X509_free(g.leaf);
		g.leaf = fixture_cert(g.leaf_key, host, g.ca.cert, g.ca.key);
		(void)snprintf(g.last, sizeof(g.last), "%s", host);
	}
	*cert = g.leaf;
	*key = g.leaf_key;
	return TLS_CERT_OK;
}

static void on_channel(struct loop_watch *w, uint32_t events)
{
	int fds[IO_FDS_MAX];
	size_t n = IO_FDS_MAX;
	char byte;

	(void)events;
	if (io_recv_fds(w->fd, &byte, 1, fds, &n, 0) <= 0)
		_exit(0);
	for (size_t i = 0; i < n; i++)
		(void)relay_front_add(g.relay, fds[i]);
}

static void run_front(int listen_fd)
{
	static const struct relay_ops ops = {.on_connect = forward,
					     .on_request = on_request_front,
					     .dial = dial_egress,
					     .on_response = keep_length,
					     .on_response_data = look,
					     .on_done = done};
	struct relay_config config = {.accept = RELAY_ACCEPT_CONNECT, .back_is_absolute = true};
	struct tls_server *server;
	struct err e = ERR_INIT;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	g.loop = loop_new(&e);
	if (tls_server_new(&server, leaf, NULL, &e) < 0)
		abort();
	config.tls_server = server;
	if (relay_new(&g.relay, g.loop, &config, &ops, NULL, &e) < 0 ||
	    relay_listen(g.relay, listen_fd, &e) < 0)
		abort();
	_exit(loop_run(g.loop));
}

static void run_back(const char *ca_file)
{
	static const struct relay_ops ops = {.on_request = forward,
					     .dial = dial_upstream,
					     .on_response = keep_length,
					     .on_response_data = look,
					     .on_done = done};
	struct relay_config config = {.accept = RELAY_ACCEPT_ABSOLUTE_HTTPS};
	struct loop_watch watch = {.fd = -1, .fn = on_channel};
	struct err e = ERR_INIT;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	g.loop = loop_new(&e);
	if (tls_client_new(&g.client, &(struct tls_client_config){.ca_file = ca_file}, &e) < 0) {
		(void)fprintf(stderr, "%s\n", e.text);
		abort();
	}
	if (relay_new(&g.relay, g.loop, &config, &ops, NULL, &e) < 0 ||
	    loop_add(g.loop, &watch, g.channel, EPOLLIN, &e) < 0)
		abort();
	_exit(loop_run(g.loop));
}

/* --- the client --- */

struct client {
	int fd;
	SSL *ssl;
	uint64_t start_ns, left;
	bool in_body;
	char head[4096];
	size_t head_n;
};

static bool client_open(struct client *c, SSL_CTX *ctx, const struct sockaddr_in *to,
			const char *host, unsigned port)
{
	char text[512];
	int n;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(c->fd, (const struct sockaddr *)to, sizeof(*to)) < 0)
		return false;
	n = snprintf(text, sizeof(text), "CONNECT %s:%u HTTP/1.1\r\nHost: %s:%u\r\n\r\n", host,
		     port, host, port);
	if (send(c->fd, text, (size_t)n, 0) != n || recv(c->fd, text, sizeof(text), 0) < 13)
		return false;
	c->ssl = SSL_new(ctx);
	(void)SSL_set_tlsext_host_name(c->ssl, host);
	(void)SSL_set_fd(c->ssl, c->fd);
	return SSL_connect(c->ssl) == 1;
}

static void client_close(struct client *c)
{
	SSL_free(c->ssl);
	(void)close(c->fd);
}

/* True when a response is complete. */
static bool client_read(struct client *c, uint64_t *bytes)
{
	static char sink[1 << 18];
	int n = SSL_read(c->ssl, sink, sizeof(sink));
	char *end, *cl;

	if (n <= 0) {
		(void)fprintf(stderr, "the answer ended early\n");
		exit(1);
	}
	*bytes += (unsigned)n;
	if (!c->in_body) {
		memcpy(c->head, sink,
		       (size_t)n < sizeof(c->head) ? (size_t)n : sizeof(c->head) - 1);
		end = strstr(c->head, "\r\n\r\n");
		cl = strcasestr(c->head, "content-length: ");
		if (!end || !cl)
			exit(1);
		c->left = strtoull(cl + 16, NULL, 10);
		c->in_body = true;
		n -= (int)(end + 4 - c->head);
		memset(c->head, 0, sizeof(c->head));
	}
	c->left -= (unsigned)n;
	if (c->left > 0)
		return false;
	c->in_body = false;
	return true;
}

static double cpu_of(pid_t pid)
{
	char path[64], text[1024];
	unsigned long long u = 0, s = 0;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (f && fgets(text, sizeof(text), f))
		(void)sscanf(strrchr(text, ')') + 2,
			     "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &u, &s);
	if (f)
		(void)fclose(f);
	return (double)(u + s) / (double)sysconf(_SC_CLK_TCK);
}

static double pss_of(pid_t pid)
{
	double kib = 0;
	char path[64], line[256];
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Private_Dirty: %lf", &kib) == 1)
			break;
	}
	if (f)
		(void)fclose(f);
	return kib;
}

/* Every client has sent its request. */
static void idle(struct client *clients, int n_clients, pid_t front, double before)
{
	uint64_t bytes = 0;

	for (int i = 0; i < n_clients; i++) {
		while (!client_read(&clients[i], &bytes))
			;
	}
	(void)printf("%.1f KiB a tunnel when just used, ", (pss_of(front) - before) / n_clients);
	(void)sleep(6);
	(void)printf("%.1f KiB when idle\n", (pss_of(front) - before) / n_clients);
}

int main(int argc, char **argv)
{
	struct sockaddr_in listen_to = {.sin_family = AF_INET};
	int fds[2], listen_fd, n_clients, request_n;
	static struct client clients[1024];
	static struct pollfd polls[1024];
	socklen_t len = sizeof(listen_to);
	uint64_t bytes = 0, count = 0, start_ns, end_ns;
	bool is_idle = argc > 7 && strcmp(argv[7], "idle") == 0, reconnects = argc > 7 && !is_idle;
	SSL_CTX *ctx;
	pid_t front, back;
	double cpu, seconds, idle_kib;
	char request[512];

	if (argc < 7)
		return 2;
	(void)signal(SIGPIPE, SIG_IGN);
	n_clients = (int)strtol(argv[5], NULL, 10);
	g.upstream = (struct sockaddr_in){.sin_family = AF_INET,
					  .sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10)),
					  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	g.ca = fixture_ca_new("bench");
	g.leaf_key = EVP_EC_gen("P-256");
	listen_to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bind(listen_fd, (struct sockaddr *)&listen_to, len) < 0 ||
	    listen(listen_fd, 1024) < 0 ||
	    getsockname(listen_fd, (struct sockaddr *)&listen_to, &len) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return 1;
	front = fork();
	if (front == 0) {
		g.channel = fds[0];
		run_front(listen_fd);
	}
	back = fork();
	if (back == 0) {
		g.channel = fds[1];
		run_back(argv[3]);
	}
	ctx = SSL_CTX_new(TLS_client_method());
	request_n = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: %s:%s\r\n\r\n",
			     argv[4], argv[1], argv[2]);
	(void)usleep(200000);
	idle_kib = pss_of(front);
	for (int i = 0; i < n_clients; i++) {
		if (!client_open(&clients[i], ctx, &listen_to, argv[1], ntohs(g.upstream.sin_port)))
			return 1;
		polls[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
		(void)SSL_write(clients[i].ssl, request, request_n);
	}
	if (is_idle) {
		idle(clients, n_clients, front, idle_kib);
		(void)kill(front, SIGKILL);
		(void)kill(back, SIGKILL);
		return 0;
	}
	cpu = cpu_of(front) + cpu_of(back);
	start_ns = time_monotonic_ns();
	end_ns = start_ns + strtoul(argv[6], NULL, 10) * TIME_NS_PER_SEC;
	while (time_monotonic_ns() < end_ns) {
		(void)poll(polls, (nfds_t)n_clients, 1000);
		for (int i = 0; i < n_clients; i++) {
			if (!polls[i].revents || !client_read(&clients[i], &bytes))
				continue;
			count++;
			if (reconnects) {
				client_close(&clients[i]);
				if (!client_open(&clients[i], ctx, &listen_to, argv[1],
						 ntohs(g.upstream.sin_port)))
					return 1;
				polls[i].fd = clients[i].fd;
			}
			(void)SSL_write(clients[i].ssl, request, request_n);
		}
	}
	seconds = (double)(time_monotonic_ns() - start_ns) / 1e9;
	cpu = cpu_of(front) + cpu_of(back) - cpu;
	(void)printf("%.0f requests/s, %.1f MiB/s, %.1f us of CPU each\n", (double)count / seconds,
		     (double)bytes / seconds / 1048576, cpu * 1e6 / (double)count);
	(void)kill(front, SIGKILL);
	(void)kill(back, SIGKILL);
	while (wait(NULL) > 0)
		;
	return 0;
}
