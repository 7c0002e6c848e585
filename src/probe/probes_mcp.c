/*
 * H06: messages that no client of good faith sends. What must come back is an error; a result is
 * one too many. In the end a good one must still be answered, and the tools be what they were.
 */
#include "probe/probe_mcp.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <poll.h>
#include <sys/socket.h>

#define GIANT_BYTES (300u << 10)
#define DEEP	    200
#define TOOLS_MAX   32768
#define SMUGGLED_MS 300

static struct probe_mcp mcp;

static void must(int ret)
{
	if (ret < 0)
		die("a message grew too large");
}

static void report(const char *id, const char *label, uint64_t start_ns)
{
	char detail[200];

	probe_mcp_describe(&mcp.reply, detail, sizeof(detail));
	probe_report(id, label, "", probe_mcp_is_result(&mcp.reply),
		     (time_monotonic_ns() - start_ns) / 1000, detail);
}

/* --- messages --- */

#define PING "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}"

static const struct {
	const char *label, *body;
} messages[] = {
	{"no-json", "ping"},
	{"two-texts", PING PING},
	{"cut", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\""},
	{"duplicate-id", "{\"jsonrpc\":\"2.0\",\"id\":7,\"id\":8,\"method\":\"ping\"}"},
	{"duplicate-method",
	 "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"nothing\",\"method\":\"ping\"}"},
	{"duplicate-argument",
	 "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{"
	 "\"name\":\"network_policy\",\"name\":\"network_policy\",\"arguments\":{}}}"},
	{"batch", "[" PING "," PING "]"},
	{"batch-of-nothing", "[]"},
	{"batch-in-batch", "[[" PING "]]"},
	{"bad-utf8", "{\"jsonrpc\":\"2.0\",\"id\":\"\xff\xfe\",\"method\":\"ping\"}"},
	{"overlong-utf8", "{\"jsonrpc\":\"2.0\",\"id\":\"\xc0\xaf\",\"method\":\"ping\"}"},
	{"half-surrogate", "{\"jsonrpc\":\"2.0\",\"id\":\"\\ud800\",\"method\":\"ping\"}"},
	{"nul", "{\"jsonrpc\":\"2.0\",\"id\":\"\\u0000\",\"method\":\"ping\"}"},
	{"nul-key", "{\"jsonrpc\":\"2.0\",\"id\":7,\"met\\u0000hod\":1,\"method\":\"ping\"}"},
	{"id-null", "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}"},
	{"id-list", "{\"jsonrpc\":\"2.0\",\"id\":[7],\"method\":\"ping\"}"},
	{"id-fraction", "{\"jsonrpc\":\"2.0\",\"id\":7.5,\"method\":\"ping\"}"},
	{"id-huge", "{\"jsonrpc\":\"2.0\",\"id\":99999999999999999999,\"method\":\"ping\"}"},
	{"no-version", "{\"id\":7,\"method\":\"ping\"}"},
	{"other-version", "{\"jsonrpc\":\"1.0\",\"id\":7,\"method\":\"ping\"}"},
	{"params-list", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\",\"params\":[]}"},
	{"method-unknown", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"resources/read\"}"},
	{"method-of-clients",
	 "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"sampling/createMessage\"}"},
	{"method-case", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"Ping\"}"},
	{"method-number", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":1}"},
	{"unsolicited-result", "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"state\":\"granted\"}}"},
	{"unsolicited-error",
	 "{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":1,\"message\":\"\"}}"},
	{"result-and-method",
	 "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\",\"result\":{\"state\":\"granted\"}}"},
	{"tool-unknown", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{"
			 "\"name\":\"nothing\",\"arguments\":{}}}"},
	{"argument-unknown", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{"
			     "\"name\":\"network_policy\",\"arguments\":{\"allow\":\"*\"}}}"},
	{"argument-type", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{"
			  "\"name\":\"request_status\",\"arguments\":{\"id\":\"1\"}}}"},
	{"argument-negative", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{"
			      "\"name\":\"request_status\",\"arguments\":{\"id\":-1}}}"},
	{"cursor", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{"
		   "\"cursor\":\"../..\"}}"},
};

static void try_messages(const char *id)
{
	for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
		uint64_t start_ns = time_monotonic_ns();

		probe_mcp_post(&mcp, str_of(messages[i].body));
		report(id, messages[i].label, start_ns);
	}
}

static void try_giant(const char *id)
{
	struct buf body = BUF_INIT(2 * GIANT_BYTES);
	uint64_t start_ns = time_monotonic_ns();
	char *at;

	must(buf_append_str(&body, STR_LIT("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\","
					   "\"params\":{\"a\":\"")));
	at = buf_reserve(&body, GIANT_BYTES);
	memset(at, 'a', GIANT_BYTES);
	buf_commit(&body, GIANT_BYTES);
	must(buf_append_str(&body, STR_LIT("\"}}")));
	probe_mcp_post(&mcp, buf_str(&body));
	report(id, "giant", start_ns);
	buf_free(&body);
}

static void try_deep(const char *id, const char *label, char open, char close)
{
	struct buf body = BUF_INIT(65536);
	uint64_t start_ns = time_monotonic_ns();

	must(buf_append_str(&body, STR_LIT("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\","
					   "\"params\":{\"a\":")));
	for (int i = 0; i < DEEP; i++)
		must(open == '[' ? buf_append(&body, "[", 1)
				 : buf_append_str(&body, STR_LIT("{\"a\":")));
	must(buf_append(&body, "1", 1));
	for (int i = 0; i < DEEP; i++)
		must(buf_append(&body, &close, 1));
	must(buf_append_str(&body, STR_LIT("}}")));
	probe_mcp_post(&mcp, buf_str(&body));
	report(id, label, start_ns);
	buf_free(&body);
}

/* --- heads --- */

/* %H: Host, %S: the session. */
static const struct {
	const char *label, *head, *body;
} heads[] = {
	{"host-name",
	 "POST /mcp HTTP/1.1\r\nHost: rebound.selftest.example\r\n%S" PROBE_MCP_FIELDS
	 "Content-Length: 40\r\n",
	 PING},
	{"host-loopback",
	 "POST /mcp HTTP/1.1\r\nHost: localhost:9100\r\n%S" PROBE_MCP_FIELDS
	 "Content-Length: 40\r\n",
	 PING},
	{"host-twice",
	 "POST /mcp HTTP/1.1\r\n%HHost: other.selftest.example\r\n%S" PROBE_MCP_FIELDS
	 "Content-Length: 40\r\n",
	 PING},
	{"no-host", "POST /mcp HTTP/1.1\r\n%S" PROBE_MCP_FIELDS "Content-Length: 40\r\n", PING},
	{"origin",
	 "POST /mcp HTTP/1.1\r\n%H%SOrigin: https://other.selftest.example\r\n" PROBE_MCP_FIELDS
	 "Content-Length: 40\r\n",
	 PING},
	{"origin-null",
	 "POST /mcp HTTP/1.1\r\n%H%SOrigin: null\r\n" PROBE_MCP_FIELDS "Content-Length: 40\r\n",
	 PING},
	{"no-session", "POST /mcp HTTP/1.1\r\n%H" PROBE_MCP_FIELDS "Content-Length: 40\r\n", PING},
	{"other-session",
	 "POST /mcp HTTP/1.1\r\n%HMcp-Session-Id: 0123456789abcdef0123456789abcdef"
	 "\r\n" PROBE_MCP_FIELDS "Content-Length: 40\r\n",
	 PING},
	{"two-sessions",
	 "POST /mcp HTTP/1.1\r\n%H%SMcp-Session-Id: 0\r\n" PROBE_MCP_FIELDS
	 "Content-Length: 40\r\n",
	 PING},
	{"no-such-version",
	 "POST /mcp HTTP/1.1\r\n%H%SMCP-Protocol-Version: 1999-01-01\r\n" PROBE_MCP_FIELDS
	 "Content-Length: 40\r\n",
	 PING},
	{"query", "POST /mcp?a=b HTTP/1.1\r\n%H%S" PROBE_MCP_FIELDS "Content-Length: 40\r\n", PING},
	{"encoded-path",
	 "POST /%6dcp/mcp HTTP/1.1\r\n%H%S" PROBE_MCP_FIELDS "Content-Length: 40\r\n", PING},
	{"get", "GET /mcp HTTP/1.1\r\n%H%SAccept: text/event-stream\r\n", ""},
	{"text-plain",
	 "POST /mcp HTTP/1.1\r\n%H%SContent-Type: text/plain\r\n"
	 "Content-Length: 40\r\n",
	 PING},
	{"form",
	 "POST /mcp HTTP/1.1\r\n%H%SContent-Type: application/x-www-form-urlencoded\r\n"
	 "Content-Length: 40\r\n",
	 PING},
	{"gzip",
	 "POST /mcp HTTP/1.1\r\n%H%SContent-Encoding: gzip\r\n" PROBE_MCP_FIELDS
	 "Content-Length: 40\r\n",
	 PING},
	{"length-and-chunks",
	 "POST /mcp HTTP/1.1\r\n%H%STransfer-Encoding: chunked\r\n" PROBE_MCP_FIELDS
	 "Content-Length: 40\r\n",
	 "28\r\n" PING "\r\n0\r\n\r\n"},
	{"two-lengths",
	 "POST /mcp HTTP/1.1\r\n%H%SContent-Length: 41\r\n" PROBE_MCP_FIELDS
	 "Content-Length: 40\r\n",
	 PING},
	{"length-sign", "POST /mcp HTTP/1.1\r\n%H%S" PROBE_MCP_FIELDS "Content-Length: +40\r\n",
	 PING},
	{"chunk-size", "POST /mcp HTTP/1.1\r\n%H%STransfer-Encoding: chunked\r\n" PROBE_MCP_FIELDS,
	 "0x28\r\n" PING "\r\n0\r\n\r\n"},
	{"chunked-twice",
	 "POST /mcp HTTP/1.1\r\n%H%STransfer-Encoding: chunked, chunked\r\n" PROBE_MCP_FIELDS,
	 "28\r\n" PING "\r\n0\r\n\r\n"},
	{"chunked-not",
	 "POST /mcp HTTP/1.1\r\n%H%STransfer-Encoding: xchunked\r\n" PROBE_MCP_FIELDS,
	 "28\r\n" PING "\r\n0\r\n\r\n"},
	{"folded",
	 "POST /mcp HTTP/1.1\r\n%H%SX-Folded: a\r\n b\r\n" PROBE_MCP_FIELDS
	 "Content-Length: 40\r\n",
	 PING},
	{"space-before-colon",
	 "POST /mcp HTTP/1.1\r\n%H%S" PROBE_MCP_FIELDS "Content-Length : 40\r\n", PING},
};

/* Each %H and %S filled in. */
static void append_head(struct buf *out, const char *head)
{
	char host[80];

	probe_mcp_host(mcp.env, host, sizeof(host));
	for (; *head; head++) {
		if (head[0] == '%' && head[1] == 'H') {
			must(buf_printf(out, "Host: %s\r\n", host));
			head++;
		} else if (head[0] == '%' && head[1] == 'S') {
			must(buf_printf(out, "Mcp-Session-Id: %s\r\n", mcp.session));
			head++;
		} else {
			must(buf_append(out, head, 1));
		}
	}
	must(buf_append(out, "\r\n", 2));
}

static void try_heads(const char *id)
{
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		struct buf out = BUF_INIT(4096);
		uint64_t start_ns = time_monotonic_ns();

		append_head(&out, heads[i].head);
		must(buf_append_str(&out, str_of(heads[i].body)));
		probe_mcp_send(&mcp, buf_str(&out));
		report(id, heads[i].label, start_ns);
		buf_free(&out);
	}
}

/* The second of two in one write, where the first is refused for what it is: is it still heard? */
static void try_smuggled(const char *id)
{
	_cleanup_close_ int fd = probe_mcp_connect(mcp.env);
	struct buf out = BUF_INIT(4096);
	uint64_t start_ns = time_monotonic_ns();
	char said[8192];
	size_t n = 0;

	append_head(&out, "POST /mcp HTTP/1.1\r\n%H%S" PROBE_MCP_FIELDS
			  "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n");
	must(buf_append_str(&out, STR_LIT("0\r\n\r\n")));
	append_head(&out, "POST /mcp HTTP/1.1\r\n%H%S" PROBE_MCP_FIELDS "Content-Length: 40\r\n");
	must(buf_append_str(&out, STR_LIT(PING)));
	if (fd >= 0)
		(void)!io_write_all(fd, out.p + out.from, buf_len(&out));
	while (fd >= 0 && n < sizeof(said) && io_wait(fd, POLLIN, SMUGGLED_MS) == 1) {
		ssize_t got = recv(fd, said + n, sizeof(said) - n, 0);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	probe_report(id, "smuggled", "", memmem(said, n, "\"result\":", 9) != NULL,
		     (time_monotonic_ns() - start_ns) / 1000, "the second of two requests");
	buf_free(&out);
}

/* --- an id that is in flight --- */

static void try_id_reuse(const char *id)
{
	static const char waits[] =
		"{\"jsonrpc\":\"2.0\",\"id\":\"twice\",\"method\":\"tools/call\",\"params\":{"
		"\"name\":\"request_capability\",\"arguments\":{\"what\":\"a second pair of eyes\","
		"\"reason\":\"to wait for\",\"wait_seconds\":5}}}";
	static const char again[] = "{\"jsonrpc\":\"2.0\",\"id\":\"twice\",\"method\":\"ping\"}";
	_cleanup_close_ int fd = probe_mcp_connect(mcp.env);
	struct buf out = BUF_INIT(4096);
	uint64_t start_ns = time_monotonic_ns();

	must(probe_mcp_head(&mcp, &out));
	must(buf_printf(&out, "Content-Length: %zu\r\n\r\n%s", strlen(waits), waits));
	if (fd >= 0)
		(void)!io_write_all(fd, out.p + out.from, buf_len(&out));
	(void)usleep(100000);
	probe_mcp_post(&mcp, STR_LIT(again));
	report(id, "id-in-flight", start_ns);
	buf_free(&out);
}

/* --- all of it --- */

static void list_tools(char out[TOOLS_MAX])
{
	const char *body;

	probe_mcp_post(&mcp, STR_LIT("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}"));
	body = strstr(mcp.reply.text, "\r\n\r\n");
	(void)snprintf(out, TOOLS_MAX, "%s", body ? body + 4 : "");
}

static void run_h06(const struct probe_env *env, const char *id)
{
	static char before[TOOLS_MAX], after[TOOLS_MAX];
	char detail[200];
	bool is_answered;

	if (!probe_mcp_open(&mcp, env)) {
		probe_report_arrival(id, "session", false, 0, mcp.reply.error);
		return;
	}
	list_tools(before);
	try_messages(id);
	try_giant(id);
	try_deep(id, "deep-lists", '[', ']');
	try_deep(id, "deep-objects", '{', '}');
	try_heads(id);
	try_smuggled(id);
	try_id_reuse(id);
	list_tools(after);
	probe_report(id, "other-tools", "", strcmp(before, after) != 0, 0,
		     "the tools are not what they were");
	is_answered = probe_mcp_call(&mcp, "network_policy", "{}");
	probe_mcp_describe(&mcp.reply, detail, sizeof(detail));
	probe_report_arrival(id, "good-call", is_answered && before[0], 0, detail);
}

const struct probe probes_mcp[] = {{"H06", run_h06}};
const size_t n_probes_mcp = ARRAY_LEN(probes_mcp);
