/*
 * What an expression cannot tell: checks of candidates. Each gets the text up to the match's end
 * and walks back from there, so that no start of match is needed from the engine.
 */
#pragma once

#include "scan/scan_int.h"

/* Letters of one case only, or no digit: an identifier, not a random token. */
bool check_random(struct scan_candidate *c);
/* Both cases and high entropy: base64 of random bytes, not hex, not words. */
bool check_mixed(struct scan_candidate *c);
/* name = value: the value is neither a placeholder, code, nor a word. */
bool check_assignment(struct scan_candidate *c);
/* user:password@host: the password is no placeholder. */
bool check_userinfo(struct scan_candidate *c);
bool check_bearer(struct scan_candidate *c);
/* The phrase is not quoted as an example. */
bool check_unquoted(struct scan_candidate *c);

bool checks_luhn(const uint8_t *digits, size_t n);
/* ISO 13616: capital letters and digits without spaces, of the length of its country. */
bool checks_iban(const uint8_t *p, size_t n);
/* Base58Check (double SHA-256) with this payload size; the version byte is given back. */
bool checks_base58(const uint8_t *p, size_t n, size_t payload_n, uint8_t *version);
/* BIP 173 and BIP 350, "bc1...". */
bool checks_bech32(const uint8_t *p, size_t n);
/* Text that no secret is: example, changeme, your-..., xxxx, <...>, ${...}. */
bool checks_is_placeholder(const uint8_t *p, size_t n);
/* Share of printable ASCII, in percent. */
unsigned checks_printable(const uint8_t *p, size_t n);
/* How often the kind of character (capital, small, digit, other) changes. */
size_t checks_switches(const uint8_t *p, size_t n);
