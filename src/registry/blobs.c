#include "registry/blobs.h"

#include "base/clean.h"

#include <errno.h>
#include <sys/stat.h>

#define DIGEST_PREFIX STR_LIT("sha256:")
#define DIGEST_DIGITS 64

/* In lower case, as everybody writes it: one blob has one name. */
static bool is_digest(struct str s)
{
	if (s.n != DIGEST_PREFIX.n + DIGEST_DIGITS || !str_starts(s, DIGEST_PREFIX))
		return false;
	for (size_t i = DIGEST_PREFIX.n; i < s.n; i++) {
		if (ascii_hex_value(s.p[i]) < 0 || ascii_lower(s.p[i]) != s.p[i])
			return false;
	}
	return true;
}

/* --- the arguments --- */

static bool kind_by_name(struct str name, enum blobs_kind *kind)
{
	static const char *const names[] = {
		[BLOBS_MANIFEST] = "manifest", [BLOBS_CONFIG] = "config", [BLOBS_LAYER] = "layer"};

	_Static_assert(ARRAY_LEN(names) == BLOBS_KIND_COUNT, "one name per kind");
	for (int k = 0; k < BLOBS_KIND_COUNT; k++) {
		if (str_eq(name, str_of(names[k]))) {
			*kind = (enum blobs_kind)k;
			return true;
		}
	}
	return false;
}

/* KIND=FD,sha256:HEX,SIZE */
static int blob_parse(struct blobs_one *b, const char *arg, struct err *e)
{
	bool has_kind = false, has_fd = false, has_digest = false;
	struct str kind, fd, digest, rest;
	struct stat st;
	uint64_t n;

	rest = str_cut(str_of(arg), '=', &kind, &has_kind);
	rest = str_cut(rest, ',', &fd, &has_fd);
	rest = str_cut(rest, ',', &digest, &has_digest);
	if (!has_digest || !kind_by_name(kind, &b->kind) || str_to_u64(fd, INT32_MAX, &n) < 0 ||
	    !is_digest(digest) || !str_to_cstr(b->digest, sizeof(b->digest), digest) ||
	    str_to_u64(rest, INT64_MAX, &b->size) < 0)
		return err_set(e, -EINVAL, "\"%s\" is no blob: KIND=FD,sha256:HEX,SIZE", arg);
	b->fd = (int)n;
	if (fstat(b->fd, &st) < 0)
		return err_errno(e, "blob \"%s\"", arg);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != b->size)
		return err_set(e, -EINVAL, "blob \"%s\" is no file of this size", arg);
	if (b->kind != BLOBS_LAYER && b->size > REGISTRY_TEXT_MAX)
		return err_set(e, -EFBIG, "blob \"%s\" is too large for its kind", arg);
	return 0;
}

int blobs_parse(struct blobs *s, int argc, char *const *argv, struct err *e)
{
	size_t count[BLOBS_KIND_COUNT] = {0};

	*s = (struct blobs){0};
	if (argc < 2 || argv[0][0] == '\0' || argv[1][0] == '\0')
		return err_set(e, -EINVAL, "NAME and TAG are needed");
	s->name = argv[0];
	s->tag = argv[1];
	for (int i = 2; i < argc; i++) {
		if (s->n == REGISTRY_BLOBS_MAX)
			return err_set(e, -E2BIG, "too many blobs");
		if (blob_parse(&s->blobs[s->n], argv[i], e) < 0)
			return e ? e->code : -EINVAL;
		count[s->blobs[s->n++].kind]++;
	}
	if (count[BLOBS_MANIFEST] != 1 || count[BLOBS_CONFIG] != 1 || count[BLOBS_LAYER] == 0)
		return err_set(e, -EINVAL, "an image is one manifest, one config and its layers");
	return 0;
}

/* --- requests --- */

static const struct blobs_one *blob_find(const struct blobs *s, struct str digest, bool is_manifest)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct blobs_one *b = &s->blobs[i];

		if ((b->kind == BLOBS_MANIFEST) == is_manifest &&
		    (digest.n == 0 || str_eq(digest, str_of(b->digest))))
			return b;
	}
	return NULL;
}

/* What follows the last occurrence of part, with *head before it. */
static bool cut_at(struct str s, struct str part, struct str *head, struct str *rest)
{
	for (size_t at = s.n; at > 0; at--) {
		if (str_starts(str_sub(s, at - 1, s.n), part)) {
			*head = str_sub(s, 0, at - 1);
			*rest = str_sub(s, at - 1 + part.n, s.n);
			return true;
		}
	}
	return false;
}

static enum blobs_answer manifest_find(const struct blobs *s, struct str reference,
				       const struct blobs_one **blob)
{
	if (str_eq(reference, str_of(s->tag)))
		*blob = blob_find(s, STR_NULL, true);
	else if (is_digest(reference))
		*blob = blob_find(s, reference, true);
	else if (str_chr(reference, ':') < reference.n)
		return BLOBS_DIGEST_INVALID;
	return *blob ? BLOBS_FOUND : BLOBS_MANIFEST_UNKNOWN;
}

enum blobs_answer blobs_find(const struct blobs *s, struct str path, const struct blobs_one **blob)
{
	struct str name, reference;
	bool is_manifest;

	*blob = NULL;
	if (str_eq(path, STR_LIT("/v2/")))
		return BLOBS_BASE;
	if (!str_starts(path, STR_LIT("/v2/")))
		return BLOBS_NOTHING;
	path = str_sub(path, 4, path.n);
	is_manifest = cut_at(path, STR_LIT("/manifests/"), &name, &reference);
	if (!is_manifest && !cut_at(path, STR_LIT("/blobs/"), &name, &reference))
		return BLOBS_NOTHING;
	if (reference.n == 0 || str_chr(reference, '/') < reference.n)
		return BLOBS_NOTHING;
	if (!str_eq(name, str_of(s->name)))
		return BLOBS_NAME_UNKNOWN;
	if (is_manifest)
		return manifest_find(s, reference, blob);
	if (!is_digest(reference))
		return BLOBS_DIGEST_INVALID;
	*blob = blob_find(s, reference, false);
	return *blob ? BLOBS_FOUND : BLOBS_BLOB_UNKNOWN;
}

enum blobs_range blobs_range(struct str value, uint64_t size, uint64_t *from, uint64_t *to)
{
	struct str unit, first, last;
	bool has_unit = false, has_dash = false;
	uint64_t a = 0, b = 0;

	*from = 0;
	*to = size;
	value = str_cut(value, '=', &unit, &has_unit);
	last = str_cut(value, '-', &first, &has_dash);
	if (!has_unit || !has_dash || !str_ieq(unit, STR_LIT("bytes")) ||
	    (first.n == 0 && last.n == 0) ||
	    (first.n > 0 && str_to_u64(first, INT64_MAX, &a) < 0) ||
	    (last.n > 0 && str_to_u64(last, INT64_MAX, &b) < 0) ||
	    (first.n > 0 && last.n > 0 && b < a))
		return BLOBS_WHOLE;
	if (first.n == 0) { /* the last b bytes */
		if (b == 0 || size == 0)
			return BLOBS_OUTSIDE;
		*from = b < size ? size - b : 0;
		return BLOBS_PART;
	}
	if (a >= size)
		return BLOBS_OUTSIDE;
	*from = a;
	if (last.n > 0 && b < size - 1)
		*to = b + 1;
	return BLOBS_PART;
}
