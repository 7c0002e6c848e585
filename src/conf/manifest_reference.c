#include "conf/manifest.h"

#include "base/mem.h"

/* The value is never shown: it may be a secret that was pasted here by mistake. */
int manifest_read_reference(struct schema_ctx *c, const struct yaml_node *n, const char *what,
			    struct plan_secret *out)
{
	struct str text, rest, kind;
	bool found;
	int ret = schema_text(c, n, what, &text);

	if (ret < 0)
		return ret;
	rest = str_cut(text, ':', &kind, &found);
	out->origin_file = mem_strdup(c->file);
	out->origin_line = n->line;
	if (found && str_eq(kind, STR_LIT("env"))) {
		if (!schema_is_variable(rest))
			return schema_refuse(c, n,
					     "%s: after \"env:\" the name of an environment "
					     "variable is expected",
					     what);
		out->env = str_dup(rest);
		return 0;
	}
	if (found && str_eq(kind, STR_LIT("file"))) {
		if (!str_starts(rest, STR_LIT("/")) && !str_starts(rest, STR_LIT("~/")))
			return schema_refuse(c, n,
					     "%s: after \"file:\" a path that starts with \"/\" or "
					     "\"~/\" is expected",
					     what);
		out->file = rest.p[0] == '/' ? str_dup(rest)
					     : mem_printf("%s" STR_FMT, c->home,
							  STR_ARG(str_sub(rest, 1, rest.n)));
		return 0;
	}
	if (found && str_eq(kind, STR_LIT("command")) && str_trim(rest).n > 0) {
		out->command = str_dup(str_trim(rest));
		return 0;
	}
	return schema_refuse(c, n,
			     "%s must be \"env:NAME\", \"file:PATH\" or \"command:LINE\"; a secret "
			     "itself never stands in a manifest",
			     what);
}
