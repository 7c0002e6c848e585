/* The walkers' parts that are data of their own: seed phrases (seed.c), host names (host.c). */
#pragma once

#include "scan/checks.h"

struct walk {
	struct scan_pass *ps;
	const struct scan_view *v;
};

/* The next BIP 39 phrase of 12, 15, 18, 21 or 24 words in [at, end) whose checksum holds. */
bool seed_phrase_find(const uint8_t *p, size_t at, size_t end, size_t *from, size_t *to);

/* A label that decodes from hex, base32 or base64 to text, or a long random one. */
bool host_label_encoded(const uint8_t *p, size_t n, size_t *from, size_t *to);
/* Data cut over many labels. */
bool host_is_chain(const uint8_t *p, size_t n);
