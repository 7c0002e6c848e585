/* Shared by gate.c and gate_stream.c. */
#pragma once

#include "pipelock/gate.h"

/* Each fills v and returns false, so that a caller writes `return gate_block(...)`. */
bool gate_block(struct gate_verdict *v, enum gate_reason reason, const char *scanner);
bool gate_block_finding(struct gate_verdict *v, enum scan_place place,
			const struct scan_finding *f);
/* A scan_finding_fn; ctx is a struct gate_findings. */
bool gate_on_finding(const struct scan_finding *f, void *ctx);
/* The finding that decides, or NULL. */
const struct scan_finding *gate_worst(const struct gate_findings *fs);
