/*
 * The compiled database and its serialised form. A cache file is input like any other: its header
 * names everything that the database depends on and hashes what follows, and whatever does not
 * match is an error that the caller answers by compiling anew.
 */
#include "scan/scan_int.h"
#include "base/text.h"

#include <errno.h>
#include <openssl/sha.h>

#define DB_MAGIC   "CBSCANDB"
#define DB_VERSION 1
#define DB_MAX	   (64u << 20)

struct db_header {
	char magic[8];
	uint32_t version;
	uint32_t rules_n;
	uint8_t rules[32];
	char hs_version[64];
	uint64_t cpu_features;
	uint64_t hs_n[WAY_COUNT]; /* bytes of each database */
	uint8_t payload[32];	  /* SHA-256 of what follows the header */
};

static int db_header_fill(struct db_header *h, struct err *e)
{
	hs_platform_info_t platform;

	memset(h, 0, sizeof(*h));
	memcpy(h->magic, DB_MAGIC, sizeof(h->magic));
	h->version = DB_VERSION;
	h->rules_n = (uint32_t)scan_rules_n;
	scan_rules_hash(h->rules);
	(void)snprintf(h->hs_version, sizeof(h->hs_version), "%s", hs_version());
	if (hs_valid_platform() != HS_SUCCESS || hs_populate_platform(&platform) != HS_SUCCESS)
		return err_set(e, -ENOTSUP,
			       "this processor lacks SSSE3, which the scan engine needs");
	h->cpu_features = platform.cpu_features;
	return 0;
}

static unsigned rule_hs_flags(const struct scan_rule *r)
{
	return HS_FLAG_DOTALL | (r->flags & RULE_ICASE ? HS_FLAG_CASELESS : 0u);
}

static int rule_width(const struct scan_rule *r, uint32_t *width, struct err *e)
{
	hs_expr_info_t *info = NULL;
	hs_compile_error_t *ce = NULL;

	if (hs_expression_info(r->regex, rule_hs_flags(r), &info, &ce) != HS_SUCCESS) {
		(void)err_set(e, -EINVAL, "rule %s: %s", r->id, ce ? ce->message : "?");
		hs_free_compile_error(ce);
		return -EINVAL;
	}
	*width = info->max_width;
	free(info);
	if (*width > RULE_WIDTH_MAX)
		return err_set(e, -EINVAL, "rule %s may cover more than %d bytes", r->id,
			       RULE_WIDTH_MAX);
	return 0;
}

static int way_compile(struct scan_db *out, enum scan_way way, const unsigned *rules, size_t n,
		       struct err *e)
{
	const char *regex[SCAN_RULES_MAX];
	unsigned flags[SCAN_RULES_MAX], ids[SCAN_RULES_MAX], k = 0;
	hs_compile_error_t *ce = NULL;
	hs_platform_info_t platform;
	int r;

	for (size_t i = 0; i < n; i++) {
		const struct scan_rule *rule = &scan_rules[rules[i]];
		unsigned mask = 1u << SCAN_PLACE_RESPONSE;

		if (!rule->regex || !(rule->places & (way == WAY_BACK ? mask : ~mask)))
			continue;
		if ((r = rule_width(rule, &out->width[rules[i]], e)) < 0)
			return r;
		regex[k] = rule->regex;
		flags[k] = rule_hs_flags(rule);
		ids[k++] = rules[i];
	}
	if (k == 0) { /* a database must have something; matches of this id are dropped */
		regex[k] = "\\x00\\x01\\xfe\\xff\\x00\\x01\\xfe\\xff";
		flags[k] = 0;
		ids[k++] = SCAN_RULES_MAX;
	}
	if (hs_populate_platform(&platform) != HS_SUCCESS)
		return err_set(e, -ENOTSUP,
			       "this processor lacks SSSE3, which the scan engine needs");
	if (hs_compile_multi(regex, flags, ids, k, HS_MODE_STREAM, &platform, &out->hs[way], &ce) !=
	    HS_SUCCESS) {
		(void)err_set(e, -EINVAL, "rule %s: %s",
			      ce && ce->expression >= 0 && ids[ce->expression] < scan_rules_n
				      ? scan_rules[ids[ce->expression]].id
				      : "?",
			      ce ? ce->message : "?");
		hs_free_compile_error(ce);
		return -EINVAL;
	}
	return 0;
}

int scan_db_compile(struct scan_db *out, const unsigned *rules, size_t n, struct err *e)
{
	int r = 0;

	*out = (struct scan_db){0};
	for (unsigned way = 0; way < WAY_COUNT && r == 0; way++)
		r = way_compile(out, (enum scan_way)way, rules, n, e);
	if (r < 0)
		scan_db_free(out);
	return r;
}

void scan_db_free(struct scan_db *db)
{
	for (size_t i = 0; i < WAY_COUNT; i++) {
		if (db->hs[i])
			(void)hs_free_database(db->hs[i]);
		db->hs[i] = NULL;
	}
}

int scan_db_pack(const struct scan_db *db, struct buf *out, struct err *e)
{
	struct db_header h;
	struct buf payload;
	int r;

	if ((r = db_header_fill(&h, e)) < 0)
		return r;
	buf_init(&payload, DB_MAX);
	r = buf_append(&payload, db->width, sizeof(db->width));
	for (size_t i = 0; i < WAY_COUNT && r == 0; i++) {
		_cleanup_free_ char *bytes = NULL;
		size_t n;

		if (hs_serialize_database(db->hs[i], &bytes, &n) != HS_SUCCESS)
			r = -ENOMEM;
		else
			r = buf_append(&payload, bytes, n);
		h.hs_n[i] = n;
	}
	SHA256((const uint8_t *)buf_str(&payload).p, buf_len(&payload), h.payload);
	if (r == 0)
		r = buf_append(out, &h, sizeof(h));
	if (r == 0)
		r = buf_append_str(out, buf_str(&payload));
	buf_free(&payload);
	return r < 0 ? err_set(e, r, "serialise the rule database") : 0;
}

static int db_unpack_payload(struct scan_db *db, const struct db_header *h, struct str payload,
			     struct err *e)
{
	uint64_t at = sizeof(db->width);
	uint8_t sum[32];

	for (size_t i = 0; i < WAY_COUNT; i++) {
		if (h->hs_n[i] > payload.n - at)
			return err_set(e, -EBADMSG, "rule cache: wrong size");
		at += h->hs_n[i];
	}
	if (at != payload.n)
		return err_set(e, -EBADMSG, "rule cache: wrong size");
	SHA256((const uint8_t *)payload.p, payload.n, sum);
	if (memcmp(sum, h->payload, sizeof(sum)) != 0)
		return err_set(e, -EBADMSG, "rule cache: corrupt");
	memcpy(db->width, payload.p, sizeof(db->width));
	at = sizeof(db->width);
	for (size_t i = 0; i < WAY_COUNT; at += h->hs_n[i++])
		if (hs_deserialize_database(payload.p + at, h->hs_n[i], &db->hs[i]) != HS_SUCCESS)
			return err_set(e, -EBADMSG, "rule cache: refused by the engine");
	return 0;
}

int scan_db_unpack(struct scan_db *db, struct str packed, struct err *e)
{
	struct db_header want, have;
	int r;

	*db = (struct scan_db){0};
	if ((r = db_header_fill(&want, e)) < 0)
		return r;
	if (packed.n < sizeof(have) + sizeof(db->width))
		return err_set(e, -EBADMSG, "rule cache: too short");
	memcpy(&have, packed.p, sizeof(have));
	memcpy(want.hs_n, have.hs_n, sizeof(want.hs_n));
	memcpy(want.payload, have.payload, sizeof(want.payload));
	if (memcmp(&want, &have, sizeof(want)) != 0)
		return err_set(e, -EBADMSG,
			       "rule cache: made for other rules, engine or processor");
	r = db_unpack_payload(db, &have, str_sub(packed, sizeof(have), packed.n), e);
	if (r < 0)
		scan_db_free(db);
	return r;
}

int scan_compile(struct buf *out, struct err *e)
{
	struct scan_engine *en = NULL;
	struct scan_db db;
	unsigned all[SCAN_RULES_MAX];
	int r;

	for (unsigned i = 0; i < scan_rules_n; i++)
		all[i] = i;
	r = scan_db_compile(&db, all, scan_rules_n, e);
	if (r == 0)
		r = scan_db_pack(&db, out, e);
	if (r == 0)
		r = scan_engine_new_from_db(&en, &db, e);
	if (r == 0)
		r = scan_engine_selftest_full(en, e);
	if (r < 0)
		buf_reset(out);
	scan_engine_free(en);
	scan_db_free(&db);
	return r;
}

void scan_cache_key(char out[65])
{
	struct db_header h;
	uint8_t sum[32];

	/* On a processor that cannot scan, any name does: the engine refuses to start. */
	(void)db_header_fill(&h, NULL);
	SHA256((const uint8_t *)&h, sizeof(h), sum);
	text_hex(out, sum, sizeof(sum));
}
