/*
 * The tools: names, descriptions and schemas are constants of the program (docs/SUPERVISE-MCP.md),
 * so that nothing that a bottle or a host says can change what an agent is told they do. None of
 * them changes anything by itself, and none can turn anything off.
 */
#pragma once

#include "bundle/askable.h"
#include "supervise/args.h"
#include "supervise/refused.h"
#include "supervise/session.h"

/* Those that ask for something by kind are in bundle/askable.h. */
#define TOOL_REQUEST_STATUS  "request_status"
#define TOOL_TELL_HUMAN	     "tell_human"
#define TOOL_NETWORK_POLICY  "network_policy"
#define TOOL_RECENT_REFUSALS "recent_refusals"

struct policy;

/* What the tools that ask nobody look at. */
struct tools_view {
	const struct policy *policy; /* in force; NULL: nothing is allowed */
	bool is_paused;
	struct refused refused;
};

/* What a call comes to: an answer at once, or a question to the keeper. */
struct tools_call {
	json_t *answer; /* the structured content, the caller's; NULL: ask */
	bool is_error;
	struct ask ask;
	unsigned wait_ms;
};

/* {"tools":[…]} for a client of this version; the caller's. */
json_t *tools_list(enum session_version v);
/* False: there is no such tool. arguments is borrowed and may be NULL; out is zeroed first. */
bool tools_begin(const struct tools_view *view, const char *name, json_t *arguments,
		 struct tools_call *out) __attribute__((warn_unused_result));
/* The result of tools/call for a client of this version: the structured content, and the same as
 * text. content is taken over. */
json_t *tools_result(json_t *content, bool is_error, enum session_version v);
