/* upload-pack over a stream of gitssh's or the keeper's: version 0, whatever is there. */
#include "gitgate/connect.h"

#include "base/clean.h"
#include "gitgate/pump.h"

#include <errno.h>
#include <stdlib.h>

static int raw_advert(struct wire_reader *r, struct advert *a, struct err *e)
{
	enum wire_kind kind;
	struct str line;

	for (;;) {
		int ret = wire_read(r, &kind, &line, e);

		if (ret < 0)
			return ret;
		if (kind == WIRE_FLUSH)
			return 0;
		ret = kind == WIRE_DATA ? advert_take_v0(a, wire_chomp(line), e)
					: err_set(e, -EPROTO, "what it says is not git's protocol");
		if (ret < 0)
			return ret;
	}
}

static int raw_look(void *ctx, struct str piece, struct err *e)
{
	return wire_walk(ctx, piece, e);
}

/* What the server says about a stream's end is more than that it has ended. git, gone already, says
 * itself why. */
static int raw_end(struct connector *k, int ret, struct err *e)
{
	char why[sizeof(k->report.text)];

	if (ret == -EPIPE)
		return 0;
	if (ret == -EPROTO || ret == -EFBIG || ret == -ENOTSUP || ret == -EREMOTEIO)
		return ret;
	connect_raw_why(k->why_fd, why, sizeof(why));
	return why[0] ? err_set(e, -EREMOTEIO, "%s", why) : ret;
}

static int raw_flow(struct connector *k, struct wire_reader *r, struct err *e)
{
	_cleanup_free_ struct pump_way *ways = calloc(2, sizeof(*ways));
	struct wire_walk walk;
	struct str rest = wire_reader_rest(r);
	int ret;

	if (!ways)
		return err_set(e, -ENOMEM, "no memory");
	wire_walk_init(&walk, CONNECT_MAX_BYTES);
	ret = wire_walk(&walk, rest, e);
	if (ret == 0)
		ret = wire_write(&k->clock, k->git_fd, rest, e);
	if (ret < 0)
		return ret;
	ways[0].from = ways[1].to = k->git_fd;
	ways[0].to = ways[1].from = k->upstream_fd;
	ways[1].look = raw_look;
	ways[1].ctx = &walk;
	ret = pump_run(&ways[0], &ways[1], &k->clock, CONNECT_LINGER_MS, e);
	/* When git was the first to end there is nothing that anybody would have to say. */
	return ret == 0 && ways[0].is_from_done ? -EPIPE : ret;
}

int connect_raw_fetch(struct connector *k, struct err *e)
{
	_cleanup_(advert_free) struct advert a = {0};
	struct wire_clock first = k->clock;
	struct wire_reader r;
	struct buf out;
	int ret;

	connect_clock_refs(&first);
	wire_reader_init(&r, &first, k->upstream_fd);
	buf_init(&out, ADVERT_OUT_MAX);
	ret = raw_advert(&r, &a, e);
	if (ret == 0)
		ret = advert_check_v0(&a, e);
	if (ret == 0)
		ret = connect_advert_finish(k, &a, e);
	if (ret == 0)
		ret = advert_put_v0(&a, false, &out, e);
	if (ret == 0)
		ret = wire_write(&k->clock, k->git_fd, buf_str(&out), e);
	buf_free(&out);
	if (ret == 0)
		ret = raw_flow(k, &r, e);
	wire_reader_free(&r);
	return raw_end(k, ret, e);
}
