/*
 * The attacks of the escape suite, as they run inside a bottle and, for their positive control,
 * outside: `claude-bottle-bundle probe KEY=VALUE…`. One static file, so that it runs in any image.
 *
 * Each attack consists of tries. A try carries a token that occurs nowhere else; when the canary
 * has seen the token, the try got through, whatever the client thinks. Where no byte leaves (a
 * capability, a system call), the try itself is the witness.
 *
 * Output, one line a try: ID <TAB> LABEL <TAB> TOKEN <TAB> through|stopped|skipped <TAB>
 * MICROSECONDS <TAB> detail. An empty token: the third field alone decides.
 */
#pragma once

#include "base/buf.h"

#include <stdio.h>

/* What a try may aim at; filled from KEY=VALUE arguments. NULL or 0: not known. */
struct probe_env {
	bool is_control;   /* outside: the same attack, with the wall taken away */
	const char *nonce; /* of this run */
	const char *uid;   /* "agent" or "root": how it runs in the bottle; part of the token */
	const char *only;  /* comma-separated ids, NULL: all */
	const char *proxy_host;
	uint16_t proxy; /* pipelock's port, or the canary's open proxy */
	const char *ca; /* the roots that a client would trust */
	uint16_t tls, plain, any, loop, dns;
	const char *host;   /* the host's outer address */
	const char *pinned; /* the bundle's */
	const char *abstract, *path;
	const char *secret_mask;   /* the bottle's real credential, XORed with 0x55, in hex */
	const char *placeholder;   /* what the agent holds instead */
	const char *canary_secret; /* the planted canary */
};

struct probe {
	const char *id; /* titles.def says what it is */
	void (*run)(const struct probe_env *env, const char *id);
};

extern const struct probe probes_network[], probes_proxy[], probes_credential[], probes_kernel[];
extern const size_t n_probes_network, n_probes_proxy, n_probes_credential, n_probes_kernel;

int probe_main(int argc, char **argv);

/* --- reporting --- */

#define PROBE_TOKEN_SIZE 64
/* Unique for (run, uid, id, label): "cbt" and 24 hex digits, valid in a host label. */
void probe_token(const struct probe_env *env, const char *id, const char *label,
		 char out[PROBE_TOKEN_SIZE]);
void probe_report(const char *id, const char *label, const char *token, bool is_through,
		  uint64_t us, const char *detail);
void probe_skip(const char *id, const char *label, const char *why);

/* --- means of attack --- */

/* Connects within a second and sends text; through when the connection was made. */
void probe_try_tcp(const struct probe_env *env, const char *id, const char *label,
		   const char *address, uint16_t port);
/* Sends a datagram with the token; through when an answer comes. */
void probe_try_udp(const struct probe_env *env, const char *id, const char *label,
		   const char *address, uint16_t port);
/* A connected socket, or -errno; bounded by timeout_ms. */
int probe_connect(const char *address, uint16_t port, int timeout_ms);

struct probe_reply {
	char text[32768]; /* NUL-terminated, what came back */
	size_t n;
	int status; /* of the first HTTP answer, 0 if none */
	char error[96];
};

/* Plain bytes to the proxy. */
void probe_ask_proxy(const struct probe_env *env, struct str request, struct probe_reply *r);
/* CONNECT authority, then TLS with this SNI (NULL: none), then the request. */
void probe_ask_tunnel(const struct probe_env *env, const char *authority, const char *sni,
		      struct str request, struct probe_reply *r);
/* As above, reported: through when the canary's answer came back. %T in authority, sni and request
 * stands for the token. */
void probe_try_proxy(const struct probe_env *env, const char *id, const char *label,
		     const char *request);
void probe_try_tunnel(const struct probe_env *env, const char *id, const char *label,
		      const char *authority, const char *sni, const char *request);
/* The control's privileges: a user namespace of its own (with what else flags say) in which this
 * process is root. False where the host does not give one. */
bool probe_become_root(int flags);
/* Replaces each %T; the result is on the heap. */
char *probe_fill(const char *format, const char *token);
/* The credential's value, unmasked into out; false if there is none. */
bool probe_secret(const struct probe_env *env, char *out, size_t size);
