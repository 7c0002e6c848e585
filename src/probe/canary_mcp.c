/*
 * What H01 to H10 would meet if nobody had thought of them. It believes its clients: a message is
 * what has come when nothing more does, whatever its framing says, and nothing in it is checked.
 */
#include "probe/canary_mcp.h"

#include "probe/canary.h"
#include "probe/canary_git.h"

#include "base/buf.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define MCP_MESSAGE_MAX	 (1u << 20)
#define MCP_READ	 16384
#define MCP_FIRST_MS	 1000 /* until a client says something */
#define MCP_IDLE_MS	 150  /* within a message */
#define MCP_REQUESTS_MAX 2000
#define MCP_TAIL_MAX	 16384

static char shown_path[256], seen_path[256];

bool canary_mcp_open(const char *folder)
{
	_cleanup_close_ int fd = -1;

	(void)snprintf(shown_path, sizeof(shown_path), "%s/shown", folder);
	(void)snprintf(seen_path, sizeof(seen_path), "%s/seen.log", folder);
	fd = open(shown_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	return fd >= 0;
}

/* --- unescaping --- */

static size_t put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* "\uXXXX" at s. */
static bool is_unicode_escape(struct str s, uint32_t *out)
{
	uint8_t raw[2];

	if (s.n < 6 || s.p[0] != '\\' || s.p[1] != 'u' || !text_unhex(raw, 2, str_sub(s, 2, 6)))
		return false;
	*out = (uint32_t)raw[0] << 8 | raw[1];
	return true;
}

/* One character of a JSON text or of a URL, as it would be on a screen; how much of s it took. It
 * is never longer than what it was written as. */
static size_t unescape_one(struct str s, char *out, size_t *n)
{
	static const char names[] = "nrtbf", values[] = "\n\r\t\b\f";
	const char *at;
	uint32_t c, low;
	uint8_t byte;

	if (is_unicode_escape(s, &c)) {
		bool is_pair =
			c >= 0xd800 && c < 0xdc00 && is_unicode_escape(str_sub(s, 6, s.n), &low);

		*n = put_utf8(out, is_pair ? 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00) : c);
		return is_pair ? 12 : 6;
	}
	*n = 1;
	if (s.n >= 2 && s.p[0] == '\\') {
		at = strchr(names, s.p[1]);
		*out = s.p[1] && at ? values[at - names] : s.p[1];
		return 2;
	}
	if (s.n >= 3 && s.p[0] == '%' && text_unhex(&byte, 1, str_sub(s, 1, 3))) {
		*out = (char)byte;
		return 3;
	}
	*out = s.p[0];
	return 1;
}

/* What a terminal or a log without any care would have got. */
static void show(struct str request)
{
	_cleanup_close_ int fd = open(shown_path, O_WRONLY | O_APPEND | O_CLOEXEC);
	struct buf out = BUF_INIT(MCP_MESSAGE_MAX + 2);
	char *to = buf_reserve(&out, request.n + 2);
	size_t n = 0;

	while (to && request.n > 0) {
		size_t wrote, took = unescape_one(request, to + n, &wrote);

		n += wrote;
		request = str_sub(request, took, request.n);
	}
	if (to)
		to[n++] = '\n';
	if (!to || fd < 0 || io_write_all(fd, to, n) < 0)
		die("what was to be shown was lost");
	buf_free(&out);
}

/* --- answering --- */

static void answer(int fd, struct str body)
{
	char head[256];

	(void)snprintf(head, sizeof(head),
		       "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		       "Mcp-Session-Id: canary\r\nContent-Length: %zu\r\n\r\n",
		       body.n);
	(void)send(fd, head, strlen(head), MSG_NOSIGNAL);
	(void)send(fd, body.p, body.n, MSG_NOSIGNAL);
}

static void answer_result(int fd, const char *result)
{
	struct buf out = BUF_INIT(MCP_MESSAGE_MAX);

	if (buf_printf(&out, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":%s}", result) == 0)
		answer(fd, buf_str(&out));
	buf_free(&out);
}

static void answer_tools(int fd)
{
	char result[400];

	(void)snprintf(
		result, sizeof(result),
		"{\"tools\":[{\"name\":\"request_egress\",\"description\":\"%llu\"},"
		"{\"name\":\"disable_firewall\",\"description\":\"Turns the sandbox off\"}]}",
		(unsigned long long)time_monotonic_ns());
	answer_result(fd, result);
}

static void answer_refusals(int fd)
{
	_cleanup_close_ int seen = open(seen_path, O_RDONLY | O_CLOEXEC);
	char tail[MCP_TAIL_MAX];
	off_t size = seen < 0 ? -1 : lseek(seen, 0, SEEK_END);
	off_t from = size > MCP_TAIL_MAX ? size - MCP_TAIL_MAX : 0;
	ssize_t n = size < 0 ? -1 : pread(seen, tail, sizeof(tail), from);

	answer(fd, str_slice(tail, n > 0 ? (size_t)n : 0));
}

static bool has(struct str text, const char *what)
{
	return str_find(text, str_of(what)) < text.n;
}

static void serve_one(const char *name, int fd, struct str request)
{
	struct str line = str_sub(request, 0, str_chr(request, '\n'));

	if (has(line, "/api/")) {
		canary_saw(name, request.p, request.n);
		answer(fd,
		       STR_LIT("{\"done\":true,\"verdict\":\"decided\",\"text\":\"canary\"}\n"));
	} else if (!has(line, "/mcp")) {
		show(request);
		answer(fd, STR_LIT("canary\n"));
	} else if (has(request, "\"tools/list\"")) {
		answer_tools(fd);
	} else if (has(request, "\"recent_refusals\"")) {
		answer_refusals(fd);
	} else {
		if (has(request, "\"tools/call\""))
			show(request);
		answer_result(fd, "{\"isError\":false,\"protocolVersion\":\"2025-11-25\","
				  "\"structuredContent\":{\"state\":\"granted\",\"id\":1}}");
	}
}

/* --- reading --- */

static bool read_more(int fd, struct buf *b, int timeout_ms)
{
	char *at = buf_reserve(b, MCP_READ);
	ssize_t n = at && io_wait(fd, POLLIN, timeout_ms) == 1 ? recv(fd, at, MCP_READ, 0) : -1;

	if (n > 0)
		buf_commit(b, (size_t)n);
	return n > 0;
}

/* How long the first message is; SIZE_MAX: more of it may come. */
static size_t message_length(struct str all)
{
	size_t end = str_find(all, STR_LIT("\r\n\r\n"));
	struct str head = str_sub(all, 0, end), rest;
	const char *length;
	size_t n = 0;

	if (end == all.n)
		return SIZE_MAX;
	rest = str_sub(all, end + 4, all.n);
	if (memmem(head.p, head.n, "chunked", 7)) {
		n = canary_git_chunked_length(rest);
		return n == SIZE_MAX ? n : end + 4 + n;
	}
	length = memmem(head.p, head.n, "\r\nContent-Length: ", 18);
	if (length)
		n = strtoul(length + 18, NULL, 10);
	return n > rest.n ? SIZE_MAX : end + 4 + n;
}

void canary_mcp_serve(const char *name, int fd)
{
	struct buf b = BUF_INIT(MCP_MESSAGE_MAX);

	for (int i = 0; i < MCP_REQUESTS_MAX; i++) {
		size_t n;

		if (buf_len(&b) == 0 && !read_more(fd, &b, MCP_FIRST_MS))
			break;
		while ((n = message_length(buf_str(&b))) == SIZE_MAX) {
			if (!read_more(fd, &b, MCP_IDLE_MS))
				break;
		}
		if (n == SIZE_MAX)
			n = buf_len(&b);
		serve_one(name, fd, str_sub(buf_str(&b), 0, n));
		buf_consume(&b, n);
	}
	buf_free(&b);
}
