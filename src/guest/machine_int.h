/* Between the files of `guest machine`. */
#pragma once

#include "base/buf.h"
#include "guest/guest_int.h"
#include "guest/machine.h"

#include <limits.h>
#include <poll.h>

/* --- machine_order.c --- */

/* 'm'. The order's pointers live as long as json. */
struct machine_orders {
	json_t *json;
	struct machine_order order;
	/* private: what order points to */
	char *env[GUEST_ENV_MAX + 1];
	const char *expose[MACHINE_EXPOSE_MAX];
	struct machine_file files[MACHINE_FILES_MAX];
};
int machine_orders_parse(struct machine_orders *o, struct str text, struct err *e) _fallible_;
void machine_orders_free(struct machine_orders *o);
/* 'f'. What *out points to lives as long as *json, which is the caller's also after a failure. */
int machine_file_parse(struct str text, json_t **json, struct machine_file *out,
		       struct err *e) _fallible_;

/* 'S', likewise. */
struct machine_start {
	json_t *json;
	struct machine_session session;
	char *argv[MACHINE_ARGV_MAX + 1];
};
int machine_start_parse(struct machine_start *s, struct str text, struct err *e) _fallible_;
void machine_start_free(struct machine_start *s);

/* --- machine_kernel.c: what the kernel is told --- */

#define MACHINE_GROUPS "/groups" /* of control, in the initramfs */

/* The same in every machine, so before the snapshot: its limits, its switches, lo. *members:
 * whoever writes "0" there belongs to the agent's control group. */
int machine_kernel_prepare(int *members, struct err *e) _fallible_;
/* The clock, the random numbers, the network. */
int machine_kernel_set(const struct machine_order *o, struct err *e) _fallible_;

/* --- machine_port.c: one port, this side of it --- */

#define MACHINE_PORT_READ 16384 /* at most these bytes of frames come in one turn */

struct machine_port {
	int fd;
	struct frames frames;
	struct buf out;
	uint64_t asleep_ns; /* nobody is at the other end: it is looked at again then */
};
/* Takes fd, which must be non-blocking. */
int machine_port_init(struct machine_port *p, int fd, size_t max_payload, size_t max_out,
		      struct err *e) _fallible_;
void machine_port_free(struct machine_port *p);
/* What it waits for; *due_ns is lowered to when it wants a turn whatever happens. */
void machine_port_poll(const struct machine_port *p, bool reads, struct pollfd *poll,
		       uint64_t *due_ns);
/* Writes and reads what is possible; each frame goes to fn. 0; -EPIPE: nobody is at the other end;
 * -EPROTO: a frame that is too long, after which nothing can be understood any more. */
typedef void (*machine_frame_fn)(void *ctx, char letter, struct str payload);
int machine_port_turn(struct machine_port *p, short revents, machine_frame_fn fn, void *ctx);
/* -ENOBUFS: no room, nothing said. */
int machine_port_say(struct machine_port *p, char letter, struct str payload) _fallible_;
/* "x" and a status. */
int machine_port_say_status(struct machine_port *p, int status) _fallible_;

/* --- machine_root.c: the agent's root --- */

struct machine_root {
	int listener;  /* at GUEST_SOCKET */
	int terminals; /* /dev/pts */
	int writable;  /* the root itself, whatever the agent may do to it */
};
#define MACHINE_ROOT_INIT ((struct machine_root){.listener = -1, .terminals = -1, .writable = -1})
/* For process 1 of a new pid namespace, in a mount namespace of its own: the agent's root becomes
 * its root, and nothing of the initramfs stays within reach. r's descriptors are the caller's. */
int machine_root_enter(struct machine_root *r, const struct machine_order *o,
		       struct err *e) _fallible_;
/* A file in the root that writable is, no link followed. */
int machine_root_write(int writable, const struct machine_file *f, struct err *e) _fallible_;

/* --- machine_stdio.c --- */

/* Standard input, output and error of a child, and what this process holds of them: a pipe each,
 * or two descriptors of a terminal's master (err is -1). This side does not block. */
struct machine_stdio {
	int child[3];
	int in, out, err;
};
#define MACHINE_STDIO_INIT ((struct machine_stdio){{-1, -1, -1}, -1, -1, -1})
/* terminals: the folder of devpts that a terminal comes from, owned by uid; -1 for pipes. */
int machine_stdio_open(struct machine_stdio *io, int terminals, unsigned uid,
		       struct err *e) _fallible_;
void machine_stdio_size(int terminal, unsigned rows, unsigned columns);
/* In the child: a session of its own, whose terminal it is if it is one. */
int machine_stdio_take(const struct machine_stdio *io, bool has_tty, struct err *e) _fallible_;
void machine_stdio_close_child(struct machine_stdio *io);
void machine_stdio_close(struct machine_stdio *io);

/* --- machine_place.c: the agent's namespaces --- */

#define MACHINE_NAMESPACES                                                                         \
	(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

/* Where the agent's processes are, seen from process 1 of the machine. */
struct machine_place {
	pid_t init;	    /* guest init; 0: not there */
	int init_fd;	    /* pidfd */
	int namespaces;	    /* that it has of its own */
	int own_pids;	    /* pid namespace of this process */
	int terminals;	    /* machine_root's */
	int writable;	    /* likewise */
	int members;	    /* of the agent's control group, machine_kernel_prepare()'s */
	const char *bundle; /* path of the executable, in there */
	unsigned uid, gid;
	char *const *env; /* NULL-terminated */
	bool is_open;	  /* the agent has been started: others may stand beside it */
};
#define MACHINE_PLACE_INIT                                                                         \
	((struct machine_place){                                                                   \
		.init_fd = -1, .own_pids = -1, .terminals = -1, .writable = -1, .members = -1})

/* Of a place that has only its members: makes the namespaces and the root, and starts guest init in
 * them. *conn: its connection; *io: this process's half of session 1. */
int machine_place_make(struct machine_place *p, const struct machine_orders *o, int *conn,
		       struct machine_stdio *io, struct err *e) _fallible_;
/* Starts `guest exec` there, as a child of this process. io's half of the child is closed. */
int machine_place_exec(const struct machine_place *p, const struct machine_session *s,
		       struct machine_stdio *io, pid_t *pid, struct err *e) _fallible_;
void machine_place_free(struct machine_place *p);

/* --- machine_session.c --- */

enum { RELAY_PORT, RELAY_IN, RELAY_OUT, RELAY_ERR, RELAY_POLLS };

struct machine_relay {
	struct machine_port port;
	const struct machine_place *place;
	struct buf to_child;
	struct machine_stdio io;
	pid_t pid;	 /* 0: no session */
	bool has_ended;	 /* its process has; output may still come */
	bool is_in_over; /* nothing follows what is in to_child */
	bool is_deaf;	 /* the port cannot be understood any more */
	int status;
	uint64_t until_ns; /* has_ended: so long is the output of others waited for */
	size_t late_bytes; /* read after that */
};

int machine_relay_init(struct machine_relay *r, int port_fd, const struct machine_place *place,
		       struct err *e) _fallible_;
void machine_relay_free(struct machine_relay *r);
/* A session whose process runs already; takes io's descriptors. */
void machine_relay_adopt(struct machine_relay *r, pid_t pid, struct machine_stdio *io);
/* What it waits for, in polls[RELAY_POLLS]; *due_ns as with a port. */
void machine_relay_poll(const struct machine_relay *r, struct pollfd *polls, uint64_t *due_ns);
void machine_relay_turn(struct machine_relay *r, const struct pollfd *polls);
/* A child of this process has ended, with waitpid()'s status. */
void machine_relay_reaped(struct machine_relay *r, pid_t pid, int how);
/* No session, and everything has been said. */
bool machine_relay_is_idle(const struct machine_relay *r);
