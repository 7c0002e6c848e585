/* The DNS sink's parser: any bytes give a reply within its cap, and only the own name an address.
 */
#include "pipelock/dns_sink.h"

#include <arpa/inet.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sockaddr_storage pinned = {.ss_family = AF_INET};
	struct dns_sink_question q;
	uint8_t out[DNS_SINK_REPLY_MAX];
	size_t out_n = SIZE_MAX;
	enum dns_sink_result r = dns_sink_reply(str_slice(data, size), &pinned, out, &out_n, &q);

	if (out_n > sizeof(out) || (out_n == 0) != (r == DNS_SINK_DROP))
		abort();
	if (q.name_n > DNS_SINK_NAME_MAX || q.name[q.name_n] != '\0')
		abort();
	/* The answer count is 1 only for a name that is ours. */
	if (out_n > 0 && out[7] != 0 && (r != DNS_SINK_ANSWERED || q.name_n > 13))
		abort();
	return 0;
}
