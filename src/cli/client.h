/*
 * The terminal's side of a running bottle: relays standard input, output and error between this
 * process and the keeper (backend/keeper.h). With a terminal it is set raw, its size followed, and
 * put back on every way out; without one the three streams stay apart.
 */
#pragma once

#include "base/err.h"

struct client_options {
	int sock;
	bool has_tty; /* standard input and output are the terminal */
	enum {
		CLIENT_INPUT_NONE,
		CLIENT_INPUT_ENDED,
		CLIENT_INPUT_RELAYED
	} input;	 /* ENDED: the
			  * other side gets end of input at once; NONE: it gets nothing */
	bool may_detach; /* by CLIENT_DETACH_KEYS, terminal only */
	/* INT, TERM, HUP and QUIT go to the agent, the third ends the client as well. Else the
	 * first one ends the client, and the agent goes on. */
	bool forwards_signals;
	bool owns; /* so that detaching gives that up */
};

enum client_end {
	CLIENT_EXITED,	  /* status is the agent's */
	CLIENT_DETACHED,  /* by the keys */
	CLIENT_SIGNALLED, /* status is 128 + signal */
	CLIENT_LOST	  /* the keeper went away without a word */
};

struct client_result {
	enum client_end end;
	int status;
};

#define CLIENT_DETACH_KEYS "Ctrl-\\ d"

/* Rows and columns of standard input's terminal, or 24 and 80. */
void client_window(unsigned short *rows, unsigned short *columns);
int client_send_attach(int sock, bool has_tty, bool owns, struct err *e) _fallible_;
int client_send_exec(int sock, char *const *argv, bool has_tty, struct err *e) _fallible_;
/* grace_ms 0: nothing may finish anything, the bundle neither. */
int client_send_stop(int sock, unsigned grace_ms, struct err *e) _fallible_;
/* Runs until the other side ends. -errno with *e when it said why it could not. */
int client_run(const struct client_options *o, struct client_result *result,
	       struct err *e) _fallible_;

/* The detach keys, found in the input: Ctrl-\\ and then d; Ctrl-\\ twice sends one. What is not
 * theirs is copied to out, which holds in.n + CLIENT_KEYS_ROOM; its length is returned. */
#define CLIENT_KEYS_ROOM 8
struct client_keys {
	unsigned held; /* 1 + the index of the prefix that waits for its second key, or 0 */
	bool wants_detach;
};
size_t client_keys_filter(struct client_keys *k, struct str in, char *out);
