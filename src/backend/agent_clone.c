#include "backend/agent_clone.h"

#include "backend/host_repo.h"
#include "base/clean.h"
#include "base/mem.h"
#include "base/ports.h"

#include <fcntl.h>
#include <stdio.h>

/* Arguments: the clone's URL, its folder, the agent's branch, the command. Made under another name
 * and moved, so that what is there is whole. A clone that is there is the agent's work: it is kept,
 * whatever it looks like. Status 125: the agent's command was not begun. */
static const char clone_script[] =
	"url=$1 dir=$2 branch=$3; shift 3\n"
	"say() { printf 'claude-bottle: %s\\n' \"$1\" >&2; }\n"
	"fail() { say \"$1\"; exit 125; }\n"
	"name() {\n"
	"	git config push.default current || return\n"
	"	[ \"$(git symbolic-ref -q --short HEAD)\" = \"$branch\" ] && return\n"
	"	if git show-ref -q --verify \"refs/remotes/origin/$branch\"; then\n"
	"		git checkout -q -b \"$branch\" \"origin/$branch\"\n"
	"	else\n"
	"		git checkout -q -b \"$branch\"\n"
	"	fi\n"
	"}\n"
	"cd || fail 'the agent has no home'\n"
	"if [ ! -e \"$dir\" ] && [ ! -L \"$dir\" ]; then\n"
	"	command -v git >/dev/null 2>&1 ||\n"
	"		fail 'the workspace was not cloned: there is no git here (workspace: none "
	"goes without)'\n"
	"	[ -t 2 ] && say 'cloning the workspace'\n"
	"	rm -rf \".$dir.clone\"\n"
	"	said=$(git clone -q -- \"$url\" \".$dir.clone\" 2>&1 && cd \".$dir.clone\" && name "
	"2>&1)\n"
	"	status=$?\n"
	"	if [ $status -ne 0 ]; then\n"
	"		[ -n \"$said\" ] && printf '%s\\n' \"$said\" >&2\n"
	"		rm -rf \".$dir.clone\"\n"
	"		fail \"the workspace was not cloned: git ended with status $status\"\n"
	"	fi\n"
	"	mv \".$dir.clone\" \"$dir\" || fail 'the workspace was not cloned'\n"
	"fi\n"
	"cd \"$dir\" || say \"$dir is no folder: the agent begins in its home\"\n"
	"exec \"$@\"\n";

#define CLONE_NAME_MAX 64

static bool is_plain(char c)
{
	return ascii_is_alnum(c) || c == '.' || c == '_' || c == '-';
}

char *agent_clone_folder(const struct plan *p)
{
	char name[CLONE_NAME_MAX + 1];
	struct host_repo repo = {0};
	struct str top;
	size_t n = 0;
	int ret;

	if (p->workspace != PLAN_WORKSPACE_CLONE || !p->workspace_path)
		return NULL;
	ret = host_repo_find(&repo, p->workspace_path, NULL);
	top = str_of(ret == 0 ? repo.top : p->workspace_path);
	for (size_t i = 0; i < top.n; i++)
		n = top.p[i] == '/' ? i + 1 : n;
	top = str_sub(top, n, top.n);
	if (str_ends(top, STR_LIT(".git")))
		top.n -= 4;
	for (n = 0; n < top.n && n < CLONE_NAME_MAX; n++)
		name[n] = is_plain(top.p[n]) ? top.p[n] : '-';
	name[n] = '\0';
	/* Not among what programs keep in a home, and nothing that is read as an option. */
	if (name[0] == '.' || name[0] == '-')
		name[0] = '_';
	host_repo_free(&repo);
	return mem_strdup(n > 0 ? name : "workspace");
}

/* Codex takes no file, and the address is known only here. */
static bool wants_codex_option(const struct plan *p)
{
	return p->is_supervised && !p->is_command_given && strcmp(p->provider, "codex") == 0;
}

char **agent_command_make(const struct plan *p, const char *pinned)
{
	_cleanup_free_ char *folder = agent_clone_folder(p);
	char **argv = mem_zalloc_array(p->n_command + 10, sizeof(*argv));
	size_t n = 0;

	if (folder) {
		argv[n++] = mem_strdup("/bin/sh");
		argv[n++] = mem_strdup("-c");
		argv[n++] = mem_strdup(clone_script);
		argv[n++] = mem_strdup("claude-bottle");
		argv[n++] = mem_printf("http://%s:%d/workspace", pinned, SERVICE_PORT_GITGATE);
		argv[n++] = mem_strdup(folder);
		argv[n++] = mem_strdup(p->slug);
	}
	for (size_t i = 0; i < p->n_command; i++) {
		argv[n++] = mem_strdup(p->command[i]);
		if (i == 0 && wants_codex_option(p)) {
			argv[n++] = mem_strdup("-c");
			argv[n++] =
				mem_printf("mcp_servers." PLAN_MCP_NAME ".url=\"http://%s:%d/mcp\"",
					   pinned, SERVICE_PORT_SUPERVISE);
		}
	}
	return argv;
}

/* Arguments: the folder, the command. A clone that fails ends the bottle, and this with it. Who has
 * removed the folder waits five seconds for nothing. */
static const char wait_script[] =
	"dir=$1 i=0; shift\n"
	"cd || exit 125\n"
	"while [ ! -d \"$dir\" ] && { [ $i -lt 50 ] || [ -d \".$dir.clone\" ]; }; do\n"
	"	sleep 0.1; i=$((i + 1))\n"
	"done\n"
	"cd \"$dir\" 2>/dev/null\n"
	"exec \"$@\"\n";

char **agent_exec_make(const struct plan *p, const char *home, char *const *argv)
{
	_cleanup_free_ char *folder = agent_clone_folder(p);
	_cleanup_free_ char *path = folder && home ? mem_printf("%s/%s", home, folder) : NULL;
	size_t n = 0, n_words = 0;
	char **out;

	/* Whatever it is: the agent's business. */
	if (!folder || (path && faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0))
		return NULL;
	while (argv[n_words])
		n_words++;
	out = mem_zalloc_array(n_words + 6, sizeof(*out));
	out[n++] = mem_strdup("/bin/sh");
	out[n++] = mem_strdup("-c");
	out[n++] = mem_strdup(wait_script);
	out[n++] = mem_strdup("claude-bottle");
	out[n++] = mem_strdup(folder);
	for (size_t i = 0; i < n_words; i++)
		out[n++] = mem_strdup(argv[i]);
	return out;
}

void agent_command_free(char **argv)
{
	for (char **a = argv; a && *a; a++)
		free(*a);
	free(argv);
}
