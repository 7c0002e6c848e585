/*
 * The bottles that ask, and the human who answers them. One bottle may ask for ten things at once,
 * so that what is asked is spread over several, which run at the same time.
 */
#pragma once

#include "selftest/look.h"
#include "selftest/suite.h"

#include <jansson.h>

/* One bottle and what is asked in it. */
struct sitting {
	const char *name; /* of the agent */
	enum selftest_run run;
	char only[64]; /* the ids that are wanted of it */
	struct scratch_process process;
	struct scratch_bottle bottle;
	size_t n_heard; /* of what the probe has said to the human */
	bool has_asked;
	/* H03: what was shown, and whether a decision as it should be was taken. */
	char *shown_hash, *shown_reason, *held_hash;
	json_int_t held;
	bool is_decided;
};

struct page_place {
	char host[16]; /* on loopback */
	uint16_t port;
};
struct page {
	struct scratch_process process;
	struct page_place at;
	char cookie[128], secret[128];
};

struct supervise {
	struct suite *s;
	struct page page;
	struct faces faces;
};

/* --- human.c: what a person would do with `requests` --- */

/* claude-bottle with these words (NULL at the end); out may be NULL. The exit status or -errno. */
int human_run(struct suite *s, const char *const *words, struct buf *out, struct err *e) _fallible_;
#define HUMAN_WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
/* Does what the probe has said; false: it could not be done. */
bool human_do(struct supervise *v, struct sitting *t, struct str words);

/* --- page.c: `supervise --web` --- */

/* Starts it and takes a session. */
int page_open(struct page *p, struct suite *s, struct err *e) _fallible_;
/* What it answers to a GET in that session, body alone. -EIO: it was refused. */
int page_get(const struct page *p, const char *path, struct buf *out, struct err *e) _fallible_;
/* H02: what another page in the same browser would send. */
void page_attack(const struct page *p, struct suite *s);

/* --- tamper.c --- */

/* H08: whether `logs --verify` tells of what was done to the records of a bottle that has ended. */
int tamper_run(struct suite *s, const char *slug, struct err *e) _fallible_;
