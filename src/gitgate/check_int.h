/*
 * Inside the check of a push. Theory of operation: two passes over what `git rev-list` names as
 * new, each through one pair of processes, so that no object costs a process and none is kept.
 *
 *   objects: rev-list --objects | cat-file --batch   every commit, tag, tree and blob once:
 * scanned, parsed, identity, delta chains paths:   rev-list --reverse | diff-tree --stdin   every
 * path that a commit brings, oldest first: scanned, tree names, sensitive paths; and where each
 * finding of the first pass came from
 *
 * A finding of the first pass knows its object only, so it waits (struct check_pending) until the
 * second has seen that object's commit and path. Afterwards fingerprints are made, the operator's
 * `allow` and what the upstream has already are taken off, and the rest is the report. .gitmodules
 * files are read in between, by their objects.
 */
#pragma once

#include "gitgate/archive.h"
#include "gitgate/check.h"
#include "gitgate/object.h"

#define CHECK_OID_BYTES	   20
#define CHECK_PENDING_MAX  4096
#define CHECK_COMMIT_MAX   (4u << 20)  /* of a commit or tag: larger ones are OVERSIZE */
#define CHECK_TREE_MAX	   (32u << 20) /* 500,000 entries */
#define CHECK_WHOLE_BYTES  (1u << 20)  /* larger texts are scanned as streams */
#define CHECK_MODULES_MAX  1024	       /* different .gitmodules files of a push */
#define CHECK_PATH_MAX	   4096	       /* of a whole path */
#define CHECK_SEEN_SLOTS   (1u << 17)
#define CHECK_MERGES_MAX   256 /* merges looked into with `git merge-base` */
#define CHECK_BOUNDARY_MAX 64  /* commits of the upstream that are held against what is new */
#define CHECK_LOOKUPS_MAX  2048

_Static_assert(ARCHIVE_DEPTH == CHECK_ARCHIVE_DEPTH, "one depth");

struct check_pending {
	enum check_kind kind;
	bool is_allowable; /* by `allow`: not the bottle's own secrets */
	bool is_rule;	   /* told by a rule's shape: what the upstream has too is not new */
	uint8_t oid[CHECK_OID_BYTES]; /* of the object that it stands in; zero: none */
	char rule[SCAN_RULE_NAME_MAX];
	char decoders[32];
	const char *what; /* static */
	uint64_t line;
	uint8_t digest[32]; /* of the bytes that matched, and what belongs to them */
	char commit[GIT_OID_SIZE];
	char *path; /* as it is, NUL-terminated; NULL: none known */
	bool is_dropped;
};

/* Where an object came from. */
struct check_place {
	uint8_t oid[CHECK_OID_BYTES];
	char commit[GIT_OID_SIZE];
	char *path;
};

/* One pair of processes. */
struct check_flow {
	struct git_child first, second;
	const char *name;
	struct str in; /* not yet given to the first; the caller's */
	uint64_t deadline_ns;
	char *p; /* what has been read: [from, to) */
	size_t from, to, size;
	bool is_over;
	char err_text[512];
	size_t err_n;
};

/* A text that is fed in pieces: scanned whole when it stays small, else as a stream. Its last bytes
 * are kept, so that what a finding names can be told. */
struct check_text {
	struct check *check;
	const char *what;
	enum scan_place place;
	char chain[ARCHIVE_CHAIN_SIZE];
	char *p; /* CHECK_WHOLE_BYTES of room */
	size_t n;
	uint64_t base;	   /* offset of p[0] in the text */
	uint64_t newlines; /* before p[0] */
	unsigned unit;	   /* bytes of a newline: 1, or 2 in UTF-16, 4 in UTF-32 */
	struct scan_stream *stream;
	unsigned n_findings;
};

struct check {
	const struct check_input *in;
	struct check_report *out;
	struct err *e;
	struct check_pending *pending;
	size_t n_pending, pending_size;
	uint64_t n_unkept;	      /* findings past CHECK_PENDING_MAX */
	uint8_t oid[CHECK_OID_BYTES]; /* of the object being looked at */
	char commit[GIT_OID_SIZE];    /* being looked at, or empty */
	const char *path;	      /* being looked at, or NULL */
	struct check_text text[ARCHIVE_DEPTH + 1];
	struct check_text small; /* for texts in memory */
	struct archive *archive;
	uint64_t *seen; /* CHECK_SEEN_SLOTS paths and identities that have been scanned */
	uint64_t seen_key[2];
	/* delta chains: the object and its base, by the first bytes of their ids */
	struct check_delta {
		uint64_t oid, base;
	} * deltas;
	size_t n_deltas, deltas_size;
	uint64_t *others; /* objects that are no blobs, by the first bytes of their ids */
	size_t n_others, others_size;
	struct check_place *modules; /* .gitmodules files to be read */
	size_t n_modules, modules_size;
	size_t *index; /* of pending findings, by object */
	size_t index_size;
	char (*trees)[GIT_OID_SIZE]; /* that only a tag reaches */
	size_t n_trees, trees_size;
	unsigned n_merges;
	bool has_failed; /* git could not read what was pushed */
};

/* check_flow.c. `in` is given while the output is read, and stays the caller's until the end. */
int check_flow_open(struct check_flow *f, struct check *c, const char *name,
		    const char *const *first, const char *const *second, struct str in);
/* At least n bytes are buffered (n at most `max`): *out is all of what is. 0, or -ENODATA at the
 * end. Slices live until the next call. */
int check_flow_need(struct check_flow *f, struct check *c, size_t n, struct str *out);
void check_flow_skip(struct check_flow *f, size_t n);
/* Up to and without `end`, which is taken too. -ENODATA at the end, -EMSGSIZE past max. */
int check_flow_line(struct check_flow *f, struct check *c, char end, size_t max, struct str *out);
/* Waits for both; what git could not do is a finding. */
int check_flow_close(struct check_flow *f, struct check *c);

/* check_text.c */
void check_text_begin(struct check_text *t, struct check *c, const char *what,
		      enum scan_place place, const char *chain);
int check_text_feed(struct check_text *t, struct str piece);
int check_text_end(struct check_text *t);
/* The whole text at once, which is in memory. */
int check_scan(struct check *c, enum scan_place place, const char *what, struct str text);
int check_blob_small(struct check *c, struct str text);
/* A blob in pieces: begin, feed, end. */
void check_blob_begin(struct check *c);
int check_blob_feed(struct check *c, struct str piece);
int check_blob_end(struct check *c);
int check_archive_event(void *ctx, enum archive_event event, unsigned level, struct str text);

/* check_filter.c: whether a rule's match is one that repositories are full of and that is no
 * secret. text: what surrounds it; [from, to) the match. is_plain: it is in the text as it
 * stands, not decoded from these bytes. is_whole: text ends where it ends. unit: bytes of a
 * character. */
bool check_filter_is_noise(const char *rule, struct str text, size_t from, size_t to, bool is_plain,
			   bool is_whole, unsigned unit);

/* A text that was put together from parts, and then looks encoded again and again: nobody has
 * encoded it. The parts themselves are looked at as they stand. */
bool check_filter_is_own_doing(const char *rule, const char *decoders);

/* check_find.c */
struct check_pending *check_found(struct check *c, enum check_kind kind, const char *rule,
				  const char *what);
/* Forgets findings from n on. */
void check_find_cut(struct check *c, size_t n);
int check_report_make(struct check *c);
/* Findings in this object that wait for its place get it. */
void check_find_place(struct check *c, const uint8_t *oid, const char *commit, struct str path);
void check_find_index(struct check *c);
void check_find_free(struct check *c);

/* check_object.c, check_path.c, check_known.c */
int check_objects(struct check *c, struct str tips);
int check_paths(struct check *c, struct str tips);
/* Whether the first pass saw an object that is no blob under this id (or one that begins alike).
 * Sorts what it knows once: nothing may be noted any more. */
void check_others_sort(struct check *c);
bool check_is_other(const struct check *c, const uint8_t *oid);
int check_modules(struct check *c);
/* Drops the findings that the upstream has at the same path. */
int check_known(struct check *c, struct str tips);
int check_delta_chains(struct check *c);
/* Whether this very path has been scanned in this push; now it has. */
bool check_is_seen(struct check *c, struct str path);
