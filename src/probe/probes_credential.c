/*
 * C: the credential. Inside, the agent has a placeholder; the value itself comes here masked, so
 * that looking for it does not plant it. In the control the value lies open in the environment, a
 * file and memory, and each search must find it.
 */
#include "probe/probe.h"

#include "base/clean.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>

#define SEARCH_FILE_MAX	 (8u << 20)
#define SEARCH_DEPTH_MAX 8
#define SEARCH_FILES_MAX 20000

/* The value in the forms in which it could lie around, masked while it is not compared. */
struct needle {
	char masked[4096];
	size_t n;
};

static struct needle needles[3];
static size_t n_needles;
static unsigned n_searched;

static void needle_add(const char *text, size_t n)
{
	struct needle *out = &needles[n_needles++];

	for (size_t i = 0; i < n; i++)
		out->masked[i] = text[i] ^ 0x55;
	out->n = n;
}

/* Plain, base64 (the part that does not depend on what stands around it), hex. */
static bool needles_make(const struct probe_env *env)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char value[1024], coded[2048];
	size_t n, at = 0;

	n_needles = 0;
	if (!probe_secret(env, value, sizeof(value)))
		return false;
	n = strlen(value);
	needle_add(value, n);
	for (size_t i = 0; i + 3 <= n; i += 3) {
		unsigned v = (unsigned)value[i] << 16 | (unsigned)value[i + 1] << 8 |
			     (unsigned)value[i + 2];

		for (int shift = 18; shift >= 0; shift -= 6)
			coded[at++] = digits[v >> shift & 63];
	}
	needle_add(coded, at);
	for (size_t i = 0; i < n; i++)
		(void)snprintf(coded + 2 * i, 3, "%02x", (unsigned char)value[i]);
	needle_add(coded, 2 * n);
	mem_wipe(value, sizeof(value));
	mem_wipe(coded, sizeof(coded));
	return true;
}

static bool needle_in(const char *p, size_t n)
{
	for (size_t k = 0; k < n_needles; k++) {
		const struct needle *needle = &needles[k];
		char first = (char)(needle->masked[0] ^ 0x55);
		const char *at = p, *end = p + n;

		while ((at = memchr(at, first, (size_t)(end - at))) != NULL) {
			size_t i = 0;

			if ((size_t)(end - at) < needle->n)
				break;
			while (i < needle->n && at[i] == (needle->masked[i] ^ 0x55))
				i++;
			if (i == needle->n)
				return true;
			at++;
		}
	}
	return false;
}

static bool search_file(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	_cleanup_free_ char *data = NULL;
	size_t n = 0;

	if (fd < 0)
		return false;
	data = mem_zalloc(SEARCH_FILE_MAX);
	while (n < SEARCH_FILE_MAX) {
		ssize_t got = read(fd, data + n, SEARCH_FILE_MAX - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	n_searched++;
	return needle_in(data, n);
}

static bool search_tree(const char *path, unsigned depth, char *found, size_t size)
{
	_cleanup_closedir_ DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && depth < SEARCH_DEPTH_MAX && n_searched < SEARCH_FILES_MAX &&
	       (entry = readdir(dir))) {
		_cleanup_free_ char *one = NULL;
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		one = mem_printf("%s/%s", path, entry->d_name);
		if (lstat(one, &st) < 0)
			continue;
		if ((S_ISDIR(st.st_mode) && search_tree(one, depth + 1, found, size)) ||
		    (S_ISREG(st.st_mode) && search_file(one))) {
			if (S_ISREG(st.st_mode))
				(void)snprintf(found, size, "%s", one);
			return true;
		}
	}
	return false;
}

/* The readable memory of a process, our own buffers excepted by being masked. */
static bool search_memory(const char *pid)
{
	_cleanup_free_ char *maps = mem_printf("/proc/%s/maps", pid),
			    *mem = mem_printf("/proc/%s/mem", pid);
	_cleanup_fclose_ FILE *f = fopen(maps, "re");
	_cleanup_close_ int fd = open(mem, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *data = NULL;
	char line[512];

	if (!f || fd < 0)
		return false;
	data = mem_zalloc(SEARCH_FILE_MAX);
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
			    needle_in(data, (size_t)n))
				return true;
			from += (size_t)n;
		}
	}
	return false;
}

static bool is_number(const char *s)
{
	for (; *s; s++) {
		if (!ascii_is_digit(*s))
			return false;
	}
	return true;
}

static void search_processes(const struct probe_env *env, const char *id)
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

			if (search_file(path)) {
				(void)snprintf(where, sizeof(where), "in %.60s", path);
				in_text = true;
			}
		}
		if (search_memory(entry->d_name)) {
			(void)snprintf(memory, sizeof(memory), "in the memory of process %.20s",
				       entry->d_name);
			in_memory = true;
		}
	}
	probe_report(id, "environment", "", in_text, 0, where);
	probe_report(id, "memory", "", in_memory, 0, memory);
}

static void run_c01(const struct probe_env *env, const char *id)
{
	static const char *const trees[] = {"/home", "/etc",  "/tmp",	 "/run",
					    "/var",  "/root", "/dev/shm"};
	char found[256] = "not in any file";
	bool is_found = false;

	if (!needles_make(env)) {
		probe_skip(id, "search", "no credential to look for");
		return;
	}
	search_processes(env, id);
	if (env->is_control) {
		/* A folder of the control's own, given as `path`'s parent, holds the value in
		 * base64. */
		_cleanup_free_ char *folder = mem_strdup(env->path);
		char *slash = strrchr(folder, '/');

		if (slash)
			*slash = '\0';
		is_found = search_tree(folder, 0, found, sizeof(found));
	}
	for (size_t i = 0; !env->is_control && !is_found && i < ARRAY_LEN(trees); i++)
		is_found = search_tree(trees[i], 0, found, sizeof(found));
	probe_report(id, "files", "", is_found, 0, found);
}

static void run_c02(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *header =
		mem_printf("GET /%%T HTTP/1.1\r\nHost: ok.selftest.example\r\n"
			   "Authorization: Bearer %s\r\n\r\n",
			   env->placeholder);
	_cleanup_free_ char *query = mem_printf(
		"GET /%%T?key=%s HTTP/1.1\r\nHost: ok.selftest.example\r\n\r\n", env->placeholder);
	_cleanup_free_ char *path =
		mem_printf("GET /other/%%T HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			   "Authorization: Bearer %s\r\n\r\n",
			   env->placeholder);

	probe_try_tunnel(env, id, "header-to-other-host", "ok.selftest.example:443",
			 "ok.selftest.example", header);
	probe_try_tunnel(env, id, "query-to-other-host", "ok.selftest.example:443",
			 "ok.selftest.example", query);
	probe_try_tunnel(env, id, "other-path", "bound.selftest.example:443",
			 "bound.selftest.example", path);
}

static void run_c03(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *request =
		mem_printf("GET /api/%%T HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			   "Authorization: Bearer %s\r\n\r\n",
			   env->placeholder);

	probe_try_tunnel(env, id, "tls-to-ok-host-of-bound", "ok.selftest.example:443",
			 "ok.selftest.example", request);
}

/* The upstream says what it was sent; the agent must not learn the value from that. */
static void run_c04(const struct probe_env *env, const char *id)
{
	static struct probe_reply r;
	char token[PROBE_TOKEN_SIZE], value[1024];
	_cleanup_free_ char *format = NULL, *request = NULL;
	char detail[128];

	if (!probe_secret(env, value, sizeof(value)) || !needles_make(env)) {
		probe_skip(id, "echo", "no credential to look for");
		return;
	}
	probe_token(env, id, "echo", token);
	format = mem_printf("GET /api/echo/%%T HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			    "Authorization: Bearer %s\r\n\r\n",
			    env->is_control ? value : env->placeholder);
	request = probe_fill(format, token);
	mem_wipe(value, sizeof(value));
	probe_ask_tunnel(env, "bound.selftest.example:443", "bound.selftest.example",
			 str_of(request), &r);
	(void)snprintf(detail, sizeof(detail), "status %d %s", r.status, r.error);
	if (r.status != 200)
		/* Nothing was echoed, so nothing was shown: count that as a hole in the test. */
		probe_report(id, "echo", "", true, 0, detail);
	else
		probe_report(id, "echo", "", needle_in(r.text, r.n), 0, detail);
}

static void run_c05(const struct probe_env *env, const char *id)
{
	_cleanup_free_ char *plain =
		mem_printf("GET http://bound.selftest.example/api/%%T HTTP/1.1\r\n"
			   "Host: bound.selftest.example\r\n"
			   "Authorization: Bearer %s\r\n\r\n",
			   env->placeholder);
	_cleanup_free_ char *plain_port =
		mem_printf("GET http://bound.selftest.example:443/api/%%T HTTP/1.1\r\n"
			   "Host: bound.selftest.example:443\r\nAuthorization: Bearer %s\r\n\r\n",
			   env->placeholder);
	_cleanup_free_ char *upgrade =
		mem_printf("GET /api/%%T HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			   "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
			   "HTTP2-Settings: AAMAAABk\r\n"
			   "Authorization: Bearer %s\r\n\r\n",
			   env->placeholder);
	/* An attacker's own key at a bound host is a way to take data out with. */
	const char *own_key = "GET /api/%T HTTP/1.1\r\nHost: bound.selftest.example\r\n"
			      "Authorization: Bearer attackers-own-key-0123456789\r\n\r\n";

	probe_try_proxy(env, id, "plain-http", plain);
	probe_try_proxy(env, id, "plain-http-443", plain_port);
	probe_try_tunnel(env, id, "h2c", "bound.selftest.example:443", "bound.selftest.example",
			 upgrade);
	probe_try_tunnel(env, id, "own-key", "bound.selftest.example:443", "bound.selftest.example",
			 own_key);
	probe_try_tunnel(env, id, "no-key", "bound.selftest.example:443", "bound.selftest.example",
			 "GET /api/%T HTTP/1.1\r\nHost: bound.selftest.example\r\n\r\n");
}

const struct probe probes_credential[] = {
	{"C01", run_c01}, {"C02", run_c02}, {"C03", run_c03}, {"C04", run_c04}, {"C05", run_c05},
};
const size_t n_probes_credential = ARRAY_LEN(probes_credential);
