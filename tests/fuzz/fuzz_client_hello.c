/* The ClientHello. Beside memory safety: more bytes never turn a refusal into something else, and
 * what stands behind a complete hello does not change what was read. */
#include "fuzz.h"

#include "net/tls.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tls_client_hello whole, part;
	enum tls_reason r, last = TLS_INCOMPLETE;
	struct str in = str_slice(data, size);

	r = tls_client_hello_parse(in, &whole);
	for (size_t n = 1; n <= size && n < 4096; n++) {
		char *copy = str_dup(str_sub(in, 0, n));

		last = tls_client_hello_parse(str_slice(copy, n), &part);
		free(copy);
		if (last == TLS_INCOMPLETE)
			continue;
		if (last != r || (r == TLS_OK && (part.raw_bytes != whole.raw_bytes ||
						  strcmp(part.name, whole.name) != 0)))
			abort();
		break;
	}
	if (r == TLS_OK) {
		if (whole.raw_bytes > size || strlen(whole.name) > TLS_HOST_MAX)
			abort();
		(void)!tls_client_hello_check(&whole, STR_LIT("up.test"));
	}
	return 0;
}
