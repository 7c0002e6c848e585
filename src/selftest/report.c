#include "selftest/selftest.h"

#include "base/text.h"

#include <errno.h>

static const char *const verdict_names[] = {"passed", "failed", "skipped"};

static int print_probe_json(const struct selftest_probe *p, struct buf *out)
{
	int bad = 0;

	bad |= buf_printf(out, "{\"id\":\"%s\",\"title\":", p->id);
	bad |= text_json(out, str_of(p->title));
	bad |= buf_printf(out, ",\"verdict\":\"%s\",\"control\":", verdict_names[p->verdict]);
	bad |= text_json(out, str_of(p->control));
	bad |= buf_printf(out, ",\"ms\":%llu,\"skipped_reason\":", (unsigned long long)p->ms);
	if (p->verdict == SELFTEST_SKIPPED)
		bad |= text_json(out, str_of(p->text));
	else
		bad |= buf_append(out, "null", 4);
	bad |= buf_printf(out, ",\"tries\":%u,\"left_out\":%u", p->n_tries, p->n_left_out);
	bad |= buf_printf(out, ",\"text\":");
	bad |= text_json(out, str_of(p->text));
	bad |= buf_append(out, "}", 1);
	return bad < 0 ? -ENOBUFS : 0;
}

int selftest_print_json(const struct selftest_report *r, struct buf *out)
{
	int bad = buf_printf(out, "{\"backend\":\"%s\",\"note\":", r->backend);

	bad |= text_json(out, str_of(r->note));
	bad |= buf_printf(out, ",\"kernel\":%s%s%s", r->kernel ? "\"" : "",
			  r->kernel ? r->kernel : "null", r->kernel ? "\"" : "");
	bad |= buf_printf(out, ",\"passed\":%u,\"failed\":%u,\"skipped\":%u,\"probes\":[",
			  r->passed, r->failed, r->skipped);

	for (size_t i = 0; i < r->n_probes; i++) {
		bad |= buf_printf(out, "%s", i ? "," : "");
		bad |= print_probe_json(&r->probes[i], out);
	}
	bad |= buf_printf(out, "]}\n");
	return bad < 0 ? -ENOBUFS : 0;
}

int selftest_print_text(const struct selftest_report *r, struct buf *out)
{
	int bad = 0;

	for (size_t i = 0; i < r->n_probes; i++) {
		const struct selftest_probe *p = &r->probes[i];

		bad |= buf_printf(out, "%-5s %-8s %5llu ms  %s\n", p->id, verdict_names[p->verdict],
				  (unsigned long long)p->ms, p->title);
		if (p->verdict == SELFTEST_PASSED && p->n_left_out > 0)
			bad |= buf_printf(out, "               %u of %u left out, %s\n",
					  p->n_left_out, p->n_tries, p->text);
		if (p->verdict != SELFTEST_PASSED)
			bad |= buf_printf(out, "               %s\n", p->text);
		if (p->verdict == SELFTEST_FAILED && strcmp(p->control, "succeeded") != 0)
			bad |= buf_printf(out, "               control: %s\n", p->control);
	}
	if (r->note[0])
		bad |= buf_printf(out, "the bottles' note: %s\n", r->note);
	if (r->kernel)
		bad |= buf_printf(out, "the bottles' kernel: %s\n",
				  strcmp(r->kernel, "own") == 0 ? "their own" : "this host's");
	bad |= buf_printf(out, "backend %s: %u passed, %u failed, %u skipped\n", r->backend,
			  r->passed, r->failed, r->skipped);
	return bad < 0 ? -ENOBUFS : 0;
}
