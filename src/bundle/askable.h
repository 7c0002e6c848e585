/* What of all that roles refuse a person could let through, and what the agent asks for it with:
 * said once, for the roles that refuse and for the one that is asked. */
#pragma once

#include "bundle/ask.h"

/* Tools of supervise's (docs/SUPERVISE-MCP.md). */
#define TOOL_REQUEST_EGRESS	"request_egress"
#define TOOL_REQUEST_RELEASE	"request_release"
#define TOOL_REQUEST_PUSH	"request_push"
#define TOOL_REQUEST_CAPABILITY "request_capability"

/* As what (enum ask_kind) a refusal can be asked for, by its reason; 0: it is final, or the agent's
 * own to mend. RELEASE holds only where the route's on_match is supervise. */
uint32_t askable(const char *reason);
/* The tool that asks for this kind; NULL for none. */
const char *askable_tool(uint32_t kind);
