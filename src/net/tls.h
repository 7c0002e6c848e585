/*
 * TLS 1.2 and 1.3 over a non-blocking descriptor (OpenSSL 3): the server's side towards an agent,
 * with a leaf certificate chosen per connection, and the client's side towards upstreams, verified.
 * ALPN offers and accepts "http/1.1" alone; no renegotiation, no early data, no compression.
 *
 * Memory: OpenSSL's record buffers are given back by tls_trim(), which owners call on connections
 * that fall idle; nothing is allocated per exchange.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

struct ssl_st;
struct x509_st;
struct evp_pkey_st;

#define TLS_HOST_MAX	    253
#define TLS_HELLO_MAX_BYTES 16384
#define TLS_SESSIONS_MAX    256 /* client sessions kept for resumption */
#define TLS_TICKET_HOURS    1	/* after that, the server's ticket keys are replaced */

/* X(constant, name). The names are used in refusals and records. */
#define TLS_REASONS(X)                                                                             \
	X(OK, "ok")                                                                                \
	X(INCOMPLETE, "incomplete")                                                                \
	X(NOT_TLS, "not-tls")                                                                      \
	X(HELLO_MALFORMED, "bad-client-hello")                                                     \
	X(HELLO_TOO_LARGE, "client-hello-too-large")                                               \
	X(NO_SNI, "no-sni")                                                                        \
	X(SNI_SEVERAL, "several-sni-names")                                                        \
	X(SNI_SYNTAX, "bad-sni")                                                                   \
	X(SNI_MISMATCH, "sni-mismatch")                                                            \
	X(ECH, "encrypted-client-hello")                                                           \
	X(NO_CERTIFICATE, "no-leaf-certificate")                                                   \
	X(VERSION, "tls-version")                                                                  \
	X(VERIFY, "upstream-certificate")                                                          \
	X(HANDSHAKE, "tls-handshake")                                                              \
	X(CLOSED, "tls-closed")                                                                    \
	X(TIMEOUT, "tls-timeout")

enum tls_reason {
#define X(constant, name) TLS_##constant,
	TLS_REASONS(X)
#undef X
		TLS_REASON_COUNT
};

const char *tls_reason_name(enum tls_reason r);

/* --- ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3), without any cryptography --- */

struct tls_client_hello {
	uint16_t legacy_version;
	bool has_ech;		     /* encrypted_client_hello or its draft's ESNI */
	size_t n_names;		     /* host_name entries over all server_name extensions */
	char name[TLS_HOST_MAX + 1]; /* the first, lower-cased, NUL-terminated; "" if none */
	size_t raw_bytes;	     /* records that it took */
};

/* The hello may be spread over several records. INCOMPLETE until all of it is there; NOT_TLS as
 * soon as a byte says so; HELLO_TOO_LARGE past TLS_HELLO_MAX_BYTES; OK says nothing about the name:
 * see tls_client_hello_check(). */
enum tls_reason tls_client_hello_parse(struct str in, struct tls_client_hello *out)
	__attribute__((warn_unused_result));
/* Exactly one host_name, equal to expected (canonical lower case); no ECH. */
enum tls_reason tls_client_hello_check(const struct tls_client_hello *h, struct str expected)
	__attribute__((warn_unused_result));

/* --- contexts; one per process and side --- */

struct tls_server;
struct tls_client;

enum tls_cert_result { TLS_CERT_OK, TLS_CERT_LATER, TLS_CERT_NONE };

/* The leaf for host (NUL-terminated, as checked). OK: *cert and *key are borrowed, OpenSSL takes
 * its own references. LATER: the owner calls tls_handshake() again (relay: relay_cert_ready()) when
 * it has one; the function is then called again. */
typedef enum tls_cert_result (*tls_cert_fn)(void *conn_ctx, const char *host, struct x509_st **cert,
					    struct evp_pkey_st **key);

/* chain: certificates that are sent after the leaf (borrowed; the CA), may be NULL. */
int tls_server_new(struct tls_server **out, tls_cert_fn fn, struct x509_st *chain,
		   struct err *e) _fallible_;
void tls_server_free(struct tls_server *s);

/* ca_file: the system's bundle in PEM, may be NULL; ca_pem: the operator's additional roots, may be
 * empty; or ca_bundle: the bundle's content, for a process that cannot open files any more. At
 * least one root must come of it. Depends on no environment variable. */
struct tls_client_config {
	const char *ca_file;
	struct str ca_bundle;
	struct str ca_pem;
};
int tls_client_new(struct tls_client **out, const struct tls_client_config *config,
		   struct err *e) _fallible_;
void tls_client_free(struct tls_client *c);
size_t tls_client_roots(const struct tls_client *c);

/* --- streams; they borrow the descriptor, which the owner closes after tls_free() --- */

struct tls;

/* early: bytes that were read before (at least up to tls_client_hello_parse() == OK); consumed by
 * the handshake. expected: the only name accepted as SNI (alert unrecognized_name otherwise). NULL
 * when OpenSSL is out of memory. */
struct tls *tls_server_stream(struct tls_server *s, int fd, struct buf *early, struct str expected,
			      void *conn_ctx);
/* host: SNI, and the name that the certificate must have. */
struct tls *tls_client_stream(struct tls_client *c, int fd, struct str host, uint16_t port);
void tls_free(struct tls *t);

/* 0 done; -EAGAIN wait for the descriptor (tls_wants_write() says for what); -EINPROGRESS waiting
 * for tls_cert_fn; -EPROTO failed, see tls_reason(). */
int tls_handshake(struct tls *t) _fallible_;
enum tls_reason tls_reason(const struct tls *t);
/* What OpenSSL or the verification said, one line, for the operator's log. */
const char *tls_detail(const struct tls *t);
bool tls_is_resumed(const struct tls *t);

/* > 0 bytes; 0 after close_notify; -EAGAIN; -EPIPE when the peer closed without close_notify
 * (truncation); -EIO anything else. Fills up to n from as many records as have arrived. */
ssize_t tls_read(struct tls *t, void *p, size_t n);
/* Bytes taken (possibly fewer than n), -EAGAIN, -EPIPE. */
ssize_t tls_write(struct tls *t, const void *p, size_t n);
/* tls_write() may take bytes that the socket has not: 0 once all are sent, -EAGAIN, -EPIPE. */
int tls_flush(struct tls *t) _fallible_;
bool tls_has_unsent(const struct tls *t);
/* After -EAGAIN: whether it is writability that is waited for. */
bool tls_wants_write(const struct tls *t);
/* Decrypted or undecrypted bytes are in memory: do not wait for the descriptor before reading. */
bool tls_has_pending(const struct tls *t);
/* Sends close_notify as far as the socket takes it now. */
void tls_close_notify(struct tls *t);
void tls_trim(struct tls *t);
