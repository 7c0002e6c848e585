/*
 * The mirror before a client looks at it. Clients come in crowds (a fetch per submodule, per agent
 * tool), so an attempt that another worker has begun after this request came, or has ended a moment
 * ago, counts for this one as well: its failure, too, or a crowd would wait for one time-out after
 * the other.
 */
#include "gitgate/gitgate_int.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <stdio.h>

#define REFRESH_REPACK_MS 600000
/* Who tries again wants another attempt; who does so without a pause spares the upstream one. */
#define REFRESH_FAILED_MS 500

static void refresh_text(char text[STORE_TEXT_MAX], const struct git_remote *r, const char *why)
{
	(void)snprintf(text, STORE_TEXT_MAX,
		       "the upstream of \"%s\" cannot be fetched from: %.400s", r->name, why);
}

static enum refresh_result refresh_result(const struct git_remote *r, const struct store_stamp *s,
					  char text[STORE_TEXT_MAX])
{
	if (!s->has_failed)
		return REFRESH_OK;
	(void)snprintf(text, STORE_TEXT_MAX, "%s", s->text);
	return s->has_fetched && r->may_serve_stale ? REFRESH_STALE : REFRESH_FAILED;
}

static bool stamp_counts(const struct store_stamp *s, uint64_t arrived_ns, unsigned young_ms)
{
	uint64_t now = time_monotonic_ns();
	uint64_t fresh_ms = s->has_failed ? REFRESH_FAILED_MS : young_ms;

	if (s->started_ns == 0 || s->ended_ns == 0 || s->ended_ns > now)
		return false;
	return s->started_ns >= arrived_ns || now - s->ended_ns < fresh_ms * TIME_NS_PER_MS;
}

static void refresh_git(const struct git_remote *r, const struct git_run_env *env,
			const char *const *argv)
{
	struct err e = ERR_INIT;
	struct buf out;

	buf_init(&out, 65536);
	if (git_run(env, argv, STR_NULL, &out, NULL,
		    time_monotonic_ns() + REFRESH_REPACK_MS * TIME_NS_PER_MS, &e) != 0)
		log_warn("git %s of the mirror of %s has failed", argv[0], r->name);
	buf_free(&out);
}

/* Many small packs, and a file for each ref, make every later look-up slow. Under the lock, so that
 * no push comes between. */
static void refresh_tidy(const struct gitgate *g, const struct git_remote *r,
			 const struct git_run_env *env, bool is_first)
{
	bool is_due = store_packs(g->store, r) > GITGATE_REPACK_PACKS;

	if (is_first || is_due)
		refresh_git(r, env, (const char *const[]){"pack-refs", "--all", NULL});
	if (is_due)
		refresh_git(r, env, (const char *const[]){"repack", "-a", "-d", "-q", NULL});
}

static void refresh_fetch(const struct gitgate_job *job, struct store_stamp *stamp)
{
	const struct gitgate *g = job->g;
	char mirror[STORE_PATH_MAX];
	struct git_run_env env = {.repo = mirror};
	struct err e = ERR_INIT;
	int ret;

	store_mirror(g->store, job->remote, mirror);
	store_sweep(g->store, job->remote);
	stamp->started_ns = time_monotonic_ns();
	if (store_bytes(g->store) > GITGATE_STORE_MAX_BYTES)
		ret = err_set(&e, -ENOSPC, "git-gate's mirrors have grown too large");
	else
		ret = upstream_fetch(&g->upstream, job->remote, &env, &e);
	stamp->has_failed = ret < 0;
	if (ret < 0) {
		char shown[STORE_TEXT_MAX];

		text_visible_once_cstr(shown, sizeof(shown), str_of(e.text));
		refresh_text(stamp->text, job->remote, shown);
	} else {
		stamp->text[0] = '\0';
		stamp->fresh_at_ns = time_realtime_ns();
		refresh_tidy(g, job->remote, &env, !stamp->has_fetched);
		stamp->has_fetched = true;
	}
	stamp->ended_ns = time_monotonic_ns();
}

enum refresh_result refresh_run(const struct gitgate_job *job, unsigned young_ms,
				char text[STORE_TEXT_MAX])
{
	const struct gitgate *g = job->g;
	uint64_t arrived = time_monotonic_ns();
	_cleanup_close_ int lock = -1;
	struct store_stamp stamp;
	struct err e = ERR_INIT;

	store_stamp_read(g->store, job->remote, &stamp);
	if (stamp_counts(&stamp, arrived, young_ms))
		return refresh_result(job->remote, &stamp, text);
	lock = store_lock_open(g->store, job->remote, &e);
	if (lock < 0 || store_lock_take(lock, arrived + GITGATE_LOCK_MS * TIME_NS_PER_MS, &e) < 0) {
		refresh_text(text, job->remote, e.text);
		return REFRESH_FAILED;
	}
	store_stamp_read(g->store, job->remote, &stamp);
	if (!stamp_counts(&stamp, arrived, young_ms)) {
		refresh_fetch(job, &stamp);
		if (store_stamp_write(g->store, job->remote, &stamp, &e) < 0) {
			refresh_text(text, job->remote, e.text);
			return REFRESH_FAILED;
		}
	}
	return refresh_result(job->remote, &stamp, text);
}

bool refresh_is_stale(const struct gitgate_job *job, char text[STORE_TEXT_MAX])
{
	char when[TIME_RFC3339_SIZE] = "an earlier run";
	struct store_stamp stamp;

	store_stamp_read(job->g->store, job->remote, &stamp);
	if (!stamp.has_failed)
		return false;
	if (stamp.fresh_at_ns)
		time_format_rfc3339(stamp.fresh_at_ns, when);
	(void)snprintf(text, STORE_TEXT_MAX, "what you get is as of %s; %.380s", when, stamp.text);
	return true;
}
