/*
 * Why egress does not give an answer from upstream: for each reason the status, whether it is a
 * verdict or a failure of the world outside, and what the agent may do next. All text is our own.
 */
#pragma once

#include "base/buf.h"
#include "record/record.h"

struct deny {
	const char *reason;
	unsigned status;
	enum record_verdict verdict; /* BLOCK: refused; NOTE: tried and failed */
	const char *hint;
};

/* Never NULL; for an unknown reason the status is 0 (take the caller's) and the verdict NOTE. */
const struct deny *deny_find(const char *reason);
/* {"blocked":true,"reason":…,"rule":"","scanner":"egress","hint":…,"record":…} */
int deny_body(struct buf *out, const char *reason, const uint8_t record_id[8]) _fallible_;
