/*
 * Looking through another process's memory: what is there, and no more. A machine's memory is large
 * and mostly never touched; reading a hole of it would make the page.
 */
#include "selftest/processes.h"

#include "base/clean.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define CHUNK_PAGES 2048
#define PAGE_IS_IN  (UINT64_C(1) << 63)

struct memory {
	int mem, pagemap;
	size_t page_bytes;
	char *data; /* of CHUNK_PAGES, and what the last one ended with */
	struct str wanted;
};

/* One run of pages that are there. keep: bytes at the start of data that belong right before. */
static bool search_run(struct memory *m, uint64_t from, size_t pages, size_t *keep)
{
	ssize_t n = pread(m->mem, m->data + *keep, pages * m->page_bytes, (off_t)from);
	struct str all = str_slice(m->data, *keep + (n > 0 ? (size_t)n : 0));
	size_t tail = m->wanted.n - 1 < all.n ? m->wanted.n - 1 : all.n;

	if (str_find(all, m->wanted) < all.n)
		return true;
	memmove(m->data, m->data + all.n - tail, tail);
	*keep = n > 0 ? tail : 0;
	return false;
}

static bool search_mapping(struct memory *m, uint64_t from, uint64_t to)
{
	static uint64_t map[CHUNK_PAGES];
	size_t keep = 0;

	while (from < to) {
		size_t pages = (to - from) / m->page_bytes, got, i = 0;
		ssize_t n;

		if (pages > CHUNK_PAGES)
			pages = CHUNK_PAGES;
		n = pread(m->pagemap, map, pages * sizeof(*map),
			  (off_t)(from / m->page_bytes * sizeof(*map)));
		got = n > 0 ? (size_t)n / sizeof(*map) : 0;
		while (i < got) {
			size_t end = i;

			while (end < got && map[end] & PAGE_IS_IN)
				end++;
			if (end == i) {
				keep = 0;
				i++;
				continue;
			}
			if (search_run(m, from + i * m->page_bytes, end - i, &keep))
				return true;
			i = end;
		}
		if (got == 0)
			return false;
		from += got * m->page_bytes;
	}
	return false;
}

int processes_has_in_memory(pid_t pid, struct str text, char *what, size_t size)
{
	_cleanup_free_ char *maps = mem_printf("/proc/%d/maps", (int)pid),
			    *mem = mem_printf("/proc/%d/mem", (int)pid),
			    *pagemap = mem_printf("/proc/%d/pagemap", (int)pid);
	_cleanup_fclose_ FILE *f = fopen(maps, "re");
	_cleanup_close_ int mem_fd = open(mem, O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int map_fd = open(pagemap, O_RDONLY | O_CLOEXEC);
	struct memory m = {.mem = mem_fd, .pagemap = map_fd, .wanted = text};
	_cleanup_free_ char *data = NULL;
	char line[512], mode[8];
	int found = 0;

	if (!f || mem_fd < 0 || map_fd < 0 || text.n == 0)
		return -1;
	m.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	data = mem_zalloc(CHUNK_PAGES * m.page_bytes + text.n);
	m.data = data;
	while (found == 0 && fgets(line, sizeof(line), f)) {
		unsigned long from, to;

		/* What is only readable came from a file. */
		if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) == 3 && mode[0] == 'r' &&
		    mode[1] == 'w')
			found = search_mapping(&m, from, to);
	}
	if (found)
		(void)snprintf(what, size, "in the memory of process %d", (int)pid);
	return found;
}
