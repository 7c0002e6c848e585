/*
 * Plays tests/wire/NAME.txt against the relay: raw bytes in, exact bytes out on both sides. Each
 * case is played twice, once with every send in one piece and once byte by byte; both must end
 * alike.
 *
 *   case NAME [proxy|egress|origin] [hold|swap|block|hold-response]
 *   > TEXT     the client sends; waits until all "<" lines before it have been received
 *   < TEXT     the client must receive exactly this
 *   <! STATUS REASON [keep]   the client must receive this refusal, by default with "close"
 *   up> TEXT   the upstream must receive exactly this
 *   up< TEXT   the upstream sends; waits until all "up>" lines before it have been received
 *   up.        the upstream closes, likewise
 *   <.         the client must see the end of the connection; without it, it must stay open
 *   >.         the client sends its end
 *   = OUTCOME REASON   one for each exchange, in order
 *
 * TEXT has \r \n \t \0 \\ \xNN; lines of the same kind are joined. "@N*C" on its own is N times C.
 */
#include "net/relay.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#define STEPS_MAX   64
#define DATA_MAX    (1u << 20)
#define QUIET_TURNS 6
#define TURNS_MAX   400000
#define IDLE_MS	    1000

enum kind { SEND, EXPECT, UP_EXPECT, UP_SEND, UP_CLOSE, SEND_END };

struct step {
	enum kind kind;
	struct buf data;
	size_t need_front, need_up; /* bytes that must have been received before it may happen */
};

struct wire_case {
	char name[96];
	unsigned accept;
	bool is_back_absolute, holds, swaps, blocks, holds_response;
	struct step steps[STEPS_MAX];
	size_t n_steps;
	struct buf answer, upstream;
	bool must_close;
	char outcomes[512];
};

struct player {
	struct wire_case *c;
	struct loop *loop;
	struct relay *relay;
	struct loop_timer timer;
	int client, upstream;
	size_t at, offset; /* step, and byte within it */
	struct buf answer, up;
	bool by_byte, is_closed, was_upstream;
	unsigned quiet, turns;
	uint64_t deadline_ns;
	char outcomes[512];
	struct buf held;
};

/* --- the owner --- */

static enum relay_step on_request(struct relay_exchange *x)
{
	(void)x;
	return RELAY_FORWARD;
}

static enum relay_data hold(struct player *p, struct relay_exchange *x, struct str in, bool is_last,
			    struct buf *out)
{
	if (buf_append_str(&p->held, in) != 0)
		abort();
	if (!is_last)
		return RELAY_DATA_OK;
	if (p->c->blocks || str_find(buf_str(&p->held), STR_LIT("SECRET")) < buf_len(&p->held)) {
		relay_refuse(x, 403, "secret-in-body", STR_NULL);
		return RELAY_DATA_REFUSE;
	}
	if (buf_append_str(out, buf_str(&p->held)) != 0)
		abort();
	buf_reset(&p->held);
	return RELAY_DATA_OK;
}

static enum relay_data swap(struct str in, struct buf *out)
{
	for (size_t i = 0; i < in.n; i++) {
		struct str s = in.p[i] == 'X' ? STR_LIT("<x>") : str_sub(in, i, i + 1);

		if (buf_append_str(out, s) != 0)
			abort();
	}
	return RELAY_DATA_OK;
}

static enum relay_data on_request_data(struct relay_exchange *x, struct str in, bool is_last,
				       struct buf *out)
{
	struct player *p = relay_ctx(x->relay);

	if (p->c->holds || p->c->blocks)
		return hold(p, x, in, is_last, out);
	if (p->c->swaps)
		return swap(in, out);
	x->req_keeps_length = true;
	return RELAY_DATA_PASS;
}

static enum relay_step on_response(struct relay_exchange *x)
{
	struct player *p = relay_ctx(x->relay);

	buf_reset(&p->held);
	x->res_keeps_length = !p->c->swaps && !p->c->holds_response;
	x->res_holds_head = p->c->holds_response;
	return RELAY_FORWARD;
}

static enum relay_data on_response_data(struct relay_exchange *x, struct str in, bool is_last,
					struct buf *out)
{
	struct player *p = relay_ctx(x->relay);

	if (p->c->holds_response)
		return hold(p, x, in, is_last, out);
	return p->c->swaps ? swap(in, out) : RELAY_DATA_PASS;
}

static enum relay_dial dial(struct relay_exchange *x, unsigned attempt,
			    struct relay_back_spec *spec)
{
	struct player *p = relay_ctx(x->relay);
	int fds[2];

	if (attempt > 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return RELAY_DIAL_NONE;
	close_fd(&p->upstream);
	p->upstream = fds[0];
	p->was_upstream = true;
	spec->fd = fds[1];
	return RELAY_DIAL_NOW;
}

static void on_done(struct relay_exchange *x, const struct relay_result *r)
{
	struct player *p = relay_ctx(x->relay);
	size_t n = strlen(p->outcomes);

	(void)snprintf(p->outcomes + n, sizeof(p->outcomes) - n, "%s %s\n",
		       relay_outcome_name(r->outcome), r->reason);
}

static const struct relay_ops ops = {
	.on_request = on_request,
	.on_request_data = on_request_data,
	.dial = dial,
	.on_response = on_response,
	.on_response_data = on_response_data,
	.on_done = on_done,
};

/* --- playing --- */

static bool receive(int fd, struct buf *into, bool *is_end)
{
	bool got_some = false;

	while (fd >= 0) {
		char *at = buf_reserve(into, 65536);
		ssize_t n;

		if (!at)
			abort();
		n = recv(fd, at, 65536, 0);
		if (n <= 0) {
			*is_end |= n == 0 || (errno != EAGAIN && errno != EINTR);
			return got_some;
		}
		buf_commit(into, (size_t)n);
		got_some = true;
	}
	return got_some;
}

static bool transmit(struct player *p, int fd, struct step *s)
{
	struct str rest = str_sub(buf_str(&s->data), p->offset, buf_len(&s->data));
	ssize_t n;

	if (fd < 0)
		return false;
	n = send(fd, rest.p, p->by_byte && rest.n > 1 ? 1 : rest.n, MSG_NOSIGNAL);
	if (n < 0 && errno == EAGAIN)
		return false;
	p->offset += n < 0 ? rest.n : (size_t)n; /* the relay may have closed: the bytes are lost */
	if (p->offset >= buf_len(&s->data)) {
		p->at++;
		p->offset = 0;
	}
	return true;
}

/* One action of the script, if its time has come. */
static bool act(struct player *p)
{
	struct step *s;

	if (p->at == p->c->n_steps)
		return false;
	s = &p->c->steps[p->at];
	if (buf_len(&p->answer) < s->need_front || buf_len(&p->up) < s->need_up)
		return false;
	switch (s->kind) {
	case SEND:
		return transmit(p, p->client, s);
	case UP_SEND:
		return transmit(p, p->upstream, s);
	case UP_CLOSE:
		close_fd(&p->upstream);
		break;
	case SEND_END:
		(void)shutdown(p->client, SHUT_WR);
		break;
	case EXPECT:
	case UP_EXPECT:
		break;
	}
	p->at++;
	return true;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void on_turn(struct loop_timer *t)
{
	struct player *p = (struct player *)((char *)t - offsetof(struct player, timer));
	bool upstream_end = false, moved, is_complete;

	moved = receive(p->client, &p->answer, &p->is_closed);
	moved |= receive(p->upstream, &p->up, &upstream_end);
	moved |= act(p);
	is_complete = p->at == p->c->n_steps && buf_len(&p->answer) >= buf_len(&p->c->answer) &&
		      buf_len(&p->up) >= buf_len(&p->c->upstream) &&
		      p->is_closed == p->c->must_close;
	if (moved) {
		p->quiet = 0;
		p->deadline_ns = now_ns() + IDLE_MS * UINT64_C(1000000);
	}
	/* Some more turns: there might come more than was expected. */
	if ((is_complete && ++p->quiet > QUIET_TURNS) || ++p->turns > TURNS_MAX ||
	    now_ns() > p->deadline_ns) {
		loop_stop(p->loop, 0);
		return;
	}
	loop_timer_set(p->loop, t, moved || is_complete ? 0 : 1);
}

/* Chunk boundaries follow the reads, so byte by byte they differ: a chunked body is compared as one
 * chunk, ended or not. */
static void merge_chunks(struct buf *out, struct str s)
{
	static const struct str mark = STR_LIT("Transfer-Encoding: chunked\r\n\r\n");

	while (s.n > 0) {
		struct http1_head h = {.framing = HTTP1_BODY_CHUNKED};
		size_t at = str_find(s, mark), used;
		struct http1_body body;
		struct str data;
		char *copy;

		at = at < s.n ? at + mark.n : s.n;
		if (buf_append(out, s.p, at) != 0)
			abort();
		s = str_sub(s, at, s.n);
		if (s.n == 0)
			return;
		copy = str_dup(s);
		http1_body_init(&body, &h);
		if (http1_body_decode(&body, copy, s.n, &used, &data) != HTTP1_OK ||
		    buf_append_str(out, data) != 0 ||
		    buf_printf(out, "[%s]", body.is_done ? "end" : "cut") != 0)
			(void)printf("# bad chunked body in an answer\n");
		free(copy);
		s = str_sub(s, used, s.n);
	}
}

static bool same(const struct wire_case *c, bool by_byte, const char *what, struct str want,
		 struct str got)
{
	static char text[2][16384];

	struct buf merged[2];
	bool is_same;

	buf_init(&merged[0], 8u << 20);
	buf_init(&merged[1], 8u << 20);
	merge_chunks(&merged[0], want);
	merge_chunks(&merged[1], got);
	is_same = by_byte ? str_eq(buf_str(&merged[0]), buf_str(&merged[1])) : str_eq(want, got);
	buf_free(&merged[0]);
	buf_free(&merged[1]);
	if (is_same)
		return true;
	text_visible_cstr(text[0], sizeof(text[0]), want);
	text_visible_cstr(text[1], sizeof(text[1]), got);
	(void)printf("# %s: %s\n#   want %s\n#   got  %s\n", c->name, what, text[0], text[1]);
	return false;
}

static bool play(struct wire_case *c, bool by_byte)
{
	struct relay_config config = {.accept = c->accept, .back_is_absolute = c->is_back_absolute};
	struct player p = {.c = c, .by_byte = by_byte, .upstream = -1};
	struct err e = ERR_INIT;
	bool is_ok = true;
	int fds[2];

	buf_init(&p.answer, 4u << 20);
	buf_init(&p.up, 4u << 20);
	buf_init(&p.held, 1u << 20);
	p.deadline_ns = now_ns() + IDLE_MS * UINT64_C(1000000);
	p.loop = loop_new(&e);
	if (!p.loop || relay_new(&p.relay, p.loop, &config, &ops, &p, &e) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	p.client = fds[0];
	if (!relay_front_add(p.relay, fds[1]))
		abort();
	p.timer.fn = on_turn;
	loop_timer_set(p.loop, &p.timer, 0);
	(void)loop_run(p.loop);
	/* An exchange that is still open ends here, as "shutdown". */
	loop_timer_del(p.loop, &p.timer);
	relay_free(p.relay);
	is_ok &= same(c, by_byte, "answer", buf_str(&c->answer), buf_str(&p.answer));
	is_ok &= same(c, by_byte, "to upstream", buf_str(&c->upstream), buf_str(&p.up));
	is_ok &= same(c, by_byte, "outcomes", str_of(c->outcomes), str_of(p.outcomes));
	if (p.is_closed != c->must_close || p.at != c->n_steps) {
		(void)printf("# %s: %s, %zu of %zu steps\n", c->name,
			     p.is_closed ? "closed" : "left open", p.at, c->n_steps);
		is_ok = false;
	}
	loop_free(p.loop);
	close_fd(&p.client);
	close_fd(&p.upstream);
	buf_free(&p.answer);
	buf_free(&p.up);
	buf_free(&p.held);
	return is_ok;
}

/* --- reading --- */

static void unescape(struct buf *out, const char *s, const char *file, unsigned line)
{
	unsigned count;
	char repeated;

	if (sscanf(s, "@%u*%c", &count, &repeated) == 2) {
		char *at = buf_reserve(out, count);

		if (!at)
			abort();
		memset(at, repeated, count);
		buf_commit(out, count);
		return;
	}
	for (; *s; s++) {
		char c = *s;

		if (c == '\\') {
			switch (*++s) {
			case 'r':
				c = '\r';
				break;
			case 'n':
				c = '\n';
				break;
			case 't':
				c = '\t';
				break;
			case '0':
				c = '\0';
				break;
			case '\\':
				break;
			case 'x':
				c = (char)(ascii_hex_value(s[1]) << 4 | ascii_hex_value(s[2]));
				s += 2;
				break;
			default:
				(void)fprintf(stderr, "%s:%u: bad escape\n", file, line);
				exit(2);
			}
		}
		if (buf_append(out, &c, 1) != 0)
			abort();
	}
}

static struct step *step_add(struct wire_case *c, enum kind kind)
{
	struct step *s = c->n_steps > 0 ? &c->steps[c->n_steps - 1] : NULL;

	if (s && s->kind == kind && (kind == SEND || kind == UP_SEND) &&
	    s->need_front == buf_len(&c->answer) && s->need_up == buf_len(&c->upstream))
		return s;
	if (c->n_steps == STEPS_MAX)
		abort();
	s = &c->steps[c->n_steps++];
	*s = (struct step){
		.kind = kind, .need_front = buf_len(&c->answer), .need_up = buf_len(&c->upstream)};
	buf_init(&s->data, DATA_MAX);
	return s;
}

static void refusal(struct wire_case *c, const char *args)
{
	char reason[64] = "", keep[16] = "", body[128];
	unsigned status = 0;
	struct str phrase;
	int n;

	(void)sscanf(args, "%u %63s %15s", &status, reason, keep);
	phrase = http1_status_phrase(status);
	n = snprintf(body, sizeof(body), "{\"blocked\":true,\"reason\":\"%s\"}\n", reason);
	if (buf_printf(&c->answer,
		       "HTTP/1.1 %u " STR_FMT "\r\nContent-Type: application/json\r\n"
		       "Cache-Control: no-store\r\nContent-Length: %d\r\n%s\r\n%s",
		       status, STR_ARG(phrase), n, keep[0] ? "" : "Connection: close\r\n",
		       body) != 0)
		abort();
	if (!keep[0])
		c->must_close = true;
}

static void case_begin(struct wire_case *c, const char *args)
{
	*c = (struct wire_case){.accept = RELAY_ACCEPT_ABSOLUTE_HTTP | RELAY_ACCEPT_CONNECT};
	buf_init(&c->answer, 4u << 20);
	buf_init(&c->upstream, 4u << 20);
	(void)sscanf(args, "%95s", c->name);
	if (strstr(args, " egress"))
		c->accept = RELAY_ACCEPT_ABSOLUTE_HTTP | RELAY_ACCEPT_ABSOLUTE_HTTPS;
	if (strstr(args, " origin"))
		c->accept = RELAY_ACCEPT_ORIGIN;
	c->is_back_absolute = strstr(args, " back-absolute") != NULL;
	c->holds = strstr(args, " hold") != NULL && !strstr(args, " hold-response");
	c->swaps = strstr(args, " swap") != NULL;
	c->blocks = strstr(args, " block") != NULL;
	c->holds_response = strstr(args, " hold-response") != NULL;
}

static void case_end(struct wire_case *c)
{
	for (size_t i = 0; i < c->n_steps; i++)
		buf_free(&c->steps[i].data);
	buf_free(&c->answer);
	buf_free(&c->upstream);
	c->name[0] = '\0';
}

static bool line_take(struct wire_case *c, const char *l, const char *file, unsigned n)
{
	if (strncmp(l, "> ", 2) == 0)
		unescape(&step_add(c, SEND)->data, l + 2, file, n);
	else if (strncmp(l, "<! ", 3) == 0)
		refusal(c, l + 3);
	else if (strncmp(l, "< ", 2) == 0)
		unescape(&c->answer, l + 2, file, n);
	else if (strncmp(l, "up> ", 4) == 0)
		unescape(&c->upstream, l + 4, file, n);
	else if (strncmp(l, "up< ", 4) == 0)
		unescape(&step_add(c, UP_SEND)->data, l + 4, file, n);
	else if (strcmp(l, "up.") == 0)
		(void)step_add(c, UP_CLOSE);
	else if (strcmp(l, "<.") == 0)
		c->must_close = true;
	else if (strcmp(l, ">.") == 0)
		(void)step_add(c, SEND_END);
	else if (strncmp(l, "= ", 2) == 0)
		(void)snprintf(c->outcomes + strlen(c->outcomes),
			       sizeof(c->outcomes) - strlen(c->outcomes), "%s\n", l + 2);
	else
		return l[0] == '\0' || l[0] == '#';
	return true;
}

static void case_play(struct wire_case *c, unsigned *passed, unsigned *failed)
{
	bool is_ok;

	if (!c->name[0])
		return;
	is_ok = play(c, false);
	if (is_ok && !play(c, true)) {
		(void)printf("# %s: byte by byte\n", c->name);
		is_ok = false;
	}
	(void)printf("%s %s\n", is_ok ? "ok" : "not ok", c->name);
	*passed += is_ok;
	*failed += !is_ok;
	case_end(c);
}

static void file_play(const char *path, unsigned *passed, unsigned *failed)
{
	static struct wire_case c;
	static char line[1 << 17];
	FILE *f = fopen(path, "re");
	unsigned n = 0;

	if (!f) {
		perror(path);
		exit(2);
	}
	while (fgets(line, sizeof(line), f)) {
		n++;
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "case ", 5) == 0) {
			case_play(&c, passed, failed);
			case_begin(&c, line + 5);
		} else if (!line_take(&c, line, path, n)) {
			(void)fprintf(stderr, "%s:%u: what is this?\n", path, n);
			exit(2);
		}
	}
	case_play(&c, passed, failed);
	(void)fclose(f);
}

int main(int argc, char **argv)
{
	unsigned passed = 0, failed = 0;

	for (int i = 1; i < argc; i++)
		file_play(argv[i], &passed, &failed);
	(void)printf("# %u passed, %u failed\n", passed, failed);
	return failed > 0 || passed == 0;
}
