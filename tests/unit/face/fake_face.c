/*
 * A face without bottles, for the page's server: face.h over requests that are made here. What
 * would go to a keeper is printed.
 */
#include "fake_face.h"

#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct fake fake;
struct fake_done *fake_done;

void fake_reset(void)
{
	void *p = fake_done;

	for (size_t i = 0; i < fake.n; i++)
		request_free(&fake.requests[i]);
	free(fake.requests);
	fake = (struct fake){0};
	if (!p)
		p = mmap(NULL, sizeof(*fake_done), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		abort();
	fake_done = memset(p, 0, sizeof(*fake_done));
}

static void print_visible(const char *what, const char *slug, uint64_t id, const char *more)
{
	FILE *out = fake.out ? fake.out : stdout;

	(void)fprintf(out, "%s %s %llu %s\n", what, slug, (unsigned long long)id, more);
	(void)fflush(out);
}

static char *copy(const char *s)
{
	return mem_strdup(s);
}

static void add_finding(struct request *r, enum danger_rule rule, enum danger_level level,
			const char *text)
{
	struct danger_finding *f = &r->danger.findings[r->danger.n++];

	f->rule = rule;
	f->level = level;
	(void)snprintf(f->text, sizeof(f->text), "%s", text);
}

uint64_t fake_add(enum ask_kind kind, const char *host, enum danger_level level, const char *reason)
{
	struct request *r;

	fake.requests = mem_grow_array(fake.requests, &fake.cap, fake.n + 1, sizeof(*r));
	r = &fake.requests[fake.n];
	*r = (struct request){.id = fake.n + 1,
			      .state = level == DANGER_NEVER ? REQUEST_NEVER : REQUEST_PENDING,
			      .created = 1700000000 + fake.n,
			      .expires = 4000000000,
			      .asked = 1 + fake.n % 3,
			      .change.kind = kind};
	r->change.route.host = copy(host);
	r->change.route.ports[0] = 443;
	r->change.route.n_ports = 1;
	r->change.route.methods = 1u << POLICY_METHOD_GET | 1u << POLICY_METHOD_POST;
	r->change.route.paths = mem_zalloc_array(1, sizeof(char *));
	r->change.route.paths[0] = copy("/**");
	r->change.route.n_paths = 1;
	text_visible_cstr(r->reason, sizeof(r->reason), str_of(reason));
	text_visible_cstr(r->change.words, sizeof(r->change.words), str_of(reason));
	text_visible_cstr(r->change.shown, sizeof(r->change.shown), str_of(reason));
	(void)snprintf(r->change.rule, sizeof(r->change.rule), "aws-access-key");
	(void)snprintf(r->change.where, sizeof(r->change.where), "body");
	if (level == DANGER_NEVER)
		add_finding(r, DANGER_INSIDE_RULE, level, "the name lies inside");
	else if (level == DANGER_WARN)
		add_finding(r, DANGER_UPLOAD_RULE, level, "anybody can fetch what is put there");
	memset(r->hash, (int)(r->id & 0xff), sizeof(r->hash));
	fake.n++;
	fake_done->is_changed = true;
	return r->id;
}

/* With what became of it. */
static struct request *find(uint64_t id)
{
	struct request *r = id >= 1 && id <= fake.n ? &fake.requests[id - 1] : NULL;

	if (r && fake_done->states[id]) {
		r->state = fake_done->states[id];
		r->scope = fake_done->scopes[id];
		r->decided = 1700009999;
	}
	return r;
}

/* --- face.h --- */

struct face {
	struct face_bottle bottle;
};

int face_open(struct face **out, struct err *e)
{
	(void)e;
	*out = mem_zalloc(sizeof(**out));
	(void)snprintf((*out)->bottle.entry.slug, sizeof((*out)->bottle.entry.slug), FAKE_SLUG);
	(*out)->bottle.entry.is_alive = (*out)->bottle.entry.is_supervised = true;
	(void)snprintf((*out)->bottle.manifest, sizeof((*out)->bottle.manifest), "%s",
		       fake.manifest ? fake.manifest : "");
	return 0;
}

void face_close(struct face *f)
{
	free(f);
}

int face_refresh(struct face *f, bool *changed, struct err *e)
{
	size_t n = 0;

	(void)e;
	if (fake.on_refresh)
		fake.on_refresh();
	*changed = fake_done->is_changed;
	fake_done->is_changed = false;
	for (uint64_t id = 1; id <= fake.n; id++)
		n += find(id)->state == REQUEST_PENDING;
	f->bottle.n_pending = n;
	f->bottle.entry.is_paused = f->bottle.is_paused = fake_done->is_paused;
	return 0;
}

const struct face_bottle *face_bottles(const struct face *f, size_t *n)
{
	*n = 1;
	return &f->bottle;
}

const char *face_trouble(const struct face *f)
{
	(void)f;
	return "";
}

int face_each(struct face *f, const char *slug, unsigned states, size_t limit, face_request_fn *fn,
	      void *ctx, struct err *e)
{
	(void)f;
	(void)slug;
	(void)e;
	for (size_t i = 0, n = 0; i < fake.n && n < limit; i++) {
		const struct request *r = find(i + 1);

		if (!(states & 1u << r->state))
			continue;
		n++;
		if (!fn(FAKE_SLUG, r, ctx))
			break;
	}
	return 0;
}

int face_get(struct face *f, const char *slug, uint64_t id, struct request *out, struct err *e)
{
	const struct request *r = strcmp(slug, FAKE_SLUG) == 0 ? find(id) : NULL;

	(void)f;
	if (!r)
		return err_set(e, -ENOENT, "no such request");
	*out = *r;
	out->change.route.host = copy(r->change.route.host);
	out->change.route.paths = mem_zalloc_array(1, sizeof(char *));
	out->change.route.paths[0] = copy(r->change.route.paths[0]);
	return 0;
}

int face_each_grant(struct face *f, const char *slug, face_grant_fn *fn, void *ctx, struct err *e)
{
	(void)f;
	(void)e;
	for (size_t i = 0; i < fake.n; i++) {
		const struct request *r = find(i + 1);
		struct grant g = {.id = r->id,
				  .state = GRANT_ACTIVE,
				  .scope = r->scope,
				  .until = r->until,
				  .change = r->change};

		if (r->state == REQUEST_GRANTED && !fake_done->is_revoked[r->id] &&
		    !fn(slug, &g, ctx))
			break;
	}
	return 0;
}

int face_decide(const struct face_decision *d, enum store_verdict *out, struct buf *said,
		struct err *e)
{
	struct request *r = find(d->id);
	char more[1024], answer[600];

	(void)e;
	if (fake.on_decide)
		fake.on_decide(d);
	text_visible_cstr(answer, sizeof(answer), str_of(d->answer ? d->answer : ""));
	(void)snprintf(more, sizeof(more), "granted=%d scope=%d release=%d seconds=%llu answer=%s",
		       d->is_granted, (int)d->scope, (int)d->release,
		       (unsigned long long)d->seconds, answer);
	print_visible("decide", d->slug, d->id, more);
	*out = !r				   ? STORE_NO_SUCH
	       : r->state == REQUEST_NEVER	   ? STORE_FORBIDDEN
	       : r->state != REQUEST_PENDING	   ? STORE_ALREADY
	       : memcmp(r->hash, d->hash, 32) != 0 ? STORE_STALE
						   : STORE_DECIDED;
	if (*out == STORE_DECIDED) {
		fake_done->states[d->id] = d->is_granted ? REQUEST_GRANTED : REQUEST_REFUSED;
		fake_done->scopes[d->id] = d->scope;
		fake_done->is_changed = true;
	}
	return buf_printf(said, "%s", *out == STORE_DECIDED ? "done" : "not done");
}

int face_revoke(const char *slug, uint64_t id, const char *face, struct buf *said, struct err *e)
{
	(void)e;
	print_visible("revoke", slug, id, face);
	if (id < FAKE_REQUESTS_MAX)
		fake_done->is_revoked[id] = true;
	fake_done->is_changed = true;
	return buf_printf(said, "revoked");
}

int face_pause(const char *slug, bool is_paused, const char *face, struct buf *said, struct err *e)
{
	print_visible(is_paused ? "pause" : "resume", slug, 0, face);
	if (strcmp(slug, FAKE_HUNG) == 0 && !is_paused)
		return err_set(e, -EIO, "the keeper went away; look again");
	if (strcmp(slug, FAKE_HUNG) == 0)
		(void)sleep(1);
	fake_done->is_paused = is_paused;
	fake_done->is_changed = true;
	return buf_printf(said, "%s", is_paused ? "paused" : "resumed");
}

int face_stop_now(const char *slug, struct buf *said, struct err *e)
{
	print_visible("stop", slug, 0, "");
	if (fake.does_fail)
		return err_set(e, -EIO, "the keeper went away; look again");
	return buf_printf(said, "ended");
}
