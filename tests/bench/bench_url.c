/*
 * How long a clean URL takes to decide: the host made canonical, the policy asked, and host, path
 * and query scanned with every decoder; and how long a clean 10 KB answer takes to scan. One core,
 * no I/O; the median of several runs, as JSON lines.
 */
#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"
#include "conf/policy.h"
#include "scan/scan.h"

#include <stdio.h>
#include <stdlib.h>

#define RUNS		9
#define URLS_PER_RUN	20000
#define ANSWERS_PER_RUN 2000
#define ANSWER_BYTES	10240
#define ROUTES		24

static const struct {
	struct str host, path, query;
} urls[] = {
	{STR_LIT("API.example.com"), STR_LIT("/v1/messages"), STR_LIT("beta=true")},
	{STR_LIT("registry.example.org"), STR_LIT("/left-pad/-/left-pad-1.3.0.tgz"), STR_LIT("")},
	{STR_LIT("git.example.net"), STR_LIT("/team/project.git/info/refs"),
	 STR_LIT("service=git-upload-pack")},
	{STR_LIT("host17.example.com"), STR_LIT("/search/issues"),
	 STR_LIT("q=is%3Aopen+memory+leak&sort=updated&per_page=50")},
};

static unsigned n_findings;

static bool on_finding(const struct scan_finding *f, void *ctx)
{
	(void)ctx;
	fprintf(stderr, "finding in clean text: %s\n", f->rule);
	n_findings++;
	return false;
}

static int load_policy(struct policy *p)
{
	struct err e = {0};
	struct policy made = {.routes = mem_zalloc_array(ROUTES, sizeof(*made.routes))};
	_cleanup_(buf_free) struct buf json;
	int r;

	for (unsigned i = 0; i < ROUTES; i++) {
		struct policy_route *route = &made.routes[made.n_routes++];

		route->host = i == 20	? mem_strdup("api.example.com")
			      : i == 21 ? mem_strdup("*.example.org")
			      : i == 22 ? mem_strdup("git.example.net")
					: mem_printf("host%u.example.com", i);
		route->ports[route->n_ports++] = 443;
		route->methods = (1u << POLICY_METHOD_GET) | (1u << POLICY_METHOD_POST);
		route->origin_file = mem_strdup("bench");
		route->origin_line = i + 1;
	}
	buf_init(&json, POLICY_JSON_MAX_BYTES);
	r = policy_to_json(&made, &json, &e);
	policy_free(&made);
	if (r == 0)
		r = policy_from_json(p, buf_str(&json), &e);
	if (r < 0)
		fprintf(stderr, "policy: %s\n", e.text);
	return r;
}

static bool decide_one(const struct policy *p, size_t i)
{
	char host[POLICY_HOST_MAX + 1];

	if (policy_host_canonical(urls[i].host, host) != POLICY_OK)
		return false;
	return policy_decide(p, str_of(host), 443, POLICY_METHOD_GET, urls[i].path).reason ==
	       POLICY_OK;
}

static bool scan_one(struct scan_engine *en, size_t i)
{
	return scan_text(en, SCAN_PLACE_HOST, urls[i].host, on_finding, NULL) == 0 &&
	       scan_text(en, SCAN_PLACE_PATH, urls[i].path, on_finding, NULL) == 0 &&
	       (urls[i].query.n == 0 ||
		scan_text(en, SCAN_PLACE_QUERY, urls[i].query, on_finding, NULL) == 0);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median_us(double *samples)
{
	qsort(samples, RUNS, sizeof(*samples), compare);
	return samples[RUNS / 2];
}

static int bench_urls(const struct policy *p, struct scan_engine *en)
{
	double decide[RUNS], whole[RUNS];

	for (unsigned run = 0; run < RUNS; run++) {
		uint64_t t0 = time_monotonic_ns(), t1;

		for (unsigned k = 0; k < URLS_PER_RUN; k++)
			if (!decide_one(p, k % ARRAY_LEN(urls)))
				return -1;
		t1 = time_monotonic_ns();
		for (unsigned k = 0; k < URLS_PER_RUN; k++)
			if (!decide_one(p, k % ARRAY_LEN(urls)) ||
			    !scan_one(en, k % ARRAY_LEN(urls)))
				return -1;
		decide[run] = (double)(t1 - t0) / URLS_PER_RUN / 1000;
		whole[run] = (double)(time_monotonic_ns() - t1) / URLS_PER_RUN / 1000;
	}
	printf("{\"name\":\"url_decision_policy\",\"value\":%.4f,\"unit\":\"us\"}\n",
	       median_us(decide));
	printf("{\"name\":\"url_decision_policy_and_scan\",\"value\":%.4f,\"unit\":\"us\"}\n",
	       median_us(whole));
	return 0;
}

static int bench_answer(struct scan_engine *en)
{
	static char text[ANSWER_BYTES + 256];
	double samples[RUNS];
	size_t n = 0;

	for (unsigned i = 0; n < ANSWER_BYTES; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n,
				      "{\"id\":%u,\"path\":\"src/module_%u/file.c\",\"text\":\"a "
				      "line of ordinary text\"}\n",
				      i, i);
	for (unsigned run = 0; run < RUNS; run++) {
		uint64_t t0 = time_monotonic_ns();

		for (unsigned k = 0; k < ANSWERS_PER_RUN; k++)
			if (scan_text(en, SCAN_PLACE_RESPONSE, (struct str){text, ANSWER_BYTES},
				      on_finding, NULL) < 0)
				return -1;
		samples[run] = (double)(time_monotonic_ns() - t0) / ANSWERS_PER_RUN / 1000;
	}
	printf("{\"name\":\"clean_answer_10k\",\"value\":%.3f,\"unit\":\"us\"}\n",
	       median_us(samples));
	return 0;
}

int main(void)
{
	struct scan_engine *en = NULL;
	struct policy p = {0};
	struct err e = {0};
	int r;

	if (load_policy(&p) < 0)
		return 1;
	if (scan_engine_new(&en, STR_NULL, &e) < 0) {
		fprintf(stderr, "scan engine: %s\n", e.text);
		return 1;
	}
	r = bench_urls(&p, en);
	if (r == 0)
		r = bench_answer(en);
	scan_engine_free(en);
	policy_free(&p);
	return r < 0 || n_findings ? 1 : 0;
}
