/*
 * What in a folder the host may come to execute or trip over: the risky paths, links that lead out,
 * set-id bits, repositories, devices and pipes, names that do not show what they are. Taken twice
 * and compared. No link is followed, no other file system entered, and there is a limit to all of
 * it: past that, was_cut says so.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <sys/stat.h>

#define INVENTORY_ENTRIES_MAX 1000000 /* looked at */
#define INVENTORY_ITEMS_MAX   20000   /* kept */
#define INVENTORY_DEPTH_MAX   64
#define INVENTORY_HASHED_MAX  (4u << 20)
#define INVENTORY_HASH_SIZE   65

enum inventory_kind {
	INVENTORY_RISKY = 1,	  /* conf/risky_path.h */
	INVENTORY_LINK_OUT = 2,	  /* a symbolic link that leaves the folder */
	INVENTORY_SETID = 4,	  /* a set-user-id or set-group-id file */
	INVENTORY_REPOSITORY = 8, /* a repository, bare or with a work tree, below the top */
	INVENTORY_SPECIAL = 16,	  /* a device, a pipe, a socket */
	INVENTORY_SHARED = 64,	  /* was written to, and is a file outside of the folder as well */
	INVENTORY_NAME = 32, /* not UTF-8, or with control, bidirectional, invisible characters */
};

struct inventory_item {
	char *path;	  /* below the folder, any bytes */
	unsigned kinds;	  /* of inventory_kind */
	unsigned risk;	  /* of risky_path_find() */
	const char *what; /* static, for people; may be NULL */
	mode_t mode;
	uint64_t size, mtime_ns;
	char hash[INVENTORY_HASH_SIZE]; /* of a file's content, or a link's target; else empty */
};

struct inventory {
	struct inventory_item *items; /* sorted by path */
	size_t n, cap;
	uint64_t taken_ns; /* realtime, before the first look */
	bool was_cut;
};

/* root_fd: the folder; path: its canonical path, by which absolute links into it are known.
 * since_ns: when the earlier one was taken, so that files with further names elsewhere that were
 * changed since are found; 0: this is the earlier one. */
int inventory_take(struct inventory *out, int root_fd, const char *path, uint64_t since_ns,
		   unsigned timeout_ms, struct err *e) _fallible_;
void inventory_free(struct inventory *v);
int inventory_to_json(const struct inventory *v, struct buf *out) _fallible_;
int inventory_from_json(struct inventory *out, struct str json, struct err *e) _fallible_;

enum inventory_change { INVENTORY_CREATED, INVENTORY_CHANGED, INVENTORY_DELETED };
const char *inventory_change_name(enum inventory_change c);
/* Why a human wants to know of it: one phrase. */
const char *inventory_why(const struct inventory_item *i);
/* "set-id", "repository", "shared", "risky", "link", "special", "name": the worst of its kinds. */
const char *inventory_kind_name(const struct inventory_item *i);
/* Calls fn for each difference, the most dangerous kinds first, each kind in order of path. item
 * is the later one, of a deleted one the earlier. */
void inventory_compare(const struct inventory *before, const struct inventory *after,
		       void (*fn)(void *ctx, enum inventory_change c,
				  const struct inventory_item *item),
		       void *ctx);
