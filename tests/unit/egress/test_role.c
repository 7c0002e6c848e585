/*
 * The role as init starts it: a process of its own, sealed, that is given everything through
 * descriptors. What the parts can do is tested elsewhere; here, that they can do it with their
 * powers gone (DNS, dialling, TLS, the netlink reading, asking keyd), and that the end of init is
 * its end.
 */
#include "dns_stub.h"
#include "upstream.h"

#include "bundle/bundle.h"
#include "keyd/keyd_proto.h"
#include "record/record.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PLACEHOLDER "ph-test-0123456789abcdefghij"

struct world {
	struct upstream up;
	struct dns_stub dns;
	pthread_t keyd;
	int keyd_fds[2], record_fds[2], egress_fds[2], ready_fds[2];
	int config_fd;
	pid_t pid;
};

static void *keyd_run(void *arg)
{
	struct world *w = arg;
	struct keyd_request q;

	while (recv(w->keyd_fds[0], &q, sizeof(q), 0) == (ssize_t)sizeof(q)) {
		struct keyd_reply r = {.id = q.id, .status = KEYD_OK};
		size_t n = strlen("Bearer " UPSTREAM_CREDENTIAL);

		memcpy(r.data, "Bearer " UPSTREAM_CREDENTIAL, n);
		r.data_n = (uint32_t)n;
		(void)send(w->keyd_fds[0], &r, offsetof(struct keyd_reply, data) + n, 0);
	}
	return NULL;
}

static int make_config(struct world *w)
{
	struct policy_route routes[] = {
		{.host = (char *)"bound.test",
		 .ports = {443},
		 .n_ports = 1,
		 .methods = 1u << POLICY_METHOD_GET,
		 .auth = {.scheme = POLICY_AUTH_BEARER,
			  .header = (char *)"authorization",
			  .placeholder = (char *)PLACEHOLDER}},
		{.host = (char *)"*.dns.test",
		 .ports = {443},
		 .n_ports = 1,
		 .methods = 1u << POLICY_METHOD_GET},
	};
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(w->up.port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct policy_resolve resolve = {.host = (char *)"bound.test"};
	struct policy p = {.routes = routes,
			   .n_routes = ARRAY_LEN(routes),
			   .resolve = &resolve,
			   .n_resolve = 1,
			   .dns = &w->dns.address,
			   .n_dns = 1,
			   .ca_pem = w->up.ca_pem};
	struct err e = ERR_INIT;
	struct buf out;
	int fd;

	memcpy(&resolve.address, &a, sizeof(a));
	buf_init(&out, 1u << 20);
	if (buf_printf(&out, "{\"version\":1,\"slug\":\"test\",\"pinned\":\"10.209.0.2\","
			     "\"supervised\":false,\"uid_base\":0,\"policy\":") < 0 ||
	    policy_to_json(&p, &out, &e) < 0 || buf_printf(&out, "}") < 0)
		fail_msg("%s", e.text);
	fd = io_memfd_sealed("config", buf_str(&out), &e);
	buf_free(&out);
	return fd;
}

/* The role's whole life, in a process that was executed anew: the test's threads were running when
 * it was forked, and one of them may have held the allocator's lock. */
static int role_life(char **fds)
{
	struct bundle_role_env env;

	memset(&env, 0xff, sizeof(env));
	env.role = BUNDLE_ROLE_EGRESS;
	env.uid = getuid() == 0 ? 65534 : 0;
	env.config_fd = (int)strtol(fds[0], NULL, 10);
	env.ready_fd = (int)strtol(fds[1], NULL, 10);
	env.record_fd = (int)strtol(fds[2], NULL, 10);
	env.keyd_fd = (int)strtol(fds[3], NULL, 10);
	env.egress_fd = (int)strtol(fds[4], NULL, 10);
	return egress_role_main(&env);
}

static void start_role(struct world *w)
{
	int fds[] = {w->config_fd, w->ready_fds[1], w->record_fds[1], w->keyd_fds[1],
		     w->egress_fds[1]};
	char text[ARRAY_LEN(fds)][16];
	char *argv[ARRAY_LEN(fds) + 3] = {(char *)"test_egress_role", (char *)"role"};
	char byte;

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		(void)snprintf(text[i], sizeof(text[i]), "%d", fds[i]);
		argv[i + 2] = text[i];
	}
	w->pid = fork();
	assert_true(w->pid >= 0);
	if (w->pid == 0) {
		for (size_t i = 0; i < ARRAY_LEN(fds); i++)
			(void)fcntl(fds[i], F_SETFD, 0);
		(void)execv("/proc/self/exe", argv);
		_exit(127);
	}
	close_fd(&w->egress_fds[1]);
	close_fd(&w->ready_fds[1]);
	assert_int_equal(read(w->ready_fds[0], &byte, 1), 1);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	upstream_start(&w->up, "bound.test");
	dns_stub_start(&w->dns);
	w->config_fd = make_config(w);
	if (w->config_fd < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->keyd_fds) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->record_fds) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->egress_fds) < 0 ||
	    pipe(w->ready_fds) < 0 || pthread_create(&w->keyd, NULL, keyd_run, w) != 0)
		return -1;
	start_role(w);
	*state = w;
	return 0;
}

/* init's end: the role goes by itself, in order. */
static int teardown(void **state)
{
	struct world *w = *state;
	int status = -1;

	close_fd(&w->egress_fds[0]);
	if (waitpid(w->pid, &status, 0) != w->pid || !WIFEXITED(status) ||
	    WEXITSTATUS(status) != 0) {
		print_error("status %x\n", (unsigned)status);
		return -1;
	}
	(void)shutdown(w->keyd_fds[0], SHUT_RDWR);
	(void)pthread_join(w->keyd, NULL);
	for (int i = 0; i < 2; i++) {
		close_fd(&w->keyd_fds[i]);
		close_fd(&w->record_fds[i]);
	}
	close_fd(&w->ready_fds[0]);
	close_fd(&w->config_fd);
	upstream_stop(&w->up);
	dns_stub_stop(&w->dns);
	free(w);
	return 0;
}

/* One exchange over a connection of its own; the status. */
static unsigned ask(struct world *w, const char *request, char *answer, size_t size)
{
	struct timeval limit = {.tv_sec = 10};
	unsigned status = 0;
	size_t n = 0;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(io_send_fds(w->egress_fds[0], "c", 1, &pair[1], 1, 0), 1);
	(void)close(pair[1]);
	(void)setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(io_write_all(pair[0], request, strlen(request)), 0);
	while (n + 1 < size) {
		ssize_t got = read(pair[0], answer + n, size - 1 - n);
		const char *end;

		if (got <= 0)
			break;
		n += (size_t)got;
		answer[n] = '\0';
		end = strstr(answer, "\r\n\r\n");
		if (end && strstr(answer, "Content-Length: ") &&
		    n >= (size_t)(end + 4 - answer) +
				    strtoul(strstr(answer, "Content-Length: ") + 16, NULL, 10))
			break;
	}
	answer[n] = '\0';
	(void)close(pair[0]);
	(void)sscanf(answer, "HTTP/1.1 %u", &status);
	return status;
}

static void test_works_sealed(void **state)
{
	struct world *w = *state;
	char answer[8192];
	struct record r;

	assert_int_equal(ask(w,
			     "GET https://bound.test/echo HTTP/1.1\r\nHost: bound.test\r\n"
			     "Authorization: Bearer " PLACEHOLDER "\r\n\r\n",
			     answer, sizeof(answer)),
			 200);
	assert_non_null(strstr(answer, "Bearer ****************************\r\n"));
	assert_int_equal(recv(w->record_fds[0], &r, sizeof(r), 0), (ssize_t)sizeof(r));
	assert_string_equal(r.reason, "credential-echoed");
	assert_int_equal(ask(w,
			     "GET https://mixed.dns.test/ HTTP/1.1\r\nHost: mixed.dns.test\r\n\r\n",
			     answer, sizeof(answer)),
			 403);
	assert_non_null(strstr(answer, "inside-address"));
	assert_int_equal(recv(w->record_fds[0], &r, sizeof(r), 0), (ssize_t)sizeof(r));
	assert_string_equal(r.reason, "inside-address");
	assert_int_equal(ask(w, "GET https://nx.dns.test/ HTTP/1.1\r\nHost: nx.dns.test\r\n\r\n",
			     answer, sizeof(answer)),
			 502);
	assert_int_equal(ask(w, "GET https://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
			     answer, sizeof(answer)),
			 403);
	assert_int_equal(waitpid(w->pid, NULL, WNOHANG), 0);
}

/* Messages that hold no descriptor, or too much, end nothing. */
static void test_odd_messages(void **state)
{
	struct world *w = *state;
	char answer[8192], big[64] = {0};
	int fds[2] = {STDERR_FILENO, STDERR_FILENO};

	assert_int_equal(io_send_fds(w->egress_fds[0], "c", 1, NULL, 0, 0), 1);
	assert_int_equal(io_send_fds(w->egress_fds[0], "c", 1, fds, 2, 0), 1);
	assert_int_equal(io_send_fds(w->egress_fds[0], big, sizeof(big), fds, 1, 0), sizeof(big));
	assert_int_equal(io_send_fds(w->egress_fds[0], "c", 1, fds, 1, 0), 1);
	assert_int_equal(ask(w,
			     "GET https://bound.test/echo HTTP/1.1\r\nHost: bound.test\r\n"
			     "Authorization: Bearer " PLACEHOLDER "\r\n\r\n",
			     answer, sizeof(answer)),
			 200);
	/* Garbage costs its connection only. */
	assert_int_equal(ask(w, "\x16\x03\x01garbage\r\n\r\n", answer, sizeof(answer)) / 100, 4);
	assert_int_equal(waitpid(w->pid, NULL, WNOHANG), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_works_sealed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_odd_messages, setup, teardown),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	if (argc == 7 && strcmp(argv[1], "role") == 0)
		return role_life(argv + 2);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
