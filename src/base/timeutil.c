#include "base/timeutil.h"

#include <stdio.h>
#include <time.h>

static uint64_t time_of(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * TIME_NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t time_monotonic_ns(void)
{
	return time_of(CLOCK_MONOTONIC);
}

uint64_t time_realtime_ns(void)
{
	return time_of(CLOCK_REALTIME);
}

void time_format_rfc3339(uint64_t realtime_ns, char out[TIME_RFC3339_SIZE])
{
	time_t sec = (time_t)(realtime_ns / TIME_NS_PER_SEC);
	struct tm tm;
	size_t n;

	if (!gmtime_r(&sec, &tm)) {
		out[0] = '\0';
		return;
	}
	n = strftime(out, TIME_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(out + n, TIME_RFC3339_SIZE - n, ".%03uZ",
		       (unsigned)(realtime_ns % TIME_NS_PER_SEC / TIME_NS_PER_MS));
}
