/*
 * `supervise --web` as a browser would use it, and as a page of somebody else's in the same browser
 * would: that one has the cookie sent along, and with DNS rebinding even another name for the
 * address. The control is the canary's page, which asks nobody for anything.
 */
#include "selftest/supervise.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#define PAGE_START_MS  10000
#define PAGE_ANSWER_MS 5000
#define PAGE_READ      65536
#define PAGE_MAX       (8u << 20)
#define PAGE_LINE      "http://127."

/* One request on a connection of its own; the whole answer. Its status, or -errno. */
static int exchange(const struct page_place *to, struct str request, struct buf *answer)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(to->port)};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint64_t status;

	if (inet_pton(AF_INET, to->host, &sa.sin_addr) != 1)
		return -EINVAL;
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    io_write_all(fd, request.p, request.n) < 0)
		return -errno;
	(void)shutdown(fd, SHUT_WR);
	while (io_wait(fd, POLLIN, PAGE_ANSWER_MS) == 1) {
		char *at = buf_reserve(answer, PAGE_READ);
		ssize_t n = at ? recv(fd, at, PAGE_READ, 0) : -1;

		if (n <= 0)
			break;
		buf_commit(answer, (size_t)n);
	}
	if (buf_len(answer) < 12 || str_to_u64(str_sub(buf_str(answer), 9, 12), 999, &status) < 0)
		return -EPROTO;
	return (int)status;
}

static bool take_between(struct str text, const char *before, char end, char *out, size_t size)
{
	size_t at = str_find(text, str_of(before));

	text = str_sub(text, at + strlen(before), text.n);
	return text.n > 0 && str_to_cstr(out, size, str_sub(text, 0, str_chr(text, end)));
}

/* "http://127.A.B.C:PORT/#TOKEN" on a line of its own. */
static int read_address(struct page *p, struct suite *s, char token[128], struct err *e)
{
	char authority[32];
	struct str whole, text, host, port;
	uint64_t number = 0;
	bool is_there;

	if (!suite_await_line(s, &p->process, PAGE_LINE, PAGE_START_MS))
		return err_set(e, -EPROTO, "supervise --web does not say where it is");
	if (scratch_output(&s->scratch, p->process.name, &whole, e) < 0)
		return e->code;
	text = str_sub(whole, str_find(whole, STR_LIT(PAGE_LINE)), whole.n);
	is_there = take_between(text, "http://", '/', authority, sizeof(authority)) &&
		   take_between(text, "/#", '\n', token, 128);
	port = str_cut(str_of(is_there ? authority : ""), ':', &host, &is_there);
	is_there = is_there && str_to_cstr(p->at.host, sizeof(p->at.host), host) &&
		   str_to_u64(port, 65535, &number) == 0;
	p->at.port = (uint16_t)number;
	free((char *)(uintptr_t)whole.p);
	return is_there ? 0 : err_set(e, -EPROTO, "supervise --web says something else");
}

static int take_session(struct page *p, const char *token, struct err *e)
{
	_cleanup_free_ char *request = mem_printf(
		"POST /api/session HTTP/1.1\r\nHost: %s:%u\r\n"
		"Origin: http://%s:%u\r\nContent-Type: application/json\r\n"
		"Connection: close\r\nContent-Length: %zu\r\n\r\n{\"token\":\"%s\"}",
		p->at.host, p->at.port, p->at.host, p->at.port, strlen(token) + 12, token);
	struct buf answer = BUF_INIT(PAGE_MAX);
	int status = exchange(&p->at, str_of(request), &answer);
	bool is_good =
		status == 200 &&
		take_between(buf_str(&answer), "Set-Cookie: ", ';', p->cookie, sizeof(p->cookie)) &&
		take_between(buf_str(&answer), "{\"secret\":\"", '"', p->secret, sizeof(p->secret));

	buf_free(&answer);
	return is_good ? 0 : err_set(e, -EPROTO, "supervise --web gives no session: %d", status);
}

int page_open(struct page *p, struct suite *s, struct err *e)
{
	char token[128];
	int ret;

	suite_add(s, mem_strdup(s->scratch.self));
	suite_add(s, mem_strdup("supervise"));
	suite_add(s, mem_strdup("--web"));
	ret = suite_spawn(s, "page", &p->process, e);
	if (ret == 0)
		ret = read_address(p, s, token, e);
	return ret == 0 ? take_session(p, token, e) : ret;
}

int page_get(const struct page *p, const char *path, struct buf *out, struct err *e)
{
	_cleanup_free_ char *request =
		mem_printf("GET %s HTTP/1.1\r\nHost: %s:%u\r\nCookie: %s\r\n"
			   "X-Claude-Bottle: %s\r\nConnection: close\r\n\r\n",
			   path, p->at.host, p->at.port, p->cookie, p->secret);
	struct buf answer = BUF_INIT(PAGE_MAX);
	int status = exchange(&p->at, str_of(request), &answer);
	struct str text = buf_str(&answer);
	size_t head = str_find(text, STR_LIT("\r\n\r\n"));
	int ret = status == 200 ? buf_append_str(out, str_sub(text, head + 4, text.n))
				: err_set(e, -EIO, "%s: status %d", path, status);

	buf_free(&answer);
	return ret;
}

/* --- H02 --- */

/* %A: address and port, %P: the port. What a browser adds by itself, the cookie, is added to each;
 * the secret of the page, which no other page has, only where something else has to stop it. */
static const struct {
	const char *label, *head;
	bool has_secret;
} attacks[] = {
	{"no-origin", "Host: %A\r\nContent-Type: application/json\r\n", true},
	{"foreign-origin",
	 "Host: %A\r\nOrigin: https://other.selftest.example\r\n"
	 "Content-Type: application/json\r\n",
	 true},
	{"null-origin", "Host: %A\r\nOrigin: null\r\nContent-Type: application/json\r\n", true},
	{"other-port",
	 "Host: %A\r\nOrigin: http://127.0.0.1:1\r\n"
	 "Content-Type: application/json\r\n",
	 true},
	{"other-site",
	 "Host: %A\r\nOrigin: http://%A\r\n"
	 "Sec-Fetch-Site: cross-site\r\nContent-Type: application/json\r\n",
	 true},
	{"rebound-host",
	 "Host: other.selftest.example:%P\r\n"
	 "Origin: http://other.selftest.example:%P\r\n"
	 "Content-Type: application/json\r\n",
	 true},
	{"localhost",
	 "Host: localhost:%P\r\nOrigin: http://localhost:%P\r\n"
	 "Content-Type: application/json\r\n",
	 true},
	{"form",
	 "Host: %A\r\nOrigin: http://%A\r\n"
	 "Content-Type: text/plain\r\n",
	 true},
	{"no-secret",
	 "Host: %A\r\nOrigin: http://%A\r\n"
	 "Content-Type: application/json\r\n",
	 false},
};

/* To the harm of nobody: it names a bottle that there is not. */
static const char decision[] = "{\"slug\":\"nobody-1\",\"granted\":true,\"id\":1,"
			       "\"scope\":\"once\",\"hash\":"
			       "\"0000000000000000000000000000000000000000000000000000000000000000"
			       "\"}";

static void append_filled(struct buf *out, const char *text, const struct page_place *to, int *ret)
{
	for (const char *at; (at = strchr(text, '%')); text = at + 2) {
		*ret |= buf_printf(out, "%.*s", (int)(at - text), text);
		*ret |= at[1] == 'A' ? buf_printf(out, "%s:%u", to->host, to->port)
				     : buf_printf(out, "%u", to->port);
	}
	*ret |= buf_append_str(out, str_of(text));
}

static void attack_one(const struct page *p, const struct page_place *to, struct selftest_try *t,
		       const char *head, bool has_secret)
{
	struct buf request = BUF_INIT(8192), answer = BUF_INIT(PAGE_MAX);
	int ret = buf_append_str(&request, STR_LIT("POST /api/decide HTTP/1.1\r\n")), status;

	append_filled(&request, head, to, &ret);
	ret |= buf_printf(&request, "Cookie: %s\r\n", p->cookie);
	if (has_secret)
		ret |= buf_printf(&request, "X-Claude-Bottle: %s\r\n", p->secret);
	ret |= buf_printf(&request, "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
			  strlen(decision), decision);
	status = ret ? -ENOBUFS : exchange(to, buf_str(&request), &answer);
	t->is_through = status / 100 == 2;
	(void)snprintf(t->detail, sizeof(t->detail), "status %d", status);
	buf_free(&request);
	buf_free(&answer);
}

/* What the page itself sends is heard, or all the others would prove nothing. */
static void try_own(const struct page *p, struct suite *s)
{
	struct selftest_try *t = suite_try(s, SELFTEST_RUN_AGENT, "H02", "own-page");

	t->is_wanted = true;
	attack_one(p, &p->at, t,
		   "Host: %A\r\nOrigin: http://%A\r\n"
		   "Content-Type: application/json\r\n",
		   true);
	t = suite_try(s, SELFTEST_RUN_CONTROL, "H02", "own-page");
	t->is_through = true;
}

void page_attack(const struct page *p, struct suite *s)
{
	struct page_place open = {.host = "127.0.0.1"};
	char text[8];
	uint64_t naive = 0;

	if (scratch_target(&s->scratch, "mcp", text, sizeof(text)))
		(void)!str_to_u64(str_of(text), 65535, &naive);
	open.port = (uint16_t)naive;
	for (size_t i = 0; i < ARRAY_LEN(attacks); i++) {
		attack_one(p, &p->at, suite_try(s, SELFTEST_RUN_AGENT, "H02", attacks[i].label),
			   attacks[i].head, attacks[i].has_secret);
		attack_one(p, &open, suite_try(s, SELFTEST_RUN_CONTROL, "H02", attacks[i].label),
			   attacks[i].head, attacks[i].has_secret);
	}
	try_own(p, s);
}
