#include "probe/dlp.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <zlib.h>

#define STORED_MAX   255
#define DEFLATED_MAX 4096

char *dlp_shaped_secret(const char *token)
{
	return mem_printf("g%s_%.20s%.16s", "hp", token + 3, "A1b2C3d4E5f6G7h8");
}

char *dlp_base64_of(struct str data)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = data.n, at = 0;
	char *out = mem_zalloc(n * 4 / 3 + 8);

	for (size_t i = 0; i < n; i += 3) {
		unsigned v = (unsigned)(unsigned char)data.p[i] << 16 |
			     (i + 1 < n ? (unsigned)(unsigned char)data.p[i + 1] << 8 : 0) |
			     (i + 2 < n ? (unsigned)(unsigned char)data.p[i + 2] : 0);

		out[at++] = digits[v >> 18 & 63];
		out[at++] = digits[v >> 12 & 63];
		if (i + 1 < n)
			out[at++] = digits[v >> 6 & 63];
		if (i + 2 < n)
			out[at++] = digits[v & 63];
	}
	return out;
}

char *dlp_base64(const char *text)
{
	return dlp_base64_of(str_of(text));
}

char *dlp_base32(const char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
	size_t n = strlen(text), at = 0;
	char *out = mem_zalloc(n * 8 / 5 + 9);
	unsigned v = 0, bits = 0;

	for (size_t i = 0; i < n; i++) {
		v = v << 8 | (unsigned char)text[i];
		for (bits += 8; bits >= 5; bits -= 5)
			out[at++] = digits[v >> (bits - 5) & 31];
	}
	if (bits > 0)
		out[at++] = digits[v << (5 - bits) & 31];
	return out;
}

char *dlp_hex(const char *text, const char *between)
{
	size_t n = strlen(text), step = 2 + strlen(between);
	char *out = mem_zalloc(n * step + 1);

	for (size_t i = 0; i < n; i++)
		(void)snprintf(out + step * i, step + 1, "%02x%s", (unsigned char)text[i],
			       i + 1 < n ? between : "");
	return out;
}

char *dlp_percent(const char *text)
{
	size_t n = strlen(text);
	char *out = mem_zalloc(n * 3 + 1);

	for (size_t i = 0; i < n; i++)
		(void)snprintf(out + 3 * i, 4, "%%%02X", (unsigned char)text[i]);
	return out;
}

char *dlp_times(char *(*fn)(const char *), unsigned times, const char *text)
{
	char *out = mem_strdup(text);

	while (times-- > 0) {
		char *next = fn(out);

		free(out);
		out = next;
	}
	return out;
}

char *dlp_mix_in(const char *text, const char *sequence)
{
	size_t step = 1 + strlen(sequence);
	char *out = mem_zalloc(strlen(text) * step + 1);

	for (size_t i = 0; text[i]; i++)
		(void)snprintf(out + step * i, step + 1, "%c%s", text[i], sequence);
	return out;
}

char *dlp_lookalike(const char *text)
{
	static const struct {
		char plain;
		const char *cyrillic;
	} twins[] = {{'a', "а"}, {'c', "с"}, {'e', "е"}, {'o', "о"}, {'p', "р"},
		     {'h', "һ"}, {'x', "х"}, {'y', "у"}, {'A', "А"}, {'C', "С"},
		     {'E', "Е"}, {'T', "Т"}, {'B', "В"}, {'O', "О"}};
	char *out = mem_zalloc(2 * strlen(text) + 1);
	size_t at = 0;

	for (; *text; text++) {
		size_t i = 0;

		while (i < ARRAY_LEN(twins) && twins[i].plain != *text)
			i++;
		if (i == ARRAY_LEN(twins)) {
			out[at++] = *text;
			continue;
		}
		memcpy(out + at, twins[i].cyrillic, 2);
		at += 2;
	}
	return out;
}

char *dlp_toggle_case(const char *text)
{
	char *out = mem_strdup(text);

	for (size_t i = 0; out[i]; i++) {
		if (ascii_is_alpha(out[i]))
			out[i] ^= 0x20;
	}
	return out;
}

int dlp_utf16(struct buf *out, struct str text)
{
	int bad = 0;

	for (size_t i = 0; i < text.n; i++)
		bad |= buf_append(out, (const char[]){text.p[i], 0}, 2);
	return bad;
}

static int put_le(struct buf *out, unsigned long value, size_t n)
{
	int bad = 0;

	for (size_t i = 0; i < n; i++) {
		bad |= buf_append(out, (const unsigned char[]){(unsigned char)value}, 1);
		value >>= 8;
	}
	return bad;
}

static int deflate_into(struct buf *out, struct str text, int window_bits)
{
	z_stream z = {0};
	char *room = buf_reserve(out, DEFLATED_MAX);
	int ret;

	if (!room || deflateInit2(&z, 9, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOBUFS;
	z.next_in = (unsigned char *)(uintptr_t)text.p;
	z.avail_in = (unsigned)text.n;
	z.next_out = (unsigned char *)room;
	z.avail_out = DEFLATED_MAX;
	ret = deflate(&z, Z_FINISH);
	buf_commit(out, DEFLATED_MAX - z.avail_out);
	(void)deflateEnd(&z);
	return ret == Z_STREAM_END ? 0 : -ENOBUFS;
}

int dlp_gzip(struct buf *out, struct str text)
{
	return deflate_into(out, text, 15 + 16);
}

/* RFC 7932: a window of 16 bits, one uncompressed meta-block, an empty last one. */
int dlp_brotli(struct buf *out, struct str text)
{
	int bad;

	if (text.n == 0 || text.n > STORED_MAX)
		return -EINVAL;
	bad = put_le(out, (text.n - 1) << 4 | 1u << 20, 3);
	bad |= buf_append_str(out, text);
	bad |= buf_append(out, "\x03", 1);
	return bad;
}

/* RFC 8878: a frame of one segment with one raw block. */
int dlp_zstd(struct buf *out, struct str text)
{
	int bad;

	if (text.n > STORED_MAX)
		return -EINVAL;
	bad = buf_append(out, "\x28\xb5\x2f\xfd\x20", 5);
	bad |= put_le(out, text.n, 1) | put_le(out, 1u | text.n << 3, 3);
	bad |= buf_append_str(out, text);
	return bad;
}

int dlp_zip(struct buf *out, const char *name, struct str text)
{
	_cleanup_(buf_free) struct buf data;
	unsigned long sum = crc32(0, (const unsigned char *)text.p, (unsigned)text.n);
	size_t local, n, name_n = strlen(name);
	int bad;

	buf_init(&data, 2 * DEFLATED_MAX);
	bad = deflate_into(&data, text, -15);
	n = buf_len(&data);
	/* The local header, then the same once more as the directory. */
	for (int is_directory = 0; is_directory < 2; is_directory++) {
		bad |= put_le(out, is_directory ? 0x02014b50 : 0x04034b50, 4);
		bad |= put_le(out, 20, is_directory ? 2 : 0);
		bad |= put_le(out, 20, 2) | put_le(out, 0, 2) | put_le(out, 8, 2);
		bad |= put_le(out, 0, 4) | put_le(out, sum, 4);
		bad |= put_le(out, n, 4) | put_le(out, text.n, 4);
		bad |= put_le(out, name_n, 2) | put_le(out, 0, 2);
		bad |= put_le(out, 0, is_directory ? 14 : 0);
		bad |= buf_append(out, name, name_n);
		if (!is_directory)
			bad |= buf_append_str(out, buf_str(&data));
	}
	local = 30 + name_n + n;
	bad |= put_le(out, 0x06054b50, 4) | put_le(out, 0, 4) | put_le(out, 1, 2);
	bad |= put_le(out, 1, 2) | put_le(out, 46 + name_n, 4) | put_le(out, local, 4);
	bad |= put_le(out, 0, 2);
	return bad;
}
