/*
 * A git client as hostile as need be: objects, packs and requests made by hand, so that no client's
 * manners stand between an attack and what it aims at, and no git need be in the image.
 */
#pragma once

#include "probe/probe.h"

#define PROBE_OID_SIZE 41
#define PROBE_REF_MAX  320

enum probe_object { PROBE_COMMIT = 1, PROBE_TREE, PROBE_BLOB, PROBE_TAG };

struct probe_pack {
	struct buf objects;
	unsigned n;
};

void probe_pack_init(struct probe_pack *p);
void probe_pack_free(struct probe_pack *p);
/* Appends an object; its name into oid. */
void probe_pack_add(struct probe_pack *p, enum probe_object type, struct str data,
		    char oid[PROBE_OID_SIZE]);
/* A blob that is the text `replaces` of base with another one, as a delta against base. */
void probe_pack_add_delta(struct probe_pack *p, struct str base, struct str replaces,
			  struct str with, char oid[PROBE_OID_SIZE]);
/* One entry of a tree in the making; they have to come sorted, where that is wanted. */
void probe_tree_add(struct buf *tree, const char *mode, struct str name, const char *oid);

/* Where the repository is: behind git-gate, or with the wall taken away. */
void probe_git_path(const struct probe_env *env, const char *repository, char *out, size_t size);
/* A request to git-gate's port, or to the plain server outside; Connection: close is added. */
void probe_git_ask(const struct probe_env *env, const char *method, const char *target,
		   const char *headers, struct str body, struct probe_reply *r);
/* What a ref is at the repository, as the push service says; false: there is none. */
bool probe_git_ref(const struct probe_env *env, const char *repository, const char *ref,
		   char oid[PROBE_OID_SIZE]);

struct probe_push {
	const char *repository; /* "project", "workspace", … */
	char ref[PROBE_REF_MAX];
	char old_oid[PROBE_OID_SIZE], new_oid[PROBE_OID_SIZE]; /* "": none */
	struct probe_pack pack;
	const char *option; /* a push option; NULL: none */
};

/* True when the server says that it took the ref. */
bool probe_git_push(const struct probe_env *env, const struct probe_push *push,
		    struct probe_reply *r);
/* The words of the refusal, for a report: without pkt-line's numbers. */
void probe_git_describe(const struct probe_reply *r, char *out, size_t size);

/* --- one push, from its first object to its report --- */

#define PROBE_GIT_AUTHOR "Selftest <selftest@selftest.example> 1700000000 +0000"

/* A commit on top of main, in the making. Its name is the token: the witness sees it in the command
 * of a push, and nowhere else. */
struct probe_attempt {
	const struct probe_env *env;
	const char *id, *label;
	struct probe_push push;
	struct buf tree;		/* of the next commit; entries have to be added in order */
	const char *author, *committer; /* PROBE_GIT_AUTHOR unless changed */
	char parent[PROBE_OID_SIZE];
	char word[PROBE_TOKEN_SIZE]; /* unlike any other's, and nobody's secret */
	uint64_t start_ns;
};

/* False, and reported as skipped, when the repository does not answer. The ref is a new branch. */
bool probe_attempt_begin(struct probe_attempt *a, const struct probe_env *env, const char *id,
			 const char *label, const char *repository);
/* A file of the next commit; "a/b/c" makes the folders, which have nothing else in them. */
void probe_attempt_file(struct probe_attempt *a, const char *path, const char *mode,
			struct str content);
void probe_attempt_text(struct probe_attempt *a, const char *path, const char *content);
/* The commit of what was added; %s in message is the word. Further files begin the next one. */
void probe_attempt_commit(struct probe_attempt *a, const char *message);
/* Sends it, reports it and lets go of it. The reply stays until the next one. */
const struct probe_reply *probe_attempt_push(struct probe_attempt *a);
/* The same; it must arrive. */
const struct probe_reply *probe_attempt_want(struct probe_attempt *a);
