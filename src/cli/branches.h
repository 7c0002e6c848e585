/* What a bottle pushed into the host's repository: the branches bottle/SLUG/…, and what of them the
 * host would execute or obey. */
#pragma once

#include "cli/cli.h"
#include "workspace/user_git.h"

#define BRANCHES_MAX	   256
#define BRANCHES_FILES_MAX 20000

struct branches {
	char slug[PLACES_SLUG_MAX];
	char *folder; /* the repository's work tree */
	int state_fd; /* -1: the bottle's state folder is gone */
	bool is_mount;
	struct user_git git;
	char **names; /* behind bottle/SLUG/ */
	size_t n;
};

struct branches_file {
	char *path, *why; /* why: NULL where nothing is to be said */
	char status;	  /* A, M, D, T as git has it */
	unsigned mode;	  /* as git has it; 0 of a deleted one */
	bool is_risky;	  /* obeyed by the host or the upstream unasked, or leads out of the tree */
};

struct branches_change {
	char *name, *ref, *commit, *base; /* base: NULL, no history in common */
	char *from;			  /* the base, else the empty tree */
	size_t n_commits;
	struct branches_file *files;
	size_t n, cap;
	bool was_cut;
	size_t n_risky;
};

#define BRANCHES_INIT ((struct branches){.state_fd = -1})

/* word: a slug or a prefix of a bottle's whose folder is still there; else a whole slug whose
 * branches are in the repository of the current directory. */
int branches_find(struct branches *out, const char *word, struct err *e) _fallible_;
void branches_free(struct branches *b);
/* The one named, or the only one. */
int branches_pick(const struct branches *b, const char *wanted, const char **name,
		  struct err *e) _fallible_;
/* Of a branch, against its merge base with HEAD. */
int branches_look(const struct branches *b, const char *name, struct branches_change *out,
		  struct err *e) _fallible_;
void branches_change_free(struct branches_change *c);
/* {"branch":…,"ref":…,"commit":…,"base":…,"commits":N,"files":[…]} */
int branches_change_json(const struct branches_change *c, struct buf *out) _fallible_;
/* One file's line: "status path  why". */
int branches_file_line(const struct branches_file *f, struct buf *out) _fallible_;
