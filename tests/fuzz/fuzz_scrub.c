/*
 * The scrubber against the simplest search: the first byte chooses how the rest is cut; whatever
 * the cuts, the length stays, all plain occurrences are gone, and nothing else has changed but to
 * asterisks.
 */
#include "fuzz.h"

#include "egress/scrub.h"

#include <stdlib.h>
#include <string.h>

static const char *const secrets[] = {"abababababab", "sk-test-/+\"&xyz", "aaaaaaaaaaaaaaaaaaaa"};
#define SECRETS (sizeof(secrets) / sizeof(secrets[0]))

static struct scrub_set *set_once(void)
{
	static struct scrub_set *set;
	struct err e = ERR_INIT;

	if (set)
		return set;
	if (scrub_set_new(&set, 1u << 20, &e) < 0)
		abort();
	for (size_t i = 0; i < SECRETS; i++) {
		if (scrub_set_add(set, str_of(secrets[i]), &e) < 0)
			abort();
	}
	return set;
}

static void check(const uint8_t *in, const uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (out[i] != in[i] && out[i] != '*')
			abort();
		for (size_t k = 0; k < SECRETS; k++) {
			size_t length = strlen(secrets[k]);

			if (n - i < length || memcmp(in + i, secrets[k], length) != 0)
				continue;
			for (size_t j = 0; j < length; j++) {
				if (out[i + j] != '*')
					abort();
			}
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const struct scrub_set *set = set_once();
	struct scrub_stream st = {0};
	size_t step = n > 0 ? data[0] % 32 + 1u : 1, at = 0;
	struct buf out;

	if (n < 2 || n > 65536)
		return 0;
	data++;
	n--;
	buf_init(&out, n + 1);
	while (at < n) {
		struct str piece = str_slice(data + at, step < n - at ? step : n - at);
		int ret = scrub_feed(set, &st, piece, at + piece.n == n, &out);

		if (ret < 0 || (ret == SCRUB_CLEAN && buf_append_str(&out, piece) < 0))
			abort();
		at += piece.n;
		step = step * 7 % 61 + 1;
	}
	if (buf_len(&out) != n || buf_len(&st.held) != 0)
		abort();
	check(data, (const uint8_t *)buf_str(&out).p, n);
	scrub_stream_close(&st);
	buf_free(&out);
	return 0;
}
