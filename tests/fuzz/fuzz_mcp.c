/*
 * What an agent posts: the first byte chooses the version of the protocol and what the keeper
 * answers, the rest are messages with a NUL between them, in one session. Each has exactly one
 * reply, or waits for a human; a reply is empty or JSON-RPC; what the keeper is asked is as ask.h
 * wants it, or it would end the desk.
 */
#include "fuzz.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/json.h"
#include "bundle/desk.h"
#include "supervise/jsonrpc.h"
#include "supervise/mcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define POSTS_MAX 16

struct world {
	struct loop *loop;
	struct desk *desk;
	struct tools_view view;
	int keeper;
	struct loop_timer stop;
};

struct posted {
	struct mcp_post *post;
	unsigned n_replies;
	char session[SESSION_ID_SIZE];
};

static struct world world;

static void on_stop(struct loop_timer *t)
{
	(void)t;
	loop_stop(world.loop, 0);
}

static void world_make(void)
{
	int pair[2];

	if (world.loop)
		return;
	world.loop = loop_new(NULL);
	world.stop.fn = on_stop;
	if (!world.loop || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
	    desk_open(&world.desk, world.loop, pair[0], 1, NULL) < 0)
		abort();
	world.keeper = pair[1];
}

static void on_reply(const struct mcp_reply *r, void *ctx)
{
	_cleanup_json_ json_t *j = json_loadb(r->body.p ? r->body.p : "", r->body.n, 0, NULL);
	struct posted *p = ctx;
	const json_t *one = json_is_array(j) ? json_array_get(j, 0) : j;

	p->n_replies++;
	p->post = NULL;
	if (r->session)
		(void)snprintf(p->session, sizeof(p->session), "%s", r->session);
	if (r->status == 202 ? r->body.n != 0
			     : !json_object_get(one, "result") == !json_object_get(one, "error"))
		abort();
}

#define CHECK_END(text)                                                                            \
	do {                                                                                       \
		if (!memchr((text), '\0', sizeof(text)))                                           \
			abort();                                                                   \
	} while (0)

static void check_ask(const struct ask *a)
{
	if (a->op < ASK_REQUEST || a->op > ASK_TELL || a->kind > ASK_CAPABILITY ||
	    a->n_ports > ASK_PORTS_MAX || a->n_paths > ASK_PATHS_MAX ||
	    a->methods >= 1u << POLICY_METHOD_COUNT || (a->op == ASK_REQUEST) != (a->kind != 0))
		abort();
	CHECK_END(a->host);
	CHECK_END(a->remote);
	CHECK_END(a->ref);
	CHECK_END(a->new_oid);
	CHECK_END(a->reason);
	for (size_t i = 0; i < ASK_PATHS_MAX; i++)
		CHECK_END(a->paths[i]);
}

/* Answers all that was asked, and lets the answers arrive. */
static void keeper_answers(uint8_t choice)
{
	struct ask a;

	while (recv(world.keeper, &a, sizeof(a), MSG_DONTWAIT) == (ssize_t)sizeof(a)) {
		struct ask_answer answer = {.id = a.id,
					    .life = a.life,
					    .number = 3,
					    .state = ASK_PENDING + choice % ASK_TAKEN,
					    .scope = choice % (ASK_ALWAYS + 1),
					    .is_final = choice & 1};

		check_ask(&a);
		if (send(world.keeper, &answer, sizeof(answer), MSG_DONTWAIT) < 0)
			abort();
	}
	loop_timer_set(world.loop, &world.stop, 0);
	(void)loop_run(world.loop);
}

static void post(struct mcp *m, struct posted *p, const char *session, struct str body)
{
	struct mcp_in in = {.body = body, .session = str_of(session)};

	p->post = mcp_take(m, &in, on_reply, p);
	/* The rest of the sending happens in keeper_answers(). */
	if (!p->post != (p->n_replies == 1))
		abort();
}

static void initialize(struct mcp *m, struct posted *p, enum session_version v)
{
	char body[256];

	(void)snprintf(body, sizeof(body),
		       "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{"
		       "\"protocolVersion\":\"%s\"}}",
		       session_version_name(v));
	post(m, p, "", str_of(body));
	if (!p->session[0])
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct posted posted[POSTS_MAX] = {{.post = NULL}};
	const struct mcp_config config = {.view = &world.view, .poll_ms = 1000};
	struct mcp_config own = config;
	struct str rest;
	struct mcp *m;
	bool more = true;

	if (n == 0 || n > JSONRPC_MESSAGE_MAX + 64)
		return 0;
	world_make();
	own.desk = world.desk;
	m = mcp_new(world.loop, &own);
	initialize(m, &posted[0], (enum session_version)(data[0] % SESSION_VERSION_COUNT));
	rest = str_slice(data + 1, n - 1);
	for (size_t i = 1; i < POSTS_MAX && more; i++) {
		struct str body;

		rest = str_cut(rest, '\0', &body, &more);
		post(m, &posted[i], posted[0].session, body);
		keeper_answers(data[0] / SESSION_VERSION_COUNT);
	}
	for (size_t i = 0; i < POSTS_MAX; i++) {
		if (posted[i].n_replies > 1)
			abort();
	}
	mcp_free(m);
	return 0;
}
