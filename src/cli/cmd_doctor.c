#include "cli/preflight.h"
#include "cli/table.h"
#include "cli/verbs.h"

#include "backend/backend.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/utsname.h>

enum { OPT_BACKEND, OPT_JSON };
static const struct cli_option options[] = {
	[OPT_BACKEND] = {"backend", 'b', "BACKEND", "only this backend", CLI_COMPLETE_BACKEND},
	[OPT_JSON] = {"json", 0, NULL, "a JSON array of objects", 0},
};

struct finding {
	enum plan_backend id;
	const struct backend *backend; /* NULL: not in this build */
	struct backend_check checks[BACKEND_CHECKS_MAX];
	size_t n;
	bool is_usable;
	bool is_chosen; /* by a start that names none */
	struct err e;
};

/* Whose findings these are: what whoever reads a report asks first. */
static const char *host_of(char out[256])
{
	struct utsname u;

	(void)uname(&u);
	(void)snprintf(out, 256, "%.64s %.64s %.64s", u.sysname, u.release, u.machine);
	return out;
}

static void probe(struct finding *f, enum plan_backend id)
{
	*f = (struct finding){.id = id, .backend = backend_find(id)};
	if (!f->backend)
		return;
	f->is_usable = f->backend->probe(f->checks, &f->n, &f->e) == 0;
	if (f->n > BACKEND_CHECKS_MAX)
		f->n = BACKEND_CHECKS_MAX;
}

static const char *verdict_of(const struct finding *f)
{
	if (!f->backend)
		return "not in this build";
	return f->is_usable ? "ready" : "cannot start bottles";
}

static int print_text(const struct finding *f, bool has_colour, struct buf *out)
{
	enum table_colour colour = f->is_usable ? TABLE_GREEN : f->backend ? TABLE_RED : TABLE_DIM;
	struct table t;
	int r;

	table_init(&t, 3);
	for (size_t i = 0; i < f->n; i++) {
		const struct backend_check *c = &f->checks[i];
		const char *mark = c->is_ok ? "  ok" : c->is_required ? "  MISSING" : "  absent";

		table_add(&t,
			  c->is_ok	   ? TABLE_PLAIN
			  : c->is_required ? TABLE_RED
					   : TABLE_YELLOW,
			  (const char *const[]){mark, c->name, c->text});
	}
	r = buf_printf(out, "%s%s: %s%s%s%s%s\n", has_colour ? table_colour_start(colour) : "",
		       plan_backend_name(f->id), verdict_of(f), has_colour ? "\x1b[0m" : "",
		       f->backend ? " (" : "", f->backend ? f->backend->summary : "",
		       f->backend ? ")" : "");
	if (r == 0)
		r = table_print(&t, has_colour, out);
	if (r == 0 && f->e.text[0])
		r = buf_printf(out, "  %s\n", f->e.text);
	table_free(&t);
	return r;
}

static int print_json(const struct finding *f, struct buf *out)
{
	char host[256];
	int r = buf_printf(out,
			   "{\"backend\":\"%s\",\"version\":\"" CLAUDE_BOTTLE_VERSION
			   "\",\"built\":%s,\"usable\":%s,\"chosen\":%s,\"host\":",
			   plan_backend_name(f->id), f->backend ? "true" : "false",
			   f->is_usable ? "true" : "false", f->is_chosen ? "true" : "false");

	if (r == 0)
		r = text_json(out, str_of(host_of(host)));
	if (r == 0)
		r = buf_append_str(out, STR_LIT(",\"reason\":"));
	if (r == 0)
		r = text_json(out, str_of(f->e.text));
	if (r == 0)
		r = buf_append_str(out, STR_LIT(",\"checks\":["));
	for (size_t i = 0; r == 0 && i < f->n; i++) {
		const struct backend_check *c = &f->checks[i];

		r = buf_printf(out, "%s\n {\"name\":", i ? "," : "");
		if (r == 0)
			r = text_json(out, str_of(c->name));
		if (r == 0)
			r = buf_printf(out, ",\"ok\":%s,\"required\":%s,\"text\":",
				       c->is_ok ? "true" : "false",
				       c->is_required ? "true" : "false");
		if (r == 0)
			r = text_json(out, str_of(c->text));
		if (r == 0)
			r = buf_append(out, "}", 1);
	}
	return r == 0 ? buf_append_str(out, STR_LIT("]}")) : r;
}

static int print_all(const struct finding *list, size_t n, bool is_json, struct buf *out)
{
	bool has_colour = table_may_colour(STDOUT_FILENO);
	int r = is_json ? buf_append_str(out, STR_LIT("[\n")) : 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (!is_json) {
			r = print_text(&list[i], has_colour, out);
			continue;
		}
		r = print_json(&list[i], out);
		if (r == 0)
			r = buf_append_str(out, i + 1 < n ? STR_LIT(",\n") : STR_LIT("\n]\n"));
	}
	return r;
}

static int print_head(bool is_json, struct buf *out)
{
	char host[256];

	return is_json ? 0
		       : buf_printf(out, "claude-bottle " CLAUDE_BOTTLE_VERSION " on %s, %s\n",
				    host_of(host),
				    geteuid() == 0 ? "as root" : "as an ordinary user");
}

/* What a start would take that names none; in words for people. */
static int choose(struct finding *list, size_t n, bool is_json, struct buf *out)
{
	struct preflight_choice c;
	struct err e = ERR_INIT;
	int r = preflight_choose(&c, NULL, PLAN_BACKEND_UNSET, &e);

	if (r == 0)
		r = preflight_check(&c, &e);
	for (size_t i = 0; r == 0 && i < n; i++)
		list[i].is_chosen = list[i].id == c.backend;
	if (is_json)
		return 0;
	return r == 0 ? buf_printf(out, "start takes %s: %s\n", plan_backend_name(c.backend), c.why)
		      : buf_printf(out, "start fails: %s\n", e.text);
}

static int run(const struct cli_args *args)
{
	static struct finding list[PLAN_BACKEND_COUNT];
	enum plan_backend only = PLAN_BACKEND_UNSET;
	bool is_json = cli_has(args, OPT_JSON), is_usable = false;
	struct err e = ERR_INIT;
	int status = CLI_FAILED;
	struct buf out;
	size_t n = 0;

	if (cli_has(args, OPT_BACKEND) &&
	    plan_backend_parse(str_of(args->values[OPT_BACKEND]), &only, &e) < 0)
		return cli_misuse(args, "%s", e.text);
	for (unsigned id = PLAN_BACKEND_UNSET + 1; id < PLAN_BACKEND_COUNT; id++) {
		if (only != PLAN_BACKEND_UNSET && only != id)
			continue;
		probe(&list[n], (enum plan_backend)id);
		is_usable |= list[n++].is_usable;
	}
	buf_init(&out, 1u << 20);
	if (print_head(is_json, &out) == 0 &&
	    (only != PLAN_BACKEND_UNSET || choose(list, n, is_json, &out) == 0) &&
	    print_all(list, n, is_json, &out) == 0)
		status = cli_print(&out);
	buf_free(&out);
	return status == CLI_OK && !is_usable ? CLI_FAILED : status;
}

const struct cli_verb cmd_doctor = {
	.name = "doctor",
	.fn = run,
	.summary = "say what this host can do, and what to install",
	.synopsis = "",
	.description =
		"Fit to be pasted into a report. Exit status 0 if at least one backend can start\n"
		"bottles.\n",
	.options = options,
	.n_options = ARRAY_LEN(options),
};
