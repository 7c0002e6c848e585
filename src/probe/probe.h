/*
 * The attacks of the escape suite, as they run inside a bottle and, for their positive control,
 * outside: `claude-bottle-bundle probe KEY=VALUE…`. One static file, so that it runs in any image.
 *
 * Each attack consists of tries. A try carries a token that occurs nowhere else; when the canary
 * has seen the token, the try got through, whatever the client thinks. Where no byte leaves (a
 * capability, a system call), the try itself is the witness.
 *
 * Output, one line a try: ID <TAB> LABEL <TAB> TOKEN <TAB>
 * through|stopped|skipped|wanted|arrived <TAB> MICROSECONDS <TAB> detail. An empty token: the
 * fourth field alone decides. "wanted" is the opposite of an attack: its token must arrive, else
 * the probe would pass for a dead proxy, or the scan for refusing everything; "arrived" is one that
 * has.
 *
 * Two other lives of the same command, for the suite's other bottles: role=listen (listen.c) is a
 * sibling that can be found, role=beat (beat.c) attacks without end while the suite takes the
 * bundle apart.
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
	uint16_t proxy;			/* pipelock's port, or the canary's open proxy */
	const char *connect_headers;	/* further lines of each CONNECT; NULL: none */
	const char *ca;			/* the roots that a client would trust */
	const char *role;		/* NULL: run the probes; "listen", "beat" */
	const char *as;			/* beat: the id that its tries go by */
	uint16_t rounds;		/* beat: how often; 0: until it is killed */
	uint16_t ask;			/* say "ask" and read more targets from standard input */
	uint16_t git, mount, supervise; /* run the probes of one of these, and no others */
	const char *workspace; /* the host's folder, which the bottle has a clone of, or mounted */
	const char *outside;   /* a folder of the host's that it has not */
	uint16_t tls, plain, any, loop, dns;
	unsigned vsock;	   /* a port of the canary's */
	const char *host;  /* the host's outer address */
	const char *hosts; /* every address of the host's interfaces, comma-separated */
	/* The sibling: a bottle that runs at the same time. Its bundle's pinned address, its
	 * agent's own addresses, that one's listening port, its name, its network namespace and
	 * the digest of its authority. */
	const char *sibling, *sibling_agent, *sibling_name, *sibling_net, *sibling_ca;
	uint16_t sibling_port;
	const char
		*namespaces; /* of the suite, on the host: as space.h names them, comma-separated */
	const char *pinned;  /* the bundle's */
	uint16_t mcp;	     /* supervise's port there, or that of the canary's */
	const char *face_host; /* a loopback address */
	uint16_t face;	       /* of the human's page on the host, or of the canary's */
	const char *state;     /* this bottle's folder on the host, or one that nothing guards */
	const char *abstract, *path;
	const char *secret_mask;   /* the bottle's real credential, XORed with 0x55, in hex */
	const char *placeholder;   /* what the agent holds instead */
	const char *canary_secret; /* the planted canary */
};

struct probe {
	const char *id; /* titles.def says what it is */
	void (*run)(const struct probe_env *env, const char *id);
};

extern const struct probe probes_start[], probes_network[], probes_bundle[], probes_proxy[],
	probes_dlp[], probes_credential[], probes_key[], probes_kernel[], probes_device[],
	probes_machine[], probes_git[], probes_git_carry[], probes_git_wall[], probes_mount[],
	probes_supervise[], probes_supervise_say[], probes_supervise_ask[], probes_mcp[];
extern const size_t n_probes_start, n_probes_network, n_probes_bundle, n_probes_proxy, n_probes_dlp,
	n_probes_credential, n_probes_key, n_probes_kernel, n_probes_device, n_probes_machine,
	n_probes_git, n_probes_git_carry, n_probes_git_wall, n_probes_mount, n_probes_supervise,
	n_probes_supervise_say, n_probes_supervise_ask, n_probes_mcp;

int probe_main(int argc, char **argv);
int listen_main(const struct probe_env *env);
int beat_main(const struct probe_env *env);

/* --- reporting --- */

#define PROBE_TOKEN_SIZE 64
/* Unique for (run, uid, id, label): "cbt" and 24 hex digits, valid in a host label. */
void probe_token(const struct probe_env *env, const char *id, const char *label,
		 char out[PROBE_TOKEN_SIZE]);
/* The same for a host name that must look like nobody's secret: records mask a label that does, and
 * a wildcard refuses it. One word for each use. */
void probe_plain_token(const struct probe_env *env, const char *word, char out[PROBE_TOKEN_SIZE]);
void probe_report(const char *id, const char *label, const char *token, bool is_through,
		  uint64_t us, const char *detail);
/* A try that must arrive. */
void probe_report_wanted(const char *id, const char *label, const char *token, uint64_t us,
			 const char *detail);
/* The same of what this side alone can know. */
void probe_report_arrival(const char *id, const char *label, bool has_arrived, uint64_t us,
			  const char *detail);
void probe_skip(const char *id, const char *label, const char *why);
/* Takes the next word of a comma-separated list; false at its end. */
bool probe_list_next(struct str *list, char *out, size_t size);

/* --- means of attack --- */

/* Connects within a second and sends text; through when the connection was made. */
void probe_try_tcp(const struct probe_env *env, const char *id, const char *label,
		   const char *address, uint16_t port);
/* Sends a datagram with the token; through when an answer comes. */
void probe_try_udp(const struct probe_env *env, const char *id, const char *label,
		   const char *address, uint16_t port);
/* A connected socket, or -errno; bounded by timeout_ms. */
int probe_connect(const char *address, uint16_t port, int timeout_ms);

#define PROBE_DNS_MAX 514
/* Asks for a dotted name; bytes of the answer, 0: none came, or -errno. */
int probe_ask_dns(const char *address, uint16_t port, bool is_tcp, const char *name, unsigned type,
		  uint8_t answer[PROBE_DNS_MAX]);
/* Asks for TOKEN.selftest.example (below.TOKEN… if that is given). What the canary saw decides. */
void probe_try_dns(const struct probe_env *env, const char *id, const char *label,
		   const char *below, const char *address, uint16_t port, bool is_tcp,
		   unsigned type);

struct probe_target {
	char address[46];
	uint16_t port;
	int fd; /* connected, or -1; the caller closes it */
};
#define PROBE_TARGETS_MAX 128
/* Connects to all of them at once: what says nothing costs timeout_ms once, not each. */
void probe_connect_all(struct probe_target *targets, size_t n, int timeout_ms);
void probe_close_all(struct probe_target *targets, size_t n);
/* Whether the kernel has it here now: bridges come and go with other bottles. otherwise: where
 * that cannot be told. */
bool probe_has_address(const char *address, bool otherwise);
/* One try at many addresses (a list): through when any of them was reached; the control, when each
 * of them was that an interface here still has. */
void probe_try_list(const struct probe_env *env, const char *id, const char *label,
		    const char *list, uint16_t port);

struct probe_reply {
	char text[32768]; /* NUL-terminated, what came back */
	size_t n;
	int status; /* of the first HTTP answer, 0 if none */
	char error[96];
};

/* What comes back until it is whole, its sender ends, or nothing comes for long. */
void probe_read_reply(int fd, struct probe_reply *r);
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
/* The same, and it must arrive. */
void probe_want_tunnel(const struct probe_env *env, const char *id, const char *label,
		       const char *authority, const char *sni, const char *request);
/* Status, reason and error of a reply, for a report. */
void probe_describe_reply(const struct probe_reply *r, char *out, size_t size);
/* The control's privileges: a user namespace of its own (with what else flags say) in which this
 * process is root. False where the host does not give one. */
bool probe_become_root(int flags);
/* The host's, as the suite named it (space.h). */
struct str probe_namespace_of_host(const struct probe_env *env, const char *kind);
/* Replaces each %T; the result is on the heap. */
char *probe_fill(const char *format, const char *token);
/* The credential's value, unmasked into out; false if there is none. */
bool probe_secret(const struct probe_env *env, char *out, size_t size);
