/*
 * Reads a form that has one order and one spelling, in one pass and without a tree. What does not
 * stand where it must makes all of it bad; the caller looks once, at the end. What has been read is
 * written again and compared, so nothing need be found out here about other spellings.
 */
#pragma once

#include "base/str.h"

struct canon {
	struct str rest;
	bool is_bad;
};

/* Exactly this comes next. */
void canon_expect(struct canon *c, const char *literal);
/* If this comes next, it is taken. */
bool canon_next_is(struct canon *c, const char *literal);
/* A string as text_json() writes one that is visible; bad past size - 1 bytes. */
void canon_string(struct canon *c, char *out, size_t size);
void canon_hex(struct canon *c, uint8_t *out, size_t n); /* in quotes */
uint32_t canon_number(struct canon *c, uint32_t max);
