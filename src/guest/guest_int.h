/* Between the files of the guest's half. */
#pragma once

#include "base/err.h"
#include "guest/guest.h"

#include <jansson.h>
#include <sys/types.h>

#define GUEST_DETAIL_MAX 256

/* --- orders.c: what the keeper says --- */

/* A message of the keeper's. The struct's pointers live as long as json. */
struct orders {
	char letter; /* 'c' or 'g', or 'f'; 0: the keeper has hung up */
	json_t *json;
	union {
		struct guest_canary canary;
		struct guest_go go;
	};
	/* private: what canary and go point to */
	unsigned answers[GUEST_ANSWERS_MAX];
	struct guest_target closed[GUEST_CLOSED_MAX];
	struct guest_file files[GUEST_FILES_MAX];
	char *argv[GUEST_ARGV_MAX + 1];
	char *env[GUEST_ENV_MAX + 1];
};

/* Reads the message that waits on sock. Anything but a hang-up or a well-formed message is an
 * error. orders_free() in any case. */
int orders_receive(int sock, struct orders *o, struct err *e) _fallible_;
/* The order in a sealed memory file. 'f': {"files":[...]} of guest place, which go.files then are.
 * orders_free() in any case. */
int orders_take(int file, char letter, struct orders *o, struct err *e) _fallible_;
void orders_free(struct orders *o);

/* What the keeper may still say after "go". */
struct orders_pass {
	unsigned exec; /* 0: the agent */
	int signo;
};

/* 1 and *p, 0 when the keeper has hung up; anything else on sock is an error. */
int orders_receive_pass(int sock, struct orders_pass *p, struct err *e) _fallible_;

/* Parts that orders have in common. Each refuses what is not exactly that. */
int orders_bad(struct err *e, const char *what);
int orders_known_keys(json_t *j, const char *const *known, struct err *e) _fallible_;
int orders_number(const json_t *j, const char *key, uint64_t max, uint64_t *out,
		  struct err *e) _fallible_;
/* Into out[GUEST_ARGV_MAX + 1], or out[GUEST_ENV_MAX + 1], with a NULL at the end; the strings are
 * list's. */
int orders_argv(const json_t *list, char **out, struct err *e) _fallible_;
int orders_env(const json_t *list, char **out, struct err *e) _fallible_;
/* The path is looked at by the caller. */
int orders_file(json_t *j, struct guest_file *f, struct err *e) _fallible_;
/* Relative, every part a real name: what can be walked down. */
bool orders_is_path(const char *path, size_t max);

/* --- canary.c --- */

/* 0 if the wall holds; else *e says what does not. Blocks as long as guest.h says. is_machine: the
 * wall is not in this kernel, whose routes and interfaces are the monitor's matter and would be the
 * agent's if it became root of it; what counts is what can be reached. */
int canary_check(const struct guest_canary *c, bool is_machine, struct err *e) _fallible_;

/* --- files.c --- */

/* Writes them below root ($HOME, or "/"), as the calling user; missing folders get folder_mode. */
int files_write(const char *root, mode_t folder_mode, const struct guest_file *files, size_t n,
		struct err *e) _fallible_;

/* --- agent.c: the last steps of whoever becomes agent code --- */

/* The first thing that guest init and guest exec do: closed to the agent's eyes, no descriptor of
 * the container runtime's, no way to more privileges. */
int agent_isolate(struct err *e) _fallible_;
/* The terminal, if there is one, must be nobody's before another session can take it. Giving it up
 * hangs up its owner, the caller, which lives on. */
void agent_release_terminal(void);
/* The terminal on standard input, if it is one, gets a size. */
void agent_size_terminal(uint64_t rows, uint64_t columns);
/* A new session, whose the terminal on standard input becomes. */
int agent_take_session(bool has_tty, struct err *e) _fallible_;
int agent_limit(const struct guest_limits *l, struct err *e) _fallible_;
/* To the leader's process group, or to itself as long as it has none: between fork() and setsid().
 * False: neither is there. */
bool agent_signal(pid_t leader, int signo);
/* Every capability, the ambient ones too; not the bounding set. */
int agent_drop_caps(struct err *e) _fallible_;
/* The limits that process 1 has. */
int agent_limit_as_init(struct err *e) _fallible_;
/* Executes argv with the filter on, from $HOME. Returns only with an error: *is_exec if execvp()
 * itself said so. */
int agent_become(char *const *argv, bool *is_exec, struct err *e);
/* What a shell would return for it. */
int agent_exec_status(int code);
/* One line on standard error, "claude-bottle: ...". */
void agent_complain(const struct err *e);

/* --- exec.c: the commands beside the agent, by number --- */

#define EXEC_LOOK_MAX 65536 /* entries of /proc */

bool exec_parse_number(const char *text, unsigned *number);
/* Before execve(): puts the mark first into the environment, and no other of its kind. */
void exec_mark(unsigned number);
/* The leader of number's process group, 0 if it is not there. Looks at most_entries of /proc. */
pid_t exec_find(unsigned number, size_t most_entries);

/* --- handle.c: how guest hold is told something by another process of its machine --- */

/* A socket in a folder of root's. One message on each connection, and one answer: when it is there,
 * with 'b' after the command's end. */
#define GUEST_RUN      GUEST_FOLDER "/run"
#define HANDLE_FDS_MAX 4

struct handle_message {
	/* 'h', 'c', 'g', 'p', 'w' of guest tell; 'b' of guest beside, whose answer is 'x'; other
	 * answers are guest init's, or 'y' and 'n' */
	char letter;
	uint32_t number; /* whom it is for: 0, the agent, or guest beside id=N */
	uint32_t a, b;	 /* 'p': the signal; 'w': rows, columns; 'x': the status */
	char text[GUEST_TEXT_MAX];
	/* 'c', 'g': a sealed memory file; 'b': one with words, each with its NUL, and the standard
	 * streams. Whoever has received them closes them. */
	int fds[HANDLE_FDS_MAX];
	size_t n_fds;
};
#define HANDLE_MESSAGE_INIT ((struct handle_message){.fds = {-1, -1, -1, -1}})

/* Makes run a folder that is ours alone, and listens there. The descriptors, or -errno. */
int handle_open(const char *run, int *folder, struct err *e) _fallible_;
/* The message of whoever has connected, and is who we are: the connection to answer on, or -1. */
int handle_take(int listen_fd, struct handle_message *m);
/* Without descriptors. Closes conn. */
void handle_answer(int conn, const struct handle_message *m);
/* Sends m, closes its descriptors, and waits for what comes back, in m. timeout_ms -1: however long
 * that takes. */
int handle_ask(const char *run, struct handle_message *m, int timeout_ms, struct err *e) _fallible_;
void handle_message_free(struct handle_message *m);

/* --- hold.c, hold_runs.c, beside.c, tell.c --- */

/* Who the agent is in a machine. */
struct hold_agent {
	uint64_t uid, gid, processes; /* processes 0: no limit */
};
/* A command beside the agent: a child of guest hold's. */
struct hold_run {
	pid_t pid; /* 0: free */
	int pidfd;
	int conn; /* of guest beside, whose end is its */
	int tty;  /* or -1 */
	uint32_t number;
};
#define HOLD_RUNS_MAX 64
/* Starts what m of letter 'b' asks for, as the agent is; takes conn and m's descriptors. */
void hold_runs_start(struct hold_run runs[HOLD_RUNS_MAX], const struct hold_agent *a, int go_file,
		     int conn, struct handle_message *m);
struct hold_run *hold_runs_find(struct hold_run runs[HOLD_RUNS_MAX], uint32_t number);
/* With its group. */
void hold_runs_kill(const struct hold_run *r);
/* It has ended, or is about to: whoever waits hears it. */
void hold_runs_end(struct hold_run *r);
/* The caller becomes the agent's user, unless it is an ordinary one already. */
int hold_become(const struct hold_agent *a, struct err *e) _fallible_;
/* The folder home is there and the agent's. */
int hold_own_home(const struct hold_agent *a, const char *home, struct err *e) _fallible_;
/* home.c: the agent's home into the file path of root's, and back; there it is removed. */
int home_save(const struct hold_agent *a, const char *home, const char *path,
	      struct err *e) _fallible_;
int home_load(const struct hold_agent *a, const char *home, const char *path,
	      struct err *e) _fallible_;
/* The status to end with. */
int hold_main(const char *run, const struct hold_agent *a, const char *home);
int beside_main(const char *run, unsigned number, char *const *argv);
int tell_main(const char *run, unsigned number, int argc, char **argv, struct err *e) _fallible_;
/* {"files":[...]} of path, which is removed, below root. */
int tell_place(const char *root, const char *path, struct err *e) _fallible_;

/* --- the commands --- */

/* The status that process 1 is to end with. */
int init_run(const char *socket_path, unsigned connect_ms);
/* The same in a machine: from a connection whose other end is guest hold's, by somebody who has
 * isolated itself and is the agent's user. */
int init_run_machine(int sock);
int close_run(const char *pinned, struct err *e) _fallible_;
/* GUEST_RESOLVER has no route; the canary demands it everywhere. */
int close_resolver(struct err *e) _fallible_;
