/*
 * A push that needs a human's approval: one whose only findings are paths that would be executed
 * where the repository is checked out or built. Approved is one commit in place of another on one
 * ref of one remote, once; a push of several refs cannot be.
 */
#pragma once

#include "gitgate/push.h"

/* Nothing but that stands against it, and it is of a kind that can be approved. */
bool approval_is_enough(const struct push_input *in, const struct check_report *report);
/* It was approved, and that is used up now. */
bool approval_spend(const struct push_input *in);
/* After its refusal was recorded: makes it known, so that it can be asked for by that record.
 * False: it cannot be. */
bool approval_offer(const struct push_input *in, const struct check_report *report,
		    const uint8_t record[8]);
/* The canary was in the push whose refusal is record. */
void approval_canary(const struct push_input *in, const struct check_report *report,
		     const uint8_t record[8]);
