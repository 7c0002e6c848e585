/* Rates of the scan engine, as JSON lines. The text is JSON of the kind that an API client posts.
 */
#include "base/log.h"
#include "base/timeutil.h"
#include "scan/scan_int.h"

#include <stdio.h>
#include <time.h>

#define TEXT_BYTES (1u << 20)
#define MIN_NS	   (TIME_NS_PER_SEC / 2)

static char text[TEXT_BYTES];
static uint64_t findings;

static bool count(const struct scan_finding *f, void *ctx)
{
	(void)ctx;
	findings++;
	fprintf(stderr, "unexpected finding: %s %s\n", f->rule, f->decoders);
	return true;
}

static uint32_t next_random(uint32_t *s)
{
	*s = *s * 1664525 + 1013904223;
	return *s >> 8;
}

static void fill_json(char *p, size_t n)
{
	static const char *const words[] = {
		"the",	   "request", "returned", "status", "configuration",
		"user",	   "project", "path",	  "file",   "release",
		"changes", "to",      "of",	  "branch", "function"};
	uint32_t seed = 42;
	size_t at = 0;

	while (at + 256 < n) {
		at += (size_t)snprintf(p + at, n - at,
				       "{\"id\":%u,\"name\":\"item-%u\",\"active\":true,\"score\":%"
				       "u.%02u,\"text\":\"",
				       next_random(&seed), next_random(&seed) % 1000,
				       next_random(&seed) % 100, next_random(&seed) % 100);
		for (unsigned i = 0; i < 12; i++)
			at += (size_t)snprintf(p + at, n - at, "%s ",
					       words[next_random(&seed) % ARRAY_LEN(words)]);
		at += (size_t)snprintf(p + at, n - at, "in src/main.c\\nline %u\"},\n",
				       next_random(&seed) % 500);
	}
	memset(p + at, ' ', n - at);
}

/* Of the processor, not of the wall: the figures are to mean something on a busy machine too. */
static uint64_t cpu_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * TIME_NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static const char *only; /* the figures whose names begin so; NULL for all */

static bool is_wanted(const char *name)
{
	return !only || strncmp(name, only, strlen(only)) == 0;
}

static void emit(const char *name, double value, const char *unit)
{
	printf("{\"name\":\"%s\",\"value\":%.3f,\"unit\":\"%s\"}\n", name, value, unit);
	fflush(stdout);
}

static int nothing(unsigned id, unsigned long long from, unsigned long long to, unsigned flags,
		   void *ctx)
{
	(void)id;
	(void)from;
	(void)to;
	(void)flags;
	(void)ctx;
	return 0;
}

static void bench_raw(struct scan_engine *en)
{
	uint64_t begin = cpu_ns(), ns, bytes = 0;

	if (!is_wanted("scan_raw"))
		return;
	do {
		for (size_t at = 0; at < TEXT_BYTES; at += 16384)
			if (hs_scan_stream(en->hs[WAY_SENT], text + at, 16384, 0, en->scratch,
					   nothing, NULL) != HS_SUCCESS)
				return;
		bytes += TEXT_BYTES;
		ns = cpu_ns() - begin;
	} while (ns < MIN_NS);
	(void)hs_reset_stream(en->hs[WAY_SENT], 0, en->scratch, NULL, NULL);
	emit("scan_raw", (double)bytes / (double)ns, "GB/s");
}

/* The best of many slices is told: what else ran then is no property of the engine. */
static void bench_text(struct scan_engine *en, const char *name, enum scan_place place,
		       struct str t, bool is_rate)
{
	unsigned each = t.n > 4096 ? 1 : 64;
	uint64_t begin = cpu_ns(), best = UINT64_MAX, was, now = begin;

	if (!is_wanted(name))
		return;
	do {
		was = now;
		for (unsigned i = 0; i < each; i++)
			if (scan_text(en, place, t, count, NULL) < 0)
				return;
		now = cpu_ns();
		if (now > was && now - was < best)
			best = now - was;
	} while (now - begin < MIN_NS);
	if (is_rate)
		emit(name, (double)(each * t.n) / (double)best, "GB/s");
	else
		emit(name, (double)best / (double)each / 1000, "us");
}

static void bench_stream(struct scan_engine *en, const char *name, size_t piece)
{
	struct scan_stream *s;
	uint64_t begin = cpu_ns(), best = UINT64_MAX, was, now = begin;
	const size_t slice = TEXT_BYTES / 4;

	if (!is_wanted(name))
		return;
	s = scan_stream_open(en, SCAN_PLACE_BODY, count, NULL);
	for (size_t at = 0; now - begin < MIN_NS; at = (at + slice) % TEXT_BYTES) {
		was = now;
		for (size_t i = 0; i < slice; i += piece)
			if (!s || scan_stream_feed(s, str_slice(text + at + i, piece)) < 0)
				return;
		now = cpu_ns();
		if (now > was && now - was < best)
			best = now - was;
	}
	scan_stream_close(s);
	emit(name, (double)slice / (double)best, "GB/s");
}

static int watch_secrets(struct scan_engine *en, struct err *e)
{
	struct scan_print_key key = {.multiplier = 0x9E3779B97F4A7C15u | 1, .mac_key = {7}};
	struct scan_print prints[8];
	char secret[40];
	int r;

	for (unsigned i = 0; i < ARRAY_LEN(prints); i++) {
		(void)snprintf(secret, sizeof(secret), "a-secret-of-this-bottle-%u", i * 7919);
		r = scan_print_make(&prints[i], &key, SCAN_KIND_SECRET, i, str_of(secret), e);
		if (r < 0)
			return r;
	}
	return scan_engine_set_prints(en, &key, prints, ARRAY_LEN(prints), e);
}

static void bench_start(struct str packed)
{
	struct err e = ERR_INIT;
	struct scan_engine *en;
	uint64_t begin = cpu_ns();

	if (scan_engine_new(&en, packed, &e) < 0)
		die("%s", e.text);
	emit("scan_load_cached_rules", (double)(cpu_ns() - begin) / 1e6, "ms");
	begin = cpu_ns();
	if (scan_engine_selftest(en, &e) < 0)
		die("%s", e.text);
	emit("scan_selftest", (double)(cpu_ns() - begin) / 1e6, "ms");
	scan_engine_free(en);
}

/* What is not text: one letter, and encoded random bytes. */
static void bench_runs(struct scan_engine *en)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t seed = 7;

	memset(text, 'x', sizeof(text));
	bench_stream(en, "scan_letter_stream_16k", 16384);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = digits[next_random(&seed) >> 3 & 63];
	bench_stream(en, "scan_base64_stream_16k", 16384);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(next_random(&seed) >> 5);
	bench_stream(en, "scan_random_stream_16k", 16384);
}

/* usage: bench_scan [beginning of the names of the figures] */
int main(int argc, char **argv)
{
	static const struct str head = STR_LIT(
		"user-agent: example-client/2.1 (Linux; x86_64)\naccept: application/json\n"
		"accept-encoding: gzip, deflate, br, zstd\ncontent-type: application/json\n"
		"x-request-id: 3\nx-client-version: 14.2.1-beta\naccept-language: en-GB,en;q=0.9\n"
		"if-none-match: W/\"51a2c3\"\ncache-control: no-cache, no-store\npragma: no-cache\n"
		"origin: https://console.example.org\nreferer: https://console.example.org/issues\n"
		"dnt: 1\n");
	struct err e = ERR_INIT;
	struct scan_engine *en;
	struct buf packed;
	uint64_t begin = cpu_ns();

	buf_init(&packed, 64u << 20);
	if (scan_compile(&packed, &e) < 0 || scan_engine_new(&en, buf_str(&packed), &e) < 0 ||
	    watch_secrets(en, &e) < 0)
		die("%s", e.text);
	emit("scan_compile_rules", (double)(cpu_ns() - begin) / 1e6, "ms");
	only = argc > 1 ? argv[1] : NULL;
	if (is_wanted("scan_selftest"))
		bench_start(buf_str(&packed));
	fill_json(text, sizeof(text));
	bench_raw(en);
	bench_text(en, "scan_pipeline", SCAN_PLACE_BODY, str_slice(text, 65536), true);
	bench_stream(en, "scan_pipeline_stream_16k", 16384);
	bench_stream(en, "scan_pipeline_stream_1k", 1024);
	bench_text(en, "scan_url_clean", SCAN_PLACE_QUERY,
		   STR_LIT("state=open&page=2&per_page=30&sort=updated"), false);
	bench_text(en, "scan_path_clean", SCAN_PLACE_PATH, STR_LIT("/repos/golang/go/issues"),
		   false);
	bench_text(en, "scan_response_10k", SCAN_PLACE_RESPONSE, str_slice(text, 10240), false);
	bench_text(en, "scan_head_clean", SCAN_PLACE_HEADER, head, false);
	bench_runs(en);
	scan_engine_free(en);
	buf_free(&packed);
	return findings != 0;
}
