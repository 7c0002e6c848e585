#include "conf/plan_build.h"

#include "base/clean.h"
#include "base/mem.h"

#define ARGV_MAX 24

static const struct plan_env_default claude_env[] = {
	/* Else it asks hosts that the allowlist need not name, and waits for them. */
	{"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"},
	{"DISABLE_AUTOUPDATER", "1"},
	{NULL, NULL},
};
static const struct plan_key_default claude_keys[] = {
	{"api.anthropic.com", POLICY_AUTH_HEADER, "ANTHROPIC_API_KEY"},
	{"api.anthropic.com", POLICY_AUTH_BEARER, "ANTHROPIC_AUTH_TOKEN"},
	{NULL, POLICY_AUTH_NONE, NULL},
};
static const struct plan_key_default codex_keys[] = {
	{"api.openai.com", POLICY_AUTH_BEARER, "OPENAI_API_KEY"},
	{NULL, POLICY_AUTH_NONE, NULL},
};
static const struct plan_env_default no_env[] = {{NULL, NULL}};
static const struct plan_key_default no_keys[] = {{NULL, POLICY_AUTH_NONE, NULL}};

static const struct plan_provider providers[] = {
	{"claude", claude_env, claude_keys},
	{"codex", no_env, codex_keys},
	{"shell", no_env, no_keys},
};

const struct plan_provider *plan_provider_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(providers); i++)
		if (strcmp(providers[i].name, name) == 0)
			return &providers[i];
	return NULL;
}

static void put(struct plan *p, const char *word)
{
	if (!p->command)
		p->command = mem_zalloc_array(ARGV_MAX + 1, sizeof(*p->command));
	if (p->n_command < ARGV_MAX)
		p->command[p->n_command++] = mem_strdup(word);
}

static void put_option(struct plan *p, const char *option, const char *value)
{
	if (!value)
		return;
	put(p, option);
	put(p, value);
}

/* In two words such an option would take the prompt for one more of its values. */
static void put_list_option(struct plan *p, const char *option, const char *list)
{
	_cleanup_free_ char *word = list ? mem_printf("%s=%s", option, list) : NULL;

	if (word)
		put(p, word);
}

/* A prompt that starts with "-" must not be read as an option; both programs take "--". */
static void put_prompt(struct plan *p)
{
	if (!p->prompt)
		return;
	if (p->prompt[0] == '-')
		put(p, "--");
	put(p, p->prompt);
}

/* To ask is no power; without this, an agent that nobody watches could not. */
static void put_allowed_tools(struct plan *p, const struct manifest_agent *a)
{
	_cleanup_free_ char *all = NULL;

	if (p->is_supervised)
		all = mem_printf("%s%smcp__" PLAN_MCP_NAME, a->tools ? a->tools : "",
				 a->tools ? "," : "");
	put_list_option(p, "--allowedTools", all ? all : a->tools);
}

static void claude_command(struct plan *p, const struct manifest_agent *a,
			   const struct plan_options *opt)
{
	put(p, "claude");
	if (a->model && strcmp(a->model, "inherit") != 0)
		put_option(p, "--model", a->model);
	put_option(p, "--permission-mode", a->permission_mode);
	put_allowed_tools(p, a);
	put_list_option(p, "--disallowedTools", a->disallowed_tools);
	/* Beside the servers of the agent's own configuration, not instead of them. */
	if (p->is_supervised)
		put_list_option(p, "--mcp-config", PLAN_MCP_FILE);
	/* With a prompt of the moment, the agent's own text says who it is. */
	if (opt->prompt)
		put_option(p, "--append-system-prompt", a->prompt);
	if (p->prompt && opt->is_headless)
		put(p, "-p");
	put_prompt(p);
}

static void codex_command(struct plan *p, const struct manifest_agent *a,
			  const struct plan_options *opt)
{
	put(p, "codex");
	if (opt->is_headless)
		put(p, "exec");
	put_option(p, "--model", a->model);
	put_prompt(p);
}

void plan_provider_command(struct plan *p, const struct manifest_agent *agent,
			   const struct plan_options *opt)
{
	p->is_command_given = opt->command != NULL;
	if (opt->command) {
		size_t n = 0;

		while (opt->command[n])
			n++;
		p->command = mem_zalloc_array(n + 1, sizeof(*p->command));
		for (; p->n_command < n; p->n_command++)
			p->command[p->n_command] = mem_strdup(opt->command[p->n_command]);
	} else if (strcmp(p->provider, "claude") == 0) {
		claude_command(p, agent, opt);
	} else if (strcmp(p->provider, "codex") == 0) {
		codex_command(p, agent, opt);
	} else {
		put(p, "/bin/bash");
		put(p, "-l");
		/* Text for an agent is never run as a command; a script may read it. */
		if (p->prompt && !plan_get_env(p, "CLAUDE_BOTTLE_PROMPT"))
			plan_add_env(p, "CLAUDE_BOTTLE_PROMPT", p->prompt);
	}
}
