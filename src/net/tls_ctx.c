/* The two SSL_CTX: everything that is decided once per process. */
#include "net/tls_priv.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#define ROOTS_FILE_MAX	(16u << 20)
#define CIPHERS_TLS12	"ECDHE+AESGCM:ECDHE+CHACHA20"
#define EXT_SERVER_NAME 0
#define EXT_ECH		0xfe0d
#define EXT_ESNI	0xffce

static const unsigned char alpn_http11[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

static void ctx_clean(SSL_CTX **c)
{
	SSL_CTX_free(*c);
}

static int err_openssl(struct err *e, const char *what)
{
	const char *text = ERR_reason_error_string(ERR_peek_error());
	int ret = err_set(e, -EPROTO, "%s: %s", what, text ? text : "failed");

	ERR_clear_error();
	return ret;
}

static SSL_CTX *ctx_new(const SSL_METHOD *method, struct err *e)
{
	_cleanup_(ctx_clean) SSL_CTX *ctx = NULL;

	/* No configuration file: what a role does must not depend on one. */
	if (OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1 || !tls_bio_method()) {
		(void)err_openssl(e, "initialise OpenSSL");
		return NULL;
	}
	ctx = SSL_CTX_new(method);
	if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(ctx, CIPHERS_TLS12) != 1 ||
	    SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384") != 1) {
		(void)err_openssl(e, "make a TLS context");
		return NULL;
	}
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
					    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					    SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, TLS_GATHER_PLAIN_BYTES);
	return take_ptr(&ctx);
}

/* --- server --- */

/* The first host_name of the extension as OpenSSL hands it over, in the form of our own parser. */
static enum tls_reason hello_names(SSL *ssl, struct tls_client_hello *h)
{
	const unsigned char *p;
	size_t n, at = 2;

	memset(h, 0, sizeof(*h));
	h->has_ech = SSL_client_hello_get0_ext(ssl, EXT_ECH, &p, &n) == 1 ||
		     SSL_client_hello_get0_ext(ssl, EXT_ESNI, &p, &n) == 1;
	if (SSL_client_hello_get0_ext(ssl, EXT_SERVER_NAME, &p, &n) != 1)
		return TLS_OK;
	while (at < n) {
		size_t len;

		if (n - at < 3)
			return TLS_SNI_SYNTAX;
		len = (size_t)p[at + 1] << 8 | p[at + 2];
		if (p[at] != 0 || len == 0 || len > TLS_HOST_MAX || n - at - 3 < len ||
		    memchr(p + at + 3, 0, len))
			return TLS_SNI_SYNTAX;
		if (h->n_names++ == 0)
			str_lower_into(h->name, str_slice(p + at + 3, len));
		at += 3 + len;
	}
	return TLS_OK;
}

static int at_hello(SSL *ssl, int *alert, void *arg)
{
	struct tls *t = SSL_get_app_data(ssl);
	struct tls_client_hello h;
	enum tls_reason r;

	(void)arg;
	r = hello_names(ssl, &h);
	if (r == TLS_OK)
		r = tls_client_hello_check(&h, str_of(t->host));
	if (r == TLS_OK)
		return SSL_CLIENT_HELLO_SUCCESS;
	t->reason = r;
	*alert = SSL_AD_UNRECOGNIZED_NAME;
	return SSL_CLIENT_HELLO_ERROR;
}

static int at_servername(SSL *ssl, int *alert, void *arg)
{
	(void)ssl;
	(void)alert;
	(void)arg;
	return SSL_TLSEXT_ERR_OK; /* checked in at_hello(); OK binds the session to the name */
}

static int at_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
		   const unsigned char *in, unsigned int inlen, void *arg)
{
	(void)ssl;
	(void)arg;
	for (unsigned int at = 0; at < inlen; at += in[at] + 1u) {
		if (inlen - at >= sizeof(alpn_http11) &&
		    memcmp(in + at, alpn_http11, sizeof(alpn_http11)) == 0) {
			*out = in + at + 1;
			*outlen = in[at];
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int at_cert(SSL *ssl, void *arg)
{
	struct tls *t = SSL_get_app_data(ssl);
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;

	(void)arg;
	switch (t->server->fn(t->conn_ctx, t->host, &cert, &key)) {
	case TLS_CERT_LATER:
		return -1;
	case TLS_CERT_OK:
		if (cert && key && SSL_use_certificate(ssl, cert) == 1 &&
		    SSL_use_PrivateKey(ssl, key) == 1)
			return 1;
		break;
	case TLS_CERT_NONE:
		break;
	}
	t->reason = TLS_NO_CERTIFICATE;
	return 0;
}

void tls_server_rotate(struct tls_server *s)
{
	uint64_t now_ns = time_monotonic_ns();
	unsigned char keys[80];
	long n;

	if (s->ticket_ns && now_ns - s->ticket_ns < TLS_TICKET_HOURS * 3600 * TIME_NS_PER_SEC)
		return;
	s->ticket_ns = now_ns;
	n = SSL_CTX_set_tlsext_ticket_keys(s->ctx, NULL, 0);
	if (n > 0 && (size_t)n <= sizeof(keys) && RAND_bytes(keys, (int)n) == 1)
		(void)SSL_CTX_set_tlsext_ticket_keys(s->ctx, keys, n);
	mem_wipe(keys, sizeof(keys));
}

int tls_server_new(struct tls_server **out, tls_cert_fn fn, struct x509_st *chain, struct err *e)
{
	static const unsigned char id[] = "claude-bottle";
	_cleanup_(ctx_clean) SSL_CTX *ctx = ctx_new(TLS_server_method(), e);
	struct tls_server *s;

	*out = NULL;
	if (!ctx)
		return -EPROTO;
	SSL_CTX_set_client_hello_cb(ctx, at_hello, NULL);
	(void)SSL_CTX_set_tlsext_servername_callback(ctx, at_servername);
	SSL_CTX_set_alpn_select_cb(ctx, at_alpn, NULL);
	SSL_CTX_set_cert_cb(ctx, at_cert, NULL);
	/* Resumption by tickets, within this process; no cache that grows with the agent's will. */
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_num_tickets(ctx, 1);
	if (SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1) != 1)
		return err_openssl(e, "set the session context");
	if (chain) {
		(void)X509_up_ref(chain);
		if (SSL_CTX_add_extra_chain_cert(ctx, chain) != 1) {
			X509_free(chain);
			return err_openssl(e, "add the chain");
		}
	}
	s = mem_zalloc(sizeof(*s));
	s->ctx = take_ptr(&ctx);
	s->fn = fn;
	s->gather = mem_zalloc(TLS_GATHER_BYTES);
	tls_server_rotate(s);
	*out = s;
	return 0;
}

void tls_server_free(struct tls_server *s)
{
	if (!s)
		return;
	SSL_CTX_free(s->ctx);
	free(s->gather);
	free(s);
}

/* --- client --- */

static int at_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls *t = SSL_get_app_data(ssl);
	struct tls_session *kept = tls_session_slot(t->client, t->host, t->port);

	if (SSL_SESSION_is_resumable(session) != 1)
		return 0;
	SSL_SESSION_free(kept->session);
	kept->session = session;
	kept->port = t->port;
	memcpy(kept->host, t->host, sizeof(kept->host));
	return 1; /* the reference is ours now */
}

static int roots_add(struct tls_client *c, struct str pem, struct err *e)
{
	BIO *bio;

	if (pem.n == 0)
		return 0;
	if (pem.n > INT32_MAX)
		return err_set(e, -EFBIG, "too many root certificates");
	bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	if (!bio)
		return err_openssl(e, "read root certificates");
	for (;;) {
		X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

		if (!cert)
			break;
		if (X509_STORE_add_cert(SSL_CTX_get_cert_store(c->ctx), cert) == 1)
			c->n_roots++;
		X509_free(cert);
	}
	BIO_free(bio);
	/* PEM_R_NO_START_LINE is the end of the file; anything else is a broken certificate. */
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return err_openssl(e, "read root certificates");
	ERR_clear_error();
	return 0;
}

/* The system's bundle: many, of which few are used. */
static int roots_open(struct tls_client *c, const struct tls_client_config *config, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	struct str pem = config->ca_bundle;
	int ret;

	if (config->ca_file) {
		ret = io_read_file(AT_FDCWD, config->ca_file, ROOTS_FILE_MAX, &pem, e);
		if (ret < 0)
			return ret;
		text = (char *)(uintptr_t)pem.p;
	}
	if (pem.n == 0)
		return 0;
	ret = tls_roots_new(&c->roots, pem, e);
	if (ret < 0)
		return err_prefix(e, "%s", config->ca_file ? config->ca_file : "root certificates");
	c->n_roots += tls_roots_count(c->roots);
	return tls_roots_attach(c->roots, c->ctx, e);
}

static void client_clean(struct tls_client **c)
{
	tls_client_free(*c);
}

int tls_client_new(struct tls_client **out, const struct tls_client_config *config, struct err *e)
{
	_cleanup_(client_clean) struct tls_client *c = mem_zalloc(sizeof(*c));
	int ret;

	*out = NULL;
	c->gather = mem_zalloc(TLS_GATHER_BYTES);
	c->ctx = ctx_new(TLS_client_method(), e);
	if (!c->ctx)
		return -EPROTO;
	SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, NULL);
	if (SSL_CTX_set_alpn_protos(c->ctx, alpn_http11, sizeof(alpn_http11)) != 0)
		return err_openssl(e, "set ALPN");
	(void)SSL_CTX_set_session_cache_mode(c->ctx,
					     SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(c->ctx, at_session);
	ret = roots_open(c, config, e);
	if (ret == 0)
		ret = roots_add(c, config->ca_pem, e);
	if (ret < 0)
		return ret;
	if (c->n_roots == 0)
		return err_set(e, -ENOENT, "no root certificate to verify upstreams with");
	*out = take_ptr(&c);
	return 0;
}

void tls_client_free(struct tls_client *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < TLS_SESSIONS_MAX; i++)
		SSL_SESSION_free(c->sessions[i].session);
	SSL_CTX_free(c->ctx);
	tls_roots_free(c->roots);
	free(c->gather);
	free(c);
}

size_t tls_client_roots(const struct tls_client *c)
{
	return c->n_roots;
}
