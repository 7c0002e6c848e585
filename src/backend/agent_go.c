#include "backend/agent_go.h"

#include "backend/agent_clone.h"
#include "backend/agent_env.h"
#include "base/clean.h"
#include "base/mem.h"
#include "guest/guest_host.h"

#define GO_MS 30000

int agent_go(int conn_fd, const struct plan *p, const char *pinned, char *const *env, bool has_tty,
	     struct err *e)
{
	_cleanup_free_ char *canary =
		p->canary ? mem_printf("[default]\ndeploy_token = %s\n", p->canary) : NULL;
	const struct guest_file file = {
		.path = AGENT_CANARY_FILE, .mode = 0600, .text = str_of(canary)};
	char **command = agent_command_make(p, pinned);
	const struct guest_go go = {
		.argv = command,
		.env = env,
		.has_tty = has_tty,
		.files = &file,
		.n_files = p->canary ? 1 : 0,
		.limits = {.files = p->limits.files, .file_size_bytes = p->limits.file_size_bytes}};
	int ret = guest_go(conn_fd, &go, GO_MS, -1, e);

	agent_command_free(command);
	return ret;
}
