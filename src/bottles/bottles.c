#include "bottles/bottles.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define STATE_JSON_MAX_BYTES (64u << 10)

static void clean_json_p(json_t **j)
{
	json_decref(*j);
}

bool bottles_is_ended(const struct bottles_entry *b)
{
	return !b->is_alive && strcmp(b->state, "ended") == 0;
}

static void copy_text(char *out, size_t size, const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	/* Our own file; but what a crash or an older version left there must not break a line. */
	text_visible_cstr(out, size, str_of(s ? s : ""));
}

static void load_json(int dir, struct bottles_entry *out)
{
	_cleanup_(clean_json_p) json_t *root = NULL;
	_cleanup_free_ char *text = NULL;
	struct str s = STR_NULL;
	const char *manifest;
	json_t *status;

	if (io_read_file(dir, "bottle.json", STATE_JSON_MAX_BYTES, &s, NULL) < 0)
		return;
	text = (char *)s.p;
	root = json_loadb(s.p, s.n, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(root))
		return;
	copy_text(out->agent, sizeof(out->agent), root, "agent");
	copy_text(out->bottle, sizeof(out->bottle), root, "bottle");
	copy_text(out->backend, sizeof(out->backend), root, "backend");
	copy_text(out->state, sizeof(out->state), root, "state");
	copy_text(out->started, sizeof(out->started), root, "started");
	manifest = json_string_value(json_object_get(root, "manifest"));
	if (!manifest || text_has_deceptive(str_of(manifest)) ||
	    !str_to_cstr(out->manifest, sizeof(out->manifest), str_of(manifest)))
		out->manifest[0] = '\0';
	out->is_supervised = json_is_true(json_object_get(root, "supervised"));
	out->pid = (pid_t)json_integer_value(json_object_get(root, "pid"));
	status = json_object_get(root, "exit_status");
	if (json_is_integer(status))
		out->exit_status = (int)json_integer_value(status);
}

/* Shared and not waiting: looking must never stop a keeper from taking its own lock for long. */
static bool is_locked(int dir)
{
	_cleanup_close_ int fd = openat(dir, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static int open_bottle(int bottles_dir, const char *slug, struct err *e)
{
	int fd;

	if (!places_slug_is_valid(slug))
		return err_set(e, -EINVAL, "not a bottle's name");
	fd = openat(bottles_dir, slug, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_errno(e, "open the state of %s", slug) : fd;
}

int bottles_load(int bottles_dir, const char *slug, struct bottles_entry *out, struct err *e)
{
	_cleanup_close_ int dir = open_bottle(bottles_dir, slug, e);

	if (dir < 0)
		return dir;
	*out = (struct bottles_entry){.exit_status = -1};
	(void)snprintf(out->slug, sizeof(out->slug), "%s", slug);
	out->is_alive = is_locked(dir);
	out->is_paused = faccessat(dir, BOTTLES_PAUSED, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	load_json(dir, out);
	return 0;
}

static int compare_started(const void *a, const void *b)
{
	const struct bottles_entry *x = a, *y = b;
	int r = strcmp(x->started, y->started);

	return r ? r : strcmp(x->slug, y->slug);
}

int bottles_list(struct bottles_entry **out, size_t *n, struct err *e)
{
	_cleanup_free_ struct bottles_entry *list = NULL;
	_cleanup_closedir_ DIR *dir = NULL;
	size_t count = 0, cap = 0;
	struct dirent *entry;
	int fd, r;

	*out = NULL;
	*n = 0;
	r = places_bottles_open(false, &fd, e);
	if (r == -ENOENT && fd < 0 && (!e || !e->code))
		return 0;
	if (r < 0)
		return r;
	dir = fdopendir(fd);
	if (!dir) {
		close_fd(&fd);
		return err_errno(e, "read the state folder");
	}
	while ((entry = readdir(dir)) && count < BOTTLES_MAX) {
		if (!places_slug_is_valid(entry->d_name))
			continue;
		list = mem_grow_array(list, &cap, count + 1, sizeof(*list));
		/* One that goes away meanwhile is no error. */
		if (bottles_load(dirfd(dir), entry->d_name, &list[count], NULL) == 0)
			count++;
	}
	if (count)
		qsort(list, count, sizeof(*list), compare_started);
	*out = take_ptr(&list);
	*n = count;
	return 0;
}

/* The index of the one that name means, or -errno. */
static int pick(const struct bottles_entry *list, size_t n, const char *name, struct err *e)
{
	size_t len = strlen(name), n_alive = 0, n_all = 0;
	int alive = -1, any = -1;
	char shown[128];

	text_visible_cstr(shown, sizeof(shown), str_of(name));
	for (size_t i = 0; i < n; i++) {
		if (strcmp(list[i].slug, name) == 0)
			return (int)i;
		if (len == 0 || strncmp(list[i].slug, name, len) != 0)
			continue;
		n_all++;
		any = (int)i;
		if (list[i].is_alive) {
			n_alive++;
			alive = (int)i;
		}
	}
	if (n_alive == 1)
		return alive;
	if (n_all == 1)
		return any;
	if (n_all > 1)
		return err_set(e, -EINVAL, "\"%s\" may mean %zu bottles, for example %s", shown,
			       n_alive ? n_alive : n_all, list[n_alive ? alive : any].slug);
	return err_set(e, -ENOENT, "no bottle \"%s\" (see \"claude-bottle list --all\")", shown);
}

int bottles_find(const char *name, struct bottles_entry *out, int *dir, struct err *e)
{
	_cleanup_free_ struct bottles_entry *list = NULL;
	_cleanup_close_ int bottles = -1;
	size_t n;
	int r;

	*dir = -1;
	r = bottles_list(&list, &n, e);
	if (r < 0)
		return r;
	r = pick(list, n, name, e);
	if (r < 0)
		return r;
	*out = list[r];
	r = places_bottles_open(false, &bottles, e);
	if (r < 0)
		return r;
	r = open_bottle(bottles, out->slug, e);
	if (r < 0)
		return r;
	*dir = r;
	return 0;
}

int bottles_open(const char *slug, int *dir, struct err *e)
{
	_cleanup_close_ int bottles = -1;
	int r = places_bottles_open(false, &bottles, e);

	*dir = -1;
	if (r < 0)
		return e && e->code ? r : err_set(e, r, "no bottle \"%s\"", slug);
	r = open_bottle(bottles, slug, e);
	if (r < 0)
		return r;
	*dir = r;
	return 0;
}

/* The lock must still be the folder's: between open and flock a cleanup may have removed it. */
static int lock_in(int dir, int operation, int *lock_fd, struct err *e)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	fd = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(e, "open the lock");
	if (flock(fd, operation) < 0)
		return errno == EWOULDBLOCK ? -EWOULDBLOCK : err_errno(e, "take the lock");
	if (fstat(fd, &st) < 0)
		return err_errno(e, "stat the lock");
	if (st.st_nlink == 0)
		return err_set(e, -ESTALE, "the state folder was removed");
	*lock_fd = take_fd(&fd);
	return 0;
}

int bottles_path(const char *slug, char path[PLACES_PATH_MAX], struct err *e)
{
	char root[PLACES_PATH_MAX];
	int r = places_bottles_path(root, e), n;

	if (r < 0)
		return r;
	n = snprintf(path, PLACES_PATH_MAX, "%s/%s", root, slug);
	if (n < 0 || n >= PLACES_PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "the state folder's path is too long");
	return 0;
}

int bottles_create(const char *slug, char path[PLACES_PATH_MAX], int *lock_fd, struct err *e)
{
	_cleanup_close_ int bottles = -1, dir = -1;
	int r;

	*lock_fd = -1;
	if (!places_slug_is_valid(slug))
		return err_set(e, -EINVAL, "not a bottle's name: \"%s\"", slug);
	r = places_bottles_open(true, &bottles, e);
	if (r < 0)
		return r;
	r = bottles_path(slug, path, e);
	if (r < 0)
		return r;
	if (mkdirat(bottles, slug, 0700) < 0)
		return err_errno(e, "make %s", path);
	dir = open_bottle(bottles, slug, e);
	if (dir < 0)
		return dir;
	return lock_in(dir, LOCK_EX, lock_fd, e);
}

int bottles_lock_dead(int bottles_dir, const char *slug, int *lock_fd, struct err *e)
{
	_cleanup_close_ int dir = open_bottle(bottles_dir, slug, e);

	*lock_fd = -1;
	return dir < 0 ? dir : lock_in(dir, LOCK_EX | LOCK_NB, lock_fd, e);
}

int bottles_connect(int dir, const char *slug, int *sock, struct err *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;

	*sock = -1;
	/* By descriptor: a state folder's path may be longer than a socket address. */
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/control.sock",
		       dir);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(e, "make a socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			return err_set(e, -errno,
				       "%s is not running (\"claude-bottle resume %s\" starts it "
				       "again)",
				       slug, slug);
		return err_errno(e, "connect to %s", slug);
	}
	*sock = take_fd(&fd);
	return 0;
}

int bottles_json(struct buf *out, const struct bottles_entry *b)
{
	const struct {
		const char *key, *value;
	} texts[] = {{"agent", b->agent},
		     {"bottle", b->bottle},
		     {"backend", b->backend},
		     {"state", b->state},
		     {"started", b->started}};
	int r = buf_printf(out, "{\"slug\":\"%s\",\"alive\":%s,\"supervised\":%s,\"paused\":%s",
			   b->slug, b->is_alive ? "true" : "false",
			   b->is_supervised ? "true" : "false", b->is_paused ? "true" : "false");

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(texts); i++) {
		r = buf_printf(out, ",\"%s\":", texts[i].key);
		if (r == 0)
			r = text_json(out, str_of(texts[i].value));
	}
	if (r == 0)
		r = buf_printf(out, ",\"pid\":%d,\"exit_status\":", (int)b->pid);
	if (r == 0)
		r = b->exit_status < 0 ? buf_append_str(out, STR_LIT("null"))
				       : buf_printf(out, "%d", b->exit_status);
	return r == 0 ? buf_append_str(out, STR_LIT("}")) : r;
}
