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
	char letter; /* 'c' or 'g'; 0: the keeper has hung up */
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

/* 0 if the wall holds; else *e says what does not. Blocks as long as guest.h says. */
int canary_check(const struct guest_canary *c, struct err *e) _fallible_;

/* --- files.c --- */

/* Writes them below $HOME, as the calling user. */
int files_write(const char *home, const struct guest_file *files, size_t n,
		struct err *e) _fallible_;

/* --- agent.c: the last steps of whoever becomes agent code --- */

/* The first thing that guest init and guest exec do: closed to the agent's eyes, no descriptor of
 * the container runtime's, no way to more privileges. */
int agent_isolate(struct err *e) _fallible_;
int agent_limit(const struct guest_limits *l, struct err *e) _fallible_;
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

/* --- the commands --- */

/* The status that process 1 is to end with. */
int init_run(const char *socket_path, unsigned connect_ms);
int close_run(const char *pinned, struct err *e) _fallible_;
/* GUEST_RESOLVER has no route; the canary demands it everywhere. */
int close_resolver(struct err *e) _fallible_;
