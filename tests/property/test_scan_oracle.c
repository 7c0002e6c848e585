/*
 * The scan engine against PCRE2: random subsets of the rules, random texts that hold mutated
 * samples among words, cut at random places. What the engine's stream reports must be what PCRE2
 * finds with the same expressions in the whole text. This is the test that shows an engine that
 * loses matches in some combinations of rules; a planted secret does not.
 *
 * PROPERTY_SEED and PROPERTY_ROUNDS override the seed (printed) and the number of rounds.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/clean.h"
#include "base/timeutil.h"
#include "scan/scan_int.h"

#include <stdio.h>

#define TEXT_MAX      8192
#define ROUNDS	      60
#define ROUNDS_SLOW   20 /* under sanitizers; all of them run without */
#define TEXTS_A_ROUND 24

static uint64_t rng;
static pcre2_code *oracle[SCAN_RULES_MAX];

static uint32_t rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 11) % below;
}

struct hits {
	bool rule[SCAN_RULES_MAX];
};

static int on_match(unsigned id, unsigned long long from, unsigned long long to, unsigned flags,
		    void *ctx)
{
	struct hits *h = ctx;

	(void)from;
	(void)flags;
	(void)to;
	if (id < SCAN_RULES_MAX)
		h->rule[id] = true;
	return 0;
}

static void oracle_open(void)
{
	for (size_t i = 0; i < scan_rules_n; i++) {
		const struct scan_rule *r = &scan_rules[i];
		uint32_t flags = PCRE2_DOTALL | (r->flags & RULE_ICASE ? PCRE2_CASELESS : 0u);
		PCRE2_SIZE at;
		int code;

		if (!r->regex)
			continue;
		oracle[i] = pcre2_compile((PCRE2_SPTR)r->regex, PCRE2_ZERO_TERMINATED, flags, &code,
					  &at, NULL);
		if (!oracle[i] || pcre2_jit_compile(oracle[i], PCRE2_JIT_COMPLETE) != 0) {
			fprintf(stderr, "rule %s does not compile for the oracle\n", r->id);
			exit(1);
		}
	}
}

static bool oracle_hits(unsigned rule, const char *p, size_t n)
{
	pcre2_match_data *md = pcre2_match_data_create(1, NULL);
	int r = pcre2_match(oracle[rule], (PCRE2_SPTR)p, n, 0, 0, md, NULL);

	pcre2_match_data_free(md);
	if (r < 0 && r != PCRE2_ERROR_NOMATCH) {
		fprintf(stderr, "oracle error %d\n", r);
		exit(1);
	}
	return r >= 0;
}

static size_t put(char *text, size_t at, const char *p, size_t n)
{
	if (n > TEXT_MAX - at)
		n = TEXT_MAX - at;
	memcpy(text + at, p, n);
	return at + n;
}

/* A sample, often with a byte changed, dropped or put in. */
static size_t put_sample(char *text, size_t at, const struct scan_rule *r)
{
	const char *const *samples = rnd(4) ? r->positives : r->negatives;
	size_t count = 0, from = at, n;
	const char *s;

	while (samples[count])
		count++;
	if (count == 0)
		return at;
	s = samples[rnd((uint32_t)count)];
	at = put(text, at, s, strlen(s));
	n = at - from;
	if (n == 0)
		return at;
	switch (rnd(6)) {
	case 0:
		text[from + rnd((uint32_t)n)] = (char)(' ' + rnd(95));
		break;
	case 1:
		return from + rnd((uint32_t)n);
	case 2: /* doubled prefix: partial matches that must not hide the whole one */
		if (2 * n < TEXT_MAX - from) {
			size_t k = rnd((uint32_t)n);

			memmove(text + from + k, text + from, n);
			at += k;
		}
		break;
	default:
		break;
	}
	return at;
}

static size_t make_text(char *text, const unsigned *rules, size_t rules_n)
{
	static const char *const joints[] = {" ", "\n", "=", "\"", ": ",   "",	"-",
					     "_", "/",	"&", ".",  "AKIA", "ey"};
	size_t at = 0, want = 50 + rnd(TEXT_MAX - 600);

	while (at < want) {
		const struct scan_rule *r = rnd(3) ? &scan_rules[rules[rnd((uint32_t)rules_n)]]
						   : &scan_rules[rnd((uint32_t)scan_rules_n)];
		const char *joint = joints[rnd(ARRAY_LEN(joints))];

		if (rnd(3) == 0)
			at = put_sample(text, at, r);
		else
			for (uint32_t i = rnd(40); i > 0 && at < want; i--)
				text[at++] = rnd(12) ? "etaoin shrdlu/_-.:0123456789ABCDEF"[rnd(34)]
						     : (char)(uint8_t)rnd(256);
		at = put(text, at, joint, strlen(joint));
	}
	return at;
}

static bool check_text(struct scan_db *db, hs_scratch_t *scratch, const unsigned *rules,
		       size_t rules_n, const char *text, size_t n)
{
	struct hits *hits = calloc(1, sizeof(*hits));
	bool is_good = hits != NULL;

	for (size_t w = 0; w < WAY_COUNT && is_good; w++) {
		hs_stream_t *s = NULL;

		is_good = hs_open_stream(db->hs[w], 0, &s) == HS_SUCCESS;
		for (size_t at = 0; at < n && is_good;) {
			size_t k = rnd(4) ? 1 + rnd(40) : 1 + rnd(2000);

			if (k > n - at)
				k = n - at;
			is_good = hs_scan_stream(s, text + at, (unsigned)k, 0, scratch, on_match,
						 hits) == HS_SUCCESS;
			at += k;
		}
		is_good = is_good && hs_close_stream(s, scratch, on_match, hits) == HS_SUCCESS;
	}
	for (size_t i = 0; i < rules_n && is_good; i++) {
		unsigned id = rules[i];

		if (scan_rules[id].regex && hits->rule[id] != oracle_hits(id, text, n)) {
			fprintf(stderr, "rule %s: engine %d, oracle %d, in %zu bytes\n",
				scan_rules[id].id, hits->rule[id], !hits->rule[id], n);
			is_good = false;
		}
	}
	free(hits);
	return is_good;
}

static bool round_once(unsigned rounds_left)
{
	static char text[TEXT_MAX + 1];
	unsigned rules[SCAN_RULES_MAX];
	size_t n = 0, want = rnd(8) ? 3 + rnd(60) : (uint32_t)scan_rules_n;
	struct scan_db db;
	struct err e = ERR_INIT;
	hs_scratch_t *scratch = NULL;
	bool is_good = true;

	for (unsigned i = 0; i < scan_rules_n; i++)
		if (rnd((uint32_t)scan_rules_n) < want)
			rules[n++] = i;
	if (n == 0)
		return true;
	if (scan_db_compile(&db, rules, n, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return false;
	}
	for (size_t w = 0; w < WAY_COUNT; w++)
		is_good &= hs_alloc_scratch(db.hs[w], &scratch) == HS_SUCCESS;
	for (unsigned i = 0; i < TEXTS_A_ROUND && is_good; i++)
		is_good = check_text(&db, scratch, rules, n, text, make_text(text, rules, n));
	(void)hs_free_scratch(scratch);
	scan_db_free(&db);
	if (!is_good)
		fprintf(stderr, "failed with %u rounds left\n", rounds_left);
	return is_good;
}

int main(void)
{
	const char *seed = getenv("PROPERTY_SEED"), *rounds = getenv("PROPERTY_ROUNDS");
	uint64_t first = seed ? strtoull(seed, NULL, 0) : time_realtime_ns();
	unsigned n = rounds		      ? (unsigned)strtoul(rounds, NULL, 0)
		     : getenv("ASAN_OPTIONS") ? ROUNDS_SLOW
					      : ROUNDS;

	rng = first | 1;
	printf("PROPERTY_SEED=%llu, %u rounds\n", (unsigned long long)first, n);
	fflush(stdout);
	oracle_open();
	for (unsigned i = n; i > 0; i--)
		if (!round_once(i))
			return 1;
	for (size_t i = 0; i < scan_rules_n; i++)
		pcre2_code_free(oracle[i]);
	return 0;
}
