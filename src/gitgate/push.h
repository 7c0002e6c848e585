/* What the parts of a push's judge share. */
#pragma once

#include "gitgate/commands.h"
#include "gitgate/gitgate_int.h"
#include "gitgate/hook.h"

/* --- words.c: what the agent is told about findings, never the secret itself --- */

/* One line for each finding, and what to do about them; what to do about an approval comes after
 * it. */
void words_findings(int hook_fd, const struct git_policy *policy,
		    const struct check_report *report);
/* That a push needs approval, and how to ask for it; record NULL: nobody can be asked. */
void words_approval(int hook_fd, const uint8_t *record);
/* The line of one finding; cut to size. */
void words_finding(const struct check_finding *f, char *out, size_t size);
/* For the record: how many of each kind, and where the first is. */
void words_summary(const struct check_report *report, char *out, size_t size);
/* The record's reason: the gravest kind's, "push-secret" before all. */
const char *words_reason(const struct check_report *report);
