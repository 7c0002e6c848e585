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

uint64_t time_boottime_ns(void)
{
	return time_of(CLOCK_BOOTTIME);
}

/* Not gmtime_r(): its first call reads the time zone file, which a sealed role cannot open. Days to
 * civil date as in Howard Hinnant's "chrono-compatible low-level date algorithms". */
void time_format_rfc3339(uint64_t realtime_ns, char out[TIME_RFC3339_SIZE])
{
	uint64_t sec = realtime_ns / TIME_NS_PER_SEC;
	unsigned in_day = (unsigned)(sec % 86400);
	uint64_t days = sec / 86400 + 719468; /* since 0000-03-01 */
	uint64_t era = days / 146097;
	unsigned doe = (unsigned)(days % 146097);
	unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	unsigned mp = (5 * doy + 2) / 153;
	unsigned month = mp < 10 ? mp + 3 : mp - 9;
	unsigned year = (unsigned)(era * 400) + yoe + (month <= 2);

	(void)snprintf(out, TIME_RFC3339_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", year % 10000,
		       month, doy - (153 * mp + 2) / 5 + 1, in_day / 3600, in_day / 60 % 60,
		       in_day % 60, (unsigned)(realtime_ns % TIME_NS_PER_SEC / TIME_NS_PER_MS));
}
