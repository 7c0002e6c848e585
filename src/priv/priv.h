/*
 * How a process takes powers away from itself. Each step is a call of its own, so that a role's
 * main reads as its list of powers; each fails hard when the kernel cannot do it, except where the
 * comment says what an older kernel gets instead.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

/* No new privileges, not dumpable (no core, no ptrace by the same uid), parent-death SIGKILL (where
 * the parent is in the same pid namespace), umask 077, empty supplementary groups when root. */
int priv_basics(struct err *e) _fallible_;
/* Init: keeps only what it needs to start roles under their own uids and to end them. */
int priv_keep_caps_of_init(struct err *e) _fallible_;
/* setgroups([]), setresgid, setresuid; verifies that there is no way back; drops every capability
 * from all sets and the bounding set. uid 0: keep the uid, drop capabilities all the same. */
int priv_drop_uid(uid_t uid, struct err *e) _fallible_;

struct priv_limits {
	size_t files;
	size_t address_space_bytes; /* 0: unlimited (sanitizers reserve terabytes) */
	size_t file_size_bytes;
	size_t processes; /* 0: may not fork */
};
int priv_limit(const struct priv_limits *l, struct err *e) _fallible_;

/* Landlock: only these paths, with these rights; nothing else in the file system; no TCP bind or
 * connect where the ABI knows the network (4+), unless asked for. A kernel without Landlock: *e is
 * untouched, the return value is 1 and the caller logs it once. */
enum priv_access {
	PRIV_READ = 1,
	PRIV_WRITE = 2, /* into files, and new regular ones */
	PRIV_EXECUTE = 4,
	/* Folders too, removing, renaming and linking from one folder below it to another; no
	 * symbolic links, which would lead others out of it. No kernel before Landlock's ABI 2 can
	 * allow the last: there the whole step is left out, as if there were no Landlock. */
	PRIV_MANAGE = 8,
	PRIV_OPTIONAL = 16, /* a path that is not there is no error */
	/* With MANAGE: links, sockets and pipes too, in a folder that nobody else follows them in.
	 */
	PRIV_OWN = 32,
	PRIV_DEVICE = 64 /* its requests (ioctl) */
};
struct priv_path {
	const char *path;
	unsigned access;
};
int priv_landlock(const struct priv_path *paths, size_t n, bool may_tcp_connect,
		  struct err *e) _fallible_;

/* Seccomp: an allowlist of syscalls by name sets; anything else kills the process (SIGSYS logged by
 * init). Socket families, prctl options and clone flags are checked by argument. A filter is
 * inherited by everything that the process forks or executes. */
enum priv_seccomp_set {
	/* BYTES, epoll, what is known of files by name and of this process. */
	PRIV_SECCOMP_BASE = 1,
	PRIV_SECCOMP_PASS_FD = 2, /* sendmsg/recvmsg, socketpair(AF_UNIX) */
	PRIV_SECCOMP_ACCEPT = 4,  /* accept4, getsockname, getpeername, setsockopt */
	PRIV_SECCOMP_DIAL = 8,	  /* socket(AF_INET/AF_INET6), connect, bind, sendto, recvfrom */
	PRIV_SECCOMP_OPEN = 16,	  /* openat, fstat, read-only by Landlock */
	PRIV_SECCOMP_FILE = 32,	  /* pwrite, ftruncate, fsync on descriptors that are open */
	PRIV_SECCOMP_FORK = 64,	  /* children of the same program, no threads: fork, wait, to die
				   * with the parent */
	/* FORK, KILL and OPEN, other programs (git, its threads and helpers), and a work folder of
	 * theirs: what Landlock leaves of writing, renaming, linking, removing. Other programs are
	 * written for a kernel that refuses what it does not have, so what is not listed is ENOSYS
	 * here, for this process too, and not its end; sockets are EACCES. */
	PRIV_SECCOMP_EXEC = 128,
	PRIV_SECCOMP_SENDFILE = 256, /* from a file that is open to a socket */
	PRIV_SECCOMP_KILL = 512,     /* of one process by its number, or of a group of its own */
	/* Memory, time, poll, read and write, send and receive on descriptors that are open,
	 * signals to itself, exit: in every filter. */
	PRIV_SECCOMP_BYTES = 1024,
	PRIV_SECCOMP_TERMINAL = 2048,	/* the size of one that is open */
	PRIV_SECCOMP_DIAL_LOCAL = 4096, /* socket(AF_UNIX), connect */
	PRIV_SECCOMP_MAKE = 8192,	/* pipes and memory files */
	PRIV_SECCOMP_LIST = 16384	/* the names in a folder that is open */
};
/* With BASE. */
int priv_seccomp(unsigned sets, struct err *e) _fallible_;
/* True in a sanitizer build, whose runtime needs syscalls that the filters refuse; the filters
 * themselves are tested in a build of their own. */
bool priv_is_instrumented(void);

/*
 * For a child that goes on in its parent's program (base/child.h), when it has set itself up and
 * before it reads a byte of somebody hostile. What is left: the descriptors that are open, memory,
 * time, its exit (PRIV_SECCOMP_BYTES), and what is named here. Gone: capabilities but those of
 * caps, new privileges, cores, being traced, every path but these (Landlock, where the kernel has
 * it), TCP; by the filter sockets, programs, children, signals to others, other descriptors. What
 * it does beyond that kills it with SIGSYS; opening a file is EACCES.
 *
 * It keeps its uid. That gives it nothing: what a uid decides (files, whom to signal or trace,
 * whose sockets) are calls that it does not have, and to change it would make the kernel forget
 * that it dies with its parent.
 *
 * A sanitizer build has no filter, only the rest.
 */
struct priv_seal {
	unsigned sets; /* enum priv_seccomp_set; BASE only where it is named */
	uint64_t caps; /* 1 << CAP_…: of those that it has */
	const struct priv_path *paths;
	size_t n_paths;
};
int priv_seal(const struct priv_seal *s, struct err *e) _fallible_;
/* What a line ends with that says that a sealed child was killed; its status as of waitpid(). */
const char *priv_seal_why(int wait_status);
