#include "pack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <zlib.h>

size_t pack_zlib(void *out, size_t size, const void *p, size_t n, int window_bits)
{
	z_stream z = {0};
	size_t k;

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (uint8_t *)(uintptr_t)p;
	z.avail_in = (unsigned)n;
	z.next_out = out;
	z.avail_out = (unsigned)size;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	k = z.total_out;
	(void)deflateEnd(&z);
	return k;
}

size_t pack_base64_with(char *out, const char *p, size_t n, const char *digits, bool is_padded)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i += 3) {
		uint32_t w = (uint32_t)(uint8_t)p[i] << 16;

		w |= i + 1 < n ? (uint32_t)(uint8_t)p[i + 1] << 8 : 0;
		w |= i + 2 < n ? (uint32_t)(uint8_t)p[i + 2] : 0;
		out[k++] = digits[w >> 18];
		out[k++] = digits[w >> 12 & 63];
		if (i + 1 < n)
			out[k++] = digits[w >> 6 & 63];
		if (i + 2 < n)
			out[k++] = digits[w & 63];
	}
	while (is_padded && k % 4)
		out[k++] = '=';
	return k;
}

size_t pack_base64(char *out, const char *p, size_t n)
{
	return pack_base64_with(out, p, n, PACK_DIGITS "+/", true);
}
