/*
 * A backend makes the compartment and its wall. Everything that differs between docker, native and
 * the microVMs stands behind this table; nothing in cli/ or bundle/ asks which backend it is.
 *
 * The bottle's keeper (keeper.h) is the process that calls all of it but probe and cleanup; it
 * lives as long as the bottle.
 */
#pragma once

#include "base/err.h"
#include "base/progress.h"
#include "conf/plan.h"

struct bottle;	       /* the backend's state of one bottle */
struct backend_images; /* images.h */

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
#define BACKEND_PATH_MAX   4096

/* One more of at most BACKEND_CHECKS_MAX; what is added may be changed until the next one is. */
struct backend_check *backend_check_add(struct backend_check *checks, size_t *n, const char *name,
					bool is_ok, bool is_required, const char *text);
/* 0, or -ENOTSUP with the first that is required and not there. */
int backend_checks_judge(const struct backend_check *checks, size_t n, struct err *e) _fallible_;

/* A descriptor that the bundle's init is given, by name (bundle/bundle.h). */
struct backend_fd {
	const char *name;
	int fd; /* -1: not there */
};
#define BACKEND_FDS_MAX 16 /* that a bundle is given: the keeper's, a wall's sockets, its log */

/* What a backend has decided about where the bundle stands. */
struct backend_place {
	char pinned[46]; /* the bundle's address as the agent sees it; in every config that names it
			  */
	unsigned uid_base; /* of the roles; 0: they keep init's */
	/* The bundle has a network of its own: the host's loopback is not its loopback. What the
	 * operator named there (egress.resolve, egress.dns) is dialled by the keeper, and the
	 * host's addresses are told to egress. */
	bool is_apart;
	/* With git: a folder as the bundle sees it, absolute, that git-gate alone may write; else
	 * empty. */
	char git_folder[BACKEND_PATH_MAX];
};

#define BACKEND_WHY_MAX	      160
#define BACKEND_REFERENCE_MAX 256

struct backend {
	const char *name;
	const char *summary;
	/* How long a keeper may take to undo a bottle; one that takes longer is taken for dead. */
	unsigned undo_ms;
	/* What this host can do; fills checks. 0 if bottles can be started. */
	int (*probe)(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n, struct err *e);
	/* For a bottle that names no backend: 0 if this host offers it, and why; else why not in e.
	 */
	int (*offer)(char why[BACKEND_WHY_MAX], struct err *e);
	/* In the foreground, before there is a keeper: whatever takes long, needs the network or
	 * can be done once for many bottles (images). May be NULL. */
	int (*ensure)(const struct plan *p, const struct progress *progress, struct err *e);
	/* Makes the wall, or has it made. has_tty: how the agent will be launched. */
	int (*prepare)(struct bottle **out, const struct plan *p, const char *state_dir,
		       bool has_tty, struct backend_place *place, struct err *e);
	/* Starts the bundle's init with these descriptors (which stay the caller's) and the wall's
	 * listening sockets. Does not wait until it serves: it says so on its control channel,
	 * whose end of file is its end. */
	int (*start_bundle)(struct bottle *b, const struct backend_fd *fds, size_t n,
			    struct err *e);
	/* After that end, or to make it end (must_die). Returns when it is gone; how says what is
	 * known: "was killed", "ended with status 1". Idempotent. */
	void (*reap_bundle)(struct bottle *b, bool must_die, char *how, size_t how_size);
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
	/* The terminal of such a process, whose master has its new size, is another one inside and
	 * has to be told. May be NULL. */
	void (*resize)(struct bottle *b, pid_t pid, unsigned rows, unsigned columns);
	/* Ends every process of the compartment. */
	void (*kill)(struct bottle *b);
	/* What holds besides the wall, or does not (limits), for people and for bottle.json. */
	const char *(*note)(const struct bottle *b);
	/* After the end of the child that launch() made, with its status (wait(2)): NULL, or what
	 * broke instead of the agent (an engine that went away). May be NULL. */
	const char *(*reason)(struct bottle *b, int status);
	/* Undoes prepare, all but the agent's home; also after a failed one. False: something could
	 * not be removed, an engine that does not answer holds it, and cleanup() is to. */
	bool (*release)(struct bottle *b);
	/* Removes what a dead bottle left on this host (cgroups, containers, its home …); state_dir
	 * is its folder. */
	int (*cleanup)(const char *slug, const char *state_dir, struct err *e);
	/* Removes (is_dry: counts) what bottles below state_root left whose folders are gone. May
	 * be NULL. */
	int (*sweep)(const char *state_root, bool is_dry, size_t *n, struct err *e);
	/* What is kept for bottles to be started from. May be NULL; may be others' too. */
	const struct backend_images *images;
	/* Keeps the compartment's state as an image, with the policy that it runs under. May be
	 * NULL. */
	int (*commit)(const char *slug, const char *state_dir, const char *name,
		      char reference[BACKEND_REFERENCE_MAX], struct err *e);
};

extern const struct backend backend_docker, backend_native, backend_qemu, backend_smolmachines;
const struct backend *backend_find(enum plan_backend b); /* NULL: not in this build */
/* Those that may be taken without being named, best first; NULL-terminated. */
extern const struct backend *const backend_preference[];
