/*
 * The store of requests with as many pending as a flood might leave: what asking, listing and
 * deciding take then, as JSON lines. `bench_requests FOLDER [N]` leaves N (10,000) pending requests
 * in FOLDER/requests.db, for whoever looks at them through a face.
 */
#include "base/clean.h"
#include "base/timeutil.h"
#include "requests/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#define SLUG   "bench-1"
#define ROUNDS 20
#define LIFE_S 3600
#define SCREEN 60 /* requests that a face shows at a time */

static void must(int ret, const struct err *e)
{
	if (ret >= 0)
		return;
	(void)fprintf(stderr, "bench_requests: %s\n", e->text);
	exit(1);
}

static void print_figure(const char *name, uint64_t ns, uint64_t n)
{
	(void)printf("{\"name\": \"%s\", \"value\": %.4f, \"unit\": \"ms\"}\n", name,
		     (double)ns / (double)n / 1e6);
}

static void ask_one(struct store *s, unsigned number, uint64_t now, struct store_asked *out)
{
	struct ask a = {.op = ASK_REQUEST, .kind = ASK_EGRESS};
	struct danger_context none = {0};
	struct danger danger;
	struct change c;
	struct err e = ERR_INIT;

	(void)snprintf(a.host, sizeof(a.host), "host-%u.example.com", number);
	must(change_from_ask(&c, &a, &e), &e);
	danger_judge(&danger, &c, &none);
	must(store_ask(s, &c, &danger, STR_LIT("The documentation is there."), now, now + LIFE_S,
		       out, &e),
	     &e);
	change_free(&c);
}

static bool count_some(const struct request *r, void *ctx)
{
	unsigned *left = ctx;

	(void)r;
	return --*left > 0;
}

static uint64_t list_ns(struct store *s, unsigned want)
{
	struct err e = ERR_INIT;
	uint64_t began_ns = time_monotonic_ns();

	for (int i = 0; i < ROUNDS; i++) {
		unsigned left = want;

		must(store_each(s, 1u << REQUEST_PENDING, 0, want, count_some, &left, &e), &e);
	}
	return time_monotonic_ns() - began_ns;
}

/* Refuses the newest, one after the other. */
static uint64_t decide_ns(struct store *s, struct store_asked newest, uint64_t now)
{
	struct err e = ERR_INIT;
	uint64_t taken_ns = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct store_decision d = {.id = newest.id - i,
					   .who = "uid 0 (bench)",
					   .face = "command",
					   .answer = STR_LIT("no")};
		enum store_verdict verdict;
		struct request r;
		uint64_t began_ns;

		must(store_get(s, d.id, &r, &e), &e);
		memcpy(d.hash, r.hash, sizeof(d.hash));
		began_ns = time_monotonic_ns();
		must(store_decide(s, &d, &r.danger, now, &verdict, &e), &e);
		taken_ns += time_monotonic_ns() - began_ns;
		request_free(&r);
		if (verdict != STORE_DECIDED)
			must(err_set(&e, -EPROTO, "a decision was not taken"), &e);
	}
	return taken_ns;
}

int main(int argc, char **argv)
{
	uint64_t n = 10000;
	_cleanup_close_ int folder =
		open(argc > 1 ? argv[1] : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t now = (uint64_t)time(NULL), began_ns;
	struct store_asked asked;
	struct store *s = NULL;
	struct err e = ERR_INIT;

	if (argc < 2 || folder < 0 ||
	    (argc > 2 && str_to_u64(str_of(argv[2]), UINT32_MAX - ROUNDS, &n) < 0) || n < ROUNDS) {
		(void)fprintf(stderr, "usage: bench_requests FOLDER [N]\n");
		return 2;
	}
	must(store_open(&s, folder, SLUG, &e), &e);
	began_ns = time_monotonic_ns();
	for (unsigned i = 0; i < n; i++)
		ask_one(s, i, now, &asked);
	print_figure("requests_ask", time_monotonic_ns() - began_ns, n);
	print_figure("requests_list_all", list_ns(s, (unsigned)n), ROUNDS);
	print_figure("requests_list_screen", list_ns(s, SCREEN), ROUNDS);
	print_figure("requests_decide", decide_ns(s, asked, now), ROUNDS);
	for (unsigned i = 0; i < ROUNDS; i++)
		ask_one(s, (unsigned)n + i, now, &asked);
	store_close(s);
	return 0;
}
