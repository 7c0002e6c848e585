/*
 * Inside the scan engine. Theory of operation:
 *
 * Every text that is looked at is a view. The outermost view is the text itself (or, of a stream,
 * the last SCAN_HOLDBACK_BYTES and the new piece); scan_view() runs the Hyperscan database and the
 * fingerprint matcher over it, walks its long runs of letters and digits, and hands what looks
 * encoded to the decoders, whose output is the next view, until SCAN_DEPTH_MAX. A view that was
 * already scanned (by a keyed hash of its bytes) is not scanned again, which keeps "every decoder
 * in every order" from growing exponentially; what is left is bounded by struct scan_work.
 */
#pragma once

#include "scan/scan.h"
#include "scan/window.h"
#include "base/clean.h"

#include <hs.h>

#define RULE_ICASE   1u
#define RULE_STRONG  2u	 /* so telling that joined and squeezed views may match it */
#define RULE_TOKEN   4u	 /* one token without white space: the start is found by walking back */
#define RULE_ENCODED 8u	 /* only below a binary-to-text decoder */
#define RULE_BLOCK   16u /* the beginning of a value that goes on over lines */

/* The longest text that one match of a rule may cover; a unit test holds the table to it. */
#define RULE_WIDTH_MAX 1024

/* Rules that no expression can tell: found by walking runs of characters (walk.c). */
enum scan_walk {
	WALK_NONE,
	WALK_CARD,
	WALK_IBAN,
	WALK_BTC,
	WALK_WIF,
	WALK_ETH,
	WALK_SEED,
	WALK_PATH_ENTROPY,
	WALK_HOST_ENCODED,
	WALK_HOST_CHAIN,
	WALK_ENCODED_TOKEN,
	WALK_AIRTABLE,
	WALK_COUNT
};

/* A match to be verified: from is a lower bound that the check may move up; the text goes on up to
 * n, of which nothing but [0, to) may be relied on in a stream. */
struct scan_candidate {
	const uint8_t *p;
	size_t n;
	size_t from, to;
	enum scan_place place;
};

typedef bool (*scan_check_fn)(struct scan_candidate *c);

struct scan_rule {
	const char *id, *title;
	const char *regex; /* NULL for a rule with a walk */
	enum scan_walk walk;
	unsigned flags;
	unsigned places; /* bits 1 << enum scan_place */
	scan_check_fn check;
	const char *const *positives, *const *negatives; /* NULL-terminated */
};

extern const struct scan_rule scan_rules[];
extern const size_t scan_rules_n;
void scan_rules_hash(uint8_t out[32]);

/* db.c: a database over some rules (ids are indexes into scan_rules). */
#define SCAN_RULES_MAX 256
/* What is sent and what comes back have rules of their own: the words that the latter look for are
 * frequent, and would slow the former down. */
enum scan_way { WAY_SENT, WAY_BACK, WAY_COUNT };
struct scan_db {
	hs_database_t *hs[WAY_COUNT];
	uint32_t width[SCAN_RULES_MAX]; /* longest match of each rule */
};
int scan_db_compile(struct scan_db *out, const unsigned *rules, size_t n, struct err *e) _fallible_;
int scan_db_pack(const struct scan_db *db, struct buf *out, struct err *e) _fallible_;
int scan_db_unpack(struct scan_db *db, struct str packed, struct err *e) _fallible_;
void scan_db_free(struct scan_db *db);
/* An engine that takes the database over (tests give it some rules only). */
int scan_engine_new_from_db(struct scan_engine **out, struct scan_db *db, struct err *e) _fallible_;

/* What one text may cost; reaching a limit is a finding of kind SCAN_KIND_LIMIT. */
#define SCAN_VIEWS_MAX	    192
#define SCAN_WINDOW_BYTES   (1u << 20)	/* a longer text is scanned as a stream */
#define SCAN_PIECE_BYTES    (64u << 10) /* a longer piece is cut */
#define SCAN_VIEW_BYTES_MAX (4u << 20)	/* one decoder's output */
#define SCAN_LONG_TEXT	    8192 /* longer ones are decoded one way only where two would do the same */
struct scan_work {
	uint64_t units; /* spent: about a nanosecond each */
	uint64_t units_max;
	unsigned views;
};

/* Decoders, as bits: a view knows what made it. */
enum scan_decoder {
	DEC_NONE,
	DEC_ESCAPE,
	DEC_PERCENT,
	DEC_JSON,
	DEC_HTML,
	DEC_FORM,
	DEC_QP,
	DEC_FOLD,
	DEC_UTF16,
	DEC_BASE64,
	DEC_BASE32,
	DEC_HEX,
	DEC_INFLATE,
	DEC_ZSTD,
	DEC_JOIN,
	DEC_SQUEEZE,
	DEC_COUNT
};
extern const char *const scan_decoder_names[DEC_COUNT];

#define SCAN_POINTS_MAX 8192
/* Where an output byte came from: bytes at and after out stem from in and after, in the parent. */
struct scan_point {
	uint32_t out, in;
};

/* The output of one decoder at one depth; kept between texts. */
struct scan_out {
	uint8_t *p;
	size_t n, size;
	bool is_overfull; /* SCAN_VIEW_BYTES_MAX was reached */
	struct scan_point points[SCAN_POINTS_MAX];
	size_t points_n;
	bool is_coarse; /* more points than fit: no finer mapping than the whole parent */
};

struct scan_view {
	const uint8_t *p;
	size_t n;
	const struct scan_view *parent; /* NULL for the outermost */
	const struct scan_out *map;	/* how it maps into the parent */
	unsigned depth;
	enum scan_decoder decoder;
	unsigned layers;      /* of percent-encoding taken off so far */
	bool is_leaf;	      /* matched only, not decoded further */
	bool is_below_binary; /* some binary-to-text decoder lies above */
};

struct scan_run {
	uint32_t from, to;
};

/* One pass of classification: where long runs lie, and which decoders have work. */
#define SCAN_RUN_TOKEN_MIN 12
#define SCAN_RUN_HEX_MIN   24
#define SCAN_RUN_DIGIT_MIN 12
#define SCAN_RUN_WORD_MIN  47
struct scan_runs {
	struct scan_run *p;
	size_t n, size;
};
struct scan_class {
	struct scan_runs token;	 /* letters, digits, + / _ - */
	struct scan_runs spaced; /* hex digits with delimiters */
	struct scan_runs digit;	 /* digits, spaces, dashes */
	struct scan_runs word;	 /* lower-case letters and separators */
	bool has_percent, has_backslash, has_ampersand, has_equals, has_plus, has_high, has_nul;
	bool has_control; /* bytes that no text has: compressed or otherwise binary */
	bool has_space;
};
void scan_classify(struct scan_class *c, const uint8_t *p, size_t n);

#define SCAN_PRINT_HASH_BITS 24
struct scan_prints {
	struct scan_print_key key;
	struct scan_print print[SCAN_PRINTS_MAX];
	size_t n;
	struct scan_window_hash hash;
	struct scan_window_set windows, bare_windows;
	struct buf squeezed;
};

/* Findings told of this text: what several views show is told once. */
#define SCAN_TOLD_MAX 16
struct scan_told {
	struct {
		uint64_t id; /* of kind, rule and secret; 0: none */
		uint64_t from, to;
	} at[SCAN_TOLD_MAX];
	unsigned n;
};

/* A rule's match that may turn out to be a placeholder when more has come. */
#define SCAN_PENDING_MAX 4
struct scan_pending {
	unsigned rule;
	uint64_t from, to;
};

struct scan_stream {
	struct scan_engine *en;
	enum scan_place place;
	enum scan_way way;
	scan_finding_fn fn;
	void *ctx;
	hs_stream_t *hs;
	uint64_t taken;	 /* bytes fed and scanned */
	size_t tail_n;	 /* of the last bytes scanned, kept for look-back */
	bool is_stopped; /* the callback has said so */
	bool is_open;
	bool is_fresh; /* the expressions' state is as of a new stream */
	struct scan_work work;
	struct scan_told told;
	struct scan_pending pending[SCAN_PENDING_MAX];
	unsigned pending_n;
	struct scan_stream *next_free;
	uint8_t tail[SCAN_HOLDBACK_BYTES];
};

#define SCAN_STREAMS_MAX 4096

struct scan_engine {
	struct scan_db db;
	hs_scratch_t *scratch;
	hs_stream_t *hs[WAY_COUNT]; /* for whole views */
	struct scan_prints prints;
	struct scan_class class[SCAN_DEPTH_MAX + 1];
	struct scan_out out[SCAN_DEPTH_MAX + 1];
	struct scan_out side; /* a decoder's intermediate result */
	struct scan_inflater *inflater;
	uint8_t *window;
	struct scan_stream *free_streams[WAY_COUNT];
	size_t streams_n;
	unsigned walk_rule[WALK_COUNT]; /* index into scan_rules, or UINT_MAX */
	uint64_t hash_key[2];
	uint64_t seen_views[SCAN_VIEWS_MAX];
	bool is_plain_only; /* the self-test: no decoders */
	bool is_rules_only; /* the self-test of a rule with an expression: no walkers either */
};

/* The text being scanned now. */
struct scan_pass {
	struct scan_engine *en;
	enum scan_place place;
	scan_finding_fn fn;
	void *ctx;
	struct scan_work *work;
	struct scan_told *told;
	struct scan_stream *stream; /* NULL for a whole text */
	uint64_t base;		    /* offset of the outermost view in the outermost text */
	size_t old_n;		    /* of the outermost view: scanned with an earlier piece */
	bool is_last;		    /* nothing follows the outermost view */
	bool is_stopped;
	const struct scan_view *view; /* being matched */
	int error;
};

static inline enum scan_way scan_way_of(enum scan_place place)
{
	return place == SCAN_PLACE_RESPONSE ? WAY_BACK : WAY_SENT;
}

/* view.c */
void scan_view(struct scan_pass *ps, const struct scan_view *v);
/* Tells of [from, to) of a view. False when the scan is to stop. */
bool scan_report(struct scan_pass *ps, const struct scan_view *v, enum scan_kind kind,
		 const char *rule, unsigned secret, size_t from, size_t to);
/* Matches that waited for more of a placeholder, decided with what has come. */
void scan_settle_pending(struct scan_pass *ps, const struct scan_view *v);
/* A candidate of a rule: places, flags and check decide. False when the scan is to stop. */
bool scan_candidate_found(struct scan_pass *ps, const struct scan_view *v, unsigned rule,
			  size_t from, size_t to);
void scan_limit(struct scan_pass *ps, const struct scan_view *v, const char *what);
/* False, after a finding, when the text's budget is spent. */
bool scan_spend(struct scan_pass *ps, const struct scan_view *v, uint64_t units);

/* prints.c */
void scan_prints_match(struct scan_pass *ps, const struct scan_view *v, size_t old_n);
/* Whether a match that ends at `to` is a placeholder's, which is no credential. */
enum scan_is_placeholder { NO_PLACEHOLDER, IS_PLACEHOLDER, MAY_BE_PLACEHOLDER };
enum scan_is_placeholder scan_prints_placeholder(struct scan_pass *ps, const struct scan_view *v,
						 size_t from, size_t to);

/* walk.c */
/* Rules without an expression, over the runs of a view. */
void scan_walk(struct scan_pass *ps, const struct scan_view *v, const struct scan_class *c);

/* chain.c: a long text that has escapes is looked into without them only: every run of characters
 * that it has is there too. False when this one is not such a text. */
bool scan_decode_long(struct scan_pass *ps, const struct scan_view *v);
/* Hands what looks encoded to the decoders, and scans what they make of it. */
void scan_decode(struct scan_pass *ps, const struct scan_view *v, const struct scan_class *c);

/* decode.c and its kin: each fills out and says whether there is anything to look at. */
void scan_out_reset(struct scan_out *o);
/* Room for n more bytes, or NULL (is_overfull is set). */
uint8_t *scan_out_reserve(struct scan_out *o, size_t n);
void scan_out_point(struct scan_out *o, size_t in);
void scan_out_append(struct scan_out *o, const void *p, size_t n);

/* checks.c: Shannon, in 1/100 bit per byte. */
unsigned scan_entropy(const uint8_t *p, size_t n);
