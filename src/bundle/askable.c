#include "bundle/askable.h"

#include "base/clean.h"

#include <string.h>

uint32_t askable(const char *reason)
{
	static const struct {
		const char *reason;
		enum ask_kind kind;
	} reasons[] = {
		{"host-not-allowed", ASK_EGRESS},   {"port-not-allowed", ASK_EGRESS},
		{"method-not-allowed", ASK_EGRESS}, {"path-not-allowed", ASK_EGRESS},
		{"secret-in-host", ASK_RELEASE},    {"secret-in-path", ASK_RELEASE},
		{"secret-in-query", ASK_RELEASE},   {"secret-in-header", ASK_RELEASE},
		{"secret-in-body", ASK_RELEASE},    {"held-expired", ASK_RELEASE},
		{"push-needs-approval", ASK_PUSH},
	};

	for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
		if (strcmp(reasons[i].reason, reason) == 0)
			return reasons[i].kind;
	}
	return 0;
}

const char *askable_tool(uint32_t kind)
{
	static const char *const tools[] = {
		[ASK_EGRESS] = TOOL_REQUEST_EGRESS,
		[ASK_RELEASE] = TOOL_REQUEST_RELEASE,
		[ASK_PUSH] = TOOL_REQUEST_PUSH,
		[ASK_CAPABILITY] = TOOL_REQUEST_CAPABILITY,
	};

	return kind < ARRAY_LEN(tools) ? tools[kind] : NULL;
}
