/*
 * MCP over streamable HTTP: one address, one path. Who may speak at all is decided here, from the
 * head: a browser's page (Origin) may not, nor whoever came by another name (Host).
 */
#pragma once

#include "supervise/mcp.h"

#define SERVER_PATH	       "/mcp"
#define SERVER_FRONTS_MAX      MCP_POSTS_MAX
#define SERVER_BODY_SILENCE_MS 10000 /* between two reads */
#define SERVER_BODY_MS	       20000 /* for all of it */

struct server;

struct server_config {
	const char *host; /* what Host must name, with port; borrowed */
	uint16_t port;
	struct mcp *mcp;  /* borrowed */
	unsigned body_ms; /* 0: SERVER_BODY_MS */
};

int server_new(struct server **out, struct loop *l, const struct server_config *c,
	       struct err *e) _fallible_;
/* fd is borrowed. */
int server_listen(struct server *s, int fd, struct err *e) _fallible_;
void server_free(struct server *s);
