/*
 * What is read once more, by name: .gitmodules files of the push, and of the upstream's own commits
 * the paths at which a secret was found, where the same may have stood before.
 */
#include "gitgate/check_int.h"
#include "gitgate/modules.h"
#include "base/clean.h"
#include "base/text.h"

#include <errno.h>
#include <stdlib.h>

#define ASK_BYTES_MAX (512u << 10)
#define HEAD_MAX      (CHECK_PATH_MAX + 256)

static const char *const show[] = {"cat-file", "--batch", "--buffer", NULL};

/* "<oid> blob <size>", or "<what was asked> missing" and the like: SIZE_MAX. */
static uint64_t blob_size(struct str line)
{
	struct str type, size;
	uint64_t n;
	bool found;

	line = str_cut(line, ' ', &type, &found);
	if (type.n != 40)
		return UINT64_MAX;
	size = str_cut(line, ' ', &type, &found);
	if (!found || !str_eq(type, STR_LIT("blob")) || str_to_u64(size, INT64_MAX, &n) < 0)
		return UINT64_MAX;
	return n;
}

/* --- .gitmodules --- */

struct modules_look {
	struct check *c;
	unsigned repo_segments;
	int error;
};

static bool on_module(void *ctx, struct str section, struct str name, struct str key,
		      struct str value, unsigned line)
{
	struct modules_look *m = ctx;
	const char *wrong;

	m->error = check_scan(m->c, SCAN_PLACE_HEADER, "submodule", value);
	if (m->error == 0 && name.n)
		m->error = check_scan(m->c, SCAN_PLACE_PATH, "submodule", name);
	if (m->error == 0 && str_eq(key, STR_LIT("path")))
		m->error = check_scan(m->c, SCAN_PLACE_PATH, "submodule", value);
	if (!str_eq(section, STR_LIT("submodule")))
		return m->error == 0;
	wrong = modules_wrong(name, key, value, m->repo_segments);
	if (wrong) {
		struct check_pending *p = check_found(m->c, CHECK_SUBMODULE, wrong, "submodule");

		if (p)
			p->line = line;
	}
	return m->error == 0;
}

static int module_look(struct check *c, struct str text)
{
	struct modules_look m = {c, 1, 0};
	struct err e = ERR_INIT;

	for (const char *p = c->in->remote->path; p && *p; p++)
		m.repo_segments += *p == '/' && p[1];
	if (!c->in->remote->path || !*c->in->remote->path)
		m.repo_segments = 3; /* the host's own: nobody knows */
	if (modules_parse(text, on_module, &m, &e) < 0) {
		struct check_pending *p =
			check_found(c, CHECK_SUBMODULE, "gitmodules-unreadable", "submodule");

		if (p)
			p->line = e.line;
	}
	return m.error;
}

static int modules_read(struct check_flow *f, struct check *c)
{
	struct str line, have;
	int r = 0;

	for (size_t i = 0; i < c->n_modules && r == 0; i++) {
		const struct check_place *m = &c->modules[i];
		uint64_t size;

		if ((r = check_flow_line(f, c, '\n', HEAD_MAX, &line)) < 0)
			break;
		size = blob_size(line);
		if (size == UINT64_MAX || size > MODULES_BYTES_MAX) {
			(void)check_found(c, CHECK_SUBMODULE, "gitmodules-unreadable", "submodule");
			return 0; /* which refuses the push: the others need no looking at */
		}
		if ((r = check_flow_need(f, c, (size_t)size + 1, &have)) < 0)
			break;
		memcpy(c->oid, m->oid, sizeof(c->oid));
		memcpy(c->commit, m->commit, sizeof(c->commit));
		c->path = m->path;
		r = module_look(c, str_sub(have, 0, (size_t)size));
		c->path = NULL;
		c->commit[0] = '\0';
		memset(c->oid, 0, sizeof(c->oid));
		check_flow_skip(f, (size_t)size + 1);
	}
	return r == -ENODATA || r == -EMSGSIZE
		       ? err_set(c->e, -EPROTO, "git did not show a .gitmodules file")
		       : r;
}

int check_modules(struct check *c)
{
	_cleanup_(buf_free) struct buf in;
	struct check_flow f;
	int r = 0, q;

	buf_init(&in, CHECK_MODULES_MAX * 64);
	if (c->n_modules == 0)
		return 0;
	for (size_t i = 0; i < c->n_modules && r == 0; i++) {
		char hex[GIT_OID_SIZE];

		text_hex(hex, c->modules[i].oid, CHECK_OID_BYTES);
		r = buf_printf(&in, "%s\n", hex);
	}
	if (r == 0)
		r = check_flow_open(&f, c, "gitmodules", show, NULL, buf_str(&in));
	if (r < 0)
		return r;
	r = modules_read(&f, c);
	q = check_flow_close(&f, c);
	return r < 0 ? r : q;
}

/* --- what the upstream has --- */

struct boundary {
	char hex[CHECK_BOUNDARY_MAX][GIT_OID_SIZE];
	size_t n;
};

/* The commits of the upstream that the new ones stand on. */
static int boundary_read(struct check *c, struct boundary *b, struct str tips)
{
	static const char *const list[] = {"rev-list", "--boundary", "--stdin",
					   "--not",    "--all",	     NULL};
	struct check_flow f;
	struct str line;
	int r = check_flow_open(&f, c, "boundary", list, NULL, tips), q;

	b->n = 0;
	if (r < 0)
		return r;
	while ((r = check_flow_line(&f, c, '\n', 64, &line)) == 0)
		if (line.n == 41 && line.p[0] == '-' && b->n < CHECK_BOUNDARY_MAX &&
		    str_to_cstr(b->hex[b->n], GIT_OID_SIZE, str_sub(line, 1, 41)))
			b->n++;
	q = check_flow_close(&f, c);
	return r != -ENODATA ? r : q;
}

/* git could not be asked for it in a line. */
static bool is_path_odd(const char *path)
{
	return strchr(path, '\n') || strlen(path) > CHECK_PATH_MAX;
}

static bool is_candidate(const struct check_pending *p)
{
	return p->kind == CHECK_SECRET && p->is_rule && !p->is_dropped && p->path && p->commit[0] &&
	       !is_path_odd(p->path);
}

/* Everything found in the old file that was found in the new one at this path is not new. */
static void old_compare(struct check *c, size_t n, const char *path)
{
	for (size_t k = n; k < c->n_pending; k++)
		for (size_t i = 0; i < n; i++) {
			struct check_pending *p = &c->pending[i];
			const struct check_pending *q = &c->pending[k];

			if (is_candidate(p) && q->is_rule && strcmp(p->rule, q->rule) == 0 &&
			    strcmp(p->path, path) == 0 &&
			    memcmp(p->digest, q->digest, sizeof(p->digest)) == 0)
				p->is_dropped = true;
		}
	check_find_cut(c, n);
}

static int old_read(struct check_flow *f, struct check *c, const char *path, bool *is_gone)
{
	size_t n = c->n_pending;
	struct str line, have;
	uint64_t size, unkept = c->n_unkept;
	int r;

	*is_gone = false;
	if ((r = check_flow_line(f, c, '\n', HEAD_MAX, &line)) < 0)
		return r;
	size = blob_size(line);
	if (size == UINT64_MAX) {
		/* "… missing" has no content; anything else that is no blob would have. */
		*is_gone = !str_ends(line, STR_LIT(" missing"));
		return 0;
	}
	if (size > c->in->remote->object_max_bytes) {
		*is_gone = true;
		return 0;
	}
	if (size <= CHECK_WHOLE_BYTES) {
		if ((r = check_flow_need(f, c, (size_t)size + 1, &have)) < 0)
			return r;
		r = check_blob_small(c, str_sub(have, 0, (size_t)size));
		check_flow_skip(f, (size_t)size + 1);
	} else {
		check_blob_begin(c);
		for (uint64_t left = size; left > 0;) {
			size_t k;

			if ((r = check_flow_need(f, c, 1, &have)) < 0)
				return r;
			k = have.n < left ? have.n : (size_t)left;
			if ((r = check_blob_feed(c, str_sub(have, 0, k))) < 0)
				return r;
			check_flow_skip(f, k);
			left -= k;
		}
		r = check_blob_end(c);
		if (r == 0 && (r = check_flow_need(f, c, 1, &have)) == 0)
			check_flow_skip(f, 1);
	}
	old_compare(c, n, path);
	c->n_unkept = unkept;
	return r;
}

int check_known(struct check *c, struct str tips)
{
	_cleanup_free_ struct boundary *b = NULL;
	_cleanup_free_ size_t *asked = NULL;
	_cleanup_(buf_free) struct buf in;
	struct check_flow f;
	size_t n = 0, before = c->n_pending;
	bool is_gone = false, is_any = false;
	int r = 0, q;

	buf_init(&in, ASK_BYTES_MAX);
	for (size_t i = 0; i < c->n_pending; i++)
		is_any |= is_candidate(&c->pending[i]);
	if (!is_any)
		return 0;
	b = calloc(1, sizeof(*b));
	asked = calloc(CHECK_LOOKUPS_MAX, sizeof(*asked));
	if (!b || !asked)
		return err_set(c->e, -ENOMEM, "memory for what the upstream has");
	if ((r = boundary_read(c, b, tips)) < 0)
		return r;
	for (size_t i = 0; i < before; i++) {
		bool is_first = is_candidate(&c->pending[i]);

		for (size_t k = 0; k < i && is_first; k++)
			is_first = !(is_candidate(&c->pending[k]) &&
				     strcmp(c->pending[k].path, c->pending[i].path) == 0);
		for (size_t k = 0; k < b->n && is_first && n < CHECK_LOOKUPS_MAX; k++) {
			/* What does not fit is taken for new. */
			if (buf_printf(&in, "%s:%s\n", b->hex[k], c->pending[i].path) < 0)
				break;
			asked[n++] = i;
		}
	}
	if (n == 0)
		return 0;
	if ((r = check_flow_open(&f, c, "upstream", show, NULL, buf_str(&in))) < 0)
		return r;
	for (size_t k = 0; k < n && r == 0 && !is_gone; k++)
		r = old_read(&f, c, c->pending[asked[k]].path, &is_gone);
	check_find_cut(c, before);
	q = check_flow_close(&f, c);
	if (r == -ENODATA || r == -EMSGSIZE)
		r = err_set(c->e, -EPROTO, "git did not show what the upstream has");
	return r < 0 ? r : q;
}
