/* The policy's JSON: refused with nothing left behind, or written out again the same; and the
 * decision holds its promises for hosts and paths taken from the same bytes. */
#include "fuzz.h"

#include "conf/policy.h"

#include <stdlib.h>

/* What was accepted is written in a form that is accepted and written the same. */
static void check_round_trip(const struct policy *p)
{
	struct policy again;
	struct buf one, two;
	struct err e = ERR_INIT;

	buf_init(&one, 2 * POLICY_JSON_MAX_BYTES);
	buf_init(&two, 2 * POLICY_JSON_MAX_BYTES);
	if (policy_to_json(p, &one, &e) < 0)
		abort();
	/* A grant carries no credential, and stands behind all that is none. */
	for (size_t i = 0; i < p->n_routes; i++)
		if ((p->routes[i].grant == 0 && i > 0 && p->routes[i - 1].grant > 0) ||
		    (p->routes[i].grant > 0 && p->routes[i].auth.scheme != POLICY_AUTH_NONE) ||
		    (p->routes[i].grant == 0 && p->routes[i].is_once))
			abort();
	if (buf_len(&one) <= POLICY_JSON_MAX_BYTES && !policy_differs_only_in_grants(p, p))
		abort();
	if (buf_len(&one) <= POLICY_JSON_MAX_BYTES) {
		if (policy_from_json(&again, buf_str(&one), &e) < 0 ||
		    policy_to_json(&again, &two, &e) < 0 || !str_eq(buf_str(&one), buf_str(&two)))
			abort();
		policy_free(&again);
	}
	buf_free(&one);
	buf_free(&two);
}

static void check_host(struct str raw)
{
	char once[POLICY_HOST_MAX + 1], twice[POLICY_HOST_MAX + 1];
	enum policy_reason r = policy_host_canonical(raw, once);

	(void)!policy_host_pattern_check(raw, NULL);
	if (r != POLICY_OK) {
		if (once[0])
			abort();
		return;
	}
	if (policy_host_canonical(str_of(once), twice) != POLICY_OK || strcmp(once, twice) != 0)
		abort();
}

/* Whatever is allowed has no dot segment once its escapes are undone. */
static void check_path(const struct policy *p, struct str path)
{
	static const uint16_t ports[] = {443, 80, 8443};

	for (size_t i = 0; i < p->n_routes; i++)
		for (size_t k = 0; k < sizeof(ports) / sizeof(ports[0]); k++) {
			struct policy_decision d = policy_decide(p, str_of(p->routes[i].host),
								 ports[k], POLICY_METHOD_GET, path);

			if (d.reason == POLICY_OK &&
			    (!d.route || path.n == 0 || path.p[0] != '/' ||
			     str_find(path, STR_LIT("/../")) < str_chr(path, '?') ||
			     str_find(path, STR_LIT("/%2e%2e/")) < str_chr(path, '?')))
				abort();
		}
}

static const char table_json[] =
	"{\"version\":1,\"routes\":[{\"host\":\"a.example\",\"ports\":[443],\"methods\":[\"GET\"],"
	"\"paths\":[\"/v1/*x*/**\",\"/a*b\"],\"on_match\":\"block\",\"websocket\":false},"
	"{\"host\":\"b.example\",\"ports\":[443],\"methods\":[\"GET\"],\"paths\":[],"
	"\"on_match\":\"block\",\"websocket\":false}],\"resolve\":[]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct policy p;
	struct str all = str_slice(data, n), head, tail;
	struct sockaddr_storage address;
	bool found;

	if (policy_from_json(&p, all, NULL) == 0) {
		check_round_trip(&p);
		policy_free(&p);
	} else if (p.routes || p.n_routes || p.resolve || p.ca_pem) {
		abort();
	}
	tail = str_cut(all, '\n', &head, &found);
	check_host(head);
	(void)!policy_address_parse(head, &address, NULL);
	if (policy_from_json(&p, str_slice(table_json, sizeof(table_json) - 1), NULL) < 0)
		abort();
	check_path(&p, tail);
	policy_free(&p);
	return 0;
}
