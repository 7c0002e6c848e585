/* What a machine says to the host, in one piece and byte by byte: the same frames, none longer than
 * allowed, no more memory than has come, and nothing after a refusal. */
#include "fuzz.h"

#include "guest/machine.h"

#include <stdlib.h>

#define MAX_PAYLOAD 300

/* Everything in pieces of step bytes. A sum over what came out; *refused if it was. */
static uint64_t feed(const uint8_t *data, size_t n, size_t step, int *refused)
{
	struct str rest = str_slice(data, n);
	struct frames f;
	uint64_t sum = 1;

	*refused = 0;
	if (frames_init(&f, MAX_PAYLOAD, NULL) < 0)
		abort();
	while (rest.n > 0 && !*refused) {
		struct str payload;
		size_t used;
		char letter;
		int ret = frames_feed(&f, str_sub(rest, 0, step), &used, &letter, &payload, NULL);

		*refused = ret < 0;
		if (ret == 1) {
			if (payload.n > MAX_PAYLOAD)
				abort();
			sum = sum * 31 + (unsigned char)letter;
			for (size_t i = 0; i < payload.n; i++)
				sum = sum * 31 + (unsigned char)payload.p[i];
		} else if (ret == 0 && used == 0) {
			abort();
		}
		rest = str_sub(rest, used, rest.n);
	}
	if (f.cap > 2 * (size_t)4096 + n)
		abort();
	frames_free(&f);
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	int whole, cut;

	if (n > 4096)
		return 0;
	if (feed(data, n, n, &whole) != feed(data, n, 1, &cut) || whole != cut)
		abort();
	return 0;
}
