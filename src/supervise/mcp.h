/*
 * MCP without its transport: one posted message, or batch, becomes what is to be answered, now or
 * when a human has decided. docs/SUPERVISE-MCP.md, "Protocol", says what is served.
 */
#pragma once

#include "bundle/desk.h"
#include "supervise/tools.h"

#define MCP_REPLY_MAX (1u << 20)
#define MCP_POSTS_MAX 64

struct mcp;
struct mcp_post;

struct mcp_in {
	struct str body;
	/* Of the fields Mcp-Session-Id and MCP-Protocol-Version; n is 0 where there is none. */
	struct str session, version;
};

struct mcp_reply {
	unsigned status;     /* of HTTP */
	struct str body;     /* JSON, or empty */
	const char *session; /* of an initialize: the new one; else NULL */
};

/* Once. r lives as long as the call. */
typedef void mcp_reply_fn(const struct mcp_reply *r, void *ctx);

struct mcp_config {
	struct desk *desk;	       /* borrowed */
	const struct tools_view *view; /* what tools look at; may change between two calls */
	unsigned first_ms, poll_ms;    /* 0: as in call.h */
};

struct mcp *mcp_new(struct loop *l, const struct mcp_config *c);
void mcp_free(struct mcp *m);
/* NULL: fn was called already. The caller has at most MCP_POSTS_MAX of them. */
struct mcp_post *mcp_take(struct mcp *m, const struct mcp_in *in, mcp_reply_fn *fn, void *ctx);
/* Nobody waits for it any more: fn is not called. What was asked stays asked. */
void mcp_forget(struct mcp_post *p);
/* DELETE: the status. */
unsigned mcp_end_session(struct mcp *m, const struct mcp_in *in);
