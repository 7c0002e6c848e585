#include "cli/pushed.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "workspace/user_git.h"

#include <jansson.h>
#include <stdio.h>

#define PUSHED_SHOWN	16
#define PUSHED_PLAN_MAX (16u << 20)
#define PUSHED_REFS_MAX (1u << 20)
#define PUSHED_NAME_MAX 160

/* The repository, if the workspace is a clone of it. The caller frees. */
static char *find_repository(int dir)
{
	_cleanup_free_ char *text = NULL, *out = NULL;
	const char *kind, *path;
	json_t *root;
	struct str s;

	if (io_read_file(dir, "plan.json", PUSHED_PLAN_MAX, &s, NULL) < 0)
		return NULL;
	text = (char *)(uintptr_t)s.p;
	root = json_loadb(s.p, s.n, JSON_REJECT_DUPLICATES, NULL);
	kind = json_string_value(json_object_get(root, "workspace"));
	path = json_string_value(json_object_get(root, "workspace_path"));
	if (kind && strcmp(kind, "clone") == 0 && path && path[0] == '/')
		out = mem_strdup(path);
	json_decref(root);
	return take_ptr(&out);
}

static bool show_branch(const struct user_git *g, const char *slug, struct str ref)
{
	_cleanup_free_ char *name = str_dup(ref);
	_cleanup_free_ char *count =
		USER_GIT_LINE(g, "rev-list", "--count", name, "--not", "HEAD", "--");
	char shown[PUSHED_NAME_MAX];

	if (!count || strcmp(count, "0") == 0)
		return false;
	text_visible_cstr(shown, sizeof(shown), str_sub(ref, strlen("refs/heads/"), ref.n));
	cli_note("%s: %s commit%s; see: claude-bottle diff %s", shown, count,
		 strcmp(count, "1") == 0 ? "" : "s", slug);
	return true;
}

void pushed_show(int dir, const char *slug)
{
	_cleanup_free_ char *folder = find_repository(dir);
	_cleanup_free_ char *prefix = mem_printf("refs/heads/bottle/%s/", slug);
	const struct user_git g = {.folder = folder};
	_cleanup_(buf_free) struct buf out = BUF_INIT(PUSHED_REFS_MAX);
	struct str rest, line;
	size_t n = 0;
	bool found = true;
	int status = 0;

	if (!folder)
		return;
	if (USER_GIT(&g, &out, &status, NULL, "for-each-ref", "--format=%(refname)", prefix) < 0 ||
	    status != 0)
		return;
	rest = buf_str(&out);
	while (found && n < PUSHED_SHOWN) {
		rest = str_cut(rest, '\n', &line, &found);
		if (str_starts(line, str_of(prefix)))
			n += show_branch(&g, slug, line);
	}
	if (n == PUSHED_SHOWN && rest.n > 0)
		cli_note("and more: claude-bottle diff %s", slug);
}
