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
		if (line.n == 0)
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
		t.is_through = str_eq(fields[3], STR_LIT("through"));
		t.is_skipped = str_eq(fields[3], STR_LIT("skipped"));
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
	for (size_t i = 0; i < n; i++) {
		if (tries[i].run == SELFTEST_RUN_CONTROL && strcmp(tries[i].id, of->id) == 0 &&
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
	unsigned proven, unproven, through, lost_control;
};

static void judge_try(struct selftest_probe *p, struct tally *tally, const struct selftest_try *t,
		      const struct selftest_try *control, struct str seen)
{
	static const char *const runs[] = {"", " as root", ""};

	if (t->us / 1000 > p->ms)
		p->ms = t->us / 1000;
	if (!t->is_skipped && got_through(t, seen)) {
		if (tally->through++ == 0)
			(void)snprintf(p->text, sizeof(p->text), "%s got through%s: %.150s",
				       t->label, runs[t->run], t->detail);
		return;
	}
	if (t->is_skipped || !control || control->is_skipped) {
		if (tally->unproven++ == 0 && tally->through == 0)
			(void)snprintf(p->text, sizeof(p->text), "%s: %.180s", t->label,
				       t->is_skipped ? t->detail
				       : control     ? control->detail
						     : "it has no control");
		return;
	}
	if (!got_through(control, seen)) {
		if (tally->lost_control++ == 0)
			(void)snprintf(p->control, sizeof(p->control),
				       "%s did not get through: %.120s", t->label, control->detail);
		return;
	}
	tally->proven++;
}

static void judge_probe(struct selftest_probe *p, const struct selftest_try *tries, size_t n,
			struct str seen)
{
	struct tally tally = {0};
	bool ran[SELFTEST_RUN_COUNT] = {false};

	(void)snprintf(p->control, sizeof(p->control), "succeeded");
	for (size_t i = 0; i < n; i++) {
		const struct selftest_try *t = &tries[i];

		if (strcmp(t->id, p->id) != 0)
			continue;
		ran[t->run] = true;
		if (t->run != SELFTEST_RUN_CONTROL)
			judge_try(p, &tally, t, find_control(tries, n, t), seen);
	}
	if (tally.through) {
		p->verdict = SELFTEST_FAILED;
	} else if (!ran[SELFTEST_RUN_AGENT] || !ran[SELFTEST_RUN_CONTROL]) {
		p->verdict = SELFTEST_FAILED;
		(void)snprintf(p->text, sizeof(p->text), "it did not run %s",
			       ran[SELFTEST_RUN_AGENT] ? "outside" : "in the bottle");
	} else if (tally.lost_control) {
		p->verdict = SELFTEST_FAILED;
		(void)snprintf(p->text, sizeof(p->text), "it proves nothing: its control failed");
	} else if (tally.proven == 0) {
		p->verdict = SELFTEST_SKIPPED;
		(void)snprintf(p->control, sizeof(p->control), "could not be made");
	} else {
		p->verdict = SELFTEST_PASSED;
		p->text[0] = '\0';
	}
}

void selftest_judge(struct selftest_report *out, const struct selftest_try *tries, size_t n,
		    struct str seen)
{
	for (size_t i = 0; i < n; i++) {
		if (!find_probe(out, tries[i].id) && out->n_probes < SELFTEST_PROBES_MAX)
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
