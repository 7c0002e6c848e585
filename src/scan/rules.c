/* The table of rules. */
#include "scan/scan_int.h"
#include "scan/checks.h"

#include <assert.h>
#include <openssl/sha.h>

#define HOST	 (1u << SCAN_PLACE_HOST)
#define PATH	 (1u << SCAN_PLACE_PATH)
#define QUERY	 (1u << SCAN_PLACE_QUERY)
#define HEADER	 (1u << SCAN_PLACE_HEADER)
#define BODY	 (1u << SCAN_PLACE_BODY)
#define RESPONSE (1u << SCAN_PLACE_RESPONSE)
#define SENT	 (HOST | PATH | QUERY | HEADER | BODY)

#define POS(...)                                                                                   \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}
#define NEG(...) POS(__VA_ARGS__)
#define RULE(id, title, regex, flags, places, check, pos, neg)                                     \
	{id, title, regex, WALK_NONE, flags, places, check, pos, neg},
#define WALK(id, title, walk, flags, places, check, pos, neg)                                      \
	{id, title, NULL, walk, flags, places, check, pos, neg},

const struct scan_rule scan_rules[] = {
#include "scan/rules.def"
};
const size_t scan_rules_n = ARRAY_LEN(scan_rules);
static_assert(ARRAY_LEN(scan_rules) <= SCAN_RULES_MAX, "rules are indexes below SCAN_RULES_MAX");

size_t scan_rule_count(void)
{
	return scan_rules_n;
}

struct scan_rule_info scan_rule_info(size_t i)
{
	return (struct scan_rule_info){scan_rules[i].id, scan_rules[i].title};
}

void scan_rules_hash(uint8_t out[32])
{
	uint8_t sum[32] = {0};

	/* A chain of one-shot hashes: each over the sum so far and one rule. */
	for (size_t i = 0; i < scan_rules_n; i++) {
		const struct scan_rule *r = &scan_rules[i];
		char line[RULE_WIDTH_MAX * 2];
		int n = snprintf(line + 32, sizeof(line) - 32, "%s\n%s\n%u\n", r->id,
				 r->regex ? r->regex : "", r->flags);

		memcpy(line, sum, 32);
		if (n < 0 || (size_t)n >= sizeof(line) - 32)
			n = (int)sizeof(line) - 33;
		SHA256((const uint8_t *)line, (size_t)n + 32, sum);
	}
	memcpy(out, sum, 32);
}

bool scan_rule_is_block(const char *id)
{
	for (size_t i = 0; i < scan_rules_n; i++) {
		if (strcmp(scan_rules[i].id, id) == 0)
			return (scan_rules[i].flags & RULE_BLOCK) != 0;
	}
	return false;
}
