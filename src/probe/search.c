#include "probe/search.h"

#include "base/clean.h"
#include "base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define SEARCH_FILE_MAX	 (8u << 20)
#define SEARCH_DEPTH_MAX 8
#define SEARCH_FILES_MAX 20000

static bool search_file(struct search *s, const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	size_t n = 0;

	if (fd < 0)
		return false;
	while (n < SEARCH_FILE_MAX) {
		ssize_t got = read(fd, s->data + n, SEARCH_FILE_MAX - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	s->n_files++;
	return s->has(s->data, n, s->ctx);
}

static bool search_tree(struct search *s, const char *path, unsigned depth, char *found,
			size_t size)
{
	_cleanup_closedir_ DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && depth < SEARCH_DEPTH_MAX && s->n_files < SEARCH_FILES_MAX &&
	       (entry = readdir(dir))) {
		_cleanup_free_ char *one = NULL;
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		one = mem_printf("%s/%s", path, entry->d_name);
		if (lstat(one, &st) < 0)
			continue;
		if ((S_ISDIR(st.st_mode) && search_tree(s, one, depth + 1, found, size)) ||
		    (S_ISREG(st.st_mode) && search_file(s, one))) {
			if (S_ISREG(st.st_mode))
				(void)snprintf(found, size, "%s", one);
			return true;
		}
	}
	return false;
}

/* The writable memory of a process: what is only readable came from a file. */
static bool search_memory(struct search *s, const char *pid)
{
	_cleanup_free_ char *maps = mem_printf("/proc/%s/maps", pid),
			    *mem = mem_printf("/proc/%s/mem", pid);
	_cleanup_fclose_ FILE *f = fopen(maps, "re");
	_cleanup_close_ int fd = open(mem, O_RDONLY | O_CLOEXEC);
	char *data = s->data;
	char line[512];

	if (!f || fd < 0)
		return false;
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;
		char mode[8];

		if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) != 3 || mode[0] != 'r' ||
		    mode[1] != 'w')
			continue;
		while (from < to) {
			size_t want = to - from > SEARCH_FILE_MAX ? SEARCH_FILE_MAX : to - from;
			ssize_t n = pread(fd, data, want, (off_t)from);

			/* What is looked through must not be found in the looking glass. */
			if (n <= 0)
				break;
			if (!((uintptr_t)data >= from && (uintptr_t)data < from + want) &&
			    s->has(data, (size_t)n, s->ctx))
				return true;
			from += (size_t)n;
		}
	}
	return false;
}

static bool is_number(const char *text)
{
	for (; *text; text++) {
		if (!ascii_is_digit(*text))
			return false;
	}
	return true;
}

static void search_processes(const struct probe_env *env, const char *id, struct search *s)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc");
	char where[96] = "not in any process's environment or arguments",
	     memory[96] = "not in memory";
	bool in_text = false, in_memory = false;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		static const char *const files[] = {"environ", "cmdline"};
		bool is_self = strcmp(entry->d_name, "self") == 0;

		/* Outside there are processes of others: only this one is looked at. */
		if (env->is_control ? !is_self : !is_number(entry->d_name))
			continue;
		for (size_t i = 0; i < ARRAY_LEN(files); i++) {
			_cleanup_free_ char *path =
				mem_printf("/proc/%s/%s", entry->d_name, files[i]);

			if (search_file(s, path)) {
				(void)snprintf(where, sizeof(where), "in %.60s", path);
				in_text = true;
			}
		}
		if (search_memory(s, entry->d_name)) {
			(void)snprintf(memory, sizeof(memory), "in the memory of process %.20s",
				       entry->d_name);
			in_memory = true;
		}
	}
	probe_report(id, "environment", "", in_text, 0, where);
	probe_report(id, "memory", "", in_memory, 0, memory);
}

void search_all(const struct probe_env *env, const char *id, struct search *s)
{
	static const char *const trees[] = {"/home", "/etc",  "/tmp",	 "/run",
					    "/var",  "/root", "/dev/shm"};
	_cleanup_free_ char *data = mem_zalloc(SEARCH_FILE_MAX);
	char found[256] = "not in any file";
	bool is_found = false;

	s->data = data;
	search_processes(env, id, s);
	if (env->is_control) {
		/* The folder of the canary's socket. */
		_cleanup_free_ char *folder = mem_strdup(env->path);
		char *slash = strrchr(folder, '/');

		if (slash)
			*slash = '\0';
		is_found = search_tree(s, folder, 0, found, sizeof(found));
	}
	for (size_t i = 0; !env->is_control && !is_found && i < ARRAY_LEN(trees); i++)
		is_found = search_tree(s, trees[i], 0, found, sizeof(found));
	probe_report(id, "files", "", is_found, 0, found);
}
