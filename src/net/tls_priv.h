/* Between the files of the TLS streams. */
#pragma once

#include "net/tls.h"

#include <openssl/ssl.h>

/* Four full records: what one tls_write() takes, and what one read of the socket may bring. */
#define TLS_GATHER_PLAIN_BYTES 65536u
#define TLS_GATHER_BYTES       (TLS_GATHER_PLAIN_BYTES + 8192u)

struct tls_server {
	SSL_CTX *ctx;
	tls_cert_fn fn;
	uint64_t ticket_ns;
	char *gather;
};

struct tls_session {
	SSL_SESSION *session;
	uint16_t port;
	char host[TLS_HOST_MAX + 1];
};

struct tls_roots;

struct tls_client {
	SSL_CTX *ctx;
	struct tls_roots *roots;
	size_t n_roots;
	char *gather;
	struct tls_session sessions[TLS_SESSIONS_MAX];
};

struct tls {
	SSL *ssl;
	int fd;
	struct buf *early; /* read before the socket is; NULL when used up */
	char *gather; /* shared by all streams of a context; used within one tls_write() only */
	size_t gathered;
	bool is_gathering, is_dry, is_write_blocked;
	int sticky; /* what tls_read() returns after the bytes that came before it; 1: nothing */
	struct buf unsent;
	enum tls_reason reason;
	struct tls_server *server;
	struct tls_client *client;
	void *conn_ctx;
	uint16_t port;
	char host[TLS_HOST_MAX + 1];
	char detail[192];
};

BIO_METHOD *tls_bio_method(void);
/* New ticket keys when the old ones are TLS_TICKET_HOURS old: a key that leaks opens no more than
 * the sessions of that time. */
void tls_server_rotate(struct tls_server *s);
/* Where the session for this upstream is kept; direct-mapped, so compare host and port. */
struct tls_session *tls_session_slot(struct tls_client *c, const char *host, uint16_t port);

/* --- tls_roots.c: roots that become certificates when they are asked for --- */
/* pem: a bundle; copied. An element that is no certificate's shape is an error. */
int tls_roots_new(struct tls_roots **out, struct str pem, struct err *e) _fallible_;
void tls_roots_free(struct tls_roots *r);
size_t tls_roots_count(const struct tls_roots *r);
/* The context's store asks r from now on; r must outlive the context. */
int tls_roots_attach(struct tls_roots *r, SSL_CTX *ctx, struct err *e) _fallible_;
