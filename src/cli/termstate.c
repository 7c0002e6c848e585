#include "cli/termstate.h"

#include "base/clean.h"

/* DEC private modes that outlive a program. is_on: the state that a shell expects. */
static const struct {
	unsigned mode;
	bool is_on;
} modes[] = {
	{1, false},				     /* application cursor keys */
	{7, true},				     /* wrap */
	{9, false},				     /* mouse, X10 */
	{25, true},				     /* cursor shown */
	{1000, false},				     /* mouse … */
	{1002, false}, {1003, false}, {1004, false}, /* focus reports */
	{1005, false}, {1006, false}, {1015, false},
	{1016, false}, {2004, false}, /* bracketed paste */
	{2026, false}, /* synchronised output: a terminal that stays in it shows nothing */
	{2031, false}, {47, false},   {1047, false}, /* alternate screens, last: undone last */
	{1049, false},
};

static void set_mode(struct termstate *t, unsigned mode, bool is_on)
{
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		uint32_t bit = UINT32_C(1) << i;

		if (modes[i].mode != mode)
			continue;
		if (is_on == modes[i].is_on)
			t->modes &= ~bit;
		else
			t->modes |= bit;
	}
}

static void end_csi(struct termstate *t, char final)
{
	unsigned first = t->parameters[0];

	if (t->is_ignored)
		return;
	if (t->prefix == '?' && (final == 'h' || final == 'l')) {
		for (size_t i = 0; i < t->n_parameters; i++)
			set_mode(t, t->parameters[i], final == 'h');
	} else if (t->prefix == '>' && final == 'u') {
		t->kitty_depth += t->kitty_depth < 64;
	} else if (t->prefix == '<' && final == 'u') {
		unsigned n = first ? first : 1;

		t->kitty_depth -= n < t->kitty_depth ? n : t->kitty_depth;
	} else if (t->prefix == '>' && final == 'm' && first == 4) {
		t->has_keys = t->n_parameters > 1 && t->parameters[1] != 0;
	} else if (!t->prefix && final == 'r') {
		t->has_region = first > 1 || (t->n_parameters > 1 && t->parameters[1] != 0);
	}
}

static void feed_csi(struct termstate *t, unsigned char c)
{
	unsigned *parameter = &t->parameters[t->n_parameters - 1];

	if (ascii_is_digit((char)c)) {
		if (*parameter < 100000)
			*parameter = *parameter * 10 + (c - '0');
	} else if (c == ';') {
		if (t->n_parameters < TERMSTATE_PARAMETERS_MAX)
			t->parameters[t->n_parameters++] = 0;
		else
			t->is_ignored = true;
	} else if (c >= 0x3c && c <= 0x3f) {
		t->prefix = (char)c;
	} else if (c >= 0x40 && c <= 0x7e) {
		end_csi(t, (char)c);
		t->at = TERMSTATE_GROUND;
	} else if (c >= 0x20) {
		t->is_ignored = true;
	}
}

static void feed_escape(struct termstate *t, unsigned char c)
{
	t->at = TERMSTATE_GROUND;
	if (c == '[') {
		t->at = TERMSTATE_CSI;
		t->prefix = 0;
		t->n_parameters = 1;
		t->parameters[0] = 0;
		t->is_ignored = false;
	} else if (c == 'c') {
		/* RIS: the terminal is as new. */
		*t = (struct termstate){.was_used = true};
	}
}

void termstate_feed(struct termstate *t, struct str output)
{
	for (size_t i = 0; i < output.n; i++) {
		unsigned char c = (unsigned char)output.p[i];

		if (c == 0x1b) {
			t->at = TERMSTATE_ESCAPE;
			t->was_used = true;
		} else if (c == 0x0e || c == 0x0f) {
			t->is_shifted = c == 0x0e;
		} else if (t->at == TERMSTATE_ESCAPE) {
			feed_escape(t, c);
		} else if (t->at == TERMSTATE_CSI) {
			feed_csi(t, c);
		}
	}
}

int termstate_undo(const struct termstate *t, struct buf *out)
{
	int r = 0;

	if (t->is_shifted)
		r = buf_append(out, "\x0f", 1);
	if (!t->was_used)
		return r;
	/* CAN ends a sequence that was cut in the middle; then plain colours. */
	if (r == 0)
		r = buf_append_str(out, STR_LIT("\x18\x1b[0m"));
	if (r == 0 && t->kitty_depth)
		r = buf_printf(out, "\x1b[<%uu", t->kitty_depth);
	if (r == 0 && t->has_keys)
		r = buf_append_str(out, STR_LIT("\x1b[>4;0m"));
	if (r == 0 && t->has_region)
		r = buf_append_str(out, STR_LIT("\x1b"
						"7\x1b[r\x1b"
						"8"));
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(modes); i++) {
		if (t->modes & (UINT32_C(1) << i))
			r = buf_printf(out, "\x1b[?%u%c", modes[i].mode,
				       modes[i].is_on ? 'h' : 'l');
	}
	return r;
}
