#include "probe/canary_http.h"

#include "probe/canary.h"
#include "probe/canary_git.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#define HTTP_REQUEST_MAX (128u << 10)
#define HTTP_GIT_MAX	 (8u << 20)
#define HTTP_IDLE_MS	 1000
#define HTTP_REQUESTS	 64

struct canary_tls {
	SSL_CTX *ctx;
};

/* A byte stream that is TLS or not. */
struct stream {
	int fd;
	SSL *ssl;
};

static ssize_t stream_read(struct stream *s, void *p, size_t n)
{
	if (s->ssl)
		return SSL_read(s->ssl, p, (int)n);
	return io_wait(s->fd, POLLIN, HTTP_IDLE_MS) == 1 ? recv(s->fd, p, n, 0) : -1;
}

static void stream_write(struct stream *s, struct str text)
{
	if (s->ssl)
		(void)SSL_write(s->ssl, text.p, (int)text.n);
	else
		(void)send(s->fd, text.p, text.n, MSG_NOSIGNAL);
}

static X509 *canary_certificate(EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, const char *name,
				long serial)
{
	static const struct {
		int nid;
		const char *ca, *leaf;
	} extensions[] = {
		{NID_basic_constraints, "critical,CA:TRUE", "critical,CA:FALSE"},
		{NID_key_usage, "critical,keyCertSign", "critical,digitalSignature"},
		{NID_subject_key_identifier, "hash", "hash"},
		{NID_authority_key_identifier, NULL, "keyid:always"},
		{NID_subject_alt_name, NULL, "DNS:selftest.example,DNS:*.selftest.example"},
	};
	X509 *cert = X509_new();
	X509V3_CTX ctx;
	bool is_ca = issuer == NULL;

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), serial);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 2 * 86400);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
				   (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(is_ca ? cert : issuer));
	X509_set_pubkey(cert, key);
	X509V3_set_ctx(&ctx, is_ca ? cert : issuer, cert, NULL, NULL, 0);
	for (size_t i = 0; i < ARRAY_LEN(extensions); i++) {
		const char *value = is_ca ? extensions[i].ca : extensions[i].leaf;
		X509_EXTENSION *ext =
			value ? X509V3_EXT_conf_nid(NULL, &ctx, extensions[i].nid, value) : NULL;

		if (ext)
			X509_add_ext(cert, ext, -1);
		X509_EXTENSION_free(ext);
	}
	if (X509_sign(cert, is_ca ? key : issuer_key, EVP_sha256()) <= 0) {
		X509_free(cert);
		return NULL;
	}
	return cert;
}

/* ca.pem, and the key that the control of the search for one must find. */
static int canary_write_ca(int dirfd, X509 *ca, EVP_PKEY *key, struct err *e)
{
	BIO *pem = BIO_new(BIO_s_mem());
	char *text;
	long n;
	int ret = pem && PEM_write_bio_X509(pem, ca) == 1 ? 0 : err_set(e, -EIO, "ca.pem");

	n = pem ? BIO_get_mem_data(pem, &text) : 0;
	if (ret == 0)
		ret = io_write_file_atomic(dirfd, "ca.pem", str_slice(text, (size_t)n), 0644, e);
	if (pem)
		(void)BIO_reset(pem);
	if (ret == 0 && PEM_write_bio_PrivateKey(pem, key, NULL, NULL, 0, NULL, NULL) != 1)
		ret = err_set(e, -EIO, "ca.pem.key");
	n = pem ? BIO_get_mem_data(pem, &text) : 0;
	if (ret == 0)
		ret = io_write_file_atomic(dirfd, "ca.pem.key", str_slice(text, (size_t)n), 0600,
					   e);
	BIO_free(pem);
	return ret;
}

struct canary_tls *canary_tls_new(int dirfd, struct err *e)
{
	struct canary_tls *t = mem_zalloc(sizeof(*t));
	EVP_PKEY *ca_key = EVP_EC_gen("P-256"), *key = EVP_EC_gen("P-256");
	X509 *ca = NULL, *cert = NULL;

	t->ctx = SSL_CTX_new(TLS_server_method());
	if (ca_key && key)
		ca = canary_certificate(ca_key, NULL, NULL, "claude-bottle selftest canary", 1);
	if (ca)
		cert = canary_certificate(key, ca, ca_key, "selftest.example", 2);
	if (!t->ctx || !cert || SSL_CTX_use_certificate(t->ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey(t->ctx, key) != 1) {
		(void)err_set(e, -EIO, "the canary's TLS cannot be set up");
		return NULL;
	}
	if (canary_write_ca(dirfd, ca, ca_key, e) < 0)
		return NULL;
	X509_free(ca);
	X509_free(cert);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(key);
	return t;
}

/* How much of rest is the body, by the head: this server believes its clients. SIZE_MAX: it is not
 * all there yet. */
static size_t http_body_length(struct str head, struct str rest)
{
	for (size_t at = 0; at < head.n;) {
		struct str line = str_sub(head, at, head.n);
		size_t end = str_chr(line, '\n');
		uint64_t n;

		line = str_sub(line, 0, end);
		at += end + 1;
		if (str_istarts(line, STR_LIT("transfer-encoding:")))
			return canary_git_chunked_length(rest);
		if (!str_istarts(line, STR_LIT("content-length:")))
			continue;
		line = str_sub(line, 15, line.n);
		if (str_ends(line, STR_LIT("\r")))
			line.n--;
		return str_to_u64(str_trim(line), HTTP_REQUEST_MAX, &n) == 0 ? (size_t)n : 0;
	}
	return 0;
}

/* Reads one request into b; its length, or 0 when the client is done. */
static size_t http_read_request(struct stream *s, struct buf *b)
{
	for (;;) {
		struct str all = buf_str(b);
		size_t end = str_find(all, STR_LIT("\r\n\r\n"));
		char *at;
		ssize_t n;

		if (end < all.n) {
			size_t body = http_body_length(str_sub(all, 0, end + 2),
						       str_sub(all, end + 4, all.n));

			if (body <= all.n - end - 4)
				return end + 4 + body;
		}
		at = buf_reserve(b, 16384);
		if (!at)
			return buf_len(b);
		n = stream_read(s, at, 16384);
		if (n <= 0)
			return buf_len(b);
		buf_commit(b, (size_t)n);
	}
}

static void http_answer(struct stream *s, struct str request)
{
	char head[256];
	struct str body = STR_LIT("canary\n");
	struct str line = str_sub(request, 0, str_chr(request, '\r'));
	const char *status = "200 OK";
	const char *extra = "";

	if (str_find(line, STR_LIT("/echo")) < line.n)
		body = request;
	if (str_find(line, STR_LIT("/redirect")) < line.n) {
		status = "302 Found";
		extra = "Location: https://other.selftest.example/followed\r\n";
	}
	(void)snprintf(head, sizeof(head),
		       "HTTP/1.1 %s\r\nContent-Type: text/plain\r\n%sContent-Length: %zu\r\n\r\n",
		       status, extra, body.n);
	stream_write(s, str_of(head));
	stream_write(s, body);
}

static void http_answer_git(struct stream *s, struct str request)
{
	struct buf out;

	buf_init(&out, HTTP_GIT_MAX);
	canary_git_answer(request, &out);
	stream_write(s, buf_str(&out));
	buf_free(&out);
}

/* Its sender waits for the end of the connection. */
static bool http_is_last(struct str request)
{
	struct str head = str_sub(request, 0, str_find(request, STR_LIT("\r\n\r\n")));

	return str_find(head, STR_LIT("\r\nConnection: close")) < head.n;
}

static void http_serve(const char *name, struct stream *s)
{
	bool is_last = false;
	struct buf b;

	buf_init(&b, HTTP_REQUEST_MAX * 2);
	for (int i = 0; i < HTTP_REQUESTS && !is_last; i++) {
		size_t n = http_read_request(s, &b);

		if (n == 0)
			break;
		canary_saw(name, b.p + b.from, n);
		if (canary_git_is_for(str_sub(buf_str(&b), 0, n)))
			http_answer_git(s, str_sub(buf_str(&b), 0, n));
		else
			http_answer(s, str_sub(buf_str(&b), 0, n));
		is_last = http_is_last(str_sub(buf_str(&b), 0, n));
		buf_consume(&b, n);
	}
	buf_free(&b);
}

void canary_http_serve(const char *name, int fd)
{
	struct stream s = {.fd = fd};

	http_serve(name, &s);
}

void canary_http_serve_tls(struct canary_tls *t, const char *name, int fd)
{
	struct timeval patience = {.tv_sec = HTTP_IDLE_MS / 1000};
	struct stream s = {.fd = fd, .ssl = SSL_new(t->ctx)};
	const char *sni;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (s.ssl && SSL_set_fd(s.ssl, fd) == 1 && SSL_accept(s.ssl) == 1) {
		/* The server name alone can carry a secret out. */
		sni = SSL_get_servername(s.ssl, TLSEXT_NAMETYPE_host_name);
		canary_saw("sni", sni ? sni : "", sni ? strlen(sni) : 0);
		http_serve(name, &s);
		(void)SSL_shutdown(s.ssl);
	} else {
		canary_saw(name, "(failed handshake)", 18);
	}
	SSL_free(s.ssl);
}

static void proxy_splice(int a, int b)
{
	struct pollfd polls[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
	char data[16384];

	while (poll(polls, 2, HTTP_IDLE_MS) > 0) {
		for (int i = 0; i < 2; i++) {
			ssize_t n;

			if (!polls[i].revents)
				continue;
			n = recv(polls[i].fd, data, sizeof(data), 0);
			if (n <= 0 || send(polls[!i].fd, data, (size_t)n, MSG_NOSIGNAL) != n)
				return;
		}
	}
}

void canary_proxy_serve(const char *name, int fd, uint16_t tls_port)
{
	struct sockaddr_in upstream = {.sin_family = AF_INET,
				       .sin_port = htons(tls_port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_cleanup_(buf_free) struct buf b;
	struct stream s = {.fd = fd};
	char first[8192];
	ssize_t peeked;

	buf_init(&b, HTTP_REQUEST_MAX * 2);
	if (io_wait(fd, POLLIN, HTTP_IDLE_MS) != 1)
		return;
	peeked = recv(fd, first, sizeof(first), MSG_PEEK);
	if (peeked < 8 || memcmp(first, "CONNECT ", 8) != 0) {
		canary_http_serve(name, fd);
		return;
	}
	if (http_read_request(&s, &b) > 0) {
		_cleanup_close_ int up = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		canary_saw(name, b.p + b.from, buf_len(&b));
		stream_write(&s, STR_LIT("HTTP/1.1 200 OK\r\n\r\n"));
		/* What is not TLS reaches an upstream all the same, when nobody looks. */
		if (io_wait(fd, POLLIN, HTTP_IDLE_MS) != 1 || recv(fd, first, 1, MSG_PEEK) != 1)
			return;
		if (first[0] != 0x16) {
			peeked = recv(fd, first, sizeof(first), 0);
			canary_saw(name, first, peeked > 0 ? (unsigned long)peeked : 0);
			stream_write(&s, STR_LIT("canary\n"));
			return;
		}
		if (up >= 0 && connect(up, (struct sockaddr *)&upstream, sizeof(upstream)) == 0)
			proxy_splice(fd, up);
	}
}
