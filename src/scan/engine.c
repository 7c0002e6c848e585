/* The engine: one database, one scratch space, the buffers of every depth, a pool of streams. */
#include "scan/decode.h"
#include "base/mem.h"

#include <errno.h>
#include <openssl/rand.h>

int scan_engine_new_from_db(struct scan_engine **out, struct scan_db *db, struct err *e)
{
	struct scan_engine *en = mem_zalloc(sizeof(*en));
	bool is_set_up = true;

	*out = NULL;
	en->db = *db;
	*db = (struct scan_db){0};
	buf_init(&en->prints.squeezed, SCAN_VIEW_BYTES_MAX + 64);
	en->window = malloc(SCAN_HOLDBACK_BYTES + SCAN_PIECE_BYTES);
	for (size_t i = 0; i < WALK_COUNT; i++)
		en->walk_rule[i] = UINT32_MAX;
	for (unsigned i = 0; i < scan_rules_n; i++)
		en->walk_rule[scan_rules[i].walk] = i;
	en->inflater = scan_inflater_new();
	for (size_t i = 0; i < WAY_COUNT; i++)
		is_set_up &= hs_alloc_scratch(en->db.hs[i], &en->scratch) == HS_SUCCESS &&
			     hs_open_stream(en->db.hs[i], 0, &en->hs[i]) == HS_SUCCESS;
	if (!is_set_up || !en->window || !en->inflater ||
	    RAND_bytes((uint8_t *)en->hash_key, sizeof(en->hash_key)) != 1) {
		scan_engine_free(en);
		return err_set(e, -ENOMEM, "set up the scan engine");
	}
	*out = en;
	return 0;
}

int scan_engine_new(struct scan_engine **out, struct str packed, struct err *e)
{
	struct scan_db db;
	unsigned all[SCAN_RULES_MAX];
	int r;

	*out = NULL;
	for (unsigned i = 0; i < scan_rules_n; i++)
		all[i] = i;
	r = packed.n ? scan_db_unpack(&db, packed, e) : scan_db_compile(&db, all, scan_rules_n, e);
	if (r == 0)
		r = scan_engine_new_from_db(out, &db, e);
	if (r == 0 && packed.n == 0 && (r = scan_engine_selftest_full(*out, e)) < 0) {
		scan_engine_free(*out);
		*out = NULL;
	}
	scan_db_free(&db);
	return r;
}

void scan_engine_free(struct scan_engine *en)
{
	if (!en)
		return;
	for (size_t i = 0; i < WAY_COUNT; i++) {
		while (en->free_streams[i]) {
			struct scan_stream *s = en->free_streams[i];

			en->free_streams[i] = s->next_free;
			(void)hs_close_stream(s->hs, NULL, NULL, NULL);
			free(s);
		}
		if (en->hs[i])
			(void)hs_close_stream(en->hs[i], NULL, NULL, NULL);
	}
	if (en->scratch)
		(void)hs_free_scratch(en->scratch);
	scan_db_free(&en->db);
	for (size_t i = 0; i <= SCAN_DEPTH_MAX; i++) {
		free(en->out[i].p);
		free(en->class[i].token.p);
		free(en->class[i].spaced.p);
		free(en->class[i].digit.p);
		free(en->class[i].word.p);
	}
	free(en->side.p);
	scan_inflater_free(en->inflater);
	free(en->window);
	buf_free(&en->prints.squeezed);
	mem_wipe(&en->prints, sizeof(en->prints));
	free(en);
}
