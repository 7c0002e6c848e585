/* A bottle that has ended, as its state folder shows it, and the plan of its next run. */
#pragma once

#include "cli/cli.h"

/* Of bottle.json, plan.json, policy.json and git.json, as the last run left them. */
struct resume_was {
	char *agent, *bottle;
	char *agent_file; /* NULL: the bottle was started without an agent */
	enum plan_backend backend;
	bool is_as_root; /* the agent is uid 0 inside */
	char **expose;
	size_t n_expose;
	char **token_refs; /* by the policy's credential numbers */
	size_t n_token_refs;
	enum plan_workspace workspace;
	char *workspace_path; /* NULL with NONE */
	struct policy policy;
	struct git_policy git;		 /* empty where there was none */
	char policy_error[ERR_TEXT_MAX]; /* why there is no policy; else empty */
};

/* dir: the state folder, whose lock is held. Refuses a folder, a file or a home that is not as a
 * keeper makes it. The policies are there for people to compare, so that only policy_error says
 * that it cannot be read. */
int resume_read(int dir, const char *slug, struct resume_was *out, struct err *e) _fallible_;
void resume_free(struct resume_was *w);
/* From the manifests as they are now: the same agent (of the same file), bottle, slug and backend,
 * and uid 0 inside if it was that. o holds what was asked for: the command, the prompt. */
int resume_plan(const struct resume_was *w, const char *slug, struct plan_options *o,
		struct plan *out, struct err *e) _fallible_;
/* The records up to here must hold together: they are verified, and their end is noted (runs.h). */
int resume_mark(int dir, struct err *e) _fallible_;
