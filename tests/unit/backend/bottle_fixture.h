/* A plan, a wall and a compartment for tests, and a way to run one command in them. */
#pragma once

#include "backend/native/compartment.h"

struct fixture {
	struct plan plan;
	struct wall wall;
	struct cgroup cgroup;
	struct compartment compartment;
	char state_dir[64];
	char *command[8];
	struct plan_env env[2];
	char *expose[2];
};

void fixture_make(struct fixture *f, const char *script, unsigned agent_uid);
/* Launches (or joins with argv) on pipes, reads standard output and error to their end, and returns
 * the exit status as waitpid gives it. */
int fixture_run(struct fixture *f, char *const *argv, char *out, size_t size);
void fixture_free(struct fixture *f);
