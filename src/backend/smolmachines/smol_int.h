/*
 * Between the files of the smolmachines backend. Where a bottle stands:
 *
 *   keeper -> wall (with the registry's port) -> cell -> `smolvm machine …`, and the monitor that
 * it leaves behind -> the guest: an image's root, in which guest hold (guest.h) holds the agent
 *
 * and in its state folder, as long as the bottle lives:
 *
 *   smol/      the home of the tool in the cell, with all that it keeps; the cell's user's
 *   home.tar   the agent's home as the last run has left it
 *   smol-in/   read-only in the cell: Smolfile, orders and files on their way into the guest
 *
 * The tool and its monitor may be the agent's by then. What they say is believed for the agent's
 * output and status, and for nothing before a canary that has held.
 */
#pragma once

#include "backend/guest_execs.h"
#include "backend/smolmachines/dialect.h"
#include "backend/walled/walled.h"
#include "cell/cell.h"
#include "vm/vm.h"

#define SMOL_HOME_FOLDER "smol" /* below the state folder */
#define SMOL_IN_FOLDER	 "smol-in"
#define SMOL_KEPT	 "home.tar" /* below the state folder: the agent's home between runs */
#define SMOL_HOME	 "/smol"    /* in the cell: short, as sockets lie in there */
#define SMOL_IN		 "/smol-in"
#define SMOL_TOOL	 CELL_FOLDER "/smolvm" /* its installation */
#define SMOL_NAME_MAX	 41		       /* of a machine, with its NUL */
#define SMOL_SAID_MAX	 65536		       /* of what the tool says at once */
#define SMOL_PATH_MAX	 4096
/* What the tool's home may take on this host's disk; RLIMIT_FSIZE is no more for one file. A guest
 * has disks of 20 and 10 GiB, and its agent's home is copied out at the end. */
#define SMOL_SPACE_BYTES (UINT64_C(48) << 30)

/* --- find.c: the tool on this host --- */

struct smol_install {
	char folder[SMOL_PATH_MAX];  /* of its files; empty: it lies in /usr */
	char program[SMOL_PATH_MAX]; /* in the cell */
	char shown[SMOL_PATH_MAX];   /* on the host, for people */
	char rootfs[SMOL_PATH_MAX];  /* of its guests' own agent, in the user's data; or empty */
};
/* $CLAUDE_BOTTLE_SMOLVM, else in /usr/local/bin, /usr/bin, ~/.local/bin. -ENOENT: nowhere. */
int smol_find(struct smol_install *out, struct err *e) _fallible_;

/* --- cli.c: the tool in the cell --- */

struct smol_cli {
	const struct cell *cell;
	const char *program;
	struct dialect_version version;
	const struct dialect *dialect;
	char name[SMOL_NAME_MAX]; /* of the machine */
	int in_fd;		  /* SMOL_IN, on this host */
	uid_t uid;		  /* of the cell, who reads in there */
	gid_t gid;
};
/* The cell for the tool, with these folders of this host. in: may be NULL. */
struct smol_folders {
	const char *home, *in;
	const char *kvm; /* where a device of the cell's own may be made: see cli.c */
};
int smol_cell_make(struct cell *c, const struct smol_install *i, const struct walled *w,
		   const char *slug, const struct smol_folders *f, struct err *e) _fallible_;
/* Asks for the version and picks the dialect. -ENOTSUP: none is known for it. */
int smol_cli_open(struct smol_cli *c, struct err *e) _fallible_;
/* To its end. A status other than 0 is -EIO, with the last line that the tool says. out, if it is
 * wanted, is the caller's: its output. */
int smol_call(const struct smol_cli *c, enum dialect_verb verb, const struct dialect_args *a,
	      int timeout_ms, struct str *out, struct err *e) _fallible_;
/* A command in the guest, as its root, without input. */
int smol_exec(const struct smol_cli *c, const char *const *argv, int timeout_ms, struct str *out,
	      struct err *e) _fallible_;
/* A file that the cell finds as SMOL_IN/name. */
int smol_write(const struct smol_cli *c, const char *name, struct str text,
	       struct err *e) _fallible_;
/* Such a file, new and empty, to be written to. */
int smol_open(const struct smol_cli *c, const char *name, struct err *e) _fallible_;
/* The text as a file of the guest's, by way of such a one. */
int smol_put(const struct smol_cli *c, struct str text, const char *path, struct err *e) _fallible_;
/* What lies in SMOL_IN as a file of the guest's; and a file of the guest's below SMOL_HOME. */
int smol_copy_in(const struct smol_cli *c, const char *name, const char *path, int timeout_ms,
		 struct err *e) _fallible_;
int smol_copy_out(const struct smol_cli *c, const char *path, const char *name, int timeout_ms,
		  struct err *e) _fallible_;
/* Whether the tool says `"key": value` with this value; what it does not say is no. Not parsed:
 * looked for, as a guest may have had a hand in it. */
bool smol_says(struct str json, const char *key, const char *value);
/* It says something else for the key. */
bool smol_denies(struct str json, const char *key, const char *value);

/* --- a bottle --- */

enum smol_watch {
	SMOL_WATCH_QUIET,
	SMOL_WATCH_FULL, /* the home is past its bound */
	SMOL_WATCH_DEAF, /* the bridge has ended */
	SMOL_WATCH_GONE, /* it has ended without a word */
};

struct bottle {
	const struct plan *plan;
	struct walled walled;
	struct smol_install install;
	struct cell cell;
	struct smol_cli cli;
	char *home, *in;       /* of this host */
	int use_fd;	       /* vm_use(): of the image */
	char **env;	       /* the agent's */
	pid_t registry;	       /* 0: none */
	unsigned registry_uid; /* next to the roles' own; 0: it keeps ours */
	int guest_fd;	       /* as guest_host.h has it, to the bridge */
	pid_t bridge, hold;
	pid_t watch; /* 0: none */
	/* A pipe: who reads it sees the watch's end, and b->hold's is that; the other end is the
	 * watch's. */
	int watch_fd, watch_end_fd;
	enum smol_watch watch_said;
	bool has_tty, is_created, has_begun;
	struct guest_execs execs;
	char note[160], reason[512];
};

/* --- make.c: up to the guest that waits --- */

/* Folders, cell, dialect, image, registry, Smolfile. */
int smol_make(struct bottle *b, struct err *e) _fallible_;
/* Create, start, and wait until it answers; then nobody fetches anything any more. */
int smol_boot(struct bottle *b, struct err *e) _fallible_;
/* Files of /etc, below "/" of the guest: the agent's own, or with ca_pem its certificates. */
int smol_place(const struct bottle *b, struct err *e) _fallible_;
int smol_place_ca(const struct bottle *b, struct str ca_pem, struct err *e) _fallible_;
void smol_end_registry(struct bottle *b);

/* --- home.c: folders into the guest, and the agent's home out of it before it ends --- */

int smol_expose(const struct bottle *b, struct err *e) _fallible_;

/* Of the run before, into a guest in which no agent runs yet. */
int smol_load_home(const struct bottle *b, struct err *e) _fallible_;
/* Of a guest whose agent has ended, or may be stopped. The file is never read on this host. */
int smol_save_home(const struct bottle *b, struct err *e) _fallible_;

/* --- bridge.c: guest_host.h's connection, where there is only a command line --- */

/* A child that does with the tool what is said on b->guest_fd, in its order. It says 'h' when guest
 * hold is there. Ends when guest_fd is closed. */
int bridge_start(struct bottle *b, struct err *e) _fallible_;
void bridge_end(struct bottle *b);
/* What a line ends with that says that it has ended by itself. */
const char *bridge_why(const struct bottle *b);
/* Not of guest.h: 'w', exec, rows and columns. */
int bridge_resize(int guest_fd, unsigned exec, unsigned rows, unsigned columns);

/* --- space.c: how large the tool's home is --- */

/* More bytes on disk than that, or more files, deeper folders, or some that cannot be looked at. */
bool smol_space_is_past(const char *folder, uint64_t max_bytes);

/* --- watch.c: what ends a bottle that would go on --- */

/* Its pipe, for a b->hold that ends with it. */
int smol_watch_prepare(struct bottle *b, struct err *e) _fallible_;
/* A child that ends when b->bridge has ended, or when b->home is past max_bytes, which it looks at
 * every few seconds. */
int smol_watch_start(struct bottle *b, uint64_t max_bytes, struct err *e) _fallible_;
/* What it has ended for. */
enum smol_watch smol_watch_said(struct bottle *b);
void smol_watch_end(struct bottle *b);

/* --- life.c: a guest's life --- */

int smol_launch(struct bottle *b, struct backend_stdio *io, pid_t *pid, struct err *e) _fallible_;
int smol_canary(struct bottle *b, struct err *e) _fallible_;
int smol_go(struct bottle *b, struct str ca_pem, struct err *e) _fallible_;
int smol_exec_beside(struct bottle *b, char *const *argv, struct backend_stdio *io, pid_t *pid,
		     struct err *e) _fallible_;
int smol_signal(struct bottle *b, pid_t pid, int signo);
void smol_resize(struct bottle *b, pid_t pid, unsigned rows, unsigned columns);
void smol_kill(struct bottle *b);
const char *smol_reason(struct bottle *b, int status);

/* --- probe.c --- */

int smol_probe(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n,
	       struct err *e) _fallible_;
/* A version that is known here, by asking it in a cell of its own, and whether /dev/kvm can be
 * opened there. */
int smol_check_version(const struct smol_install *i, struct smol_cli *c, bool *has_kvm,
		       struct err *e) _fallible_;
