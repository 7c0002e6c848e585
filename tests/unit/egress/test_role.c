/*
 * The role as init starts it: a process of its own, sealed, that is given everything through
 * descriptors. What the parts can do is tested elsewhere; here, that they can do it with their
 * powers gone (DNS, dialling, TLS, the netlink reading, asking keyd), and that the end of init is
 * its end. The same in a network of its own, where what the operator named is on the loopback of
 * the one that the test runs in, with the keeper's real half on the other side.
 */
#include "dns_stub.h"
#include "upstream.h"

#include "backend/keeper_int.h"
#include "bundle/bundle.h"
#include "bundle/reach.h"
#include "keyd/keyd_proto.h"
#include "record/record.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PLACEHOLDER  "ph-test-0123456789abcdefghij"
#define ROLE_SKIPPED 77 /* no network namespace can be made here */

struct world {
	struct upstream up;
	struct dns_stub dns;
	pthread_t keyd;
	int keyd_fds[2], record_fds[2], egress_fds[2], ready_fds[2];
	int config_fd;
	pid_t pid;
	/* Where the role has a network of its own. */
	bool is_apart;
	unsigned life;
	int reach_fd; /* init's end */
	struct policy policy;
	struct policy_resolve resolve;
	struct loop *loop;
	struct keeper_reach reach;
	struct loop_watch quit;
	pthread_t keeper;
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

/* --- the keeper --- */

static void keeper_on_quit(struct loop_watch *watch, uint32_t events)
{
	struct world *w = (struct world *)((char *)watch - offsetof(struct world, quit));

	(void)events;
	keeper_reach_close(&w->reach);
	loop_stop(w->loop, 0);
}

static void *keeper_run(void *arg)
{
	(void)loop_run(((struct world *)arg)->loop);
	return NULL;
}

static void keeper_start(struct world *w)
{
	struct err e = ERR_INIT;

	w->loop = loop_new(&e);
	w->quit.fn = keeper_on_quit;
	if (!w->loop || loop_add(w->loop, &w->quit, eventfd(0, EFD_CLOEXEC), EPOLLIN, &e) < 0 ||
	    keeper_reach_open(&w->reach, w->loop, &w->policy, NULL, &w->reach_fd, &e) < 0 ||
	    pthread_create(&w->keeper, NULL, keeper_run, w) != 0)
		fail_msg("%s", e.text);
}

static void keeper_stop_now(struct world *w)
{
	if (!w->loop)
		return;
	assert_int_equal(eventfd_write(w->quit.fd, 1), 0);
	(void)pthread_join(w->keeper, NULL);
	(void)close(w->quit.fd);
	loop_free(w->loop);
	w->loop = NULL;
}

/* --- the role --- */

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
	struct policy p = {.routes = routes,
			   .n_routes = ARRAY_LEN(routes),
			   .resolve = &w->resolve,
			   .n_resolve = 1,
			   .dns = &w->dns.address,
			   .n_dns = 1,
			   .ca_pem = w->up.ca_pem};
	struct err e = ERR_INIT;
	struct buf out;
	int fd;

	w->resolve.host = (char *)"bound.test";
	memcpy(&w->resolve.address, &a, sizeof(a));
	w->policy = (struct policy){.resolve = p.resolve, .n_resolve = 1, .dns = p.dns, .n_dns = 1};
	buf_init(&out, 1u << 20);
	if (buf_printf(&out,
		       "{\"version\":1,\"slug\":\"test\",\"pinned\":\"10.209.0.2\","
		       "%s\"supervised\":false,\"uid_base\":0,\"policy\":",
		       w->is_apart ? "\"inside\":[\"44.1.1.9\"]," : "") < 0 ||
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
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	if (strcmp(fds[7], "apart") == 0 &&
	    (unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWNET | CLONE_NEWUSER) < 0 ||
	     ioctl(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), SIOCSIFFLAGS, &up) < 0))
		return ROLE_SKIPPED;
	memset(&env, 0xff, sizeof(env));
	env.role = BUNDLE_ROLE_EGRESS;
	env.uid = getuid() == 0 ? 65534 : 0;
	env.config_fd = (int)strtol(fds[0], NULL, 10);
	env.ready_fd = (int)strtol(fds[1], NULL, 10);
	env.record_fd = (int)strtol(fds[2], NULL, 10);
	env.keyd_fd = (int)strtol(fds[3], NULL, 10);
	env.egress_fd = (int)strtol(fds[4], NULL, 10);
	env.reach_fd = (int)strtol(fds[5], NULL, 10);
	env.life = (unsigned)strtoul(fds[6], NULL, 10);
	return egress_role_main(&env);
}

/* Whether it got ready. Keeps egress_fds[1], as init does. */
static bool start_role(struct world *w, const char *where)
{
	int fds[] = {w->config_fd,   w->ready_fds[1],  w->record_fds[1],
		     w->keyd_fds[1], w->egress_fds[1], w->reach_fd};
	char text[ARRAY_LEN(fds)][16], life[16];
	char *argv[ARRAY_LEN(fds) + 5] = {(char *)"test_egress_role", (char *)"role"};
	char byte;

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		(void)snprintf(text[i], sizeof(text[i]), "%d", fds[i]);
		argv[i + 2] = text[i];
	}
	(void)snprintf(life, sizeof(life), "%u", ++w->life);
	argv[ARRAY_LEN(fds) + 2] = life;
	argv[ARRAY_LEN(fds) + 3] = (char *)(uintptr_t)where;
	w->pid = fork();
	assert_true(w->pid >= 0);
	if (w->pid == 0) {
		for (size_t i = 0; i < ARRAY_LEN(fds); i++)
			(void)(fds[i] >= 0 && fcntl(fds[i], F_SETFD, 0));
		(void)execv("/proc/self/exe", argv);
		_exit(127);
	}
	close_fd(&w->ready_fds[1]);
	return read(w->ready_fds[0], &byte, 1) == 1;
}

static struct world *world_make(bool is_apart)
{
	struct world *w = calloc(1, sizeof(*w));

	w->is_apart = is_apart;
	w->reach_fd = -1;
	upstream_start(&w->up, "bound.test");
	dns_stub_start(&w->dns);
	w->config_fd = make_config(w);
	if (w->config_fd < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->keyd_fds) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->record_fds) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->egress_fds) < 0 ||
	    pipe2(w->ready_fds, O_CLOEXEC) < 0 || pthread_create(&w->keyd, NULL, keyd_run, w) != 0)
		abort();
	return w;
}

static int setup(void **state)
{
	struct world *w = world_make(false);

	*state = w;
	return start_role(w, "here") ? 0 : -1;
}

/* init's end: the role goes by itself, in order. */
static int teardown(void **state)
{
	struct world *w = *state;
	int status = -1;

	close_fd(&w->egress_fds[0]);
	close_fd(&w->egress_fds[1]);
	if (w->pid > 0 && (waitpid(w->pid, &status, 0) != w->pid || !WIFEXITED(status) ||
			   WEXITSTATUS(status) != 0)) {
		print_error("status %x\n", (unsigned)status);
		return -1;
	}
	keeper_stop_now(w);
	close_fd(&w->reach_fd);
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

/* --- a network of its own --- */

#define ASK_NAMED                                                                                  \
	"GET https://bound.test/echo HTTP/1.1\r\nHost: bound.test\r\n"                             \
	"Authorization: Bearer " PLACEHOLDER "\r\n\r\n"
#define ASK_LOOKED_UP(name)                                                                        \
	"GET https://" name ".dns.test/ HTTP/1.1\r\nHost: " name ".dns.test\r\n\r\n"

static void assert_answer(struct world *w, const char *request, unsigned status, const char *text)
{
	char answer[8192];

	assert_int_equal(ask(w, request, answer, sizeof(answer)), status);
	if (!strstr(answer, text))
		fail_msg("no %s in: %s", text, answer);
}

/* Skips where there are no namespaces. */
static void start_apart(struct world *w)
{
	int status = 0;

	if (start_role(w, "apart"))
		return;
	assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
	w->pid = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == ROLE_SKIPPED) {
		print_message("skipped: no network namespace can be made here\n");
		skip();
	}
	fail_msg("the role ended: %x", (unsigned)status);
}

static int setup_apart(void **state)
{
	struct world *w = world_make(true);

	*state = w;
	keeper_start(w);
	return 0;
}

static void test_apart_reaches(void **state)
{
	struct world *w = *state;

	start_apart(w);
	assert_answer(w, ASK_NAMED, 200, "Bearer ****************************\r\n");
	/* The name server is on the other loopback too, over UDP and over TCP. */
	assert_answer(w, ASK_LOOKED_UP("mixed"), 403, "inside-address");
	assert_answer(w, ASK_LOOKED_UP("tcp"), 502, "connect-failed"); /* no way outside here */
	assert_int_equal(atomic_load(&w->dns.n_tcp), 1);
	/* A public address, but the host's own. */
	assert_answer(w, ASK_LOOKED_UP("own"), 403, "inside-address");
	assert_answer(w, ASK_LOOKED_UP("nx"), 502, "dns-no-address");
	assert_int_equal(waitpid(w->pid, NULL, WNOHANG), 0);
}

/* Another life on the same channel, in which questions of the first one may still be answered. */
static void test_apart_restarted(void **state)
{
	struct world *w = *state;
	struct reach_request q = {.id = 1, .life = 1, .list = 1, .kind = 1, .port = w->up.port};

	start_apart(w);
	assert_answer(w, ASK_NAMED, 200, "Bearer ***");
	assert_int_equal(kill(w->pid, SIGKILL), 0);
	assert_int_equal(waitpid(w->pid, NULL, 0), w->pid);
	for (int i = 0; i < REACH_PENDING_MAX; i++) {
		q.id = (uint64_t)(i % 8) + 1; /* as the next one will count, too */
		assert_int_equal(send(w->reach_fd, &q, sizeof(q), 0), sizeof(q));
	}
	close_fd(&w->ready_fds[0]);
	assert_int_equal(pipe2(w->ready_fds, O_CLOEXEC), 0);
	start_apart(w);
	assert_answer(w, ASK_NAMED, 200, "Bearer ***");
	assert_answer(w, ASK_LOOKED_UP("mixed"), 403, "inside-address");
}

/* A keeper that is gone: refused, with the reason, though the role goes on. */
static void test_apart_keeper_gone(void **state)
{
	struct world *w = *state;

	start_apart(w);
	assert_answer(w, ASK_LOOKED_UP("mixed"), 403, "inside-address");
	keeper_stop_now(w);
	assert_answer(w, ASK_LOOKED_UP("mixed"), 502, "dns-failed");
	assert_answer(w, ASK_NAMED, 502, "reach-failed");
	assert_int_equal(waitpid(w->pid, NULL, WNOHANG), 0);
}

/* The control: told nothing, the role looks on the loopback of its own network, and in vain. */
static void test_apart_without_reach(void **state)
{
	struct world *w = *state;

	start_apart(w);
	assert_answer(w, ASK_NAMED, 502, "connect-failed");
	assert_answer(w, ASK_LOOKED_UP("mixed"), 502, "dns-failed");
	assert_int_equal(atomic_load(&w->up.n_connections), 0);
	assert_int_equal(atomic_load(&w->dns.n_asked), 0);
}

static int setup_without_reach(void **state)
{
	*state = world_make(false);
	return 0;
}

/* One without the other is a keeper of another version: it does not start. */
static void test_apart_by_halves(void **state)
{
	(void)state;
	for (int has_reach = 0; has_reach < 2; has_reach++) {
		struct world *w = world_make(!has_reach);
		void *inner = w;
		int status = 0;

		if (has_reach)
			keeper_start(w);
		assert_false(start_role(w, "here"));
		assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
		w->pid = 0;
		assert_int_equal(teardown(&inner), 0);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_works_sealed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_odd_messages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_apart_reaches, setup_apart, teardown),
		cmocka_unit_test_setup_teardown(test_apart_restarted, setup_apart, teardown),
		cmocka_unit_test_setup_teardown(test_apart_keeper_gone, setup_apart, teardown),
		cmocka_unit_test_setup_teardown(test_apart_without_reach, setup_without_reach,
						teardown),
		cmocka_unit_test(test_apart_by_halves),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	if (argc == 10 && strcmp(argv[1], "role") == 0)
		return role_life(argv + 2);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
