/* Looking through all that a process can read for something that must not be there. */
#pragma once

#include "probe/probe.h"

struct search {
	/* Whether n bytes hold what is looked for; must not find it in its own code or data. */
	bool (*has)(const char *p, size_t n, const void *ctx);
	const void *ctx;
	char *data;	  /* the search's own: what is looked through at the moment */
	unsigned n_files; /* looked through so far; capped */
};

/* Environments and arguments, memory and files of the whole bottle, reported as three tries. In the
 * control: of this process, and the files beside the canary, where the suite has planted it. */
void search_all(const struct probe_env *env, const char *id, struct search *s);
