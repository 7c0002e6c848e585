/*
 * Rules that an expression would tell badly, or slowly, as they have no fixed part: found among the
 * runs that classification has marked, and proven by their check digits.
 */
#include "scan/walk.h"

#define CARD_GROUPS_MAX 8

static bool found(struct walk *w, enum scan_walk rule, size_t from, size_t to)
{
	unsigned id = w->ps->en->walk_rule[rule];

	return id == UINT32_MAX || scan_candidate_found(w->ps, w->v, id, from, to);
}

/* Issuer ranges with the length that goes with them (ISO/IEC 7812). */
static size_t card_length(const uint8_t *d)
{
	unsigned two = (unsigned)(d[0] - '0') * 10 + (unsigned)(d[1] - '0');
	unsigned four = two * 100 + (unsigned)(d[2] - '0') * 10 + (unsigned)(d[3] - '0');

	if (d[0] == '4' || (two >= 51 && two <= 55) || (four >= 2221 && four <= 2720) ||
	    two == 35 || two == 62 || two == 65 || four == 6011 || (four >= 6440 && four <= 6499))
		return 16;
	if (two == 34 || two == 37)
		return 15;
	return two == 36 || two == 38 || (four >= 3000 && four <= 3059) ? 14 : 0;
}

/* Digits from i on, groups joined, until a card's length is reached at the end of a group. */
static size_t card_at(const struct scan_view *v, size_t i, size_t end)
{
	uint8_t d[20];
	size_t n = 0, want = 0;

	for (unsigned groups = 0; groups < CARD_GROUPS_MAX; groups++) {
		size_t from = i;

		while (i < end && ascii_is_digit((char)v->p[i])) {
			if (n == sizeof(d) - 1)
				return 0;
			d[n++] = v->p[i++];
		}
		if (i - from < 2 || n < 4)
			return 0;
		want = card_length(d);
		if (n >= want)
			break;
		if (i + 1 >= end || !ascii_is_digit((char)v->p[i + 1]))
			return 0;
		i++;
	}
	return want && n == want && checks_luhn(d, n) ? i : 0;
}

static bool is_number_edge(const struct scan_view *v, size_t i)
{
	uint8_t b = i < v->n ? v->p[i] : ' ';

	return ascii_hex_value((char)b) < 0 && b != '.' && b != '_';
}

static bool walk_cards(struct walk *w, struct scan_run r)
{
	const uint8_t *p = w->v->p;
	size_t digits = 0;

	for (size_t i = r.from; i < r.to; i++)
		digits += ascii_is_digit((char)p[i]);
	for (size_t i = r.from; i < r.to && digits >= 14; i++) {
		size_t to;

		if (!ascii_is_digit((char)p[i]) || (i > r.from && ascii_is_digit((char)p[i - 1])) ||
		    (i > 0 && !is_number_edge(w->v, i - 1)))
			continue;
		to = card_at(w->v, i, r.to);
		if (to && is_number_edge(w->v, to) && !found(w, WALK_CARD, i, to))
			return false;
	}
	return true;
}

/* "DE89 3704 0044 ...": from a run of digits and spaces back to the country, then on. */
static bool walk_iban_groups(struct walk *w, struct scan_run r)
{
	const uint8_t *p = w->v->p;
	size_t from = r.from, n = 0, i;
	uint8_t flat[34];

	if (r.from == 0 || p[r.from - 1] < 'A' || p[r.from - 1] > 'Z')
		return true;
	for (i = r.from; i > 0 && r.from - i < 16; i--) {
		uint8_t b = p[i - 1];

		if (!(b >= 'A' && b <= 'Z') && !ascii_is_digit((char)b) && b != ' ')
			break;
		from = i - 1;
	}
	while (from < r.from + 2 && from + 5 < w->v->n &&
	       !(p[from] >= 'A' && p[from] <= 'Z' && p[from + 1] >= 'A' && p[from + 1] <= 'Z' &&
		 ascii_is_digit((char)p[from + 2]) && ascii_is_digit((char)p[from + 3]) &&
		 p[from + 4] == ' '))
		from++;
	for (i = from; i < w->v->n && n < sizeof(flat); i++) {
		if (p[i] == ' ' && i > from && p[i - 1] != ' ')
			continue;
		if (!(p[i] >= 'A' && p[i] <= 'Z') && !ascii_is_digit((char)p[i]))
			break;
		flat[n++] = p[i];
		if (n >= 15 && checks_iban(flat, n))
			return found(w, WALK_IBAN, from, i + 1);
	}
	return true;
}

static bool walk_alnum(struct walk *w, size_t from, size_t to)
{
	const uint8_t *p = w->v->p + from;
	size_t n = to - from;
	uint8_t version, upper[34];

	if (n >= 15 && n <= 34 && ascii_is_alpha((char)p[0]) && ascii_is_alpha((char)p[1]) &&
	    ascii_is_digit((char)p[2]) && ascii_is_digit((char)p[3])) {
		for (size_t i = 0; i < n; i++)
			upper[i] = (uint8_t)(p[i] >= 'a' && p[i] <= 'z' ? p[i] - 32 : p[i]);
		if (checks_iban(upper, n) && !found(w, WALK_IBAN, from, to))
			return false;
	}
	if (n >= 26 && n <= 35 && (p[0] == '1' || p[0] == '3') &&
	    checks_base58(p, n, 21, &version) && (version == 0 || version == 5))
		return found(w, WALK_BTC, from, to);
	if (n >= 14 && n <= 90 && (p[0] | 0x20) == 'b' && checks_bech32(p, n))
		return found(w, WALK_BTC, from, to);
	if (((n == 51 && p[0] == '5' && checks_base58(p, n, 33, &version)) ||
	     (n == 52 && (p[0] == 'K' || p[0] == 'L') && checks_base58(p, n, 34, &version))) &&
	    version == 0x80)
		return found(w, WALK_WIF, from, to);
	if (n == 42 && p[0] == '0' && (p[1] | 0x20) == 'x') {
		for (size_t i = 2; i < n; i++)
			if (ascii_hex_value((char)p[i]) < 0)
				return true;
		return scan_entropy(p + 2, 40) < 250 || found(w, WALK_ETH, from, to);
	}
	return true;
}

/* Hex of something that is itself a long random token. */
static bool walk_hex(struct walk *w, size_t from, size_t to)
{
	for (size_t shift = 0; shift < 2; shift++) {
		uint8_t token[256];
		size_t n = 0;

		for (size_t i = from + shift; i + 2 <= to; i += 2) {
			uint8_t b = (uint8_t)(ascii_hex_value((char)w->v->p[i]) << 4 |
					      ascii_hex_value((char)w->v->p[i + 1]));
			bool is_part = ascii_is_alnum((char)b) || b == '+' || b == '/' ||
				       b == '_' || b == '-';

			if (is_part && n < sizeof(token))
				token[n++] = b;
			if ((!is_part || i + 4 > to) && n >= 32 && scan_entropy(token, n) >= 400 &&
			    checks_switches(token, n) * 3 >= n)
				return found(w, WALK_ENCODED_TOKEN, from, to);
			if (!is_part)
				n = 0;
		}
	}
	return true;
}

static bool walk_token(struct walk *w, struct scan_run r)
{
	const uint8_t *p = w->v->p;

	for (size_t i = r.from; i < r.to; i++) {
		size_t from = i;
		bool is_hex = true;

		while (i < r.to && ascii_is_alnum((char)p[i]))
			is_hex &= ascii_hex_value((char)p[i++]) >= 0;
		if (i - from >= 14 && !walk_alnum(w, from, i))
			return false;
		if (is_hex && i - from == 64 && from >= 18 && p[from - 1] == '.' &&
		    memcmp(p + from - 18, "pat", 3) == 0 && !found(w, WALK_AIRTABLE, from - 18, i))
			return false;
		if (is_hex && i - from >= 64 && !walk_hex(w, from, i))
			return false;
	}
	return true;
}

static bool walk_path(struct walk *w)
{
	const struct scan_view *v = w->v;

	for (size_t i = 0; i < v->n; i++) {
		size_t from = i, upper = 0, lower = 0, digit = 0;

		for (; i < v->n && ascii_is_alnum((char)v->p[i]); i++) {
			digit += ascii_is_digit((char)v->p[i]);
			lower += v->p[i] >= 'a';
			upper += v->p[i] >= 'A' && v->p[i] <= 'Z';
		}
		/* A whole segment: names of objects such as msg_01ABC have a part in front. */
		if (i - from < 24 || (from > 0 && v->p[from - 1] != '/') ||
		    (i < v->n && v->p[i] != '/'))
			continue;
		if (upper >= 4 && lower >= 4 && digit >= 4 &&
		    scan_entropy(v->p + from, i - from) >= 420 &&
		    checks_switches(v->p + from, i - from) * 5 >= (i - from) * 3 &&
		    !found(w, WALK_PATH_ENTROPY, from, i))
			return false;
	}
	return true;
}

static bool is_in_stream_end(const struct walk *w, size_t to)
{
	return !w->ps->is_last && to == w->v->n;
}

static bool walk_runs(struct walk *w, const struct scan_runs *r,
		      bool (*one)(struct walk *, struct scan_run))
{
	size_t old_n = w->v->parent ? 0 : w->ps->old_n;

	for (size_t i = 0; i < r->n; i++)
		/* A run that reaches the end of what is there waits for the next piece; one that
		 * ended in an earlier piece was walked then. */
		if (r->p[i].to >= old_n && !is_in_stream_end(w, r->p[i].to) && !one(w, r->p[i]))
			return false;
	return true;
}

static bool walk_seed(struct walk *w, struct scan_run r)
{
	size_t from, to;

	for (size_t at = r.from; seed_phrase_find(w->v->p, at, r.to, &from, &to); at = to)
		if (!found(w, WALK_SEED, from, to))
			return false;
	return true;
}

static bool walk_host(struct walk *w)
{
	size_t from, to;

	if (w->v->parent)
		return true;
	if (host_label_encoded(w->v->p, w->v->n, &from, &to) &&
	    !found(w, WALK_HOST_ENCODED, from, to))
		return false;
	return !host_is_chain(w->v->p, w->v->n) || found(w, WALK_HOST_CHAIN, 0, w->v->n);
}

void scan_walk(struct scan_pass *ps, const struct scan_view *v, const struct scan_class *c)
{
	struct walk w = {ps, v};

	if (ps->place == SCAN_PLACE_RESPONSE)
		return; /* what comes back may hold addresses and numbers */
	if (ps->place == SCAN_PLACE_HOST && !walk_host(&w))
		return;
	if (ps->place == SCAN_PLACE_PATH && v->decoder != DEC_SQUEEZE && v->decoder != DEC_JOIN &&
	    !v->is_below_binary && !walk_path(&w))
		return;
	if (walk_runs(&w, &c->token, walk_token) && walk_runs(&w, &c->digit, walk_cards) &&
	    walk_runs(&w, &c->digit, walk_iban_groups))
		(void)walk_runs(&w, &c->word, walk_seed);
}
