/* What there is. Paths are compared as they are: nothing is decoded, so nothing has two names. */
#include "face/web_int.h"

#include "base/clean.h"
#include "web_page.h"

static void page(struct web_answer *a, struct str body, const char *type)
{
	a->status = 200;
	a->type = type;
	a->fixed = body;
}

static void page_html(const struct web_call *call, struct web_answer *a)
{
	(void)call;
	page(a, STR_LIT(page_index), "text/html; charset=utf-8");
}

static void page_style(const struct web_call *call, struct web_answer *a)
{
	(void)call;
	page(a, STR_LIT(page_css), "text/css; charset=utf-8");
}

static void page_script(const struct web_call *call, struct web_answer *a)
{
	(void)call;
	page(a, STR_LIT(page_js), "text/javascript; charset=utf-8");
}

static void events(const struct web_call *call, struct web_answer *a)
{
	struct web *w = call->web;
	size_t n = 0;

	for (size_t i = 0; i < WEB_CONNS_MAX; i++)
		n += w->conns[i].state == WEB_CONN_EVENTS;
	if (n >= WEB_STREAMS_MAX) {
		answer_error(a, 503, "too many windows look at this already");
		return;
	}
	a->status = 200;
	a->type = "text/event-stream";
	a->is_stream = true;
	if (buf_printf(&a->text, "event: version\ndata: %llu\n\n", (unsigned long long)w->version) <
	    0)
		a->status = 503;
}

static const struct web_route ROUTES[] = {
	{.path = STR_LIT("/"), .method = HTTP1_GET, .is_page = true, .fn = page_html},
	{.path = STR_LIT("/page.css"), .method = HTTP1_GET, .is_page = true, .fn = page_style},
	{.path = STR_LIT("/page.js"), .method = HTTP1_GET, .is_page = true, .fn = page_script},
	{.path = STR_LIT("/api/session"), .method = HTTP1_POST, .is_open = true, .fn = act_session},
	{.path = STR_LIT("/api/state"), .method = HTTP1_GET, .fn = show_state},
	{.path = STR_LIT("/api/request/"),
	 .is_prefix = true,
	 .method = HTTP1_GET,
	 .fn = show_request},
	{.path = STR_LIT("/api/bottle/"),
	 .is_prefix = true,
	 .method = HTTP1_GET,
	 .fn = show_bottle},
	{.path = STR_LIT("/api/events"), .method = HTTP1_GET, .fn = events},
	{.path = STR_LIT("/api/decide"), .method = HTTP1_POST, .fn = act_decide},
	{.path = STR_LIT("/api/revoke"), .method = HTTP1_POST, .fn = act_revoke},
	{.path = STR_LIT("/api/pause"), .method = HTTP1_POST, .fn = act_pause},
	{.path = STR_LIT("/api/stop"), .method = HTTP1_POST, .fn = act_stop},
};

static const struct web_route *find(struct str path)
{
	for (size_t i = 0; i < ARRAY_LEN(ROUTES); i++)
		if (ROUTES[i].is_prefix ? str_starts(path, ROUTES[i].path)
					: str_eq(path, ROUTES[i].path))
			return &ROUTES[i];
	return NULL;
}

/* The framing that a request of this route may have. */
static unsigned check_body(const struct web_route *r, const struct http1_head *h)
{
	if (h->expects_continue)
		return 417;
	if (r->method == HTTP1_GET)
		return h->framing == HTTP1_BODY_NONE ? 0 : 400;
	if (h->framing != HTTP1_BODY_LENGTH)
		return 411;
	return h->content_length <= WEB_BODY_MAX_BYTES ? 0 : 413;
}

static unsigned check(struct web_conn *c, const struct web_route *r, struct web_answer *a)
{
	struct http1_head *h = &c->head;
	struct web_session *s;
	unsigned status;

	if (h->method != r->method) {
		a->allow = r->method == HTTP1_GET ? "GET" : "POST";
		return 405;
	}
	status = r->is_page ? gate_page(h) : gate_api(c->web, h);
	if (status == 0)
		status = check_body(r, h);
	if (status != 0 || r->is_page || r->is_open)
		return status;
	s = gate_session(c->web, h);
	if (!s)
		return 401;
	c->session = s->number;
	return 0;
}

const struct web_route *route_find(struct web_conn *c, struct web_answer *a)
{
	const struct web_route *r;

	a->status = gate_host(c->web, &c->head);
	if (a->status != 0) {
		a->is_bare = true;
		return NULL;
	}
	r = find(c->head.path);
	a->status = r ? check(c, r, a) : 404;
	return a->status == 0 ? r : NULL;
}
