#include "backend/agent_id.h"

#include "base/clean.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>

#define AGENT_ID_BASE 1000000000u
#define AGENT_ID_BITS 28

/* The next "first outside count" line of an id map; false at its end. */
static bool map_next(struct str *rest, unsigned *first, unsigned *count)
{
	while (rest->n > 0) {
		struct str line;
		char text[64];
		unsigned outside;
		bool found;

		*rest = str_cut(*rest, '\n', &line, &found);
		if (str_to_cstr(text, sizeof(text), line) &&
		    sscanf(text, "%u %u %u", first, &outside, count) == 3 && *count > 0)
			return true;
	}
	return false;
}

bool agent_id_in_map(const char *map, uid_t id)
{
	struct str rest = str_of(map);
	unsigned first, count;

	while (map_next(&rest, &first, &count)) {
		if (id >= first && id - first < count)
			return true;
	}
	return false;
}

uid_t agent_id_choose(const char *map, uint32_t random)
{
	uid_t wanted = AGENT_ID_BASE + (random & ((1u << AGENT_ID_BITS) - 1)), best = 0;
	struct str rest = str_of(map);
	unsigned first, count;

	if (agent_id_in_map(map, wanted))
		return wanted;
	while (map_next(&rest, &first, &count)) {
		/* 65534 is what every unmapped file seems to belong to. */
		if (count > 1 && first + (count - 1) == 65534)
			count--;
		if (first + (count - 1) > best)
			best = first + (count - 1);
	}
	return best;
}

/* The id that the agent's home belongs to already, in a bottle that is resumed, goes before a new
 * one; but only one that bottles have. Attack: a home that was put there by hand would have the
 * agent run as its owner. 0: it cannot be had. */
static uid_t keep_id(const char *map, uid_t old, uid_t picked)
{
	if (old == 0 || old == picked)
		return picked;
	return old - AGENT_ID_BASE < 1u << AGENT_ID_BITS && agent_id_in_map(map, old) ? old : 0;
}

int agent_id_pick(uid_t *uid, gid_t *gid, const char *home, struct err *e)
{
	static const char *const maps[] = {"/proc/self/uid_map", "/proc/self/gid_map"};
	struct stat st = {0};
	uint32_t random = 0;
	uid_t ids[2];

	*uid = geteuid();
	*gid = getegid();
	if (*uid != 0)
		return 0;
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return err_errno(e, "random bytes");
	if (home && lstat(home, &st) < 0 && errno != ENOENT)
		return err_errno(e, "stat \"%s\"", home);
	for (size_t i = 0; i < 2; i++) {
		struct str text;
		int ret = io_read_file(AT_FDCWD, maps[i], 65536, &text, e);

		if (ret < 0)
			return ret;
		ids[i] = agent_id_choose(text.p, random);
		if (ids[i] == 0)
			ret = err_set(e, -EPERM,
				      "%s maps no id but root: the agent would have to run as root",
				      maps[i]);
		else
			ids[i] = keep_id(text.p, i ? st.st_gid : st.st_uid, ids[i]);
		free((void *)(uintptr_t)text.p);
		if (ret < 0)
			return ret;
		if (ids[i] == 0)
			return err_set(e, -EPERM, "\"%s\" belongs to ids that are no bottle's",
				       home);
	}
	*uid = ids[0];
	*gid = ids[1];
	return 0;
}
