#include "record/record.h"

#include "base/io.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>

static const char *const verdict_names[] = {"allow", "block", "redact", "hold", "note"};
_Static_assert(sizeof(verdict_names) / sizeof(verdict_names[0]) == RECORD_VERDICT_COUNT,
	       "one name per verdict");

const char *record_verdict_name(enum record_verdict v)
{
	return v < RECORD_VERDICT_COUNT ? verdict_names[v] : "?";
}

void record_init(struct record *r, const char *role, enum record_verdict v, const char *reason)
{
	memset(r, 0, sizeof(*r));
	r->verdict = v;
	(void)snprintf(r->role, sizeof(r->role), "%s", role);
	(void)snprintf(r->reason, sizeof(r->reason), "%s", reason);
	/* An id is a handle for a human, not a secret: zeroes would only make it less useful. */
	if (getrandom(r->id, sizeof(r->id), GRND_NONBLOCK) < 0)
		memset(r->id, 0, sizeof(r->id));
}

/* A text field of a record that came from another process: it may lack its terminator. */
static struct str record_field(const char *p, size_t size)
{
	return str_slice(p, strnlen(p, size));
}

#define FIELD(f) record_field(f, sizeof(f))

static int record_add_text(struct buf *out, const char *key, struct str value)
{
	int ret;

	if (value.n == 0)
		return 0;
	ret = buf_append_str(out, STR_LIT(",\""));
	if (ret == 0)
		ret = buf_append_str(out, str_of(key));
	if (ret == 0)
		ret = buf_append_str(out, STR_LIT("\":"));
	return ret < 0 ? ret : text_json(out, value);
}

static int record_add_number(struct buf *out, const char *key, uint64_t value)
{
	return value == 0 ? 0 : buf_printf(out, ",\"%s\":%" PRIu64, key, value);
}

static int record_hash(struct str text, char hash_hex[RECORD_HASH_HEX], struct err *e)
{
	/* Kept for the process: to look the digest up by its name costs more than to compute it. */
	static EVP_MD_CTX *ctx;
	static EVP_MD *md;
	unsigned char digest[32];
	unsigned n = 0;

	if (!md)
		md = EVP_MD_fetch(NULL, "SHA2-256", NULL);
	if (!ctx)
		ctx = EVP_MD_CTX_new();
	if (!md || !ctx || EVP_DigestInit_ex2(ctx, md, NULL) != 1 ||
	    EVP_DigestUpdate(ctx, text.p, text.n) != 1 ||
	    EVP_DigestFinal_ex(ctx, digest, &n) != 1 || n != sizeof(digest))
		return err_set(e, -EIO, "SHA-256 failed");
	text_hex(hash_hex, digest, sizeof(digest));
	return 0;
}

int record_to_line(struct buf *out, const struct record *r, uint64_t seq, uint64_t time_ns,
		   char hash_hex[RECORD_HASH_HEX], struct err *e)
{
	size_t start = buf_len(out);
	char time_text[TIME_RFC3339_SIZE];
	char id[sizeof(r->id) * 2 + 1];
	int bad = 0;

	time_format_rfc3339(time_ns, time_text);
	text_hex(id, r->id, sizeof(r->id));
	bad |= buf_printf(out, "{\"seq\":%" PRIu64 ",\"time\":\"%s\",\"id\":\"%s\"", seq, time_text,
			  id);
	bad |= record_add_text(out, "role", FIELD(r->role));
	bad |= record_add_text(out, "verdict",
			       str_of(record_verdict_name((enum record_verdict)r->verdict)));
	bad |= record_add_text(out, "reason", FIELD(r->reason));
	bad |= record_add_text(out, "rule", FIELD(r->rule));
	bad |= record_add_text(out, "scanner", FIELD(r->scanner));
	bad |= record_add_text(out, "method", FIELD(r->method));
	bad |= record_add_text(out, "host", FIELD(r->host));
	bad |= record_add_number(out, "port", r->port);
	bad |= record_add_text(out, "path", FIELD(r->path));
	bad |= record_add_number(out, "status", r->status);
	bad |= record_add_number(out, "bytes_up", r->bytes_up);
	bad |= record_add_number(out, "bytes_down", r->bytes_down);
	bad |= record_add_number(out, "us", r->duration_us);
	bad |= record_add_text(out, "detail", FIELD(r->detail));
	bad |= buf_printf(out, ",\"prev\":\"%s\"", hash_hex);
	if (bad < 0)
		return err_set(e, -ENOBUFS, "record line too long");
	if (record_hash(str_sub(buf_str(out), start, SIZE_MAX), hash_hex, e) < 0)
		return -EIO;
	if (buf_printf(out, ",\"hash\":\"%s\"}", hash_hex) < 0)
		return err_set(e, -ENOBUFS, "record line too long");
	return 0;
}

/* The chain's fields stand at the line's fixed ends, so that no text in between can imitate them.
 */
int record_verify_line(struct str line, uint64_t *seq, char hash_hex[RECORD_HASH_HEX],
		       struct err *e)
{
	static const struct str seq_key = {"{\"seq\":", 7};
	static const struct str prev_key = {",\"prev\":\"", 9};
	static const struct str hash_key = {",\"hash\":\"", 9};
	const size_t hash_n = hash_key.n + 64 + 2, prev_n = prev_key.n + 64 + 1;
	char computed[RECORD_HASH_HEX];
	struct str body, tail, prev, digits;
	uint64_t found_seq;
	bool found;

	if (line.n < seq_key.n + prev_n + hash_n || !str_starts(line, seq_key))
		return err_set(e, -EBADMSG, "not a record");
	body = str_sub(line, 0, line.n - hash_n);
	tail = str_sub(line, line.n - hash_n, line.n);
	prev = str_sub(body, body.n - prev_n, body.n);
	if (!str_starts(tail, hash_key) || !str_ends(line, STR_LIT("\"}")) ||
	    !str_starts(prev, prev_key) || !str_ends(prev, STR_LIT("\"")))
		return err_set(e, -EBADMSG, "the chain's fields are missing");
	(void)str_cut(str_sub(line, seq_key.n, line.n), ',', &digits, &found);
	if (str_to_u64(digits, UINT64_MAX, &found_seq) < 0)
		return err_set(e, -EBADMSG, "bad sequence number");
	if (found_seq != *seq + 1)
		return err_set(e, -EBADMSG,
			       "sequence number %" PRIu64 " where %" PRIu64 " was expected",
			       found_seq, *seq + 1);
	if (!str_eq(str_sub(prev, prev_key.n, prev_key.n + 64), str_of(hash_hex)))
		return err_set(e, -EBADMSG, "record %" PRIu64 " does not follow the one before it",
			       found_seq);
	if (record_hash(body, computed, e) < 0)
		return -EIO;
	if (!str_eq(str_sub(tail, hash_key.n, hash_key.n + 64), str_of(computed)))
		return err_set(e, -EBADMSG, "record %" PRIu64 " was changed", found_seq);
	*seq = found_seq;
	memcpy(hash_hex, computed, RECORD_HASH_HEX);
	return 0;
}

void record_chain_start(char hash_hex[RECORD_HASH_HEX])
{
	memset(hash_hex, '0', RECORD_HASH_HEX - 1);
	hash_hex[RECORD_HASH_HEX - 1] = '\0';
}

int record_send(int fd, const struct record *r)
{
	for (;;) {
		ssize_t put = io_send_fds(fd, r, sizeof(*r), NULL, 0, MSG_DONTWAIT);
		int ready;

		if (put == (ssize_t)sizeof(*r))
			return 0;
		if (put != -EAGAIN)
			return put < 0 ? (int)put : -EIO;
		/* The record role is behind, or away. Waiting stops this role's traffic, which is
		 * what "a verdict that cannot be recorded is not acted on" means. */
		ready = io_wait(fd, POLLOUT, RECORD_SEND_MS);
		if (ready <= 0)
			return ready < 0 ? ready : -ETIMEDOUT;
	}
}
