/*
 * The role as a process of its own, sealed as it will be: all that it does has to be possible with
 * what is left to it, or the kernel ends it. The test is its init, keeper, record role and agent.
 */
#include "world.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/ports.h"
#include "bundle/bundle.h"
#include "bundle/news.h"
#include "supervise/jsonrpc.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CONFIG                                                                                     \
	"{\"version\":1,\"slug\":\"t-1\",\"pinned\":\"127.0.0.1\",\"uid_base\":0,"                 \
	"\"supervised\":true,\"paused\":%s,\"policy\":{\"version\":1,\"resolve\":[],\"routes\":["  \
	"{\"host\":\"%s\",\"ports\":[443],\"methods\":[\"GET\"],\"paths\":[],"                     \
	"\"on_match\":\"block\",\"websocket\":false}]}}"

struct role {
	pid_t pid;
	int news, refused;
};

static int config_file(const char *paused, const char *host)
{
	_cleanup_free_ char *text = mem_printf(CONFIG, paused, host);
	int fd = io_memfd_sealed("config", str_of(text), NULL);

	assert_true(fd >= 0);
	return fd;
}

/* Never returns in the role's process. */
static void role_start(struct world *w, struct role *r)
{
	struct bundle_role_env env;
	int ready[2], news[2], refused[2];
	char byte;

	memset(&env, 0xff, sizeof(env));
	assert_int_equal(pipe(ready), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, news), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, refused), 0);
	/* The server in this process gives way. */
	server_free(w->server);
	w->server = NULL;
	w->host_port = SERVICE_PORT_SUPERVISE;
	env.role = BUNDLE_ROLE_SUPERVISE;
	env.life = 7;
	env.uid = 0;
	env.config_fd = config_file("false", "first.example");
	env.ready_fd = ready[1];
	env.listen_fd = w->listen_fd;
	env.desk_fd = w->desk_fd;
	env.news_fd = news[1];
	env.refused_fd = refused[1];
	desk_close(w->desk);
	w->desk = NULL;
	r->pid = fork();
	if (r->pid == 0) {
		(void)close(w->keeper_fd);
		(void)close(news[0]);
		(void)close(refused[0]);
		_exit(supervise_role_main(&env));
	}
	assert_true(r->pid > 0);
	(void)close(env.config_fd);
	(void)close(ready[1]);
	(void)close(news[1]);
	(void)close(refused[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	(void)close(ready[0]);
	r->news = news[0];
	r->refused = refused[0];
}

static int role_end(struct role *r)
{
	int status;

	(void)close(r->news);
	(void)close(r->refused);
	(void)kill(r->pid, SIGTERM);
	assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
	return status;
}

static void give_news(struct role *r)
{
	struct news news = {.generation = 1};
	int fd = config_file("true", "second.example");

	assert_int_equal(io_send_fds(r->news, &news, sizeof(news), &fd, 1, 0), sizeof(news));
	(void)close(fd);
	assert_int_equal(recv(r->news, &news, sizeof(news), 0), sizeof(news));
	assert_int_equal(news.generation, 1);
}

static void give_records(struct role *r)
{
	struct record record;

	record_init(&record, "pipelock", RECORD_BLOCK, "host-not-allowed");
	(void)snprintf(record.host, sizeof(record.host), "refused.example");
	assert_int_equal(send(r->refused, &record, sizeof(record), 0), sizeof(record));
	/* What is malformed costs itself alone. */
	assert_int_equal(send(r->refused, &record, 5, 0), 5);
	record.verdict = RECORD_ALLOW;
	assert_int_equal(send(r->refused, &record, sizeof(record), 0), sizeof(record));
}

static void sealed_role_serves(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *asked = NULL, *before = NULL, *after = NULL, *refusals = NULL;
	_cleanup_free_ char *largest = mem_zalloc(JSONRPC_MESSAGE_MAX + 1);
	struct role r;
	int status;

	role_start(w, &r);
	assert_string_equal(world_initialize(w, "2025-11-25"), "2025-11-25");
	before = world_tool(w, "network_policy", NULL, NULL);
	assert_non_null(strstr(w->body, "first.example"));
	give_news(&r);
	after = world_tool(w, "network_policy", NULL, NULL);
	assert_non_null(strstr(w->body, "second.example"));
	assert_true(json_is_true(json_object_get(after, "paused")));
	w->reply.state = ASK_GRANTED;
	w->reply.is_final = 1;
	asked = world_tool(w, "request_egress", "{\"host\":\"a.example\",\"reason\":\"r\"}", NULL);
	assert_string_equal(json_string_value(json_object_get(asked, "state")), "granted");
	assert_int_equal(w->asks[0].life, 7);
	give_records(&r);
	refusals = world_tool(w, "recent_refusals", NULL, NULL);
	assert_int_equal(json_array_size(json_object_get(refusals, "refusals")), 1);
	/* As much of a tree as a message can be, within its memory. */
	for (size_t i = 0; i + 3 < JSONRPC_MESSAGE_MAX; i += 3)
		memcpy(largest + i, i ? ",{}" : "[{}", 3);
	largest[strlen(largest)] = ']';
	assert_int_equal(world_post(w, largest), 400);
	assert_int_equal(world_error(w), JSONRPC_INVALID_REQUEST);
	status = role_end(&r);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Without its keeper it goes on saying that nobody can be asked. */
static void keeper_ends(void **state)
{
	struct world *w = *state;
	_cleanup_json_ json_t *asked = NULL;
	struct role r;
	int status;

	role_start(w, &r);
	(void)world_initialize(w, "2025-11-25");
	loop_del(w->loop, &w->keeper);
	close_fd(&w->keeper_fd);
	close_fd(&w->desk_fd);
	asked = world_tool(w, "tell_human", "{\"message\":\"m\"}", NULL);
	assert_string_equal(json_string_value(json_object_get(asked, "state")), "unavailable");
	status = role_end(&r);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
#define WORLD(fn) cmocka_unit_test_setup_teardown(fn, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		WORLD(sealed_role_serves),
		WORLD(keeper_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
