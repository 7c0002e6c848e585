/* A role's side of its news, with the test as init. Each case is a process: bad news end it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clean.h"
#include "base/io.h"
#include "bundle/bundle.h"
#include "bundle/news.h"
#include "net/loop.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define GOOD                                                                                       \
	"{\"version\":1,\"slug\":\"t-1\",\"pinned\":\"10.209.0.2\",\"uid_base\":0,\"paused\":"     \
	"true,\"policy\":{\"version\":1,\"resolve\":[],\"routes\":[]}}"
#define REFUSES_GENERATION 99 /* the role cannot take it */

static bool on_news(struct bundle_config *c, uint64_t generation, void *ctx)
{
	bool *is_right = ctx;
	struct policy *policy = take_ptr(&c->policy);

	*is_right = c->is_paused && policy && strcmp(c->slug, "t-1") == 0;
	policy_free(policy);
	free(policy);
	return *is_right && generation != REFUSES_GENERATION;
}

static void on_timer(struct loop_timer *t)
{
	(void)t;
	_exit(0);
}

/* Status 0 once it was idle for a while; 1: died. */
static pid_t role_start(int *channel)
{
	struct loop_timer timer = {.fn = on_timer};
	struct err e = ERR_INIT;
	struct news_watch *w;
	struct loop *l;
	bool is_right = true;
	int pair[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	*channel = pair[0];
	pid = fork();
	if (pid != 0) {
		close(pair[1]);
		return pid;
	}
	close(pair[0]);
	(void)close(STDERR_FILENO);
	l = loop_new(&e);
	if (!l || news_watch_start(&w, l, pair[1], on_news, &is_right, &e) < 0)
		_exit(2);
	loop_timer_set(l, &timer, 100);
	(void)loop_run(l);
	_exit(3);
}

static int status_of(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void tell(int channel, uint64_t generation, const char *config, size_t n)
{
	const struct news news[2] = {{generation}, {0}};
	struct err e = ERR_INIT;
	_cleanup_close_ int fd = config ? io_memfd_sealed("news", str_of(config), &e) : -1;

	assert_int_equal(io_send_fds(channel, news, n, &fd, fd >= 0, 0), n);
}

static void expect_answer(int channel, uint64_t generation)
{
	struct news answer = {0};

	assert_int_equal(io_wait(channel, POLLIN, 5000), 1);
	assert_int_equal(recv(channel, &answer, sizeof(answer), 0), sizeof(answer));
	assert_int_equal(answer.generation, generation);
}

static void test_answered_once_in_force(void **state)
{
	int channel;
	pid_t pid = role_start(&channel);

	(void)state;
	tell(channel, 3, GOOD, sizeof(struct news));
	expect_answer(channel, 3);
	tell(channel, 4, GOOD, sizeof(struct news));
	expect_answer(channel, 4);
	assert_int_equal(status_of(pid), 0);
	close(channel);
}

static void test_bad_news_end_the_role(void **state)
{
	static const struct {
		uint64_t generation;
		const char *config;
		size_t n;
	} cases[] = {
		{2, NULL, sizeof(struct news)},	    {2, GOOD, sizeof(struct news) - 1},
		{2, GOOD, sizeof(struct news) + 1}, {2, "{}", sizeof(struct news)},
		{1, GOOD, sizeof(struct news)},	    {REFUSES_GENERATION, GOOD, sizeof(struct news)},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int channel;
		pid_t pid = role_start(&channel);

		tell(channel, 1, GOOD, sizeof(struct news));
		expect_answer(channel, 1);
		tell(channel, cases[i].generation, cases[i].config, cases[i].n);
		assert_int_equal(status_of(pid), 1);
		close(channel);
	}
}

/* init's end has other ways to be heard of; a role does not spin on it. */
static void test_init_is_gone(void **state)
{
	int channel;
	pid_t pid = role_start(&channel);

	(void)state;
	close(channel);
	assert_int_equal(status_of(pid), 0);
}

static void test_no_channel(void **state)
{
	struct err e = ERR_INIT;
	struct loop *l = loop_new(&e);
	struct news_watch *w;

	(void)state;
	assert_non_null(l);
	assert_int_equal(news_watch_start(&w, l, -1, on_news, NULL, &e), 0);
	news_watch_stop(w);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answered_once_in_force),
		cmocka_unit_test(test_bad_news_end_the_role),
		cmocka_unit_test(test_init_is_gone),
		cmocka_unit_test(test_no_channel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
