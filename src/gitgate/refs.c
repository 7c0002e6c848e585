#include "gitgate/refs.h"

#include "base/clean.h"
#include "base/mem.h"
#include "gitgate/commands.h"

#include <errno.h>

#define REFS_OID_HEX 40

static const struct {
	const char *name, *text;
} refs_reasons[] = {
#define X(constant, name, text) [REFS_##constant] = {name, text},
	REFS_REASONS(X)
#undef X
};
_Static_assert(ARRAY_LEN(refs_reasons) == REFS_REASON_COUNT, "a name and a text per reason");
_Static_assert((int)REFS_UNKNOWN + 1 == (int)GIT_REF_REASON_COUNT, "the policy's come first");

const char *refs_reason_name(enum refs_reason r)
{
	return r < REFS_REASON_COUNT ? refs_reasons[r].name : "?";
}

const char *refs_reason_text(enum refs_reason r)
{
	return r < REFS_REASON_COUNT ? refs_reasons[r].text : "?";
}

/* --- what is there --- */

void refs_facts_free(struct refs_facts *f)
{
	for (size_t i = 0; i < f->n; i++)
		free(f->list[i].ref);
	free(f->list);
	f->list = NULL;
	f->n = 0;
}

int refs_facts_parse(struct refs_facts *out, struct str text, struct err *e)
{
	size_t cap = out->n;
	bool more = true;

	while (more) {
		struct refs_existing *x;
		struct str line, ref;

		text = str_cut(text, '\n', &line, &more);
		if (line.n == 0)
			continue;
		ref = str_sub(line, REFS_OID_HEX + 1, line.n);
		if (ref.n == 0 || line.p[REFS_OID_HEX] != ' ' || out->n == REFS_EXISTING_MAX)
			return err_set(e, -EPROTO, "git's list of refs cannot be read");
		out->list = mem_grow_array(out->list, &cap, out->n + 1, sizeof(*out->list));
		x = &out->list[out->n];
		if (!str_to_cstr(x->oid, sizeof(x->oid), str_sub(line, 0, REFS_OID_HEX)))
			return err_set(e, -EPROTO, "git's list of refs cannot be read");
		x->ref = str_dup(ref);
		out->n++;
		if (out->n > 1 && strcmp(out->list[out->n - 2].ref, x->ref) >= 0)
			return err_set(e, -EPROTO, "git's list of refs is not sorted");
	}
	return 0;
}

/* Where ref stands in the list, or would. */
static size_t facts_lower_bound(const struct refs_facts *f, const char *ref)
{
	size_t from = 0, to = f->n;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (strcmp(f->list[mid].ref, ref) < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

static const struct refs_existing *facts_find(const struct refs_facts *f, const char *ref)
{
	size_t at = facts_lower_bound(f, ref);

	return at < f->n && strcmp(f->list[at].ref, ref) == 0 ? &f->list[at] : NULL;
}

/* --- names beside each other --- */

/* The same, or one the folder of the other, on a file system that does not tell letter case apart.
 * What is the same bytewise is no collision. */
static enum refs_reason names_collide(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b), n = na < nb ? na : nb;

	if (!str_ieq(str_slice(a, n), str_slice(b, n)))
		return REFS_OK;
	if (na == nb)
		return memcmp(a, b, n) == 0 ? REFS_OK : REFS_CASE;
	if ((na > nb ? a[n] : b[n]) != '/')
		return REFS_OK;
	return memcmp(a, b, n) == 0 ? REFS_CONFLICT : REFS_CASE;
}

/* A folder's letter case counts, too: refs/heads/A/x beside refs/heads/a/y. */
static bool folders_differ_in_case(const char *a, const char *b)
{
	for (size_t i = 0; a[i] && b[i]; i++) {
		if (ascii_lower(a[i]) != ascii_lower(b[i]))
			return false;
		if (a[i] != b[i]) {
			/* Only if the segment ends at the same place in both, and is a folder. */
			for (; a[i] && b[i] && ascii_lower(a[i]) == ascii_lower(b[i]); i++) {
				if (a[i] == '/')
					return true;
			}
			return false;
		}
	}
	return false;
}

static enum refs_reason new_name_beside(const struct refs_input *in, const char *ref)
{
	for (size_t i = 0; i < in->facts->n; i++) {
		const char *other = in->facts->list[i].ref;
		enum refs_reason r = names_collide(ref, other);

		if (r == REFS_OK && folders_differ_in_case(ref, other))
			r = REFS_CASE;
		/* Also beside what the same push deletes: who takes it differs in what comes first.
		 */
		if (r != REFS_OK)
			return r;
	}
	for (size_t i = 0; i < in->n; i++) {
		const char *other = in->updates[i].ref;
		enum refs_reason r = names_collide(ref, other);

		if (r == REFS_OK && folders_differ_in_case(ref, other))
			r = REFS_CASE;
		if (r != REFS_OK)
			return r;
	}
	return REFS_OK;
}

/* --- one update --- */

static enum refs_reason decide_tag(const struct refs_input *in, size_t i)
{
	const struct check_update *u = &in->updates[i];

	if (commands_is_zero(u->new_oid))
		return REFS_TAG_DELETE;
	if (!commands_is_zero(u->old_oid) || facts_find(in->facts, u->ref))
		return REFS_TAG_MOVE;
	if (in->types[i] != REFS_TYPE_COMMIT && in->types[i] != REFS_TYPE_TAG)
		return REFS_TYPE;
	return REFS_OK;
}

static enum refs_reason decide_branch(const struct refs_input *in, size_t i)
{
	const struct check_update *u = &in->updates[i];
	const struct refs_existing *was = facts_find(in->facts, u->ref);

	if (strcmp(was ? was->oid : COMMANDS_ZERO_OID, u->old_oid) != 0)
		return REFS_STALE;
	if (commands_is_zero(u->new_oid))
		return in->remote->may_delete ? REFS_OK : REFS_DELETE;
	if (in->types[i] != REFS_TYPE_COMMIT)
		return REFS_TYPE;
	if (was && !in->remote->may_force && !in->is_ancestor(u->old_oid, u->new_oid, in->ctx))
		return REFS_FORCE;
	return REFS_OK;
}

static enum refs_reason decide_one(const struct refs_input *in, size_t i)
{
	const struct check_update *u = &in->updates[i];
	enum refs_reason r;

	for (size_t k = 0; k < i; k++) {
		if (strcmp(in->updates[k].ref, u->ref) == 0)
			return REFS_DUPLICATE;
	}
	r = (enum refs_reason)git_ref_decide(in->remote, str_of(u->ref),
					     commands_is_zero(u->new_oid), in->facts->head);
	if (r == REFS_OK)
		r = str_starts(str_of(u->ref), STR_LIT("refs/tags/")) ? decide_tag(in, i)
								      : decide_branch(in, i);
	if (r == REFS_OK && !facts_find(in->facts, u->ref))
		r = new_name_beside(in, u->ref);
	return r;
}

enum refs_reason refs_decide(const struct refs_input *in, size_t *which)
{
	for (*which = 0; *which < in->n; (*which)++) {
		enum refs_reason r = decide_one(in, *which);

		if (r != REFS_OK)
			return r;
	}
	*which = 0;
	return in->n > 0 ? REFS_OK : REFS_UNKNOWN;
}
