/*
 * What the terminal face shows and what its keys do, without a terminal and without a thread: news
 * of the stores and keys go in, cells and orders to the keeper come out.
 *
 * Theory of operation. What is selected is a request (slug and number), never a row: a list that
 * changes under the cursor selects nothing else. A request can be approved only from its detail
 * view, when all of its change and findings has been on the screen and it has stood there for
 * UI_SETTLE_MS, so that no key that was typed for something else hits it; so has a question about a
 * warning, before its "y" counts. What is then sent is the
 * hash of what was drawn, copied when it was drawn (ui_draw()); whatever came in since is another
 * hash, and the order is refused here or, as stale, by the keeper. What is pasted are no keys: it
 * may be text of the agent's that the human has just copied.
 */
#pragma once

#include "face/terminal_doc.h"
#include "face/terminal_look.h"
#include "requests/manifest_edit.h"

#define UI_SETTLE_MS	500
#define UI_LIST_STEP	500 /* requests that are read at once; more when the selection comes near */
#define UI_PASTE_MS	2000 /* between two characters of a paste: past that its end was lost */
#define UI_INPUT_MAX	400
#define UI_MINUTES_MAX	(60 * 24 * 30)
#define UI_ROWS_MIN	6
#define UI_COLS_MIN	24
#define UI_QUESTION_MAX 320

/* Keys: a Unicode character, or one of these, past all of them. */
enum {
	UI_KEY_NONE = 0x200000,
	UI_KEY_UP,
	UI_KEY_DOWN,
	UI_KEY_LEFT,
	UI_KEY_RIGHT,
	UI_KEY_PAGE_UP,
	UI_KEY_PAGE_DOWN,
	UI_KEY_HOME,
	UI_KEY_END,
	UI_KEY_ENTER,
	UI_KEY_BACKSPACE,
	UI_KEY_TAB,
	UI_KEY_ESCAPE,
	UI_KEY_PASTE, /* what follows was not typed */
	UI_KEY_PASTE_END
};

enum ui_mode { UI_LIST, UI_DETAIL, UI_DIFF, UI_GRANTS, UI_HELP };
enum ui_pane { UI_BOTTLES, UI_REQUESTS };
enum ui_prompt { UI_NO_PROMPT, UI_CONFIRM, UI_MINUTES, UI_REASON, UI_WORDS };
enum ui_order_kind { UI_NO_ORDER, UI_DECIDE, UI_REVOKE, UI_PAUSE, UI_RESUME, UI_STOP_NOW };

/* Complete when it is made: nothing of it is looked up again when it is carried out. */
struct ui_order {
	enum ui_order_kind kind;
	char slug[PLACES_SLUG_MAX];
	uint64_t id;
	uint8_t hash[CHANGE_HASH_BYTES];
	bool is_granted;
	enum ask_scope scope;
	enum ask_release release;
	uint64_t seconds;
	uint8_t manifest[CHANGE_HASH_BYTES];
	char answer[STORE_ANSWER_MAX];
};

struct ui_name {
	char slug[PLACES_SLUG_MAX];
	uint64_t id; /* 0: of nothing */
};

struct ui {
	struct look_news now; /* as last taken */
	struct look_wanted wanted;
	enum ui_mode mode;
	enum ui_mode before_help;
	enum ui_pane pane;
	char bottle[PLACES_SLUG_MAX]; /* selected; "": all */
	struct ui_name selected, grant;
	size_t at, grant_at;   /* the row where it was last */
	size_t top, grant_top; /* first row on the screen */
	size_t page;	       /* rows of the list as drawn */
	bool is_gone;	       /* selected is no longer in the list */
	/* As drawn. */
	struct ui_name shown;
	uint8_t shown_hash[CHANGE_HASH_BYTES];
	uint64_t shown_since_ms, diff_since_ms, asked_since_ms; /* 0: not yet */
	struct doc detail, diff, help;
	struct manifest_edit edit; /* UI_DIFF */
	bool has_edit;
	enum ui_prompt prompt;
	struct ui_order asked; /* what the prompt is about */
	struct ui_order order; /* to be carried out; kind UI_NO_ORDER: none */
	char question[UI_QUESTION_MAX];
	char input[UI_INPUT_MAX + 8];
	size_t input_n;
	char message[512];
	enum grid_style message_style;
	size_t n_pending; /* of all bottles */
	bool is_new;	  /* more of them than before; who reads it clears it */
	bool is_pasting;
	uint64_t pasted_ms;
	bool is_done;
};

/* bottle: the one that is selected first, or "". */
void ui_init(struct ui *u, const char *bottle);
void ui_free(struct ui *u);
/* Takes over the parts that n has, and leaves it empty. */
void ui_take(struct ui *u, struct look_news *n);
void ui_key(struct ui *u, int key, uint64_t now_ms);
/* Carries out u->order and says what became of it. Asks the keeper, so it may take a while. */
void ui_carry_out(struct ui *u);
/* now: seconds since the epoch; now_ms: monotonic, the clock of ui_key(). */
void ui_draw(struct ui *u, struct grid *g, uint64_t now, uint64_t now_ms);

/* --- between the files of the ui --- */

void ui_say(struct ui *u, enum grid_style style, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
bool ui_name_is(const struct ui_name *n, const char *slug, uint64_t id);
/* The request of the detail view, or NULL while it is not there. */
const struct request *ui_request(const struct ui *u);
const struct face_bottle *ui_bottle(const struct ui *u, const char *slug);
/* The bottle that keys of bottles are about: of the detail, the selected one, or of the selected
 * request; "" for none. */
const char *ui_target(const struct ui *u);
void ui_open_detail(struct ui *u, const struct ui_name *which);
void ui_leave(struct ui *u); /* back to the list */
void ui_prompt(struct ui *u, enum ui_prompt prompt, const struct ui_order *o, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Takes back what is asked, without sending anything. */
void ui_drop_question(struct ui *u);
void ui_key_prompt(struct ui *u, int key, uint64_t now_ms);
void ui_key_detail(struct ui *u, int key, uint64_t now_ms);
void ui_key_diff(struct ui *u, int key, uint64_t now_ms);
/* What r is about, line by line, as it was asked. */
void ui_describe(struct doc *d, const char *slug, const struct request *r, uint64_t now);
void ui_help_text(struct doc *d);
const char *ui_kind_name(enum ask_kind k);
/* "3s", "12m", "5h", "2d". */
void ui_span(char out[16], uint64_t seconds);
#define UI_HASH_SHOWN 16
