/*
 * A cell: where a virtual machine's monitor (QEMU, smolvm) runs on this host. It stands in a wall
 * (backend/walled/wall.h), so that whatever the monitor dials can reach the bundle and nothing
 * else, and in namespaces that bubblewrap makes: no home of the user's, nothing of the host's but
 * /usr read-only and what is named here, no capability, no new privileges, its groups and limits, a
 * uid of its own where we are root. A guest that has taken over its monitor is in here.
 *
 * Process 1 of the cell is `claude-bottle-bundle cell`, which starts what the keeper asks for and
 * reaps it; inside, all of it is under a Landlock domain and a seccomp filter. When the keeper
 * hangs up or is killed, process 1 ends, and the kernel ends every process of the cell with it.
 *
 * The host's half (cell_host.c) is linked by the backends; cell_main() (cell_serve.c) is in the
 * bundle's executable.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

struct wall;
struct cgroup;

#define CELL_BINDS_MAX	 32
#define CELL_ARGV_MAX	 1024
#define CELL_FDS_MAX	 48 /* given to one process beyond its standard ones */
#define CELL_FIRST_FD	 10 /* the number of the first of these in the process; then one by one */
#define CELL_FOLDER	 "/cell" /* read-only; the bundle's executable lies in it */
#define CELL_START_MS	 10000
#define CELL_STACK_BYTES (8u << 20)
#define CELL_FILES_MAX	 1024

struct cell_bind {
	const char *from; /* on the host, absolute; may lie where the cell's uid cannot walk */
	const char *to;
	bool is_writable; /* then it must belong to the wall's uid */
	bool is_device;	  /* /dev/kvm */
};

struct cell_spec {
	const struct wall *wall;
	const struct cgroup *cgroup;
	const char *slug; /* its processes carry it in their environment: CLAUDE_BOTTLE_SLUG */
	const struct cell_bind *binds;
	size_t n_binds;
	char *const *env; /* of everything in there; NULL-terminated "NAME=value" */
	/* RLIMIT_FSIZE: what a monitor may make of any file. 0: none. */
	uint64_t file_size_bytes;
};

struct cell {
	int conn_fd;	/* its close is the cell's end */
	pid_t pid;	/* child: bubblewrap, which ends after the cell's last process */
	int init_pidfd; /* process 1 */
};
#define CELL_INIT ((struct cell){.conn_fd = -1, .init_pidfd = -1})

/* Where no bind is writable, nothing in there has a file but what it is lent: agent_filter.h's
 * filter for a borrower is on all of it.
 * Until process 1 has answered from inside. On failure nothing is left behind. */
int cell_make(struct cell *c, const struct cell_spec *spec, struct err *e) _fallible_;

struct cell_run {
	char *const *argv;	   /* argv[0]: an absolute path in the cell */
	char *const *env;	   /* NULL: the cell's */
	int in_fd, out_fd, err_fd; /* stay the caller's; -1: /dev/null */
	bool has_terminal; /* the three are one terminal, which becomes its controlling one */
	const int *fds;	   /* CELL_FIRST_FD, …; never a folder (-EISDIR) */
	size_t n_fds;
	/* RLIMIT_AS, in which no thread's stack counts for more than CELL_STACK_BYTES, whatever
	 * this user's limit is; and no more than CELL_FILES_MAX descriptors, because what lies in a
	 * socket is memory too. 0: none. */
	uint64_t address_space_bytes;
	/* A pipe's reading end, or a socket, which stays the caller's: when it hangs up, the
	 * command ends as if what stands for it were killed. NULL: none. */
	const int *until_fd;
};

/* Starts it. *pid is a child of the caller that stands for it: it ends with its status (128 +
 * signal for a signal), and when it is killed, the process and its group are killed. 125 after the
 * cell has ended. */
int cell_run(const struct cell *c, const struct cell_run *r, pid_t *pid, struct err *e) _fallible_;
/* Runs it to its end; its standard output and error, each bounded by max bytes (more is an error,
 * -E2BIG), on the heap. The exit status, or -errno (-ETIMEDOUT: it was killed). */
int cell_call(const struct cell *c, const struct cell_run *r, int timeout_ms, size_t max,
	      struct str *out, struct str *err, struct err *e) _fallible_;
/* Ends every process of the cell. */
void cell_kill(struct cell *c);
/* cell_kill(), and waits for its end. */
void cell_free(struct cell *c);

/* --- the bundle's half: `claude-bottle-bundle cell FD` --- */
int cell_main(int argc, char **argv);
