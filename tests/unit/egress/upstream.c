#include "upstream.h"

#include "base/str.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static X509 *make_certificate(EVP_PKEY *key, const char *name)
{
	X509 *cert = X509_new();
	X509_EXTENSION *ext;
	char san[300];

	(void)snprintf(san, sizeof(san), "DNS:%s", name);
	ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
	if (!cert || !ext)
		abort();
	(void)X509_set_version(cert, 2);
	(void)ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	(void)X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	(void)X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	(void)X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
					 (const unsigned char *)"test", -1, -1, 0);
	(void)X509_set_issuer_name(cert, X509_get_subject_name(cert));
	(void)X509_add_ext(cert, ext, -1);
	(void)X509_set_pubkey(cert, key);
	if (X509_sign(cert, key, EVP_sha256()) == 0)
		abort();
	X509_EXTENSION_free(ext);
	return cert;
}

static void make_context(struct upstream *u, const char *name)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = make_certificate(key, name);
	BIO *bio = BIO_new(BIO_s_mem());
	char *pem;
	long n;

	u->ctx = SSL_CTX_new(TLS_server_method());
	if (!u->ctx || SSL_CTX_use_certificate(u->ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey(u->ctx, key) != 1 || PEM_write_bio_X509(bio, cert) != 1)
		abort();
	n = BIO_get_mem_data(bio, &pem);
	u->ca_pem = str_dup(str_slice(pem, (size_t)n));
	BIO_free(bio);
	X509_free(cert);
	EVP_PKEY_free(key);
}

/* --- one connection --- */

struct peer {
	struct upstream *u;
	int fd;
	SSL *ssl;
};

static int peer_read(struct peer *c, char *p, size_t n)
{
	return c->ssl ? SSL_read(c->ssl, p, (int)n) : (int)read(c->fd, p, n);
}

static void say(struct peer *c, const char *text)
{
	size_t n = strlen(text);

	if (c->ssl)
		(void)SSL_write(c->ssl, text, (int)n);
	else
		(void)send(c->fd, text, n, MSG_NOSIGNAL);
}

static void answer(struct peer *c, const char *status, const char *fields, const char *body)
{
	char head[8192];

	(void)snprintf(head, sizeof(head), "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s", status,
		       fields, strlen(body), body);
	say(c, head);
}

static void pause_ms(unsigned ms)
{
	(void)usleep(ms * 1000);
}

static void answer_big(struct peer *c)
{
	static char block[65536];

	memset(block, 'x', sizeof(block) - 1);
	say(c, "HTTP/1.1 200 OK\r\nContent-Length: 33553920\r\n\r\n");
	for (int i = 0; i < 512; i++)
		say(c, block);
}

static void answer_chunked(struct peer *c)
{
	/* The credential, cut in the middle, with time in between. */
	say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	       "13\r\nyou sent sk-real-4f\r\n");
	pause_ms(30);
	say(c, "16\r\n9a8b7c6d5e4f3a2b1c bye\r\n0\r\n\r\n");
}

static void answer_sse(struct peer *c)
{
	say(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	       "Transfer-Encoding: chunked\r\n\r\n"
	       "13\r\ndata: first event\n\n\r\n");
	atomic_fetch_add(&c->u->n_waiting, 1);
	for (int i = 0; i < 500 && !atomic_load(&c->u->go); i++)
		pause_ms(10);
	atomic_fetch_sub(&c->u->n_waiting, 1);
	say(c, "14\r\ndata: second event\n\n\r\n0\r\n\r\n");
}

static void respond(struct peer *c, const char *head)
{
	char path[128] = "";

	(void)sscanf(head, "%*s %127s", path);
	if (strcmp(path, "/chunked") == 0)
		answer_chunked(c);
	else if (strcmp(path, "/sse") == 0)
		answer_sse(c);
	else if (strcmp(path, "/big") == 0)
		answer_big(c);
	else if (strcmp(path, "/coded") == 0)
		answer(c, "200 OK", "Content-Encoding: gzip\r\n", "xxxxxx");
	else if (strcmp(path, "/partial") == 0)
		answer(c, "206 Partial Content", "Content-Range: bytes 0-4/9\r\n", "sk-re");
	else if (strcmp(path, "/header") == 0)
		answer(c, "200 OK",
		       "X-Echo: Bearer " UPSTREAM_CREDENTIAL "\r\nAlt-Svc: h3=\":1\"\r\n", "ok");
	else if (strcmp(path, "/redirect") == 0)
		answer(c, "302 Found", "Location: https://evil.test/\r\n", "");
	else if (strcmp(path, "/close") == 0)
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
	else if (strcmp(path, "/silent") == 0)
		pause_ms(3000);
	else if (strcmp(path, "/drop") == 0)
		return;
	else
		answer(c, "200 OK", "Content-Type: text/plain\r\n", head);
}

static void *serve(void *arg)
{
	struct peer *c = arg;
	char head[8192];
	size_t n = 0;
	bool is_open = true;

	if (c->u->ctx) {
		c->ssl = SSL_new(c->u->ctx);
		(void)SSL_set_fd(c->ssl, c->fd);
		is_open = SSL_accept(c->ssl) == 1;
	}
	while (is_open) {
		int got = peer_read(c, head + n, sizeof(head) - 1 - n);

		if (got <= 0)
			break;
		n += (size_t)got;
		head[n] = '\0';
		if (!strstr(head, "\r\n\r\n"))
			continue;
		atomic_fetch_add(&c->u->n_requests, 1);
		respond(c, head);
		is_open = !strstr(head, " /close") && !strstr(head, " /silent") &&
			  !strstr(head, " /drop");
		n = 0;
	}
	SSL_free(c->ssl);
	(void)close(c->fd);
	free(c);
	return NULL;
}

static void *accept_loop(void *arg)
{
	struct upstream *u = arg;

	for (;;) {
		struct peer *c;
		pthread_t t;
		int fd = accept(u->fd, NULL, NULL);

		if (fd < 0)
			return NULL;
		atomic_fetch_add(&u->n_connections, 1);
		c = calloc(1, sizeof(*c));
		if (!c)
			abort();
		*c = (struct peer){.u = u, .fd = fd};
		if (pthread_create(&t, NULL, serve, c) != 0)
			abort();
		(void)pthread_detach(t);
	}
}

void upstream_start(struct upstream *u, const char *name)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	memset(u, 0, sizeof(*u));
	if (name)
		make_context(u, name);
	u->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (u->fd < 0 || bind(u->fd, (struct sockaddr *)&a, n) < 0 || listen(u->fd, 64) < 0 ||
	    getsockname(u->fd, (struct sockaddr *)&a, &n) < 0 ||
	    pthread_create(&u->thread, NULL, accept_loop, u) != 0)
		abort();
	u->port = ntohs(a.sin_port);
}

void upstream_stop(struct upstream *u)
{
	/* Who waits looks at u. */
	atomic_store(&u->go, 1);
	while (atomic_load(&u->n_waiting) > 0)
		pause_ms(1);
	(void)shutdown(u->fd, SHUT_RDWR);
	(void)pthread_join(u->thread, NULL);
	(void)close(u->fd);
	/* Connections may still be there; they are few and the process ends soon. */
	pause_ms(20);
	SSL_CTX_free(u->ctx);
	free(u->ca_pem);
}
