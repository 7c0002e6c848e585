/*
 * Inside a microVM of the qemu backend: `guest machine` is process 1, started by the initramfs's
 * init (src/machine/) in the initramfs, with the image at MACHINE_IMAGE (read-only) and the devices
 * there. It serves the host over virtio-serial ports, and makes for the agent, inside the machine,
 * the same compartment that a container engine would make: namespaces, a root made of the image,
 * GUEST_BUNDLE, GUEST_SOCKET, and guest init (guest.h) as process 1 of it.
 *
 * What the guest says is hostile to the host, as an agent may have become root of its kernel: on
 * the host each message is parsed for exactly the forms below, and believed for nothing but the
 * agent's output and exit status.
 *
 * Ports are byte streams (virtio-serial has no message boundaries), found by their names in
 * /sys/class/virtio-ports. Both sides send frames: a letter, the payload's length in three bytes,
 * most significant first, the payload. A frame that is longer than its port allows, or whose letter
 * the receiver does not know, ends the machine (on the control port), or the session.
 *
 * The control port (MACHINE_CONTROL_PORT), payloads up to MACHINE_CONTROL_MAX:
 *   guest -> host  'H'  booted; waits for 'm'. A snapshot is taken between these two.
 *   host -> guest  'm'  JSON, once: struct machine_order below. Then, as they are for GUEST_SOCKET,
 *                       the keeper's letters of guest.h: 'c' and 'g' (the payload is the JSON
 *                       itself), 'p' (the payload is the GUEST_PASS_BYTES - 1 bytes after 'p').
 *                  'f'  JSON: one of machine_order's files, once more or another, before 'g': what
 *                       the keeper learns while guest init waits
 *                  'q'  empty: kill the agent's processes, write the home to its disk, power off
 *                       at once. After 'x' it says that all output has been taken.
 *   guest -> host  'M'  empty: the order is carried out, guest init is about to start
 *                  'h' 'k' 'n' 's'  of guest init, as in guest.h ('n' also instead of 'M')
 *                  'x'  four bytes, network order: how guest init ended (an exit status, or 128 +
 *                       signal). The home is on its disk by then. The machine powers off at 'q',
 *                       or after MACHINE_LAST_MS: what a port still holds goes with it.
 *
 * Session ports (MACHINE_SESSION_PORT "1", "2", …, MACHINE_SESSIONS), payloads up to
 * MACHINE_SESSION_MAX. One command at a time on each:
 *   host -> guest  'S'  JSON: struct machine_session below; begins a session
 *                  'i'  standard input; empty: its end. 'w'  four bytes: rows, columns (two bytes
 *                       each, network order)
 *   guest -> host  'o' 'e'  output; with a terminal only 'o'
 *                  'x'  four bytes: exit status, after all output. Ends the session: what the host
 *                       still says before the next 'S' is passed over.
 * Session 1 is the agent's own: it is begun by 'm' instead of 'S'.
 */
#pragma once

#include "base/err.h"
#include "guest/guest.h"

#define MACHINE_IMAGE	     "/image"	/* mount point of the root disk, in the initramfs */
#define MACHINE_PROGRAM	     "/program" /* of the disk with the bundle's executable in it */
#define MACHINE_BUNDLE	     MACHINE_PROGRAM "/claude-bottle-bundle"
#define MACHINE_CONTROL_PORT "claude-bottle.control"
#define MACHINE_SESSION_PORT "claude-bottle.session." /* and the number */
#define MACHINE_SESSIONS     24
/* Ports of one virtio-serial controller. A controller tells the guest of each port in three
 * messages, through a queue of 32; what finds it full is dropped without a word, and then the guest
 * takes the port for hung up for ever. So the ports need several controllers. */
#define MACHINE_PORTS_OF_BUS 13
#define MACHINE_HEAD	     4
#define MACHINE_SAYS	     "claude-bottle: machine: " /* on the console: why it ends */
#define MACHINE_CONTROL_MAX  (GUEST_JSON_MAX)
#define MACHINE_SESSION_MAX  32768
#define MACHINE_ARGV_MAX     GUEST_ARGV_MAX
#define MACHINE_FILES_MAX    32
#define MACHINE_EXPOSE_MAX   64
#define MACHINE_SEED_BYTES   64
#define MACHINE_READY_MS     45000 /* between 'm' and 'M', on a busy host that emulates */
#define MACHINE_LAST_MS	     5000  /* after 'x' or 'n', until somebody says 'q' */

/* Disks, by their virtio serial (/sys/block/vdX/serial). All but the image may be empty. */
#define MACHINE_DISK_IMAGE   "image"   /* squashfs, read-only */
#define MACHINE_DISK_PROGRAM "program" /* squashfs, read-only: claude-bottle-bundle */
#define MACHINE_DISK_EXPOSE                                                                        \
	"expose"		 /* squashfs, read-only: exposed paths, each at its own path       \
				  */
#define MACHINE_DISK_HOME "home" /* ext4, read-write: the agent's home, owned by it */

/* The network: one virtio-net device, behind the monitor's user networking (SLIRP), which answers
 * for the gateway's hardware address whatever is sent to it. The machine has MACHINE_ADDRESS/32 and
 * one route, to the bundle, with a permanent neighbour entry, so that it asks nobody. */
#define MACHINE_ADDRESS	   "10.0.2.15"
#define MACHINE_GATEWAY	   "10.0.2.2"
#define MACHINE_GATEWAY_HW "52:55:0a:00:02:02"

struct machine_file {
	const char *path; /* absolute, in the agent's root: below /etc */
	unsigned mode;
	struct str text; /* UTF-8 */
};

/* 'm'. In JSON under these names; "seed" in hexadecimal; every key must be there. */
struct machine_order {
	uint64_t time_ns; /* of CLOCK_REALTIME: a restored machine's clock stands */
	unsigned char seed[MACHINE_SEED_BYTES]; /* mixed in and credited: restored machines share
						   the state of their random numbers */
	const char *hostname, *pinned;
	unsigned uid, gid;
	bool has_writable_root; /* over a throw-away overlay in memory; else read-only */
	bool has_tty;
	unsigned short rows, columns;
	const char *const *env; /* of guest init and of every session; n_env "NAME=value" */
	size_t n_env;
	const char *const *expose; /* paths of the expose disk, shown at the same path */
	size_t n_expose;
	const struct machine_file *files;
	size_t n_files;
	uint64_t tmp_bytes; /* of /tmp, in memory */
};

/* 'S': {"argv":[...],"number":N,"tty":bool,"rows":R,"columns":C}; number: of guest exec id=N. */
struct machine_session {
	char *const *argv;
	unsigned number;
	bool has_tty;
	unsigned short rows, columns;
};

/* `guest machine`: process 1 of the machine. Does not return: powers off. */
_Noreturn void machine_run(void);

/* --- frames.c, for both sides --- */

/* Reads frames from a byte stream. The caller feeds bytes as they come. */
struct frames {
	unsigned char *p; /* of one frame, head included */
	size_t n, cap, max;
};
int frames_init(struct frames *f, size_t max_payload, struct err *e) _fallible_;
void frames_free(struct frames *f);
/* Takes of data what belongs to the frame in the making; *used says how much. 1: a whole frame is
 * in *letter and *payload, which live until the next call. 0: more is needed. -EPROTO: too long. */
int frames_feed(struct frames *f, struct str data, size_t *used, char *letter, struct str *payload,
		struct err *e) _fallible_;
/* The four bytes before a payload of n bytes (n at most 0xffffff). */
void frames_head(unsigned char head[MACHINE_HEAD], char letter, size_t n);
