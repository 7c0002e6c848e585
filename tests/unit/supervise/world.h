/*
 * The server in this process, with its agent and its keeper played by the test: the agent is raw
 * bytes on sockets, the keeper the other end of the desk's channel.
 */
#pragma once

#include "conf/policy.h"
#include "supervise/server.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <jansson.h>

#define WORLD_ASKS_MAX 64

struct world {
	struct loop *loop;
	struct desk *desk;
	struct tools_view view;
	struct mcp *mcp;
	struct server *server;
	struct server_config config;
	struct mcp_config protocol;
	struct policy policy;
	int listen_fd, keeper_fd, desk_fd;
	uint16_t port, host_port; /* to dial; what Host says */
	struct loop_timer stop;
	/* The keeper: each ask is kept, and answered with this, unless it is silent. */
	struct loop_watch keeper;
	struct ask_answer reply;
	bool is_silent;
	struct ask asks[WORLD_ASKS_MAX];
	size_t n_asks;
	/* The agent: the last answer, and the session that initialize gave. */
	struct loop_watch agent;
	char raw[2 << 20];
	size_t n_raw;
	bool is_closed;
	unsigned status;
	const char *head, *body;
	char session[64];
	const char *version; /* sent as MCP-Protocol-Version; NULL: none */
};

int world_setup(void **state); /* cmocka's */
int world_teardown(void **state);
/* Ends the server and makes another with what is in config and protocol. */
void world_restart(struct world *w);
void world_run(struct world *w, unsigned ms);

int world_dial(struct world *w);
void world_send(struct world *w, int fd, const char *bytes, size_t n);
/* One answer on fd, at most 3 s. False: it was closed without one. */
bool world_receive(struct world *w, int fd);
/* A POST of body, as a client of the session would make it, without waiting for an answer. */
int world_begin(struct world *w, const char *body);
/* Whole requests, each on a connection of its own; the status. */
unsigned world_raw(struct world *w, const char *request);
unsigned world_post(struct world *w, const char *body);
/* The answer to what was begun on fd, which is closed. */
unsigned world_finish(struct world *w, int fd);
/* The agreed version, and its session is the one of what follows. */
const char *world_initialize(struct world *w, const char *version);
/* A tool's structured content, the caller's; *is_error may be NULL. arguments NULL: none. */
json_t *world_tool(struct world *w, const char *name, const char *arguments, bool *is_error);
/* The error's code, 0 for none; its message is in w->body. */
int world_error(const struct world *w);
/* The keeper says something of the ask of this index. */
void world_answer(struct world *w, size_t ask, enum ask_state state, bool is_final);
