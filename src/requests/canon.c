#include "requests/canon.h"

#include "base/text.h"

bool canon_next_is(struct canon *c, const char *literal)
{
	struct str want = str_of(literal);

	if (c->is_bad || !str_starts(c->rest, want))
		return false;
	c->rest = str_sub(c->rest, want.n, c->rest.n);
	return true;
}

void canon_expect(struct canon *c, const char *literal)
{
	if (!canon_next_is(c, literal))
		c->is_bad = true;
}

void canon_string(struct canon *c, char *out, size_t size)
{
	size_t n = 0, i = 0;

	out[0] = '\0';
	canon_expect(c, "\"");
	for (; !c->is_bad && i < c->rest.n && c->rest.p[i] != '"'; i++) {
		bool is_escape = c->rest.p[i] == '\\';

		i += is_escape;
		if (n + 1 >= size || i >= c->rest.n || c->rest.p[i] == '\0' ||
		    (is_escape && c->rest.p[i] != '"' && c->rest.p[i] != '\\'))
			c->is_bad = true;
		else
			out[n++] = c->rest.p[i];
	}
	out[n] = '\0';
	if (!c->is_bad)
		c->rest = str_sub(c->rest, i, c->rest.n);
	canon_expect(c, "\"");
}

void canon_hex(struct canon *c, uint8_t *out, size_t n)
{
	canon_expect(c, "\"");
	if (!c->is_bad && !text_unhex(out, n, str_sub(c->rest, 0, 2 * n)))
		c->is_bad = true;
	c->rest = str_sub(c->rest, 2 * n, c->rest.n);
	canon_expect(c, "\"");
}

uint32_t canon_number(struct canon *c, uint32_t max)
{
	uint64_t value = 0;
	size_t n = 0;

	while (n < c->rest.n && n < 10 && ascii_is_digit(c->rest.p[n]))
		n++;
	if (c->is_bad || str_to_u64(str_sub(c->rest, 0, n), max, &value) < 0)
		c->is_bad = true;
	c->rest = str_sub(c->rest, n, c->rest.n);
	return (uint32_t)value;
}
