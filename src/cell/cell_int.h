/*
 * What the two halves of a cell say to each other, over a SOCK_SEQPACKET socket that both are born
 * with. They are of one build, so it is structs.
 *
 *   process 1 -> keeper  CELL_HELLO, once, with its network namespace: sealed, nothing run yet
 *   keeper -> process 1  struct cell_order with descriptors, as enum cell_order_fd says. What is
 *                        wrong in it ends the cell: the keeper does not make mistakes.
 *
 * Each process has a socket of its own, whose other end is the stand-in's: process 1 sends one
 * struct cell_status and closes it; when it hangs up first, the process is killed.
 */
#pragma once

#include "cell/cell.h"

#define CELL_COMMAND	"cell"
#define CELL_HELLO	'h'
#define CELL_RUN	'r'
#define CELL_WORDS_MAX	(4u << 20) /* bytes of argv and env together */
#define CELL_ENV_MAX	512
#define CELL_RUNS_MAX	64
#define CELL_NOT_RUN	125
#define CELL_PROGRAM	CELL_FOLDER "/claude-bottle-bundle"
#define CELL_WRITE_ARG	"write=" /* of `cell FD`: a path where it may write */
#define CELL_DEVICE_ARG "device="

struct cell_order {
	char letter;
	bool has_terminal, has_env;
	uint32_t n_argv, n_env; /* in the words: that many, each with its NUL */
	uint64_t address_space_bytes;
};

enum cell_order_fd {
	CELL_FD_WORDS, /* sealed memory file */
	CELL_FD_STATUS,
	CELL_FD_IN,
	CELL_FD_OUT,
	CELL_FD_ERR,
	CELL_FD_FURTHER
};
#define CELL_ORDER_FDS_MAX (CELL_FD_FURTHER + CELL_FDS_MAX)

struct cell_status {
	int32_t status; /* 0 to 255 */
};

/* --- cell_host.c --- */

/* -ENOTUNIQ: the network namespace is another than the wall's. */
int cell_verify_network(int ns_fd, const struct wall *w, struct err *e) _fallible_;
