/*
 * Names of refs, and the patterns that the operator writes for them. A name becomes an argument of
 * git, a path in a mirror, and a line on a human's terminal: whatever one of the three could read
 * in a second way is refused.
 */
#include "conf/git_policy.h"

#include "base/text.h"

#include <errno.h>

#define HEADS "refs/heads/"

/* git check-ref-format(1), rules 4, 5, 9 and 10; what is not ASCII is looked at by the caller. */
static bool is_ref_byte(unsigned char c)
{
	return c > 0x20 && c != 0x7f && !strchr("~^:?*[\\", c);
}

/* ".lock" in any case: the mirror may stand on a file system that folds it. */
static bool is_ref_segment(struct str seg)
{
	if (seg.n == 0 || seg.p[0] == '.' || seg.p[0] == '-')
		return false;
	if (seg.n >= 5 && str_ieq(str_sub(seg, seg.n - 5, seg.n), STR_LIT(".lock")))
		return false;
	return seg.p[seg.n - 1] != '.' && str_find(seg, STR_LIT("..")) == seg.n &&
	       str_find(seg, STR_LIT("@{")) == seg.n && !str_eq(seg, STR_LIT("@"));
}

static bool is_ref_text(struct str ref)
{
	for (struct str rest = ref; rest.n > 0;) {
		uint32_t cp;
		size_t n = text_utf8_next(rest, &cp);

		if (n == 0 || text_is_deceptive(cp) || (n == 1 && !is_ref_byte((unsigned char)cp)))
			return false;
		/* Spaces that only look like one, or like nothing. */
		if (cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x202f ||
		    cp == 0x205f || cp == 0x3000)
			return false;
		rest = str_sub(rest, n, rest.n);
	}
	return true;
}

bool git_ref_is_valid(struct str ref)
{
	struct str rest = ref, seg;
	bool more = true;

	if (ref.n > GIT_REF_MAX || !str_starts(ref, STR_LIT("refs/")) || !is_ref_text(ref))
		return false;
	while (more) {
		rest = str_cut(rest, '/', &seg, &more);
		if (!is_ref_segment(seg))
			return false;
	}
	return true;
}

/* The pattern with its stars replaced by what a name may hold must be a name. */
static bool pattern_is_name(struct str pattern)
{
	char name[GIT_REF_MAX + 1] = HEADS;
	size_t n = sizeof(HEADS) - 1;

	if (pattern.n > GIT_REF_MAX - n)
		return false;
	for (size_t i = 0; i < pattern.n; i++)
		name[n++] = pattern.p[i];
	for (size_t i = sizeof(HEADS) - 1; i < n; i++)
		if (name[i] == '*')
			name[i] = 'x';
	return git_ref_is_valid(str_slice(name, n));
}

int git_ref_pattern_check(struct str pattern, struct err *e)
{
	struct str rest = pattern, seg;
	char shown[GIT_REF_MAX];
	bool more;

	text_visible_cstr(shown, sizeof(shown), pattern);
	if (pattern.n == 0)
		return err_set(e, -EINVAL,
			       "a name is empty; expected one like \"main\" or \"fix/*\"");
	if (str_starts(pattern, STR_LIT("refs/")))
		return err_set(e, -EINVAL,
			       "\"%s\": write the short name, without \"refs/heads/\" or "
			       "\"refs/tags/\"",
			       shown);
	if (pattern.p[0] == '!')
		return err_set(
			e, -EINVAL,
			"\"%s\": there is no \"!\"; list under \"protected\" what must not be "
			"pushed",
			shown);
	if (!pattern_is_name(pattern))
		return err_set(e, -EINVAL,
			       "\"%s\" cannot be the name of a branch or tag (see git "
			       "check-ref-format), nor a pattern of names",
			       shown);
	do {
		rest = str_cut(rest, '/', &seg, &more);
		if (str_find(seg, STR_LIT("**")) < seg.n && (seg.n != 2 || more))
			return err_set(e, -EINVAL,
				       "\"%s\": \"**\" may only be the whole last segment, like "
				       "\"fix/**\"",
				       shown);
	} while (more);
	return 0;
}

static bool pattern_match(struct str pattern, struct str name)
{
	bool more_pattern = true, more_name = true;

	while (more_pattern && more_name) {
		struct str want, have;

		pattern = str_cut(pattern, '/', &want, &more_pattern);
		if (str_eq(want, STR_LIT("**")) && !more_pattern)
			return true;
		name = str_cut(name, '/', &have, &more_name);
		if (!text_star_match(want, have, false))
			return false;
	}
	return !more_pattern && !more_name;
}

bool git_ref_matches(struct str short_name, char *const *patterns, size_t n)
{
	if (short_name.n == 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (pattern_match(str_of(patterns[i]), short_name))
			return true;
	return false;
}
