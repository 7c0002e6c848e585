/*
 * What an upstream of git-gate says: lists of refs in either version, the flow of a pack, the
 * report of a push, and HTTP around them. Beside memory safety: git is only ever given names below
 * refs/heads and refs/tags that are valid, once each; how bytes are cut does not matter; and a
 * report without "unpack ok" takes nothing.
 */
#include "fuzz.h"

#include "gitgate/advert.h"
#include "gitgate/connect_http.h"
#include "gitgate/push_report.h"
#include "gitgate/wire.h"

#include "base/timeutil.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)

/* What was put is taken again, and nothing else. */
static void put_is_good(const struct advert *a, bool is_v2)
{
	struct advert again = {0};
	struct str rest, payload;
	enum wire_kind kind;
	struct buf out;
	ssize_t n;

	buf_init(&out, ADVERT_OUT_MAX);
	REQUIRE((is_v2 ? advert_put_v2(a, &out, NULL) : advert_put_v0(a, false, &out, NULL)) == 0);
	for (rest = buf_str(&out); (n = wire_next(rest, &kind, &payload)) > 0 && kind == WIRE_DATA;
	     rest = str_sub(rest, (size_t)n, rest.n))
		REQUIRE((is_v2 ? advert_take_v2(&again, wire_chomp(payload), NULL)
			       : advert_take_v0(&again, wire_chomp(payload), NULL)) == 0);
	REQUIRE(n == 4 && kind == WIRE_FLUSH && rest.n == 4);
	REQUIRE(advert_settle(&again, NULL) == 0 && again.n_refs == a->n_refs);
	for (size_t i = 0; i < a->n_refs; i++) {
		struct str name = advert_name(a, &a->refs[i]);

		REQUIRE(str_eq(name, advert_name(&again, &again.refs[i])));
		REQUIRE(git_ref_is_valid(name));
		REQUIRE(str_starts(name, STR_LIT("refs/heads/")) ||
			str_starts(name, STR_LIT("refs/tags/")));
		REQUIRE(strcmp(a->refs[i].oid, again.refs[i].oid) == 0);
	}
	advert_free(&again);
	buf_free(&out);
}

static void fuzz_advert(struct str in, bool is_v2)
{
	struct advert a = {0};
	char head[GIT_REF_MAX + 1];
	struct str payload;
	enum wire_kind kind;
	int ret = 0;
	ssize_t n;

	while (ret == 0 && (n = wire_next(in, &kind, &payload)) > 0 && kind == WIRE_DATA) {
		ret = is_v2 ? advert_take_v2(&a, wire_chomp(payload), NULL)
			    : advert_take_v0(&a, wire_chomp(payload), NULL);
		in = str_sub(in, (size_t)n, in.n);
	}
	if (ret == 0 && advert_settle(&a, NULL) == 0) {
		put_is_good(&a, is_v2);
		REQUIRE(advert_overlay(&a, "s", NULL) == 0);
		for (size_t i = 0; i < a.n_refs; i++)
			REQUIRE(!str_starts(advert_name(&a, &a.refs[i]),
					    STR_LIT(ADVERT_SLUG_PREFIX)) ||
				a.refs[i].is_overlay);
		put_is_good(&a, is_v2);
		advert_head(&a, head);
		REQUIRE(!head[0] || git_ref_is_valid(str_of(head)));
	}
	advert_free(&a);
}

static int walk(struct str in, size_t cut)
{
	struct wire_walk w;
	int ret = 0;

	wire_walk_init(&w, 1u << 20);
	for (size_t at = 0; ret == 0 && at < in.n; at += cut)
		ret = wire_walk(&w, str_sub(in, at, at + cut), NULL);
	return ret ? ret : w.is_flushed;
}

static void fuzz_report(struct str in, bool is_sideband)
{
	static const char *const names[] = {"refs/heads/x", "refs/heads/y"};
	struct upstream_ref_result results[2];
	struct push_report p;
	struct str payload;
	enum wire_kind kind;
	struct buf said;
	ssize_t n;
	int ret;

	buf_init(&said, 4096);
	push_report_init(&p, is_sideband, names, 2, results, &said);
	while (!p.is_ended && (n = wire_next(in, &kind, &payload)) > 0 &&
	       push_report_take(&p, kind, payload, NULL) == 0)
		in = str_sub(in, (size_t)n, in.n);
	ret = push_report_finish(&p);
	REQUIRE((ret == 0) <= (p.is_unpacked && results[0].is_ok && results[1].is_ok));
	for (size_t i = 0; i < buf_len(&said); i++)
		REQUIRE((unsigned char)said.p[said.from + i] >= 0x20 ||
			said.p[said.from + i] == '\n');
	push_report_free(&p);
	buf_free(&said);
}

static int on_line(void *ctx, enum wire_kind kind, struct str payload, struct err *e)
{
	(void)e;
	*(size_t *)ctx += payload.n;
	return kind == WIRE_FLUSH;
}

static void fuzz_http(struct str in)
{
	static char name[] = "up", host[] = "h";
	static struct git_remote remote = {.name = name, .host = host};
	static const struct upstream_place place;
	struct wire_clock clock = {time_monotonic_ns() + TIME_NS_PER_SEC, 1000, -1};
	struct connect_http h;
	size_t n = 0;
	int pair[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	if (write(pair[1], in.p, in.n) == (ssize_t)in.n) {
		(void)close(pair[1]);
		connect_http_init(&h, &place, &remote, GIT_UPLOAD_PACK, &clock);
		h.fd = pair[0];
		if (connect_http_answer(&h, NULL) == 0 &&
		    connect_http_lines(&h, 1u << 20, on_line, &n, NULL) >= 0)
			REQUIRE(n <= in.n);
		connect_http_free(&h);
	} else {
		(void)close(pair[0]);
		(void)close(pair[1]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in;

	if (size < 1 || size > 65536)
		return 0;
	in = str_slice(data + 1, size - 1);
	switch (data[0]) {
	case '0':
		fuzz_advert(in, false);
		break;
	case '2':
		fuzz_advert(in, true);
		break;
	case 'w':
		REQUIRE(walk(in, in.n + 1) == walk(in, 1));
		break;
	case 'r':
		fuzz_report(in, true);
		break;
	case 'p':
		fuzz_report(in, false);
		break;
	case 'h':
		fuzz_http(in);
		break;
	default:
		break;
	}
	return 0;
}
