/* How often something may be done: so many times at once, and so many a second from then on. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct allowance {
	unsigned burst, per_second; /* per_second is not 0 */
	unsigned left;		    /* whoever does it takes one */
	uint64_t earned_ns;	    /* when left was last added to */
};

/* Whether it may be done now (time_monotonic_ns()). */
bool allowance_has(struct allowance *a, uint64_t now_ns);
