/*
 * What covers a finding: in a request that goes on without it, and in the excerpt that a human is
 * shown of one that waits.
 *
 * The engine tells of a shape as soon as it is one. A mask therefore goes on to the end of the
 * token, over lines that a transport has folded; a key in armour is covered to the end of that. In
 * coded text nobody knows where the value ends.
 */
#include "pipelock/gate_int.h"

#include "base/clean.h"
#include "base/text.h"

#include <stdio.h>

/* Of what a human is shown: text on either side of a finding, and of the mask over it. */
#define GATE_AROUND_BYTES 60
#define GATE_MASK_SHOWN	  8
#define GATE_AROUND_MAX	  (2 * GATE_AROUND_BYTES + 4 * GATE_MASK_SHOWN)

/* --- where a mask ends --- */

static const char *mask_find(struct str text, struct str what)
{
	return text.n > 0 ? memmem(text.p, text.n, what.p, what.n) : NULL;
}

/* Behind "-----END …-----"; without it all the rest. */
static uint64_t mask_block_end(struct str text, uint64_t from)
{
	const struct str begin = STR_LIT("-----END "), end = STR_LIT("-----");
	const char *at = mask_find(str_sub(text, from, text.n), begin);

	if (at)
		at = mask_find(str_sub(text, (size_t)(at - text.p) + begin.n, text.n), end);
	return at ? (uint64_t)(at - text.p) + end.n : text.n;
}

/* The length of a line's end that is none of the value's (quoted-printable, a shell), or 0. */
static size_t mask_fold(struct str text)
{
	if (str_starts(text, STR_LIT("=\n")) || str_starts(text, STR_LIT("\\\n")))
		return 2;
	return str_starts(text, STR_LIT("=\r\n")) || str_starts(text, STR_LIT("\\\r\n")) ? 3 : 0;
}

static uint64_t mask_token_end(struct str text, uint64_t to)
{
	while (to < text.n) {
		size_t fold = mask_fold(str_sub(text, to, text.n));

		if (fold == 0 && !ascii_is_alnum(text.p[to]) && !strchr("_-+/=.$~", text.p[to]))
			break;
		to += fold > 0 ? fold : 1;
	}
	return to;
}

static uint64_t mask_end(const struct scan_finding *f, struct str text)
{
	if (f->kind != SCAN_KIND_RULE)
		return f->to;
	if (f->decoders[0] != '\0')
		return text.n;
	return scan_rule_is_block(f->rule) ? mask_block_end(text, f->to)
					   : mask_token_end(text, f->to);
}

/* Of every finding, before anything is written over. */
static void mask_ranges(const struct gate_findings *fs, struct str text,
			struct gate_range out[GATE_FINDINGS_MAX])
{
	for (unsigned i = 0; i < fs->n; i++)
		out[i] = (struct gate_range){fs->list[i].from, mask_end(&fs->list[i], text)};
}

/* --- in the request --- */

/* A canary and a misplaced placeholder are signs of an attempt: they are not made to go away. Of a
 * long secret only the head is known. */
static bool mask_is_possible(const struct scan_finding *f, struct str text)
{
	if (f->decoders[0] != '\0' || f->from >= f->to || f->to > text.n)
		return false;
	return f->kind == SCAN_KIND_RULE ||
	       (f->kind == SCAN_KIND_SECRET && f->to - f->from < SCAN_PRINT_COVER);
}

bool gate_mask(const struct gate_findings *fs, struct str text)
{
	struct gate_range masks[GATE_FINDINGS_MAX];

	for (unsigned i = 0; i < fs->n; i++) {
		if (!mask_is_possible(&fs->list[i], text))
			return false;
	}
	mask_ranges(fs, text, masks);
	for (unsigned i = 0; i < fs->n; i++) {
		if (!gate_is_placeholder_shape(fs, &fs->list[i]))
			memset((char *)(uintptr_t)text.p + masks[i].from, '*',
			       masks[i].to - masks[i].from);
	}
	return true;
}

/* --- in an excerpt --- */

/* Only shapes of credentials, and all of them known: those a human may judge. */
static bool hold_is_possible(const struct gate_findings *fs, struct str text)
{
	for (unsigned i = 0; i < fs->n; i++) {
		const struct scan_finding *f = &fs->list[i];

		if (f->kind != SCAN_KIND_RULE || f->from >= f->to || f->to > text.n)
			return false;
	}
	return fs->n > 0 && !fs->is_full;
}

/* The end of a mask over byte at, 0 where there is none. */
static uint64_t hold_masked_to(const struct gate_range *masks, unsigned n, uint64_t at)
{
	uint64_t to = 0;

	for (unsigned i = 0; i < n; i++) {
		if (at >= masks[i].from && at < masks[i].to && masks[i].to > to)
			to = masks[i].to;
	}
	return to;
}

/* What a human is shown of text around f, in out of GATE_AROUND_MAX bytes; its length. */
static size_t hold_around(const struct gate_findings *fs, struct str text,
			  const struct scan_finding *f, char *out)
{
	struct gate_range masks[GATE_FINDINGS_MAX];
	uint64_t at = f->from > GATE_AROUND_BYTES ? f->from - GATE_AROUND_BYTES : 0;
	uint64_t end = mask_end(f, text) + GATE_AROUND_BYTES;
	size_t n = 0;

	mask_ranges(fs, text, masks);
	while (at < text.n && at < end && n < GATE_AROUND_MAX) {
		uint64_t to = hold_masked_to(masks, fs->n, at);

		if (to == 0) {
			out[n++] = text.p[at++];
			continue;
		}
		/* Of one length: how long a value is, is a part of it. */
		for (int i = 0; i < GATE_MASK_SHOWN && n < GATE_AROUND_MAX; i++)
			out[n++] = '*';
		at = to;
	}
	return n;
}

/* What is left beside the masks is looked at once more: nothing is shown if there is anything in
 * it. */
static void hold_excerpt(struct gate *g, struct str text, const struct scan_finding *f)
{
	char around[GATE_AROUND_MAX];
	struct str shown = {around, hold_around(&g->findings, text, f, around)};

	if (gate_may_show(g, f->place, shown))
		text_visible_cstr(g->mark.shown, sizeof(g->mark.shown), shown);
	else
		(void)snprintf(g->mark.shown, sizeof(g->mark.shown), "[masked]");
}

bool gate_hold(struct gate *g, enum scan_place place, struct str text, struct gate_verdict *v)
{
	const struct gate_findings *fs = &g->findings;
	const struct scan_finding *worst = gate_worst(fs);
	struct scan_finding f;

	if (!worst || !hold_is_possible(fs, text))
		return false;
	if (v->verdict == RECORD_HOLD)
		return true;
	f = *worst;
	(void)gate_block_finding(v, place, &f);
	v->verdict = RECORD_HOLD;
	memcpy(g->mark.rule, f.rule, sizeof(g->mark.rule));
	(void)snprintf(g->mark.where, sizeof(g->mark.where), "%s, byte %llu of %zu",
		       place == SCAN_PLACE_QUERY ? "query" : v->scanner, (unsigned long long)f.from,
		       text.n);
	hold_excerpt(g, text, &f);
	return true;
}
