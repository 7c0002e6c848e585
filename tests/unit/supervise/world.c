#include "world.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>

#define WORLD_OF(ptr, member)                                                                      \
	((struct world *)(void *)((char *)(ptr)-offsetof(struct world, member)))
#define WORLD_PATIENCE_MS 3000

/* A route with a credential, whose name and placeholder no answer may hold, and one without. */
static const char policy_json[] =
	"{\"version\":1,\"resolve\":[],\"routes\":["
	"{\"host\":\"api.example.com\",\"ports\":[443],\"methods\":[\"GET\",\"POST\"],"
	"\"paths\":[\"/v1/**\"],\"on_match\":\"block\",\"websocket\":false,"
	"\"origin_file\":\"hidden.yaml\",\"origin_line\":3,\"auth\":{\"scheme\":\"bearer\","
	"\"credential\":0,\"header\":\"authorization\","
	"\"placeholder\":\"hidden-placeholder-0123456789\"}},"
	"{\"host\":\"*.files.example.org\",\"ports\":[443,8443],\"methods\":[\"GET\"],"
	"\"paths\":[],\"on_match\":\"supervise\",\"websocket\":true}]}";

static void on_stop(struct loop_timer *t)
{
	loop_stop(WORLD_OF(t, stop)->loop, 0);
}

void world_run(struct world *w, unsigned ms)
{
	loop_timer_set(w->loop, &w->stop, ms);
	(void)loop_run(w->loop);
	loop_timer_del(w->loop, &w->stop);
}

/* --- the keeper --- */

static void keeper_send(struct world *w, const struct ask *a, struct ask_answer reply)
{
	reply.id = a->id;
	reply.life = a->life;
	assert_int_equal(send(w->keeper_fd, &reply, sizeof(reply), 0), sizeof(reply));
}

static void on_ask(struct loop_watch *watch, uint32_t events)
{
	struct world *w = WORLD_OF(watch, keeper);
	struct ask *a = &w->asks[w->n_asks % WORLD_ASKS_MAX];

	(void)events;
	if (recv(watch->fd, a, sizeof(*a), MSG_DONTWAIT) != (ssize_t)sizeof(*a))
		return;
	w->n_asks++;
	if (!w->is_silent)
		keeper_send(w, a, w->reply);
}

void world_answer(struct world *w, size_t ask, enum ask_state state, bool is_final)
{
	struct ask_answer reply = w->reply;

	reply.state = state;
	reply.is_final = is_final;
	keeper_send(w, &w->asks[ask], reply);
}

/* --- the world --- */

static void world_listen(struct world *w)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	w->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_return_code(bind(w->listen_fd, (struct sockaddr *)&a, sizeof(a)), errno);
	assert_return_code(listen(w->listen_fd, 128), errno);
	assert_return_code(getsockname(w->listen_fd, (struct sockaddr *)&a, &n), errno);
	w->port = w->host_port = ntohs(a.sin_port);
}

static void world_serve(struct world *w)
{
	w->protocol.desk = w->desk;
	w->protocol.view = &w->view;
	w->mcp = mcp_new(w->loop, &w->protocol);
	w->config.host = "127.0.0.1";
	w->config.port = w->port;
	w->config.mcp = w->mcp;
	assert_int_equal(server_new(&w->server, w->loop, &w->config, NULL), 0);
	assert_int_equal(server_listen(w->server, w->listen_fd, NULL), 0);
}

void world_restart(struct world *w)
{
	server_free(w->server);
	mcp_free(w->mcp);
	world_serve(w);
}

int world_setup(void **state)
{
	struct world *w = mem_zalloc(sizeof(*w));
	struct err e = ERR_INIT;
	int pair[2];

	*state = w;
	w->stop.fn = on_stop;
	w->loop = loop_new(&e);
	assert_non_null(w->loop);
	if (policy_from_json(&w->policy, str_of(policy_json), &e) < 0)
		fail_msg("%s", e.text);
	w->view.policy = &w->policy;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	w->keeper_fd = pair[0];
	w->desk_fd = pair[1];
	assert_int_equal(desk_open(&w->desk, w->loop, w->desk_fd, 7, &e), 0);
	w->keeper = (struct loop_watch){.fd = -1, .fn = on_ask};
	assert_int_equal(loop_add(w->loop, &w->keeper, w->keeper_fd, EPOLLIN, &e), 0);
	w->reply = (struct ask_answer){.number = 41, .state = ASK_PENDING};
	world_listen(w);
	world_serve(w);
	return 0;
}

int world_teardown(void **state)
{
	struct world *w = *state;

	server_free(w->server);
	mcp_free(w->mcp);
	desk_close(w->desk);
	policy_free(&w->policy);
	loop_free(w->loop);
	close_fd(&w->keeper_fd);
	close_fd(&w->desk_fd);
	close_fd(&w->listen_fd);
	free(w);
	return 0;
}

/* --- the agent --- */

int world_dial(struct world *w)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				.sin_port = htons(w->port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(connect(fd, (struct sockaddr *)&a, sizeof(a)), errno);
	(void)io_set_nonblock(fd, true);
	return fd;
}

/* What a server that has made up its mind does not read any more is no failure here. */
void world_send(struct world *w, int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

		if (sent < 0 && errno != EAGAIN)
			return;
		if (sent > 0) {
			bytes += sent;
			n -= (size_t)sent;
		}
		world_run(w, 0);
	}
}

/* Bytes of the first answer in raw, if it is there as a whole. */
static size_t answer_length(const struct world *w)
{
	const char *end = strstr(w->raw, "\r\n\r\n");
	const char *length = end ? strcasestr(w->raw, "\r\nContent-Length: ") : NULL;
	size_t n;

	if (!length || length > end)
		return 0;
	n = (size_t)(end + 4 - w->raw) + strtoul(length + 18, NULL, 10);
	return n <= w->n_raw ? n : 0;
}

static void on_answer(struct loop_watch *watch, uint32_t events)
{
	struct world *w = WORLD_OF(watch, agent);
	ssize_t n = recv(watch->fd, w->raw + w->n_raw, sizeof(w->raw) - 1 - w->n_raw, 0);

	(void)events;
	if (n < 0 && errno == EAGAIN)
		return;
	w->is_closed = n <= 0;
	w->n_raw += n > 0 ? (size_t)n : 0;
	w->raw[w->n_raw] = '\0';
	if (w->is_closed || answer_length(w) > 0)
		loop_stop(w->loop, 0);
}

/* Answers that came with the one before stay in raw for the next call. */
bool world_receive(struct world *w, int fd)
{
	static char kept[sizeof(w->raw)];
	size_t n = w->body ? answer_length(w) : 0;

	memmove(w->raw, w->raw + n, w->n_raw - n);
	w->n_raw -= n;
	w->raw[w->n_raw] = '\0';
	w->body = w->head = NULL;
	w->is_closed = false;
	w->agent = (struct loop_watch){.fd = -1, .fn = on_answer};
	assert_int_equal(loop_add(w->loop, &w->agent, fd, EPOLLIN, NULL), 0);
	if (answer_length(w) == 0)
		world_run(w, WORLD_PATIENCE_MS);
	loop_del(w->loop, &w->agent);
	n = answer_length(w);
	if (n == 0)
		return false;
	w->status = (unsigned)strtoul(w->raw + strlen("HTTP/1.1 "), NULL, 10);
	memcpy(kept, w->raw, n);
	kept[n] = '\0';
	w->body = strstr(kept, "\r\n\r\n") + 4;
	kept[w->body - kept - 2] = '\0';
	w->head = kept;
	return true;
}

static void world_forget_answers(struct world *w)
{
	w->n_raw = 0;
	w->raw[0] = '\0';
	w->body = NULL;
}

int world_begin(struct world *w, const char *body)
{
	_cleanup_free_ char *request = NULL;
	int fd = world_dial(w);

	request = mem_printf("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n"
			     "Content-Type: application/json\r\n"
			     "Accept: application/json, text/event-stream\r\n"
			     "Content-Length: %zu\r\n%s%s%s%s%s%s\r\n%s",
			     w->host_port, strlen(body), w->session[0] ? "Mcp-Session-Id: " : "",
			     w->session, w->session[0] ? "\r\n" : "",
			     w->version ? "MCP-Protocol-Version: " : "",
			     w->version ? w->version : "", w->version ? "\r\n" : "", body);
	world_send(w, fd, request, strlen(request));
	return fd;
}

unsigned world_finish(struct world *w, int fd)
{
	unsigned status;

	world_forget_answers(w);
	status = world_receive(w, fd) ? w->status : 0;
	close_fd(&fd);
	return status;
}

unsigned world_raw(struct world *w, const char *request)
{
	int fd = world_dial(w);

	world_send(w, fd, request, strlen(request));
	return world_finish(w, fd);
}

unsigned world_post(struct world *w, const char *body)
{
	return world_finish(w, world_begin(w, body));
}

const char *world_initialize(struct world *w, const char *version)
{
	static char agreed[32];
	_cleanup_free_ char *body =
		mem_printf("{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{"
			   "\"protocolVersion\":\"%s\",\"capabilities\":{},"
			   "\"clientInfo\":{\"name\":\"test\",\"version\":\"1\"}}}",
			   version);
	_cleanup_json_ json_t *j = NULL;
	const char *id;

	w->session[0] = '\0';
	w->version = NULL;
	assert_int_equal(world_post(w, body), 200);
	id = strstr(w->head, "Mcp-Session-Id: ");
	assert_non_null(id);
	(void)snprintf(w->session, sizeof(w->session), "%.32s", id + strlen("Mcp-Session-Id: "));
	j = json_loads(w->body, 0, NULL);
	(void)snprintf(agreed, sizeof(agreed), "%s",
		       json_string_value(
			       json_object_get(json_object_get(j, "result"), "protocolVersion")));
	w->version = agreed;
	return agreed;
}

/* All of it is what the tool's output schema names, and all that it requires is there. */
static void check_output(const char *name, const json_t *content)
{
	_cleanup_json_ json_t *all = tools_list(SESSION_LATEST);
	json_t *tool, *item, *schema = NULL;
	const char *key;
	size_t i;

	json_array_foreach(json_object_get(all, "tools"), i, tool)
	{
		if (strcmp(json_string_value(json_object_get(tool, "name")), name) == 0)
			schema = json_object_get(tool, "outputSchema");
	}
	assert_non_null(schema);
	json_object_foreach((json_t *)(uintptr_t)content, key, item)
	{
		json_t *known = json_object_get(json_object_get(schema, "properties"), key);
		json_t *names = json_object_get(known, "enum"), *one;
		bool is_named = !names;

		json_array_foreach(names, i, one) is_named |= json_equal(one, item);
		if (!known || !is_named)
			fail_msg("%s: \"%s\" is not of its output schema", name, key);
	}
	json_array_foreach(json_object_get(schema, "required"), i, item)
		assert_non_null(json_object_get(content, json_string_value(item)));
}

json_t *world_tool(struct world *w, const char *name, const char *arguments, bool *is_error)
{
	_cleanup_free_ char *body =
		mem_printf("{\"jsonrpc\":\"2.0\",\"id\":\"t\",\"method\":\"tools/call\","
			   "\"params\":{\"name\":\"%s\"%s%s}}",
			   name, arguments ? ",\"arguments\":" : "", arguments ? arguments : "");
	_cleanup_json_ json_t *j = NULL;
	json_t *result;

	assert_int_equal(world_post(w, body), 200);
	j = json_loads(w->body, 0, NULL);
	result = json_object_get(j, "result");
	if (!result)
		fail_msg("no result: %s", w->body);
	if (is_error)
		*is_error = json_is_true(json_object_get(result, "isError"));
	check_output(name, json_object_get(result, "structuredContent"));
	return json_incref(json_object_get(result, "structuredContent"));
}

int world_error(const struct world *w)
{
	_cleanup_json_ json_t *j = json_loads(w->body, 0, NULL);

	return (int)json_integer_value(json_object_get(json_object_get(j, "error"), "code"));
}
