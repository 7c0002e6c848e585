#include "image/sha256.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <openssl/evp.h>

#define SHA256_BYTES 32
#define SHA256_PIECE (1u << 20)

static int no_sha256(struct err *e)
{
	return err_set(e, -EIO, "SHA-256 failed");
}

int image_sha256(struct str data, char hex[SHA256_HEX_SIZE], struct err *e)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (EVP_Digest(data.p ? data.p : "", data.n, digest, &n, EVP_sha256(), NULL) != 1 ||
	    n != SHA256_BYTES)
		return no_sha256(e);
	text_hex(hex, digest, SHA256_BYTES);
	return 0;
}

static void free_context(EVP_MD_CTX **c)
{
	EVP_MD_CTX_free(*c);
}

int image_sha256_file(int fd, char hex[SHA256_HEX_SIZE], uint64_t *n, struct err *e)
{
	_cleanup_(free_context) EVP_MD_CTX *context = EVP_MD_CTX_new();
	_cleanup_free_ char *piece = mem_zalloc(SHA256_PIECE);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n_digest = 0;
	off_t at = 0;

	if (!context || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
		return no_sha256(e);
	for (;;) {
		ssize_t got = pread(fd, piece, SHA256_PIECE, at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "read what is to be hashed");
		if (got == 0)
			break;
		if (EVP_DigestUpdate(context, piece, (size_t)got) != 1)
			return no_sha256(e);
		at += got;
	}
	if (EVP_DigestFinal_ex(context, digest, &n_digest) != 1 || n_digest != SHA256_BYTES)
		return no_sha256(e);
	text_hex(hex, digest, SHA256_BYTES);
	if (n)
		*n = (uint64_t)at;
	return 0;
}
