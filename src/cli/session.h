/* One client session with what the human is told at its end. */
#pragma once

#include "cli/client.h"

/* Runs the client; returns the exit status for the verb. dir: the bottle's state folder. */
int session_run(const struct client_options *o, const char *slug, int dir);
