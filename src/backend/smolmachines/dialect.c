#include "backend/smolmachines/dialect.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>

#define DIALECT_NUMBER_MAX 9999

static const struct dialect dialects[] =
	{
		{
			.name = "0.8",
			.first = {0, 8, 0},
			.until = {0, 9, 0},
			.words =
				{
					[DIALECT_CREATE] = {"machine", "create", "{name}",
							    "--smolfile", "{from}"},
					[DIALECT_START] = {"machine", "start", "--name", "{name}"},
					[DIALECT_EXEC] = {"machine", "exec", "--name", "{name}",
							  "{input}", "{tty}", "--", "{command}"},
					[DIALECT_CP] = {"machine", "cp", "{from}", "{to}"},
					[DIALECT_STATUS] = {"machine", "status", "--name", "{name}",
							    "--json"},
					[DIALECT_LS] = {"machine", "ls", "--json"},
					[DIALECT_STOP] = {"machine", "stop", "--name", "{name}"},
					[DIALECT_DELETE] = {"machine", "delete", "{name}", "-f"},
				},
		},
		{
			.name = "1.0.2",
			.first = {1, 0, 2},
			.until = {2, 0, 0},
			.words =
				{
					[DIALECT_CREATE] = {"machine", "create", "--name", "{name}",
							    "--smolfile", "{from}"},
					[DIALECT_START] = {"machine", "start", "--name", "{name}"},
					[DIALECT_EXEC] = {"machine", "exec", "--name", "{name}",
							  "{input}", "{tty}", "--", "{command}"},
					[DIALECT_CP] = {"machine", "cp", "{from}", "{to}"},
					[DIALECT_STATUS] = {"machine", "status",
							    "--name", "{name}", "--json"},
					[DIALECT_LS] = {"machine", "ls", "--json"},
					[DIALECT_STOP] = {"machine", "stop", "--name", "{name}"},
					[DIALECT_DELETE] = {"machine", "delete",
							    "--name", "{name}", "-f"},
				},
		},
};

static bool is_before(const struct dialect_version *a, const struct dialect_version *b)
{
	if (a->major != b->major)
		return a->major < b->major;
	return a->minor != b->minor ? a->minor < b->minor : a->patch < b->patch;
}

const struct dialect *dialect_find(const struct dialect_version *v)
{
	for (size_t i = 0; i < ARRAY_LEN(dialects); i++) {
		if (!is_before(v, &dialects[i].first) && is_before(v, &dialects[i].until))
			return &dialects[i];
	}
	return NULL;
}

bool dialect_follows_size(const struct dialect_version *v)
{
	return !is_before(v, &(struct dialect_version){0, 8, 1});
}

static bool take_number(struct str *rest, bool is_last, unsigned *out)
{
	struct str digits;
	uint64_t value;
	bool found;

	*rest = str_cut(*rest, '.', &digits, &found);
	if (found == is_last || digits.n == 0 || str_to_u64(digits, DIALECT_NUMBER_MAX, &value) < 0)
		return false;
	*out = (unsigned)value;
	return true;
}

int dialect_read_version(struct str said, struct dialect_version *v, struct err *e)
{
	static const struct str name = STR_LIT("smolvm ");
	struct str line, rest;
	char shown[80];
	bool found;

	(void)str_cut(said, '\n', &line, &found);
	line = str_trim(line);
	rest = str_starts(line, name) ? str_sub(line, name.n, line.n) : STR_NULL;
	if (take_number(&rest, false, &v->major) && take_number(&rest, false, &v->minor) &&
	    take_number(&rest, true, &v->patch))
		return 0;
	text_visible_cstr(shown, sizeof(shown), line);
	return err_set(e, -EINVAL,
		       "smolvm --version says \"%s\", which is no version that is known here "
		       "(" DIALECT_KNOWN ")",
		       shown);
}

/* The word for a placeholder; NULL: none. */
static const char *fill(const char *word, const struct dialect_args *a)
{
	if (strcmp(word, "{name}") == 0)
		return a->name;
	if (strcmp(word, "{from}") == 0)
		return a->from;
	if (strcmp(word, "{to}") == 0)
		return a->to;
	if (strcmp(word, "{input}") == 0)
		return a->has_input ? "-i" : NULL;
	if (strcmp(word, "{tty}") == 0)
		return a->has_tty ? "-t" : NULL;
	return word;
}

char **dialect_argv(const struct dialect *d, enum dialect_verb verb, const char *program,
		    const struct dialect_args *a)
{
	const char *const *words = d->words[verb];
	size_t n = 0, n_command = 0;
	const char **argv;

	while (a->command && a->command[n_command])
		n_command++;
	argv = mem_zalloc_array(DIALECT_WORDS_MAX + n_command + 2, sizeof(*argv));
	argv[n++] = program;
	for (size_t i = 0; i < DIALECT_WORDS_MAX && words[i]; i++) {
		const char *word = fill(words[i], a);

		if (strcmp(words[i], "{command}") == 0) {
			for (size_t k = 0; k < n_command; k++)
				argv[n++] = a->command[k];
		} else if (word) {
			argv[n++] = word;
		}
	}
	return (char **)argv;
}
