/*
 * completion prints a script for the shell; the script asks the hidden verb __complete for what may
 * stand at the cursor, so that it never falls behind the verb table. __complete prints one
 * candidate a line, after a tab what it is; ":files" and ":commands" leave it to the shell.
 */
#include "bottles/bottles.h"
#include "cli/verbs.h"

#include "base/text.h"
#include "completion_scripts.h"

#include <stdio.h>

static int run_completion(const struct cli_args *args)
{
	const char *shell = args->positionals[0];
	const char *script = NULL;

	if (strcmp(shell, "bash") == 0)
		script = completion_bash;
	else if (strcmp(shell, "zsh") == 0)
		script = completion_zsh;
	if (!script)
		return cli_misuse(args, "bash or zsh");
	return fputs(script, stdout) < 0 || fflush(stdout) != 0 ? CLI_FAILED : CLI_OK;
}

const struct cli_verb cmd_completion = {
	.name = "completion",
	.fn = run_completion,
	.summary = "print a completion script for the shell",
	.synopsis = "bash|zsh",
	.description = "For bash: source <(claude-bottle completion bash)\n"
		       "For zsh:  source <(claude-bottle completion zsh), after compinit\n",
	.min_positionals = 1,
	.max_positionals = 1,
	.complete = CLI_COMPLETE_WORDS,
	.words = "bash zsh",
};

/* Names only: what comes from a repository's files goes to a shell here. */
static void offer(const char *word, const char *typed, const char *meaning)
{
	char shown[128];

	if (!str_starts(str_of(word), str_of(typed)))
		return;
	text_visible_cstr(shown, sizeof(shown), str_of(meaning ? meaning : ""));
	(void)printf("%s\t%s\n", word, shown);
}

static void offer_agents(const char *typed)
{
	char home[PLACES_PATH_MAX], cwd[PLACES_PATH_MAX];
	struct plan_agent_info *agents = NULL;
	size_t n = 0;

	if (places_home(home, NULL) < 0 || !getcwd(cwd, sizeof(cwd)) ||
	    plan_list_agents(home, cwd, &agents, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		if (places_slug_is_valid(agents[i].name))
			offer(agents[i].name, typed, agents[i].description);
	}
	plan_agents_free(agents, n);
}

static void offer_slugs(const char *typed, bool wants_alive, bool wants_dead)
{
	_cleanup_free_ struct bottles_entry *list = NULL;
	size_t n;

	if (bottles_list(&list, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		if (list[i].is_alive ? wants_alive : wants_dead)
			offer(list[i].slug, typed, list[i].agent);
	}
}

static void offer_words(const char *words, const char *typed)
{
	struct str rest = str_of(words ? words : ""), word;
	bool found = true;

	while (found) {
		char copy[64];

		rest = str_cut(rest, ' ', &word, &found);
		if (word.n && str_to_cstr(copy, sizeof(copy), word))
			offer(copy, typed, NULL);
	}
}

static void offer_kind(enum cli_complete kind, const struct cli_verb *v, const char *typed)
{
	switch (kind) {
	case CLI_COMPLETE_NONE:
		break;
	case CLI_COMPLETE_AGENT:
		offer_agents(typed);
		break;
	case CLI_COMPLETE_SLUG:
		offer_slugs(typed, true, false);
		break;
	case CLI_COMPLETE_SLUG_DEAD:
		offer_slugs(typed, false, true);
		break;
	case CLI_COMPLETE_SLUG_ANY:
		offer_slugs(typed, true, true);
		break;
	case CLI_COMPLETE_VERB:
		for (size_t i = 0; i < cli_n_verbs; i++) {
			if (!cli_verbs[i]->is_hidden)
				offer(cli_verbs[i]->name, typed, cli_verbs[i]->summary);
		}
		break;
	case CLI_COMPLETE_BACKEND:
		for (unsigned b = PLAN_BACKEND_UNSET + 1; b < PLAN_BACKEND_COUNT; b++)
			offer(plan_backend_name((enum plan_backend)b), typed, NULL);
		break;
	case CLI_COMPLETE_FILE:
		(void)puts(":files");
		break;
	case CLI_COMPLETE_WORDS:
		offer_words(v->words, typed);
		break;
	}
}

static void offer_options(const struct cli_verb *v, const char *typed)
{
	char name[64];

	for (size_t i = 0; i < v->n_options; i++) {
		(void)snprintf(name, sizeof(name), "--%s", v->options[i].name);
		offer(name, typed, v->options[i].help);
	}
	offer("--help", typed, "show this help");
}

/* The option that the word before the cursor is, if it takes a value. */
static const struct cli_option *pending_option(const struct cli_verb *v, const char *word)
{
	for (size_t i = 0; i < v->n_options; i++) {
		const struct cli_option *o = &v->options[i];
		bool is_long =
			str_starts(str_of(word), STR_LIT("--")) && strcmp(word + 2, o->name) == 0;
		bool is_short = word[0] == '-' && o->letter && word[1] == o->letter && !word[2];

		if (o->argument && (is_long || is_short))
			return o;
	}
	return NULL;
}

/* Whether it stands between the verb and the cursor. */
static bool is_word(char **words, size_t n, const char *word)
{
	for (size_t i = 1; i + 1 < n; i++) {
		if (strcmp(words[i], word) == 0)
			return true;
	}
	return false;
}

/* words: what is typed after the program's name; the last one is at the cursor. */
static void complete(char **words, size_t n)
{
	const char *typed = words[n - 1];
	const struct cli_verb *v = n > 1 ? cli_verb_find(words[0]) : NULL;
	const struct cli_option *value = NULL;
	size_t positionals = 0;

	if (n == 1)
		offer_kind(CLI_COMPLETE_VERB, NULL, typed);
	if (!v)
		return;
	for (size_t i = 1; i + 1 < n; i++) {
		if (strcmp(words[i], "--") == 0 ||
		    (v->rest_after && positionals == v->rest_after)) {
			(void)puts(":commands");
			return;
		}
		value = value ? NULL : pending_option(v, words[i]);
		positionals += !value && words[i][0] != '-';
	}
	if (value)
		offer_kind(value->complete, v, typed);
	else if (typed[0] == '-')
		offer_options(v, typed);
	else if (v->rest_after && positionals == v->rest_after)
		(void)puts(":commands");
	else if (positionals == 1 && v->more_words)
		offer_words(is_word(words, n, v->more_after) ? v->more_words : NULL, typed);
	else if (positionals == 1 && v->complete_second != CLI_COMPLETE_NONE)
		offer_kind(v->complete_second, v, typed);
	else if (positionals < v->max_positionals)
		offer_kind(v->complete, v, typed);
}

static int run_complete(const struct cli_args *args)
{
	size_t n = 0;

	while (args->has_rest && args->rest[n])
		n++;
	if (n)
		complete(args->rest, n);
	return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

const struct cli_verb cmd_complete = {
	.name = "__complete",
	.fn = run_complete,
	.summary = "what may stand at the cursor",
	.synopsis = "-- WORD…",
	.may_rest = true,
	.is_hidden = true,
};
