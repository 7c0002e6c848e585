#include "backend/walled/carrier.h"

#include <stdio.h>

int carrier_start(struct bundle_process *carrier, const char *slug, const char *address,
		  const struct backend_fd sockets[WALL_SERVED], struct err *e)
{
	/* As root somebody whom nobody else is: the first of as many as a bundle's roles get. */
	unsigned base = bundle_uid_base();
	char to[64], uid[32];
	const char *const words[] = {"carry", to, base ? uid : NULL, NULL};

	(void)snprintf(to, sizeof(to), "to=%s", address);
	(void)snprintf(uid, sizeof(uid), "uid=%u", base);
	return bundle_process_start(carrier, slug, words, sockets, WALL_SERVED, e);
}
