/*
 * Theory of operation: what `git send-pack` does, in the few lines that are left of it when there
 * are no options: the upstream's refs are read, the commands (old, new, name) are written with the
 * old values that the agent's push was judged by, then the pack that `git pack-objects` makes, then
 * the report is read. So the upstream compares the old values itself, under its own lock; no hook,
 * helper, signature, push option or submodule of git's push machinery exists that could be talked
 * into anything; and after a failure it is known whether the upstream may have acted.
 */
#include "gitgate/upstream.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "gitgate/connect.h"
#include "gitgate/push_report.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define OID_NONE     "0000000000000000000000000000000000000000"
#define OID_LINE     41 /* hex and line feed */
#define SHORT_RUN_MS 120000
#define SAID_MAX     4096
#define AFTER_MS     15000 /* hooks that speak after the report */
#define LOST	     "its answer was lost (%s); whether it has taken the push is not known: fetch to see"

struct push {
	const struct upstream_place *place;
	const struct git_remote *remote;
	const struct git_run_env *git;
	const struct check_update *updates;
	size_t n;
	struct upstream_ref_result *results;
	char **names;  /* at the upstream */
	bool *is_sent; /* has a command */
	const char **sent_names;
	struct upstream_ref_result *sent_results;
	size_t n_sent;
	bool needs_pack;
	bool is_pack_whole; /* all that the upstream needs to act has been given to it */
	struct wire_clock clock;
	struct connection c;
	struct wire_reader reader;
	struct advert advert;
	struct push_report report;
	struct buf *said;
};

static bool is_none(const char *oid)
{
	return strcmp(oid, OID_NONE) == 0;
}

/* --- what is there --- */

static int push_read_advert(struct push *p, struct err *e)
{
	enum wire_kind kind;
	struct str line;

	for (;;) {
		int ret = wire_read(&p->reader, &kind, &line, e);

		if (ret < 0)
			return ret;
		if (kind == WIRE_FLUSH)
			return advert_settle(&p->advert, e);
		ret = kind == WIRE_DATA ? advert_take_v0(&p->advert, wire_chomp(line), e)
					: err_set(e, -EPROTO, "what it says is not git's protocol");
		if (ret < 0)
			return ret;
	}
}

static int push_check_caps(const struct push *p, struct err *e)
{
	const struct advert *a = &p->advert;

	if (!advert_has_cap(a, "report-status"))
		return err_set(e, -ENOTSUP, "its git is too old: it does not report what it does");
	if (p->n_sent > 1 && !advert_has_cap(a, "atomic"))
		return err_set(e, -ENOTSUP,
			       "it cannot take several refs or none: push one ref at a "
			       "time");
	for (size_t i = 0; i < p->n; i++) {
		if (p->is_sent[i] && is_none(p->updates[i].new_oid) &&
		    !advert_has_cap(a, "delete-refs"))
			return err_set(e, -ENOTSUP, "it does not let refs be deleted");
	}
	return 0;
}

/* "" when new may follow old there. */
static int push_check_forward(const struct push *p, const char *old_oid, const char *new_oid,
			      const char **why, struct err *e)
{
	const char *const argv[] = {"merge-base", "--is-ancestor", old_oid, new_oid, NULL};
	struct buf out;
	int ret;

	buf_init(&out, 4096);
	ret = git_run(p->git, argv, STR_NULL, &out, NULL,
		      time_monotonic_ns() + SHORT_RUN_MS * TIME_NS_PER_MS, e);
	buf_free(&out);
	if (ret < 0)
		return ret;
	if (ret != 0)
		*why = "not a fast-forward, and force is not allowed";
	return 0;
}

/* The bottle has no branch of that name, and saw one: that is the host's own. Whoever serves the
 * workspace need not tell of those where it takes a push. */
static bool push_is_seen_below(const struct push *p, size_t i)
{
	return p->remote->transport == GIT_TRANSPORT_WORKSPACE && !is_none(p->updates[i].old_oid);
}

/* The old value that the upstream must have; NULL, with *why, when it has another one. A branch of
 * the bottle's that the host does not have yet began at the host's own, which is left alone. */
static const char *push_expected(const struct push *p, size_t i, const char **why)
{
	const struct check_update *u = &p->updates[i];
	const struct advert_ref *there = advert_find(&p->advert, str_of(p->names[i])), *under;

	if (there || p->remote->transport != GIT_TRANSPORT_WORKSPACE || is_none(u->old_oid)) {
		if (strcmp(there ? there->oid : OID_NONE, u->old_oid) == 0)
			return u->old_oid;
		*why = "fetch first: the upstream's has moved";
		return NULL;
	}
	under = advert_find(&p->advert, str_of(u->ref));
	if (is_none(u->new_oid))
		*why = "it is the host's own, not the bottle's";
	else if (under && strcmp(under->oid, u->old_oid) != 0)
		*why = "fetch first: the host's has moved";
	else
		return OID_NONE;
	return NULL;
}

static int push_judge(struct push *p, size_t i, const char **old_oid, struct err *e)
{
	const struct check_update *u = &p->updates[i];
	const struct advert_ref *there = advert_find(&p->advert, str_of(p->names[i]));
	const char *why = NULL;
	int ret = 0;

	*old_oid = NULL;
	if (strcmp(there ? there->oid : OID_NONE, u->new_oid) == 0 &&
	    !(is_none(u->new_oid) && push_is_seen_below(p, i))) {
		/* As after a push whose answer was lost. */
		p->results[i].is_ok = true;
		return 0;
	}
	*old_oid = push_expected(p, i, &why);
	if (*old_oid && !is_none(*old_oid) && !is_none(u->new_oid) && !p->remote->may_force &&
	    str_starts(str_of(u->ref), STR_LIT("refs/heads/")))
		ret = push_check_forward(p, *old_oid, u->new_oid, &why, e);
	if (why) {
		*old_oid = NULL;
		(void)snprintf(p->results[i].reason, sizeof(p->results[i].reason), "%s", why);
	}
	return ret;
}

/* 0; -EPERM when one of them cannot be, and so none is tried. */
static int push_plan(struct push *p, const char **old_oids, struct err *e)
{
	bool is_refused = false;

	for (size_t i = 0; i < p->n; i++) {
		int ret = push_judge(p, i, &old_oids[i], e);

		if (ret < 0)
			return ret;
		is_refused |= !old_oids[i] && !p->results[i].is_ok;
		p->is_sent[i] = old_oids[i] != NULL;
		if (!p->is_sent[i])
			continue;
		p->sent_names[p->n_sent++] = p->names[i];
		p->needs_pack |= !is_none(p->updates[i].new_oid);
	}
	if (!is_refused)
		return 0;
	for (size_t i = 0; i < p->n; i++) {
		if (!p->is_sent[i] && !p->results[i].is_ok)
			continue;
		p->results[i] = (struct upstream_ref_result){.is_ok = false};
		(void)snprintf(p->results[i].reason, sizeof(p->results[i].reason),
			       "not tried, since another ref of this push cannot be taken");
	}
	return err_set(e, -EPERM, "the upstream would not take it");
}

/* --- what is sent --- */

static int push_commands(struct push *p, const char *const *old_oids, struct err *e)
{
	const struct advert *a = &p->advert;
	bool is_first = true;
	struct buf out;
	int ret = 0;

	buf_init(&out, 1u << 20);
	for (size_t i = 0; ret == 0 && i < p->n; i++) {
		char line[2 * OID_LINE + GIT_REF_MAX + 160];
		int n;

		if (!p->is_sent[i])
			continue;
		n = snprintf(line, sizeof(line) - 128, "%s %s %s", old_oids[i],
			     p->updates[i].new_oid, p->names[i]);
		if (is_first)
			n += 1 + snprintf(line + n + 1, 128,
					  " report-status%s%s%s%s agent=git/git-gate",
					  p->report.is_sideband ? " side-band-64k" : "",
					  advert_has_cap(a, "quiet") ? " quiet" : "",
					  p->n_sent > 1 ? " atomic" : "",
					  advert_has_cap(a, "object-format") ? " object-format=sha1"
									     : "");
		is_first = false;
		ret = wire_put(&out, str_slice(line, (size_t)n));
	}
	if (ret == 0)
		ret = wire_flush(&out);
	ret = ret < 0 ? err_set(e, ret, "too many refs at once")
		      : wire_write(&p->clock, p->c.fd, buf_str(&out), e);
	buf_free(&out);
	return ret == -EPIPE ? err_set(e, -EPIPE, "it closed the connection") : ret;
}

static int compare_oids(const void *a, const void *b)
{
	return memcmp(a, b, OID_LINE - 1);
}

/* What both sides have: tips of the mirror that the upstream has just named. */
static int push_revs(struct push *p, struct buf *out, struct err *e)
{
	const char *const argv[] = {"for-each-ref", "--format=%(objectname)", NULL};
	_cleanup_free_ char *there = mem_zalloc_array(p->advert.n_refs + 1, OID_LINE);
	struct git_run_env env = *p->git;
	struct str rest, line;
	struct buf tips;
	int ret = 0;

	env.quarantine = NULL;
	for (size_t i = 0; i < p->n && ret == 0; i++) {
		if (p->is_sent[i] && !is_none(p->updates[i].new_oid))
			ret = buf_printf(out, "%s\n", p->updates[i].new_oid);
	}
	for (size_t i = 0; i < p->advert.n_refs; i++)
		memcpy(there + i * OID_LINE, p->advert.refs[i].oid, OID_LINE);
	qsort(there, p->advert.n_refs, OID_LINE, compare_oids);
	buf_init(&tips, ADVERT_REFS_MAX * 2ull * OID_LINE);
	if (ret == 0)
		ret = git_run(&env, argv, STR_NULL, &tips, NULL,
			      time_monotonic_ns() + SHORT_RUN_MS * TIME_NS_PER_MS, e);
	if (ret > 0)
		ret = err_set(e, -EIO, "the mirror's refs cannot be read");
	for (rest = buf_str(&tips); ret == 0 && rest.n >= OID_LINE;
	     rest = str_sub(rest, OID_LINE, rest.n)) {
		line = str_sub(rest, 0, OID_LINE - 1);
		if (rest.p[OID_LINE - 1] != '\n')
			ret = err_set(e, -EPROTO, "the mirror's refs cannot be read");
		else if (bsearch(line.p, there, p->advert.n_refs, OID_LINE, compare_oids))
			ret = buf_printf(out, "^" STR_FMT "\n", STR_ARG(line));
	}
	buf_free(&tips);
	return ret == -ENOBUFS ? err_set(e, ret, "too many refs") : ret;
}

/* Takes one line of the answer; false when there will be none any more. */
static bool push_take_line(struct push *p, struct err *e)
{
	enum wire_kind kind;
	struct str payload;

	return wire_read(&p->reader, &kind, &payload, e) == 0 &&
	       push_report_take(&p->report, kind, payload, e) == 0 && !p->report.is_ended;
}

static void push_feed(struct git_child *child, struct buf *revs)
{
	struct str left = buf_str(revs);
	ssize_t n = left.n > 0 ? write(child->in_fd, left.p, left.n) : 0;

	if (n > 0)
		buf_consume(revs, (size_t)n);
	if (buf_len(revs) == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		close_fd(&child->in_fd);
}

/* pack-objects writes to the stream itself. Meanwhile what the upstream says is read, lest both
 * wait. */
static void push_watch(struct push *p, struct git_child *child, struct buf *revs, struct err *e)
{
	bool is_open = true;
	char text[1024];

	while (child->err_fd >= 0) {
		struct pollfd f[] = {{child->err_fd, POLLIN, 0},
				     {is_open ? p->c.fd : -1, POLLIN, 0},
				     {child->in_fd, POLLOUT, 0}};
		uint64_t now = time_monotonic_ns();

		if (now >= p->clock.deadline_ns)
			return;
		if (poll(f, 3, (int)((p->clock.deadline_ns - now) / TIME_NS_PER_MS + 1)) < 0 &&
		    errno != EINTR)
			return;
		if (f[0].revents && read(child->err_fd, text, sizeof(text)) <= 0)
			close_fd(&child->err_fd);
		if (f[1].revents)
			is_open = push_take_line(p, e);
		if (f[2].revents)
			push_feed(child, revs);
	}
}

static int push_pack(struct push *p, struct err *answer, struct err *e)
{
	const char *argv[] = {"pack-objects",	     "-q", "--revs", "--stdout", "--thin",
			      "--delta-base-offset", NULL};
	struct git_child child;
	struct buf revs;
	int ret;

	if (!advert_has_cap(&p->advert, "ofs-delta"))
		argv[5] = NULL;
	if (advert_has_cap(&p->advert, "no-thin"))
		argv[4] = "-q";
	buf_init(&revs, (ADVERT_REFS_MAX * 2ull + CHECK_UPDATES_MAX) * (OID_LINE + 1));
	ret = push_revs(p, &revs, e);
	if (ret == 0)
		ret = git_run_start(p->git, argv, (int[]){-1, p->c.fd, -1}, -1, &child, e);
	if (ret == 0) {
		(void)io_set_nonblock(child.in_fd, true);
		push_watch(p, &child, &revs, answer);
		ret = git_run_wait(&child, p->clock.deadline_ns, e);
	}
	buf_free(&revs);
	return ret;
}

/* --- the answer --- */

static void push_read_report(struct push *p, struct err *answer)
{
	struct wire_clock after = p->clock;

	after.silence_ms = AFTER_MS;
	while (!p->report.is_ended && answer->code == 0) {
		if (p->report.is_done)
			p->reader.clock = &after;
		if (!push_take_line(p, answer))
			return;
	}
}

static void push_spread(struct push *p)
{
	for (size_t i = 0, at = 0; i < p->n; i++) {
		if (p->is_sent[i])
			p->results[i] = p->sent_results[at++];
	}
}

/* No report: what is known of it. */
static int push_lost(struct push *p, const struct connect_report *c, int pack, struct err *answer,
		     struct err *e)
{
	const char *why = c->text[0] ? c->text : answer->code ? answer->text : "no word came";
	int code = c->code ? c->code : answer->code ? answer->code : -EIO;

	if (pack < 0)
		return e->code;
	if (c->is_certain && c->code)
		return err_set(e, code, "%s", why);
	if (p->is_pack_whole && !p->report.fatal[0])
		return err_set(e, code, LOST, why);
	if (pack != 0 && !c->code && !answer->code)
		return err_set(e, -EIO, "git could not make the pack");
	return err_set(e, code, "%s", why);
}

static int push_talk(struct push *p, const char *const *old_oids, struct err *e)
{
	struct err answer = ERR_INIT;
	struct connect_report report;
	int ret, pack = 0;

	ret = push_commands(p, old_oids, e);
	if (ret < 0)
		return ret;
	if (p->needs_pack)
		pack = push_pack(p, &answer, e);
	p->is_pack_whole = pack == 0;
	if (pack < 0) {
		connect_close(&p->c, &report);
		return pack;
	}
	(void)shutdown(p->c.fd, SHUT_WR);
	push_read_report(p, &answer);
	ret = push_report_finish(&p->report);
	connect_close(&p->c, &report);
	if (ret == -ENODATA)
		return push_lost(p, &report, pack, &answer, e);
	push_spread(p);
	return ret < 0 ? err_set(e, ret, "the upstream did not take it") : 0;
}

/* --- all of it --- */

static int push_no_name(struct push *p, size_t i, const char *why, struct err *e)
{
	(void)snprintf(p->results[i].reason, sizeof(p->results[i].reason), "%s", why);
	return err_set(e, -EPERM, "%s", why);
}

static int push_names(struct push *p, struct err *e)
{
	for (size_t i = 0; i < p->n; i++) {
		struct str ref = str_of(p->updates[i].ref);

		if (p->remote->transport != GIT_TRANSPORT_WORKSPACE) {
			p->names[i] = mem_strdup(p->updates[i].ref);
			continue;
		}
		if (!str_starts(ref, STR_LIT("refs/heads/")))
			return push_no_name(p, i, "only branches go to the host's repository", e);
		p->names[i] = mem_printf(ADVERT_SLUG_PREFIX "%s/%s", p->place->slug,
					 p->updates[i].ref + strlen("refs/heads/"));
		if (strlen(p->names[i]) > GIT_REF_MAX)
			return push_no_name(p, i, "the branch's name is too long", e);
	}
	return 0;
}

static int push_run(struct push *p, struct err *e)
{
	_cleanup_free_ const char **old_oids = mem_zalloc_array(p->n + 1, sizeof(*old_oids));
	struct wire_clock first = p->clock;
	struct connect_report report;
	int ret = push_names(p, e);

	if (ret == 0)
		ret = connect_open(&p->c, p->place, p->remote, GIT_RECEIVE_PACK,
				   p->clock.deadline_ns, e);
	if (ret < 0)
		return ret;
	connect_clock_refs(&first);
	wire_reader_init(&p->reader, &first, p->c.fd);
	ret = push_read_advert(p, e);
	p->reader.clock = &p->clock;
	if (ret < 0) {
		connect_close(&p->c, &report);
		return report.code ? err_set(e, report.code, "%s", report.text) : ret;
	}
	ret = push_plan(p, old_oids, e);
	if (ret == 0)
		ret = push_check_caps(p, e);
	if (ret < 0 || p->n_sent == 0)
		return ret;
	push_report_init(&p->report, advert_has_cap(&p->advert, "side-band-64k"), p->sent_names,
			 p->n_sent, p->sent_results, p->said);
	ret = push_talk(p, old_oids, e);
	push_report_free(&p->report);
	return ret;
}

int upstream_push(const struct upstream_place *place, const struct git_remote *r,
		  const struct git_run_env *git, const struct check_update *updates, size_t n,
		  struct upstream_ref_result *results, struct buf *said, struct err *e)
{
	struct sigaction old, ignore = {.sa_handler = SIG_IGN};
	struct push p = {.place = place,
			 .remote = r,
			 .git = git,
			 .updates = updates,
			 .n = n,
			 .results = results,
			 .said = said,
			 .c = CONNECTION_NONE};
	struct connect_report report;
	struct err local = ERR_INIT;
	int ret;

	memset(results, 0, n * sizeof(*results));
	p.clock = (struct wire_clock){time_monotonic_ns() + UPSTREAM_PUSH_MS * TIME_NS_PER_MS,
				      CONNECT_PUSH_MS, -1};
	p.names = mem_zalloc_array(n + 1, sizeof(*p.names));
	p.sent_names = mem_zalloc_array(n + 1, sizeof(*p.sent_names));
	p.sent_results = mem_zalloc_array(n + 1, sizeof(*p.sent_results));
	p.is_sent = mem_zalloc_array(n + 1, sizeof(*p.is_sent));
	(void)sigaction(SIGPIPE, &ignore, &old);
	ret = push_run(&p, e ? e : &local);
	(void)sigaction(SIGPIPE, &old, NULL);
	connect_close(&p.c, &report);
	if (ret < 0 && ret != -EPERM)
		(void)err_prefix(e ? e : &local, "upstream \"%s\"", r->name);
	wire_reader_free(&p.reader);
	advert_free(&p.advert);
	for (size_t i = 0; i < n; i++)
		free(p.names[i]);
	free(p.names);
	free(p.sent_names);
	free(p.sent_results);
	free(p.is_sent);
	return ret;
}
