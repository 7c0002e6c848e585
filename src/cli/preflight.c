#include "cli/preflight.h"

#include "cli/table.h"

#include "base/io.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>

#define HOSTS_SHOWN 12

int preflight_methods(const struct policy_route *r, struct buf *out)
{
	const uint32_t all = (UINT32_C(1) << POLICY_METHOD_COUNT) - 1;
	bool is_first = true;
	int ret = 0;

	if ((r->methods & all) == all)
		return buf_append_str(out, STR_LIT("any method"));
	for (unsigned m = 0; ret == 0 && m < POLICY_METHOD_COUNT; m++) {
		if (!(r->methods & (UINT32_C(1) << m)))
			continue;
		ret = buf_printf(out, "%s%s", is_first ? "" : ",",
				 policy_method_name((enum policy_method)m));
		is_first = false;
	}
	return ret;
}

/* By reference: where the value comes from, never the value. */
static int print_secret(const struct plan *p, unsigned number, struct buf *out)
{
	_cleanup_free_ char *from = NULL;
	int r;

	if (number >= p->n_secrets)
		return buf_append_str(out, STR_LIT(", a credential"));
	from = plan_secret_describe(&p->secrets[number]);
	r = buf_append_str(out, STR_LIT(", credential "));
	return r == 0 ? text_visible(out, str_of(from), 60) : r;
}

static int print_route(const struct plan *p, const struct policy_route *r, struct buf *out)
{
	int ret = buf_printf(out, "  %s", r->host);

	for (size_t i = 0; ret == 0 && i < r->n_ports; i++) {
		if (r->n_ports > 1 || r->ports[i] != 443)
			ret = buf_printf(out, "%c%u", i ? ',' : ':', r->ports[i]);
	}
	if (ret == 0)
		ret = buf_append_str(out, STR_LIT("  "));
	if (ret == 0)
		ret = preflight_methods(r, out);
	if (ret == 0 && r->n_paths)
		ret = buf_printf(out, " below %zu path%s", r->n_paths, r->n_paths == 1 ? "" : "s");
	if (ret == 0 && r->auth.scheme != POLICY_AUTH_NONE)
		ret = print_secret(p, r->auth.credential, out);
	return ret == 0 ? buf_append(out, "\n", 1) : ret;
}

static int print_routes(const struct plan *p, struct buf *out)
{
	const struct policy *policy = &p->policy;
	int r;

	if (policy->n_routes == 0)
		return buf_append_str(out, STR_LIT("may reach nothing\n"));
	r = buf_append_str(out, STR_LIT("may reach\n"));
	for (size_t i = 0; r == 0 && i < policy->n_routes && i < HOSTS_SHOWN; i++)
		r = print_route(p, &policy->routes[i], out);
	if (r == 0 && policy->n_routes > HOSTS_SHOWN)
		r = buf_printf(out, "  … and %zu more (--dry-run shows all)\n",
			       policy->n_routes - HOSTS_SHOWN);
	return r;
}

static int print_workspace(const struct plan *p, struct buf *out)
{
	int r;

	if (p->workspace == PLAN_WORKSPACE_NONE || !p->workspace_path)
		return 0;
	r = buf_append_str(out, p->workspace == PLAN_WORKSPACE_CLONE
					? STR_LIT("works on a clone of ")
					: STR_LIT("works on the folder "));
	if (r == 0)
		r = text_visible(out, str_of(p->workspace_path), 200);
	return r == 0 ? buf_append(out, "\n", 1) : r;
}

static int print_image(const char *image, struct buf *out)
{
	int r = buf_append_str(out, STR_LIT("image   "));

	if (r == 0)
		r = text_visible(out, str_of(image), 200);
	return r == 0 ? buf_append(out, "\n", 1) : r;
}

static int print_remotes(const struct plan *p, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->git.n_remotes; i++) {
		const struct git_remote *one = &p->git.remotes[i];

		if (one->transport != GIT_TRANSPORT_WORKSPACE)
			r = buf_printf(out, "git     %s at %s%s\n", one->name, one->host,
				       git_remote_may_push(one) ? ", may push after a scan"
								: ", fetch only");
	}
	return r;
}

static int print_limits(const struct plan_limits *l, struct buf *out)
{
	const struct {
		uint64_t n;
		const char *unit;
	} parts[] = {{l->memory_bytes >> 20, "MiB of memory"},
		     {l->processes, "processes"},
		     {l->files, "open files"},
		     {l->file_size_bytes >> 20, "MiB a file"}};
	bool is_first = true;
	int r = buf_append_str(out, STR_LIT("limits  "));

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(parts); i++) {
		if (!parts[i].n)
			continue;
		r = buf_printf(out, "%s%llu %s", is_first ? "" : ", ",
			       (unsigned long long)parts[i].n, parts[i].unit);
		is_first = false;
	}
	if (r == 0 && l->cpu_milli) {
		r = buf_printf(out, "%s%llu.%llu cores", is_first ? "" : ", ",
			       (unsigned long long)(l->cpu_milli / 1000),
			       (unsigned long long)(l->cpu_milli % 1000 / 100));
		is_first = false;
	}
	return r == 0 ? buf_append_str(out, is_first ? STR_LIT("none\n") : STR_LIT("\n")) : r;
}

static int print_command(const struct plan *p, struct buf *out)
{
	int r = buf_append_str(out, STR_LIT("command "));

	for (size_t i = 0; r == 0 && i < p->n_command; i++) {
		r = i ? buf_append(out, " ", 1) : 0;
		if (r == 0)
			r = text_visible(out, str_of(p->command[i]), 60);
	}
	return r == 0 ? buf_append(out, "\n", 1) : r;
}

int preflight_print(const struct plan *p, bool has_colour, struct buf *out)
{
	int r = buf_printf(out, "%s%s%s  agent %s in bottle %s\n",
			   has_colour ? table_colour_start(TABLE_BOLD) : "", p->slug,
			   has_colour ? "\x1b[0m" : "", p->agent, p->bottle);

	if (r == 0 && p->image)
		r = print_image(p->image, out);
	if (r == 0)
		r = print_command(p, out);
	if (r == 0)
		r = print_routes(p, out);
	if (r == 0)
		r = print_remotes(p, out);
	if (r == 0)
		r = print_workspace(p, out);
	for (size_t i = 0; r == 0 && i < p->n_expose; i++) {
		r = buf_append_str(out, i ? STR_LIT("        ") : STR_LIT("may read "));
		if (r == 0)
			r = text_visible(out, str_of(p->expose[i]), 200);
		if (r == 0)
			r = buf_append(out, "\n", 1);
	}
	if (r == 0)
		r = print_limits(&p->limits, out);
	if (r == 0 && p->is_supervised)
		r = buf_printf(out,
			       "supervised  it may ask for more: \"claude-bottle supervise %s\" "
			       "shows what, and decides\n",
			       p->slug);
	for (size_t i = 0; r == 0 && i < p->n_warnings; i++) {
		r = buf_append_str(out, STR_LIT("warning "));
		if (r == 0)
			r = text_visible(out, str_of(p->warnings[i]), 400);
		if (r == 0)
			r = buf_append(out, "\n", 1);
	}
	return r;
}

void preflight_show(const struct plan *p)
{
	struct buf out;

	buf_init(&out, 1u << 20);
	if (preflight_print(p, table_may_colour(STDERR_FILENO), &out) == 0 && buf_len(&out))
		(void)!io_write_all(STDERR_FILENO, buf_str(&out).p, buf_len(&out));
	buf_free(&out);
}

bool preflight_is_foreign(const struct plan *p)
{
	char home[PLACES_PATH_MAX], own[PLACES_PATH_MAX + 32];

	if (places_home(home, NULL) < 0)
		return true;
	(void)snprintf(own, sizeof(own), "%s/.claude-bottle/", home);
	for (size_t i = 0; i < p->n_sources; i++) {
		if (!str_starts(str_of(p->sources[i]), str_of(own)))
			return true;
	}
	return false;
}

bool preflight_ask(const struct plan *p)
{
	char line[16] = "";

	if (preflight_is_foreign(p))
		(void)fputs("This agent comes with the current directory, not from your home.\n",
			    stderr);
	(void)fputs("Start it? [y/N] ", stderr);
	if (!fgets(line, sizeof(line), stdin))
		(void)fputs("\n", stderr);
	line[strcspn(line, "\r\n")] = '\0';
	if (str_ieq(str_of(line), STR_LIT("y")) || str_ieq(str_of(line), STR_LIT("yes")))
		return true;
	cli_note("not started");
	return false;
}
