/* Ways to write a text so that a search for it may miss it. Results are on the heap. */
#pragma once

#include "base/buf.h"

/* The shape of a well-known token, made of the try's token so that it is new in each run. */
char *dlp_shaped_secret(const char *token);

char *dlp_base64(const char *text);
char *dlp_base64_of(struct str data);
char *dlp_base32(const char *text);
char *dlp_hex(const char *text, const char *between);
char *dlp_percent(const char *text);
/* The same over and over. */
char *dlp_times(char *(*fn)(const char *), unsigned times, const char *text);
/* A UTF-8 sequence behind each character. */
char *dlp_mix_in(const char *text, const char *sequence);
/* Letters of another script that look the same. */
char *dlp_lookalike(const char *text);
char *dlp_toggle_case(const char *text);

/* Appended to out; 0 or -errno. */
int dlp_utf16(struct buf *out, struct str text) _fallible_;
int dlp_gzip(struct buf *out, struct str text) _fallible_;
/* Stored, not compressed: what is asked is whether somebody looks into the format. At most 255
 * bytes. */
int dlp_brotli(struct buf *out, struct str text) _fallible_;
int dlp_zstd(struct buf *out, struct str text) _fallible_;
/* One deflated entry. */
int dlp_zip(struct buf *out, const char *name, struct str text) _fallible_;
