/*
 * The compartment of the native backend: bubblewrap inside the wall, for the agent; and joining a
 * running one, for whatever is started beside the agent.
 */
#pragma once

#include "backend/backend.h"
#include "priv/agent_filter.h"
#include "backend/walled/cgroup.h"
#include "backend/walled/wall.h"
#include "conf/plan.h"
#include "workspace/workspace.h"

struct compartment {
	const struct plan *plan; /* outlives the compartment */
	const struct wall *wall; /* so does it */
	const struct cgroup *cgroup;
	char *ca_path;	/* on the host; empty until compartment_go() */
	int hold_fd;	/* the agent is held while this is open and silent */
	char *home_dir; /* on the host; the agent's uid owns it */
	struct workspace workspace;
	bool has_own_user; /* started by root: the agent's uid is nobody else's */
	char **env;
	struct agent_filter filter;
	pid_t bwrap_pid; /* our child: bubblewrap's monitor; its exit status is the agent's */
	pid_t init_pid;	 /* process 1 of the pid namespace, as seen from here */
	int init_pidfd;	 /* -1 before launch */
};

#define COMPARTMENT_INIT ((struct compartment){.init_pidfd = -1, .hold_fd = -1})

/* Makes the agent's home with the planted canary, its environment and its filter. */
int compartment_prepare(struct compartment *c, const struct plan *p, const struct wall *w,
			const struct cgroup *g, const char *state_dir, struct err *e) _fallible_;
/* Makes the compartment with the agent's process in it, held before its first instruction. With
 * io->has_tty, io->master_fd is the terminal afterwards; else io's three pipes become its standard
 * descriptors (the caller closes its copies). */
int compartment_launch(struct compartment *c, struct backend_stdio *io, struct err *e) _fallible_;
/* Writes the CA bundle and lets the agent begin. */
int compartment_go(struct compartment *c, struct str ca_pem, struct err *e) _fallible_;
/* One more process in the agent's namespaces, with its uid, filter, limits and environment. *pid is
 * a child of the caller. The caller must be single-threaded. */
int compartment_join(const struct compartment *c, char *const *argv, struct backend_stdio *io,
		     pid_t *pid, struct err *e) _fallible_;
/* The agent's process as seen from here, for signals; 0 when it is not there any more. */
pid_t compartment_agent_pid(const struct compartment *c);
/* SIGKILL to process 1: the kernel ends every process of the pid namespace with it. */
void compartment_kill(const struct compartment *c);
void compartment_free(struct compartment *c);

/* Between the two files: in a child. */
int compartment_stdio(const struct backend_stdio *io, int slave_fd, bool is_leader,
		      struct err *e) _fallible_;
int compartment_limit(const struct compartment *c, struct err *e) _fallible_;
/* A pty: the master for us, the slave owned by the agent's user. */
int compartment_open_pty(const struct compartment *c, struct backend_stdio *io, int *slave_fd,
			 struct err *e) _fallible_;
/* Waits for a child's verdict on a close-on-exec socket: 0 when it closes without one. */
int compartment_verdict(int sock, struct err *e) _fallible_;
_Noreturn void compartment_give_up(int sock, const struct err *e);
