/* The verbs, each defined in cmd_<verb>.c. */
#pragma once

#include "cli/cli.h"

extern const struct cli_verb cmd_start;
extern const struct cli_verb cmd_resume;
extern const struct cli_verb cmd_attach;
extern const struct cli_verb cmd_exec;
extern const struct cli_verb cmd_stop;
extern const struct cli_verb cmd_list;
extern const struct cli_verb cmd_logs;
extern const struct cli_verb cmd_supervise;
extern const struct cli_verb cmd_commit;
extern const struct cli_verb cmd_diff;
extern const struct cli_verb cmd_merge;
extern const struct cli_verb cmd_cleanup;
extern const struct cli_verb cmd_doctor;
extern const struct cli_verb cmd_init;
extern const struct cli_verb cmd_image;
extern const struct cli_verb cmd_pause;
extern const struct cli_verb cmd_policy;
extern const struct cli_verb cmd_requests;
extern const struct cli_verb cmd_selftest;
extern const struct cli_verb cmd_completion;
extern const struct cli_verb cmd_complete;
extern const struct cli_verb cmd_help;
extern const struct cli_verb cmd_version;
