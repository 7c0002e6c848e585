/*
 * What a human is shown by each face, and what counts as shown raw. It uses nothing of what it
 * judges: neither the product's idea of a dangerous character nor its JSON writer.
 */
#pragma once

#include "selftest/selftest.h"

enum look_face {
	LOOK_LIST,  /* requests list */
	LOOK_SHOW,  /* requests show */
	LOOK_JSON,  /* requests list and show --json: the strings in it, as they are */
	LOOK_AUDIT, /* requests audit */
	LOOK_AUDIT_JSON,
	LOOK_LOGS,
	LOOK_LOGS_JSON,
	LOOK_RECORDS, /* records.jsonl, as it lies there */
	LOOK_STORE,   /* requests.db, as it lies there: what every face has it from */
	LOOK_PAGE,    /* what the page is given */
	LOOK_NAIVE,   /* the last: what the canary's face would have shown */
	LOOK_FACES
};

struct faces {
	struct buf text[LOOK_FACES];
	struct buf requests; /* lines: state TAB rules,… TAB host TAB reason */
	unsigned n_broken;   /* JSON that is none */
};

void look_init(struct faces *f);
void look_free(struct faces *f);
void look_add(struct faces *f, enum look_face face, struct str text);
/* Each string in a JSON text, or in each of its lines. */
void look_add_json(struct faces *f, enum look_face face, struct str json, bool is_lines);
/* What `requests list --json` says. */
void look_add_requests(struct faces *f, struct str json);

/* Something that acts on a screen or a log stands before the token, or more than a screen. */
bool look_is_raw(struct str text, struct str token);
/* What the faces say of tries of H01, H04, H05, H08 and H10: the tokens of those that got through,
 * and of the wanted ones that arrived, a line each. */
int look_judge(const struct faces *f, const struct selftest_try *tries, size_t n,
	       struct buf *witnessed) _fallible_;
