/*
 * Text that may come from an agent, made safe to show to a human or to write into a log: control
 * (C0, C1, DEL), bidirectional, zero-width and other invisible characters, bytes that are not
 * UTF-8, and piled-up combining marks become visible escapes.
 */
#pragma once

#include "base/buf.h"

/* Appends s with dangerous characters shown as \n, \xNN or \u{NNNN}; a backslash becomes \\. At
 * most max bytes of output, then "…". 0 or -ENOBUFS. */
int text_visible(struct buf *out, struct str s, size_t max) _fallible_;
/* The same into a fixed buffer, always NUL-terminated, cut with "…" when it does not fit. */
void text_visible_cstr(char *out, size_t size, struct str s);
/* The same of a text that somebody on its way may have made visible before: where nothing is left
 * to be shown otherwise it is copied, and no backslash doubled. */
void text_visible_once_cstr(char *out, size_t size, struct str s);
/* Appends s as a JSON string with its quotes (RFC 8259). Bytes that are not UTF-8 become U+FFFD;
 * control, bidirectional and zero-width characters are written as \uXXXX. 0 or -ENOBUFS. */
int text_json(struct buf *out, struct str s) _fallible_;
/* Decodes one UTF-8 sequence (RFC 3629, no surrogates, no overlong forms). Its length, or 0 if the
 * bytes at p are not one. */
size_t text_utf8_next(struct str s, uint32_t *codepoint);
/* Characters that a human would not see, or that would move what is seen. */
bool text_is_deceptive(uint32_t codepoint);
/* One of these, or a byte that is not of UTF-8, is in s. */
bool text_has_deceptive(struct str s);
/* Damerau-Levenshtein (optimal string alignment) distance of short ASCII words, for "did you mean";
 * words past 64 bytes count as SIZE_MAX. */
size_t text_distance(struct str a, struct str b);
/* The candidate nearest to word within a distance of at most a third of its length, or NULL. */
const char *text_nearest(struct str word, const char *const *candidates, size_t n);
/* Lower-case hex of n bytes; out holds 2 * n + 1. */
void text_hex(char *out, const void *data, size_t n);
/* n bytes from hex. False unless hex.n == 2 * n and all are hex digits. */
bool text_unhex(void *out, size_t n, struct str hex) __attribute__((warn_unused_result));
/* Does the whole text match, "*" in the pattern being any run of bytes? lowers: the pattern's ASCII
 * letters count as lower case, the text's are that already. Takes pattern times text steps at most:
 * the caller caps both. */
bool text_star_match(struct str pattern, struct str text, bool lowers);
