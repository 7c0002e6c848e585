#include "cli/cli.h"

#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int cli_usage(struct buf *out)
{
	int r = buf_printf(
		out, "usage: claude-bottle VERB [ARGUMENTS]\n"
		     "\n"
		     "Runs a coding agent in a bottle, from which nothing gets out but what the\n"
		     "manifest allows.\n"
		     "\n");

	for (size_t i = 0; r == 0 && i < cli_n_verbs; i++) {
		if (!cli_verbs[i]->is_hidden)
			r = buf_printf(out, "  %-11s %s\n", cli_verbs[i]->name,
				       cli_verbs[i]->summary);
	}
	if (r == 0)
		r = buf_printf(out, "\n"
				    "\"claude-bottle VERB --help\" says more. Manifests lie in "
				    "~/.claude-bottle;\n"
				    "\"claude-bottle init\" writes examples.\n");
	return r;
}

static int help_option(const struct cli_option *o, struct buf *out)
{
	char left[64];

	if (o->letter)
		(void)snprintf(left, sizeof(left), "-%c, --%s%s%s", o->letter, o->name,
			       o->argument ? " " : "", o->argument ? o->argument : "");
	else
		(void)snprintf(left, sizeof(left), "    --%s%s%s", o->name, o->argument ? " " : "",
			       o->argument ? o->argument : "");
	return buf_printf(out, "  %-24s %s\n", left, o->help);
}

int cli_help(const struct cli_verb *v, struct buf *out)
{
	static const struct cli_option help = {"help", 'h', NULL, "show this help",
					       CLI_COMPLETE_NONE};
	struct str text = str_of(v->description);
	int r = buf_printf(out, "usage: claude-bottle %s%s%s%s\n\n", v->name,
			   v->n_options ? " [OPTIONS]" : "", v->synopsis[0] ? " " : "",
			   v->synopsis);

	if (r == 0 && text.n)
		r = buf_printf(out, "%s%s\n", v->description,
			       str_ends(text, STR_LIT("\n")) ? "" : "\n");
	for (size_t i = 0; r == 0 && i < v->n_options; i++)
		r = help_option(&v->options[i], out);
	return r == 0 ? help_option(&help, out) : r;
}

int cli_fail(const struct err *e)
{
	char line[ERR_FILE_MAX + ERR_TEXT_MAX + 32];
	char shown[sizeof(line)];

	err_format(e, line, sizeof(line));
	/* The text may quote a file that a repository brought, or an argument. */
	text_visible_cstr(shown, sizeof(shown), str_of(line));
	(void)fprintf(stderr, "claude-bottle: %s\n", shown);
	return CLI_FAILED;
}

int cli_misuse(const struct cli_args *a, const char *fmt, ...)
{
	char line[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, "claude-bottle: %s (see \"claude-bottle %s --help\")\n", line,
		      a->verb->name);
	return CLI_USAGE;
}

int cli_pick(const struct cli_args *a, const char *const *names, size_t n)
{
	const char *word = a->positionals[0], *near = text_nearest(str_of(word), names, n);
	_cleanup_(buf_free) struct buf list = BUF_INIT(256);
	char shown[96];
	int ret = 0;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(word, names[i]) == 0)
			return (int)i;
	}
	for (size_t i = 0; i < n && ret == 0; i++)
		ret = buf_printf(&list, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " or ", names[i]);
	text_visible_cstr(shown, sizeof(shown), str_of(word));
	(void)cli_misuse(a, "\"%s\" is not " STR_FMT "%s%s%s", shown, STR_ARG(buf_str(&list)),
			 near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
	return -1;
}

void cli_note(const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, "claude-bottle: %s\n", line);
}

int cli_print(const struct buf *out)
{
	struct str s = buf_str(out);

	if (fwrite(s.p ? s.p : "", 1, s.n, stdout) != s.n || fflush(stdout) != 0) {
		cli_note("write to standard output: %s", strerror(errno));
		return CLI_FAILED;
	}
	return CLI_OK;
}
