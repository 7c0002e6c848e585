/*
 * What the verbs of claude-bottle share: the option parser, errors on standard error, and the
 * state folder. Each verb is one struct cli_verb in a file of its own, cmd_<verb>.c; the table in
 * verbs.c drives dispatch, usage, --help and shell completion.
 */
#pragma once

#include "base/buf.h"
#include "base/clean.h"
#include "base/err.h"
#include "bottles/places.h"
#include "conf/plan.h"

/* Exit status. Where a verb runs the agent or a command in its bottle, that one's own status is
 * returned instead (128 + signal for a signal). */
enum cli_status { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

#define CLI_OPTIONS_MAX	    16
#define CLI_POSITIONALS_MAX 64

/* What shell completion offers in a place. */
enum cli_complete {
	CLI_COMPLETE_NONE,
	CLI_COMPLETE_AGENT,
	CLI_COMPLETE_SLUG, /* of a bottle that runs */
	CLI_COMPLETE_SLUG_DEAD,
	CLI_COMPLETE_SLUG_ANY,
	CLI_COMPLETE_VERB,
	CLI_COMPLETE_BACKEND,
	CLI_COMPLETE_FILE,
	CLI_COMPLETE_WORDS /* of the verb's `words` */
};

struct cli_option {
	const char *name;     /* long form, without the dashes */
	char letter;	      /* short form, or 0 */
	const char *argument; /* its name in the help; NULL: a flag */
	const char *help;
	enum cli_complete complete;
};

/* What was given; index N belongs to option N of the verb's table. Everything points into argv. */
struct cli_args {
	const struct cli_verb *verb;
	const char *values[CLI_OPTIONS_MAX]; /* NULL: not given; a given flag is "" */
	const char *positionals[CLI_POSITIONALS_MAX];
	size_t n_positionals;
	/* What followed "--", or the positional number `rest_after`; NULL-terminated, never NULL
	 * when has_rest. */
	char **rest;
	bool has_rest;
};

struct cli_verb {
	const char *name;
	int (*fn)(const struct cli_args *args);
	const char *summary;	 /* one line, lower case, no full stop */
	const char *synopsis;	 /* what follows the verb, without the options */
	const char *description; /* a few lines; NULL for none */
	const struct cli_option *options;
	size_t n_options;
	size_t min_positionals, max_positionals;
	/* After that many positionals the rest is a command and not parsed; 0: only after "--". */
	size_t rest_after;
	bool may_rest;
	bool is_hidden; /* from the usage */
	enum cli_complete complete;
	const char *words; /* space-separated, for CLI_COMPLETE_WORDS */
	/* What may follow the one word more_after of them; NULL: anything of words again. */
	const char *more_words, *more_after;
	enum cli_complete complete_second; /* of the second one; NONE: as the first */
};

extern const struct cli_verb *const cli_verbs[];
extern const size_t cli_n_verbs;

/* NULL if there is none. */
const struct cli_verb *cli_verb_find(const char *name);
/* The verb most like name, for "did you mean"; or NULL. */
const char *cli_verb_nearest(const char *name);

/* Parses what follows the verb. Options may stand anywhere before "--"; `--name=value`,
 * `--name value`, `-x value` and `-x`. -EINVAL with a line for the human in *e; *wants_help is set,
 * and 0 returned, at the first --help or -h. */
int cli_parse(struct cli_args *out, const struct cli_verb *v, int argc, char **argv,
	      bool *wants_help, struct err *e) _fallible_;

static inline bool cli_has(const struct cli_args *a, size_t option)
{
	return a->values[option] != NULL;
}

/* Usage of the program, and help of one verb. */
int cli_usage(struct buf *out) _fallible_;
int cli_help(const struct cli_verb *v, struct buf *out) _fallible_;
/* The same printed; these return a verb's exit status. */
int cli_print_usage(FILE *to);
int cli_print_help(const struct cli_verb *v);
int cli_fail_verb(const char *name);

/* "claude-bottle: file:line:column: text" on standard error; returns CLI_FAILED. */
int cli_fail(const struct err *e);
/* The same for wrong use, with a pointer to the verb's --help; returns CLI_USAGE. */
int cli_misuse(const struct cli_args *a, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Which of names the first argument is; -1 after a cli_misuse() that lists them and the nearest. */
int cli_pick(const struct cli_args *a, const char *const *names, size_t n);
/* A line of information on standard error, "claude-bottle: text". */
void cli_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Writes the whole to standard output. CLI_OK, or CLI_FAILED with the error printed. */
int cli_print(const struct buf *out);
