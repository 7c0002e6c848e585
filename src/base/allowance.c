#include "base/allowance.h"

#include "base/timeutil.h"

bool allowance_has(struct allowance *a, uint64_t now_ns)
{
	const uint64_t each_ns = TIME_NS_PER_SEC / a->per_second;
	uint64_t earned = (now_ns - a->earned_ns) / each_ns;

	a->earned_ns += earned * each_ns;
	a->left = earned > a->burst - a->left ? a->burst : a->left + (unsigned)earned;
	return a->left > 0;
}
