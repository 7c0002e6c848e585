/* What the terminal face decides by which key, and about what. */
#include "terminal_world.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>

/* Request 1 (or another) is open, has been read and has settled. */
static void open_request(struct request *r)
{
	world_lists(1, 5);
	world_keys("\n");
	assert_int_equal(world.ui.mode, UI_DETAIL);
	world_detail(r);
	world_wait(UI_SETTLE_MS);
}

static void open_plain(enum ask_kind kind)
{
	struct request r = world_request(1, kind, "api.example.com");

	(void)fake_add(kind, "api.example.com", DANGER_NOTE, "because");
	open_request(&r);
}

static void test_detail_shows_the_change(void **state)
{
	struct request r = world_request(1, ASK_EGRESS, "api.xn--anthropc-n8a.com");

	(void)state;
	r.change.route.ports[1] = 8443;
	r.change.route.n_ports = 2;
	r.change.route.paths = mem_zalloc_array(2, sizeof(char *));
	r.change.route.paths[0] = mem_strdup("/v1/**");
	r.change.route.paths[1] = mem_strdup("/v2/*");
	r.change.route.n_paths = 2;
	world_add_finding(&r, DANGER_PUNYCODE_RULE, DANGER_WARN, "letters past ASCII");
	open_request(&r);
	expect_shown("api.xn--anthropc-n8a.com");
	expect_shown("written \"api.");
	expect_shown("443, 8443");
	expect_shown("methods   GET");
	expect_shown("paths     /v1/**");
	expect_shown("          /v2/*");
	expect_shown("WARNING punycode: letters past ASCII");
	expect_shown("The agent says:");
	expect_shown("| because");
	expect_shown("asked 3 times");
	expect_shown("a refusal in 28m");
	expect_shown("hash 0101010101010101…");
	world_resize(12, 40);
	expect_shown("api.xn--anthropc-n8a.com");
}

static void test_scopes(void **state)
{
	(void)state;
	open_plain(ASK_EGRESS);
	world_keys("o");
	assert_int_equal(world.n_sent, 1);
	assert_int_equal(world.sent.id, 1);
	assert_string_equal(world.sent.slug, FAKE_SLUG);
	assert_string_equal(world.sent.face, "terminal");
	assert_true(world.sent.is_granted);
	assert_int_equal(world.sent.scope, ASK_ONCE);
	assert_int_equal(world.sent.hash[0], 1);
	assert_int_equal(world.ui.mode, UI_LIST);
	expect_shown("done");
	open_plain(ASK_EGRESS);
	world_keys("b");
	assert_int_equal(world.sent.scope, ASK_BOTTLE);
	assert_int_equal(world.sent.seconds, 0);
	open_plain(ASK_EGRESS);
	world_keys("t90\n");
	assert_int_equal(world.n_sent, 3);
	assert_int_equal(world.sent.scope, ASK_BOTTLE);
	assert_int_equal(world.sent.seconds, 90 * 60);
}

static void test_refusing(void **state)
{
	(void)state;
	open_plain(ASK_EGRESS);
	/* Letters of the reason are no keys, and what would hide is not taken. */
	world_keys("rnox");
	world_key(UI_KEY_BACKSPACE);
	world_key(0xe9);
	world_key(0x202e);
	world_key('\x1b' + 0x200000 - 0x1b); /* UI_KEY_NONE */
	world_keys("\n");
	assert_int_equal(world.n_sent, 1);
	assert_false(world.sent.is_granted);
	assert_string_equal(world.sent_answer, "no\xc3\xa9");
	open_plain(ASK_EGRESS);
	world_keys("rab");
	world_key(UI_KEY_ESCAPE);
	assert_int_equal(world.n_sent, 1);
	assert_int_equal(world.ui.mode, UI_DETAIL);
}

static void test_kinds_have_their_keys(void **state)
{
	(void)state;
	open_plain(ASK_RELEASE);
	world_keys("obta");
	assert_int_equal(world.n_sent, 0);
	world_keys("m");
	assert_int_equal(world.sent.release, ASK_REDACT);
	assert_int_equal(world.sent.scope, ASK_ONCE);
	open_plain(ASK_RELEASE);
	world_keys("p");
	assert_int_equal(world.sent.release, ASK_PASS);
	open_plain(ASK_RELEASE);
	world_keys("x");
	assert_false(world.sent.is_granted);
	assert_int_equal(world.n_sent, 3);
	open_plain(ASK_PUSH);
	world_keys("btapm");
	assert_int_equal(world.n_sent, 3);
	world_keys("o");
	assert_int_equal(world.n_sent, 4);
	open_plain(ASK_CAPABILITY);
	world_keys("oask root\n");
	assert_int_equal(world.n_sent, 5);
	assert_string_equal(world.sent_answer, "ask root");
}

static void test_nothing_is_approved_from_the_list(void **state)
{
	(void)state;
	world_lists(1, 5);
	world_wait(10000);
	world_keys("obtapmxr");
	assert_int_equal(world.n_sent, 0);
	assert_int_equal(world.ui.mode, UI_LIST);
	expect_shown("Open the request first");
}

static void test_a_key_needs_a_settled_screen(void **state)
{
	struct request r = world_request(1, ASK_EGRESS, "api.example.com");

	(void)state;
	world_lists(1, 5);
	/* Typed ahead of what is not there yet. */
	world_keys("\noo");
	assert_int_equal(world.n_sent, 0);
	world_detail(&r);
	world_keys("o");
	expect_shown("Too fast");
	world_wait(UI_SETTLE_MS - 1);
	world_keys("o");
	assert_int_equal(world.n_sent, 0);
	world_wait(1);
	world_keys("o");
	assert_int_equal(world.n_sent, 1);
}

/* What the human has copied may be the agent's words. */
static void test_pastes_are_no_keys(void **state)
{
	(void)state;
	open_plain(ASK_EGRESS);
	world_key(UI_KEY_PASTE);
	world_keys("o\ny");
	world_key(UI_KEY_PASTE_END);
	assert_int_equal(world.n_sent, 0);
	assert_int_equal(world.ui.mode, UI_DETAIL);
	world_keys("r");
	world_key(UI_KEY_PASTE);
	world_keys("not\nso");
	world_key(UI_KEY_PASTE_END);
	assert_int_equal(world.n_sent, 0);
	world_keys("!\n");
	assert_int_equal(world.n_sent, 1);
	assert_string_equal(world.sent_answer, "notso!");
	/* A paste whose end is lost does not make it deaf. */
	open_plain(ASK_EGRESS);
	world_key(UI_KEY_PASTE);
	world_keys("o");
	world_wait(UI_PASTE_MS);
	world_keys("o");
	assert_int_equal(world.n_sent, 2);
}

/* What was hidden by the help comes back as something new. */
static void test_help_covers(void **state)
{
	(void)state;
	open_plain(ASK_EGRESS);
	world_keys("?");
	expect_shown("approve once");
	world_keys("qo");
	assert_int_equal(world.n_sent, 0);
	world_wait(UI_SETTLE_MS);
	world_keys("o");
	assert_int_equal(world.n_sent, 1);
}

static void test_warnings_need_a_second_key(void **state)
{
	struct request r = world_request(1, ASK_EGRESS, "paste.example.com");

	(void)state;
	world_add_finding(&r, DANGER_UPLOAD_RULE, DANGER_WARN, "anybody can fetch it");
	world_add_finding(&r, DANGER_LOOKALIKE_RULE, DANGER_WARN, "looks like another");
	open_request(&r);
	world_keys("o");
	assert_int_equal(world.n_sent, 0);
	expect_shown("WARNING: upload-host, look-alike. Approve all the same? y/N");
	world_resize(12, 40);
	expect_shown("upload-host");
	expect_shown("y/N");
	world_resize(40, 120);
	world_keys("o");
	assert_int_equal(world.n_sent, 0);
	expect_shown("Nothing was sent");
	world_wait(UI_SETTLE_MS);
	/* Typed, or pasted where pastes are not marked, before the question could be read. */
	world_keys("oy");
	assert_int_equal(world.n_sent, 0);
	expect_shown("Too fast");
	expect_shown("y/N");
	world_wait(UI_SETTLE_MS);
	world_keys("y");
	assert_int_equal(world.n_sent, 1);
	assert_true(world.sent.is_granted);
}

static void test_never(void **state)
{
	struct request r = world_request(1, ASK_EGRESS, "metadata.internal");

	(void)state;
	world_add_finding(&r, DANGER_INSIDE_RULE, DANGER_NEVER, "it lies inside");
	open_request(&r);
	expect_shown("NEVER inside: it lies inside");
	world_keys("obtay");
	assert_int_equal(world.n_sent, 0);
	expect_not_shown("o once");
	world_keys("o");
	expect_shown("Cannot be approved: it lies inside");
	world_keys("x");
	assert_int_equal(world.n_sent, 1);
	assert_false(world.sent.is_granted);
}

/* The list changes between looking and pressing: nothing else is selected. */
static void test_selection_is_by_identity(void **state)
{
	(void)state;
	world_lists(1, 5);
	world_keys("jj");
	assert_int_equal(world.ui.selected.id, 3);
	world_lists(2, 5);
	assert_int_equal(world.ui.selected.id, 3);
	assert_int_equal(world.ui.at, 1);
	world_lists(4, 5);
	(void)world_draw();
	expect_shown("no longer here");
	world_keys("\n");
	assert_int_equal(world.ui.mode, UI_LIST);
	expect_shown("No request is selected");
	/* The next key chooses anew, and it comes back when it comes back. */
	world_keys("j");
	assert_int_equal(world.ui.selected.id, 5);
	world_lists(1, 3);
	assert_true(world.ui.is_gone);
	world_lists(1, 5);
	assert_false(world.ui.is_gone);
	world_keys("\n");
	assert_int_equal(world.ui.wanted.detail, 5);
}

/* A decision is about what was drawn, or it is not made. */
static void test_a_change_under_the_hand(void **state)
{
	struct request r = world_request(1, ASK_EGRESS, "evil.example");

	(void)state;
	open_plain(ASK_EGRESS);
	memset(r.hash, 99, sizeof(r.hash));
	world_detail(&r);
	/* Not even drawn: */
	ui_key(&world.ui, 'o', world.now_ms + 10000);
	assert_int_equal(world.ui.order.kind, UI_NO_ORDER);
	expect_shown("has changed. Look again");
	world_keys("o");
	assert_int_equal(world.n_sent, 0);
	expect_shown("Too fast");
	world_wait(UI_SETTLE_MS);
	world_keys("o");
	/* The keeper knows another: stale, and the request is shown anew. */
	assert_int_equal(world.n_sent, 1);
	assert_int_equal(world.sent.hash[0], 99);
	assert_int_equal(world.ui.mode, UI_DETAIL);
	assert_int_equal(world.ui.shown.id, 0);
}

static void test_a_change_under_a_question(void **state)
{
	struct request r = world_request(1, ASK_EGRESS, "paste.example.com");
	struct request other = world_request(1, ASK_EGRESS, "evil.example.com");

	(void)state;
	world_add_finding(&r, DANGER_UPLOAD_RULE, DANGER_WARN, "anybody can fetch it");
	open_request(&r);
	world_keys("o");
	assert_int_equal(world.ui.prompt, UI_CONFIRM);
	memset(other.hash, 99, sizeof(other.hash));
	world_detail(&other);
	world_keys("y");
	assert_int_equal(world.n_sent, 0);
	assert_int_equal(world.ui.prompt, UI_NO_PROMPT);
}

static void test_decided_elsewhere(void **state)
{
	struct request r = world_request(1, ASK_EGRESS, "api.example.com");

	(void)state;
	open_plain(ASK_EGRESS);
	r.state = REQUEST_REFUSED;
	(void)snprintf(r.who, sizeof(r.who), "uid 0 (root)");
	world_detail(&r);
	expect_shown("refused by uid 0 (root)");
	world_keys("o");
	assert_int_equal(world.n_sent, 0);
}

/* On a small screen the end of the change has to be scrolled to. */
static void test_the_whole_change_is_read(void **state)
{
	struct request r = world_request(1, ASK_EGRESS, "api.example.com");

	(void)state;
	r.change.route.paths = mem_zalloc_array(8, sizeof(char *));
	r.change.route.n_paths = 8;
	for (size_t i = 0; i < 8; i++)
		r.change.route.paths[i] = mem_printf("/%0200zu", i);
	world_resize(12, 40);
	open_request(&r);
	world_keys("o");
	assert_int_equal(world.n_sent, 0);
	expect_shown("Read on first");
	for (int i = 0; i < 12; i++)
		world_key(UI_KEY_PAGE_DOWN);
	world_keys("o");
	assert_int_equal(world.n_sent, 1);
}

static void test_always(void **state)
{
	(void)state;
	open_plain(ASK_EGRESS);
	world_keys("a");
	expect_shown("manifest is not known");
	fake.manifest = "/m.yaml";
	open_plain(ASK_EGRESS);
	world_keys("ay");
	assert_int_equal(world.n_sent, 0);
	assert_int_equal(world.ui.mode, UI_DIFF);
	expect_shown("This would be written into /m.yaml:");
	expect_shown("+    - host: api.example.com");
	world_wait(UI_SETTLE_MS);
	world_keys("n");
	assert_int_equal(world.n_sent, 0);
	assert_int_equal(world.ui.mode, UI_DETAIL);
	world_wait(UI_SETTLE_MS);
	world_keys("a");
	world_wait(UI_SETTLE_MS);
	world_keys("y");
	assert_int_equal(world.n_sent, 1);
	assert_int_equal(world.sent.scope, ASK_ALWAYS);
	assert_int_equal(world.sent.manifest[0], WORLD_EDIT_HASH);
}

/* H01: each field as hostile as bytes can be, and nobody on the way who made it visible. */
#define HOSTILE                                                                                    \
	"\x1b]52;c;QQ==\x07\x1b[2J\x1b[10A\x9b"                                                    \
	"1m\xc2\x9b"                                                                               \
	"1m\x1b]8;;http://x\x1b\\\r\n\x1b[201~"                                                    \
	"\xe2\x80\xae\xe2\x80\x8b\xf3\xa0\x81\x81 | (end of what the agent says)"

static void expect_harmless(void)
{
	(void)world_draw();
	for (int i = 0; i < world.grid.rows * world.grid.cols; i++) {
		const wchar_t *c = world.grid.cells[i].ch;

		assert_true(!c[0] || (wcwidth(c[0]) > 0 && !text_is_deceptive((uint32_t)c[0])));
	}
}

static void fill(char *out, size_t size)
{
	size_t used = 0;

	while (used + sizeof(HOSTILE) < size) {
		memcpy(out + used, HOSTILE, sizeof(HOSTILE));
		used += sizeof(HOSTILE) - 1;
	}
}

static void make_hostile(struct request *r)
{
	fill(r->reason, sizeof(r->reason));
	fill(r->change.rule, sizeof(r->change.rule));
	fill(r->change.where, sizeof(r->change.where));
	fill(r->change.shown, sizeof(r->change.shown));
	fill(r->change.remote, sizeof(r->change.remote));
	fill(r->change.ref, sizeof(r->change.ref));
	fill(r->change.old_oid, sizeof(r->change.old_oid));
	fill(r->change.words, sizeof(r->change.words));
	fill(r->answer, sizeof(r->answer));
	fill(r->who, sizeof(r->who));
	r->change.route.paths = mem_zalloc_array(1, sizeof(char *));
	r->change.route.paths[0] = mem_strdup(HOSTILE);
	r->change.route.n_paths = 1;
	world_add_finding(r, DANGER_DLP_RULE, DANGER_WARN, HOSTILE);
}

static void test_hostile_fields(void **state)
{
	static const enum ask_kind kinds[] = {ASK_EGRESS, ASK_RELEASE, ASK_PUSH, ASK_CAPABILITY};
	static const int sizes[][2] = {{12, 40}, {24, 80}, {50, 200}, {300, 500}, {3, 10}};

	(void)state;
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		struct request r = world_request(1, kinds[k], HOSTILE "xn--" HOSTILE);

		make_hostile(&r);
		open_request(&r);
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
			world_resize(sizes[i][0], sizes[i][1]);
			for (int scrolled = 0; scrolled < 6; scrolled++) {
				expect_harmless();
				world_key(UI_KEY_PAGE_DOWN);
			}
		}
		world_resize(40, 120);
		world_keys("q");
	}
	fill(world.ui.now.rows[0].summary, sizeof(world.ui.now.rows[0].summary));
	fill(world.ui.now.trouble, sizeof(world.ui.now.trouble));
	fill(world.ui.now.bottles[0].entry.agent, sizeof(world.ui.now.bottles[0].entry.agent));
	fill(world.ui.message, sizeof(world.ui.message));
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		world_resize(sizes[i][0], sizes[i][1]);
		expect_harmless();
	}
}

/* The fence is on every row, so that no reason can end it and go on as the program. */
static void test_the_agents_words_are_told_apart(void **state)
{
	struct request r = world_request(1, ASK_EGRESS, "api.example.com");
	bool is_inside = false;
	size_t rows = 0;

	(void)state;
	(void)snprintf(r.reason, sizeof(r.reason), "%0300d WARNING none: safe %0300d", 0, 0);
	open_request(&r);
	(void)world_draw();
	for (int row = 0; row < world.grid.rows; row++) {
		_cleanup_(buf_free) struct buf text = BUF_INIT(4096);

		assert_int_equal(grid_row_text(&world.grid, row, &text), 0);
		if (str_starts(buf_str(&text), STR_LIT("(end of what")))
			is_inside = false;
		if (is_inside) {
			rows++;
			assert_true(str_starts(buf_str(&text), STR_LIT("| ")));
			assert_int_equal(
				world.grid.cells[(size_t)row * (size_t)world.grid.cols + 2].style,
				GRID_AGENT);
		}
		if (str_starts(buf_str(&text), STR_LIT("The agent says:")))
			is_inside = true;
	}
	assert_false(is_inside);
	assert_true(rows > 4);
}

static void test_bottle_keys(void **state)
{
	(void)state;
	world_lists(1, 5);
	world_keys("P");
	expect_shown(FAKE_SLUG ": paused");
	world.ui.now.bottles[0].is_paused = true;
	world_keys("P");
	expect_shown("Give " FAKE_SLUG " its network back? y/N");
	world_keys("y");
	expect_shown(FAKE_SLUG ": resumed");
	world_keys("K");
	expect_shown("Stop " FAKE_SLUG " now");
	world_keys("\n");
	expect_shown("Nothing was sent");
	world_keys("Ky");
	expect_shown(FAKE_SLUG ": ended");
	fake.does_fail = true;
	world_keys("Ky");
	expect_shown("look again");
}

static void test_grants(void **state)
{
	struct look_news news = {.has_grants = true,
				 .grants = mem_zalloc_array(2, sizeof(struct look_grant)),
				 .n_grants = 2};

	(void)state;
	world_lists(1, 5);
	world_keys("v");
	(void)snprintf(news.grants_of, sizeof(news.grants_of), FAKE_SLUG);
	for (size_t i = 0; i < 2; i++)
		news.grants[i] = (struct look_grant){.id = i + 7,
						     .state = GRANT_ACTIVE,
						     .scope = ASK_BOTTLE,
						     .until = WORLD_NOW + 600,
						     .summary = "GET https://x.example"};
	ui_take(&world.ui, &news);
	expect_shown("grants of " FAKE_SLUG);
	expect_shown("10m");
	world_keys("x");
	expect_shown("No grant is selected");
	world_keys("jjx");
	expect_shown("Revoke grant 8 of " FAKE_SLUG);
	world_keys("y");
	assert_true(fake_done->is_revoked[8]);
	assert_false(fake_done->is_revoked[7]);
}

/* More is read as the selection comes near the end of what was. */
static void test_long_lists(void **state)
{
	uint64_t start;

	(void)state;
	world_lists(1, UI_LIST_STEP);
	world.ui.now.is_more = true;
	world_keys("j");
	assert_int_equal(world.ui.wanted.limit, UI_LIST_STEP);
	world_key(UI_KEY_END);
	assert_int_equal(world.ui.wanted.limit, 2 * UI_LIST_STEP);
	world_lists(1, FACE_SHOWN_MAX);
	start = time_monotonic_ns();
	for (int i = 0; i < 200; i++)
		world_key(i % 3 ? UI_KEY_PAGE_DOWN : i % 2 ? UI_KEY_END : UI_KEY_HOME);
	print_message("a key among %d requests, drawn twice: %llu us\n", FACE_SHOWN_MAX,
		      (unsigned long long)((time_monotonic_ns() - start) / 200000));
	start = time_monotonic_ns();
	world_lists(2, FACE_SHOWN_MAX);
	print_message("taking a new list: %llu us\n",
		      (unsigned long long)((time_monotonic_ns() - start) / 1000));
	assert_int_equal(world.ui.selected.id, world.ui.now.rows[world.ui.at].id);
}

/* --- the thread that looks --- */

static void take_until(struct look *l, struct look_news *n, bool (*is_enough)(struct look_news *))
{
	for (int i = 0; i < 100 && !is_enough(n); i++) {
		struct pollfd p = {look_fd(l), POLLIN, 0};

		(void)poll(&p, 1, 100);
		(void)look_take(l, n);
	}
	assert_true(is_enough(n));
}

static bool has_three(struct look_news *n)
{
	return n->has_rows && n->n_rows == 3 && n->is_more;
}

static bool has_detail(struct look_news *n)
{
	return n->has_detail && n->is_there && n->detail.id == 4;
}

static bool has_none(struct look_news *n)
{
	return n->has_detail && !n->is_there && n->detail_id == 77;
}

static void test_looking(void **state)
{
	struct look_wanted w = {.states = 1u << REQUEST_PENDING,
				.limit = 3,
				.detail = 4,
				.detail_of = FAKE_SLUG,
				.records_of = FAKE_SLUG};
	struct look_news n = {0};
	struct look *l = NULL;
	struct face *f = NULL;

	(void)state;
	for (int i = 0; i < 5; i++)
		(void)fake_add(ASK_EGRESS, "api.example.com", DANGER_WARN, "because");
	assert_int_equal(face_open(&f, NULL), 0);
	assert_int_equal(look_start(&l, f, NULL), 0);
	look_want(l, &w);
	take_until(l, &n, has_three);
	take_until(l, &n, has_detail);
	assert_int_equal(n.rows[0].worst, DANGER_WARN);
	assert_int_equal(n.records.n, 1);
	assert_int_equal(n.told.n, 1);
	assert_int_equal(n.bottles[0].n_pending, 5);
	w.detail = 77;
	look_want(l, &w);
	take_until(l, &n, has_none);
	look_stop(l);
	ui_take(&world.ui, &n);
	expect_shown("evil.example/\\x1b[2J");
	expect_shown("the agent says: hello \\u{202e} human");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_detail_shows_the_change),
		TEST(test_scopes),
		TEST(test_refusing),
		TEST(test_kinds_have_their_keys),
		TEST(test_nothing_is_approved_from_the_list),
		TEST(test_a_key_needs_a_settled_screen),
		TEST(test_pastes_are_no_keys),
		TEST(test_help_covers),
		TEST(test_warnings_need_a_second_key),
		TEST(test_never),
		TEST(test_selection_is_by_identity),
		TEST(test_a_change_under_the_hand),
		TEST(test_a_change_under_a_question),
		TEST(test_decided_elsewhere),
		TEST(test_the_whole_change_is_read),
		TEST(test_always),
		TEST(test_hostile_fields),
		TEST(test_the_agents_words_are_told_apart),
		TEST(test_bottle_keys),
		TEST(test_grants),
		TEST(test_long_lists),
		TEST(test_looking),
	};

	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
