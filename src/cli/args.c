#include "cli/cli.h"

#include "base/text.h"

#include <errno.h>
#include <stdio.h>

/* "did you mean" over the option names of one verb; help is always among them. */
static const char *nearest_option(const struct cli_verb *v, struct str word)
{
	const char *names[CLI_OPTIONS_MAX + 1];
	size_t n = 0;

	names[n++] = "help";
	for (size_t i = 0; i < v->n_options && n < ARRAY_LEN(names); i++)
		names[n++] = v->options[i].name;
	return text_nearest(word, names, n);
}

static int fail_unknown(const struct cli_verb *v, const char *arg, struct str name, struct err *e)
{
	const char *near = nearest_option(v, name);
	char shown[128];

	text_visible_cstr(shown, sizeof(shown), str_of(arg));
	if (near)
		return err_set(e, -EINVAL, "unknown option \"%s\", did you mean --%s?", shown,
			       near);
	return err_set(e, -EINVAL, "unknown option \"%s\"", shown);
}

static const struct cli_option *find_option(const struct cli_verb *v, struct str name, char letter)
{
	for (size_t i = 0; i < v->n_options; i++) {
		const struct cli_option *o = &v->options[i];

		if (letter ? o->letter == letter : str_eq(name, str_of(o->name)))
			return o;
	}
	return NULL;
}

/* One argument that begins with a dash. *at is its index and is moved past a separate value. */
static int parse_option(struct cli_args *out, int argc, char **argv, int *at, bool *wants_help,
			struct err *e)
{
	const struct cli_verb *v = out->verb;
	const char *arg = argv[*at];
	const struct cli_option *o;
	const char *value = NULL;
	struct str name;
	bool has_value = false;
	char letter = 0;

	if (arg[1] == '-') {
		struct str tail = str_cut(str_of(arg + 2), '=', &name, &has_value);

		value = has_value ? tail.p : NULL;
	} else {
		name = str_slice(arg + 1, 1);
		letter = arg[1];
		if (arg[2])
			return fail_unknown(v, arg, str_of(arg + 1), e);
	}
	if (letter ? letter == 'h' : str_eq(name, STR_LIT("help"))) {
		*wants_help = true;
		return 0;
	}
	o = find_option(v, name, letter);
	if (!o)
		return fail_unknown(v, arg, name, e);
	if (out->values[o - v->options])
		return err_set(e, -EINVAL, "--%s is given twice", o->name);
	if (!o->argument) {
		if (has_value)
			return err_set(e, -EINVAL, "--%s takes no value", o->name);
		out->values[o - v->options] = "";
		return 0;
	}
	if (!has_value) {
		if (*at + 1 >= argc)
			return err_set(e, -EINVAL, "--%s needs a value: --%s %s", o->name, o->name,
				       o->argument);
		value = argv[++*at];
	}
	out->values[o - v->options] = value;
	return 0;
}

static int check_positionals(const struct cli_args *a, struct err *e)
{
	const struct cli_verb *v = a->verb;
	char shown[128];

	if (a->n_positionals > v->max_positionals) {
		text_visible_cstr(shown, sizeof(shown), str_of(a->positionals[v->max_positionals]));
		return err_set(e, -EINVAL, "unexpected argument \"%s\"", shown);
	}
	if (a->n_positionals < v->min_positionals)
		return err_set(e, -EINVAL, "missing argument: %s %s", v->name, v->synopsis);
	if (a->has_rest && !v->may_rest)
		return err_set(e, -EINVAL, "%s takes no command", v->name);
	if (a->has_rest && !a->rest[0])
		return err_set(e, -EINVAL, "no command after \"--\"");
	return 0;
}

int cli_parse(struct cli_args *out, const struct cli_verb *v, int argc, char **argv,
	      bool *wants_help, struct err *e)
{
	*out = (struct cli_args){.verb = v};
	*wants_help = false;
	for (int i = 0; i < argc; i++) {
		bool is_rest = v->rest_after && out->n_positionals == v->rest_after;

		if (strcmp(argv[i], "--") == 0 || (is_rest && argv[i][0] != '-')) {
			out->rest = argv + i + (argv[i][0] == '-');
			out->has_rest = true;
			break;
		}
		if (argv[i][0] == '-' && argv[i][1]) {
			int r = parse_option(out, argc, argv, &i, wants_help, e);

			if (r < 0 || *wants_help)
				return r;
			continue;
		}
		if (out->n_positionals == CLI_POSITIONALS_MAX)
			return err_set(e, -EINVAL, "too many arguments");
		out->positionals[out->n_positionals++] = argv[i];
	}
	return check_positionals(out, e);
}
