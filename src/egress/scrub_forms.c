#include "egress/scrub_int.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>

static const char base64_plain[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char hex_lower[] = "0123456789abcdef";
static const char hex_upper[] = "0123456789ABCDEF";

/* Writes one form of s->p[0..n) at out, which has room for SCRUB_FORM_MAX; returns its length. */
struct encoding {
	size_t (*write)(struct str s, const struct encoding *en, uint8_t *out);
	const char *digits; /* of base64 or hex */
	uint8_t skip;	    /* base64: bytes that stand before the secret in its group of three */
	bool is_all;	    /* every byte is escaped, not only what has to be */
	bool is_form;	    /* "+" for a space */
	bool escapes_slash; /* JSON */
};

static size_t write_plain(struct str s, const struct encoding *en, uint8_t *out)
{
	(void)en;
	memcpy(out, s.p, s.n);
	return s.n;
}

static size_t write_hex(struct str s, const struct encoding *en, uint8_t *out)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		out[n++] = (uint8_t)en->digits[(uint8_t)s.p[i] >> 4];
		out[n++] = (uint8_t)en->digits[(uint8_t)s.p[i] & 15];
	}
	return n;
}

/* Only the digits that depend on nothing but the secret: those that share bits with a byte before
 * or after it are left out. */
static size_t write_base64(struct str s, const struct encoding *en, uint8_t *out)
{
	size_t first_bit = 8 * (size_t)en->skip;
	size_t digit = (first_bit + 5) / 6, n = 0;

	for (; 6 * digit + 6 <= first_bit + 8 * s.n; digit++) {
		unsigned value = 0;

		for (size_t bit = 6 * digit - first_bit; bit < 6 * digit - first_bit + 6; bit++)
			value = value << 1 | ((uint8_t)s.p[bit / 8] >> (7 - bit % 8) & 1);
		out[n++] = (uint8_t)en->digits[value];
	}
	return n;
}

static bool is_unreserved(char c)
{
	return ascii_is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

static size_t write_percent(struct str s, const struct encoding *en, uint8_t *out)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = (uint8_t)s.p[i];

		if (!en->is_all && is_unreserved(s.p[i])) {
			out[n++] = c;
		} else if (en->is_form && c == ' ') {
			out[n++] = '+';
		} else {
			out[n++] = '%';
			out[n++] = (uint8_t)en->digits[c >> 4];
			out[n++] = (uint8_t)en->digits[c & 15];
		}
	}
	return n;
}

static size_t write_json(struct str s, const struct encoding *en, uint8_t *out)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = (uint8_t)s.p[i];

		if (en->is_all || c < 0x20 || (en->escapes_slash && strchr("<>&'", c))) {
			memcpy(out + n, "\\u00", 4);
			out[n + 4] = (uint8_t)en->digits[c >> 4];
			out[n + 5] = (uint8_t)en->digits[c & 15];
			n += 6;
			continue;
		}
		if (c == '"' || c == '\\' || (c == '/' && en->escapes_slash))
			out[n++] = '\\';
		out[n++] = c;
	}
	return n;
}

static size_t write_html(struct str s, const struct encoding *en, uint8_t *out)
{
	static const struct {
		char c;
		const char *text;
	} entities[] = {
		{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}};
	size_t n = 0;

	(void)en;
	for (size_t i = 0; i < s.n; i++) {
		const char *text = NULL;

		for (size_t k = 0; k < ARRAY_LEN(entities); k++)
			text = s.p[i] == entities[k].c ? entities[k].text : text;
		if (text) {
			memcpy(out + n, text, strlen(text));
			n += strlen(text);
		} else {
			out[n++] = (uint8_t)s.p[i];
		}
	}
	return n;
}

static const struct encoding encodings[] = {
	{.write = write_plain},
	{.write = write_base64, .digits = base64_plain, .skip = 0},
	{.write = write_base64, .digits = base64_plain, .skip = 1},
	{.write = write_base64, .digits = base64_plain, .skip = 2},
	{.write = write_base64, .digits = base64_url, .skip = 0},
	{.write = write_base64, .digits = base64_url, .skip = 1},
	{.write = write_base64, .digits = base64_url, .skip = 2},
	{.write = write_hex, .digits = hex_lower},
	{.write = write_hex, .digits = hex_upper},
	{.write = write_percent, .digits = hex_upper},
	{.write = write_percent, .digits = hex_lower},
	{.write = write_percent, .digits = hex_upper, .is_form = true},
	{.write = write_percent, .digits = hex_lower, .is_form = true},
	{.write = write_percent, .digits = hex_upper, .is_all = true},
	{.write = write_percent, .digits = hex_lower, .is_all = true},
	{.write = write_json, .digits = hex_lower},
	{.write = write_json, .digits = hex_upper},
	{.write = write_json, .digits = hex_lower, .escapes_slash = true},
	{.write = write_json, .digits = hex_upper, .escapes_slash = true},
	{.write = write_json, .digits = hex_lower, .is_all = true},
	{.write = write_json, .digits = hex_upper, .is_all = true},
	{.write = write_html},
};

/* Most forms of an ordinary token are its plain form. */
static bool form_is_known(const struct scrub_set *s, struct str form)
{
	for (size_t i = 0; i < s->n_forms; i++) {
		if (str_eq(str_slice(s->forms[i].p, s->forms[i].n), form))
			return true;
	}
	return false;
}

int scrub_forms_add(struct scrub_set *s, struct str secret)
{
	static uint8_t scratch[SCRUB_FORM_MAX];
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(encodings); i++) {
		size_t n = encodings[i].write(secret, &encodings[i], scratch);
		char *copy = s->memory + s->memory_n;

		if (form_is_known(s, str_slice(scratch, n)))
			continue;
		if (s->n_forms == SCRUB_FORMS_MAX || n > s->memory_size - s->memory_n) {
			ret = -ENOSPC;
			break;
		}
		memcpy(copy, scratch, n);
		s->memory_n += n;
		s->forms[s->n_forms++] = (struct scrub_form){(uint8_t *)copy, (uint32_t)n, -1};
		s->longest = n > s->longest ? n : s->longest;
	}
	mem_wipe(scratch, sizeof(scratch));
	return ret;
}
