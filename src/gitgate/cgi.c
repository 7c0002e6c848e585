/*
 * git http-backend as a CGI program (git-http-backend(1), RFC 3875): its environment from a job and
 * a few fields of the request, its answer as HTTP/1.1 with a chunked body.
 *
 * Where a fetch is answered from a stale mirror, a warning goes into the answer: as a packet of
 * band 2, which git shows as "remote: ...", before the first packet of any band. Up to there the
 * answer is read as pkt-lines, whatever the protocol's version; an answer without bands gets no
 * warning.
 */
#include "gitgate/worker.h"

#include "base/clean.h"
#include "base/mem.h"
#include "gitgate/pkt.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#define CGI_EXTRA_MAX 16

static bool protocol_is_known(struct str v)
{
	return str_eq(v, STR_LIT("version=1")) || str_eq(v, STR_LIT("version=2"));
}

/* The hook's descriptor: our end, and the one that git's processes inherit. */
static int cgi_hook(struct worker *w, int *theirs, struct err *e)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	w->hook_fd = pair[0];
	*theirs = pair[1];
	w->hook = mem_zalloc(sizeof(*w->hook));
	hook_request_init(w->hook);
	return 0;
}

struct cgi_environ {
	char *list[CGI_EXTRA_MAX + 1];
	size_t n;
};

static void cgi_set(struct cgi_environ *v, char *text)
{
	if (v->n < CGI_EXTRA_MAX)
		v->list[v->n++] = text;
}

static void cgi_environ_make(struct cgi_environ *v, struct worker *w, int hook_fd)
{
	const struct gitgate_job *job = w->job;
	const char *service =
		job->service == GIT_RECEIVE_PACK ? "git-receive-pack" : "git-upload-pack";
	const struct http1_field *coding = http1_find(&w->head, STR_LIT("content-encoding"));
	const struct http1_field *protocol = http1_find(&w->head, STR_LIT("git-protocol"));

	cgi_set(v, mem_printf("GIT_PROJECT_ROOT=%s", store_repos(job->g->store)));
	cgi_set(v, mem_strdup("GIT_HTTP_EXPORT_ALL=1"));
	cgi_set(v, mem_strdup("REMOTE_ADDR=bottle"));
	cgi_set(v, mem_printf("REQUEST_METHOD=%s", job->is_advert ? "GET" : "POST"));
	cgi_set(v, mem_printf("PATH_INFO=/%s.git/%s", job->remote->name,
			      job->is_advert ? "info/refs" : service));
	cgi_set(v, job->is_advert ? mem_printf("QUERY_STRING=service=%s", service)
				  : mem_printf("CONTENT_TYPE=application/x-%s-request", service));
	/* The front has let only gzip through. */
	if (coding && !job->is_advert)
		cgi_set(v, mem_strdup("HTTP_CONTENT_ENCODING=gzip"));
	if (protocol && protocol_is_known(protocol->value))
		cgi_set(v, mem_printf("GIT_PROTOCOL=" STR_FMT, STR_ARG(protocol->value)));
	if (hook_fd >= 0)
		cgi_set(v, mem_printf(HOOK_ENV "=%d", hook_fd));
}

int cgi_start(struct worker *w, struct err *e)
{
	const struct gitgate_job *job = w->job;
	bool is_push = job->service == GIT_RECEIVE_PACK && !job->is_advert;
	_cleanup_free_ char *hooks = mem_printf("core.hooksPath=%s", store_hooks(job->g->store));
	_cleanup_free_ char *size = mem_printf("receive.maxInputSize=%llu",
					       (unsigned long long)job->remote->pack_max_bytes);
	const char *const plain[] = {"http-backend", NULL};
	const char *const push[] = {"-c", hooks, "-c", size, "http-backend", NULL};
	struct git_run_env env = {.repo = w->mirror};
	_cleanup_close_ int theirs = -1;
	struct cgi_environ v = {.n = 0};
	int ret = is_push ? cgi_hook(w, &theirs, e) : 0;

	if (ret < 0)
		return ret;
	cgi_environ_make(&v, w, theirs);
	env.extra = (const char *const *)v.list;
	ret = git_run_start(&env, is_push ? push : plain, (int[]){-1, -1, -1}, theirs, &w->git, e);
	for (size_t i = 0; i < v.n; i++)
		free(v.list[i]);
	w->is_started = ret == 0;
	return ret;
}

/* --- the answer --- */

static bool type_is_known(struct str type)
{
	static const char *const types[] = {"application/x-git-upload-pack-advertisement",
					    "application/x-git-upload-pack-result",
					    "application/x-git-receive-pack-advertisement",
					    "application/x-git-receive-pack-result"};

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (str_eq(type, str_of(types[i])))
			return true;
	}
	return false;
}

/* "Name: value" lines: Status and Content-Type matter; the rest speaks to caches. */
static int cgi_head_read(struct str head, unsigned *status, struct str *type)
{
	bool more = true;

	*status = 200;
	*type = STR_NULL;
	while (more) {
		struct str line, name, value;
		uint64_t code;
		bool found;

		head = str_cut(head, '\n', &line, &more);
		if (str_ends(line, STR_LIT("\r")))
			line.n--;
		value = str_trim(str_cut(line, ':', &name, &found));
		if (str_ieq(name, STR_LIT("status"))) {
			if (str_to_u64(str_sub(value, 0, 3), 599, &code) < 0 || code < 200)
				return -EPROTO;
			*status = (unsigned)code;
		} else if (str_ieq(name, STR_LIT("content-type"))) {
			*type = value;
		}
	}
	return 0;
}

/* Where the head ends: behind its blank line. 0: not yet. */
static size_t cgi_head_length(struct str s)
{
	size_t crlf = str_find(s, STR_LIT("\r\n\r\n")), lf = str_find(s, STR_LIT("\n\n"));

	if (crlf < s.n && crlf < lf)
		return crlf + 4;
	return lf < s.n ? lf + 2 : 0;
}

static int cgi_head(struct worker *w, struct err *e)
{
	struct str in = buf_str(&w->from_git), type;
	size_t n = cgi_head_length(in);
	unsigned status;
	int ret;

	if (n == 0)
		return in.n > WORKER_CGI_HEAD ? err_set(e, -EPROTO, "git http-backend: no head")
					      : 0;
	if (cgi_head_read(str_sub(in, 0, n), &status, &type) < 0 ||
	    (status == 200 && !type_is_known(type)))
		return err_set(e, -EPROTO, "git http-backend: an answer of another kind");
	if (status != 200)
		type = STR_LIT("text/plain; charset=utf-8");
	ret = buf_printf(&w->down,
			 "HTTP/1.1 %u " STR_FMT "\r\nContent-Type: " STR_FMT
			 "\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n"
			 "Connection: close\r\n\r\n",
			 status, STR_ARG(http1_status_phrase(status)), STR_ARG(type));
	buf_consume(&w->from_git, n);
	w->has_cgi_head = true;
	return ret;
}

static int cgi_chunk(struct worker *w, struct str data)
{
	int ret;

	if (data.n == 0)
		return 0;
	ret = buf_printf(&w->down, "%zx\r\n", data.n);
	if (ret == 0)
		ret = buf_append_str(&w->down, data);
	return ret < 0 ? ret : buf_append_str(&w->down, STR_LIT("\r\n"));
}

static int cgi_warning(struct worker *w)
{
	char text[STORE_TEXT_MAX + 64];
	struct buf packet;
	int n = snprintf(text, sizeof(text), "\002git-gate: warning: %s\n", w->warning), ret;

	buf_init(&packet, sizeof(text) + PKT_HEAD_BYTES);
	ret = pkt_write(&packet, str_slice(text, (size_t)n));
	if (ret == 0)
		ret = cgi_chunk(w, buf_str(&packet));
	buf_free(&packet);
	return ret;
}

enum cgi_place { CGI_FURTHER, CGI_HERE, CGI_NOWHERE };

/* The warning's place is in front of the first packet of a band. How many bytes stand before it, as
 * far as has been seen. */
static size_t cgi_look(const struct worker *w, struct str in, enum cgi_place *place)
{
	size_t at = 0;

	for (;;) {
		struct str data;
		size_t used;
		enum pkt_kind kind = pkt_next(str_sub(in, at, in.n), &data, &used);

		*place = CGI_NOWHERE;
		if (kind == PKT_BAD)
			return at;
		*place = CGI_HERE;
		if (kind == PKT_DATA && data.n > 0 && (data.p[0] == 1 || data.p[0] == 2))
			return at;
		*place = w->is_git_done ? CGI_NOWHERE : CGI_FURTHER;
		if (kind == PKT_MORE)
			return at;
		at += used;
	}
}

static int cgi_warn(struct worker *w)
{
	enum cgi_place place;
	size_t n = cgi_look(w, buf_str(&w->from_git), &place);
	int ret = cgi_chunk(w, str_sub(buf_str(&w->from_git), 0, n));

	buf_consume(&w->from_git, n);
	if (ret == 0 && place == CGI_HERE)
		ret = cgi_warning(w);
	w->is_warning_due = place == CGI_FURTHER;
	return ret;
}

int cgi_translate(struct worker *w, struct err *e)
{
	int ret = 0;

	if (!w->has_cgi_head) {
		ret = cgi_head(w, e);
		if (ret < 0 || !w->has_cgi_head)
			return ret;
	}
	if (w->is_warning_due)
		ret = cgi_warn(w);
	if (ret == 0 && !w->is_warning_due) {
		ret = cgi_chunk(w, buf_str(&w->from_git));
		buf_reset(&w->from_git);
	}
	return ret < 0 ? err_set(e, ret, "an answer does not fit") : 0;
}

int cgi_finish(struct worker *w)
{
	return buf_append_str(&w->down, STR_LIT("0\r\n\r\n"));
}
