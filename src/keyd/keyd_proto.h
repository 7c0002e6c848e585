/*
 * What may be asked of keyd, over one SOCK_SEQPACKET channel per asker. Fixed-size requests and
 * replies; a request that the asker's table does not permit kills the asker's channel. The reply
 * carries the request's id; an asker that finds another id drops the reply (it is a late answer to
 * a request that it gave up on, e.g. across a restart of keyd).
 */
#pragma once

#include "base/err.h"
#include "scan/scan.h"

enum keyd_op {
	KEYD_OP_CA = 1,	  /* init, pipelock: the CA certificate in DER */
	KEYD_OP_LEAF_KEY, /* pipelock: gives its leaf public key (SPKI DER), once */
	KEYD_OP_MINT,	  /* pipelock: a leaf certificate for host, on that key */
	KEYD_OP_PRINTS,	  /* pipelock: fingerprint number `index` of the bottle's secrets */
	KEYD_OP_HEADER,	  /* egress: the credential header for destination D */
	KEYD_OP_SIGN,	  /* record: Ed25519 signature of a checkpoint's hash, and the public key */
	KEYD_OP_LIFE,	  /* init: role `index` is in life number `asker_life`: a new process */
	KEYD_OP_SSH_KEY,  /* gitssh: the public key for the ssh remote in place `index` */
	KEYD_OP_SSH_SIGN, /* gitssh: a signature with that key, to log in as the remote's user */
	KEYD_OP_COUNT
};

enum keyd_status { KEYD_OK, KEYD_END, KEYD_DENIED, KEYD_BAD_REQUEST, KEYD_FAILED };

#define KEYD_DATA_MAX 4096

struct keyd_request {
	uint32_t op;
	uint32_t index; /* PRINTS; HEADER: route's credential; LIFE: the role; SSH_*: the remote */
	uint64_t id;
	/* Which life of the asker speaks, counted by init (keyd_set_life): what a dead process left
	 * in the queue is not taken for the new one's word. Set by keyd_ask(). */
	uint32_t life;
	uint32_t asker_life; /* LIFE */
	char host[254];	     /* MINT, HEADER; canonical, NUL-terminated */
	uint16_t port;	     /* HEADER */
	uint16_t data_n;
	uint8_t data[1024]; /* LEAF_KEY: SPKI; SIGN: 32-byte hash; HEADER: the path, no query;
			     * SSH_SIGN: what is to be signed (RFC 4252, section 7) */
};

struct keyd_reply {
	uint32_t status; /* enum keyd_status */
	uint32_t data_n;
	uint64_t id;
	uint8_t data[KEYD_DATA_MAX]; /* CA, MINT: DER; PRINTS: struct keyd_prints; HEADER: the
				      * header's value; SIGN: 64 bytes of signature, 32 of public
				      * key; SSH_KEY, SSH_SIGN: the key, the signature, as
				      * of RFC 4253, section 6.6 */
};

struct keyd_prints {
	struct scan_print_key key;
	struct scan_print print;
};

/* This process's life, for every keyd_ask() from here on. */
void keyd_set_life(uint32_t life);
/* Asks and waits at most timeout_ms, dropping stale replies. 0 with reply filled; -ETIMEDOUT,
 * -EPIPE, -EPROTO. The status is the caller's to check. */
#define KEYD_TIMEOUT_MS 3000
int keyd_ask(int fd, struct keyd_request *q, struct keyd_reply *r, int timeout_ms,
	     struct err *e) _fallible_;
