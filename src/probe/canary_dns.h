/* The canary's DNS: an authority for selftest.example that writes every question down. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The answer's length, 0 for none. Names starting with "inside-" get 127.0.0.1, "mixed-" a public
 * address and 169.254.169.254, "mapped-" ::ffff:127.0.0.1 for AAAA; all others NXDOMAIN. */
size_t canary_dns_answer(const char *listener, const uint8_t *question, size_t n, uint8_t *answer,
			 size_t size);
void canary_dns_serve_tcp(const char *listener, int fd);
