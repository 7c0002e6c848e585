#pragma once

#include <stddef.h>
#include <stdint.h>

#define TIME_NS_PER_MS	UINT64_C(1000000)
#define TIME_NS_PER_SEC UINT64_C(1000000000)

uint64_t time_monotonic_ns(void);
uint64_t time_realtime_ns(void);
uint64_t time_boottime_ns(void); /* goes on while the host sleeps */
/* RFC 3339 in UTC with milliseconds, "2026-01-02T03:04:05.678Z"; out holds at least 25 bytes. */
#define TIME_RFC3339_SIZE 32
void time_format_rfc3339(uint64_t realtime_ns, char out[TIME_RFC3339_SIZE]);
