/*
 * Records: one JSON line per verdict, in a chain of SHA-256 hashes. Roles fill a struct record and
 * send it to the record role, which alone gives the sequence number, the time and the hash, so
 * that there is one order. No field ever holds a secret's value: paths come without their query.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

enum record_verdict {
	RECORD_ALLOW,
	RECORD_BLOCK,
	RECORD_REDACT,
	RECORD_HOLD,
	RECORD_NOTE, /* not a decision: a role restarted, a checkpoint, an attempt at the DNS sink
		      */
	RECORD_VERDICT_COUNT
};

#define RECORD_PATH_MAX 256

/* Fixed size, sent as is between processes of one bundle. Text fields are NUL-terminated and hold
 * agent bytes only after text_visible_cstr(). */
struct record {
	uint32_t verdict; /* enum record_verdict */
	uint32_t status;  /* HTTP status sent to the agent, 0 if none */
	char role[12];	  /* "pipelock", "egress", "keyd", "init" */
	char reason[40];  /* an enum's name: "host-not-allowed", "secret-in-body", … or "ok" */
	char rule[48];	  /* of the scanner */
	char scanner[16]; /* "url", "header", "body", "response", "dns", … */
	char method[16];
	char host[254];
	uint16_t port;
	char path[RECORD_PATH_MAX]; /* redacted: no query, secrets masked */
	uint64_t bytes_up, bytes_down;
	uint64_t duration_us;
	char detail[160]; /* free text for the human, already visible */
	uint8_t id[8];	  /* chosen by the sender, random: the agent gets it as "record" */
};

/* A zeroed record with role, verdict, reason and a fresh id. */
void record_init(struct record *r, const char *role, enum record_verdict v, const char *reason);
const char *record_verdict_name(enum record_verdict v);

#define RECORD_HASH_HEX 65
#define RECORD_LINE_MAX 4096
/* One line without newline: {"seq":…,"time":"…",…,"prev":"HEX","hash":"HEX"}; hash covers all
 * before ,"hash". hash_hex is in: the previous line's, out: this line's. */
int record_to_line(struct buf *out, const struct record *r, uint64_t seq, uint64_t time_ns,
		   char hash_hex[RECORD_HASH_HEX], struct err *e) _fallible_;
/* The hash that stands for "before the first record": 64 zeroes; its sequence number is 0. */
void record_chain_start(char hash_hex[RECORD_HASH_HEX]);
/* Verifies one line against the chain; updates seq and hash_hex. -EBADMSG where it breaks. */
int record_verify_line(struct str line, uint64_t *seq, char hash_hex[RECORD_HASH_HEX],
		       struct err *e) _fallible_;

/* --- the sender's side, in every role --- */

/* fd: the SOCK_SEQPACKET channel to the record role. Blocks for at most RECORD_SEND_MS: a verdict
 * that cannot be recorded is not acted on, so callers refuse the exchange on failure. */
#define RECORD_SEND_MS 2000
int record_send(int fd, const struct record *r) _fallible_;
