/* A ui over made-up news, its screen as text, and the orders that went to the keeper. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_face.h"

#include "face/terminal_ui.h"

#define WORLD_NOW 1700001000
/* Each byte of the hash of what an edit of a manifest makes here. */
#define WORLD_EDIT_HASH 5

struct terminal_world {
	struct ui ui;
	struct grid grid;
	struct buf screen;
	uint64_t now_ms;
	struct face_decision sent; /* the last; its slug and answer are these copies */
	char sent_slug[PLACES_SLUG_MAX], sent_answer[STORE_ANSWER_MAX];
	unsigned n_sent;
};

extern struct terminal_world world;

int world_setup(void **state);
int world_teardown(void **state);
void world_resize(int rows, int cols);
/* The bottle FAKE_SLUG, paused or not, with so many pending, and its requests [from, from + n). */
void world_lists(uint64_t from, size_t n);
/* A request for host that face_get() would find; pending. Change it before it is given. */
struct request world_request(uint64_t id, enum ask_kind kind, const char *host);
void world_add_finding(struct request *r, enum danger_rule rule, enum danger_level level,
		       const char *text);
/* Takes r over, as what the store says of the wanted detail. */
void world_detail(struct request *r);
const char *world_draw(void);
/* The key, with the screen drawn before and after, and orders carried out. */
void world_key(int key);
void world_keys(const char *keys);
void world_wait(uint64_t ms);
#define expect_shown(text)                                                                         \
	do {                                                                                       \
		if (!strstr(world_draw(), (text)))                                                 \
			fail_msg("\"%s\" is not in\n%s", (text), world_draw());                    \
	} while (0)
#define expect_not_shown(text)                                                                     \
	do {                                                                                       \
		if (strstr(world_draw(), (text)))                                                  \
			fail_msg("\"%s\" is in\n%s", (text), world_draw());                        \
	} while (0)
