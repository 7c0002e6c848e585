/*
 * Theory of operation: the search is Wu-Manber's. Let W be the length of the shortest form (at most
 * SCRUB_WINDOW_MAX). A window of W bytes slides over the text; the hash of its last three bytes
 * says how far the window may move because no form has these bytes within its first W at an offset
 * further right. Where that is 0, the forms of the hash's bucket are compared. Clean text is thus
 * looked at about once every W - 2 bytes.
 *
 * Past the last whole window, and for forms that are longer than what is left, a match is a
 * beginning: the text is then held back from there on, unmasked, and searched again with the next
 * piece. Matches may overlap: the search goes on one byte after the start of each, on the bytes as
 * they came, and `masked_until` is the furthest end of any match so far.
 */
#include "egress/scrub_int.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define BLOCK 3

static inline uint32_t block_hash(const uint8_t *p)
{
	uint32_t v = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;

	return (v * 0x9e3779b1u) >> (32 - SCRUB_BLOCK_BITS);
}

int scrub_set_new(struct scrub_set **out, size_t secret_memory, struct err *e)
{
	struct scrub_set *s;
	char *memory;

	*out = NULL;
	memory = mmap(NULL, secret_memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (memory == MAP_FAILED)
		return err_errno(e, "memory for credentials");
	/* Both are best effort: an ordinary user's lock limit may be small, and a role is not
	 * dumpable anyway. Locked when touched, since most of it never is. */
	(void)mlock2(memory, secret_memory, MLOCK_ONFAULT);
	(void)madvise(memory, secret_memory, MADV_DONTDUMP);
	s = mem_zalloc(sizeof(*s));
	s->memory = memory;
	s->memory_size = secret_memory;
	*out = s;
	return 0;
}

void scrub_set_free(struct scrub_set *s)
{
	if (!s)
		return;
	mem_wipe(s->memory, s->memory_n);
	(void)munmap(s->memory, s->memory_size);
	mem_wipe(s, sizeof(*s));
	free(s);
}

size_t scrub_set_count(const struct scrub_set *s)
{
	return s->n_forms;
}

static void set_rebuild(struct scrub_set *s)
{
	size_t window = SCRUB_WINDOW_MAX;

	for (size_t i = 0; i < s->n_forms; i++)
		window = s->forms[i].n < window ? s->forms[i].n : window;
	memset(s->starts, 0, sizeof(s->starts));
	memset(s->shift, (int)(window - BLOCK + 1), sizeof(s->shift));
	memset(s->bucket, 0xff, sizeof(s->bucket));
	for (size_t i = 0; i < s->n_forms; i++) {
		struct scrub_form *f = &s->forms[i];

		s->starts[f->p[0]] = true;
		for (size_t at = 0; at + BLOCK <= window; at++) {
			uint32_t h = block_hash(f->p + at);
			uint8_t shift = (uint8_t)(window - BLOCK - at);

			if (shift < s->shift[h])
				s->shift[h] = shift;
			if (shift == 0) {
				f->next = s->bucket[h];
				s->bucket[h] = (int16_t)i;
			}
		}
	}
	s->window = s->n_forms > 0 ? window : 0;
}

int scrub_set_add(struct scrub_set *s, struct str secret, struct err *e)
{
	size_t forms = s->n_forms, memory = s->memory_n;
	int ret = 0;

	if (secret.n < SCRUB_SECRET_MIN || secret.n > SCRUB_SECRET_MAX)
		return err_set(e, -ERANGE, "a credential must have %d to %d bytes, not %zu",
			       SCRUB_SECRET_MIN, SCRUB_SECRET_MAX, secret.n);
	if (s->n_secrets == SCRUB_SECRETS_MAX)
		ret = -ENOSPC;
	else
		ret = scrub_forms_add(s, secret);
	if (ret < 0) {
		s->n_forms = forms;
		mem_wipe(s->memory + memory, s->memory_n - memory);
		s->memory_n = memory;
		return err_set(e, ret, "no room for another credential");
	}
	s->n_secrets += s->n_forms > forms;
	set_rebuild(s);
	return 0;
}

/* The longest form that stands wholly at p[0..n), 0 for none. *is_beginning when p[0..n) is a
 * beginning of a form that is longer still. */
static size_t match_forms(const struct scrub_set *s, int32_t first, const uint8_t *p, size_t n,
			  bool *is_beginning)
{
	size_t best = 0;

	for (int32_t i = first; i >= 0; i = s->forms[i].next) {
		const struct scrub_form *f = &s->forms[i];
		size_t have = f->n < n ? f->n : n;

		if (memcmp(f->p, p, have) != 0)
			continue;
		if (have < f->n)
			*is_beginning = true;
		else if (f->n > best)
			best = f->n;
	}
	return best;
}

/* Fewer bytes than a window: they can only be a beginning, of any form. */
static bool is_beginning_of_any(const struct scrub_set *s, const uint8_t *p, size_t n)
{
	if (!s->starts[p[0]])
		return false;
	for (size_t i = 0; i < s->n_forms; i++) {
		if (memcmp(s->forms[i].p, p, n) == 0)
			return true;
	}
	return false;
}

enum find { FIND_NONE, FIND_MATCH, FIND_BEGINNING };

/* The first place at or after *at where a form stands or begins. FIND_NONE: *at is n. */
static enum find find_next(const struct scrub_set *s, const uint8_t *p, size_t n, size_t *at,
			   size_t *length)
{
	size_t w = s->window, i = *at;

	*length = 0;
	while (i + w <= n) {
		uint32_t h = block_hash(p + i + w - BLOCK);
		size_t shift = s->shift[h];
		bool is_beginning = false;

		if (shift > 0) {
			i += shift;
			continue;
		}
		*length = match_forms(s, s->bucket[h], p + i, n - i, &is_beginning);
		if (*length > 0 || is_beginning) {
			*at = i;
			return is_beginning ? FIND_BEGINNING : FIND_MATCH;
		}
		i++;
	}
	for (; i < n; i++) {
		if (is_beginning_of_any(s, p + i, n - i)) {
			*at = i;
			return FIND_BEGINNING;
		}
	}
	*at = n;
	return FIND_NONE;
}

bool scrub_find(const struct scrub_set *s, struct str text)
{
	size_t at = 0, length;

	if (s->window == 0)
		return false;
	for (;; at++) {
		enum find f = find_next(s, (const uint8_t *)text.p, text.n, &at, &length);

		if (f == FIND_NONE)
			return false;
		if (length > 0)
			return true;
	}
}

/* Appends p[0..n) with its first `masked` bytes as asterisks. */
static int emit(struct buf *out, const uint8_t *p, size_t n, size_t masked)
{
	char *to;

	if (n == 0)
		return 0;
	to = buf_reserve(out, n);
	if (!to)
		return -ENOBUFS;
	if (masked > n)
		masked = n;
	memset(to, '*', masked);
	memcpy(to + masked, p + masked, n - masked);
	buf_commit(out, n);
	return 0;
}

/* Emits p[0..n) as far as it is decided. *kept: where what must be held back starts. */
static int scan_piece(const struct scrub_set *s, struct scrub_stream *st, const uint8_t *p,
		      size_t n, bool is_last, struct buf *out, size_t *kept)
{
	size_t done = 0, at = 0, masked_until = st->masked_ahead, length;
	enum find f = FIND_NONE;
	int ret = 0;

	while (ret == 0 && at < n) {
		f = find_next(s, p, n, &at, &length);
		ret = emit(out, p + done, at - done, masked_until > done ? masked_until - done : 0);
		done = at;
		if (f == FIND_NONE || (f == FIND_BEGINNING && !is_last))
			break;
		if (length > 0) {
			st->n_masked++;
			masked_until = at + length > masked_until ? at + length : masked_until;
		}
		at++;
	}
	if (ret == 0 && (f != FIND_BEGINNING || is_last)) {
		ret = emit(out, p + done, n - done, masked_until > done ? masked_until - done : 0);
		done = n;
	}
	st->masked_ahead = masked_until > done ? masked_until - done : 0;
	*kept = done;
	return ret;
}

/* True when nothing stands or begins in the piece: the one pass that clean data costs. */
static bool is_clean(const struct scrub_set *s, struct str in, bool is_last)
{
	size_t at = 0, length;

	for (;; at++) {
		enum find f = find_next(s, (const uint8_t *)in.p, in.n, &at, &length);

		if (f == FIND_NONE)
			return true;
		if (length > 0 || !is_last)
			return false;
	}
}

int scrub_feed(const struct scrub_set *s, struct scrub_stream *st, struct str in, bool is_last,
	       struct buf *out)
{
	size_t kept, held = buf_len(&st->held);
	struct str all = in;
	int ret;

	if (s->window == 0 && held == 0 && st->masked_ahead == 0)
		return SCRUB_CLEAN;
	if (held == 0 && st->masked_ahead == 0 && is_clean(s, in, is_last))
		return SCRUB_CLEAN;
	if (held > 0) {
		/* The cap is given at first use; a piece of any size fits behind what is held. */
		if (st->held.cap < held + in.n)
			st->held.cap = held + in.n;
		ret = buf_append_str(&st->held, in);
		if (ret < 0)
			return ret;
		all = buf_str(&st->held);
	}
	ret = scan_piece(s, st, (const uint8_t *)all.p, all.n, is_last, out, &kept);
	if (ret < 0)
		return ret;
	if (held > 0) {
		buf_consume(&st->held, kept);
	} else if (kept < all.n) {
		if (st->held.cap == 0)
			buf_init(&st->held, all.n - kept);
		if (st->held.cap < all.n - kept)
			st->held.cap = all.n - kept;
		ret = buf_append(&st->held, all.p + kept, all.n - kept);
		if (ret < 0)
			return ret;
	}
	return SCRUB_CHANGED;
}

bool scrub_mask(const struct scrub_set *s, char *p, size_t n)
{
	size_t at = 0, masked_until = 0, length;
	bool is_masked = false;

	if (s->window == 0)
		return false;
	/* Masking behind the search: bytes are overwritten only when no later match can start
	 * there, since matches are found in the order of their starts. */
	for (size_t done = 0;; at++) {
		enum find f = find_next(s, (const uint8_t *)p, n, &at, &length);

		if (masked_until > done) {
			size_t to = masked_until < at ? masked_until : at;

			if (to > done)
				memset(p + done, '*', to - done);
		}
		done = at;
		if (f == FIND_NONE)
			break;
		if (length > 0) {
			is_masked = true;
			masked_until = at + length > masked_until ? at + length : masked_until;
		}
	}
	return is_masked;
}

void scrub_stream_close(struct scrub_stream *st)
{
	if (st->held.p)
		mem_wipe(st->held.p, st->held.size);
	buf_free(&st->held);
	*st = (struct scrub_stream){0};
}
