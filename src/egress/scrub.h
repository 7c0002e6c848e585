/*
 * Finds known values in streams of bytes, in the forms in which an upstream may echo them, and
 * masks them with asterisks, byte for byte, so that no length changes.
 *
 * Forms: plain; base64 and base64url (inside any text, at each of the three alignments); percent-
 * encoding (of what must be encoded, of all; both letter cases; "+" for a space); hex in both
 * cases; JSON and HTML escapes. What base64 shares with a neighbouring byte is not part of a form.
 *
 * A stream holds back only a suffix that is a beginning of some form, never a fixed window, so that
 * an event stream does not stall. See docs/EGRESS.md for the search and its figures.
 */
#pragma once

#include "base/buf.h"

#define SCRUB_SECRET_MIN  12 /* shorter ones would mask ordinary text */
#define SCRUB_SECRET_MAX  2048
#define SCRUB_SECRETS_MAX 128
#define SCRUB_FORMS_MAX	  4096			 /* of all secrets */
#define SCRUB_FORM_MAX	  (6 * SCRUB_SECRET_MAX) /* \u00XX of each byte */
#define SCRUB_HELD_MAX	  SCRUB_FORM_MAX

struct scrub_set;

/* secret_memory: the most bytes that all forms may take. The memory is made here, locked where the
 * kernel allows it, never dumped, and wiped by scrub_set_free(); adding later makes no more. */
int scrub_set_new(struct scrub_set **out, size_t secret_memory, struct err *e) _fallible_;
void scrub_set_free(struct scrub_set *s);
/* Copies. Adding what is there already changes nothing. Streams that are under way search for it
 * from their next piece on. -ERANGE for a length out of bounds, -ENOSPC past a cap. */
int scrub_set_add(struct scrub_set *s, struct str secret, struct err *e) _fallible_;
size_t scrub_set_count(const struct scrub_set *s); /* of forms; 0: nothing to search for */

/* Does any form stand in the text? */
bool scrub_find(const struct scrub_set *s, struct str text);
/* Masks in place. True if anything was. */
bool scrub_mask(const struct scrub_set *s, char *p, size_t n);

/* All zeroes to start with. Holds no memory until something is held back. */
struct scrub_stream {
	struct buf held;     /* the beginning of a form, as it came */
	size_t masked_ahead; /* so many bytes at the front of what comes next are masked */
	uint64_t n_masked;   /* occurrences so far */
};

enum scrub_result { SCRUB_CLEAN, SCRUB_CHANGED };

/* The next piece. SCRUB_CLEAN: nothing is or was held, `in` may pass as it is, out is untouched.
 * SCRUB_CHANGED: what may flow now was appended to out (perhaps nothing). -ENOBUFS when out is
 * full: the stream is then broken. is_last releases what is held. */
int scrub_feed(const struct scrub_set *s, struct scrub_stream *st, struct str in, bool is_last,
	       struct buf *out) _fallible_;
void scrub_stream_close(struct scrub_stream *st); /* wipes */
