/*
 * The head of a push: what comes out is what went in, all of it or nothing, however it is cut; what
 * is accepted says the same when it is written again; and the other readers of pkt-lines and of the
 * hook's words end, whatever they are given.
 */
#include "fuzz.h"

#include "gitgate/commands.h"
#include "gitgate/hook.h"
#include "gitgate/pkt.h"
#include "gitgate/refs.h"

#include <stdlib.h>

static enum commands_reason feed(struct commands *c, struct str in, size_t step, struct buf *out)
{
	enum commands_reason r = COMMANDS_OK;

	for (size_t at = 0; at < in.n && r == COMMANDS_OK; at += step) {
		r = commands_feed(c, str_sub(in, at, at + step), out);
		if (c->state < COMMANDS_PACK && buf_len(out) > 0)
			abort();
	}
	return r == COMMANDS_OK ? commands_end(c) : r;
}

static void check_updates(const struct commands *c)
{
	for (size_t i = 0; i < c->n_updates; i++) {
		const struct check_update *u = &c->updates[i];

		if (!git_ref_is_valid(str_of(u->ref)) || strlen(u->old_oid) != 40 ||
		    strlen(u->new_oid) != 40)
			abort();
	}
}

static void check_cuts(struct str in, size_t step)
{
	static struct commands whole, cut;
	struct buf a, b;
	enum commands_reason r;

	buf_init(&a, in.n + COMMANDS_HEAD_MAX);
	buf_init(&b, in.n + COMMANDS_HEAD_MAX);
	commands_init(&whole, 1u << 16);
	commands_init(&cut, 1u << 16);
	r = feed(&whole, in, in.n, &a);
	if (feed(&cut, in, step, &b) != r || whole.n_updates != cut.n_updates)
		abort();
	if (r == COMMANDS_OK && (!str_eq(buf_str(&a), in) || !str_eq(buf_str(&b), in)))
		abort();
	check_updates(&whole);
	commands_free(&whole);
	commands_free(&cut);
	buf_free(&a);
	buf_free(&b);
}

static void check_packets(struct str in)
{
	while (in.n > 0) {
		struct str data;
		size_t used;

		switch (pkt_next(in, &data, &used)) {
		case PKT_MORE:
		case PKT_BAD:
			if (used != 0)
				abort();
			return;
		case PKT_DATA:
		case PKT_FLUSH:
		case PKT_DELIM:
		case PKT_END:
			if (used < PKT_HEAD_BYTES || used > in.n || data.n > used - PKT_HEAD_BYTES)
				abort();
			in = str_sub(in, used, in.n);
			break;
		}
	}
}

static void check_hook(struct str in)
{
	static struct hook_request r;
	struct err e = ERR_INIT;

	hook_request_init(&r);
	if (hook_request_parse(&r, in, &e) == 0 && r.n_updates > CHECK_UPDATES_MAX)
		abort();
	hook_request_free(&r);
}

static void check_facts(struct str in)
{
	struct refs_facts f = {0};
	struct err e = ERR_INIT;

	if (refs_facts_parse(&f, in, &e) == 0) {
		for (size_t i = 1; i < f.n; i++) {
			if (strcmp(f.list[i - 1].ref, f.list[i].ref) >= 0)
				abort();
		}
	}
	refs_facts_free(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str in;

	if (n < 2 || n > 65536)
		return 0;
	in = str_slice(data + 1, n - 1);
	check_cuts(in, data[0] % 64 + 1u);
	check_packets(in);
	check_hook(in);
	check_facts(in);
	return 0;
}
