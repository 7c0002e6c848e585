/*
 * JSON-RPC 2.0 as MCP speaks it: what a message is, and how answers and errors are made. The text
 * is hostile: it is refused before it is parsed where it is longer, deeper or of other bytes than
 * anybody honest would send.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

#define JSONRPC_MESSAGE_MAX (256u << 10)
#define JSONRPC_DEPTH_MAX   32
#define JSONRPC_BATCH_MAX   16
#define JSONRPC_ID_MAX	    128 /* bytes of a text that is an id */

enum jsonrpc_code {
	JSONRPC_PARSE_ERROR = -32700,
	JSONRPC_INVALID_REQUEST = -32600,
	JSONRPC_METHOD_NOT_FOUND = -32601,
	JSONRPC_INVALID_PARAMS = -32602,
	JSONRPC_INTERNAL_ERROR = -32603
};

/* Any JSON value, or NULL with e saying why: past a cap, not UTF-8, not JSON, a repeated key, a NUL
 * in a text. */
json_t *jsonrpc_parse(struct str text, struct err *e);

enum jsonrpc_kind {
	JSONRPC_REQUEST,
	JSONRPC_NOTIFICATION,
	JSONRPC_RESPONSE, /* to a request that nobody here ever sent */
	JSONRPC_BAD	  /* why says what is wrong; id is there if it could be told */
};

/* A look at a message; everything is borrowed from it. */
struct jsonrpc_message {
	enum jsonrpc_kind kind;
	const char *method;
	json_t *id;	/* REQUEST: a text or an integer */
	json_t *params; /* an object, or NULL; a request's that are something else: are_bad_params
			 */
	bool are_bad_params;
	const char *why;
};
void jsonrpc_look(json_t *message, struct jsonrpc_message *out);

/* The caller owns what is returned. id NULL: null. result is taken over. */
json_t *jsonrpc_result(json_t *id, json_t *result);
json_t *jsonrpc_error(json_t *id, enum jsonrpc_code code, const char *text);
