/* A private key's file, and what is to be signed with a key: whatever the bytes, a key that was
 * read agrees with itself, and nothing is signed but a login. */
#include "fuzz.h"

#include "keyd/git_key.h"
#include "keyd/sshwire.h"

#include <stdlib.h>

static void check_key(struct str text)
{
	struct git_key k;

	if (git_key_parse(&k, text, NULL) < 0) {
		if (k.pkey || k.blob_n != 0)
			abort();
		return;
	}
	if (!k.pkey || k.blob_n == 0 || k.blob_n > sizeof(k.blob))
		abort();
	git_key_free(&k);
}

/* RFC 8032's first test vector, in RFC 8410's form. */
static const char vector[] = "-----BEGIN PRIVATE KEY-----\n"
			     "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
			     "-----END PRIVATE KEY-----\n";

static void check_request(struct str bytes)
{
	static struct git_key k;
	uint8_t out[GIT_KEY_SIGNATURE_MAX];

	if (!k.pkey && git_key_parse(&k, str_of(vector), NULL) < 0)
		abort();
	/* The signature's own blob would have to stand in it: 51 bytes and the fields around. */
	if (git_key_sign_userauth(&k, bytes, "git", out, NULL) >= 0 &&
	    (bytes.n < 32 + 51 || !memmem(bytes.p, bytes.n, k.blob, k.blob_n) ||
	     !memmem(bytes.p, bytes.n, "ssh-connection", 14)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str bytes = str_slice(data, size);

	check_key(bytes);
	check_request(bytes);
	return 0;
}
