/*
 * Theory of operation: the relay reads requests, and never gets as far as to a back: each is
 * answered here. A body is kept until it is whole, within its cap and its time; then mcp.c has it,
 * and brings the answer now or later. An agent that goes away is forgotten.
 */
#include "supervise/server.h"

#include "base/mem.h"
#include "base/text.h"
#include "net/relay.h"
#include "supervise/jsonrpc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct server {
	struct loop *loop;
	struct relay *relay;
	struct server_config config;
};

/* Of an exchange. */
struct server_exchange {
	struct relay_exchange *x;
	struct buf body;
	struct loop_timer timer; /* for the whole of the body */
	struct mcp_post *post;	 /* with mcp.c; NULL: not yet, or no longer */
};

static struct server *server_of(const struct relay_exchange *x)
{
	return relay_ctx(x->relay);
}

/* --- answers --- */

/* By the book an answer without a message in it has no body; what is refused says why. */
static void server_refusal_body(struct relay_exchange *x, unsigned status, const char *reason,
				struct buf *body)
{
	int ret = buf_append_str(
		body, STR_LIT("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,"
			      "\"message\":"));

	(void)x;
	(void)status;
	if (ret == 0)
		ret = text_json(body, str_of(reason));
	if (ret == 0)
		ret = buf_append_str(body, STR_LIT("}}\n"));
	if (ret < 0)
		buf_reset(body);
}

static void server_refuse(struct relay_exchange *x, unsigned status, const char *why)
{
	struct buf body = BUF_INIT(1024);

	server_refusal_body(x, status, why, &body);
	relay_refuse_fields(x, status, why,
			    status == 405 ? STR_LIT("Content-Type: application/json\r\n"
						    "Cache-Control: no-store\r\n"
						    "Allow: POST, DELETE\r\n")
					  : STR_NULL,
			    buf_str(&body));
	buf_free(&body);
}

static void server_reply(struct relay_exchange *x, const struct mcp_reply *r)
{
	char fields[192];
	struct str kept;
	int n;

	n = snprintf(fields, sizeof(fields), "%sCache-Control: no-store\r\n%s%s%s",
		     r->body.n > 0 ? "Content-Type: application/json\r\n" : "",
		     r->session ? "Mcp-Session-Id: " : "", r->session ? r->session : "",
		     r->session ? "\r\n" : "");
	kept = relay_keep(x, str_slice(fields, (size_t)n));
	if (kept.p)
		relay_refuse_fields(x, r->status, "answered", kept, r->body);
	else
		server_refuse(x, 500, "out of memory");
}

static void server_on_reply(const struct mcp_reply *r, void *ctx)
{
	struct server_exchange *ex = ctx;

	ex->post = NULL;
	server_reply(ex->x, r);
}

/* --- the head --- */

static struct str field_of(struct relay_exchange *x, struct str name)
{
	const struct http1_field *f = http1_find(&x->req, name);

	return f ? f->value : STR_NULL;
}

/* One member of a list or of parameters: up to the separator, trimmed. */
static struct str next_part(struct str *rest, char separator)
{
	struct str part;

	*rest = str_cut(*rest, separator, &part, &(bool){false});
	return str_trim(part);
}

/* RFC 9110 section 8.3: the type, and no other charset than the one that JSON has. */
static bool is_json(struct str type)
{
	if (!str_ieq(next_part(&type, ';'), STR_LIT("application/json")))
		return false;
	while (type.n > 0) {
		struct str parameter = next_part(&type, ';'), name, value;

		value = str_cut(parameter, '=', &name, &(bool){false});
		if (str_ieq(name, STR_LIT("charset")) && !str_ieq(value, STR_LIT("utf-8")) &&
		    !str_ieq(value, STR_LIT("\"utf-8\"")))
			return false;
	}
	return true;
}

/* "q=0", "q=0.000": not this one. */
static bool is_unwanted(struct str parameters)
{
	while (parameters.n > 0) {
		struct str q = next_part(&parameters, ';');
		size_t i = 2;

		if (!str_istarts(q, STR_LIT("q=0")))
			continue;
		while (i < q.n && (q.p[i] == '0' || q.p[i] == '.'))
			i++;
		if (i == q.n)
			return true;
	}
	return false;
}

/* Clients have to take JSON and an event stream; only the first is ever sent. */
static bool accepts_json(struct str accept)
{
	if (accept.n == 0)
		return true;
	while (accept.n > 0) {
		struct str range = next_part(&accept, ','), type = next_part(&range, ';');

		if ((str_ieq(type, STR_LIT("application/json")) ||
		     str_ieq(type, STR_LIT("application/*")) || str_eq(type, STR_LIT("*/*"))) &&
		    !is_unwanted(range))
			return true;
	}
	return false;
}

/* Several of one of these could be read in two ways. */
static bool is_ambiguous(const struct http1_head *h)
{
	static const struct str names[] = {STR_LIT("accept"), STR_LIT("content-type"),
					   STR_LIT("content-encoding"), STR_LIT("mcp-session-id"),
					   STR_LIT("mcp-protocol-version")};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (http1_count(h, names[i]) > 1)
			return true;
	}
	return false;
}

/* 0, or the status of the refusal with *why. */
static unsigned head_check(struct relay_exchange *x, const char **why)
{
	const struct server_config *c = &server_of(x)->config;
	struct http1_head *h = &x->req;

	*why = "Origin: no web page may speak here";
	if (http1_count(h, STR_LIT("origin")) > 0)
		return 403;
	*why = "Host must be the address and port of the bundle";
	if (!str_ieq(h->host, str_of(c->host)) || h->port != c->port)
		return 421;
	*why = "Nothing is here; MCP is spoken at " SERVER_PATH;
	if (!str_eq(h->path, STR_LIT(SERVER_PATH)) || h->has_query)
		return 404;
	*why = "No stream is offered: POST a message, or DELETE the session";
	if (h->method != HTTP1_POST && h->method != HTTP1_DELETE)
		return 405;
	*why = "A field is there twice";
	if (is_ambiguous(h))
		return 400;
	return 0;
}

static unsigned post_check(struct relay_exchange *x, const char **why)
{
	*why = "Content-Type must be application/json";
	if (!is_json(field_of(x, STR_LIT("content-type"))))
		return 415;
	*why = "No Content-Encoding is understood";
	if (http1_count(&x->req, STR_LIT("content-encoding")) > 0)
		return 415;
	*why = "Accept must take application/json";
	if (!accepts_json(field_of(x, STR_LIT("accept"))))
		return 406;
	*why = "The message is too long";
	if (x->req.content_length > JSONRPC_MESSAGE_MAX)
		return 413;
	*why = "There is no message";
	if (x->req.framing == HTTP1_BODY_NONE)
		return 400;
	return 0;
}

static struct mcp_in server_in(struct relay_exchange *x, struct str body)
{
	return (struct mcp_in){.body = body,
			       .session = field_of(x, STR_LIT("mcp-session-id")),
			       .version = field_of(x, STR_LIT("mcp-protocol-version"))};
}

static void server_delete(struct relay_exchange *x)
{
	struct mcp_in in = server_in(x, STR_NULL);
	unsigned status = mcp_end_session(server_of(x)->config.mcp, &in);
	struct mcp_reply r = {.status = status};

	if (status == 200)
		server_reply(x, &r);
	else
		server_refuse(x, status, "There is no such session");
}

static void server_on_timer(struct loop_timer *t)
{
	struct server_exchange *ex =
		(struct server_exchange *)(void *)((char *)t -
						   offsetof(struct server_exchange, timer));

	server_refuse(ex->x, 408, "The message took too long to come");
}

static enum relay_step server_on_request(struct relay_exchange *x)
{
	struct server_exchange *ex = relay_owner(x);
	struct server *s = server_of(x);
	const char *why;
	unsigned status = head_check(x, &why);

	ex->x = x;
	if (status == 0 && x->req.method == HTTP1_DELETE) {
		server_delete(x);
		return RELAY_REFUSE;
	}
	if (status == 0)
		status = post_check(x, &why);
	if (status != 0) {
		server_refuse(x, status, why);
		return RELAY_REFUSE;
	}
	buf_init(&ex->body, JSONRPC_MESSAGE_MAX);
	ex->timer.fn = server_on_timer;
	loop_timer_set(s->loop, &ex->timer, s->config.body_ms);
	return RELAY_FORWARD;
}

/* --- the body --- */

static enum relay_data server_on_request_data(struct relay_exchange *x, struct str in, bool is_last,
					      struct buf *out)
{
	struct server_exchange *ex = relay_owner(x);
	struct mcp_in whole;
	bool is_answered = false;

	(void)out;
	if (ex->post)
		return RELAY_DATA_LATER;
	if (buf_append_str(&ex->body, in) < 0) {
		server_refuse(x, 413, "The message is too long");
		return RELAY_DATA_REFUSE;
	}
	if (!is_last)
		return RELAY_DATA_OK;
	loop_timer_del(server_of(x)->loop, &ex->timer);
	whole = server_in(x, buf_str(&ex->body));
	ex->post = mcp_take(server_of(x)->config.mcp, &whole, server_on_reply, ex);
	is_answered = ex->post == NULL;
	buf_free(&ex->body);
	return is_answered ? RELAY_DATA_REFUSE : RELAY_DATA_LATER;
}

static void server_on_done(struct relay_exchange *x, const struct relay_result *r)
{
	struct server_exchange *ex = relay_owner(x);

	(void)r;
	loop_timer_del(server_of(x)->loop, &ex->timer);
	if (ex->post)
		mcp_forget(ex->post);
	ex->post = NULL;
	buf_free(&ex->body);
}

/* Nothing is ever passed on. */
static enum relay_dial server_dial(struct relay_exchange *x, unsigned attempt,
				   struct relay_back_spec *spec)
{
	(void)x;
	(void)attempt;
	(void)spec;
	return RELAY_DIAL_NONE;
}

static const struct relay_ops server_ops = {
	.on_request = server_on_request,
	.on_request_data = server_on_request_data,
	.dial = server_dial,
	.refusal_body = server_refusal_body,
	.on_done = server_on_done,
};

int server_new(struct server **out, struct loop *l, const struct server_config *c, struct err *e)
{
	const struct relay_config config = {
		.accept = RELAY_ACCEPT_ORIGIN,
		.fronts_max = SERVER_FRONTS_MAX,
		.backs_max = 1,
		.out_max_bytes = MCP_REPLY_MAX + RELAY_PIECE_BYTES,
		.owner_bytes = sizeof(struct server_exchange),
		.body_ms = SERVER_BODY_SILENCE_MS,
	};
	struct server *s = mem_zalloc(sizeof(*s));
	int ret;

	*out = NULL;
	s->loop = l;
	s->config = *c;
	if (s->config.body_ms == 0)
		s->config.body_ms = SERVER_BODY_MS;
	ret = relay_new(&s->relay, l, &config, &server_ops, s, e);
	if (ret < 0)
		free(s);
	else
		*out = s;
	return ret;
}

int server_listen(struct server *s, int fd, struct err *e)
{
	return relay_listen(s->relay, fd, e);
}

void server_free(struct server *s)
{
	if (!s)
		return;
	relay_free(s->relay);
	free(s);
}
