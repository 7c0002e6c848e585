/*
 * What a builder says as it goes: "Step 2/5 : RUN …", then what the step's command writes, then
 * " ---> 0123456789ab", the image that it left. A human sees the step and its last line; of a
 * failure that is the reason, and the engine's own words ("returned a non-zero code") are not.
 */
#include "image/image_int.h"

#include "base/text.h"

#include <errno.h>
#include <stdio.h>

void image_said_init(struct image_said *s, const char *name, const struct progress *p,
		     struct buf *log)
{
	*s = (struct image_said){.name = name, .progress = p, .log = log};
	(void)snprintf(s->step, sizeof(s->step), "image %s", name);
}

/* Keeps the end: whole lines go in front. */
static void log_line(struct buf *log, struct str line)
{
	if (!log || line.n + 1 > log->cap)
		return;
	while (buf_room(log) < line.n + 1) {
		struct str held = buf_str(log);
		size_t end = str_chr(held, '\n');

		buf_consume(log, end < held.n ? end + 1 : held.n);
	}
	(void)!buf_append_str(log, line);
	(void)!buf_append(log, "\n", 1);
}

static void tell(struct image_said *s, struct str what)
{
	char text[SAID_LINE_MAX + 32];

	(void)snprintf(text, sizeof(text), "step %u/%u: " STR_FMT, s->n_step, s->n_steps,
		       STR_ARG(what));
	progress_tell(s->progress, s->step, text, 0, 0);
}

static void take_step(struct image_said *s, struct str line)
{
	struct str number, total;
	uint64_t n, of;
	bool found;
	struct str what = str_cut(line, ':', &number, &found);

	total = str_trim(str_cut(number, '/', &number, &found));
	if (!found || str_to_u64(str_trim(number), 999, &n) < 0 || str_to_u64(total, 999, &of) < 0)
		return;
	s->n_step = (unsigned)n;
	s->n_steps = (unsigned)of;
	s->last[0] = s->why[0] = '\0';
	tell(s, str_trim(what));
}

static void take_id(struct image_said *s, struct str id)
{
	/* A cap that no template comes near; past it something is left for "image remove". */
	if (s->n_ids == SAID_IDS_MAX)
		return;
	for (size_t i = 0; i < id.n; i++) {
		if (ascii_hex_value(id.p[i]) < 0)
			return;
	}
	if (id.n > 0 && str_to_cstr(s->ids[s->n_ids], sizeof(s->ids[0]), id))
		s->n_ids++;
}

/* Escape sequences that colour: the builder puts them around what a command writes as errors. */
static struct str without_colour(char *p, size_t n)
{
	size_t to = 0;

	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\x1b' && i + 1 < n && p[i + 1] == '[') {
			i += 2;
			while (i < n && (ascii_is_digit(p[i]) || p[i] == ';'))
				i++;
			continue;
		}
		p[to++] = p[i];
	}
	return str_slice(p, to);
}

/* The first that a program says of its failure tells more than what it adds: apt's and curl's last
 * lines are advice. */
static bool complains(struct str line)
{
	return str_starts(line, STR_LIT("E: ")) || str_starts(line, STR_LIT("curl: (")) ||
	       str_starts(line, STR_LIT("fatal: "));
}

static void take_line(struct image_said *s)
{
	char copy[SAID_LINE_MAX];
	struct str line;

	memcpy(copy, s->line, s->n_line);
	line = str_trim(without_colour(copy, s->n_line));
	if (line.n == 0)
		return;
	log_line(s->log, line);
	if (str_starts(line, STR_LIT("Step "))) {
		take_step(s, str_sub(line, 5, line.n));
		return;
	}
	if (str_starts(line, STR_LIT("---> "))) {
		take_id(s, str_sub(line, 5, line.n));
		return;
	}
	if (str_starts(line, STR_LIT("Removing intermediate container ")) ||
	    str_starts(line, STR_LIT("Successfully ")))
		return;
	text_visible_cstr(s->last, sizeof(s->last), line);
	if (!s->why[0] && complains(line))
		memcpy(s->why, s->last, sizeof(s->why));
	tell(s, str_of(s->last));
}

static void take_text(struct image_said *s, struct str text)
{
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];

		if (c != '\n' && c != '\r') {
			if (s->n_line < sizeof(s->line))
				s->line[s->n_line++] = c;
			continue;
		}
		take_line(s);
		s->n_line = 0;
	}
}

int image_said_event(void *said, const json_t *event)
{
	const json_t *stream = json_object_get(event, "stream");
	const char *id = json_string_value(json_object_get(json_object_get(event, "aux"), "ID"));
	struct image_said *s = said;

	if (json_is_string(stream))
		take_text(s, str_slice(json_string_value(stream), json_string_length(stream)));
	if (id && strlen(id) < sizeof(s->id))
		memcpy(s->id, id, strlen(id) + 1);
	return 0;
}

void image_said_fail(const struct image_said *s, struct err *e)
{
	const char *reason = s->why[0] ? s->why : s->last;
	struct str text;
	char what[96];

	if (!e)
		return;
	(void)snprintf(what, sizeof(what), s->n_steps ? "%s, step %u/%u" : "%s", s->name, s->n_step,
		       s->n_steps);
	/* The engine says the whole of a command that failed, and what else it has to say of it is
	 * cut off. */
	text = str_of(e->text);
	if (str_find(text, STR_LIT("The command '")) == text.n) {
		(void)err_prefix(e, "the image %s could not be built", what);
		return;
	}
	if (strcasestr(reason, "no space left on device") ||
	    strcasestr(s->last, "no space left on device"))
		e->code = -ENOSPC;
	(void)err_set(e, e->code, "the image %s could not be built: %.500s", what,
		      reason[0] ? reason : "its command failed without a word");
}
