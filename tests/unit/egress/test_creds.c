/* What an agent may put into a request for a bound route, and what leaves in its place. */
#include "egress/creds.h"

#include "base/clean.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PH_BEARER "ph-bearer-0123456789abcdefgh"
#define PH_BASIC  "ph-basic-0123456789abcdefghi"
#define PH_KEY	  "ph-key-0123456789abcdefghijk"
#define REAL	  "sk-real-4f9a8b7c6d5e4f3a2b1c"

enum { ROUTE_BEARER, ROUTE_BASIC, ROUTE_KEY, ROUTE_OPEN, ROUTE_COUNT };

static struct policy_route routes[ROUTE_COUNT] = {
	{.host = (char *)"api.example.com",
	 .auth = {.scheme = POLICY_AUTH_BEARER, .placeholder = (char *)PH_BEARER, .credential = 0}},
	{.host = (char *)"git.example.com",
	 .auth = {.scheme = POLICY_AUTH_BASIC,
		  .placeholder = (char *)PH_BASIC,
		  .user = (char *)"bot",
		  .credential = 1}},
	{.host = (char *)"key.example.com",
	 .auth = {.scheme = POLICY_AUTH_HEADER,
		  .placeholder = (char *)PH_KEY,
		  .header = (char *)"x-api-key",
		  .credential = 2}},
	{.host = (char *)"open.example.com"},
};
static struct policy policy = {.routes = routes, .n_routes = ROUTE_COUNT};

struct fake_keyd {
	unsigned asked;
	int fails;
	uint32_t status;
	const char *value; /* NULL: by index */
	struct keyd_request last;
};

static int fake_ask(void *ctx, struct keyd_request *q, struct keyd_reply *r, struct err *e)
{
	static const char *const values[] = {
		("Bearer " REAL), "Basic Ym90OnNrLXJlYWwtNGY5YThiN2M2ZDVlNGYzYTJiMWM=", REAL};
	struct fake_keyd *k = ctx;
	const char *value = k->value ? k->value : values[q->index];

	k->asked++;
	k->last = *q;
	if (k->fails)
		return err_set(e, k->fails, "keyd does not answer");
	r->status = k->status;
	r->data_n = (uint32_t)strlen(value);
	memcpy(r->data, value, r->data_n);
	return 0;
}

static struct fake_keyd keyd;

static struct creds *fresh(void)
{
	struct creds *c;
	struct err e = ERR_INIT;

	keyd = (struct fake_keyd){0};
	if (creds_new(&c, &policy, fake_ask, &keyd, &e) < 0)
		fail_msg("%s", e.text);
	return c;
}

static struct http1_head head_for(int route, const char *const (*fields)[2], size_t n)
{
	struct http1_head h = {.is_request = true,
			       .method = HTTP1_POST,
			       .scheme = HTTP1_SCHEME_HTTPS,
			       .host = str_of(routes[route].host),
			       .port = 443,
			       .path = STR_LIT("/v1/messages")};

	for (size_t i = 0; i < n; i++)
		h.fields[h.n_fields++] =
			(struct http1_field){str_of(fields[i][0]), str_of(fields[i][1])};
	return h;
}

static enum creds_reason apply(struct creds *c, struct http1_head *h, int route)
{
	struct err e = ERR_INIT;

	return creds_apply(c, h, &routes[route], &e);
}

static struct str field(const struct http1_head *h, const char *name)
{
	for (size_t i = 0; i < h->n_fields; i++) {
		if (str_ieq(h->fields[i].name, str_of(name)))
			return h->fields[i].value;
	}
	return STR_NULL;
}

#define HEAD(route, ...)                                                                           \
	head_for(route, (const char *const[][2])__VA_ARGS__,                                       \
		 sizeof((const char *const[][2])__VA_ARGS__) / sizeof(char *[2]))

static void test_swaps(void **state)
{
	struct creds *c = fresh();
	struct http1_head h;

	(void)state;
	h = HEAD(ROUTE_BEARER, {{"Accept", "*/*"}, {"Authorization", "Bearer " PH_BEARER}});
	assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_OK);
	assert_true(str_eq(field(&h, "authorization"), STR_LIT("Bearer " REAL)));
	assert_true(str_eq(field(&h, "accept"), STR_LIT("*/*")));
	assert_string_equal(keyd.last.host, "api.example.com");
	assert_int_equal(keyd.last.port, 443);
	assert_int_equal(keyd.last.data_n, 12);
	assert_int_equal(keyd.last.op, KEYD_OP_HEADER);
	h = HEAD(ROUTE_BEARER, {{"authorization", "bearer   " PH_BEARER}});
	assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_OK);
	assert_int_equal(keyd.asked, 1);
	/* any:PH_BASIC and "":PH_BASIC */
	h = HEAD(ROUTE_BASIC,
		 {{"Authorization", "Basic YW55OnBoLWJhc2ljLTAxMjM0NTY3ODlhYmNkZWZnaGk="}});
	assert_int_equal(apply(c, &h, ROUTE_BASIC), CREDS_OK);
	assert_true(str_starts(field(&h, "authorization"), STR_LIT("Basic Ym90OnNr")));
	h = HEAD(ROUTE_KEY, {{"X-Api-Key", PH_KEY}});
	assert_int_equal(apply(c, &h, ROUTE_KEY), CREDS_OK);
	assert_true(str_eq(field(&h, "x-api-key"), STR_LIT(REAL)));
	assert_int_equal(keyd.asked, 3);
	/* All that was fetched is masked in answers, the coded pair as a whole too. */
	assert_true(scrub_find(creds_secrets(c), STR_LIT("=" REAL "=")));
	assert_true(scrub_find(creds_secrets(c),
			       STR_LIT("Ym90OnNrLXJlYWwtNGY5YThiN2M2ZDVlNGYzYTJiMWM=")));
	creds_free(c);
}

static void test_refuses(void **state)
{
	struct creds *c = fresh();
	struct http1_head h;

	(void)state;
	h = HEAD(ROUTE_BEARER, {{"Accept", "*/*"}});
	assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_MISSING);
	h = HEAD(ROUTE_BEARER, {{"Authorization", "Bearer attackers-own-key-123456"}});
	assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_MISSING);
	h = HEAD(ROUTE_BEARER, {{"Authorization", PH_BEARER}});
	assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_MISSING);
	h = HEAD(ROUTE_BEARER, {{"Authorization", "Basic " PH_BEARER}});
	assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_MISSING);
	h = HEAD(ROUTE_BEARER, {{"Authorization", "Bearer " PH_BEARER "x"}});
	assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_MISSING);
	h = HEAD(ROUTE_BEARER, {{"Authorization", "Bearer " PH_BEARER},
				{"authorization", "Bearer attackers-own-key-123456"}});
	assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_MISSING);
	h = HEAD(ROUTE_BASIC, {{"Authorization", "Basic !!!!"}});
	assert_int_equal(apply(c, &h, ROUTE_BASIC), CREDS_MISSING);
	h = HEAD(ROUTE_BASIC, {{"Authorization", "Basic ===="}});
	assert_int_equal(apply(c, &h, ROUTE_BASIC), CREDS_MISSING);
	h = HEAD(ROUTE_KEY, {{"x-api-key", PH_BEARER}});
	assert_int_equal(apply(c, &h, ROUTE_KEY), CREDS_MISSING);
	h = HEAD(ROUTE_KEY, {{"Authorization", "Bearer " PH_KEY}});
	assert_int_equal(apply(c, &h, ROUTE_KEY), CREDS_MISSING);
	h = HEAD(ROUTE_BEARER, {{"Authorization", "Bearer " PH_BEARER}});
	h.scheme = HTTP1_SCHEME_HTTP;
	assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_PLAIN_HTTP);
	/* None of them has made keyd give anything. */
	assert_int_equal(keyd.asked, 0);
	creds_free(c);
}

static void test_misplaced(void **state)
{
	struct creds *c = fresh();
	struct http1_head h;

	(void)state;
	h = HEAD(ROUTE_OPEN, {{"Authorization", "Bearer " PH_BEARER}});
	assert_int_equal(apply(c, &h, ROUTE_OPEN), CREDS_MISPLACED);
	h = HEAD(ROUTE_OPEN, {{"X-Note", "YW55OnBoLWJhc2ljLTAxMjM0NTY3ODlhYmNkZWZnaGk="}});
	assert_int_equal(apply(c, &h, ROUTE_OPEN), CREDS_MISPLACED);
	h = HEAD(ROUTE_OPEN, {{"Accept", "*/*"}});
	h.query = STR_LIT("q=" PH_KEY);
	assert_int_equal(apply(c, &h, ROUTE_OPEN), CREDS_MISPLACED);
	h = HEAD(ROUTE_OPEN, {{"Accept", "*/*"}});
	h.path = STR_LIT("/x/" PH_KEY "/y");
	assert_int_equal(apply(c, &h, ROUTE_OPEN), CREDS_MISPLACED);
	/* On a bound route, too, outside of the one header: its own and another's. */
	h = HEAD(ROUTE_BEARER, {{"Authorization", "Bearer " PH_BEARER}, {"X-Copy", PH_BEARER}});
	assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_MISPLACED);
	h = HEAD(ROUTE_BEARER, {{"Authorization", "Bearer " PH_BEARER}, {"X-Copy", PH_KEY}});
	assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_MISPLACED);
	/* An open route is free to carry what is not ours. */
	h = HEAD(ROUTE_OPEN, {{"Authorization", "Bearer own"}, {"Cookie", "a=b"}});
	assert_int_equal(apply(c, &h, ROUTE_OPEN), CREDS_OK);
	assert_int_equal(h.n_fields, 2);
	assert_int_equal(keyd.asked, 0);
	creds_free(c);
}

static void test_strips(void **state)
{
	static const char *const stripped[] = {"Cookie",
					       "X-Api-Key",
					       "api-key",
					       "X-Goog-Api-Key",
					       "Proxy-Authorization",
					       "PRIVATE-TOKEN",
					       "X-Amz-Security-Token",
					       "X-Auth-Token",
					       "Ocp-Apim-Subscription-Key",
					       "x-functions-key",
					       "X_API_KEY",
					       "Job-Token",
					       "x-vault-token",
					       "DD-APPLICATION-KEY",
					       "X-Master-Key"};
	static const char *const kept[] = {"Accept",	     "User-Agent",	"anthropic-version",
					   "anthropic-beta", "Idempotency-Key", "X-Stainless-Os",
					   "Content-Type",   "X-CSRF-Token",	"x-app",
					   "Sec-Fetch-Mode", "X-Request-Id",	"authority",
					   "x-tokens-max"};
	struct creds *c = fresh();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(stripped); i++) {
		struct http1_head h = HEAD(ROUTE_BEARER, {{stripped[i], "attackers-own-key-123456"},
							  {"Authorization", "Bearer " PH_BEARER}});

		if (!creds_is_auth_header(str_of(stripped[i])))
			fail_msg("%s passes", stripped[i]);
		assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_OK);
		assert_int_equal(h.n_fields, 1);
		assert_true(str_eq(h.fields[0].value, STR_LIT("Bearer " REAL)));
	}
	for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
		if (creds_is_auth_header(str_of(kept[i])))
			fail_msg("%s is stripped", kept[i]);
	}
	creds_free(c);
}

static void test_query(void **state)
{
	static const char *const foreign[] = {
		"key=abc",	    "a=b&api_key=x",   "API-KEY=x",
		"access%5Ftoken=x", "%6bey=1",	       "X-Amz-Signature=00",
		"x=1;token=y",	    "private_token=z", "key[]=x"};
	static const char *const fine[] = {"",
					   "a=b",
					   "keys=1",
					   "key",
					   "pageToken=3",
					   "q=key%3Dabc",
					   "monkey=1",
					   "limit=10&beta=true"};
	struct creds *c = fresh();
	struct http1_head h;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
		if (!creds_query_has_credential(str_of(foreign[i])))
			fail_msg("%s passes", foreign[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
		if (creds_query_has_credential(str_of(fine[i])))
			fail_msg("%s is refused", fine[i]);
	}
	h = HEAD(ROUTE_BEARER, {{"Authorization", "Bearer " PH_BEARER}});
	h.query = STR_LIT("key=attackers");
	assert_int_equal(apply(c, &h, ROUTE_BEARER), CREDS_FOREIGN);
	h = HEAD(ROUTE_OPEN, {{"Accept", "*/*"}});
	h.query = STR_LIT("key=own");
	assert_int_equal(apply(c, &h, ROUTE_OPEN), CREDS_OK);
	creds_free(c);
}

static void test_keyd_fails(void **state)
{
	struct creds *c = fresh();
	struct http1_head h, good = HEAD(ROUTE_KEY, {{"x-api-key", PH_KEY}});
	char long_path[2000];

	(void)state;
	h = good;
	keyd.fails = -ETIMEDOUT;
	assert_int_equal(apply(c, &h, ROUTE_KEY), CREDS_UNAVAILABLE);
	assert_true(str_eq(field(&h, "x-api-key"), STR_LIT(PH_KEY)));
	keyd.fails = 0;
	keyd.status = KEYD_DENIED;
	h = good;
	assert_int_equal(apply(c, &h, ROUTE_KEY), CREDS_DENIED);
	keyd.status = KEYD_OK;
	keyd.value = "line\r\nX-Injected: 1";
	h = good;
	assert_int_equal(apply(c, &h, ROUTE_KEY), CREDS_DENIED);
	keyd.value = "";
	h = good;
	assert_int_equal(apply(c, &h, ROUTE_KEY), CREDS_DENIED);
	/* Too short to be masked in an answer: not sent. */
	keyd.value = "short";
	h = good;
	assert_int_equal(apply(c, &h, ROUTE_KEY), CREDS_DENIED);
	keyd.value = NULL;
	memset(long_path, '/', sizeof(long_path));
	h = good;
	h.path = str_slice(long_path, sizeof(long_path));
	assert_int_equal(apply(c, &h, ROUTE_KEY), CREDS_DENIED);
	h = good;
	assert_int_equal(apply(c, &h, ROUTE_KEY), CREDS_OK);
	creds_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_swaps),	  cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_misplaced), cmocka_unit_test(test_strips),
		cmocka_unit_test(test_query),	  cmocka_unit_test(test_keyd_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
