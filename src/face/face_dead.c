/*
 * A grant of a bottle that has ended is in force again when it is resumed. So it can be taken back
 * before: under the bottle's lock, which is what makes a keeper the store's only writer.
 */
#include "face/face_int.h"

#include "base/clean.h"
#include "requests/who.h"

#include <errno.h>
#include <time.h>

static int revoke_in(int dir, const char *slug, uint64_t id, const char *face, struct buf *said,
		     struct err *e)
{
	char who[STORE_WHO_MAX];
	struct store *s = NULL;
	int r;

	/* Not store_open() alone: it would make one for a bottle that never asked. */
	r = store_open_read(&s, dir, slug, e);
	if (r == -ENOENT)
		return err_set(e, r, "%s has never asked for anything", slug);
	if (r < 0)
		return r;
	store_close(s);
	r = store_open(&s, dir, slug, e);
	if (r < 0)
		return r;
	who_name(geteuid(), who);
	r = store_revoke(s, id, who, face, (uint64_t)time(NULL), e);
	store_close(s);
	return r < 0 ? r
		     : buf_printf(said, "grant %llu is revoked: it will not be there on resume",
				  (unsigned long long)id);
}

int face_revoke_dead(const char *slug, uint64_t id, const char *face, struct buf *said,
		     struct err *e)
{
	_cleanup_close_ int bottles = -1, dir = -1, lock = -1;
	int r = places_bottles_open(false, &bottles, e);

	if (r == 0)
		r = bottles_lock_dead(bottles, slug, &lock, e);
	if (r == 0)
		r = bottles_open(slug, &dir, e);
	return r < 0 ? r : revoke_in(dir, slug, id, face, said, e);
}
