/*
 * The front: what a request must be before a worker is started for it. Decided from the head alone;
 * of a fetch's body only the size counts, a push's body is the worker's to read.
 */
#include "gitgate/gitgate_int.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static struct gitgate *front_gate(const struct relay_exchange *x)
{
	return relay_ctx(x->relay);
}

/* --- refusals --- */

static struct gitgate_exchange *front_exchange(struct relay_exchange *x)
{
	struct gitgate_exchange *ex = relay_owner(x);

	ex->x = x;
	ex->job.g = front_gate(x);
	ex->job.desk_fd = -1;
	return ex;
}

static const char *front_method(const struct relay_exchange *x)
{
	static const char *const names[] = {"GET",   "HEAD",   "POST",	  "PUT",
					    "PATCH", "DELETE", "OPTIONS", "CONNECT"};

	return x->has_req && x->req.method < ARRAY_LEN(names) ? names[x->req.method] : "";
}

static enum relay_step front_refuse(struct relay_exchange *x, const char *reason)
{
	struct gitgate_exchange *ex = front_exchange(x);
	struct str fields;
	struct buf body;

	if (!gitgate_record(&ex->job, RECORD_BLOCK, reason, front_method(x),
			    gitgate_refusal_status(reason), "", ex->id))
		reason = "record-unavailable";
	ex->is_recorded = true;
	buf_init(&body, 2048);
	fields = gitgate_refusal(&body, reason, ex->job.is_git_client, ex->id);
	relay_refuse_fields(x, gitgate_refusal_status(reason), reason, fields, buf_str(&body));
	buf_free(&body);
	return RELAY_REFUSE;
}

/* For what the relay refuses by itself: bad HTTP, time-outs. */
static void front_refusal_body(struct relay_exchange *x, unsigned status, const char *reason,
			       struct buf *body)
{
	struct gitgate_exchange *ex = front_exchange(x);

	(void)gitgate_record(&ex->job, status < 500 ? RECORD_BLOCK : RECORD_NOTE, reason,
			     front_method(x), status, "", ex->id);
	ex->is_recorded = true;
	(void)gitgate_refusal(body, reason, false, ex->id);
}

/* --- repositories that were never meant for here --- */

static bool path_is_plain(struct str path)
{
	for (size_t i = 0; i < path.n; i++) {
		if (!ascii_is_alnum(path.p[i]) && !strchr("-._~/+@", path.p[i]))
			return false;
	}
	return str_find(path, STR_LIT("//")) == path.n && str_find(path, STR_LIT("/.")) == path.n;
}

/* The remote whose spelling captured this path: the agent's git takes insteadOf as a prefix, so
 * https://h/o/repo takes https://h/o/repo2 with it. The longest, as in git. */
static const struct git_remote *front_captor(const struct git_policy *p, struct str path)
{
	const struct git_remote *best = NULL;
	size_t best_n = 0;

	for (size_t i = 0; i < p->n_remotes; i++) {
		const struct git_remote *r = &p->remotes[i];
		char own[GIT_GATE_PATH_SIZE];

		if (r->transport == GIT_TRANSPORT_WORKSPACE)
			continue;
		git_gate_path(r, own);
		if (!str_starts(path, str_of(own)) || strlen(own) <= best_n)
			continue;
		best = r;
		best_n = strlen(own);
	}
	return best;
}

/* "repo.git.git" of the remote "repo": nobody else's, and no spelling of its own. */
static bool front_is_own(const struct git_remote *r, struct str path)
{
	char own[GIT_GATE_PATH_SIZE];

	git_gate_path(r, own);
	return str_starts(str_sub(path, strlen(own), path.n), STR_LIT(".git"));
}

/* Sends a fetch of such a repository where it was going in the first place: to pipelock, which
 * decides as if there were no git-gate. */
static bool front_redirect(struct relay_exchange *x)
{
	struct gitgate_exchange *ex = front_exchange(x);
	const struct git_remote *r = front_captor(front_gate(x)->config.policy, x->req.path);
	char fields[HTTP1_TARGET_MAX_BYTES + 512], port[8] = "";
	struct str path = x->req.path, host, kept;

	if (!r || x->req.method != HTTP1_GET || path.n > 2048 || !path_is_plain(path) ||
	    !str_ends(path, STR_LIT("/info/refs")) ||
	    !str_eq(x->req.query, STR_LIT("service=git-upload-pack")))
		return false;
	path = str_sub(path, 1, path.n);
	path = str_cut(path, '/', &host, &(bool){false});
	if (!str_eq(host, str_of(r->host)) || front_is_own(r, x->req.path))
		return false;
	if (r->transport == GIT_TRANSPORT_HTTPS && r->port != 443)
		(void)snprintf(port, sizeof(port), ":%u", r->port);
	(void)snprintf(fields, sizeof(fields),
		       "Location: https://%s%s/" STR_FMT "?service=git-upload-pack\r\n"
		       "Content-Type: text/plain; charset=utf-8\r\n",
		       r->host, port, STR_ARG(path));
	kept = relay_keep(x, str_slice(fields, strlen(fields) + 1));
	if (!kept.p ||
	    !gitgate_record(&ex->job, RECORD_NOTE, "git-redirect", "GET", 302, "", ex->id))
		return false;
	ex->is_recorded = true;
	relay_refuse_fields(x, 302, "git-redirect", str_sub(kept, 0, kept.n - 1),
			    STR_LIT("git-gate: not one of its remotes; try the proxy\n"));
	return true;
}

/* --- the four shapes --- */

static bool field_is(struct http1_head *h, struct str name, struct str value)
{
	const struct http1_field *f = http1_find(h, name);

	return http1_count(h, name) == 1 && str_ieq(f->value, value);
}

static const char *front_check_post(struct relay_exchange *x, enum git_service service)
{
	const struct str coding = STR_LIT("content-encoding");
	bool is_push = service == GIT_RECEIVE_PACK;
	size_t n_codings = http1_count(&x->req, coding);

	if (x->req.has_query)
		return "git-query";
	if (!field_is(&x->req, STR_LIT("content-type"),
		      is_push ? STR_LIT("application/x-git-receive-pack-request")
			      : STR_LIT("application/x-git-upload-pack-request")))
		return "git-content-type";
	if (n_codings > 0 && (is_push || (!field_is(&x->req, coding, STR_LIT("gzip")) &&
					  !field_is(&x->req, coding, STR_LIT("x-gzip")))))
		return "git-content-encoding";
	if (!is_push && x->req.framing == HTTP1_BODY_LENGTH &&
	    x->req.content_length > GITGATE_UPLOAD_BODY_MAX)
		return "git-body-too-large";
	return NULL;
}

static const char *front_check_get(struct relay_exchange *x, enum git_service *service)
{
	if (!x->req.has_query)
		return "git-endpoint"; /* the dumb protocol */
	if (str_eq(x->req.query, STR_LIT("service=git-upload-pack")))
		*service = GIT_UPLOAD_PACK;
	else if (str_eq(x->req.query, STR_LIT("service=git-receive-pack")))
		*service = GIT_RECEIVE_PACK;
	else
		return "git-query";
	return x->req.framing == HTTP1_BODY_NONE ? NULL : "git-endpoint";
}

/* NULL with the job filled, or why not. */
static const char *front_decide(struct relay_exchange *x, struct gitgate_job *job)
{
	const char *why;
	struct str rest;

	job->remote = git_gate_find(job->g->config.policy, x->req.path, &rest);
	if (!job->remote)
		return "git-not-declared";
	if (x->req.expects_continue)
		return "git-expect";
	if (str_eq(rest, STR_LIT("/info/refs"))) {
		if (x->req.method != HTTP1_GET)
			return "git-method";
		job->is_advert = true;
		why = front_check_get(x, &job->service);
	} else if (str_eq(rest, STR_LIT("/git-upload-pack"))) {
		job->service = GIT_UPLOAD_PACK;
		why = x->req.method == HTTP1_POST ? front_check_post(x, job->service)
						  : "git-method";
	} else if (str_eq(rest, STR_LIT("/git-receive-pack"))) {
		job->service = GIT_RECEIVE_PACK;
		why = x->req.method == HTTP1_POST ? front_check_post(x, job->service)
						  : "git-method";
	} else {
		return "git-endpoint";
	}
	if (!why && job->service == GIT_RECEIVE_PACK && !git_remote_may_push(job->remote))
		return "git-read-only";
	return why;
}

/* The worker needs these and no others. Its version of the protocol is a word of ours. */
static void front_strip(struct relay_exchange *x)
{
	static const char *const kept[] = {"content-type", "content-encoding", "git-protocol"};
	struct http1_head *h = &x->req;
	size_t n = 0;

	for (size_t i = 0; i < h->n_fields; i++) {
		bool keep = false;

		for (size_t k = 0; k < ARRAY_LEN(kept); k++)
			keep |= str_ieq(h->fields[i].name, str_of(kept[k]));
		if (keep)
			h->fields[n++] = h->fields[i];
	}
	h->n_fields = n;
}

static enum relay_step front_on_request(struct relay_exchange *x)
{
	struct gitgate_exchange *ex = front_exchange(x);
	struct gitgate_job *job = &ex->job;
	const struct http1_field *agent = http1_find(&x->req, STR_LIT("user-agent"));
	const char *why;

	job->is_git_client = agent && str_starts(agent->value, STR_LIT("git/"));
	why = front_decide(x, job);
	if (why) {
		if (!job->remote && front_redirect(x))
			return RELAY_REFUSE;
		return front_refuse(x, why);
	}
	if (!gitgate_record(job, RECORD_ALLOW, "ok", front_method(x), 0,
			    job->service == GIT_RECEIVE_PACK
				    ? job->is_advert ? "push: refs" : "push"
			    : job->is_advert ? "fetch: refs"
					     : "fetch",
			    ex->id))
		return front_refuse(x, "record-unavailable");
	ex->is_recorded = true;
	front_strip(x);
	x->is_unpooled = true;
	x->req_keeps_length = true;
	return RELAY_FORWARD;
}

static enum relay_data front_on_request_data(struct relay_exchange *x, struct str in, bool is_last,
					     struct buf *out)
{
	struct gitgate_exchange *ex = relay_owner(x);

	(void)is_last;
	(void)out;
	ex->body_bytes += in.n;
	if (ex->job.service != GIT_UPLOAD_PACK || ex->body_bytes <= GITGATE_UPLOAD_BODY_MAX)
		return RELAY_DATA_PASS;
	(void)front_refuse(x, "git-body-too-large");
	return RELAY_DATA_REFUSE;
}

static enum relay_dial front_dial(struct relay_exchange *x, unsigned attempt,
				  struct relay_back_spec *spec)
{
	struct gitgate_exchange *ex = relay_owner(x);
	struct err e = ERR_INIT;
	int fd;

	if (attempt > 0)
		return RELAY_DIAL_NONE;
	fd = gitgate_worker_get(front_gate(x), ex, &e);
	if (fd == -EAGAIN)
		return RELAY_DIAL_LATER;
	if (fd < 0) {
		if (fd != -EBUSY)
			log_error("%s", e.text);
		(void)front_refuse(x, fd == -EBUSY ? "git-busy" : "git-failed");
		return RELAY_DIAL_NONE;
	}
	spec->fd = fd;
	return RELAY_DIAL_NOW;
}

static void front_on_done(struct relay_exchange *x, const struct relay_result *r)
{
	struct gitgate_exchange *ex = front_exchange(x);

	gitgate_worker_leave(ex, r->outcome == RELAY_DONE);
	if (!ex->is_recorded && x->has_req)
		(void)gitgate_record(&ex->job, RECORD_NOTE, relay_outcome_name(r->outcome),
				     front_method(x), r->status, "", ex->id);
}

const struct relay_ops gitgate_ops = {
	.on_request = front_on_request,
	.on_request_data = front_on_request_data,
	.dial = front_dial,
	.refusal_body = front_refusal_body,
	.on_done = front_on_done,
};

/* --- the whole --- */

int gitgate_new(struct gitgate **out, struct loop *l, const struct gitgate_config *config,
		struct err *e)
{
	const struct relay_config relay = {
		.accept = RELAY_ACCEPT_ORIGIN,
		.fronts_max = GITGATE_FRONTS_MAX,
		.backs_max = GITGATE_FRONTS_MAX,
		.owner_bytes = sizeof(struct gitgate_exchange),
		.dial_ms = GITGATE_QUEUE_MS,
		.response_ms = UPSTREAM_FETCH_MS + GITGATE_LOCK_MS + 30000,
		.stream_ms = GITGATE_PUSH_MS + 30000,
	};
	struct gitgate *g = mem_zalloc(sizeof(*g));
	int ret;

	*out = NULL;
	g->loop = l;
	g->config = *config;
	g->workers_max = config->workers_max ? config->workers_max : GITGATE_WORKERS_MAX;
	g->workers = mem_zalloc_array(g->workers_max, sizeof(*g->workers));
	for (unsigned i = 0; i < g->workers_max; i++)
		g->workers[i].watch.fd = g->workers[i].desk_watch.fd = -1;
	g->queue_last = &g->queue_first;
	ret = store_open(&g->store, config->folder, config->policy, config->program_fd, e);
	if (ret == 0) {
		g->upstream = config->upstream;
		g->upstream.policy = config->policy;
		g->upstream.slug = config->slug;
		g->upstream.tool_path = store_tools(g->store);
		ret = relay_new(&g->relay, l, &relay, &gitgate_ops, g, e);
	}
	if (ret < 0) {
		gitgate_free(g);
		return ret;
	}
	*out = g;
	return 0;
}

int gitgate_listen(struct gitgate *g, int listen_fd, struct err *e)
{
	return relay_listen(g->relay, listen_fd, e);
}

void gitgate_free(struct gitgate *g)
{
	if (!g)
		return;
	if (g->relay)
		relay_free(g->relay);
	gitgate_workers_kill(g);
	store_free(g->store);
	free(g->workers);
	free(g);
}
