/*
 * A backend makes the compartment and its wall. Everything that differs between docker, native and
 * the microVMs stands behind this table; nothing in cli/ or bundle/ asks which backend it is.
 *
 * The bottle's keeper (keeper.h) is the process that calls all of it but probe and cleanup; it
 * lives as long as the bottle.
 */
#pragma once

#include "base/err.h"
#include "conf/plan.h"

struct bottle; /* the backend's state of one bottle */

struct backend_stdio {
	bool has_tty;
	unsigned short rows, columns;
	/* In: without a tty, the agent's ends of three pipes. Out: with a tty, master is the pty.
	 */
	int in_fd, out_fd, err_fd;
	int master_fd;
};

/* A finding of `doctor`: what this host can do. */
struct backend_check {
	char name[48];
	bool is_ok, is_required;
	char text[256]; /* what was found; what to install or set when not ok */
};
#define BACKEND_CHECKS_MAX 24

/* What the bottle's bundle looks like from the outside, for starting it. */
struct backend_listeners {
	int pipelock_fd, dns_udp_fd, dns_tcp_fd;
};

struct backend {
	const char *name;
	const char *summary;
	/* What this host can do; fills checks. 0 if bottles can be started. */
	int (*probe)(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n, struct err *e);
	/* Makes the wall and the bundle's listening sockets inside it. */
	int (*prepare)(struct bottle **out, const struct plan *p, const char *state_dir,
		       struct backend_listeners *listeners, struct err *e);
	/* Proves the wall from the agent's own position; the bundle must answer. */
	int (*canary)(struct bottle *b, struct err *e);
	/* Makes the compartment with the agent's process in it, held before its first instruction,
	 * so that this may go on while the bundle starts. *pid is a child of the caller, whose exit
	 * status is the agent's (128 + signal for a signal). */
	int (*launch)(struct bottle *b, struct backend_stdio *io, pid_t *pid, struct err *e);
	/* ca_pem goes into the agent's trust store, and it begins. Only after canary(). */
	int (*go)(struct bottle *b, struct str ca_pem, struct err *e);
	/* One more process beside the agent, as walled in as it is. */
	int (*exec)(struct bottle *b, char *const *argv, struct backend_stdio *io, pid_t *pid,
		    struct err *e);
	/* A signal to the agent (pid of launch) or to a process of exec, and to its process group.
	 */
	int (*signal)(struct bottle *b, pid_t pid, int signo);
	/* Ends every process of the compartment. */
	void (*kill)(struct bottle *b);
	/* What holds besides the wall, or does not (limits), for people and for bottle.json. */
	const char *(*note)(const struct bottle *b);
	/* Undoes prepare; also after a failed one. */
	void (*release)(struct bottle *b);
	/* Removes what a dead bottle left on this host (cgroups, mounts …); state_dir is its
	 * folder. */
	int (*cleanup)(const char *slug, const char *state_dir, struct err *e);
};

extern const struct backend backend_native;
const struct backend *backend_find(enum plan_backend b); /* NULL: not in this build */
