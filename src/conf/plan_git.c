#include "conf/plan_build.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>

#define PRINTS_MAX 64 /* SCAN_PRINTS_MAX, which the host's side does not include */

/* git-gate holds the placeholder, not the agent: it stands in no variable, so no two remotes need
 * to share one. */
static int take_remote(struct plan *p, struct manifest_remote *r, struct err *e)
{
	struct git_remote *to = &p->git.remotes[p->git.n_remotes];
	unsigned credential = 0;
	int ret = 0;

	if (r->remote.has_credential)
		ret = plan_add_secret(p, &r->secret, r->line, r->column, &credential, e);
	if (ret < 0)
		return ret;
	*to = r->remote;
	r->remote = (struct git_remote){0};
	p->git.n_remotes++;
	to->credential = credential;
	if (to->has_credential && to->transport == GIT_TRANSPORT_HTTPS)
		ret = plan_make_placeholder(&to->placeholder, e);
	return ret;
}

/* keyd tells the scan of that many texts: secrets, what stands for them, the canary. */
static int check_prints(const struct plan *p, struct err *e)
{
	size_t n = 1;

	for (size_t i = 0; i < p->n_secrets; i++)
		n += !p->secrets[i].is_key;
	for (size_t i = 0; i < p->git.n_remotes; i++)
		n += p->git.remotes[i].placeholder != NULL;
	for (size_t i = 0; i < p->policy.n_routes; i++) {
		const char *own = p->policy.routes[i].auth.placeholder;
		size_t k = 0;

		while (own && k < i &&
		       (!p->policy.routes[k].auth.placeholder ||
			strcmp(p->policy.routes[k].auth.placeholder, own) != 0))
			k++;
		n += own && k == i;
	}
	return n <= PRINTS_MAX ? 0
			       : err_set(e, -E2BIG,
					 "the credentials of this bottle and the placeholders of "
					 "its routes and remotes are %zu, more than %d in all",
					 n - 1, PRINTS_MAX - 1);
}

int plan_fill_git(struct plan *p, struct manifest_bottle *b, struct err *e)
{
	struct manifest_git *g = &b->git;
	bool has_workspace = p->workspace == PLAN_WORKSPACE_CLONE;

	if (g->n_remotes + has_workspace > GIT_REMOTES_MAX)
		return err_at(
			e, g->remotes[g->n_remotes - 1].remote.origin_file,
			g->remotes[g->n_remotes - 1].line, g->remotes[g->n_remotes - 1].column,
			"more than %d remotes, of which the workspace is one", GIT_REMOTES_MAX);
	p->git.remotes = mem_zalloc_array(GIT_REMOTES_MAX, sizeof(*p->git.remotes));
	if (has_workspace) {
		p->git.remotes[p->git.n_remotes++] = g->workspace;
		g->workspace = (struct git_remote){0};
	} else if (g->says_workspace) {
		plan_warn(p, "git.workspace (%s:%u) has no effect: the workspace is not cloned",
			  g->workspace.origin_file, g->workspace.origin_line);
	}
	for (size_t i = 0; i < g->n_remotes; i++) {
		int ret = take_remote(p, &g->remotes[i], e);

		if (ret < 0)
			return ret;
	}
	p->git.user_name = take_ptr(&g->user_name);
	p->git.user_email = take_ptr(&g->user_email);
	p->git.enforces_identity = g->enforces_identity;
	return check_prints(p, e);
}
