/* What has happened in a bottle, as lines for people. */
#include "face/face_int.h"

#include "base/io.h"
#include "base/json.h"
#include "base/text.h"
#include "base/timeutil.h"
#include "record/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define LINE_MAX_BYTES 1024
#define RECORDS_MAX    200
#define CLOCK_SIZE     9

static void text_of(const json_t *root, const char *key, char *out, size_t size)
{
	const char *s = json_string_value(json_object_get(root, key));

	text_visible_once_cstr(out, size, str_of(s ? s : ""));
}

/* "hh:mm:ss" of an RFC 3339 time. */
static void clock_of(const char *time, char out[CLOCK_SIZE])
{
	const char *t = strchr(time, 'T');

	(void)snprintf(out, CLOCK_SIZE, "%.8s", t ? t + 1 : "--:--:--");
}

static bool show_record(struct str line, face_line_fn *fn, void *ctx)
{
	_cleanup_json_ json_t *root =
		json_loadb(line.p ? line.p : "", line.n, JSON_REJECT_DUPLICATES, NULL);
	char clock[CLOCK_SIZE], time[TIME_RFC3339_SIZE], verdict[16], method[20], host[300];
	char path[400], reason[64], detail[200], port[16] = "", out[LINE_MAX_BYTES];
	long long n = json_integer_value(json_object_get(root, "port"));

	if (!json_is_object(root)) {
		text_visible_cstr(out, 200, line);
		return fn(out, ctx);
	}
	text_of(root, "time", time, sizeof(time));
	text_of(root, "verdict", verdict, sizeof(verdict));
	text_of(root, "method", method, sizeof(method));
	text_of(root, "host", host, sizeof(host));
	text_of(root, "path", path, sizeof(path));
	text_of(root, "reason", reason, sizeof(reason));
	text_of(root, "detail", detail, sizeof(detail));
	clock_of(time, clock);
	if (n > 0 && n != 443 && n <= UINT16_MAX)
		(void)snprintf(port, sizeof(port), ":%lld", n);
	if (host[0])
		(void)snprintf(out, sizeof(out), "%s %s %s%s%s%s%s%s%s", clock, verdict, method,
			       method[0] ? " " : "", host, port, path,
			       strcmp(reason, "ok") == 0 ? "" : " ",
			       strcmp(reason, "ok") == 0 ? "" : reason);
	else
		(void)snprintf(out, sizeof(out), "%s %s %s%s%s", clock, verdict, reason,
			       detail[0] ? " " : "", detail);
	return fn(out, ctx);
}

/* The end of the file that holds the last ones. */
static int read_tail(int fd, size_t limit, struct buf *out, struct err *e)
{
	size_t want = limit * RECORD_LINE_MAX;
	struct stat st;
	char *p;
	ssize_t got;

	if (fstat(fd, &st) < 0)
		return err_errno(e, "look at the records");
	if (st.st_size < (off_t)want)
		want = (size_t)st.st_size;
	p = buf_reserve(out, want + 1);
	if (!p)
		return err_set(e, -ENOMEM, "too many records");
	got = pread(fd, p, want, st.st_size - (off_t)want);
	if (got < 0)
		return err_errno(e, "read the records");
	buf_commit(out, (size_t)got);
	return 0;
}

/* Where the last `limit` whole lines of s begin. What stands before the first line's end may be
 * half a line. */
static struct str last_lines(struct str s, size_t limit)
{
	size_t from = s.n, n = 0;

	while (from > 0 && s.p[from - 1] != '\n') /* one that is being written */
		from--;
	s.n = from;
	while (from > 0) {
		if (s.p[from - 1] == '\n' && n++ == limit)
			break;
		from--;
	}
	return str_sub(s, from, s.n);
}

int face_each_record(struct face *f, const char *slug, size_t limit, face_line_fn *fn, void *ctx,
		     struct err *e)
{
	_cleanup_close_ int dir = -1, fd = -1;
	_cleanup_(buf_free) struct buf tail = BUF_INIT((RECORDS_MAX + 1) * RECORD_LINE_MAX);
	struct str rest;
	bool goes_on = true;
	int r = bottles_open(slug, &dir, e);

	(void)f;
	if (r < 0)
		return r;
	if (limit > RECORDS_MAX)
		limit = RECORDS_MAX;
	fd = openat(dir, "records.jsonl", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(e, "the records of %s", slug);
	r = read_tail(fd, limit, &tail, e);
	if (r < 0)
		return r;
	rest = last_lines(buf_str(&tail), limit);
	while (rest.n > 0 && goes_on) {
		struct str line;
		bool found;

		rest = str_cut(rest, '\n', &line, &found);
		if (line.n > 0)
			goes_on = show_record(line, fn, ctx);
	}
	return 0;
}

struct told {
	face_line_fn *fn;
	void *ctx;
};

static bool show_told(uint64_t time, const char *text, void *ctx)
{
	const struct told *t = ctx;
	char stamp[TIME_RFC3339_SIZE], clock[CLOCK_SIZE], out[ASK_REASON_SIZE * 4 + 32];

	time_format_rfc3339(time * TIME_NS_PER_SEC, stamp);
	clock_of(stamp, clock);
	(void)snprintf(out, sizeof(out), "%s %s", clock, text);
	return t->fn(out, t->ctx);
}

int face_each_told(struct face *f, const char *slug, size_t limit, face_line_fn *fn, void *ctx,
		   struct err *e)
{
	struct told t = {.fn = fn, .ctx = ctx};
	struct store *s;
	size_t i;
	int r = face_store_of(f, slug, &i, &s, e);

	if (r == 0)
		r = store_each_told(s, limit, show_told, &t, e);
	face_store_done(f, i, s);
	return r == -ENOENT ? 0 : r;
}
