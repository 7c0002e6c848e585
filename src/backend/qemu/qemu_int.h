/*
 * Between the files of the qemu backend. What one bottle has:
 *
 *   keeper ─┬─ bubblewrap (the cell, in the wall) ── process 1 of it ── QEMU ── the machine
 *           ├─ what stands for QEMU (cell_run)
 *           ├─ the wire: speaks with the machine's control port, and before that with QEMU's
 * monitor └─ a relay for each session: the agent's is session 1
 *
 * and in its state folder `home.ext4`, the agent's home. In the user's cache below "vm/": templates
 * (template.c) and what was found out about KVM (accel.c).
 *
 * All descriptors that QEMU has were opened by the keeper; QEMU opens nothing but what /usr has for
 * it. They are numbered in the order of enum qemu_fd.
 */
#pragma once

#include "backend/backend.h"
#include "base/buf.h"
#include "base/json.h"
#include "cell/cell.h"
#include "guest/machine.h"
#include "vm/vm.h"

#include <sys/types.h>

#define QEMU_PROGRAM "/usr/bin/qemu-system-x86_64"
#define QEMU_HOME    "home.ext4" /* below the state folder */
#define QEMU_MIB     (UINT64_C(1) << 20)

enum qemu_disk { QEMU_IMAGE, QEMU_BUNDLE, QEMU_EXPOSE, QEMU_HOME_DISK, QEMU_DISKS };

/* Of what QEMU is given, which it finds at CELL_FIRST_FD + this. */
enum qemu_fd {
	QEMU_FD_KERNEL,
	QEMU_FD_INITRAMFS,
	QEMU_FD_DISK, /* QEMU_DISKS of them */
	QEMU_FD_MONITOR = QEMU_FD_DISK + QEMU_DISKS,
	QEMU_FD_CONSOLE,
	QEMU_FD_CONTROL,
	QEMU_FD_SESSION, /* MACHINE_SESSIONS of them */
	QEMU_FD_COUNT = QEMU_FD_SESSION + MACHINE_SESSIONS
};

/* What the devices of a machine depend on, and so a snapshot of it. */
struct qemu_shape {
	uint64_t memory_bytes;
	unsigned cpus;
	bool is_kvm;
};

/* What a machine is started from, found or made once. */
struct qemu_parts {
	struct vm_kernel kernel;
	struct vm_image image;
	int kernel_fd, initramfs_fd; /* sealed memory files */
	int disk_fds[QEMU_DISKS];
	int use_fd; /* vm_use(): of the image and the program */
	char initramfs_key[VM_KEY_SIZE], program_key[VM_KEY_SIZE];
};

/* --- args.c --- */

/* QEMU's command line; is_paused: it waits for "migrate-incoming". qemu_args_free(). */
char **qemu_args_make(const struct qemu_shape *s, bool is_paused);
void qemu_args_free(char **argv);

/* --- shape.c --- */

/* -EINVAL: the plan's limits leave too little for a machine. */
int qemu_shape_check(const struct plan *p, struct err *e) _fallible_;
/* Says so, where the plan's limits are more than this host has. */
void qemu_shape_tell(const struct plan *p, const struct qemu_shape *s,
		     const struct progress *progress);
/* As the plan's limits and this host have it; is_kvm: not looked at. */
void qemu_shape_plan(struct qemu_shape *out, const struct plan *p);
/* Of all that is in the cell, so that the machine fits. */
void qemu_shape_limits(struct plan_limits *out, const struct qemu_shape *s,
		       const struct plan_limits *l);

/* What its QEMU may map: more than any such machine ever needs. */
uint64_t qemu_shape_address_space(const struct qemu_shape *s);

/* --- parts.c --- */

void qemu_parts_init(struct qemu_parts *p);
void qemu_parts_free(struct qemu_parts *p);
/* Kernel, initramfs, image and program; may_make: what is not there is made, with progress. The
 * other two disks are yet to be set. */
int qemu_parts_open(struct qemu_parts *parts, const struct plan *p, bool may_make,
		    const struct progress *progress, struct err *e) _fallible_;
/* The disk of what the plan exposes; p NULL: of nothing. */
int qemu_parts_expose(struct qemu_parts *parts, const struct plan *p, struct err *e) _fallible_;
/* Disks with nothing on them of the same sizes, for a machine that is nobody's. */
int qemu_parts_blank(struct qemu_parts *parts, struct err *e) _fallible_;

/* --- qmp.c: QEMU's monitor (docs/interop/qmp-spec.txt of QEMU 7.2) --- */

#define QMP_LINE_MAX 65536

struct qmp {
	int fd; /* the caller's */
	unsigned id;
	struct buf in;
};
/* The greeting, and its answer. */
int qmp_open(struct qmp *q, int fd, uint64_t until_ns, struct err *e) _fallible_;
void qmp_free(struct qmp *q);
/* Takes arguments (NULL: none). pass_fd: given along, or -1. *answer (may be NULL) is the
 * caller's. -EPROTO: it said what is no answer; -EREMOTEIO: it refused, in its words. */
int qmp_call(struct qmp *q, const char *command, json_t *arguments, int pass_fd, json_t **answer,
	     uint64_t until_ns, struct err *e) _fallible_;
/* Into, or from, an open file, until it is done. */
int qmp_save(struct qmp *q, int file_fd, uint64_t until_ns, struct err *e) _fallible_;
int qmp_restore(struct qmp *q, int file_fd, uint64_t until_ns, struct err *e) _fallible_;

/* --- machine.c: one QEMU --- */

struct qemu_machine {
	struct cell cell;
	pid_t pid;					 /* stands for QEMU; 0: none */
	int monitor_fd, console_fd, control_fd, said_fd; /* said: its standard error, a pipe */
	int session_fds[MACHINE_SESSIONS];
};

struct qemu_start {
	const struct wall *wall;
	const struct cgroup *cgroup;
	const char *slug;
	const struct qemu_parts *parts;
	const struct qemu_shape *shape;
	bool is_paused;
	bool is_saved; /* it will be: QEMU may write a file as large as the machine's memory */
	const int *until_fd; /* QEMU ends when it hangs up; NULL: none */
};

void qemu_machine_init(struct qemu_machine *m);
int qemu_machine_start(struct qemu_machine *m, const struct qemu_start *s,
		       struct err *e) _fallible_;
/* Waits at most timeout_ms for QEMU's own end, or that of this child; both pids stay taken. */
void qemu_machine_wait(const struct qemu_machine *m, pid_t child, int timeout_ms);
/* Ends what still lives; the descriptors stay. Nobody else may know the pid any more. */
void qemu_machine_kill(struct qemu_machine *m);
void qemu_machine_free(struct qemu_machine *m);

/* --- words.c: what a machine has said, for the reason of a failure --- */

#define QEMU_WORDS_MAX 300

/* The line of a text that tells most, kept as the text goes by: what follows it may be long. */
struct qemu_heard {
	char line[QEMU_WORDS_MAX]; /* the unfinished one, or its beginning */
	char best[QEMU_WORDS_MAX];
	size_t n, best_n;
	unsigned worth; /* of best */
};
struct qemu_words {
	struct qemu_heard console, said; /* said: QEMU's standard error */
};
void qemu_words_init(struct qemu_words *w);
/* Reads what there is, of either. False at the end of file. */
bool qemu_words_read(struct qemu_heard *h, int fd);
/* Of both, the line that tells most, fit to show; empty: nothing was said. */
void qemu_words_best(const struct qemu_words *w, char *out, size_t size);

/* --- files.c: what the machine is told --- */

/* 'm' but for the time and the seed, which are of its sending. */
struct qemu_order {
	const struct plan *plan;
	const char *pinned;
	char *const *env;
	bool has_tty;
	uint64_t tmp_bytes;
};
int qemu_order_make(const struct qemu_order *o, json_t **out, struct err *e) _fallible_;
/* Those two; the text, on the heap. */
int qemu_order_finish(json_t *order, char **text, struct err *e) _fallible_;
/* 'f': the certificates, over the keeper's connection to the wire. */
int qemu_send_ca(int conn_fd, struct str ca_pem, struct err *e) _fallible_;
/* 'S' */
/* NULL: it is not UTF-8. The caller frees. */
char *qemu_session_order(char *const *argv, unsigned number, const struct backend_stdio *io);

/* --- wire.c --- */

struct qemu_wire {
	const struct qemu_machine *machine;
	int state_fd;  /* a snapshot to restore; -1: the machine boots */
	json_t *order; /* 'm' */
	int boot_ms;
};
/* Forks the wire. *conn_fd: what guest_host.h's functions take, beginning with guest_greet(). What
 * breaks, it writes to fail_fd as one line, and ends; QEMU ends with it (qemu_start's until_fd),
 * and the caller keeps no copy of fail_fd, whose end tells the relays. Closing conn_fd asks the
 * machine for a clean end. It exits with QEMU_WIRE_MUTE when it broke before the machine had said
 * anything. */
#define QEMU_WIRE_MUTE 2
int qemu_wire_start(const struct qemu_wire *w, int fail_fd, int *conn_fd, pid_t *pid,
		    struct err *e) _fallible_;

/* --- session.c --- */

#define QEMU_SESSION_LOST 125

/* Shared with a relay: how its port was left. */
enum qemu_port_state { QEMU_PORT_FREE, QEMU_PORT_BUSY };
struct qemu_ports {
	volatile unsigned char state[MACHINE_SESSIONS]; /* a port that stays busy is burnt */
};
struct qemu_ports *qemu_ports_make(struct err *e);
void qemu_ports_free(struct qemu_ports *p);

/* Forks the relay of port number at (from 0), a child whose exit status is the process's. wire_fd:
 * hangs up when the wire has ended, and the session with it. order: 'S', or NULL for the agent's
 * own. As engine_relay_start() for the rest. */
int qemu_session_start(struct qemu_ports *ports, size_t at, int port_fd, int wire_fd,
		       const char *order, struct backend_stdio *io, pid_t *pid,
		       struct err *e) _fallible_;

/* --- template.c --- */

/* Where a snapshot of such a machine is, open. -ENOENT: there is none. */
int qemu_template_find(const struct qemu_parts *parts, const struct qemu_shape *s, int *fd,
		       struct err *e) _fallible_;
/* Makes it, unless it is there. Older ones of the same image go. */
int qemu_template_ensure(const struct qemu_parts *parts, const struct qemu_shape *s,
			 const struct progress *progress, struct err *e) _fallible_;
/* It could not be restored: nobody uses or makes it for a day. */
void qemu_template_forget(const struct qemu_parts *parts, const struct qemu_shape *s);
/* Boots a machine that is nobody's until it waits for its order; save_fd: then its state goes
 * there, unless -1. */
int qemu_template_boot(const struct qemu_parts *parts, const struct qemu_shape *s, int save_fd,
		       int boot_ms, struct err *e) _fallible_;

/* --- accel.c --- */

#define QEMU_WHY_MAX 160

/* Whether KVM boots a machine here; why says so, or why not. Never tries. */
bool qemu_accel_known(bool *is_kvm, char why[QEMU_WHY_MAX]);
/* Tries once for this kernel, this QEMU. */
bool qemu_accel_try(const struct qemu_parts *parts, const struct qemu_shape *s,
		    const struct progress *progress, char why[QEMU_WHY_MAX]);
/* What tells this QEMU from another that was installed in its place. */
int qemu_program_id(char *out, size_t size, struct err *e) _fallible_;

/* --- probe.c --- */

/* -ENOENT: what every start needs and is not installed, and its package. */
int qemu_host_check(struct err *e) _fallible_;
int qemu_probe(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n,
	       struct err *e) _fallible_;
