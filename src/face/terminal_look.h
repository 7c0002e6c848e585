/*
 * Looks at the stores in a thread of its own, so that no key waits for them: ten thousand requests
 * take longer to read than a human takes to notice. Everything of struct face happens in that
 * thread; the screen's side says what it wants to see and takes what was found, as copies.
 *
 * What is wanted newly goes first: reading a long list is given up for it and begun again.
 */
#pragma once

#include "face/face.h"

#define LOOK_PERIOD_MS	 250
#define LOOK_SUMMARY_MAX 320
#define LOOK_RECORDS_MAX 64
#define LOOK_TOLD_MAX	 5
#define LOOK_GRANTS_MAX	 1000

struct look_wanted {
	char slug[PLACES_SLUG_MAX]; /* requests of; "": of every bottle */
	unsigned states;
	size_t limit;
	char records_of[PLACES_SLUG_MAX]; /* "": none */
	char grants_of[PLACES_SLUG_MAX];  /* "": none */
	char detail_of[PLACES_SLUG_MAX];
	uint64_t detail; /* 0: none */
};

struct look_row {
	char slug[PLACES_SLUG_MAX];
	uint64_t id, created, expires, asked;
	enum request_state state;
	enum ask_kind kind;
	enum danger_level worst; /* 0: no finding */
	char summary[LOOK_SUMMARY_MAX];
};
struct look_grant {
	uint64_t id, until;
	enum grant_state state;
	enum ask_scope scope;
	char summary[LOOK_SUMMARY_MAX];
};
struct look_lines {
	char **lines;
	size_t n, cap;
};

/* Each part with has_: it is new, and replaces what was there. */
struct look_news {
	bool has_bottles, has_rows, has_records, has_grants, has_detail;
	struct face_bottle *bottles;
	size_t n_bottles;
	char rows_of[PLACES_SLUG_MAX];
	unsigned rows_states;
	struct look_row *rows;
	size_t n_rows, cap_rows;
	bool is_more; /* than the limit */
	char records_of[PLACES_SLUG_MAX];
	struct look_lines records, told; /* oldest first */
	char grants_of[PLACES_SLUG_MAX];
	struct look_grant *grants;
	size_t n_grants, cap_grants;
	char detail_of[PLACES_SLUG_MAX];
	uint64_t detail_id;
	bool is_there; /* detail holds it; else it is gone, or trouble says why it cannot be read */
	struct request detail;
	char trouble[256]; /* "" for none */
};
void look_news_free(struct look_news *n);
/* Moves the parts that from has over those of to, and leaves from empty. */
void look_news_merge(struct look_news *to, struct look_news *from);

struct look;
/* Takes f: it belongs to the thread from here, and look_stop() closes it. All signals are blocked
 * in the thread. */
int look_start(struct look **out, struct face *f, struct err *e) _fallible_;
void look_stop(struct look *l);
void look_want(struct look *l, const struct look_wanted *w);
/* Looks at once instead of at the next period: something was just decided. */
void look_again(struct look *l);
/* Readable when there is something to take. */
int look_fd(const struct look *l);
/* Merges into n what is new. False: nothing. */
bool look_take(struct look *l, struct look_news *n);
