/*
 * Theory of operation: a stream is an SSL over a BIO of our own. Reading, the BIO first gives the
 * bytes that were read before the handshake began, then the socket's; a short read marks the socket
 * dry, so that no second system call is made only to hear EAGAIN. Writing, tls_write() lets OpenSSL
 * put up to four records into a gather area and sends them with one system call; what the socket
 * does not take is kept in `unsent` and goes first next time.
 */
#include "net/tls_priv.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/socket.h>

const char *tls_detail(const struct tls *t)
{
	return t->detail;
}

enum tls_reason tls_reason(const struct tls *t)
{
	return t->reason;
}

bool tls_is_resumed(const struct tls *t)
{
	return SSL_session_reused(t->ssl) == 1;
}

static ssize_t socket_send(struct tls *t, const void *p, size_t n)
{
	ssize_t sent = send(t->fd, p, n, MSG_NOSIGNAL);

	t->is_write_blocked = sent < 0 && (errno == EAGAIN || errno == EINTR);
	if (sent < 0)
		return t->is_write_blocked ? -EAGAIN : -EPIPE;
	return sent;
}

int tls_flush(struct tls *t)
{
	while (buf_len(&t->unsent) > 0) {
		struct str s = buf_str(&t->unsent);
		ssize_t sent = socket_send(t, s.p, s.n);

		if (sent < 0)
			return (int)sent;
		buf_consume(&t->unsent, (size_t)sent);
	}
	return 0;
}

static int bio_write(BIO *b, const char *p, int n)
{
	struct tls *t = BIO_get_data(b);
	ssize_t sent;

	BIO_clear_retry_flags(b);
	if (t->is_gathering) {
		if ((size_t)n > TLS_GATHER_BYTES - t->gathered)
			return -1; /* cannot be: see TLS_GATHER_BYTES */
		memcpy(t->gather + t->gathered, p, (size_t)n);
		t->gathered += (size_t)n;
		return n;
	}
	sent = tls_flush(t);
	if (sent == 0)
		sent = socket_send(t, p, (size_t)n);
	if (sent == -EAGAIN)
		BIO_set_retry_write(b);
	return sent < 0 ? -1 : (int)sent;
}

static int bio_read(BIO *b, char *p, int n)
{
	struct tls *t = BIO_get_data(b);
	ssize_t got;

	BIO_clear_retry_flags(b);
	if (t->early) {
		struct str s = buf_str(t->early);
		size_t take = s.n < (size_t)n ? s.n : (size_t)n;

		memcpy(p, s.p, take);
		buf_consume(t->early, take);
		if (buf_len(t->early) == 0)
			t->early = NULL;
		if (take > 0)
			return (int)take;
	}
	if (t->is_dry) {
		BIO_set_retry_read(b);
		return -1;
	}
	got = recv(t->fd, p, (size_t)n, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
		t->is_dry = true;
		BIO_set_retry_read(b);
		return -1;
	}
	if (got > 0 && got < n)
		t->is_dry = true;
	if (got == 0)
		BIO_set_flags(b, BIO_FLAGS_IN_EOF);
	return (int)got;
}

static long bio_ctrl(BIO *b, int cmd, long n, void *p)
{
	(void)n;
	(void)p;
	if (cmd == BIO_CTRL_EOF)
		return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
	return cmd == BIO_CTRL_FLUSH;
}

BIO_METHOD *tls_bio_method(void)
{
	static BIO_METHOD *method;

	if (method)
		return method;
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "claude-bottle");
	if (method) {
		(void)BIO_meth_set_write(method, bio_write);
		(void)BIO_meth_set_read(method, bio_read);
		(void)BIO_meth_set_ctrl(method, bio_ctrl);
	}
	return method;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	buf_free(&t->unsent);
	free(t);
}

static struct tls *stream_new(SSL_CTX *ctx, int fd, char *gather, struct str host)
{
	struct tls *t = mem_zalloc(sizeof(*t));
	BIO *bio;

	t->fd = fd;
	t->gather = gather;
	t->sticky = 1;
	buf_init(&t->unsent, TLS_GATHER_BYTES);
	t->ssl = SSL_new(ctx);
	bio = BIO_new(tls_bio_method());
	if (!t->ssl || !bio || !str_to_cstr(t->host, sizeof(t->host), host)) {
		BIO_free(bio);
		tls_free(t);
		return NULL;
	}
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	(void)SSL_set_app_data(t->ssl, t);
	return t;
}

struct tls *tls_server_stream(struct tls_server *s, int fd, struct buf *early, struct str expected,
			      void *conn_ctx)
{
	struct tls *t;

	tls_server_rotate(s);
	t = stream_new(s->ctx, fd, s->gather, expected);
	if (!t)
		return NULL;
	t->server = s;
	t->early = early;
	t->conn_ctx = conn_ctx;
	SSL_set_accept_state(t->ssl);
	return t;
}

struct tls_session *tls_session_slot(struct tls_client *c, const char *host, uint16_t port)
{
	uint64_t h = UINT64_C(14695981039346656037) ^ port;

	for (const char *p = host; *p; p++)
		h = (h ^ (unsigned char)*p) * UINT64_C(1099511628211);
	return &c->sessions[(h ^ h >> 32) % TLS_SESSIONS_MAX];
}

struct tls *tls_client_stream(struct tls_client *c, int fd, struct str host, uint16_t port)
{
	struct tls *t = stream_new(c->ctx, fd, c->gather, host);
	struct tls_session *kept;

	if (!t)
		return NULL;
	t->client = c;
	t->port = port;
	SSL_set_connect_state(t->ssl);
	SSL_set_hostflags(t->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (SSL_set1_host(t->ssl, t->host) != 1 || SSL_set_tlsext_host_name(t->ssl, t->host) != 1) {
		tls_free(t);
		return NULL;
	}
	kept = tls_session_slot(c, t->host, port);
	if (kept->session && kept->port == port && strcmp(kept->host, t->host) == 0)
		(void)SSL_set_session(t->ssl, kept->session);
	return t;
}

static int fail(struct tls *t, enum tls_reason reason)
{
	unsigned long code = ERR_peek_error();
	long verified = SSL_get_verify_result(t->ssl);

	if (t->reason == TLS_OK)
		t->reason = reason;
	if (t->client && verified != X509_V_OK) {
		t->reason = TLS_VERIFY;
		(void)snprintf(t->detail, sizeof(t->detail), "%s",
			       X509_verify_cert_error_string(verified));
	} else if (ERR_reason_error_string(code)) {
		(void)snprintf(t->detail, sizeof(t->detail), "%s", ERR_reason_error_string(code));
	}
	ERR_clear_error();
	return -EPROTO;
}

static enum tls_reason handshake_reason(void)
{
	switch (ERR_GET_REASON(ERR_peek_error())) {
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
	case SSL_R_WRONG_VERSION_NUMBER:
		return TLS_VERSION;
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		return TLS_CLOSED;
	default:
		return TLS_HANDSHAKE;
	}
}

int tls_handshake(struct tls *t)
{
	int ret;

	ERR_clear_error();
	t->is_dry = t->is_write_blocked = false;
	ret = SSL_do_handshake(t->ssl);
	if (ret == 1)
		return 0;
	switch (SSL_get_error(t->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_WANT_X509_LOOKUP:
		return -EINPROGRESS;
	case SSL_ERROR_SYSCALL:
		return fail(t, TLS_CLOSED);
	default:
		return fail(t, handshake_reason());
	}
}

static int read_error(struct tls *t, int ret)
{
	switch (SSL_get_error(t->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SSL:
		ret = ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING
			      ? -EPIPE
			      : -EIO;
		(void)fail(t, TLS_CLOSED);
		return ret;
	default:
		ERR_clear_error();
		return -EIO;
	}
}

ssize_t tls_read(struct tls *t, void *p, size_t n)
{
	size_t have = 0;

	if (t->sticky <= 0)
		return t->sticky;
	ERR_clear_error();
	t->is_dry = false;
	while (have < n) {
		size_t got = 0;
		int ret = SSL_read_ex(t->ssl, (char *)p + have, n - have, &got);

		if (ret <= 0) {
			ret = read_error(t, ret);
			if (ret != -EAGAIN)
				t->sticky = ret;
			return have > 0 ? (ssize_t)have : ret;
		}
		have += got;
		if (t->is_dry && !SSL_has_pending(t->ssl))
			break;
	}
	return (ssize_t)have;
}

/* Encrypts into the gather area as much of p as one call takes. */
static ssize_t gather(struct tls *t, const char *p, size_t n)
{
	size_t taken = 0;

	if (n > TLS_GATHER_PLAIN_BYTES)
		n = TLS_GATHER_PLAIN_BYTES;
	t->gathered = 0;
	t->is_gathering = true;
	while (taken < n) {
		size_t wrote = 0;

		if (SSL_write_ex(t->ssl, p + taken, n - taken, &wrote) <= 0)
			break;
		taken += wrote;
	}
	t->is_gathering = false;
	return taken == n ? (ssize_t)taken : -EPIPE;
}

ssize_t tls_write(struct tls *t, const void *p, size_t n)
{
	ssize_t taken, sent;

	if (n == 0)
		return 0;
	t->is_write_blocked = false;
	sent = tls_flush(t);
	if (sent < 0)
		return sent;
	ERR_clear_error();
	taken = gather(t, p, n);
	if (taken < 0)
		return fail(t, TLS_CLOSED) == 0 ? 0 : -EPIPE;
	sent = socket_send(t, t->gather, t->gathered);
	if (sent == -EAGAIN)
		sent = 0;
	if (sent < 0)
		return sent;
	if ((size_t)sent < t->gathered &&
	    buf_append(&t->unsent, t->gather + sent, t->gathered - (size_t)sent) != 0)
		return -EPIPE;
	return taken;
}

bool tls_has_unsent(const struct tls *t)
{
	return buf_len(&t->unsent) > 0;
}

bool tls_wants_write(const struct tls *t)
{
	return t->is_write_blocked || SSL_want_write(t->ssl);
}

bool tls_has_pending(const struct tls *t)
{
	return t->early || t->sticky <= 0 || SSL_has_pending(t->ssl) == 1;
}

void tls_close_notify(struct tls *t)
{
	ERR_clear_error();
	if (tls_flush(t) == 0 && SSL_is_init_finished(t->ssl))
		(void)SSL_shutdown(t->ssl);
	ERR_clear_error();
}

void tls_trim(struct tls *t)
{
	/* In the middle of a record ("RB") OpenSSL would free bytes that it still needs. */
	if (SSL_has_pending(t->ssl) == 0 && strcmp(SSL_rstate_string(t->ssl), "RH") == 0)
		(void)SSL_free_buffers(t->ssl);
	buf_trim(&t->unsent);
}
