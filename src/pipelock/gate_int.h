/* Shared by gate.c, gate_mask.c and gate_stream.c. */
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
/* A placeholder may be made to look like the key that it stands for, so that clients accept it: the
 * shape is then no finding. Only where both stand plainly: the range of decoded text is that of the
 * whole coded run, in which a real key could stand beside the placeholder. */
bool gate_is_placeholder_shape(const struct gate_findings *fs, const struct scan_finding *f);

/* --- gate_mask.c: after gate_find() --- */

/* Masks what was found in text, if all of it stands plainly and is of a kind that may be masked. */
bool gate_mask(const struct gate_findings *fs, struct str text);
/* Makes v a HOLD, for which a human is shown the first of what was found; false if it is not of a
 * kind that may be held. Overwrites the findings. */
bool gate_hold(struct gate *g, enum scan_place place, struct str text, struct gate_verdict *v);
