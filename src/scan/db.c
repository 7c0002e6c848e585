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
	uint64_t payload_n;
	uint8_t payload[32]; /* SHA-256 of what follows the header */
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

int scan_db_compile(struct scan_db *out, const unsigned *rules, size_t n, struct err *e)
{
	const char *regex[SCAN_RULES_MAX];
	unsigned flags[SCAN_RULES_MAX], ids[SCAN_RULES_MAX], k = 0;
	hs_compile_error_t *ce = NULL;
	hs_platform_info_t platform;
	int r;

	*out = (struct scan_db){0};
	for (size_t i = 0; i < n; i++) {
		const struct scan_rule *rule = &scan_rules[rules[i]];

		if (!rule->regex)
			continue;
		if ((r = rule_width(rule, &out->width[rules[i]], e)) < 0)
			return r;
		regex[k] = rule->regex;
		flags[k] = rule_hs_flags(rule);
		ids[k++] = rules[i];
	}
	if (hs_populate_platform(&platform) != HS_SUCCESS)
		return err_set(e, -ENOTSUP,
			       "this processor lacks SSSE3, which the scan engine needs");
	if (hs_compile_multi(regex, flags, ids, k, HS_MODE_STREAM, &platform, &out->hs, &ce) !=
	    HS_SUCCESS) {
		(void)err_set(e, -EINVAL, "rule %s: %s",
			      ce && ce->expression >= 0 ? scan_rules[ids[ce->expression]].id : "?",
			      ce ? ce->message : "?");
		hs_free_compile_error(ce);
		return -EINVAL;
	}
	return 0;
}

void scan_db_free(struct scan_db *db)
{
	if (db->hs)
		(void)hs_free_database(db->hs);
	db->hs = NULL;
}

int scan_db_pack(const struct scan_db *db, struct buf *out, struct err *e)
{
	struct db_header h;
	_cleanup_free_ char *bytes = NULL;
	_cleanup_free_ char *payload = NULL;
	size_t n, widths_n = sizeof(db->width);
	int r;

	if ((r = db_header_fill(&h, e)) < 0)
		return r;
	if (hs_serialize_database(db->hs, &bytes, &n) != HS_SUCCESS)
		return err_set(e, -ENOMEM, "serialise the rule database");
	if (n > DB_MAX)
		return err_set(e, -E2BIG, "the rule database has %zu bytes", n);
	payload = malloc(widths_n + n);
	if (!payload)
		return err_set(e, -ENOMEM, "serialise the rule database");
	memcpy(payload, db->width, widths_n);
	memcpy(payload + widths_n, bytes, n);
	h.payload_n = widths_n + n;
	SHA256((const uint8_t *)payload, h.payload_n, h.payload);
	if ((r = buf_append(out, &h, sizeof(h))) < 0 ||
	    (r = buf_append(out, payload, h.payload_n)) < 0)
		return err_set(e, r, "the rule database does not fit its buffer");
	return 0;
}

int scan_db_unpack(struct scan_db *db, struct str packed, struct err *e)
{
	struct db_header want, have;
	uint8_t sum[32];
	const char *payload;
	int r;

	*db = (struct scan_db){0};
	if ((r = db_header_fill(&want, e)) < 0)
		return r;
	if (packed.n < sizeof(have) + sizeof(db->width))
		return err_set(e, -EBADMSG, "rule cache: too short");
	memcpy(&have, packed.p, sizeof(have));
	want.payload_n = have.payload_n;
	memcpy(want.payload, have.payload, sizeof(want.payload));
	if (memcmp(&want, &have, sizeof(want)) != 0)
		return err_set(e, -EBADMSG,
			       "rule cache: made for other rules, engine or processor");
	payload = packed.p + sizeof(have);
	if (have.payload_n != packed.n - sizeof(have))
		return err_set(e, -EBADMSG, "rule cache: wrong size");
	SHA256((const uint8_t *)payload, have.payload_n, sum);
	if (memcmp(sum, have.payload, sizeof(sum)) != 0)
		return err_set(e, -EBADMSG, "rule cache: corrupt");
	memcpy(db->width, payload, sizeof(db->width));
	if (hs_deserialize_database(payload + sizeof(db->width), have.payload_n - sizeof(db->width),
				    &db->hs) != HS_SUCCESS)
		return err_set(e, -EBADMSG, "rule cache: refused by the engine");
	return 0;
}

int scan_compile(struct buf *out, struct err *e)
{
	struct scan_db db;
	unsigned all[SCAN_RULES_MAX];
	int r;

	for (unsigned i = 0; i < scan_rules_n; i++)
		all[i] = i;
	r = scan_db_compile(&db, all, scan_rules_n, e);
	if (r == 0)
		r = scan_db_pack(&db, out, e);
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
