/*
 * Data in host names. A name reaches resolvers and logs far beyond the host that it names, so a
 * wildcard in an allowlist is a channel.
 */
#include "scan/walk.h"

#define HOST_LABELS_MAX 32

struct host_labels {
	struct scan_run at[HOST_LABELS_MAX];
	size_t n;
};

static void labels_split(struct host_labels *l, const uint8_t *p, size_t n)
{
	l->n = 0;
	for (size_t i = 0; i < n && l->n < HOST_LABELS_MAX;) {
		const uint8_t *dot = memchr(p + i, '.', n - i);
		size_t to = dot ? (size_t)(dot - p) : n;

		if (to > i)
			l->at[l->n++] = (struct scan_run){(uint32_t)i, (uint32_t)to};
		i = to + 1;
	}
}

static bool is_hex_text(const uint8_t *p, size_t n)
{
	uint8_t out[64];
	size_t k = 0;

	if (n < 12 || n % 2 || n > 2 * sizeof(out))
		return false;
	for (size_t i = 0; i < n; i += 2) {
		int high = ascii_hex_value((char)p[i]), low = ascii_hex_value((char)p[i + 1]);

		if (high < 0 || low < 0)
			return false;
		out[k++] = (uint8_t)(high << 4 | low);
	}
	return checks_printable(out, k) >= (n < 20 ? 100u : 85u);
}

/* Bits of width w from characters of an alphabet; the share of printable bytes, or 0. */
static unsigned decoded_printable(const uint8_t *p, size_t n, unsigned width, int (*value)(uint8_t))
{
	uint8_t out[64];
	uint32_t acc = 0;
	unsigned bits = 0;
	size_t k = 0;

	for (size_t i = 0; i < n && k < sizeof(out); i++) {
		int x = value(p[i]);

		if (x < 0)
			return 0;
		acc = acc << width | (uint32_t)x;
		bits += width;
		if (bits >= 8) {
			bits -= 8;
			out[k++] = (uint8_t)(acc >> bits);
		}
	}
	return checks_printable(out, k);
}

static int base32_of(uint8_t b)
{
	if (b >= '2' && b <= '7')
		return b - '2' + 26;
	b |= 0x20;
	return b >= 'a' && b <= 'z' ? b - 'a' : -1;
}

static int base64_of(uint8_t b)
{
	if (b >= 'A' && b <= 'Z')
		return b - 'A';
	if (b >= 'a' && b <= 'z')
		return b - 'a' + 26;
	if (ascii_is_digit((char)b))
		return b - '0' + 52;
	return b == '-' ? 62 : b == '_' ? 63 : -1;
}

static bool is_encoded_label(const uint8_t *p, size_t n)
{
	size_t digit = 0, upper = 0, lower = 0, hex = 0;

	for (size_t i = 0; i < n; i++) {
		digit += ascii_is_digit((char)p[i]);
		upper += p[i] >= 'A' && p[i] <= 'Z';
		lower += p[i] >= 'a' && p[i] <= 'z';
		hex += ascii_hex_value((char)p[i]) >= 0;
	}
	if (is_hex_text(p, n))
		return true;
	if (n >= 16 && decoded_printable(p, n, 5, base32_of) >= (digit ? 55u : 80u))
		return true;
	if (n >= 16 && upper && decoded_printable(p, n, 6, base64_of) >= 85)
		return true;
	/* Base64 that lost its case, or anything as random. A hash in hex is a common name. */
	return n >= 24 && digit >= 4 && lower + upper >= 8 && digit + lower + upper == n &&
	       hex < n && scan_entropy(p, n) >= 370;
}

bool host_label_encoded(const uint8_t *p, size_t n, size_t *from, size_t *to)
{
	struct host_labels l;

	labels_split(&l, p, n);
	for (size_t i = 0; i + 2 < l.n; i++) {
		*from = l.at[i].from;
		*to = l.at[i].to;
		if (is_encoded_label(p + *from, *to - *from))
			return true;
	}
	return false;
}

bool host_is_chain(const uint8_t *p, size_t n)
{
	struct host_labels l;
	size_t longish = 0, bytes = 0;

	labels_split(&l, p, n);
	if (l.n == HOST_LABELS_MAX)
		return true;
	for (size_t i = 0; i + 2 < l.n; i++) {
		longish += l.at[i].to - l.at[i].from >= 8;
		bytes += l.at[i].to - l.at[i].from;
	}
	return longish >= 4 || bytes >= 100;
}
