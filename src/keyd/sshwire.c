#include "keyd/sshwire.h"

#include <string.h>

struct sshwire_reader sshwire_reader_of(struct str s)
{
	return (struct sshwire_reader){(const uint8_t *)s.p, s.n, false};
}

static const uint8_t *take(struct sshwire_reader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->is_bad || n > r->n) {
		r->is_bad = true;
		r->n = 0;
		return NULL;
	}
	r->p += n;
	r->n -= n;
	return p;
}

uint8_t sshwire_read_byte(struct sshwire_reader *r)
{
	const uint8_t *p = take(r, 1);

	return p ? *p : 0;
}

uint32_t sshwire_read_u32(struct sshwire_reader *r)
{
	const uint8_t *p = take(r, 4);

	return p ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;
}

struct str sshwire_read_string(struct sshwire_reader *r)
{
	uint32_t n = sshwire_read_u32(r);
	const uint8_t *p = take(r, n);

	return p ? str_slice(p, n) : STR_NULL;
}

struct str sshwire_read_mpint(struct sshwire_reader *r)
{
	struct str s = sshwire_read_string(r);
	const uint8_t *p = (const uint8_t *)s.p;

	if (s.n > 0 && p[0] & 0x80)
		r->is_bad = true;
	else if (s.n > 0 && p[0] == 0 && (s.n == 1 || !(p[1] & 0x80)))
		r->is_bad = true;
	else if (s.n > 0 && p[0] == 0)
		return str_slice(p + 1, s.n - 1);
	return r->is_bad ? STR_NULL : s;
}

bool sshwire_reader_is_done(const struct sshwire_reader *r)
{
	return !r->is_bad && r->n == 0;
}

static uint8_t *room(struct sshwire_writer *w, size_t n)
{
	uint8_t *p = w->p + w->n;

	if (w->is_full || n > w->cap - w->n) {
		w->is_full = true;
		return NULL;
	}
	w->n += n;
	return p;
}

void sshwire_write_byte(struct sshwire_writer *w, uint8_t v)
{
	uint8_t *p = room(w, 1);

	if (p)
		*p = v;
}

void sshwire_write_u32(struct sshwire_writer *w, uint32_t v)
{
	sshwire_write_byte(w, (uint8_t)(v >> 24));
	sshwire_write_byte(w, (uint8_t)(v >> 16));
	sshwire_write_byte(w, (uint8_t)(v >> 8));
	sshwire_write_byte(w, (uint8_t)v);
}

void sshwire_write_string(struct sshwire_writer *w, struct str s)
{
	uint8_t *p;

	sshwire_write_u32(w, (uint32_t)s.n);
	p = room(w, s.n);
	if (p && s.n > 0)
		memcpy(p, s.p, s.n);
}

void sshwire_write_mpint(struct sshwire_writer *w, struct str m)
{
	uint8_t *p;
	bool is_padded;

	while (m.n > 0 && m.p[0] == 0)
		m = str_slice(m.p + 1, m.n - 1);
	is_padded = m.n > 0 && (uint8_t)m.p[0] & 0x80;
	sshwire_write_u32(w, (uint32_t)(m.n + is_padded));
	if (is_padded)
		sshwire_write_byte(w, 0);
	p = room(w, m.n);
	if (p && m.n > 0)
		memcpy(p, m.p, m.n);
}
