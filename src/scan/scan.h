/*
 * The scan engine: finds credentials in what an agent sends (and in what comes back). One engine
 * per process, many streams. See docs/SCAN.md for the decoder chain and its bounds.
 *
 * A stream is fed a text in pieces of any size; every finding is reported no later than when the
 * piece that completes it (with up to SCAN_HOLDBACK_BYTES after it) has been fed. A caller that
 * passes a body on must hold back the last SCAN_HOLDBACK_BYTES until the next piece or the end.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

/* Longer than the longest secret in any encoding that the engine undoes. */
#define SCAN_HOLDBACK_BYTES 4096
#define SCAN_DEPTH_MAX	    4 /* nested encodings undone */
#define SCAN_RULE_NAME_MAX  48

/* Where a text stood; some rules and decoders apply to some places only. */
enum scan_place {
	SCAN_PLACE_HOST,
	SCAN_PLACE_PATH,
	SCAN_PLACE_QUERY,
	SCAN_PLACE_HEADER,
	SCAN_PLACE_BODY,
	SCAN_PLACE_RESPONSE,
	SCAN_PLACE_COUNT
};

enum scan_kind {
	SCAN_KIND_RULE,	       /* shape of a credential */
	SCAN_KIND_SECRET,      /* the bottle's own secret, exactly */
	SCAN_KIND_CANARY,      /* a planted canary, exactly */
	SCAN_KIND_PLACEHOLDER, /* a placeholder: allowed where its route is, an alert elsewhere */
	SCAN_KIND_LIMIT	       /* a budget was reached (depth, ratio, CPU): fail closed */
};

struct scan_finding {
	enum scan_kind kind;
	char rule[SCAN_RULE_NAME_MAX]; /* rule id, "bottle-secret", "canary", "placeholder", limit's
					  name */
	unsigned secret;	       /* index, of SECRET, CANARY and PLACEHOLDER */
	uint64_t from, to; /* byte range in the outermost text that at least covers it */
	char decoders[32]; /* "base64>gzip"; empty when it stood plainly */
	enum scan_place place;
};

/* A secret known exactly without its value: keyd computes this, pipelock matches with it. The
 * engine prefilters on a truncated rolling hash of the first SCAN_PRINT_WINDOW bytes and verifies
 * with HMAC-SHA-256 under a per-bottle key, so that a pipelock that was taken over holds nothing
 * from which a high-entropy secret could be computed. */
#define SCAN_PRINT_WINDOW 12 /* secrets shorter than this are refused by the plan */
#define SCAN_SECRET_MAX	  2048
/* A longer secret is recognised by this many bytes at its head, so that it fits the hold-back in
 * any encoding, and so that leaving off its tail does not hide it. */
#define SCAN_PRINT_COVER 256
#define SCAN_PRINTS_MAX	 64
struct scan_print {
	uint32_t kind; /* enum scan_kind: SECRET, CANARY or PLACEHOLDER */
	uint32_t index;
	uint32_t length; /* bytes covered: of the secret, at most SCAN_PRINT_COVER */
	uint32_t window; /* truncated hash of the first SCAN_PRINT_WINDOW bytes */
	uint8_t mac[32];
	/* The same over the letters and digits alone: finds the secret when delimiters were put
	 * into it or when it was split over several parameters. bare_length is 0 when they are too
	 * few. */
	uint32_t bare_length;
	uint32_t bare_window;
	uint8_t bare_mac[32];
};

struct scan_print_key {
	uint64_t multiplier; /* of the rolling hash */
	uint8_t mac_key[32];
};

/* keyd's side. length in [SCAN_PRINT_WINDOW, SCAN_SECRET_MAX]. */
int scan_print_make(struct scan_print *out, const struct scan_print_key *key, enum scan_kind kind,
		    uint32_t index, struct str secret, struct err *e) _fallible_;

struct scan_engine;
struct scan_stream;

/* The compiled rule database, after the full self-test, serialised for the cache:
 * `claude-bottle-bundle compile-rules`. */
int scan_compile(struct buf *out, struct err *e) _fallible_;
/* A name for the cache file: hash of rules, engine version and CPU features. */
void scan_cache_key(char out[65]);
/* db: what scan_compile() gave (its header is verified), or an empty slice to compile now, and to
 * go through the full self-test. */
int scan_engine_new(struct scan_engine **out, struct str db, struct err *e) _fallible_;
/* The fail-closed self-tests. At each start: every sample of every rule, cut at some positions.
 * Full, when the rules are compiled: cut at every position. */
int scan_engine_selftest(struct scan_engine *en, struct err *e) _fallible_;
int scan_engine_selftest_full(struct scan_engine *en, struct err *e) _fallible_;
int scan_engine_set_prints(struct scan_engine *en, const struct scan_print_key *key,
			   const struct scan_print *prints, size_t n, struct err *e) _fallible_;
void scan_engine_free(struct scan_engine *en);

/* Called for each finding; return false to stop the stream (the first finding decides). */
typedef bool (*scan_finding_fn)(const struct scan_finding *f, void *ctx);

/* A whole text in memory: all decoders to SCAN_DEPTH_MAX. 0, or -errno (which the caller treats as
 * a finding: fail closed). */
int scan_text(struct scan_engine *en, enum scan_place place, struct str text, scan_finding_fn fn,
	      void *ctx) _fallible_;
/* Pooled: open and close do not allocate after warm-up. NULL when the pool's cap is reached. */
struct scan_stream *scan_stream_open(struct scan_engine *en, enum scan_place place,
				     scan_finding_fn fn, void *ctx);
int scan_stream_feed(struct scan_stream *s, struct str piece) _fallible_;
int scan_stream_end(struct scan_stream *s) _fallible_; /* flushes; then close */
void scan_stream_close(struct scan_stream *s);

struct scan_rule_info {
	const char *id, *title;
};
size_t scan_rule_count(void);
struct scan_rule_info scan_rule_info(size_t i);
/* Does this rule find only the beginning of a value that goes on over lines, as a key in armour? */
bool scan_rule_is_block(const char *id);
