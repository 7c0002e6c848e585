/* The data types of SSH (RFC 4251, section 5), read and written within bounds. */
#pragma once

#include "base/str.h"

/* What is left to be read. After a failure everything further fails. */
struct ssh_reader {
	const uint8_t *p;
	size_t n;
	bool is_bad;
};

struct ssh_reader ssh_reader_of(struct str s);
uint8_t ssh_read_byte(struct ssh_reader *r);
uint32_t ssh_read_u32(struct ssh_reader *r);
struct str ssh_read_string(struct ssh_reader *r);
/* A positive mpint's magnitude without leading zeroes; a negative or padded one is bad. */
struct str ssh_read_mpint(struct ssh_reader *r);
bool ssh_reader_is_done(const struct ssh_reader *r); /* all was read, and all of it was good */

struct ssh_writer {
	uint8_t *p;
	size_t n, cap;
	bool is_full;
};

void ssh_write_byte(struct ssh_writer *w, uint8_t v);
void ssh_write_u32(struct ssh_writer *w, uint32_t v);
void ssh_write_string(struct ssh_writer *w, struct str s);
/* Of a magnitude in network order; leading zeroes are dropped. */
void ssh_write_mpint(struct ssh_writer *w, struct str magnitude);
