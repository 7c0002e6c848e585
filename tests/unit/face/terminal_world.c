#include "terminal_world.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

struct terminal_world world;

/* --- requests/manifest_edit.h --- */

int manifest_edit_make(struct manifest_edit *out, const char *path, const struct change *c,
		       struct err *e)
{
	(void)path;
	(void)e;
	*out = (struct manifest_edit){0};
	buf_init(&out->after, MANIFEST_EDIT_MAX_BYTES);
	memset(out->hash, WORLD_EDIT_HASH, sizeof(out->hash));
	return buf_printf(&out->after, "    - host: %s\n", c->route.host);
}

void manifest_edit_free(struct manifest_edit *m)
{
	buf_free(&m->after);
}

int manifest_edit_diff(const struct manifest_edit *m, const char *path, struct buf *out)
{
	return buf_printf(out, "+++ %s\n+" STR_FMT, path, STR_ARG(buf_str(&m->after)));
}

/* --- the rest --- */

static void note_decision(const struct face_decision *d)
{
	world.sent = *d;
	(void)snprintf(world.sent_answer, sizeof(world.sent_answer), "%s",
		       d->answer ? d->answer : "");
	(void)snprintf(world.sent_slug, sizeof(world.sent_slug), "%s", d->slug);
	world.sent.slug = world.sent_slug;
	world.sent.answer = world.sent_answer;
	world.n_sent++;
}

int world_setup(void **state)
{
	(void)state;
	world = (struct terminal_world){.now_ms = 1000000};
	fake_reset();
	fake.on_decide = note_decision;
	ui_init(&world.ui, "");
	buf_init(&world.screen, 8u << 20);
	world_resize(40, 120);
	return 0;
}

int world_teardown(void **state)
{
	(void)state;
	ui_free(&world.ui);
	grid_free(&world.grid);
	buf_free(&world.screen);
	fake_reset();
	return 0;
}

void world_resize(int rows, int cols)
{
	grid_resize(&world.grid, rows, cols);
}

const char *world_draw(void)
{
	ui_draw(&world.ui, &world.grid, WORLD_NOW, world.now_ms);
	buf_reset(&world.screen);
	for (int i = 0; i < world.grid.rows; i++) {
		assert_int_equal(grid_row_text(&world.grid, i, &world.screen), 0);
		assert_int_equal(buf_append(&world.screen, "\n", 1), 0);
	}
	assert_int_equal(buf_append(&world.screen, "", 1), 0);
	return buf_str(&world.screen).p;
}

void world_key(int key)
{
	(void)world_draw();
	ui_key(&world.ui, key, world.now_ms);
	(void)world_draw();
	if (world.ui.order.kind != UI_NO_ORDER)
		ui_carry_out(&world.ui);
}

void world_keys(const char *keys)
{
	for (; *keys; keys++)
		world_key(*keys == '\n' ? UI_KEY_ENTER : *keys);
}

void world_wait(uint64_t ms)
{
	(void)world_draw();
	world.now_ms += ms;
}

void world_lists(uint64_t from, size_t n)
{
	struct look_news news = {.has_bottles = true,
				 .bottles = mem_zalloc(sizeof(struct face_bottle)),
				 .n_bottles = 1,
				 .has_rows = true,
				 .rows = mem_zalloc_array(n + 1, sizeof(struct look_row)),
				 .n_rows = n,
				 .cap_rows = n + 1};
	struct face_bottle *b = news.bottles;

	(void)snprintf(b->entry.slug, sizeof(b->entry.slug), FAKE_SLUG);
	(void)snprintf(b->entry.agent, sizeof(b->entry.agent), "claude");
	(void)snprintf(b->entry.backend, sizeof(b->entry.backend), "native");
	(void)snprintf(b->manifest, sizeof(b->manifest), "%s", fake.manifest ? fake.manifest : "");
	b->entry.is_alive = true;
	b->n_pending = n;
	memcpy(news.rows_of, world.ui.wanted.slug, sizeof(news.rows_of));
	for (size_t i = 0; i < n; i++) {
		struct look_row *r = &news.rows[i];

		*r = (struct look_row){.id = from + i,
				       .created = 1700000000 + from + i,
				       .state = REQUEST_PENDING,
				       .kind = ASK_EGRESS,
				       .asked = 1};
		(void)snprintf(r->slug, sizeof(r->slug), FAKE_SLUG);
		(void)snprintf(r->summary, sizeof(r->summary), "GET https://host%llu.example",
			       (unsigned long long)r->id);
	}
	ui_take(&world.ui, &news);
}

struct request world_request(uint64_t id, enum ask_kind kind, const char *host)
{
	struct request r = {.id = id,
			    .state = REQUEST_PENDING,
			    .created = WORLD_NOW - 100,
			    .expires = WORLD_NOW + 1700,
			    .asked = 3,
			    .change.kind = kind};

	r.change.route.host = mem_strdup(host);
	r.change.route.ports[0] = 443;
	r.change.route.n_ports = 1;
	r.change.route.methods = 1u << POLICY_METHOD_GET;
	(void)snprintf(r.reason, sizeof(r.reason), "because");
	memset(r.hash, (int)id, sizeof(r.hash));
	return r;
}

void world_add_finding(struct request *r, enum danger_rule rule, enum danger_level level,
		       const char *text)
{
	struct danger_finding *f = &r->danger.findings[r->danger.n++];

	f->rule = rule;
	f->level = level;
	(void)snprintf(f->text, sizeof(f->text), "%s", text);
}

void world_detail(struct request *r)
{
	struct look_news news = {.has_detail = true, .is_there = true, .detail_id = r->id};

	memcpy(news.detail_of, world.ui.wanted.detail_of, sizeof(news.detail_of));
	news.detail = *r;
	*r = (struct request){0};
	ui_take(&world.ui, &news);
}
