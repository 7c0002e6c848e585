/*
 * The keeper: one host process per bottle, parent of the bundle's init and of the agent, holder of
 * the wall's descriptors, the agent's pty and the control socket. The CLI starts it and attaches;
 * when the keeper dies, everything of the bottle dies with it (parent-death signals, closed
 * control descriptor).
 *
 * State folder: $XDG_STATE_HOME/claude-bottle/bottles/SLUG (0700):
 *   lock           flock()ed by the keeper while the bottle lives
 *   bottle.json    slug, agent, bottle, backend, pid, started, state, exit_status
 *   plan.json      the plan (no secrets)
 *   policy.json    what the bundle enforces
 *   git.json       the same of git
 *   records.jsonl  the records
 *   runs.jsonl     where a resumed bottle's runs began in them; the CLI's (cli/runs.h)
 *   log            standard error of the bundle's roles
 *   control.sock   the CLI's way in: SOCK_SEQPACKET, only this uid (SO_PEERCRED)
 *   home/          the agent's home
 *   paused         there while the bottle's network is paused, this run's and the next one's
 *   requests.db    what the agent has asked for, and what was decided (requests/store.h)
 *   workspace/     of a workspace that is mounted (workspace/workspace.h)
 *
 * Ownership: each process of a bottle outside its compartment (keeper, init, roles, bwrap) has
 * CLAUDE_BOTTLE_SLUG=SLUG in the environment that it was started with; `cleanup` ends what carries
 * the slug of a bottle whose lock is free.
 *
 * The first client: the keeper reads nothing from the agent's output, and sends no KEEPER_EXIT,
 * before somebody has attached once or KEEPER_ATTACH_WAIT_MS have passed since "ok", so that
 * nothing is lost when the agent is quicker than its client. A second KEEPER_ATTACH on the same
 * connection changes "own" and the size: so a client detaches and leaves the bottle running.
 */
#pragma once

#include "base/err.h"
#include "conf/plan.h"

#define KEEPER_PAUSED_FILE    "paused"
#define KEEPER_MESSAGE_MAX    65536
#define KEEPER_ATTACH_WAIT_MS 3000

/* init puts a role that does not answer to an end and starts it again, and ends itself when that
 * does not work either; the bundle that has not answered by now answers no more. */
#define KEEPER_UPDATE_MS 20000

/* First byte of each message on control.sock. */
enum keeper_message {
	KEEPER_ATTACH = 'A', /* client: JSON {"tty":bool,"rows":N,"columns":N,"own":bool}; own: the
			      * bottle ends when this client goes away */
	KEEPER_EXEC = 'E',   /* client: JSON {"argv":[…],"tty":…,"rows":…,"columns":…} */
	KEEPER_INPUT = 'i',  /* client: bytes for standard input; empty: end of input */
	KEEPER_RESIZE = 'w', /* client: JSON {"rows":N,"columns":N} */
	KEEPER_SIGNAL = 's', /* client: JSON {"signal":N} */
	KEEPER_STOP = 'k',   /* client: JSON {"grace_ms":N,"now":bool}; now: the
			      * compartment and the bundle, with nothing that they could finish */
	KEEPER_STATUS = '?', /* client; the answer is KEEPER_STATE */
	/* client, answered with KEEPER_DECIDED: JSON, in docs/SUPERVISE.md */
	KEEPER_DECIDE = 'd',  /* a request, by its number and the hash of what was shown */
	KEEPER_REVOKE = 'v',  /* {"id":N,"face":"…"} */
	KEEPER_NETWORK = 'n', /* {"paused":bool,"face":"…"} */
	KEEPER_DECIDED = '=', /* keeper: {"verdict":"decided",…,"text":"…"}; in force by then */
	KEEPER_OUTPUT = 'o',  /* keeper: bytes of standard output, or of the terminal */
	KEEPER_ERROR = 'e',   /* keeper: bytes of standard error */
	KEEPER_STATE = '!',   /* keeper: JSON of bottle.json's content */
	KEEPER_EXIT =
		'x', /* keeper: JSON {"status":N} (128 + signal for a signal); the last message */
	KEEPER_FAILED = 'f' /* keeper: JSON {"text":"…"}: refused or could not; the last message */
};

struct keeper_start {
	const struct plan *plan;
	const char *state_dir; /* exists, 0700, locked by lock_fd */
	int lock_fd;
	bool has_tty;
	bool is_detached; /* else the bottle ends when nobody attaches within KEEPER_ATTACH_WAIT_MS
			   */
	unsigned short rows, columns;
};

/* Forks the keeper (setsid, detached from the terminal). ready_fd becomes readable with one line:
 * "ok" once the agent runs, or the reason why it does not. -errno when it could not even fork. */
int keeper_spawn(const struct keeper_start *s, int *ready_fd, struct err *e) _fallible_;
