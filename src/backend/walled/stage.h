/*
 * As root only. The uid of whoever is started in a wall cannot walk into root's folders, and must
 * not be able to; so the child that becomes it binds what it is to see into a folder that it can
 * walk, in a mount namespace of its own, while it is still root.
 *
 * A workspace is bound with its ids mapped: what belongs to its owner on disk is the agent's there,
 * and what the agent makes belongs to the owner on disk. A device is made anew, for that uid alone:
 * whom the host's own lets in is nobody's business here.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

struct stage_item {
	char *from, *to;
	bool is_mapped, is_device;
};

struct stage {
	bool is_needed; /* else stage_add() gives paths back as they are */
	struct stage_item *items;
	size_t n, cap;
	/* of what is mapped, on disk; and the agent's, or whoever's else a device is for */
	uid_t disk_uid, uid;
	gid_t disk_gid, gid;
};

/* The path under which stage_make() will bind `from`; known before, since the command line names
 * it. The stage's own, or from itself when no stage is needed; NULL for NULL. */
const char *stage_add(struct stage *s, const char *from, bool is_mapped);
const char *stage_add_device(struct stage *s, const char *from);
/* In the child: a new mount namespace with the binds in it. */
int stage_make(const struct stage *s, struct err *e) _fallible_;
void stage_free(struct stage *s);
