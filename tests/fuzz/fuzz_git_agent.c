/* What a child of gitssh may say to its parent: answered in whole messages, however it is cut, and
 * signed no more often than it may be. */
#include "fuzz.h"

#include "gitssh/gitssh.h"
#include "keyd/sshwire.h"

#include <errno.h>
#include <stdlib.h>

static unsigned n_signed;

static int sign(void *ctx, struct str data, uint8_t *out, size_t size)
{
	(void)ctx;
	if (data.n > GITSSH_AGENT_MAX || size < GIT_KEY_SIGNATURE_MAX)
		abort();
	n_signed++;
	memset(out, 7, size);
	return data.n % 2 ? (int)size : -EPERM;
}

static void check_answers(struct str said)
{
	struct sshwire_reader r = sshwire_reader_of(said);

	while (r.n > 0 && !r.is_bad) {
		struct str message = sshwire_read_string(&r);

		if (message.n == 0)
			abort();
	}
	if (r.is_bad)
		abort();
}

/* In pieces of so many bytes; how many bytes were answered, or -1. */
static long feed(struct str bytes, size_t piece)
{
	struct gitssh_agent a = {.key = STR_LIT("a public key"),
				 .sign = sign,
				 .signatures_left = GITSSH_SIGNATURES_MAX};
	long n = -1;
	struct buf out;
	int ret = 0;

	n_signed = 0;
	buf_init(&out, 8u << 20);
	while (ret == 0 && bytes.n > 0) {
		size_t take = bytes.n < piece ? bytes.n : piece;

		if (take > sizeof(a.in) - a.n)
			take = sizeof(a.in) - a.n;
		ret = gitssh_agent_feed(&a, str_sub(bytes, 0, take), &out);
		bytes = str_sub(bytes, take, bytes.n);
	}
	check_answers(buf_str(&out));
	if (ret == 0)
		n = (long)buf_len(&out);
	if (n_signed > GITSSH_SIGNATURES_MAX)
		abort();
	buf_free(&out);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str bytes = str_slice(data, size > 65536 ? 65536 : size);

	if (feed(bytes, 1) != feed(bytes, GITSSH_AGENT_MAX))
		abort();
	return 0;
}
