/*
 * Inside an agent's compartment whose kernel namespaces somebody else has made (a container, later
 * a virtual machine): commands of claude-bottle-bundle, which is mounted there read-only as
 * GUEST_BUNDLE. It needs nothing of the image, no shell, no C library, no file.
 *
 *   guest init            process 1, as the agent's user: connects to the keeper at GUEST_SOCKET,
 *       runs the canary when told, then starts the agent and is its init: reaps, passes signals on
 *       to the agent's process group, ends with its status (128 + signal) when it ends. 125: the
 *       agent was never started (no keeper, a keeper that went away, a wall that does not hold).
 *       137, and nothing else in the compartment outlives it: the keeper hung up later.
 *   guest exec [id=N] -- ARGV  what is started beside the agent, from outside of its pid namespace:
 *       the limits of process 1, the same filter, a session of its own, the agent's folder, then
 * ARGV. 127 not found, 126 not executable, 125 not tried. N (1 to GUEST_EXEC_MAX, the keeper's
 * choice) lets the keeper signal it; ARGV finds it as the first of its environment,
 * GUEST_EXEC_MARK=N. guest close PINNED    with CAP_NET_ADMIN in the compartment's network
 * namespace, before the agent begins: leaves the bundle's address as the only one that has a route,
 * so that all else is unreachable at once, and makes the engine's resolver (GUEST_RESOLVER)
 * unreachable. Idempotent. Prints nothing; status 0, or 1 with one line.
 *   guest machine         process 1 of a microVM, which makes all of this there: machine.h.
 *
 * In a machine that a monitor's own tool makes of an image and starts processes in as root
 * (smolmachines); FILE has been copied there and is removed:
 *
 *   guest wait            the image's own process: reaps, until it is told to end
 *   guest place FILE      writes {"files":[{"path":"etc/x","mode":420,"text":"..."}]} below "/"
 *   guest home save|load uid=N gid=N FILE [FOLDER]    the agent's home, or this folder, by the
 *       image's tar and as that user, without any power
 *   guest hold uid=N gid=N processes=N rows=N columns=N    with the agent's streams: makes a pid
 * namespace where the machine lets it, and guest init in it, which is told by guest tell; ends as
 * the agent ends, and notes the status in GUEST_STATUS before, as the tool's own failure is a 1.
 *   guest beside id=N rows=N columns=N -- ARGV    guest exec for this: with the agent's user,
 * namespace, environment and limits guest tell N h | c FILE | g FILE | p SIGNAL | w ROWS COLUMNS to
 * guest hold (N 0) or guest beside: the keeper's letters of below, w: the terminal's size. Prints
 * the answer: the letter and the text in a line.
 *
 * Before "go" nothing else runs in the compartment, so the first to connect is guest init. It keeps
 * the connection, and when the keeper hangs up or dies it ends, and with it the kernel ends every
 * process of the pid namespace. The agent cannot take the descriptor: guest init is not dumpable,
 * so nobody without CAP_SYS_PTRACE may look into it, uid 0 of the compartment included.
 *
 * The keeper's half is guest_host.h.
 */
#pragma once

#include "base/err.h"

#define GUEST_FOLDER	  "/.claude-bottle"
#define GUEST_BUNDLE	  GUEST_FOLDER "/bundle"
#define GUEST_SOCKET_NAME "keeper.sock"
#define GUEST_SOCKET	  GUEST_FOLDER "/run/" GUEST_SOCKET_NAME /* SOCK_SEQPACKET */
#define GUEST_HOME	  "/home/agent"				 /* of a machine's agent */
#define GUEST_STATUS	  GUEST_FOLDER "/run/status"
#define GUEST_RESOLVER	  "127.0.0.11"
#define GUEST_CONNECT_MS  10000
#define GUEST_NOT_RUN	  125
#define GUEST_HUNG_UP	  137 /* as if killed, which the agent was */
#define GUEST_EXEC_MARK	  "CLAUDE_BOTTLE_EXEC"
#define GUEST_EXEC_MAX	  999999999u

/*
 * Messages, one datagram each: a letter, and with a letter from the keeper one sealed memory file
 * (SCM_RIGHTS) that holds a JSON object of at most GUEST_JSON_MAX bytes. Unknown keys are refused.
 *
 *   guest -> keeper  'h'         here: connected, nothing run yet
 *   keeper -> guest  'c'         {"pinned":"10.210.0.2","answers":[8888],
 *                                 "closed":[{"address":"...","port":N,"what":"..."}]}
 *       Each of answers must answer HTTP within GUEST_ANSWER_MS (it may start meanwhile: refused
 *       is tried again, but the host of pinned must be there); then each of closed must refuse or
 *       be unreachable within GUEST_CLOSED_MS, by TCP, where silence is a failure, and not answer
 *       a UDP question either. Besides, without being told: no route but the one to pinned, no
 *       engine resolver, no interface up but lo and the wall's, no IPv6 address but ::1, egress's
 *       port 9099 closed, and git-gate's 9418 and supervise's 9100, unless they are among answers:
 *       then 9418 is git-gate.
 *   guest -> keeper  'k'         the wall holds
 *                    'n' + text  it does not: which and why, one line. Or: the order was not
 *                                understood, and guest init ends
 *       "go" needs a 'k' before it, and is refused after any 'n'.
 *   keeper -> guest  'g'         {"argv":["..."],"tty":false,"env":["NAME=value"],
 *                                 "files":[{"path":".config/x","mode":384,"text":"..."}],
 *                                 "limits":{"files":N,"file_size_bytes":N,"processes":N}}
 *       env is set for the agent over what the container was started with: what is given here is
 *       neither in the engine's records nor in an image that is made of the container.
 *       files are written below $HOME, never through a link, missing folders made 0700, what is
 *       there replaced, unless it is a folder. A limit of 0 is none.
 *   guest -> keeper  's'         the agent's process exists: it runs, or could not be executed and
 *                                ends with 127 or 126, as a shell's command would
 *                    'n' + text  it could not be started; guest init ends with GUEST_NOT_RUN
 *   keeper -> guest  'p'         pass a signal on, after "go", without a descriptor:
 * GUEST_PASS_BYTES bytes, the letter, the signal's number, and in network order 0 for the agent's
 * process group or N for that of guest exec id=N. Nothing comes back; no such group: nothing
 * happens. Anything else that the keeper says after "go" ends guest init.
 */
#define GUEST_PASS_BYTES 6
#define GUEST_JSON_MAX	 (4u << 20)
#define GUEST_TEXT_MAX	 640
#define GUEST_CLOSED_MS	 300
#define GUEST_ANSWER_MS	 5000
/* In the agent's environment: where it begins, if that is there; else at $HOME. */
#define GUEST_FOLDER_ENV  "CLAUDE_BOTTLE_WORKSPACE"
#define GUEST_ANSWERS_MAX 16
#define GUEST_CLOSED_MAX  64
#define GUEST_FILES_MAX	  64
#define GUEST_PATH_MAX	  512 /* of a file, below $HOME */
#define GUEST_ARGV_MAX	  1024
#define GUEST_ENV_MAX	  512

struct guest_target {
	const char *address; /* IPv4 or IPv6 */
	unsigned port;
	const char *what; /* for the line that says that it is open; may be NULL */
};

struct guest_canary {
	const char *pinned;
	const unsigned *answers; /* TCP ports of pinned */
	size_t n_answers;
	const struct guest_target *closed;
	size_t n_closed;
};

struct guest_file {
	const char *path; /* relative, no "..", below $HOME */
	unsigned mode;	  /* of 0777 */
	struct str text;  /* UTF-8 */
};

/* Resource limits of each process (setrlimit(2)), 0: as the container has it. processes counts all
 * of the user's in its user namespace, which in a container without one of its own means the whole
 * host's: leave it 0 where a cgroup counts. */
struct guest_limits {
	uint64_t files, file_size_bytes, processes;
};

struct guest_go {
	char *const *argv; /* NULL-terminated */
	char *const *env;  /* NULL-terminated, or NULL for nothing */
	bool has_tty;
	const struct guest_file *files;
	size_t n_files;
	struct guest_limits limits;
};

int guest_main(int argc, char **argv);
