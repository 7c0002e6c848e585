/* What the agent finds when it starts: its environment and its /etc. Nothing of the host's
 * environment is in it. */
#pragma once

#include "base/err.h"
#include "conf/plan.h"
#include "guest/guest.h"

#define AGENT_HOME    "/home/agent"
#define AGENT_CA_PATH "/etc/claude-bottle/ca.pem"
#define AGENT_PATH                                                                                 \
	AGENT_HOME "/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
/* Where the canary is planted; a match anywhere in the agent's traffic is a leak. */
#define AGENT_CANARY_ENV  "DEPLOY_TOKEN_BACKUP"
#define AGENT_CANARY_FILE ".config/deploy/credentials"

/* NULL-terminated "NAME=value"; the plan's own come last and win, but for the proxy and CA
 * variables, which are the bottle's. The caller frees with agent_env_free(). */
char **agent_env_make(const struct plan *p, const char *pinned);
void agent_env_free(char **env);

struct agent_file {
	const char *path; /* static */
	int fd;		  /* bwrap_memfd()'s */
};
#define AGENT_FILES_MAX 12
#define AGENT_GITCONFIG "/etc/gitconfig"
/* In the agent's environment, when its workspace is a clone: the clone's folder. */
#define AGENT_WORKSPACE_ENV GUEST_FOLDER_ENV

/* /etc/passwd, group, hosts, resolv.conf, nsswitch.conf, hostname and machine-id; with git also
 * AGENT_GITCONFIG, supervised also PLAN_MCP_FILE. uid and gid are the agent's as it sees them. The
 * caller closes with agent_files_free(). */
int agent_files_make(struct agent_file files[AGENT_FILES_MAX], size_t *n, const struct plan *p,
		     const char *pinned, unsigned uid, unsigned gid, struct err *e) _fallible_;
/* The CA bundle: the system's roots, then ca_pem. */
int agent_ca_write(int fd, struct str ca_pem, struct err *e) _fallible_;
void agent_files_free(struct agent_file *files, size_t n);
