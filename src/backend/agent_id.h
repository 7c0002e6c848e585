/* The ids on this host that an agent runs with. */
#pragma once

#include "base/err.h"

#include <sys/types.h>

/* Ours when we are not root. As root: 1000000000 + 28 random bits, which nobody else has, where
 * this user namespace maps that, else the highest ids that it does map. home (may be NULL, or not
 * exist): the agent's home, whose owner the agent is again; only an owner that a bottle may have
 * had. */
int agent_id_pick(uid_t *uid, gid_t *gid, const char *home, struct err *e) _fallible_;

/* Its parts; map is the content of /proc/self/uid_map. 0 if there is none but root. */
uid_t agent_id_choose(const char *map, uint32_t random);
bool agent_id_in_map(const char *map, uid_t id);
