/*
 * Theory of operation. One walk with openat() and no link followed; what may matter later is kept
 * with all by which a change can be seen. Where a link leads is asked of the kernel
 * (RESOLVE_BENEATH), which does the whole chain. The walk ends at a number of entries, a depth or a
 * time, whichever comes first: an agent can make any folder too large to look at.
 */
#include "workspace/inventory.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "conf/risky_path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/syscall.h>

/* A file with several names. */
struct walk_shared {
	uint64_t ino, n_names, n_seen;
	char *path;
	mode_t mode;
};

#define SHARED_MAX 4096 /* each is compared with each */

struct walk {
	uint64_t since_ns;
	struct walk_shared *shared;
	size_t n_shared, cap_shared;
	struct inventory *out;
	int root;
	dev_t dev;
	const char *root_path;
	uint64_t end_ns;
	size_t n_entries;
	char path[PATH_MAX]; /* of the entry at hand, below the root */
};

static void item_free(struct inventory_item *i)
{
	free(i->path);
	*i = (struct inventory_item){0};
}

void inventory_free(struct inventory *v)
{
	for (size_t i = 0; i < v->n; i++)
		item_free(&v->items[i]);
	free(v->items);
	*v = (struct inventory){0};
}

static struct inventory_item *inventory_add(struct inventory *v)
{
	v->items = mem_grow_array(v->items, &v->cap, v->n + 1, sizeof(*v->items));
	return &v->items[v->n++];
}

/* --- what an entry is --- */

static void hash_text(char out[INVENTORY_HASH_SIZE], const void *data, size_t n)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;

	out[0] = '\0';
	if (EVP_Digest(n ? data : "", n, digest, &length, EVP_sha256(), NULL) == 1 && length == 32)
		text_hex(out, digest, length);
}

static void hash_file(int dir, const char *name, char out[INVENTORY_HASH_SIZE])
{
	_cleanup_close_ int fd =
		openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct str text;
	struct stat st;

	out[0] = '\0';
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    io_read_all(fd, INVENTORY_HASHED_MAX, &text, NULL) < 0)
		return;
	hash_text(out, text.p, text.n);
	free((void *)(uintptr_t)text.p);
}

static bool leads_out(const struct walk *w, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	_cleanup_close_ int fd = (int)syscall(SYS_openat2, w->root, path, &how, sizeof(how));

	/* What does not exist but would lie inside is no way out. */
	return fd < 0 && (errno == EXDEV || errno == ELOOP);
}

/* An absolute link is one that leads out, unless it names the folder itself. */
static bool link_leaves(const struct walk *w, int dir, const char *name,
			char hash[INVENTORY_HASH_SIZE])
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
	size_t length = strlen(w->root_path);

	if (n < 0)
		return true;
	target[n] = '\0';
	hash_text(hash, target, (size_t)n);
	if (target[0] != '/')
		return leads_out(w, w->path);
	if (strncmp(target, w->root_path, length) != 0 ||
	    (target[length] != '/' && target[length] != '\0'))
		return true;
	while (target[length] == '/')
		length++;
	return target[length] != '\0' && leads_out(w, target + length);
}

static bool name_deceives(const char *name)
{
	return name[0] == '-' || name[strlen(name) - 1] == ' ' || text_has_deceptive(str_of(name));
}

static bool has_folder(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* A `.git` of any kind in any letter case; or what git takes for a bare repository. */
static bool is_repository(int dir, const char *name, const struct stat *st)
{
	if (str_ieq(str_of(name), STR_LIT(".git")))
		return true;
	return strcmp(name, "HEAD") == 0 && !S_ISDIR(st->st_mode) && has_folder(dir, "objects") &&
	       has_folder(dir, "refs");
}

/* What follows the outermost folder of a version control system in path; empty when there is none,
 * or it ends there. */
static struct str below_repository(const char *path)
{
	static const struct str folders[] = {{".git", 4}, {".hg", 3}, {".svn", 4}, {".jj", 3}};
	struct str rest = str_of(path), segment;
	bool more = true;

	while (more) {
		rest = str_cut(rest, '/', &segment, &more);
		for (size_t i = 0; more && i < ARRAY_LEN(folders); i++)
			if (str_ieq(segment, folders[i]))
				return rest;
	}
	return STR_NULL;
}

/* Of a repository: what is obeyed. Its objects, index and logs come and go. */
static bool is_obeyed(struct str below)
{
	bool is_hook = str_istarts(below, STR_LIT("hooks/")) ||
		       str_find(below, STR_LIT("/hooks/")) < below.n;
	size_t slash = below.n;

	while (slash > 0 && below.p[slash - 1] != '/')
		slash--;
	below = str_sub(below, slash, below.n);
	return (is_hook && !str_ends(below, STR_LIT(".sample"))) ||
	       str_istarts(below, STR_LIT("config")) || str_ieq(below, STR_LIT("commondir")) ||
	       str_ieq(below, STR_LIT("attributes")) || str_ieq(below, STR_LIT("hgrc"));
}

/* Files of packages that a build will fetch again are not looked at one by one. */
static bool is_fetched(const char *path)
{
	return str_find(str_of(path), STR_LIT("node_modules/")) < strlen(path);
}

static uint64_t ns_of(struct timespec t)
{
	return (uint64_t)t.tv_sec * TIME_NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static void walk_look(struct walk *w, int dir, const char *name, const struct stat *st)
{
	const char *what = NULL;
	unsigned risk = risky_path_find(str_of(w->path), &what);
	struct inventory_item i = {.risk = risk, .mode = st->st_mode};
	struct str below = below_repository(w->path);

	if (below.n && !is_obeyed(below))
		risk = 0;
	if (risk & ~RISKY_BUILD || (risk && !is_fetched(w->path)))
		i.kinds |= INVENTORY_RISKY;
	if (S_ISLNK(st->st_mode) && link_leaves(w, dir, name, i.hash))
		i.kinds |= INVENTORY_LINK_OUT;
	if (S_ISREG(st->st_mode) && st->st_mode & (S_ISUID | S_ISGID))
		i.kinds |= INVENTORY_SETID;
	if (is_repository(dir, name, st))
		i.kinds |= INVENTORY_REPOSITORY;
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode) && !S_ISLNK(st->st_mode))
		i.kinds |= INVENTORY_SPECIAL;
	if (name_deceives(name))
		i.kinds |= INVENTORY_NAME;
	/* A folder is there for what is in it, which is looked at too. */
	if (S_ISDIR(st->st_mode) && i.kinds == INVENTORY_RISKY)
		return;
	if (!i.kinds)
		return;
	if (w->out->n >= INVENTORY_ITEMS_MAX) {
		w->out->was_cut = true;
		return;
	}
	if (S_ISREG(st->st_mode)) {
		i.size = (uint64_t)st->st_size;
		i.mtime_ns = ns_of(st->st_mtim);
		hash_file(dir, name, i.hash);
	}
	i.what = what;
	i.path = mem_strdup(w->path);
	*inventory_add(w->out) = i;
}

/* --- names elsewhere --- */

/* Attack: a file that was linked from a store before the start (as package managers do) is written
 * to, and with it what other projects execute. The time of change is nobody's to set. */
static void walk_share(struct walk *w, const struct stat *st)
{
	if (w->since_ns == 0 || !S_ISREG(st->st_mode) || st->st_nlink < 2 ||
	    ns_of(st->st_ctim) < w->since_ns)
		return;
	for (size_t i = 0; i < w->n_shared; i++) {
		if (w->shared[i].ino == st->st_ino) {
			w->shared[i].n_seen++;
			return;
		}
	}
	if (w->n_shared == SHARED_MAX) {
		w->out->was_cut = true;
		return;
	}
	w->shared = mem_grow_array(w->shared, &w->cap_shared, w->n_shared + 1, sizeof(*w->shared));
	w->shared[w->n_shared++] =
		(struct walk_shared){st->st_ino, st->st_nlink, 1, mem_strdup(w->path), st->st_mode};
}

/* Those of which not every name was met. */
static void walk_tell_shared(struct walk *w)
{
	for (size_t i = 0; i < w->n_shared; i++) {
		struct walk_shared *s = &w->shared[i];

		if (s->n_seen < s->n_names && w->out->n < INVENTORY_ITEMS_MAX)
			*inventory_add(w->out) = (struct inventory_item){.path = take_ptr(&s->path),
									 .kinds = INVENTORY_SHARED,
									 .mode = s->mode};
		free(s->path);
	}
	free(w->shared);
}

/* --- the walk --- */

/* Where a repository keeps its many small files, of which none is obeyed. */
static bool is_store(const char *path, const char *name)
{
	return below_repository(path).n &&
	       (strcmp(name, "objects") == 0 || strcmp(name, "lfs") == 0 ||
		strcmp(name, "store") == 0 || strcmp(name, "pristine") == 0);
}

static void walk_folder(struct walk *w, int fd, size_t length, unsigned depth);

static void walk_enter(struct walk *w, int dir, const char *name, size_t length, unsigned depth)
{
	int fd;

	if (depth >= INVENTORY_DEPTH_MAX) {
		w->out->was_cut = true;
		return;
	}
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		walk_folder(w, fd, length, depth + 1);
	else
		w->out->was_cut = true; /* it has closed it to us */
}

static void walk_entry(struct walk *w, int dir, const char *name, size_t at, unsigned depth)
{
	size_t n = strlen(name);
	struct stat st;

	if (at + n + 2 > sizeof(w->path)) {
		w->out->was_cut = true;
		return;
	}
	memcpy(w->path + at, name, n + 1);
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	/* The top's own repository is not in the bottle. */
	if (depth == 0 && strcmp(name, ".git") == 0)
		return;
	walk_share(w, &st);
	walk_look(w, dir, name, &st);
	if (is_store(w->path, name))
		return;
	if (S_ISDIR(st.st_mode) && st.st_dev == w->dev) {
		w->path[at + n] = '/';
		w->path[at + n + 1] = '\0';
		walk_enter(w, dir, name, at + n + 1, depth);
	}
}

/* Closes fd. length: of the folder's path with its "/". */
static void walk_folder(struct walk *w, int fd, size_t length, unsigned depth)
{
	_cleanup_closedir_ DIR *dir = fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		(void)close(fd);
		return;
	}
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (++w->n_entries > INVENTORY_ENTRIES_MAX ||
		    (w->n_entries % 256 == 0 && time_monotonic_ns() > w->end_ns)) {
			w->out->was_cut = true;
			return;
		}
		walk_entry(w, dirfd(dir), entry->d_name, length, depth);
	}
}

/* A path may be there twice: as what it is, and then as shared. */
static int compare_path(const void *a, const void *b)
{
	const struct inventory_item *x = a, *y = b;
	int order = strcmp(x->path, y->path);

	return order ? order : (x->kinds > y->kinds) - (x->kinds < y->kinds);
}

int inventory_take(struct inventory *out, int root_fd, const char *path, uint64_t since_ns,
		   unsigned timeout_ms, struct err *e)
{
	struct walk *w = mem_zalloc(sizeof(*w));
	int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	*out = (struct inventory){.taken_ns = time_realtime_ns()};
	if (fd < 0 || fstat(fd, &st) < 0) {
		free(w);
		return err_errno(e, "look at \"%s\"", path);
	}
	*w = (struct walk){.out = out,
			   .root = root_fd,
			   .dev = st.st_dev,
			   .root_path = path,
			   .since_ns = since_ns,
			   .end_ns = time_monotonic_ns() + timeout_ms * TIME_NS_PER_MS};
	walk_folder(w, fd, 0, 0);
	walk_tell_shared(w);
	free(w);
	if (out->n)
		qsort(out->items, out->n, sizeof(*out->items), compare_path);
	return 0;
}

/* --- comparing --- */

const char *inventory_change_name(enum inventory_change c)
{
	static const char *const names[] = {"created", "changed", "deleted"};

	return names[c];
}

static const struct {
	unsigned kind;
	const char *name, *why;
} kinds[] = {
	/* the order of the report */
	{INVENTORY_SETID, "set-id", "runs as its owner, whoever starts it"},
	{INVENTORY_REPOSITORY, "repository",
	 "git obeys its configuration and hooks when it is run there"},
	{INVENTORY_SHARED, "shared",
	 "is another file outside of the folder as well, changed with it"},
	{INVENTORY_RISKY, "risky", NULL},
	{INVENTORY_LINK_OUT, "link",
	 "leads out of the folder: what writes or reads through it reaches elsewhere"},
	{INVENTORY_SPECIAL, "special", "a device, pipe or socket: what opens it may wait for ever"},
	{INVENTORY_NAME, "name", "its name does not show what it is"},
};

static size_t kind_of(const struct inventory_item *i)
{
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
		if (i->kinds & kinds[k].kind)
			return k;
	return ARRAY_LEN(kinds) - 1;
}

const char *inventory_kind_name(const struct inventory_item *i)
{
	return kinds[kind_of(i)].name;
}

const char *inventory_why(const struct inventory_item *i)
{
	size_t k = kind_of(i);

	if (kinds[k].why)
		return kinds[k].why;
	if (i->what)
		return i->what;
	return i->risk & RISKY_HOST ? "runs or is obeyed on the host without being asked"
	       : i->risk & RISKY_CI ? "runs on the upstream's side when pushed"
				    : "runs when you build or test";
}

static bool same_item(const struct inventory_item *a, const struct inventory_item *b)
{
	bool has_hash = a->hash[0] && b->hash[0];

	return a->kinds == b->kinds && a->mode == b->mode && a->size == b->size &&
	       (has_hash ? strcmp(a->hash, b->hash) == 0 : a->mtime_ns == b->mtime_ns);
}

typedef void compare_fn(void *ctx, enum inventory_change c, const struct inventory_item *item);

/* Both are sorted. */
static void compare_kind(const struct inventory *x, const struct inventory *y, size_t kind,
			 compare_fn *fn, void *ctx)
{
	size_t i = 0, k = 0;

	while (i < x->n || k < y->n) {
		const struct inventory_item *a = i < x->n ? &x->items[i] : NULL;
		const struct inventory_item *b = k < y->n ? &y->items[k] : NULL;
		int order = !a ? 1 : !b ? -1 : strcmp(a->path, b->path);

		if (order < 0 && kind_of(a) == kind)
			fn(ctx, INVENTORY_DELETED, a);
		else if (order > 0 && kind_of(b) == kind) /* shared is looked for only now */
			fn(ctx, b->kinds & INVENTORY_SHARED ? INVENTORY_CHANGED : INVENTORY_CREATED,
			   b);
		else if (order == 0 && kind_of(b) == kind && !same_item(a, b))
			fn(ctx, INVENTORY_CHANGED, b);
		i += order <= 0;
		k += order >= 0;
	}
}

void inventory_compare(const struct inventory *before, const struct inventory *after,
		       compare_fn *fn, void *ctx)
{
	for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++)
		compare_kind(before, after, kind, fn, ctx);
}

/* --- on disk --- */

int inventory_to_json(const struct inventory *v, struct buf *out)
{
	int ret = buf_printf(out, "{\"version\":1,\"taken\":%llu,\"cut\":%s,\"items\":[",
			     (unsigned long long)v->taken_ns, v->was_cut ? "true" : "false");

	for (size_t i = 0; ret == 0 && i < v->n; i++) {
		const struct inventory_item *x = &v->items[i];
		size_t n = strlen(x->path);
		_cleanup_free_ char *hex = mem_zalloc(2 * n + 1);

		/* Any bytes may be in it, and it must come back as it was. */
		text_hex(hex, x->path, n);
		ret = buf_printf(out,
				 "%s{\"path\":\"%s\",\"kinds\":%u,\"mode\":%u,\"size\":%llu,"
				 "\"mtime\":%llu,\"hash\":\"%s\"}",
				 i ? ",\n" : "\n", hex, x->kinds, (unsigned)x->mode,
				 (unsigned long long)x->size, (unsigned long long)x->mtime_ns,
				 x->hash);
	}
	return ret == 0 ? buf_append_str(out, STR_LIT("]}\n")) : ret;
}

static int item_from_json(struct inventory *v, const json_t *j)
{
	const char *hex = json_string_value(json_object_get(j, "path"));
	const char *hash = json_string_value(json_object_get(j, "hash"));
	size_t n = hex ? strlen(hex) / 2 : 0;
	struct inventory_item i = {
		.kinds = (unsigned)json_integer_value(json_object_get(j, "kinds")),
		.mode = (mode_t)json_integer_value(json_object_get(j, "mode")),
		.size = (uint64_t)json_integer_value(json_object_get(j, "size")),
		.mtime_ns = (uint64_t)json_integer_value(json_object_get(j, "mtime")),
	};

	if (n == 0 || !hash || !str_to_cstr(i.hash, sizeof(i.hash), str_of(hash)))
		return -EBADMSG;
	i.path = mem_zalloc(n + 1);
	if (!text_unhex(i.path, n, str_of(hex))) {
		free(i.path);
		return -EBADMSG;
	}
	i.risk = risky_path_find(str_of(i.path), &i.what);
	*inventory_add(v) = i;
	return 0;
}

int inventory_from_json(struct inventory *out, struct str json, struct err *e)
{
	_cleanup_json_ json_t *root = json_loadb(json.p, json.n, JSON_REJECT_DUPLICATES, NULL);
	const json_t *items = json_object_get(root, "items");
	json_t *item;
	size_t i;

	*out = (struct inventory){0};
	if (!json_is_array(items))
		return err_set(e, -EBADMSG, "the inventory is damaged");
	out->was_cut = json_is_true(json_object_get(root, "cut"));
	out->taken_ns = (uint64_t)json_integer_value(json_object_get(root, "taken"));
	json_array_foreach(items, i, item)
	{
		if (item_from_json(out, item) < 0) {
			inventory_free(out);
			return err_set(e, -EBADMSG, "the inventory is damaged");
		}
	}
	return 0;
}
