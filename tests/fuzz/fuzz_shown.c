/* Any bytes of a repository on their way to a terminal: what comes out has nothing in it that the
 * terminal would obey or a human would not see, however it is cut. */
#include "fuzz.h"

#include "base/clean.h"
#include "base/text.h"
#include "cli/shown.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	_cleanup_(buf_free) struct buf out;
	struct str rest;

	buf_init(&out, 1u << 20);
	if (n > 65536 || shown_line(&out, str_slice(data, n)) < 0)
		return 0;
	rest = buf_str(&out);
	while (rest.n > 0) {
		uint32_t c;
		size_t used = text_utf8_next(rest, &c);

		if (used == 0 || (c != '\t' && (c < 0x20 || text_is_deceptive(c))))
			abort();
		rest = str_sub(rest, used, rest.n);
	}
	return 0;
}
