#include "keyd/role_engine.h"

#include "base/clean.h"
#include "base/log.h"
#include "base/mem.h"
#include "keyd/keyd_proto.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROLE_ENGINE_RULES_MAX_BYTES (64u << 20)

/* Roles that start at the same time share the open file, and so its offset: it is not used. NULL:
 * there is no cache. */
static char *engine_read_rules(int rules_fd, struct str *db)
{
	_cleanup_free_ char *text = NULL;
	struct stat st;

	if (rules_fd < 0 || fstat(rules_fd, &st) < 0 || st.st_size <= 0 ||
	    st.st_size > (off_t)ROLE_ENGINE_RULES_MAX_BYTES)
		return NULL;
	text = mem_zalloc((size_t)st.st_size);
	for (off_t at = 0; at < st.st_size;) {
		ssize_t n = pread(rules_fd, text + at, (size_t)(st.st_size - at), at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return NULL;
		at += n;
	}
	*db = str_slice(text, (size_t)st.st_size);
	return take_ptr(&text);
}

static struct scan_engine *engine_with_rules(int rules_fd, struct err *e)
{
	struct scan_engine *en = NULL;
	struct str db = STR_NULL;
	_cleanup_free_ char *text = engine_read_rules(rules_fd, &db);

	if (text && scan_engine_new(&en, db, e) < 0)
		log_warn("the cached rules are not used: %s", e->text);
	if (!en && scan_engine_new(&en, STR_NULL, e) < 0)
		return NULL;
	if (scan_engine_selftest(en, e) < 0) {
		(void)err_prefix(e, "the scan engine failed its self-test");
		scan_engine_free(en);
		return NULL;
	}
	return en;
}

static int engine_take_prints(struct scan_engine *en, int keyd_fd, struct err *e)
{
	struct scan_print prints[SCAN_PRINTS_MAX];
	struct scan_print_key key = {0};
	struct keyd_prints got;
	struct keyd_reply r;

	for (uint32_t n = 0;; n++) {
		struct keyd_request q = {.op = KEYD_OP_PRINTS, .index = n};
		int ret = keyd_ask(keyd_fd, &q, &r, KEYD_TIMEOUT_MS, e);

		if (ret < 0)
			return err_prefix(e, "fetch fingerprints");
		if (r.status == KEYD_END)
			return n == 0 ? 0 : scan_engine_set_prints(en, &key, prints, n, e);
		if (r.status != KEYD_OK || r.data_n != sizeof(got) || n == SCAN_PRINTS_MAX)
			return err_set(e, -EPROTO, "keyd gave no fingerprint (status %u)",
				       r.status);
		memcpy(&got, r.data, sizeof(got));
		key = got.key;
		prints[n] = got.print;
	}
}

struct scan_engine *role_engine_new(int rules_fd, int keyd_fd, struct err *e)
{
	struct scan_engine *en = engine_with_rules(rules_fd, e);

	if (en && engine_take_prints(en, keyd_fd, e) < 0) {
		scan_engine_free(en);
		return NULL;
	}
	return en;
}
