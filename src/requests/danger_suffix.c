/*
 * The public suffix list: Debian's file, or what libpsl was built with, whichever is newer. Read
 * once and kept. Where neither is there nothing is known, and who asks has to take the worst.
 */
#include "requests/danger_int.h"

#include "base/clean.h"

#include <libpsl.h>

#define TYPES (PSL_TYPE_ICANN | PSL_TYPE_PRIVATE)

static const psl_ctx_t *suffixes(void)
{
	static const psl_ctx_t *list;
	static bool is_tried;

	if (is_tried)
		return list;
	is_tried = true;
	list = psl_latest(NULL);
	/* An empty one would say that nothing is public. */
	if (list && list != psl_builtin() && psl_suffix_count(list) == 0)
		list = NULL;
	return list;
}

bool danger_suffixes_known(void)
{
	return suffixes() != NULL;
}

static bool is_suffix(struct str name, int types)
{
	char text[POLICY_HOST_MAX + 1];

	return suffixes() && str_to_cstr(text, sizeof(text), name) &&
	       psl_is_public_suffix2(suffixes(), text, types) == 1;
}

bool danger_is_public_suffix(struct str name)
{
	return !suffixes() || is_suffix(name, TYPES);
}

/* Without the first label; empty behind the last. */
static struct str parent_of(struct str name)
{
	return str_sub(name, str_chr(name, '.') + 1, name.n);
}

struct str danger_private_suffix(struct str name)
{
	for (struct str at = parent_of(name); at.n > 0; at = parent_of(at))
		if (is_suffix(at, PSL_TYPE_PRIVATE | PSL_TYPE_NO_STAR_RULE))
			return at;
	return STR_NULL;
}

struct str danger_registrable(struct str name)
{
	struct str at = name, last = name;

	for (; at.n > 0; last = at, at = parent_of(at)) {
		struct str parent = parent_of(at);

		if (suffixes() ? is_suffix(parent, TYPES) : str_chr(parent, '.') == parent.n)
			return at;
	}
	return parent_of(last).n ? last : name;
}
