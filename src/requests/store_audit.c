/*
 * The audit: lines that are only added. Each carries SHA-256 over itself and the one before it, so
 * that a line that was changed, left out or put in by hand shows. The file's owner could compute
 * all of them anew; what it proves is that nothing happened by accident or in passing.
 */
#include "requests/store_int.h"

#include "base/clean.h"

#include <errno.h>
#include <openssl/evp.h>

#define AUDIT_COLUMNS "id,time,request,what,who,face,detail,seen,hash,chain"
#define AUDIT_TEXTS   5 /* from what on */

static void evp_free_p(EVP_MD_CTX **c)
{
	EVP_MD_CTX_free(*c);
}

static int chain_of(const uint8_t before[CHANGE_HASH_BYTES], const struct store_note *n,
		    uint8_t out[CHANGE_HASH_BYTES])
{
	static const uint8_t none[CHANGE_HASH_BYTES];
	const struct str texts[AUDIT_TEXTS] = {str_of(n->what), str_of(n->who), str_of(n->face),
					       n->detail, n->seen};
	_cleanup_(evp_free_p) EVP_MD_CTX *c = EVP_MD_CTX_new();
	bool is_good = c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1;
	const uint64_t numbers[] = {n->time, n->request};

	is_good = is_good && EVP_DigestUpdate(c, before, CHANGE_HASH_BYTES) == 1 &&
		  EVP_DigestUpdate(c, numbers, sizeof(numbers)) == 1 &&
		  EVP_DigestUpdate(c, n->hash ? n->hash : none, CHANGE_HASH_BYTES) == 1;
	/* Each with its length: no byte can move from one to the next. */
	for (size_t i = 0; is_good && i < AUDIT_TEXTS; i++) {
		uint64_t size = texts[i].n;

		is_good = EVP_DigestUpdate(c, &size, sizeof(size)) == 1 &&
			  EVP_DigestUpdate(c, texts[i].p ? texts[i].p : "", texts[i].n) == 1;
	}
	return is_good && EVP_DigestFinal_ex(c, out, NULL) == 1 ? 0 : -EIO;
}

int store_audit_add(struct store *s, const struct store_note *n, struct err *e)
{
	static const uint8_t none[CHANGE_HASH_BYTES];
	uint8_t before[CHANGE_HASH_BYTES] = {0}, chain[CHANGE_HASH_BYTES];
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int ret = store_prepare(s, &q, "SELECT chain FROM audit ORDER BY id DESC LIMIT 1", NULL, 0,
				e);

	if (ret == 0)
		ret = store_step_row(s, q, e);
	if (ret < 0)
		return ret;
	if (ret == 1)
		store_column_blob(q, 0, before, sizeof(before));
	if (chain_of(before, n, chain) < 0)
		return err_set(e, -EIO, "audit: SHA-256 failed");
	return store_run(s,
			 "INSERT INTO audit(time,request,what,who,face,detail,seen,hash,chain) "
			 "VALUES(?,?,?,?,?,?,?,?,?)",
			 STORE_VALUES(STORE_U64(n->time), STORE_U64(n->request),
				      STORE_CSTR(n->what), STORE_CSTR(n->who), STORE_CSTR(n->face),
				      STORE_STR(n->detail), STORE_STR(n->seen),
				      STORE_HASH(n->hash ? n->hash : none), STORE_HASH(chain)),
			 e);
}

/* A row of AUDIT_COLUMNS; the texts live until the next step. */
static void read_line(sqlite3_stmt *q, struct audit_line *out)
{
	*out = (struct audit_line){
		.time = store_column_u64(q, 1),
		.request = store_column_u64(q, 2),
		.what = store_column_str(q, 3).p,
		.who = store_column_str(q, 4).p,
		.face = store_column_str(q, 5).p,
		.detail = store_column_str(q, 6).p,
		.seen = store_column_str(q, 7).p,
	};
	store_column_blob(q, 8, out->hash, sizeof(out->hash));
}

int store_each_audit(struct store *s, size_t limit,
		     bool (*fn)(const struct audit_line *l, void *ctx), void *ctx, struct err *e)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	struct audit_line line;
	int ret =
		store_prepare(s, &q, "SELECT " AUDIT_COLUMNS " FROM audit ORDER BY id DESC LIMIT ?",
			      STORE_VALUES(STORE_U64(limit ? limit : INT64_MAX)), e);

	while (ret == 0 && (ret = store_step_row(s, q, e)) == 1) {
		read_line(q, &line);
		if (!fn(&line, ctx))
			return 0;
		ret = 0;
	}
	return ret;
}

int store_verify_audit(struct store *s, size_t *n, struct err *e)
{
	uint8_t before[CHANGE_HASH_BYTES] = {0}, chain[CHANGE_HASH_BYTES], kept[CHANGE_HASH_BYTES];
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	struct audit_line line;
	int ret =
		store_prepare(s, &q, "SELECT " AUDIT_COLUMNS " FROM audit ORDER BY id", NULL, 0, e);

	*n = 0;
	while (ret == 0 && (ret = store_step_row(s, q, e)) == 1) {
		struct store_note note;

		read_line(q, &line);
		note = (struct store_note){.time = line.time,
					   .request = line.request,
					   .what = line.what,
					   .who = line.who,
					   .face = line.face,
					   .detail = store_column_str(q, 6),
					   .seen = store_column_str(q, 7),
					   .hash = line.hash};
		store_column_blob(q, 9, kept, sizeof(kept));
		++*n;
		if (chain_of(before, &note, chain) < 0 || memcmp(chain, kept, sizeof(kept)) != 0 ||
		    store_column_u64(q, 0) != *n)
			return err_set(
				e, -EBADMSG,
				"the audit of bottle \"%s\" was changed at or before its line "
				"%zu",
				s->slug, *n);
		memcpy(before, chain, sizeof(before));
		ret = 0;
	}
	return ret;
}
