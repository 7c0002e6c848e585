/* The check of a push, from its updates to the report. See check_int.h for how it goes. */
#include "gitgate/check_int.h"
#include "base/clean.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <openssl/rand.h>
#include <signal.h>
#include <stdlib.h>

static void check_free(struct check *c)
{
	check_find_free(c);
	for (size_t i = 0; i < ARRAY_LEN(c->text); i++) {
		scan_stream_close(c->text[i].stream);
		free(c->text[i].p);
	}
	for (size_t i = 0; i < c->n_modules; i++)
		free(c->modules[i].path);
	free(c->modules);
	free(c->trees);
	free(c->deltas);
	free(c->others);
	free(c->seen);
	archive_free(c->archive);
	free(c);
}

static void check_free_p(struct check **c)
{
	if (*c)
		check_free(*c);
}

/* The new tips, one a line: what rev-list is to begin at. */
static int tips_make(const struct check_input *in, struct buf *tips, struct err *e)
{
	static const char zeroes[] = "0000000000000000000000000000000000000000";
	int r = 0;

	if (in->n_updates > CHECK_UPDATES_MAX)
		return err_set(e, -E2BIG, "more than %d refs in one push", CHECK_UPDATES_MAX);
	for (size_t i = 0; i < in->n_updates && r == 0; i++) {
		const char *hex = in->updates[i].new_oid;

		if (strnlen(hex, GIT_OID_SIZE) != GIT_OID_SIZE - 1)
			return err_set(e, -EINVAL, "a malformed object id");
		for (size_t k = 0; k < GIT_OID_SIZE - 1; k++)
			if (ascii_hex_value(hex[k]) < 0)
				return err_set(e, -EINVAL, "a malformed object id");
		if (strcmp(hex, zeroes) != 0)
			r = buf_printf(tips, "%s\n", hex);
	}
	return r < 0 ? err_set(e, r, "too many refs in one push") : 0;
}

static int refs_look(struct check *c)
{
	int r = 0;

	for (size_t i = 0; i < c->in->n_updates && r == 0; i++) {
		struct str ref = str_slice(c->in->updates[i].ref,
					   strnlen(c->in->updates[i].ref, GIT_REF_MAX + 1));

		r = check_scan(c, SCAN_PLACE_PATH, "ref name", ref);
		if (r == 0)
			r = check_scan(c, SCAN_PLACE_BODY, "ref name", ref);
	}
	return r;
}

static int check_all(struct check *c, struct str tips)
{
	int r = refs_look(c);

	if (r < 0 || tips.n == 0)
		return r;
	if ((r = check_objects(c, tips)) < 0)
		return r;
	(void)check_delta_chains(c);
	/* What git cannot read, or what is too much, is refused without its paths. */
	if (c->has_failed || c->out->n_objects > c->in->objects_max)
		return 0;
	if ((r = check_paths(c, tips)) < 0 || c->has_failed)
		return r;
	if ((r = check_modules(c)) < 0)
		return r;
	return check_known(c, tips);
}

int check_push(const struct check_input *in, struct check_report *out, struct err *e)
{
	_cleanup_(check_free_p) struct check *c = mem_zalloc(sizeof(*c));
	_cleanup_(buf_free) struct buf tips;
	struct sigaction old, ignore = {.sa_handler = SIG_IGN};
	uint64_t began = time_monotonic_ns();
	int r;

	memset(out, 0, sizeof(*out));
	buf_init(&tips, (size_t)CHECK_UPDATES_MAX * GIT_OID_SIZE);
	c->in = in;
	c->out = out;
	c->e = e;
	c->seen = mem_zalloc_array(CHECK_SEEN_SLOTS, sizeof(*c->seen));
	if (RAND_bytes((uint8_t *)c->seen_key, sizeof(c->seen_key)) != 1)
		return err_set(e, -EIO, "no random bytes");
	if ((r = tips_make(in, &tips, e)) < 0)
		return r;
	/* A git that ends before it has read everything is no reason to end. */
	(void)sigaction(SIGPIPE, &ignore, &old);
	r = check_all(c, buf_str(&tips));
	(void)sigaction(SIGPIPE, &old, NULL);
	if (r < 0) {
		memset(out, 0, sizeof(*out));
		if (e && e->code == 0) /* the engine gives a number alone */
			return err_set(e, r,
				       r == -ENOMEM ? "there is no memory to look at the push"
						    : "the scan of the push failed");
		return r;
	}
	r = check_report_make(c);
	out->duration_us = (time_monotonic_ns() - began) / 1000;
	return r;
}
