/* Content codings: any bytes, in any pieces, never more output than the ratio allows. */
#include "fuzz.h"

#include "scan/content.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const codings[] = {"gzip",	       "deflate",    "br",
					      "zstd",	       "gzip, gzip", "br, deflate",
					      "deflate, zstd", "zstd, br"};
	struct content_decoder *d = NULL;
	struct err e = ERR_INIT;
	struct buf out;
	size_t piece, at = 0, total = 0;
	int r;

	if (n < 2)
		return 0;
	if (content_decoder_new(&d, str_of(codings[data[0] % 8]), &e) < 0)
		abort();
	piece = data[1] ? data[1] : 4096;
	data += 2;
	n -= 2;
	buf_init(&out, 4096);
	do {
		size_t m = n - at < piece ? n - at : piece, used = 0;

		r = content_decode(d, str_slice(data + at, m), at + m == n, &out, &used, &e);
		if (used > m)
			abort();
		at += used;
		total += buf_len(&out);
		if (r == 0 && used == 0 && buf_len(&out) == 0)
			break;
		buf_reset(&out);
	} while (r == 0);
	if (total > CONTENT_FREE_BYTES + (uint64_t)(n + 1) * CONTENT_RATIO_MAX + 16384)
		abort();
	buf_free(&out);
	content_decoder_free(d);
	return 0;
}
