/* Which probes were asked for; the host's suite and the probes in the bottle must agree on it. */
#pragma once

#include "base/str.h"

/* only: "N05,K,A3": whole ids, or a letter for its group. NULL: every probe. */
static inline bool probe_is_wanted(const char *only, const char *id)
{
	struct str rest = str_of(only), one;
	bool more = only != NULL;

	while (more) {
		rest = str_cut(rest, ',', &one, &more);
		if (str_eq(one, str_of(id)) || (one.n == 1 && one.p[0] == id[0]))
			return true;
	}
	return only == NULL;
}
