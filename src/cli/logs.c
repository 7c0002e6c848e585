#include "cli/logs.h"

#include "cli/table.h"

#include "base/clean.h"
#include "base/text.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>

/* Enough of a record's id to name it to "policy why". */
#define ID_SHOWN 8

static void clean_json_p(json_t **j)
{
	json_decref(*j);
}

static json_t *parse(struct str line)
{
	json_t *root = json_loadb(line.p ? line.p : "", line.n, JSON_REJECT_DUPLICATES, NULL);

	if (json_is_object(root))
		return root;
	json_decref(root);
	return NULL;
}

static const char *text_of(const json_t *root, const char *key)
{
	const char *s = json_string_value(json_object_get(root, key));

	return s ? s : "";
}

static enum table_colour colour_of(const char *verdict)
{
	if (strcmp(verdict, "block") == 0)
		return TABLE_RED;
	if (strcmp(verdict, "redact") == 0 || strcmp(verdict, "hold") == 0)
		return TABLE_YELLOW;
	return strcmp(verdict, "note") == 0 ? TABLE_DIM : TABLE_GREEN;
}

static int add_cell(struct buf *out, const char *text, size_t width)
{
	char shown[512];

	text_visible_cstr(shown, sizeof(shown), str_of(text));
	return table_cell(out, shown, width);
}

/* "host:port/path", with the usual port left out. */
static void target_of(const json_t *root, char *out, size_t size)
{
	long long port = json_integer_value(json_object_get(root, "port"));
	char port_text[24] = "";

	if (port && port != 443)
		(void)snprintf(port_text, sizeof(port_text), ":%lld", port);
	(void)snprintf(out, size, "%s%s%s", text_of(root, "host"), port_text,
		       text_of(root, "path"));
}

/* Why: the reason unless it is "ok", and what found it. */
static int add_why(const json_t *root, struct buf *out)
{
	const char *reason = text_of(root, "reason"), *rule = text_of(root, "rule");
	const char *detail = text_of(root, "detail");
	bool is_notary = strcmp(text_of(root, "role"), "record") == 0;
	int r = 0;

	if (strcmp(reason, "ok") != 0 && reason[0]) {
		r = buf_append(out, "  ", 2);
		if (r == 0)
			r = add_cell(out, reason, 0);
	}
	if (r == 0 && rule[0]) {
		r = buf_append(out, " (", 2);
		if (r == 0)
			r = add_cell(out, rule, 0);
		if (r == 0)
			r = buf_append(out, ")", 1);
	}
	if (r == 0 && detail[0]) {
		r = buf_append(out, "  ", 2);
		/* A key or a signature: enough to tell it from another. */
		if (r == 0)
			r = is_notary ? text_visible(out, str_of(detail), 16)
				      : add_cell(out, detail, 0);
	}
	return r;
}

int logs_format(struct str line, bool has_colour, struct buf *out)
{
	_cleanup_(clean_json_p) json_t *root = parse(line);
	char target[640], status[24] = "", id[ID_SHOWN + 1] = "";
	const char *verdict;
	long long code;
	int r;

	if (!root) {
		r = text_visible(out, line, 1000);
		return r == 0 ? buf_append(out, "\n", 1) : r;
	}
	verdict = text_of(root, "verdict");
	code = json_integer_value(json_object_get(root, "status"));
	if (code)
		(void)snprintf(status, sizeof(status), "%lld", code);
	target_of(root, target, sizeof(target));
	(void)snprintf(id, sizeof(id), "%s", text_of(root, "id"));
	r = add_cell(out, text_of(root, "time"), 26);
	if (r == 0)
		r = add_cell(out, id, ID_SHOWN + 2);
	if (r == 0 && has_colour)
		r = buf_append_str(out, str_of(table_colour_start(colour_of(verdict))));
	if (r == 0)
		r = add_cell(out, verdict, 8);
	if (r == 0 && has_colour)
		r = buf_append_str(out, STR_LIT("\x1b[0m"));
	if (r == 0)
		r = add_cell(out, text_of(root, "role"), 10);
	if (r == 0 && (target[0] || code)) {
		r = add_cell(out, status, 5);
		if (r == 0)
			r = add_cell(out, text_of(root, "method"), 9);
		if (r == 0)
			r = add_cell(out, target, 0);
	}
	if (r == 0)
		r = add_why(root, out);
	return r == 0 ? buf_append(out, "\n", 1) : r;
}

/* Every whole line that is buffered. */
static int take_lines(struct buf *in, int (*take)(void *ctx, struct str line, struct err *e),
		      void *ctx, struct err *e)
{
	for (;;) {
		struct str all = buf_str(in);
		size_t n = str_chr(all, '\n');
		int r;

		if (n == all.n && n >= RECORD_LINE_MAX)
			return err_set(e, -EBADMSG, "a line is longer than any record");
		if (n == all.n)
			return 0;
		r = take(ctx, str_sub(all, 0, n), e);
		if (r < 0)
			return r;
		buf_consume(in, n + 1);
	}
}

int logs_read(int fd, struct buf *in, int (*take)(void *ctx, struct str line, struct err *e),
	      void *ctx, struct err *e)
{
	for (;;) {
		char *p = buf_reserve(in, RECORD_LINE_MAX);
		ssize_t got = p ? read(fd, p, RECORD_LINE_MAX) : 0;
		int r;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "read the records");
		if (got == 0)
			return 0;
		buf_commit(in, (size_t)got);
		r = take_lines(in, take, ctx, e);
		if (r < 0)
			return r;
	}
}

/* The record that was added last may be the last one of a run: the next one has its own key. */
static int chain_next_run(struct logs_chain *c, struct err *e)
{
	const struct runs_end *end;

	if (!c->runs || c->run == c->runs->n || c->runs->ends[c->run].after != c->seq)
		return 0;
	end = &c->runs->ends[c->run];
	if (strcmp(end->hash_hex, c->hash_hex) != 0)
		return err_set(e, -EBADMSG,
			       "record %llu is not the one after which the bottle was resumed",
			       (unsigned long long)c->seq);
	c->has_key = false;
	c->run++;
	return 0;
}

void logs_chain_start(struct logs_chain *c, const struct runs *runs)
{
	*c = (struct logs_chain){.runs = runs};
	record_chain_start(c->hash_hex);
	/* A run that made no record: there is no key to forget. */
	c->run = runs && runs->n > 0 && runs->ends[0].after == 0;
}

int logs_chain_end(const struct logs_chain *c, struct err *e)
{
	if (!c->runs || c->run == c->runs->n)
		return 0;
	return err_set(e, -EBADMSG, "the bottle was resumed after record %llu, which is not there",
		       (unsigned long long)c->runs->ends[c->run].after);
}

/* keyd signs the domain with its terminator and the hash of the record before the checkpoint. */
static bool is_signed(const struct logs_chain *c, const char *previous_hex,
		      const char *signature_hex)
{
	static const char domain[] = "claude-bottle checkpoint";
	unsigned char message[sizeof(domain) + 32], signature[64];
	bool is_good = false;
	EVP_MD_CTX *ctx;
	EVP_PKEY *key;

	memcpy(message, domain, sizeof(domain));
	if (!c->has_key || !text_unhex(message + sizeof(domain), 32, str_slice(previous_hex, 64)) ||
	    !text_unhex(signature, sizeof(signature), str_of(signature_hex)))
		return false;
	key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, c->public_key,
					  sizeof(c->public_key));
	ctx = EVP_MD_CTX_new();
	if (key && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1)
		is_good = EVP_DigestVerify(ctx, signature, sizeof(signature), message,
					   sizeof(message)) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return is_good;
}

/* A key or a signature. */
static int chain_notary(struct logs_chain *c, const char *previous, const json_t *root,
			struct err *e)
{
	const char *reason = text_of(root, "reason");

	if (strcmp(reason, "signing-key") == 0) {
		unsigned char key[sizeof(c->public_key)];
		bool is_key = text_unhex(key, sizeof(key), str_of(text_of(root, "detail")));

		/* A record role that was started again names it once more. */
		if (c->has_key && (!is_key || memcmp(key, c->public_key, sizeof(key)) != 0))
			return err_set(e, -EBADMSG, "a second signing key in record %llu",
				       (unsigned long long)c->seq);
		if (is_key)
			memcpy(c->public_key, key, sizeof(key));
		c->has_key = is_key;
	} else if (strcmp(reason, "checkpoint") == 0) {
		if (!is_signed(c, previous, text_of(root, "detail")))
			return err_set(e, -EBADMSG, "the signature in record %llu is not good",
				       (unsigned long long)c->seq);
		c->n_checkpoints++;
		c->n_signed = c->seq - 1;
	}
	return 0;
}

int logs_chain_add(struct logs_chain *c, struct str line, struct err *e)
{
	_cleanup_(clean_json_p) json_t *root = NULL;
	char previous[RECORD_HASH_HEX];
	int r;

	memcpy(previous, c->hash_hex, sizeof(previous));
	r = record_verify_line(line, &c->seq, c->hash_hex, e);
	if (r < 0)
		return r;
	root = parse(line);
	/* Only the record role's own notes: another role's text must not pass for a checkpoint. */
	if (strcmp(text_of(root, "role"), "record") == 0 &&
	    strcmp(text_of(root, "verdict"), "note") == 0)
		r = chain_notary(c, previous, root, e);
	return r < 0 ? r : chain_next_run(c, e);
}

static int chain_take(void *ctx, struct str line, struct err *e)
{
	return logs_chain_add(ctx, line, e);
}

int logs_chain_file(struct logs_chain *c, int fd, size_t *n_cut, struct err *e)
{
	_cleanup_(buf_free) struct buf in;
	int r;

	buf_init(&in, 2 * RECORD_LINE_MAX);
	r = logs_read(fd, &in, chain_take, c, e);
	if (r == 0)
		r = logs_chain_end(c, e);
	*n_cut = buf_len(&in);
	return r < 0 ? err_prefix(e, "the chain breaks after record %llu",
				  (unsigned long long)c->seq)
		     : 0;
}
