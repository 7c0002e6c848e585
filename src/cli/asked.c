#include "cli/asked.h"

#include "cli/cli.h"
#include "requests/store.h"

static void store_closep(struct store **s)
{
	if (*s)
		store_close(*s);
}

#define _cleanup_store_ _cleanup_(store_closep)

size_t asked_pending(int dir, const char *slug)
{
	_cleanup_store_ struct store *s = NULL;
	size_t n = 0;

	if (store_open_read(&s, dir, slug, NULL) < 0 ||
	    store_count(s, 1u << REQUEST_PENDING, &n, NULL) < 0)
		return 0;
	return n;
}

void asked_show_pending(int dir, const char *slug)
{
	size_t n = asked_pending(dir, slug);

	if (n)
		cli_note("%s: %zu request%s for you (claude-bottle supervise %s)", slug, n,
			 n == 1 ? " waits" : "s wait", slug);
}

struct since {
	uint64_t time;
	size_t n;
};

static bool count_since(const struct store_key *k, void *ctx)
{
	struct since *s = ctx;

	s->n += k->decided >= s->time;
	return true;
}

void asked_show_undecided(int dir, const char *slug, uint64_t since)
{
	_cleanup_store_ struct store *s = NULL;
	struct since found = {.time = since};

	if (store_open_read(&s, dir, slug, NULL) < 0 ||
	    store_each_key(s, 1u << REQUEST_EXPIRED, 0, count_since, &found, NULL) < 0 ||
	    found.n == 0)
		return;
	cli_note("%zu request%s for you, and nobody decided (claude-bottle requests list --all %s)",
		 found.n, found.n == 1 ? " waited" : "s waited", slug);
}

static bool count_active(const struct grant *g, void *ctx)
{
	size_t *n = ctx;

	*n += g->state == GRANT_ACTIVE;
	return true;
}

void asked_show_grants(int dir, const char *slug)
{
	_cleanup_store_ struct store *s = NULL;
	size_t n = 0;

	if (store_open_read(&s, dir, slug, NULL) < 0 ||
	    store_each_grant(s, count_active, &n, NULL) < 0 || n == 0)
		return;
	cli_note("what you granted it is in force again: %zu (claude-bottle requests grants %s)", n,
		 slug);
}
