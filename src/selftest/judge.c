/*
 * A probe has passed when none of its tries got through inside and each of them got through
 * outside. A try that could not be made outside proves nothing: it is left out, and a probe of
 * which nothing is left is skipped, never passed.
 */
#include "selftest/selftest.h"

#include "base/clean.h"

#include <errno.h>
#include <stdio.h>

#define TRY_FIELDS 6

int selftest_parse_tries(struct str output, enum selftest_run run, struct selftest_try *tries,
			 size_t *n, struct err *e)
{
	bool more = true, is_whole = false;

	while (more) {
		struct str line, fields[TRY_FIELDS], rest;
		struct selftest_try t = {.run = run};
		bool has_next = true;

		output = str_cut(output, '\n', &line, &more);
		/* "ask" is for whoever answers it, and so is what the human is to do. */
		if (line.n == 0 || str_eq(line, STR_LIT("ask")) ||
		    str_starts(line, STR_LIT("human\t")))
			continue;
		if (str_eq(line, STR_LIT("end"))) {
			is_whole = true;
			break;
		}
		rest = line;
		for (size_t i = 0; i < TRY_FIELDS; i++)
			rest = str_cut(rest, '\t', &fields[i], &has_next);
		if (*n == SELFTEST_TRIES_MAX)
			return err_set(e, -E2BIG, "more than %d tries", SELFTEST_TRIES_MAX);
		if (!str_to_cstr(t.id, sizeof(t.id), fields[0]) ||
		    !str_to_cstr(t.label, sizeof(t.label), fields[1]) ||
		    !str_to_cstr(t.token, sizeof(t.token), fields[2]) ||
		    str_to_u64(fields[4], UINT64_MAX, &t.us) < 0)
			return err_set(e, -EPROTO, "the probe printed something else: " STR_FMT,
				       STR_ARG(str_sub(line, 0, 120)));
		if (!str_to_cstr(t.detail, sizeof(t.detail),
				 str_sub(fields[5], 0, sizeof(t.detail) - 1)))
			t.detail[0] = '\0';
		t.is_wanted = str_eq(fields[3], STR_LIT("arrived"));
		t.is_through = t.is_wanted || str_eq(fields[3], STR_LIT("through"));
		t.is_skipped = str_eq(fields[3], STR_LIT("skipped"));
		t.is_wanted |= str_eq(fields[3], STR_LIT("wanted"));
		tries[(*n)++] = t;
	}
	return is_whole ? 0 : err_set(e, -EPROTO, "the probe ended early");
}

static bool got_through(const struct selftest_try *t, struct str seen)
{
	return t->is_through || (t->token[0] && str_find(seen, str_of(t->token)) < seen.n);
}

static const struct selftest_try *find_control(const struct selftest_try *tries, size_t n,
					       const struct selftest_try *of)
{
	const char *id = of->origin[0] ? of->origin : of->id;

	for (size_t i = 0; i < n; i++) {
		if (tries[i].run == SELFTEST_RUN_CONTROL && strcmp(tries[i].id, id) == 0 &&
		    strcmp(tries[i].label, of->label) == 0)
			return &tries[i];
	}
	return NULL;
}

static struct selftest_probe *find_probe(struct selftest_report *r, const char *id)
{
	for (size_t i = 0; i < r->n_probes; i++) {
		if (strcmp(r->probes[i].id, id) == 0)
			return &r->probes[i];
	}
	return NULL;
}

struct tally {
	unsigned proven, unproven, through, missing, lost_control;
};

/* "N05 bundle-udp" of one that is run again under another id. */
static const char *name_of(const struct selftest_try *t, char out[64])
{
	(void)snprintf(out, 64, "%s%s%s", t->origin, t->origin[0] ? " " : "", t->label);
	return out;
}

/* True when the try itself has decided against the probe. */
static bool try_is_bad(struct selftest_probe *p, struct tally *tally, const struct selftest_try *t,
		       struct str seen)
{
	static const char *const runs[] = {"", " as root", ""};
	bool arrived = got_through(t, seen), is_first = tally->through + tally->missing == 0;
	char name[64];

	if (t->is_skipped || arrived == t->is_wanted)
		return false;
	if (is_first)
		(void)snprintf(p->text, sizeof(p->text), "%s %s%s: %.130s", name_of(t, name),
			       t->is_wanted ? "did not arrive" : "got through", runs[t->run],
			       t->detail);
	tally->through += !t->is_wanted;
	tally->missing += t->is_wanted;
	return true;
}

static void judge_try(struct selftest_probe *p, struct tally *tally, const struct selftest_try *t,
		      const struct selftest_try *control, struct str seen)
{
	bool is_good = tally->through + tally->missing == 0;
	char name[64];

	p->n_tries++;
	if (!t->is_wanted && t->us / 1000 > p->ms)
		p->ms = t->us / 1000;
	if (try_is_bad(p, tally, t, seen))
		return;
	if (t->is_skipped || !control || control->is_skipped) {
		if (tally->unproven++ == 0 && is_good)
			(void)snprintf(p->text, sizeof(p->text), "%s: %.180s", name_of(t, name),
				       t->is_skipped ? t->detail
				       : control     ? control->detail
						     : "it has no control");
		return;
	}
	if (!got_through(control, seen)) {
		if (tally->lost_control++ == 0)
			(void)snprintf(p->control, sizeof(p->control),
				       "%s did not get through: %.90s", name_of(t, name),
				       control->detail);
		return;
	}
	tally->proven++;
}

static void decide(struct selftest_probe *p, const struct tally *tally, bool ran_inside,
		   bool ran_outside)
{
	p->n_left_out = tally->unproven;
	if (tally->through || tally->missing) {
		p->verdict = SELFTEST_FAILED;
	} else if (!ran_inside || !ran_outside) {
		p->verdict = SELFTEST_FAILED;
		(void)snprintf(p->text, sizeof(p->text), "it did not run %s",
			       ran_inside ? "outside" : "in the bottle");
	} else if (tally->lost_control) {
		p->verdict = SELFTEST_FAILED;
		(void)snprintf(p->text, sizeof(p->text), "it proves nothing: its control failed");
	} else if (tally->proven == 0) {
		p->verdict = SELFTEST_SKIPPED;
		(void)snprintf(p->control, sizeof(p->control), "could not be made");
	} else {
		p->verdict = SELFTEST_PASSED;
	}
}

static void judge_probe(struct selftest_probe *p, const struct selftest_try *tries, size_t n,
			struct str seen)
{
	struct tally tally = {0};
	bool ran_inside = false, ran_outside = false;

	(void)snprintf(p->control, sizeof(p->control), "succeeded");
	for (size_t i = 0; i < n; i++) {
		const struct selftest_try *t = &tries[i], *control;

		if (strcmp(t->id, p->id) != 0)
			continue;
		if (t->run == SELFTEST_RUN_CONTROL) {
			ran_outside = true;
			continue;
		}
		control = find_control(tries, n, t);
		ran_inside |= t->run == SELFTEST_RUN_AGENT;
		ran_outside |= control != NULL;
		judge_try(p, &tally, t, control, seen);
	}
	decide(p, &tally, ran_inside, ran_outside);
}

void selftest_judge(struct selftest_report *out, const struct selftest_try *tries, size_t n,
		    struct str seen)
{
	for (size_t i = 0; i < n; i++) {
		if (!tries[i].is_support && !find_probe(out, tries[i].id) &&
		    out->n_probes < SELFTEST_PROBES_MAX)
			(void)snprintf(out->probes[out->n_probes++].id, sizeof(out->probes[0].id),
				       "%s", tries[i].id);
	}
	out->passed = out->failed = out->skipped = 0;
	for (size_t i = 0; i < out->n_probes; i++) {
		judge_probe(&out->probes[i], tries, n, seen);
		out->passed += out->probes[i].verdict == SELFTEST_PASSED;
		out->failed += out->probes[i].verdict == SELFTEST_FAILED;
		out->skipped += out->probes[i].verdict == SELFTEST_SKIPPED;
	}
}
