#include "cli/verbs.h"

#include "base/text.h"

const struct cli_verb *const cli_verbs[] = {
	&cmd_start,    &cmd_resume,	&cmd_attach,	&cmd_exec,  &cmd_pause,	  &cmd_stop,
	&cmd_list,     &cmd_requests,	&cmd_supervise, &cmd_logs,  &cmd_diff,	  &cmd_merge,
	&cmd_commit,   &cmd_cleanup,	&cmd_doctor,	&cmd_image, &cmd_init,	  &cmd_policy,
	&cmd_selftest, &cmd_completion, &cmd_complete,	&cmd_help,  &cmd_version,
};
const size_t cli_n_verbs = ARRAY_LEN(cli_verbs);

const struct cli_verb *cli_verb_find(const char *name)
{
	for (size_t i = 0; i < cli_n_verbs; i++) {
		if (strcmp(cli_verbs[i]->name, name) == 0)
			return cli_verbs[i];
	}
	return NULL;
}

const char *cli_verb_nearest(const char *name)
{
	const char *names[ARRAY_LEN(cli_verbs)];

	for (size_t i = 0; i < cli_n_verbs; i++)
		names[i] = cli_verbs[i]->name;
	return text_nearest(str_of(name), names, cli_n_verbs);
}
