#include "gitgate/advert.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"
#include "gitgate/wire.h"

#include <errno.h>
#include <stdlib.h>

#define HEADS	 "refs/heads/"
#define TAGS	 "refs/tags/"
#define OID_HEX	 (GIT_OID_SIZE - 1)
#define OID_NONE "0000000000000000000000000000000000000000"
/* What git may be told that the upstream can do: all that a plain fetch uses. */
static const char *const simple_caps[] = {"thin-pack", "side-band-64k", "ofs-delta", "no-progress"},
			 *const full_caps[] = {"multi_ack", "multi_ack_detailed", "no-done"};

void advert_free(struct advert *a)
{
	free(a->refs);
	free(a->names);
	*a = (struct advert){0};
}

struct str advert_name(const struct advert *a, const struct advert_ref *r)
{
	return str_slice(a->names + r->at, r->length);
}

static bool is_oid(struct str s)
{
	if (s.n != OID_HEX)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (ascii_hex_value(s.p[i]) < 0 || (s.p[i] >= 'A' && s.p[i] <= 'F'))
			return false;
	}
	return true;
}

static int malformed(struct str line, struct err *e)
{
	char shown[80];

	text_visible_cstr(shown, sizeof(shown), line);
	return err_set(e, -EPROTO, "it says \"%s\" where a ref should be", shown);
}

static int refuse_sha256(struct err *e)
{
	return err_set(e, -ENOTSUP,
		       "its objects are named by SHA-256, and only SHA-1 is supported");
}

/* "oid name", or "oid" alone cut off: *rest is what stands after the space. */
static int cut_oid(struct str line, struct str *oid, struct str *rest, struct err *e)
{
	bool found;

	*rest = str_cut(line, ' ', oid, &found);
	if (found && oid->n == 64)
		return refuse_sha256(e);
	return found && is_oid(*oid) ? 0 : malformed(line, e);
}

static bool is_mirrored(struct str name)
{
	return (str_starts(name, STR_LIT(HEADS)) || str_starts(name, STR_LIT(TAGS))) &&
	       git_ref_is_valid(name);
}

static int add_ref(struct advert *a, struct str oid, struct str name, struct err *e)
{
	struct advert_ref *r;

	if (!is_mirrored(name))
		return 0;
	if (a->n_refs == ADVERT_REFS_MAX)
		return err_set(e, -EFBIG, "it has more than %d branches and tags", ADVERT_REFS_MAX);
	if (a->n_names + name.n > ADVERT_NAMES_MAX)
		return err_set(e, -EFBIG, "the names of its branches and tags are too much");
	a->refs = mem_grow_array(a->refs, &a->refs_cap, a->n_refs + 1, sizeof(*a->refs));
	a->names = mem_grow_array(a->names, &a->names_cap, a->n_names + name.n, 1);
	r = &a->refs[a->n_refs++];
	*r = (struct advert_ref){.length = (uint16_t)name.n, .at = (uint32_t)a->n_names};
	memcpy(r->oid, oid.p, OID_HEX);
	memcpy(a->names + a->n_names, name.p, name.n);
	a->n_names += name.n;
	return 0;
}

static void set_head(struct advert *a, struct str target)
{
	if (str_starts(target, STR_LIT(HEADS)) && git_ref_is_valid(target))
		(void)!str_to_cstr(a->head, sizeof(a->head), target);
}

static int count_line(struct advert *a, struct err *e)
{
	if (a->n_lines++ == ADVERT_LINES_MAX)
		return err_set(e, -EFBIG, "it has more than %d refs", ADVERT_LINES_MAX);
	return 0;
}

/* --- version 0 --- */

bool advert_has_cap(const struct advert *a, const char *name)
{
	struct str rest = str_of(a->caps), word;
	bool found = true;

	while (found) {
		rest = str_cut(rest, ' ', &word, &found);
		if (str_starts(word, str_of(name)) &&
		    (word.n == strlen(name) || word.p[strlen(name)] == '='))
			return true;
	}
	return false;
}

/* symref=HEAD:refs/heads/main, object-format=sha1; nothing else of them is looked at here. The list
 * may be longer than what is kept, by many symrefs. */
static int take_caps(struct advert *a, struct str caps, struct err *e)
{
	struct str word;
	bool found = true;
	size_t n = 0;

	while (found) {
		caps = str_cut(caps, ' ', &word, &found);
		if (str_starts(word, STR_LIT("symref=HEAD:")))
			set_head(a, str_sub(word, strlen("symref=HEAD:"), word.n));
		if (str_starts(word, STR_LIT("object-format=")) &&
		    !str_eq(word, STR_LIT("object-format=sha1")))
			return refuse_sha256(e);
		if (word.n == 0 || memchr(word.p, 0, word.n) ||
		    str_starts(word, STR_LIT("symref=")) || n + word.n + 2 > sizeof(a->caps))
			continue;
		memcpy(a->caps + n, word.p, word.n);
		n += word.n;
		a->caps[n++] = ' ';
	}
	a->caps[n > 0 ? n - 1 : 0] = 0;
	return 0;
}

static int take_unusual(struct str line, struct err *e)
{
	char shown[400];

	if (str_starts(line, STR_LIT("ERR "))) {
		text_visible_cstr(shown, sizeof(shown), wire_chomp(str_sub(line, 4, line.n)));
		return err_set(e, -EREMOTEIO, "it says: %s", shown);
	}
	if (str_starts(line, STR_LIT("version ")))
		return err_set(e, -ENOTSUP,
			       "it speaks a version of the protocol that was not asked "
			       "for");
	if (str_starts(line, STR_LIT("shallow ")))
		return err_set(e, -ENOTSUP,
			       "it is a shallow repository, which has no whole history");
	return 1;
}

int advert_take_v0(struct advert *a, struct str line, struct err *e)
{
	bool is_first = a->n_lines == 0, found = false;
	struct str oid, name, caps = STR_NULL;
	int ret = count_line(a, e);

	if (ret < 0)
		return ret;
	ret = take_unusual(line, e);
	if (ret < 0)
		return ret;
	if (is_first) {
		caps = str_cut(line, '\0', &line, &found);
		ret = take_caps(a, caps, e);
		if (ret < 0)
			return ret;
	}
	ret = cut_oid(line, &oid, &name, e);
	if (ret < 0)
		return ret;
	if (str_eq(name, STR_LIT("HEAD"))) {
		memcpy(a->head_oid, oid.p, OID_HEX);
		return 0;
	}
	/* An empty repository's line, of no ref. */
	if (str_eq(oid, STR_LIT(OID_NONE)))
		return str_eq(name, STR_LIT("capabilities^{}")) && is_first ? 0
									    : malformed(line, e);
	/* Also not kept: what a tag is a tag of ("^{}"), objects of alternates (".have"). */
	return add_ref(a, oid, name, e);
}

/* --- version 2: oid SP refname *(SP attribute) --- */

int advert_take_v2(struct advert *a, struct str line, struct err *e)
{
	struct str oid, name, word, rest;
	bool found;
	int ret = count_line(a, e);

	if (ret == 0)
		ret = take_unusual(line, e);
	if (ret < 0)
		return ret;
	/* A HEAD without a commit yet. */
	if (str_starts(line, STR_LIT("unborn ")))
		oid = STR_NULL, rest = str_sub(line, strlen("unborn "), line.n);
	else if ((ret = cut_oid(line, &oid, &rest, e)) < 0)
		return ret;
	rest = str_cut(rest, ' ', &name, &found);
	if (!str_eq(name, STR_LIT("HEAD")))
		return oid.n > 0 ? add_ref(a, oid, name, e) : malformed(line, e);
	if (oid.n > 0)
		memcpy(a->head_oid, oid.p, OID_HEX);
	while (found) {
		rest = str_cut(rest, ' ', &word, &found);
		if (str_starts(word, STR_LIT("symref-target:")))
			set_head(a, str_sub(word, strlen("symref-target:"), word.n));
	}
	return 0;
}

/* --- the whole --- */

static int compare(struct str a, struct str b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int order = n > 0 ? memcmp(a.p, b.p, n) : 0;

	return order ? order : (a.n > b.n) - (a.n < b.n);
}

static int compare_refs(const void *x, const void *y, void *advert)
{
	const struct advert *a = advert;

	return compare(advert_name(a, x), advert_name(a, y));
}

int advert_settle(struct advert *a, struct err *e)
{
	if (a->n_refs > 1)
		qsort_r(a->refs, a->n_refs, sizeof(*a->refs), compare_refs, a);
	a->is_sorted = true;
	for (size_t i = 1; i < a->n_refs; i++) {
		char shown[120];

		if (compare_refs(&a->refs[i - 1], &a->refs[i], a) != 0)
			continue;
		text_visible_cstr(shown, sizeof(shown), advert_name(a, &a->refs[i]));
		return err_set(e, -EPROTO, "it says twice what %s is", shown);
	}
	return 0;
}

static struct advert_ref *find(const struct advert *a, struct str name)
{
	size_t low = 0, high = a->n_refs;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = compare(name, advert_name(a, &a->refs[middle]));

		if (order == 0)
			return &a->refs[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

const struct advert_ref *advert_find(const struct advert *a, struct str name)
{
	return find(a, name);
}

/* --- a bottle's view --- */

static void drop_gone(struct advert *a)
{
	size_t n = 0;

	for (size_t i = 0; i < a->n_refs; i++) {
		if (!a->refs[i].is_gone)
			a->refs[n++] = a->refs[i];
	}
	a->n_refs = n;
}

/* "refs/heads/bottle/<slug>/X" becomes "refs/heads/X", in place: the new name ends where the old
 * one does, and "refs/heads/" is written before it. False if it is none of this bottle's. */
static bool rename_own(struct advert *a, struct advert_ref *r, struct str prefix)
{
	struct str name = advert_name(a, r);

	if (!str_starts(name, prefix) || name.n == prefix.n)
		return false;
	r->at += (uint32_t)(prefix.n - strlen(HEADS));
	r->length = (uint16_t)(name.n - (prefix.n - strlen(HEADS)));
	memcpy(a->names + r->at, HEADS, strlen(HEADS));
	r->is_overlay = true;
	return true;
}

/* A file cannot stand where a folder stands. */
static void drop_conflicts(struct advert *a)
{
	for (size_t i = 0; i < a->n_refs; i++) {
		struct str name = advert_name(a, &a->refs[i]);

		for (size_t cut = strlen(HEADS) + 1; cut < name.n; cut++) {
			struct advert_ref *above;

			if (name.p[cut] != '/')
				continue;
			above = find(a, str_sub(name, 0, cut));
			if (above && above->is_overlay)
				a->refs[i].is_gone = !a->refs[i].is_overlay;
			else if (above && a->refs[i].is_overlay)
				above->is_gone = true;
		}
	}
	drop_gone(a);
}

int advert_overlay(struct advert *a, const char *slug, struct err *e)
{
	_cleanup_free_ char *text = mem_printf(ADVERT_SLUG_PREFIX "%s/", slug);
	struct str prefix = str_of(text);

	if (str_starts(str_of(a->head), prefix)) {
		/* The human has a branch of this bottle checked out. */
		size_t n = strlen(a->head) - prefix.n;

		memmove(a->head + strlen(HEADS), a->head + prefix.n, n + 1);
	} else if (str_starts(str_of(a->head), STR_LIT(ADVERT_SLUG_PREFIX))) {
		a->head[0] = 0;
	}
	for (size_t i = 0; i < a->n_refs; i++) {
		struct advert_ref *r = &a->refs[i];

		if (!rename_own(a, r, prefix) &&
		    str_starts(advert_name(a, r), STR_LIT(ADVERT_SLUG_PREFIX)))
			r->is_gone = true;
	}
	/* While the host's still is where it was sorted to, each own one puts it out. A renamed one
	 * is where "bottle/…" was sorted to, so it is looked for among the others alone. */
	drop_gone(a);
	if (a->n_refs > 1)
		qsort_r(a->refs, a->n_refs, sizeof(*a->refs), compare_refs, a);
	for (size_t i = 1; i < a->n_refs; i++) {
		struct advert_ref *x = &a->refs[i - 1], *y = &a->refs[i];

		if (compare_refs(x, y, a) == 0)
			(x->is_overlay ? y : x)->is_gone = true;
	}
	drop_gone(a);
	drop_conflicts(a);
	return advert_settle(a, e);
}

void advert_head(const struct advert *a, char out[GIT_REF_MAX + 1])
{
	static const char *const usual[] = {HEADS "main", HEADS "master"};
	const struct advert_ref *r = a->head[0] ? find(a, str_of(a->head)) : NULL;

	/* A branch that is not born yet is taken at its word. */
	if (a->head[0] && !r && a->n_refs == 0) {
		memcpy(out, a->head, sizeof(a->head));
		return;
	}
	for (size_t i = 0; !r && i < ARRAY_LEN(usual); i++) {
		r = find(a, str_of(usual[i]));
		if (r && a->head_oid[0] && strcmp(r->oid, a->head_oid) != 0)
			r = NULL;
	}
	for (size_t i = 0; !r && a->head_oid[0] && i < a->n_refs; i++) {
		if (str_starts(advert_name(a, &a->refs[i]), STR_LIT(HEADS)) &&
		    strcmp(a->refs[i].oid, a->head_oid) == 0)
			r = &a->refs[i];
	}
	for (size_t i = 0; !r && i < ARRAY_LEN(usual); i++)
		r = find(a, str_of(usual[i]));
	for (size_t i = 0; !r && i < a->n_refs; i++) {
		if (str_starts(advert_name(a, &a->refs[i]), STR_LIT(HEADS)))
			r = &a->refs[i];
	}
	if (!r || !str_to_cstr(out, GIT_REF_MAX + 1, advert_name(a, r)))
		out[0] = 0;
}

/* --- for git --- */

static int too_much(struct err *e)
{
	return err_set(e, -EFBIG, "it has too many branches and tags");
}

static size_t put_caps(const struct advert *a, const char *const *names, size_t n_names, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < n_names; i++) {
		if (!advert_has_cap(a, names[i]))
			continue;
		out[n++] = ' ';
		memcpy(out + n, names[i], strlen(names[i]));
		n += strlen(names[i]);
	}
	return n;
}

int advert_check_v0(const struct advert *a, struct err *e)
{
	return a->n_refs == 0 || advert_has_cap(a, "side-band-64k")
		       ? 0
		       : err_set(e, -ENOTSUP, "its git is too old: it cannot mark what it sends");
}

int advert_put_v0(const struct advert *a, bool is_simple, struct buf *out, struct err *e)
{
	char caps[256];
	size_t n = put_caps(a, simple_caps, ARRAY_LEN(simple_caps), caps);

	if (!is_simple)
		n += put_caps(a, full_caps, ARRAY_LEN(full_caps), caps + n);
	for (size_t i = 0; i < a->n_refs; i++) {
		struct str name = advert_name(a, &a->refs[i]);

		/* wire_printf() would end the line at the NUL. */
		char line[OID_HEX + 1 + GIT_REF_MAX + 1 + sizeof(caps) + 1];
		size_t length = OID_HEX + 1 + name.n;

		memcpy(line, a->refs[i].oid, OID_HEX);
		line[OID_HEX] = ' ';
		memcpy(line + OID_HEX + 1, name.p, name.n);
		if (i == 0) {
			line[length++] = 0;
			memcpy(line + length, caps, n);
			length += n;
		}
		line[length++] = '\n';
		if (wire_put(out, str_slice(line, length)) < 0)
			return too_much(e);
	}
	return wire_flush(out) < 0 ? too_much(e) : 0;
}

int advert_put_v2(const struct advert *a, struct buf *out, struct err *e)
{
	for (size_t i = 0; i < a->n_refs; i++) {
		struct str name = advert_name(a, &a->refs[i]);

		if (wire_printf(out, "%s " STR_FMT "\n", a->refs[i].oid, STR_ARG(name)) < 0)
			return too_much(e);
	}
	return wire_flush(out) < 0 ? too_much(e) : 0;
}
