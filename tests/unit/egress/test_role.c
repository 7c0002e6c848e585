/*
 * The role as init starts it: a process of its own, sealed, that is given everything through
 * descriptors. What the parts can do is tested elsewhere; here, that they can do it with their
 * powers gone (DNS, dialling, TLS, the netlink reading, asking keyd), and that the end of init is
 * its end. The same in a network of its own, where what the operator named is on the loopback of
 * the one that the test runs in, with the keeper's real half on the other side.
 */
#include "role_world.h"

static void test_works_sealed(void **state)
{
	struct world *w = *state;
	char answer[8192];
	struct record r;

	assert_int_equal(world_ask(w,
				   "GET https://bound.test/echo HTTP/1.1\r\nHost: bound.test\r\n"
				   "Authorization: Bearer " PLACEHOLDER "\r\n\r\n",
				   answer, sizeof(answer)),
			 200);
	assert_non_null(strstr(answer, "Bearer ****************************\r\n"));
	assert_int_equal(recv(w->record_fds[0], &r, sizeof(r), 0), (ssize_t)sizeof(r));
	assert_string_equal(r.reason, "credential-echoed");
	assert_int_equal(
		world_ask(w, "GET https://mixed.dns.test/ HTTP/1.1\r\nHost: mixed.dns.test\r\n\r\n",
			  answer, sizeof(answer)),
		403);
	assert_non_null(strstr(answer, "inside-address"));
	assert_int_equal(recv(w->record_fds[0], &r, sizeof(r), 0), (ssize_t)sizeof(r));
	assert_string_equal(r.reason, "inside-address");
	assert_int_equal(world_ask(w,
				   "GET https://nx.dns.test/ HTTP/1.1\r\nHost: nx.dns.test\r\n\r\n",
				   answer, sizeof(answer)),
			 502);
	assert_int_equal(world_ask(w, "GET https://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
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
	assert_int_equal(world_ask(w,
				   "GET https://bound.test/echo HTTP/1.1\r\nHost: bound.test\r\n"
				   "Authorization: Bearer " PLACEHOLDER "\r\n\r\n",
				   answer, sizeof(answer)),
			 200);
	/* Garbage costs its connection only. */
	assert_int_equal(world_ask(w, "\x16\x03\x01garbage\r\n\r\n", answer, sizeof(answer)) / 100,
			 4);
	assert_int_equal(waitpid(w->pid, NULL, WNOHANG), 0);
}

/* --- git --- */

#define GIT_BASIC "bWU6Y2JwaC1naXQwMTIzNDU2Nzg5YWJjZGVmZ2hpag==" /* me:GIT_PLACEHOLDER */
#define GIT_GET(path)                                                                              \
	"GET https://bound.test" path " HTTP/1.1\r\nHost: bound.test\r\n"                          \
	"Authorization: Basic " GIT_BASIC "\r\n\r\n"

/* Each channel reaches its own destinations, with its own placeholders. */
static void test_git_way(void **state)
{
	static const struct {
		const char *request;
		unsigned status;
		const char *reason;
	} refused[] = {
		{GIT_GET("/team/other.git/info/refs?service=git-upload-pack"), 403,
		 "path-not-allowed"},
		{GIT_GET("/team/app.git"), 403, "path-not-allowed"},
		/* No branch may be pushed. */
		{GIT_GET("/team/app.git/git-receive-pack"), 403, "path-not-allowed"},
		{"GET https://x.dns.test/ HTTP/1.1\r\nHost: x.dns.test\r\n\r\n", 403,
		 "host-not-allowed"},
		{"GET http://ssh.test/team/app.git HTTP/1.1\r\nHost: ssh.test\r\n\r\n", 403,
		 "port-not-allowed"},
		{"GET https://bound.test/team/app.git/info/refs HTTP/1.1\r\nHost: bound.test\r\n"
		 "Authorization: Bearer " PLACEHOLDER "\r\n\r\n",
		 403, "placeholder-missing"},
	};
	struct world *w = *state;
	char answer[8192];
	struct record r;

	assert_int_equal(world_ask_over(w->git_fds[0],
					GIT_GET("/team/app.git/info/refs?service=git-upload-pack"),
					answer, sizeof(answer)),
			 200);
	assert_non_null(strstr(answer, "Basic ****************"));
	assert_null(strstr(answer, GIT_CREDENTIAL));
	assert_int_equal(recv(w->record_fds[0], &r, sizeof(r), 0), (ssize_t)sizeof(r));
	assert_string_equal(r.reason, "credential-echoed");
	assert_string_equal(r.rule, "git");
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		assert_int_equal(
			world_ask_over(w->git_fds[0], refused[i].request, answer, sizeof(answer)),
			refused[i].status);
		assert_int_equal(recv(w->record_fds[0], &r, sizeof(r), 0), (ssize_t)sizeof(r));
		assert_string_equal(r.reason, refused[i].reason);
		assert_string_equal(r.rule, "git");
	}
	/* And git-gate's placeholder is worth nothing over the agent's way. */
	assert_int_equal(world_ask(w, GIT_GET("/team/app.git/info/refs?service=git-upload-pack"),
				   answer, sizeof(answer)),
			 403);
	assert_int_equal(recv(w->record_fds[0], &r, sizeof(r), 0), (ssize_t)sizeof(r));
	assert_string_equal(r.rule, "");
	assert_int_equal(waitpid(w->pid, NULL, WNOHANG), 0);
}

static void expect_ssh_dialled(struct world *w)
{
	const struct git_stream_request q = {.remote = 1};
	struct git_dial_reply reply;
	char text[8] = "";
	int fd, peer;

	assert_true(world_dial(w, &q, sizeof(q), &reply, &fd, NULL));
	if (reply.status != 0)
		fail_msg("%s", reply.text);
	peer = accept4(w->ssh_fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(peer >= 0);
	assert_int_equal(write(fd, "hello", 5), 5);
	assert_int_equal(read(peer, text, sizeof(text)), 5);
	close_fd(&fd);
	/* egress has kept nothing of it. */
	assert_int_equal(read(peer, text, sizeof(text)), 0);
	close_fd(&peer);
}

static void test_git_dial(void **state)
{
	static const struct git_stream_request bad[] = {{.remote = 0},
							{.remote = 3},
							{.remote = 1, .service = 1},
							{.remote = 1, .zero = 1}};
	const struct git_stream_request inside = {.remote = 2};
	struct world *w = *state;
	struct git_dial_reply reply;
	struct record r;
	int fd;

	expect_ssh_dialled(w);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(world_dial(w, &bad[i], sizeof(bad[i]), &reply, &fd, NULL));
	assert_false(world_dial(w, "x", 1, &reply, &fd, NULL));
	assert_int_equal(io_send_fds(w->dial_fds[0], &bad[0], sizeof(bad[0]), NULL, 0, 0), 8);
	/* A name that leads inside as well. */
	assert_true(world_dial(w, &inside, sizeof(inside), &reply, &fd, NULL));
	assert_int_equal(reply.status, 1);
	assert_non_null(strstr(reply.text, "inside-address"));
	assert_int_equal(recv(w->record_fds[0], &r, sizeof(r), 0), (ssize_t)sizeof(r));
	assert_string_equal(r.reason, "inside-address");
	assert_string_equal(r.rule, "git-ssh");
	expect_ssh_dialled(w);
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

	assert_int_equal(world_ask(w, request, answer, sizeof(answer)), status);
	if (!strstr(answer, text))
		fail_msg("no %s in: %s", text, answer);
}

/* Skips where there are no namespaces. */
static void start_apart(struct world *w)
{
	int status = 0;

	if (world_start_role(w, "apart"))
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
	world_keeper_start(w);
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
	/* The keeper knows git-gate's upstreams as well. */
	expect_ssh_dialled(w);
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
	world_keeper_stop(w);
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
			world_keeper_start(w);
		assert_false(world_start_role(w, "here"));
		assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
		w->pid = 0;
		assert_int_equal(world_teardown(&inner), 0);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_works_sealed, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_odd_messages, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_git_way, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_git_dial, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_apart_reaches, setup_apart, world_teardown),
		cmocka_unit_test_setup_teardown(test_apart_restarted, setup_apart, world_teardown),
		cmocka_unit_test_setup_teardown(test_apart_keeper_gone, setup_apart,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_apart_without_reach, setup_without_reach,
						world_teardown),
		cmocka_unit_test(test_apart_by_halves),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	if (argc == WORLD_ROLE_ARGC && strcmp(argv[1], "role") == 0)
		return world_role_life(argv + 2);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
