#include "selftest/look.h"

#include "base/clean.h"
#include "base/log.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#define LOOK_MAX (32u << 20)
#define LOOK_WINDOW                                                                                \
	24 /* bytes before a token; the longest of the strings is longer, its end is not */
#define LOOK_LONG      1500 /* without a place to break */
#define LOOK_LINES_MAX 64
/* So that one string's end is not taken for the next one's beginning. */
#define LOOK_GAP "                                |"

static void must(int ret)
{
	if (ret < 0)
		die("a face has said too much");
}

void look_init(struct faces *f)
{
	*f = (struct faces){.requests = BUF_INIT(LOOK_MAX)};
	for (size_t i = 0; i < LOOK_FACES; i++)
		buf_init(&f->text[i], LOOK_MAX);
}

void look_free(struct faces *f)
{
	for (size_t i = 0; i < LOOK_FACES; i++)
		buf_free(&f->text[i]);
	buf_free(&f->requests);
}

void look_add(struct faces *f, enum look_face face, struct str text)
{
	must(buf_append_str(&f->text[face], text));
	must(buf_append_str(&f->text[face], STR_LIT(LOOK_GAP)));
}

/* --- JSON --- */

static void add_string(struct buf *out, struct str text)
{
	must(buf_append_str(out, text));
	must(buf_append_str(out, STR_LIT(LOOK_GAP)));
}

static void add_strings(struct buf *out, json_t *j)
{
	const char *key;
	json_t *value;
	size_t i;

	if (json_is_string(j))
		add_string(out, str_slice(json_string_value(j), json_string_length(j)));
	json_array_foreach(j, i, value) add_strings(out, value);
	json_object_foreach(j, key, value)
	{
		add_string(out, str_of(key));
		add_strings(out, value);
	}
}

static void add_one(struct faces *f, enum look_face face, struct str json)
{
	json_t *j = json_loadb(json.p ? json.p : "", json.n, JSON_REJECT_DUPLICATES, NULL);

	if (j)
		add_strings(&f->text[face], j);
	else
		f->n_broken++;
	json_decref(j);
}

void look_add_json(struct faces *f, enum look_face face, struct str json, bool is_lines)
{
	bool more = is_lines;
	struct str line;

	if (!is_lines)
		add_one(f, face, json);
	while (more) {
		json = str_cut(json, '\n', &line, &more);
		if (line.n > 0)
			add_one(f, face, line);
	}
}

static const char *text_of(const json_t *j, const char *key)
{
	const char *text = json_string_value(json_object_get(j, key));

	return text ? text : "";
}

static void add_request(struct faces *f, const json_t *r)
{
	const json_t *change = json_object_get(r, "change");
	const json_t *findings = json_object_get(r, "findings"), *one;
	size_t i;

	must(buf_printf(&f->requests, "%s\t,", text_of(r, "state")));
	json_array_foreach(findings, i, one)
		must(buf_printf(&f->requests, "%s,", text_of(one, "rule")));
	must(buf_printf(&f->requests, "\t%s\t%s\n", text_of(change, "host"), text_of(r, "reason")));
}

void look_add_requests(struct faces *f, struct str json)
{
	json_t *all = json_loadb(json.p ? json.p : "", json.n, JSON_REJECT_DUPLICATES, NULL), *one;
	size_t i;

	if (!json_is_array(all))
		f->n_broken++;
	json_array_foreach(all, i, one) add_request(f, one);
	json_decref(all);
}

/* --- raw --- */

/* What moves a cursor or a reader's eye, begun at s: controls, C1, and in Unicode what is not seen
 * or turns the order around. */
static bool is_active(struct str s)
{
	static const struct str sequences[] = {
		STR_LIT("\xc2\xad"),				  /* soft hyphen */
		STR_LIT("\xd8\x9c"),				  /* Arabic letter mark */
		STR_LIT("\xe1\xa0\x8e"),			  /* Mongolian vowel separator */
		STR_LIT("\xef\xbb\xbf"),			  /* byte order mark */
		STR_LIT("\xf3\xa0\x80"), STR_LIT("\xf3\xa0\x81"), /* tags */
	};
	unsigned char a = (unsigned char)s.p[0];
	unsigned char b = s.n > 1 ? (unsigned char)s.p[1] : 0;
	unsigned char c = s.n > 2 ? (unsigned char)s.p[2] : 0;

	if ((a < ' ' && a != '\n') || a == 0x7f || (a == 0xc2 && b >= 0x80 && b < 0xa0))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(sequences); i++)
		if (str_starts(s, sequences[i]))
			return true;
	/* U+200B to U+200F, U+2028 to U+202E, U+2060 to U+206F */
	return a == 0xe2 &&
	       ((b == 0x80 && ((c >= 0x8b && c <= 0x8f) || (c >= 0xa8 && c <= 0xae))) ||
		(b == 0x81 && c >= 0xa0 && c <= 0xaf));
}

static bool has_long_run(struct str before)
{
	size_t n = 0;

	while (n < before.n && n < LOOK_LONG && (unsigned char)before.p[before.n - 1 - n] > ' ')
		n++;
	return n == LOOK_LONG;
}

static bool is_raw_before(struct str before)
{
	size_t from = before.n > LOOK_WINDOW ? before.n - LOOK_WINDOW : 0;

	if (str_ends(before, STR_LIT("\n")) || has_long_run(before))
		return true;
	for (size_t i = before.n; i > from && before.p[i - 1] != '\n'; i--)
		if (is_active(str_sub(before, i - 1, before.n)))
			return true;
	return false;
}

bool look_is_raw(struct str text, struct str token)
{
	for (size_t from = 0; from < text.n;) {
		size_t at = from + str_find(str_sub(text, from, text.n), token);

		if (at >= text.n)
			return false;
		if (is_raw_before(str_sub(text, 0, at)))
			return true;
		from = at + token.n;
	}
	return false;
}

/* --- judging --- */

static bool has(struct str text, const char *what)
{
	return str_find(text, str_of(what)) < text.n;
}

static bool is_in_all(const struct faces *f, const enum look_face *in, size_t n, const char *token)
{
	for (size_t i = 0; i < n; i++)
		if (!has(buf_str(&f->text[in[i]]), token))
			return false;
	return true;
}

/* By tell_human, which a screen has to show: no command does. */
static bool is_told(const struct selftest_try *t)
{
	return strncmp(t->label, "told-", 5) == 0;
}

/* The twins: what is harmless must be shown to whoever decides, and written down. */
static bool is_shown(const struct faces *f, const struct selftest_try *t)
{
	static const enum look_face deciding[] = {LOOK_SHOW, LOOK_JSON, LOOK_PAGE};
	static const enum look_face kept[] = {LOOK_LOGS, LOOK_LOGS_JSON, LOOK_RECORDS};

	if (t->run == SELFTEST_RUN_CONTROL)
		return has(buf_str(&f->text[LOOK_NAIVE]), t->token);
	if (is_told(t))
		return has(buf_str(&f->text[LOOK_STORE]), t->token);
	return strcmp(t->id, "H08") == 0 ? is_in_all(f, kept, ARRAY_LEN(kept), t->token)
					 : is_in_all(f, deciding, ARRAY_LEN(deciding), t->token);
}

static bool is_raw_anywhere(const struct faces *f, const struct selftest_try *t)
{
	if (t->run == SELFTEST_RUN_CONTROL)
		return look_is_raw(buf_str(&f->text[LOOK_NAIVE]), str_of(t->token));
	for (size_t i = 0; i < LOOK_NAIVE; i++)
		if (i != LOOK_STORE && look_is_raw(buf_str(&f->text[i]), str_of(t->token)))
			return true;
	/* Texts stand among numbers there: only what says so has enough of its own before it. */
	return is_told(t) && look_is_raw(buf_str(&f->text[LOOK_STORE]), str_of(t->token));
}

/* More lines of the human's than there should be, or, of what was asked over and over, none. */
static bool is_flood(const struct faces *f, const struct selftest_try *t)
{
	enum look_face face = t->run == SELFTEST_RUN_CONTROL ? LOOK_NAIVE : LOOK_LIST;
	struct str rest = buf_str(&f->text[face]), line;
	bool more = true;
	size_t n = 0;

	while (more) {
		rest = str_cut(rest, '\n', &line, &more);
		n += has(line, t->token);
	}
	return strcmp(t->label, "same") == 0 ? n != 1 : n > LOOK_LINES_MAX;
}

static bool is_ascii(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return false;
	return true;
}

/* One request could be granted, and nothing beside it says why it should not. line: of
 * struct faces. */
static bool is_unflagged(struct str line, const char *id)
{
	struct str state, rules, host;

	line = str_cut(line, '\t', &state, &(bool){false});
	line = str_cut(line, '\t', &rules, &(bool){false});
	(void)str_cut(line, '\t', &host, &(bool){false});
	if (!str_eq(state, STR_LIT("pending")) && !str_eq(state, STR_LIT("granted")))
		return false;
	if (strcmp(id, "H10") == 0)
		return !is_ascii(host) || !(has(rules, ",look-alike,") || has(rules, ",punycode,"));
	/* "writes" is a note, everything else a warning at least. */
	return str_eq(rules, STR_LIT(",")) || str_eq(rules, STR_LIT(",writes,"));
}

static bool could_be_granted(const struct faces *f, const struct selftest_try *t)
{
	struct str rest = buf_str(&f->requests), line;
	bool more = true;

	while (more) {
		rest = str_cut(rest, '\n', &line, &more);
		if (has(line, t->token))
			return is_unflagged(line, t->is_wanted ? "" : t->id);
	}
	return t->is_wanted && is_shown(f, t);
}

static bool got_through(const struct faces *f, const struct selftest_try *t)
{
	bool is_asked = strcmp(t->id, "H05") == 0 || strcmp(t->id, "H10") == 0;

	if (is_asked)
		return could_be_granted(f, t);
	if (strcmp(t->id, "H04") == 0)
		return is_flood(f, t);
	if (strcmp(t->id, "H01") != 0 && strcmp(t->id, "H08") != 0)
		return false;
	return t->is_wanted ? is_shown(f, t) : is_raw_anywhere(f, t);
}

int look_judge(const struct faces *f, const struct selftest_try *tries, size_t n,
	       struct buf *witnessed)
{
	for (size_t i = 0; i < n; i++) {
		if (tries[i].id[0] != 'H' || !tries[i].token[0] || !got_through(f, &tries[i]))
			continue;
		if (buf_printf(witnessed, "%s\n", tries[i].token) < 0)
			return -ENOBUFS;
	}
	return 0;
}
