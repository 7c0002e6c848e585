/* The data types of SSH (RFC 4251, section 5), read and written within bounds. */
#pragma once

#include "base/str.h"

/* What is left to be read. After a failure everything further fails. */
struct sshwire_reader {
	const uint8_t *p;
	size_t n;
	bool is_bad;
};

struct sshwire_reader sshwire_reader_of(struct str s);
uint8_t sshwire_read_byte(struct sshwire_reader *r);
uint32_t sshwire_read_u32(struct sshwire_reader *r);
struct str sshwire_read_string(struct sshwire_reader *r);
/* A positive mpint's magnitude without leading zeroes; a negative or padded one is bad. */
struct str sshwire_read_mpint(struct sshwire_reader *r);
bool sshwire_reader_is_done(
	const struct sshwire_reader *r); /* all was read, and all of it was good */

struct sshwire_writer {
	uint8_t *p;
	size_t n, cap;
	bool is_full;
};

void sshwire_write_byte(struct sshwire_writer *w, uint8_t v);
void sshwire_write_u32(struct sshwire_writer *w, uint32_t v);
void sshwire_write_string(struct sshwire_writer *w, struct str s);
/* Of a magnitude in network order; leading zeroes are dropped. */
void sshwire_write_mpint(struct sshwire_writer *w, struct str magnitude);
