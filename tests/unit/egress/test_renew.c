/*
 * News to the sealed role: grants come and go behind the routes with credentials, what is revoked
 * and what is paused has ended when the news are answered, and the rest goes on.
 */
#include "role_world.h"

/* The host that the policy does not have, where the upstream answers as well. */
static struct policy_route granted(struct world *w, uint64_t number, bool is_once)
{
	return (struct policy_route){.host = (char *)"ssh.test",
				     .ports = {w->up.port},
				     .n_ports = 1,
				     .methods = 1u << POLICY_METHOD_GET,
				     .grant = number,
				     .is_once = is_once};
}

struct stream {
	int fd;
	char text[8192];
	size_t n;
};

static void send_request(int channel, struct stream *s, const char *host, uint16_t port,
			 const char *path, const char *fields)
{
	struct timeval limit = {.tv_sec = 10};
	char request[1024];
	int pair[2];

	(void)snprintf(request, sizeof(request),
		       "GET https://%s:%u%s HTTP/1.1\r\nHost: %s:%u\r\n%s\r\n", host, port, path,
		       host, port, fields);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(io_send_fds(channel, "c", 1, &pair[1], 1, 0), 1);
	(void)close(pair[1]);
	*s = (struct stream){.fd = pair[0]};
	(void)setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(io_write_all(s->fd, request, strlen(request)), 0);
}

/* Reads until the text is there; false when the answer ends before. */
static bool stream_until(struct stream *s, const char *text)
{
	while (!strstr(s->text, text)) {
		ssize_t got = read(s->fd, s->text + s->n, sizeof(s->text) - 1 - s->n);

		assert_true(got >= 0);
		if (got == 0)
			return false;
		s->n += (size_t)got;
		s->text[s->n] = '\0';
	}
	return true;
}

#define BOUND "Authorization: Bearer " PLACEHOLDER "\r\n"

static struct stream stream_open(struct world *w, const char *host, const char *fields)
{
	struct stream s;

	send_request(w->egress_fds[0], &s, host, strcmp(host, "ssh.test") == 0 ? w->up.port : 443,
		     "/sse", fields);
	assert_true(stream_until(&s, "first event"));
	return s;
}

static void expect_ended(struct stream *s)
{
	assert_false(stream_until(s, "second event"));
	close_fd(&s->fd);
}

static void expect_answer(struct world *w, const char *host, const char *fields, const char *text)
{
	struct stream s;

	send_request(w->egress_fds[0], &s, host, strcmp(host, "ssh.test") == 0 ? w->up.port : 443,
		     "/echo", fields);
	if (!stream_until(&s, text))
		fail_msg("no %s in %s", text, s.text);
	close_fd(&s.fd);
}

static void test_grants_come_and_go(void **state)
{
	struct world *w = *state;
	const struct policy_route grant = granted(w, 5, false);
	struct stream bound, revoked;

	expect_answer(w, "ssh.test", "", "host-not-allowed");
	bound = stream_open(w, "bound.test", BOUND);
	assert_true(world_renew(w, &grant, 1, false));
	expect_answer(w, "ssh.test", "", "200 OK");
	/* The routes with credentials are where they were, and so is what was fetched. */
	expect_answer(w, "bound.test", BOUND, "Bearer ****************************\r\n");
	/* A grant carries nothing, and no placeholder past it. */
	expect_answer(w, "ssh.test", BOUND, "placeholder-misplaced");
	revoked = stream_open(w, "ssh.test", "");
	assert_true(world_renew(w, NULL, 0, false));
	expect_ended(&revoked);
	expect_answer(w, "ssh.test", "", "host-not-allowed");
	/* Over all of that. */
	atomic_store(&w->up.go, 1);
	assert_true(stream_until(&bound, "second event"));
	close_fd(&bound.fd);
}

/* pipelock has used it up, and the policy without it is faster than the request. */
static void test_grants_for_once(void **state)
{
	struct world *w = *state;
	const struct policy_route grant = granted(w, 5, true);
	struct stream running;

	assert_true(world_renew(w, &grant, 1, false));
	running = stream_open(w, "ssh.test", "");
	assert_true(world_renew(w, NULL, 0, false));
	expect_answer(w, "ssh.test", "", "200 OK");
	atomic_store(&w->up.go, 1);
	assert_true(stream_until(&running, "second event"));
	close_fd(&running.fd);
	assert_true(world_renew(w, &grant, 1, true));
	expect_answer(w, "ssh.test", "", "network-paused");
}

/* On a kept connection, which ends when it is used again, a request is repeated; not so one that
 * was allowed once. */
static void test_once_is_not_repeated(void **state)
{
	struct world *w = *state;

	for (int is_once = 0; is_once < 2; is_once++) {
		const struct policy_route grant = granted(w, 5 + (uint64_t)is_once, is_once);
		unsigned before;
		struct stream s;

		assert_true(world_renew(w, &grant, 1, false));
		expect_answer(w, "ssh.test", "", "200 OK");
		before = atomic_load(&w->up.n_requests);
		send_request(w->egress_fds[0], &s, "ssh.test", w->up.port, "/drop", "");
		assert_true(stream_until(&s, "upstream-closed"));
		close_fd(&s.fd);
		assert_int_equal(atomic_load(&w->up.n_requests), before + (is_once ? 1 : 2));
	}
}

static void test_paused(void **state)
{
	static const struct git_stream_request far = {.remote = 1};
	struct world *w = *state;
	struct git_dial_reply reply;
	struct stream agent, git;
	int fd, asker, peer;
	char text[8];

	agent = stream_open(w, "bound.test", BOUND);
	send_request(w->git_fds[0], &git, "bound.test", 443,
		     "/team/app.git/info/refs?service=git-upload-pack",
		     "Authorization: Basic "
		     "bWU6Y2JwaC1naXQwMTIzNDU2Nzg5YWJjZGVmZ2hpag==\r\n");
	assert_true(stream_until(&git, "200 OK"));
	close_fd(&git.fd);
	assert_true(world_dial(w, &far, sizeof(far), &reply, &fd, &asker));
	assert_int_equal(reply.status, 0);
	peer = accept4(w->ssh_fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(peer >= 0);

	assert_true(world_renew(w, NULL, 0, true));
	expect_ended(&agent);
	/* The connection that was given away, while who has it holds on to it. */
	assert_int_equal(io_wait(peer, POLLIN, 5000), 1);
	assert_int_equal(read(peer, text, sizeof(text)), 0);
	assert_int_equal(io_wait(fd, POLLIN, 5000), 1);
	assert_int_equal(read(fd, text, sizeof(text)), 0);
	close_fd(&fd);
	close_fd(&asker);
	close_fd(&peer);
	expect_answer(w, "bound.test", BOUND, "network-paused");
	send_request(w->git_fds[0], &git, "bound.test", 443, "/team/app.git/info/refs", "");
	assert_true(stream_until(&git, "network-paused"));
	close_fd(&git.fd);
	assert_true(world_dial(w, &far, sizeof(far), &reply, &fd, NULL));
	assert_int_equal(reply.status, 1);
	assert_string_equal(reply.text, "network-paused");

	assert_true(world_renew(w, NULL, 0, false));
	expect_answer(w, "bound.test", BOUND, "200 OK");
	assert_true(world_dial(w, &far, sizeof(far), &reply, &fd, &asker));
	assert_int_equal(reply.status, 0);
	close_fd(&fd);
	close_fd(&asker);
}

/* Whatever else is different in a policy is no news: the role ends, to be started with it. */
static void test_other_differences(void **state)
{
	struct world *w = *state;
	int status = 0;

	w->up.port++;
	assert_false(world_renew(w, NULL, 0, false));
	w->up.port--;
	assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	w->pid = 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_grants_come_and_go, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_grants_for_once, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_once_is_not_repeated, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_paused, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_other_differences, world_setup,
						world_teardown),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	if (argc == WORLD_ROLE_ARGC && strcmp(argv[1], "role") == 0)
		return world_role_life(argv + 2);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
