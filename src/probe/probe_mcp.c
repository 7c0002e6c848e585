#include "probe/probe_mcp.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"

#include <time.h>

#define MCP_CONNECT_MS	1000
#define MCP_MESSAGE_MAX (1u << 20)
#define MCP_PATIENCE	10 /* seconds */

static void must(int ret)
{
	if (ret < 0)
		die("a message grew too large");
}

int probe_mcp_connect(const struct probe_env *env)
{
	return probe_connect(env->pinned ? env->pinned : "", env->mcp, MCP_CONNECT_MS);
}

void probe_mcp_host(const struct probe_env *env, char *out, size_t size)
{
	(void)snprintf(out, size, "%s:%u", env->pinned ? env->pinned : "", env->mcp);
}

void probe_mcp_send(struct probe_mcp *m, struct str request)
{
	_cleanup_close_ int fd = probe_mcp_connect(m->env);
	struct probe_reply *r = &m->reply;

	r->n = 0;
	r->status = 0;
	r->text[0] = r->error[0] = '\0';
	if (fd < 0) {
		(void)snprintf(r->error, sizeof(r->error), "supervise: %s", strerror(-fd));
		return;
	}
	/* One that is refused early may not take the rest. */
	(void)!io_write_all(fd, request.p, request.n);
	probe_read_reply(fd, r);
}

int probe_mcp_head(const struct probe_mcp *m, struct buf *out)
{
	char host[80];

	probe_mcp_host(m->env, host, sizeof(host));
	return buf_printf(out, "POST /mcp HTTP/1.1\r\nHost: %s\r\n" PROBE_MCP_FIELDS "%s%s%s", host,
			  m->session[0] ? "Mcp-Session-Id: " : "", m->session,
			  m->session[0] ? "\r\n" : "");
}

void probe_mcp_post(struct probe_mcp *m, struct str body)
{
	struct buf out = BUF_INIT(MCP_MESSAGE_MAX);

	must(probe_mcp_head(m, &out));
	must(buf_printf(&out, "Content-Length: %zu\r\n\r\n", body.n));
	must(buf_append_str(&out, body));
	probe_mcp_send(m, buf_str(&out));
	buf_free(&out);
}

bool probe_mcp_open(struct probe_mcp *m, const struct probe_env *env)
{
	static const char body[] =
		"{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{"
		"\"protocolVersion\":\"2025-11-25\",\"capabilities\":{},"
		"\"clientInfo\":{\"name\":\"probe\",\"version\":\"1\"}}}";
	struct str session;
	const char *at;

	*m = (struct probe_mcp){.env = env};
	probe_mcp_post(m, STR_LIT(body));
	at = strcasestr(m->reply.text, "\r\nMcp-Session-Id: ");
	if (!at)
		return false;
	session = str_of(at + 18);
	return str_to_cstr(m->session, sizeof(m->session),
			   str_sub(session, 0, str_chr(session, '\r')));
}

bool probe_mcp_is_result(const struct probe_reply *r)
{
	return r->status == 200 && strstr(r->text, "\"result\":") &&
	       !strstr(r->text, "\"isError\":true");
}

void probe_mcp_describe(const struct probe_reply *r, char *out, size_t size)
{
	const char *message = strstr(r->text, "\"message\":");

	(void)snprintf(out, size, "status %d %.140s%s", r->status, message ? message : "",
		       r->error);
}

/* What a tool said, which stands there once more as a text. */
static void take_answer(struct probe_mcp *m)
{
	const char *content = strstr(m->reply.text, "\"structuredContent\":");
	const char *state = content ? strstr(content, "\"state\":\"") : NULL;
	const char *number = content ? strstr(content, "\"id\":") : NULL;

	m->state[0] = '\0';
	m->number = number ? strtoull(number + 5, NULL, 10) : 0;
	if (state)
		(void)snprintf(m->state, sizeof(m->state), "%.*s", (int)strcspn(state + 9, "\""),
			       state + 9);
}

bool probe_mcp_call(struct probe_mcp *m, const char *tool, const char *arguments)
{
	struct buf body = BUF_INIT(MCP_MESSAGE_MAX);

	must(buf_printf(&body,
			"{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"tools/call\",\"params\":{"
			"\"name\":\"%s\",\"arguments\":%s}}",
			++m->n, tool, arguments));
	probe_mcp_post(m, buf_str(&body));
	buf_free(&body);
	take_answer(m);
	return probe_mcp_is_result(&m->reply);
}

bool probe_mcp_call_patiently(struct probe_mcp *m, const char *tool, const char *arguments)
{
	const struct timespec second = {.tv_sec = 1};
	bool is_result = probe_mcp_call(m, tool, arguments);

	for (int i = 0; i < MCP_PATIENCE && strcmp(m->state, "limited") == 0; i++) {
		(void)nanosleep(&second, NULL);
		is_result = probe_mcp_call(m, tool, arguments);
	}
	return is_result;
}

char *probe_mcp_json(struct str s)
{
	struct buf out = BUF_INIT(MCP_MESSAGE_MAX);

	must(text_json(&out, s));
	must(buf_append(&out, "", 1));
	return out.p;
}
