/*
 * Which lasting modes the agent's output has switched on in the user's terminal, so that they can
 * be switched off again when the session ends in the middle of one: a killed full-screen program
 * must not leave the user in the alternate screen with the mouse reporting into the shell. Only
 * what is still on is undone; "leave the alternate screen" sent to a terminal that is not there
 * moves the cursor (xterm's ctlseqs, DECSET 1049).
 */
#pragma once

#include "base/buf.h"

#define TERMSTATE_PARAMETERS_MAX 16

struct termstate {
	uint32_t modes; /* bit N: entry N of the table in termstate.c is not as it should be */
	unsigned kitty_depth; /* CSI > … u minus CSI < … u */
	bool has_region, has_keys, is_shifted, was_used;
	enum { TERMSTATE_GROUND, TERMSTATE_ESCAPE, TERMSTATE_CSI } at;
	char prefix; /* of the CSI sequence: '?', '>', '<', '=' or 0 */
	unsigned parameters[TERMSTATE_PARAMETERS_MAX];
	size_t n_parameters;
	bool is_ignored; /* intermediate bytes, or too many parameters */
};

void termstate_feed(struct termstate *t, struct str output);
/* Appends what undoes it; nothing when the output never used an escape sequence. */
int termstate_undo(const struct termstate *t, struct buf *out) _fallible_;
