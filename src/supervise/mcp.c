/*
 * Theory of operation: a post is up to JSONRPC_BATCH_MAX items. Each item has its answer at once,
 * or a call (call.h) that will bring it; when none is open any more, the post is answered and gone.
 * A notification, and a response to what nobody here asked, has no answer: a post of these alone is
 * "accepted". A cancelled item loses its call and its answer.
 */
#include "supervise/mcp.h"

#include "supervise/call.h"
#include "supervise/jsonrpc.h"

#include "base/clean.h"
#include "base/json.h"
#include "base/mem.h"

struct mcp_item {
	struct mcp_post *post;
	json_t *id;	/* of a request; owned */
	json_t *answer; /* owned; NULL: none yet, or there is to be none */
	struct call *call;
};

struct mcp_post {
	struct mcp *m;
	struct mcp_post *next;
	mcp_reply_fn *fn;
	void *ctx;
	uint64_t session; /* its serial */
	enum session_version version;
	char new_session[SESSION_ID_SIZE];
	bool is_batch, is_beginning;
	unsigned status;
	struct mcp_item items[JSONRPC_BATCH_MAX];
	size_t n_items;
};

struct mcp {
	const struct tools_view *view;
	struct calls calls;
	struct sessions sessions;
	struct mcp_post *posts;
};

struct mcp *mcp_new(struct loop *l, const struct mcp_config *c)
{
	struct mcp *m = mem_zalloc(sizeof(*m));

	m->view = c->view;
	m->calls = (struct calls){.loop = l,
				  .desk = c->desk,
				  .first_ms = c->first_ms ? c->first_ms : CALL_FIRST_MS,
				  .poll_ms = c->poll_ms ? c->poll_ms : CALL_POLL_MS};
	return m;
}

void mcp_free(struct mcp *m)
{
	while (m && m->posts)
		mcp_forget(m->posts);
	free(m);
}

void mcp_forget(struct mcp_post *p)
{
	struct mcp_post **at = &p->m->posts;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	for (size_t i = 0; i < p->n_items; i++) {
		if (p->items[i].call)
			call_forget(p->items[i].call);
		json_decref(p->items[i].id);
		json_decref(p->items[i].answer);
	}
	free(p);
}

/* --- answering --- */

static void post_reply(struct mcp_post *p, json_t *body)
{
	_cleanup_free_ char *text =
		body ? json_dumps(body, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	struct mcp_reply r = {.status = p->status, .body = str_of(text)};
	mcp_reply_fn *fn = p->fn;
	void *ctx = p->ctx;
	char session[SESSION_ID_SIZE];

	memcpy(session, p->new_session, sizeof(session));
	r.session = session[0] ? session : NULL;
	mcp_forget(p);
	fn(&r, ctx);
}

/* One error for all of a post: it could not be taken apart, or not be answered. */
static void post_fail(struct mcp_post *p, unsigned status, enum jsonrpc_code code, const char *text)
{
	_cleanup_json_ json_t *error = jsonrpc_error(NULL, code, text);

	p->status = status;
	post_reply(p, error);
}

static json_t *post_answers(const struct mcp_post *p)
{
	json_t *all = json_array();

	for (size_t i = 0; i < p->n_items; i++) {
		if (p->items[i].answer)
			(void)json_array_append(all, p->items[i].answer);
	}
	return all;
}

/* Answers when nothing is open any more. True: it did, and p is gone. */
static bool post_settle(struct mcp_post *p)
{
	_cleanup_json_ json_t *all = NULL;

	if (p->is_beginning)
		return false;
	for (size_t i = 0; i < p->n_items; i++) {
		if (p->items[i].call)
			return false;
	}
	all = post_answers(p);
	if (json_array_size(all) == 0) {
		p->status = 202;
		post_reply(p, NULL);
	} else if (json_dumpb(all, NULL, 0, JSON_COMPACT | JSON_ENSURE_ASCII) > MCP_REPLY_MAX) {
		post_fail(p, 200, JSONRPC_INTERNAL_ERROR,
			  "The answer would be too long: ask for less at a time");
	} else {
		post_reply(p, p->is_batch ? all : json_array_get(all, 0));
	}
	return true;
}

static void item_error(struct mcp_item *i, enum jsonrpc_code code, const char *text)
{
	i->answer = jsonrpc_error(i->id, code, text);
}

static void item_result(struct mcp_item *i, json_t *result)
{
	i->answer = jsonrpc_result(i->id, result);
}

/* --- methods --- */

static void item_initialize(struct mcp_item *i, json_t *params)
{
	static const char instructions[] =
		"You work in a bottle: its only network is what a policy allows, and everything "
		"else is refused with a structured answer whose \"ask\" names the tool and "
		"arguments that would ask a human for exactly that. A client that shows no more "
		"than a 403 or a failed tunnel hides that answer: recent_refusals has it. Look at "
		"network_policy before you try a host, ask for the least that does, say why in "
		"plain words, and go on with other work while a request is pending. No answer in "
		"time means no.";
	json_t *asked = json_object_get(params, "protocolVersion");
	enum session_version v;
	const struct session *s;

	if (!json_is_string(asked)) {
		item_error(i, JSONRPC_INVALID_PARAMS, "\"protocolVersion\" must be a text");
		return;
	}
	if (!session_version_parse(str_slice(json_string_value(asked), json_string_length(asked)),
				   &v))
		v = SESSION_LATEST;
	s = session_open(&i->post->m->sessions, v);
	if (!s) {
		item_error(i, JSONRPC_INTERNAL_ERROR, "No session could be made");
		return;
	}
	memcpy(i->post->new_session, s->id, sizeof(s->id));
	item_result(i, json_pack("{s:s, s:{s:{}}, s:{s:s, s:s, s:s}, s:s}", "protocolVersion",
				 session_version_name(v), "capabilities", "tools", "serverInfo",
				 "name", "claude-bottle", "title", "claude-bottle supervise",
				 "version", CLAUDE_BOTTLE_VERSION, "instructions", instructions));
}

static void item_ping(struct mcp_item *i, json_t *params)
{
	(void)params;
	item_result(i, json_object());
}

static void item_tools_list(struct mcp_item *i, json_t *params)
{
	/* There is one page, so no cursor was ever given out. */
	if (json_object_get(params, "cursor"))
		item_error(i, JSONRPC_INVALID_PARAMS, "There is no such cursor");
	else
		item_result(i, tools_list(i->post->version));
}

static void item_on_answer(json_t *content, bool is_error, void *ctx)
{
	struct mcp_item *i = ctx;

	i->call = NULL;
	item_result(i, tools_result(content, is_error, i->post->version));
	(void)post_settle(i->post);
}

static void item_tools_call(struct mcp_item *i, json_t *params)
{
	const char *name = json_string_value(json_object_get(params, "name"));
	json_t *arguments = json_object_get(params, "arguments");
	struct mcp *m = i->post->m;
	struct tools_call call;

	if (!name) {
		item_error(i, JSONRPC_INVALID_PARAMS, "\"name\" must be a tool's");
	} else if (arguments && !json_is_object(arguments)) {
		item_error(i, JSONRPC_INVALID_PARAMS, "\"arguments\" must be an object");
	} else if (!tools_begin(m->view, name, arguments, &call)) {
		item_error(i, JSONRPC_INVALID_PARAMS, "There is no such tool; see tools/list");
	} else if (call.answer) {
		item_result(i, tools_result(call.answer, call.is_error, i->post->version));
	} else {
		i->call = call_start(&m->calls, &call.ask, call.wait_ms, item_on_answer, i,
				     &call.answer);
		if (!i->call)
			item_result(i, tools_result(call.answer, true, i->post->version));
	}
}

static const struct {
	const char *method;
	void (*fn)(struct mcp_item *i, json_t *params);
} mcp_methods[] = {
	{"initialize", item_initialize},
	{"ping", item_ping},
	{"tools/list", item_tools_list},
	{"tools/call", item_tools_call},
};

/* The item of this session that has this id and is still open. */
static struct mcp_item *mcp_in_flight(struct mcp *m, uint64_t session, const json_t *id,
				      const struct mcp_item *but)
{
	for (struct mcp_post *p = m->posts; p; p = p->next) {
		for (size_t i = 0; p->session == session && i < p->n_items; i++) {
			if (&p->items[i] != but && p->items[i].id && json_equal(p->items[i].id, id))
				return &p->items[i];
		}
	}
	return NULL;
}

/* The wait is over, and there is to be no answer. What was asked for stays with the human. */
static void mcp_cancel(struct mcp_post *p, json_t *params)
{
	const json_t *id = json_object_get(params, "requestId");
	struct mcp_item *i = id ? mcp_in_flight(p->m, p->session, id, NULL) : NULL;

	if (!i || !i->call)
		return;
	call_forget(i->call);
	i->call = NULL;
	if (i->post != p)
		(void)post_settle(i->post);
}

static void item_request(struct mcp_item *i, const struct jsonrpc_message *message)
{
	struct mcp_post *p = i->post;

	if (mcp_in_flight(p->m, p->session, i->id, i)) {
		item_error(i, JSONRPC_INVALID_REQUEST, "\"id\" is in use");
		return;
	}
	if (message->are_bad_params) {
		item_error(i, JSONRPC_INVALID_PARAMS, "\"params\" must be an object");
		return;
	}
	for (size_t n = 0; n < ARRAY_LEN(mcp_methods); n++) {
		if (strcmp(mcp_methods[n].method, message->method) == 0) {
			mcp_methods[n].fn(i, message->params);
			return;
		}
	}
	item_error(i, JSONRPC_METHOD_NOT_FOUND, "There is no such method");
}

static void item_begin(struct mcp_item *i, const struct jsonrpc_message *message)
{
	struct mcp_post *p = i->post;

	i->id = json_incref(message->id);
	switch (message->kind) {
	case JSONRPC_REQUEST:
		if (p->is_batch && strcmp(message->method, "initialize") == 0)
			item_error(i, JSONRPC_INVALID_REQUEST, "initialize comes alone");
		else
			item_request(i, message);
		return;
	case JSONRPC_NOTIFICATION:
		if (strcmp(message->method, "notifications/cancelled") == 0)
			mcp_cancel(p, message->params);
		return;
	case JSONRPC_RESPONSE:
		return;
	case JSONRPC_BAD:
		item_error(i, JSONRPC_INVALID_REQUEST, message->why);
		if (!p->is_batch)
			p->status = 400;
		return;
	}
}

/* --- a post --- */

static bool message_is_initialize(json_t *message)
{
	struct jsonrpc_message look;

	jsonrpc_look(message, &look);
	return look.kind == JSONRPC_REQUEST && strcmp(look.method, "initialize") == 0;
}

/* What a client says that it speaks, if it says so. */
static unsigned version_check(const struct mcp_in *in, const char **why)
{
	enum session_version ignored;

	*why = "MCP-Protocol-Version names no version that is spoken here";
	return in->version.n > 0 && !session_version_parse(in->version, &ignored) ? 400 : 0;
}

/* 0, or the status of the refusal with *why. */
static unsigned session_check(struct sessions *all, const struct mcp_in *in, struct session **out,
			      const char **why)
{
	unsigned status = version_check(in, why);
	struct str agreed;

	*out = NULL;
	if (status != 0)
		return status;
	*why = "Mcp-Session-Id is missing: initialize comes first";
	if (in->session.n == 0)
		return 400;
	*why = "This session has ended, or never was: initialize anew";
	*out = session_find(all, in->session);
	if (!*out)
		return 404;
	*why = "MCP-Protocol-Version is not the one that this session agreed on";
	agreed = str_of(session_version_name((*out)->version));
	return in->version.n == 0 || str_eq(in->version, agreed) ? 0 : 400;
}

/* An initialize needs no session, and what it names of an older one does not matter. */
static unsigned post_session(struct mcp_post *p, const struct mcp_in *in, bool is_initialize,
			     const char **why)
{
	struct session *s;
	unsigned status;

	if (is_initialize)
		return version_check(in, why);
	status = session_check(&p->m->sessions, in, &s, why);
	if (status == 0) {
		p->session = s->serial;
		p->version = s->version;
	}
	return status;
}

static const char *post_batch_refusal(const struct mcp_post *p, const json_t *batch)
{
	if (p->version != SESSION_2025_03_26)
		return "This version of the protocol has no batches";
	if (json_array_size(batch) == 0)
		return "The batch is empty";
	if (json_array_size(batch) > JSONRPC_BATCH_MAX)
		return "A batch has at most 16 messages";
	return NULL;
}

/* Nothing of it has been answered before all of it has begun: an item's cancellation may name one
 * before it. */
static void post_begin(struct mcp_post *p, json_t *root)
{
	size_t n = p->is_batch ? json_array_size(root) : 1;

	p->is_beginning = true;
	p->status = 200;
	for (size_t i = 0; i < n; i++) {
		json_t *message = p->is_batch ? json_array_get(root, i) : root;
		struct mcp_item *item = &p->items[p->n_items++];
		struct jsonrpc_message look;

		jsonrpc_look(message, &look);
		item->post = p;
		item_begin(item, &look);
	}
	p->is_beginning = false;
}

struct mcp_post *mcp_take(struct mcp *m, const struct mcp_in *in, mcp_reply_fn *fn, void *ctx)
{
	struct mcp_post *p = mem_zalloc(sizeof(*p));
	_cleanup_json_ json_t *root = NULL;
	const char *why = NULL;
	struct err e = ERR_INIT;
	unsigned status;

	*p = (struct mcp_post){.m = m, .next = m->posts, .fn = fn, .ctx = ctx};
	m->posts = p;
	root = jsonrpc_parse(in->body, &e);
	if (!root) {
		post_fail(p, 400, JSONRPC_PARSE_ERROR, e.text);
		return NULL;
	}
	p->is_batch = json_is_array(root);
	status = post_session(p, in, message_is_initialize(root), &why);
	if (status == 0 && p->is_batch) {
		why = post_batch_refusal(p, root);
		status = why ? 400 : 0;
	}
	if (status != 0) {
		post_fail(p, status, JSONRPC_INVALID_REQUEST, why);
		return NULL;
	}
	post_begin(p, root);
	return post_settle(p) ? NULL : p;
}

/* One that may be answered now. */
static struct mcp_post *mcp_open_post(struct mcp *m, uint64_t session)
{
	for (struct mcp_post *p = m->posts; p; p = p->next) {
		if (p->session == session && !p->is_beginning)
			return p;
	}
	return NULL;
}

/* An answer that is sent lets its connection go on to its next request, here and now: nothing of
 * the list is remembered from one to the next. */
unsigned mcp_end_session(struct mcp *m, const struct mcp_in *in)
{
	struct mcp_post *p;
	struct session *s;
	const char *why;
	unsigned status = session_check(&m->sessions, in, &s, &why);
	uint64_t serial;

	if (status != 0)
		return status;
	serial = s->serial;
	session_end(s);
	while ((p = mcp_open_post(m, serial)))
		post_fail(p, 404, JSONRPC_INVALID_REQUEST, "This session has ended");
	return 200;
}
