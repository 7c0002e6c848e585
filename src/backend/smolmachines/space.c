/*
 * What the tool's home takes on this host's disk. Whoever is in the cell writes there what they
 * like, and a limit of a process counts no files. What has no name any more, but is open, is not
 * seen.
 */
#include "backend/smolmachines/smol_int.h"

#include "base/clean.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPACE_DEPTH_MAX	  64
#define SPACE_ENTRIES_MAX (1u << 20)
#define SPACE_BLOCK	  512 /* of st_blocks */

struct space {
	uint64_t max, used;
	unsigned n_entries;
};

static bool is_full(const struct space *s)
{
	return s->used > s->max;
}

/* Attack: what cannot be looked at, or only with an effort, so that it is not counted. */
static void fill(struct space *s)
{
	s->used = UINT64_MAX;
}

static void add_folder(struct space *s, int parent, const char *name, unsigned depth);

static void add_entry(struct space *s, int folder, const char *name, unsigned depth)
{
	struct stat st;

	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		/* It may have gone by now. */
		if (errno != ENOENT)
			fill(s);
		return;
	}
	s->used += (uint64_t)st.st_blocks * SPACE_BLOCK;
	if (++s->n_entries > SPACE_ENTRIES_MAX)
		fill(s);
	else if (S_ISDIR(st.st_mode))
		add_folder(s, folder, name, depth + 1);
}

static void add_folder(struct space *s, int parent, const char *name, unsigned depth)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_closedir_ DIR *list = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;

	if (!list && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
		return;
	if (!list || depth > SPACE_DEPTH_MAX) {
		if (!list && fd >= 0)
			(void)close(fd);
		fill(s);
		return;
	}
	while (!is_full(s) && (d = readdir(list))) {
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			add_entry(s, fd, d->d_name, depth);
	}
}

bool smol_space_is_past(const char *folder, uint64_t max_bytes)
{
	struct space s = {.max = max_bytes};

	add_folder(&s, AT_FDCWD, folder, 0);
	return is_full(&s);
}
