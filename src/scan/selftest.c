/*
 * The self-test of the production database: an engine that loses matches is worse than none. Every
 * sample of every rule goes through the stream interface: cut at every position when the database
 * is compiled, and at some at each start. The outcome depends on nothing but the rules, Hyperscan,
 * the processor's features and the database, all of which the header of the cache names; the test
 * at the start is for what no header tells, such as memory that fails.
 */
#include "scan/scan_int.h"

#include <errno.h>

struct selftest_hit {
	const char *rule;
	bool is_hit;
};

static bool note_hit(const struct scan_finding *f, void *ctx)
{
	struct selftest_hit *h = ctx;

	if (f->kind == SCAN_KIND_RULE && strcmp(f->rule, h->rule) == 0)
		h->is_hit = true;
	return !h->is_hit;
}

static enum scan_place first_place(unsigned places)
{
	/* The body where the rule applies to it: its views are the most general. */
	return places >> SCAN_PLACE_BODY & 1 ? SCAN_PLACE_BODY
					     : (enum scan_place)__builtin_ctz(places);
}

/* 1 if the rule hits the sample cut at this place, 0 if not, -errno. */
static int sample_hits(struct scan_engine *en, const struct scan_rule *r, struct str text,
		       size_t cut)
{
	struct selftest_hit h = {.rule = r->id};
	struct scan_stream *s = scan_stream_open(en, first_place(r->places), note_hit, &h);
	int k;

	if (!s)
		return -ENOBUFS;
	k = scan_stream_feed(s, str_sub(text, 0, cut));
	if (k == 0)
		k = scan_stream_feed(s, str_sub(text, cut, text.n));
	if (k == 0)
		k = scan_stream_end(s);
	scan_stream_close(s);
	return k < 0 ? k : h.is_hit;
}

#define STARTS_CUTS 6 /* of each sample, besides none */

static int rule_selftest(struct scan_engine *en, const struct scan_rule *r, bool is_full,
			 struct err *e)
{
	for (const char *const *p = r->positives; *p; p++) {
		struct str text = str_of(*p);
		size_t step = is_full ? 1 : 1 + text.n / STARTS_CUTS;

		for (size_t cut = 0; cut <= text.n; cut += step) {
			int k = sample_hits(en, r, text, cut);

			if (k != 1)
				return err_set(
					e, k < 0 ? k : -EIO,
					"scan self-test: rule %s misses its sample %zu cut at %zu",
					r->id, (size_t)(p - r->positives), cut);
		}
	}
	for (const char *const *p = r->negatives; *p; p++) {
		int k = sample_hits(en, r, str_of(*p), 0);

		if (k != 0)
			return err_set(e, k < 0 ? k : -EIO,
				       "scan self-test: rule %s hits its negative sample %zu",
				       r->id, (size_t)(p - r->negatives));
	}
	return 0;
}

static int rules_selftest(struct scan_engine *en, bool is_full, struct err *e)
{
	int k = 0;

	en->is_plain_only = true;
	for (size_t i = 0; i < scan_rules_n && k == 0; i++) {
		en->is_rules_only = scan_rules[i].regex != NULL;
		k = rule_selftest(en, &scan_rules[i], is_full, e);
	}
	en->is_plain_only = en->is_rules_only = false;
	return k;
}

int scan_engine_selftest(struct scan_engine *en, struct err *e)
{
	return rules_selftest(en, false, e);
}

int scan_engine_selftest_full(struct scan_engine *en, struct err *e)
{
	return rules_selftest(en, true, e);
}
