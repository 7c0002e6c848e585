/*
 * gitssh: git over ssh, for git-gate. The role's process takes git_stream_requests (git_stream.h)
 * and has a child for each: the child speaks SSH, the parent does what may not be done by whoever
 * reads a stranger's bytes: it asks egress for the connection, and keyd for signatures.
 *
 *   git-gate ── request ──▶ parent ── dial ──▶ egress (TCP socket, straight to the child)
 *                             │  ▲ agent protocol: one key, signatures from keyd
 *                             ▼  │
 *   git-gate ◀── stream ──▶ child ◀── SSH ──▶ upstream (pinned host key)
 *
 * Neither has files, an address or a secret. See docs/GITSSH.md.
 */
#pragma once

#include "base/buf.h"
#include "bundle/git_stream.h"
#include "conf/git_policy.h"
#include "keyd/git_key.h"

#define GITSSH_CHILDREN_MAX 8	    /* further requests wait in the channel */
#define GITSSH_CONNECT_MS   10000   /* until the keys are exchanged */
#define GITSSH_AUTH_MS	    20000   /* then, until git's program is started */
#define GITSSH_SILENCE_MS   300000  /* without a byte in either direction */
#define GITSSH_START_MS	    60000   /* all until then, the dial included: kept by the parent */
#define GITSSH_LIFE_MS	    3600000 /* of a child in all */

/* A child's exit status. */
enum gitssh_end {
	GITSSH_OK,
	GITSSH_FAILED,	 /* the network, the server, or its git */
	GITSSH_HOST_KEY, /* is not the pinned one */
	GITSSH_AUTH,	 /* the server does not take our key */
	GITSSH_SILENT	 /* a time limit */
};

/* --- child.c --- */

struct gitssh_job {
	const struct git_remote *remote;
	enum git_service service;
	int stream_fd, why_fd; /* git-gate's */
	int dial_fd;	       /* egress answers here, with the TCP socket */
	int agent_fd;	       /* to the parent; closed when git's program runs */
};

/* The whole life of a child; blocks. An enum gitssh_end; unless it is OK, why_fd has the line. */
int gitssh_child(const struct gitssh_job *job);
/* The command for the server, with the path in single quotes. -EINVAL for a path that git_policy.h
 * does not promise. */
int gitssh_command(char *out, size_t size, enum git_service service, const char *path) _fallible_;
/* "SHA256:…" of a public key's bytes, as ssh-keygen -l prints it. */
void gitssh_fingerprint(struct str blob, char out[64]);

/* --- pump.c --- */

struct ssh_session_struct;
struct ssh_channel_struct;

/* Between the channel, whose command was started, and stream_fd, until either is done or
 * silence_ms long nothing came. said: what the server wrote to standard error, its beginning. */
int gitssh_pump(struct ssh_session_struct *session, struct ssh_channel_struct *channel,
		int stream_fd, unsigned silence_ms, struct buf *said, struct err *e) _fallible_;

/* --- agent.c: what the parent answers a child, in the ssh-agent protocol --- */

#define GITSSH_AGENT_MAX 2048 /* bytes of a message, its length included */

/* As git_key_sign_userauth(), by keyd. */
typedef int (*gitssh_sign_fn)(void *ctx, struct str data, uint8_t *out, size_t size);

struct gitssh_agent {
	struct str key; /* the public one, borrowed */
	gitssh_sign_fn sign;
	void *ctx;
	uint8_t in[GITSSH_AGENT_MAX];
	size_t n;
	unsigned signatures_left;
};

#define GITSSH_SIGNATURES_MAX 4 /* of one child: libssh asks for one, perhaps two with RSA */

/* Takes the next bytes (at most what in has room for, which is moved), and appends the answers to
 * every whole message in them. -EPROTO for a message that is too long. */
int gitssh_agent_feed(struct gitssh_agent *a, struct str bytes, struct buf *out) _fallible_;
