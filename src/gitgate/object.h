/*
 * git's objects as bytes: commits and tags as header lines and a message, trees as entries. Strict:
 * what git itself would not write does not parse. Nothing is copied; slices point into the object.
 */
#pragma once

#include "base/err.h"

#define OBJECT_MODE_TREE    040000u
#define OBJECT_MODE_SYMLINK 0120000u
#define OBJECT_MODE_GITLINK 0160000u

struct object_ident {
	struct str name, email, when; /* when: seconds and zone, as they stand */
};

struct object_commit {
	struct str tree;
	struct str parents; /* their lines, as they stand */
	struct str author, committer;
	struct object_ident author_ident, committer_ident;
	struct str rest;    /* everything from the author's line on: headers and message */
	struct str message; /* behind the empty line */
};

struct object_tag {
	struct str object, type, name;
	bool has_tagger; /* the first tags had none */
	struct object_ident tagger_ident;
	struct str rest; /* everything from the tag's name on */
	struct str message;
};

/* 0, or -EBADMSG with what is wrong. */
int object_commit_parse(struct object_commit *out, struct str object, struct err *e) _fallible_;
int object_tag_parse(struct object_tag *out, struct str object, struct err *e) _fallible_;

struct object_entry {
	unsigned mode;
	struct str name;
	const uint8_t *oid; /* 20 bytes */
};

/* Trees are read in order; each entry is held against those before it. */
#define OBJECT_NESTED_MAX 64
struct object_tree {
	struct str rest;
	struct object_entry last;
	/* Files whose name a folder further on may repeat: each begins with the one before. */
	struct str open[OBJECT_NESTED_MAX];
	size_t open_n;
};
void object_tree_begin(struct object_tree *t, struct str object);
/* 1 with *out, 0 at the end, -EBADMSG with what is wrong (*out.name is set where there is one). */
int object_tree_next(struct object_tree *t, struct object_entry *out, struct err *e) _fallible_;

/* What is wrong with a name that a tree or a path has, or NULL: "dot-git", "dot-dot", "dot",
 * "empty", "slash", "control-character". As the most forgiving file system would read it. */
const char *object_name_wrong(struct str name);
/* Whether a file system may take it for .gitmodules. */
bool object_name_is_gitmodules(struct str name);
