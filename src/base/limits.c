#include "base/limits.h"

int limits_lower(__rlimit_resource_t what, uint64_t value, struct err *e)
{
	struct rlimit l;

	if (getrlimit(what, &l) < 0)
		return err_errno(e, "getrlimit");
	if (l.rlim_max != RLIM_INFINITY && value > l.rlim_max)
		value = l.rlim_max;
	l.rlim_cur = l.rlim_max = value;
	return setrlimit(what, &l) < 0 ? err_errno(e, "setrlimit") : 0;
}
