/*
 * Theory of operation: in version 0 git asks for objects (wants), then says in batches what it has,
 * each ended by a flush, until the server knows one of them (ACK) or git gives up; then "done", and
 * the pack comes. Over HTTP each request must begin with the wants and all that was said before.
 * git believes that the server remembers, so we remember for it, and ask the upstream anew with all
 * of it. The richer forms of acknowledgement, which would need to be remembered as well, are not
 * offered to git.
 *
 * To ask after every batch would be quadratic in a history that has nothing in common; "nothing
 * known yet" is always a true answer, so it is given without asking until there is twice as much to
 * ask about.
 */
#include "gitgate/connect_http.h"

#include "base/clean.h"

#include <errno.h>

#define TALK_MAX (32u << 20)

struct stateless {
	struct connector *k;
	struct buf wants, haves; /* lines; the wants with their flush */
	size_t n_haves, n_asked; /* of the haves: how many the upstream has been asked about */
	bool is_acked;
};

static int stateless_request(const struct stateless *s, bool is_done, struct buf *out)
{
	int ret = buf_append_str(out, buf_str(&s->wants));

	if (ret == 0)
		ret = buf_append_str(out, buf_str(&s->haves));
	if (ret == 0)
		ret = is_done ? wire_printf(out, "done\n") : wire_flush(out);
	return ret;
}

static int stateless_post(struct stateless *s, struct connect_http *h, bool is_done, struct err *e)
{
	struct buf q;
	int ret;

	connect_http_init(h, s->k->place, s->k->remote, GIT_UPLOAD_PACK, &s->k->clock);
	buf_init(&q, TALK_MAX * 2ull + 64);
	ret = stateless_request(s, is_done, &q) < 0
		      ? err_set(e, -EFBIG, "git asks for too much at once")
		      : connect_http_post_whole(h, buf_str(&q), e);
	buf_free(&q);
	return ret;
}

static bool is_ack(struct str line)
{
	return str_starts(line, STR_LIT("ACK ")) && line.n == 4 + GIT_OID_SIZE - 1;
}

static int give_line(struct stateless *s, struct str line, struct err *e)
{
	struct buf out;
	int ret;

	buf_init(&out, WIRE_LINE_MAX);
	ret = wire_printf(&out, STR_FMT "\n", STR_ARG(line));
	ret = ret < 0 ? err_set(e, ret, "a line is too long")
		      : wire_write(&s->k->clock, s->k->git_fd, buf_str(&out), e);
	buf_free(&out);
	return ret;
}

/* The one line of the answer to a batch. */
static int take_ack(void *ctx, enum wire_kind kind, struct str payload, struct err *e)
{
	struct stateless *s = ctx;
	struct str line = wire_chomp(payload);
	int ret;

	if (kind != WIRE_DATA)
		return err_set(e, -EPROTO, "what it says is not git's protocol");
	if (str_starts(line, STR_LIT("ERR ")))
		return advert_take_v0(&(struct advert){0}, line, e);
	s->is_acked = is_ack(line);
	if (!s->is_acked && !str_eq(line, STR_LIT("NAK")))
		return err_set(e, -EPROTO, "it says neither ACK nor NAK");
	ret = give_line(s, line, e);
	return ret < 0 ? ret : 1;
}

static int stateless_batch(struct stateless *s, struct err *e)
{
	_cleanup_(connect_http_free) struct connect_http h = {.fd = -1};
	int ret;

	/* The server would not answer a batch any more, once it knows where to begin. */
	if (s->is_acked)
		return 0;
	if (s->n_asked > 0 && s->n_haves < 2 * s->n_asked)
		return give_line(s, STR_LIT("NAK"), e);
	s->n_asked = s->n_haves;
	ret = stateless_post(s, &h, false, e);
	if (ret == 0)
		ret = connect_http_lines(&h, WIRE_LINE_MAX, take_ack, s, e);
	return ret == 0 ? err_set(e, -ECONNRESET, "its answer was cut off") : ret < 0 ? ret : 0;
}

/* The acknowledgement that git has had already is said again by an upstream that forgets: it is
 * taken out. */
static int stateless_swallow(struct str *piece, struct buf *held, bool *is_due, struct err *e)
{
	enum wire_kind kind;
	struct str line;
	ssize_t n;

	if (buf_append_str(held, *piece) < 0)
		return err_set(e, -EPROTO, "what it says is not git's protocol");
	*piece = STR_NULL;
	n = wire_next(buf_str(held), &kind, &line);
	if (n == 0)
		return 0;
	if (n < 0 || kind != WIRE_DATA || !is_ack(wire_chomp(line)))
		return err_set(e, -EPROTO, "it has forgotten what it had acknowledged");
	*is_due = false;
	buf_consume(held, (size_t)n);
	*piece = buf_str(held);
	return 0;
}

static int stateless_pack(struct stateless *s, struct err *e)
{
	_cleanup_(connect_http_free) struct connect_http h = {.fd = -1};
	bool is_due = s->is_acked;
	struct wire_walk walk;
	struct buf held;
	struct str piece;
	int ret = stateless_post(s, &h, true, e);

	buf_init(&held, 1u << 20);
	wire_walk_init(&walk, CONNECT_MAX_BYTES);
	while (ret >= 0 && (ret = connect_http_read(&h, &piece, e)) == 1) {
		ret = is_due ? stateless_swallow(&piece, &held, &is_due, e) : 0;
		if (ret == 0)
			ret = wire_walk(&walk, piece, e);
		if (ret == 0)
			ret = wire_write(&s->k->clock, s->k->git_fd, piece, e);
	}
	buf_free(&held);
	if (ret == 0 && !walk.is_flushed)
		return err_set(e, -ECONNRESET, "its answer was cut off");
	return ret;
}

/* 1 when all is over. */
static int stateless_line(struct stateless *s, enum wire_kind kind, struct str payload,
			  bool *has_wants, struct err *e)
{
	struct str line = wire_chomp(payload);
	int ret;

	if (!*has_wants) {
		/* Nothing is wanted: all is here. */
		if (kind == WIRE_FLUSH && buf_len(&s->wants) == 0)
			return 1;
		*has_wants = kind == WIRE_FLUSH;
		ret = kind == WIRE_FLUSH  ? wire_flush(&s->wants)
		      : kind == WIRE_DATA ? wire_put(&s->wants, payload)
					  : -EPROTO;
		return ret < 0 ? err_set(e, ret, "git asks for too much at once") : 0;
	}
	if (kind == WIRE_FLUSH)
		return stateless_batch(s, e);
	if (kind == WIRE_DATA && str_eq(line, STR_LIT("done"))) {
		ret = stateless_pack(s, e);
		return ret < 0 ? ret : 1;
	}
	if (kind != WIRE_DATA || !str_starts(line, STR_LIT("have ")))
		return err_set(e, -EPROTO, "git asks for what was not offered");
	s->n_haves++;
	ret = wire_put(&s->haves, payload);
	return ret < 0 ? err_set(e, ret, "git asks for too much at once") : 0;
}

int connect_stateless_fetch(struct connector *k, struct wire_reader *r, struct err *e)
{
	struct stateless s = {.k = k};
	bool has_wants = false;
	int ret = 0;

	buf_init(&s.wants, TALK_MAX);
	buf_init(&s.haves, TALK_MAX);
	while (ret == 0) {
		enum wire_kind kind;
		struct str payload;

		ret = wire_read(r, &kind, &payload, e);
		if (ret == 0)
			ret = stateless_line(&s, kind, payload, &has_wants, e);
	}
	buf_free(&s.wants);
	buf_free(&s.haves);
	/* git leaves without a word when it has found all that it wants here. */
	return ret == -ENODATA && !has_wants ? 0 : ret < 0 ? ret : 0;
}
