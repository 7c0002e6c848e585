/*
 * The decoders. Each empties out, fills it with what it undid in a view, and says whether that is
 * worth looking at. Runs that ended before old_n were dealt with when an earlier piece came.
 */
#pragma once

#include "scan/scan_int.h"

/* Which escapes scan_unescape() undoes. */
#define ESCAPE_PERCENT 1u /* %HH, %uHHHH (RFC 3986 section 2.1) */
#define ESCAPE_JSON                                                                                \
	2u		/* \uXXXX and the short ones (RFC 8259 section 7), \xHH, octal, markdown's \
			 */
#define ESCAPE_HTML 4u	/* &#...; and the names that spell ASCII */
#define ESCAPE_FORM 8u	/* + is a space */
#define ESCAPE_QP   16u /* =HH and soft line breaks (RFC 2045 section 6.7) */

#define ESCAPE_NEEDLESS 32u /* reported only: a letter or digit was percent-encoded */

/* Bits of what was undone; 0 when nothing. */
unsigned scan_unescape(struct scan_out *out, const uint8_t *p, size_t n, unsigned kinds);
/* Characters that look like ASCII become ASCII, invisible ones go. */
bool scan_fold(struct scan_out *out, const uint8_t *p, size_t n);
bool scan_utf16(struct scan_out *out, const uint8_t *p, size_t n);
/* Runs of base64 and base64url, at each of the four alignments, also over line breaks. */
bool scan_base64(struct scan_out *out, const struct scan_view *v, const struct scan_class *c,
		 size_t old_n);
bool scan_hex(struct scan_out *out, const struct scan_view *v, const struct scan_class *c,
	      size_t old_n);
bool scan_base32(struct scan_out *out, const struct scan_view *v, const struct scan_class *c,
		 size_t old_n, bool is_host);
/* Compressed data inside: gzip, zlib, zstd, zip. *what tells which. *limit is the name of a limit
 * that was reached, or NULL; then too there may be something to look at. */
struct scan_inflater;
/* RFC 1950 section 2.2: deflate, any window, no dictionary, and a check value. */
static inline bool scan_is_zlib_head(const uint8_t *p)
{
	return (p[0] & 0x8f) == 0x08 && (p[0] * 256 + p[1]) % 31 == 0 && (p[1] & 0x20) == 0;
}
struct scan_inflater *scan_inflater_new(void); /* NULL when memory is out */
void scan_inflater_free(struct scan_inflater *z);
bool scan_inflate(struct scan_inflater *z, struct scan_out *out, const struct scan_view *v,
		  bool is_last, bool is_sent, enum scan_decoder *what, const char **limit);
/* Values alone, in a row: what was split over parameters, segments, headers or labels. */
bool scan_join(struct scan_out *out, const struct scan_view *v, enum scan_place place);
/* Letters and digits alone; in the other ways with "_", "-", or "_-.". */
#define SQUEEZE_WAYS 4
bool scan_squeeze(struct scan_out *out, const uint8_t *p, size_t n, size_t way);
