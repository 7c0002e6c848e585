/*
 * An agent's side of MCP, as hostile as need be: messages are texts made by hand. And the human's
 * attention: what the suite does at a moment that only the probe knows.
 */
#pragma once

#include "probe/probe.h"

#include <sys/types.h>

#define PROBE_MCP_SESSION_SIZE 80
#define PROBE_MCP_FIELDS       "Content-Type: application/json\r\n"

struct probe_mcp {
	const struct probe_env *env;
	char session[PROBE_MCP_SESSION_SIZE];
	unsigned n; /* the last message's id */
	/* Of the last call. */
	struct probe_reply reply;
	char state[16];	 /* "pending", "granted", …; "" where there is none */
	uint64_t number; /* the request's; 0: none */
};

/* initialize; false, with the reply, when nobody gives a session. */
bool probe_mcp_open(struct probe_mcp *m, const struct probe_env *env);
/* A connected socket, or -errno. */
int probe_mcp_connect(const struct probe_env *env);
/* "ADDRESS:PORT" of Host. */
void probe_mcp_host(const struct probe_env *env, char *out, size_t size);
/* These bytes, on a connection of their own. */
void probe_mcp_send(struct probe_mcp *m, struct str request);
/* A POST in this session with this body. */
void probe_mcp_post(struct probe_mcp *m, struct str body);
/* The head of one, as far as "Content-Length: "; to be continued. */
int probe_mcp_head(const struct probe_mcp *m, struct buf *out) _fallible_;
/* Calls a tool; arguments: a JSON object. True: a result that is no error, in state and number. */
bool probe_mcp_call(struct probe_mcp *m, const char *tool, const char *arguments);
/* The same, once more in a while for as long as it is asked too fast. */
bool probe_mcp_call_patiently(struct probe_mcp *m, const char *tool, const char *arguments);
/* Whether what was said is a result, and none of a tool that says that it failed. */
bool probe_mcp_is_result(const struct probe_reply *r);
/* The answer's words without its head, for a report. */
void probe_mcp_describe(const struct probe_reply *r, char *out, size_t size);
/* s as a JSON string; on the heap. */
char *probe_mcp_json(struct str s);

/* A process that sends this to the host whose requests are held, and waits for its answer. */
struct probe_sender {
	pid_t pid;
};
void probe_send_held(struct probe_sender *s, const struct probe_env *env, const char *body);
/* It goes away; outside, where nothing holds it, when it has been answered. */
void probe_send_end(struct probe_sender *s, const struct probe_env *env);

/* Says it to the suite and waits until it is done. False: nobody did it. Outside there is no human,
 * and nothing to wait for. */
bool probe_human(const struct probe_env *env, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
