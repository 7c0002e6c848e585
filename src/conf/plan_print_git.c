/* The git part of a plan, shown: what may be fetched, pushed where, and as whom. */
#include "conf/plan_build.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>

#define SHOWN_MAX 200

struct printer {
	struct buf *out;
	int ret;
};

static void put(struct printer *p, const char *text)
{
	if (p->ret == 0)
		p->ret = buf_append_str(p->out, str_of(text));
}

static void put_visible(struct printer *p, const char *text)
{
	if (p->ret == 0)
		p->ret = text_visible(p->out, str_of(text), SHOWN_MAX);
}

static void put_list(struct printer *p, const char *before, char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		put(p, i ? ", " : before);
		put_visible(p, list[i]);
	}
}

static void put_upstream(struct printer *p, const struct plan *plan, const struct git_remote *r)
{
	if (r->transport == GIT_TRANSPORT_WORKSPACE) {
		put(p, "your repository, as bottle/");
		put(p, plan->slug);
		put(p, "/…");
	} else if (r->transport == GIT_TRANSPORT_SSH && r->path[0] != '/') {
		if (p->ret == 0)
			p->ret = buf_printf(p->out, "%s@%s:%s", r->user, r->host, r->path);
	} else if (p->ret == 0) {
		bool is_ssh = r->transport == GIT_TRANSPORT_SSH;

		p->ret = buf_printf(p->out, "%s://%s%s%s", is_ssh ? "ssh" : "https",
				    is_ssh ? r->user : "", is_ssh ? "@" : "", r->host);
		if (p->ret == 0 && r->port != (is_ssh ? 22 : 443))
			p->ret = buf_printf(p->out, ":%u", (unsigned)r->port);
		put(p, r->path);
	}
}

static void put_refs(struct printer *p, const struct git_remote *r)
{
	if (!git_remote_may_push(r)) {
		put(p, "      fetch only\n");
		return;
	}
	put(p, "      push");
	put_list(p, " branches ", r->branches, r->n_branches);
	put_list(p, r->n_branches ? "; tags " : " tags ", r->tags, r->n_tags);
	put_list(p, "; never ", r->protected_branches, r->n_protected_branches);
	if (r->is_head_protected)
		put(p, r->n_protected_branches ? " and the upstream's default branch"
					       : "; never the upstream's default branch");
	if (r->may_force || r->may_delete)
		put(p, r->may_force && r->may_delete ? "; may rewrite and delete them"
		       : r->may_force		     ? "; may rewrite them"
						     : "; may delete them");
	put(p, "\n");
	if (r->may_oversize)
		put(p, "      files past the size that is scanned pass unscanned\n");
	if (r->n_allow && p->ret == 0)
		p->ret = buf_printf(p->out, "      %zu finding%s allowed by you\n", r->n_allow,
				    r->n_allow == 1 ? "" : "s");
}

static void put_credential(struct printer *p, const struct plan *plan, const struct git_remote *r)
{
	_cleanup_free_ char *ref = NULL;

	if (!r->has_credential)
		return;
	put(p, r->transport == GIT_TRANSPORT_SSH ? "      key " : "      credential ");
	if (r->credential < plan->n_secrets)
		ref = plan_secret_describe(&plan->secrets[r->credential]);
	put_visible(p, ref ? ref : "");
	put(p, " as user \"");
	put_visible(p, r->user);
	put(p, "\"; neither agent nor git-gate holds it\n");
	if (!r->host_key)
		return;
	put(p, "      host key ");
	put(p, r->host_key);
	put(p, "\n");
}

static void put_remote(struct printer *p, const struct plan *plan, const struct git_remote *r)
{
	put(p, "  ");
	put(p, r->name);
	put(p, "  ");
	put_upstream(p, plan, r);
	put(p, "\n");
	put_refs(p, r);
	put_credential(p, plan, r);
	if (r->may_serve_stale)
		put(p, "      fetches are served, as they were, while the upstream is down\n");
	if (r->origin_file) {
		put(p, "      from ");
		put_visible(p, r->origin_file);
		if (p->ret == 0)
			p->ret = buf_printf(p->out, ":%u\n", r->origin_line);
	}
}

int plan_print_remote(const struct plan *plan, const struct git_remote *r, struct buf *out)
{
	struct printer p = {.out = out};

	put_remote(&p, plan, r);
	return p.ret;
}

static void put_identity(struct printer *p, const struct git_policy *g)
{
	if (!g->user_name && !g->user_email)
		return;
	put(p, g->enforces_identity ? "Commits must be by " : "Commits are by ");
	put_visible(p, g->user_name ? g->user_name : "?");
	put(p, " <");
	put_visible(p, g->user_email ? g->user_email : "?");
	put(p, g->enforces_identity ? ">\n" : ">, unless the agent says otherwise\n");
}

int plan_print_git(const struct plan *plan, struct buf *out)
{
	struct printer p = {.out = out};

	if (plan->workspace != PLAN_WORKSPACE_NONE && plan->workspace_path) {
		put(&p, plan->workspace == PLAN_WORKSPACE_CLONE
				? "Workspace: a clone of what is tracked in "
				: "Workspace: the folder itself, ");
		put_visible(&p, plan->workspace_path);
		put(&p, "\n");
	}
	if (plan->git.n_remotes)
		put(&p, "Git remotes, through git-gate, which scans each push\n");
	for (size_t i = 0; i < plan->git.n_remotes; i++)
		put_remote(&p, plan, &plan->git.remotes[i]);
	put_identity(&p, &plan->git);
	return p.ret;
}
