#include "cli/runs.h"

#include "base/buf.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>

#define RUNS_FILE     "runs.jsonl"
#define RUNS_LINE_MAX 128
#define RUNS_BYTES    (RUNS_MAX * RUNS_LINE_MAX)

static bool is_hash(const char *hex)
{
	unsigned char bytes[32];

	return hex && text_unhex(bytes, sizeof(bytes), str_of(hex));
}

static bool parse_end(struct str line, struct runs_end *out)
{
	json_t *root = json_loadb(line.p ? line.p : "", line.n, JSON_REJECT_DUPLICATES, NULL);
	json_t *after = json_object_get(root, "after");
	const char *hash = json_string_value(json_object_get(root, "hash"));
	bool is_good = json_is_integer(after) && json_integer_value(after) >= 0 && is_hash(hash);

	if (is_good) {
		out->after = (uint64_t)json_integer_value(after);
		(void)!str_to_cstr(out->hash_hex, sizeof(out->hash_hex), str_of(hash));
	}
	json_decref(root);
	return is_good;
}

int runs_load(int dir, struct runs *out, struct err *e)
{
	_cleanup_close_ int fd =
		openat(dir, RUNS_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	_cleanup_free_ char *text = NULL;
	struct str rest;
	size_t cap = 0;
	int r;

	*out = (struct runs){0};
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return err_errno(e, "open " RUNS_FILE);
	r = io_read_all(fd, RUNS_BYTES, &rest, e);
	if (r < 0)
		return err_prefix(e, RUNS_FILE);
	text = (char *)rest.p;
	while (rest.n > 0) {
		struct runs_end end;
		struct str line;
		bool found;

		rest = str_cut(rest, '\n', &line, &found);
		if (!found || out->n == RUNS_MAX || !parse_end(line, &end) ||
		    (out->n > 0 && end.after <= out->ends[out->n - 1].after)) {
			size_t at = out->n + 1;

			runs_free(out);
			return err_set(e, -EBADMSG, RUNS_FILE " is damaged in line %zu", at);
		}
		out->ends = mem_grow_array(out->ends, &cap, out->n + 1, sizeof(*out->ends));
		out->ends[out->n++] = end;
	}
	return 0;
}

void runs_free(struct runs *r)
{
	free(r->ends);
	*r = (struct runs){0};
}

static int put_end(struct buf *b, const struct runs_end *end)
{
	return buf_printf(b, "{\"after\":%" PRIu64 ",\"hash\":\"%s\"}\n", end->after,
			  end->hash_hex);
}

int runs_add(int dir, const struct runs *r, const struct runs_end *end, struct err *e)
{
	_cleanup_(buf_free) struct buf b = BUF_INIT(RUNS_BYTES);
	int ret = 0;

	if (r->n > 0 && r->ends[r->n - 1].after == end->after)
		return 0;
	if (r->n == RUNS_MAX)
		return err_set(e, -E2BIG, "it has been resumed %d times, and no more are counted",
			       RUNS_MAX);
	for (size_t i = 0; ret == 0 && i < r->n; i++)
		ret = put_end(&b, &r->ends[i]);
	if (ret == 0)
		ret = put_end(&b, end);
	if (ret < 0)
		return err_set(e, ret, RUNS_FILE " is too large");
	return io_write_file_atomic(dir, RUNS_FILE, buf_str(&b), 0600, e);
}
