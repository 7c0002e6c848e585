#include "gitgate/push_report.h"

#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void push_report_init(struct push_report *p, bool is_sideband, const char *const *names, size_t n,
		      struct upstream_ref_result *results, struct buf *said)
{
	*p = (struct push_report){.names = names,
				  .results = results,
				  .n = n,
				  .is_sideband = is_sideband,
				  .said = said};
	p->is_answered = mem_zalloc_array(n + 1, sizeof(*p->is_answered));
	memset(results, 0, n * sizeof(*results));
	buf_init(&p->lines, PUSH_REPORT_MAX_BYTES);
	buf_init(&p->line, PUSH_SAID_LINE_MAX);
}

void push_report_free(struct push_report *p)
{
	free(p->is_answered);
	buf_free(&p->lines);
	buf_free(&p->line);
}

/* --- what is said to people --- */

static void said_line(struct push_report *p)
{
	char shown[PUSH_SAID_LINE_MAX * 2];
	struct str text = buf_str(&p->line);
	size_t n;

	while (text.n > 0 && text.p[text.n - 1] == ' ')
		text.n--;
	text_visible_cstr(shown, sizeof(shown), text);
	buf_reset(&p->line);
	n = strlen(shown) + 1;
	if (!p->said || p->n_said + n > UPSTREAM_TEXT_MAX || buf_room(p->said) < n)
		return;
	if (buf_printf(p->said, "%s\n", shown) == 0)
		p->n_said += n;
}

/* Of a progress that writes over itself only what stands there in the end is kept. */
static void said_take(struct push_report *p, struct str text)
{
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];

		if (c == '\n')
			said_line(p);
		else if (c == '\r')
			buf_reset(&p->line);
		else if (buf_append(&p->line, &c, 1) < 0)
			continue; /* cut */
	}
}

/* --- the report --- */

static int report_bad(struct str line, struct err *e)
{
	char shown[100];

	text_visible_cstr(shown, sizeof(shown), line);
	return err_set(e, -EPROTO, "it says \"%s\" where its report should be", shown);
}

static int report_ref(struct push_report *p, bool is_ok, struct str name, struct str reason,
		      struct err *e)
{
	for (size_t i = 0; i < p->n; i++) {
		if (!str_eq(name, str_of(p->names[i])))
			continue;
		if (p->is_answered[i])
			return report_bad(name, e);
		p->is_answered[i] = true;
		p->results[i].is_ok = is_ok;
		text_visible_cstr(p->results[i].reason, sizeof(p->results[i].reason), reason);
		if (!is_ok && reason.n == 0)
			(void)snprintf(p->results[i].reason, sizeof(p->results[i].reason),
				       "refused without a reason");
		return 0;
	}
	return report_bad(name, e);
}

static int report_line(struct push_report *p, struct str line, struct err *e)
{
	struct str word, name, rest;
	bool found;

	rest = str_cut(line, ' ', &word, &found);
	if (!p->has_unpacked) {
		if (!found || !str_eq(word, STR_LIT("unpack")))
			return report_bad(line, e);
		p->has_unpacked = true;
		p->is_unpacked = str_eq(rest, STR_LIT("ok"));
		if (!p->is_unpacked)
			text_visible_cstr(p->fatal, sizeof(p->fatal), rest);
		return 0;
	}
	/* Of a report in version 2, which was not asked for. */
	if (found && str_eq(word, STR_LIT("option")))
		return 0;
	if (found && str_eq(word, STR_LIT("ok")))
		return report_ref(p, true, rest, STR_NULL, e);
	if (!found || !str_eq(word, STR_LIT("ng")))
		return report_bad(line, e);
	rest = str_cut(rest, ' ', &name, &found);
	return report_ref(p, false, name, rest, e);
}

static int report_take(struct push_report *p, enum wire_kind kind, struct str payload,
		       struct err *e)
{
	if (p->is_done || kind == WIRE_DELIM)
		return report_bad(payload, e);
	if (kind == WIRE_FLUSH) {
		p->is_done = p->has_unpacked;
		return p->is_done ? 0 : report_bad(payload, e);
	}
	return report_line(p, wire_chomp(payload), e);
}

static int report_band(struct push_report *p, struct str data, struct err *e)
{
	int ret = 0;

	if (buf_append_str(&p->lines, data) < 0)
		return err_set(e, -EFBIG, "its report is too long");
	while (ret == 0) {
		enum wire_kind kind;
		struct str payload;
		ssize_t n = wire_next(buf_str(&p->lines), &kind, &payload);

		if (n < 0)
			return report_bad(data, e);
		if (n == 0)
			return 0;
		ret = report_take(p, kind, payload, e);
		buf_consume(&p->lines, (size_t)n);
	}
	return ret;
}

static int report_fatal(struct push_report *p, struct str text, struct err *e)
{
	text_visible_cstr(p->fatal, sizeof(p->fatal), wire_chomp(text));
	return err_set(e, -EREMOTEIO, "it says: %s", p->fatal);
}

int push_report_take(struct push_report *p, enum wire_kind kind, struct str payload, struct err *e)
{
	struct str rest = str_sub(payload, 1, payload.n);

	p->n_bytes += payload.n + 4;
	if (p->n_bytes > PUSH_REPORT_MAX_BYTES * 64ull)
		return err_set(e, -EFBIG, "it says too much");
	if (kind == WIRE_DATA && str_starts(payload, STR_LIT("ERR ")))
		return report_fatal(p, str_sub(payload, 4, payload.n), e);
	if (!p->is_sideband) {
		int ret = report_take(p, kind, payload, e);

		p->is_ended = p->is_done;
		return ret;
	}
	if (kind == WIRE_FLUSH) {
		p->is_ended = true;
		return 0;
	}
	if (kind == WIRE_DELIM)
		return report_bad(payload, e);
	if (payload.n == 0)
		return 0; /* to keep the connection alive */
	switch (payload.p[0]) {
	case 1:
		return report_band(p, rest, e);
	case 2:
		said_take(p, rest);
		return 0;
	case 3:
		return report_fatal(p, rest, e);
	default:
		return report_bad(payload, e);
	}
}

int push_report_finish(struct push_report *p)
{
	int ret = 0;

	if (buf_len(&p->line) > 0)
		said_line(p);
	if (!p->is_done)
		return -ENODATA;
	for (size_t i = 0; i < p->n; i++) {
		struct upstream_ref_result *r = &p->results[i];

		if (!p->is_unpacked) {
			r->is_ok = false;
			(void)snprintf(r->reason, sizeof(r->reason), "unpack: %.140s", p->fatal);
		} else if (!p->is_answered[i]) {
			(void)snprintf(r->reason, sizeof(r->reason),
				       "the upstream does not say what became of it");
		}
		if (!r->is_ok)
			ret = -EPERM;
	}
	return ret;
}
