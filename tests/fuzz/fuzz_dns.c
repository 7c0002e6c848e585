/* The parser of name servers' answers, and what the resolver does with the addresses in them: no
 * byte string may crash it, run long, or give an address that was not looked at. */
#include "fuzz.h"

#include "egress/address.h"
#include "egress/dns_answer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct str host = {"www.example.com", 15};

	for (unsigned i = 0; i < 2; i++) {
		uint16_t type = i == 0 ? DNS_TYPE_A : DNS_TYPE_AAAA;
		struct dns_answer a;
		enum dns_answer_status s = dns_answer_parse(&a, str_slice(data, n), host, type);

		if ((s == DNS_ANSWER_OK) != (a.n > 0) || a.n > DNS_ANSWER_ADDRESSES_MAX)
			abort();
		for (size_t k = 0; k < a.n; k++) {
			const struct sockaddr *sa = (const struct sockaddr *)&a.addresses[k];

			if (sa->sa_family != (i == 0 ? AF_INET : AF_INET6) ||
			    address_classify(sa) >= ADDRESS_CLASS_COUNT)
				abort();
		}
	}
	return 0;
}
