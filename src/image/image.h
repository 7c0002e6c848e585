/*
 * The images of the docker backend: the bundle's, and one for each provider. An image is named by
 * what went into it: its tag is the hash of its inputs (Dockerfile, files, the image below, the
 * program's version, the architecture), so it is built when an input has changed and at no other
 * time, and two builds of the same never differ in name.
 *
 *   claude-bottle/base:HASH      Debian: pulled where a registry answers, else made from Debian's
 *                                archive with mmdebstrap
 *   claude-bottle/tools:HASH     FROM scratch: git, the libraries and certificates
 *                                that they need, nothing else (no shell)
 *   claude-bottle/bundle:HASH    tools and the static bundle
 *   claude-bottle/shell:HASH     base and what an agent needs for work on a repository
 *   claude-bottle/claude|codex:HASH   shell and the agent's one executable
 *
 * All carry the labels claude-bottle.image=KIND and claude-bottle.version. What the host adds to a
 * build so that it reaches the network (proxies, certificates, a mirror) is in no tag, and in no
 * image: it goes into stages that are thrown away, or into arguments of which none is kept.
 *
 * Several may build at once, of one user or of many: nothing is named before it is whole.
 */
#pragma once

#include "base/buf.h"
#include "base/progress.h"
#include "engine/engine.h"

#define IMAGE_REFERENCE_MAX 256
#define IMAGE_LABEL	    "claude-bottle.image"
#define IMAGE_LIST_MAX	    256
#define IMAGE_LOG_MAX	    16384

enum image_kind {
	IMAGE_BASE,
	IMAGE_TOOLS,
	IMAGE_BUNDLE,
	IMAGE_SHELL,
	IMAGE_CLAUDE,
	IMAGE_CODEX,
	IMAGE_KIND_COUNT
};

const char *image_kind_name(enum image_kind kind);
/* False if there is none of that name. */
bool image_kind_parse(struct str name, enum image_kind *out) __attribute__((warn_unused_result));
/* A file of what it is built of (images/KIND/NAME), or NULL: a microVM's is made of the same. */
const char *image_file(enum image_kind kind, const char *name);

struct image_info {
	char reference[IMAGE_REFERENCE_MAX]; /* "claude-bottle/shell:0123456789abcdef" or the
						user's own */
	char id[80]; /* "sha256:…": make containers of this; a name may be moved meanwhile */
	uint64_t size_bytes;
};

/* The bundle's image, built when it is not there. */
int image_ensure_bundle(const struct engine *en, const struct progress *p, struct image_info *out,
			struct err *e) _fallible_;
/* The agent's: named is the manifest's `image` (pulled when absent; -ENOENT with one line that says
 * what to do when that fails, -EINVAL when it is no reference), or NULL: the provider's template,
 * built when absent. */
int image_ensure_agent(const struct engine *en, const char *provider, const char *named,
		       const struct progress *p, struct image_info *out, struct err *e) _fallible_;
/* The same without making anything: -ENOENT when it is not there (out->reference says what would be
 * made). For the keeper, which must not build. */
int image_find_bundle(const struct engine *en, struct image_info *out, struct err *e) _fallible_;
int image_find_agent(const struct engine *en, const char *provider, const char *named,
		     struct image_info *out, struct err *e) _fallible_;

/* What the provider's image is called, whether it is there or not: it changes with all that goes
 * in, and asks no engine. -EINVAL: there is none for this provider. */
int image_agent_reference(const char *provider, char out[IMAGE_REFERENCE_MAX],
			  struct err *e) _fallible_;

/* --- for `claude-bottle image` --- */

struct image_build {
	bool must_rebuild; /* also what is there, and all that it stands on */
	struct buf *log;   /* of a build that failed: the last that it said, at most IMAGE_LOG_MAX
			      bytes as they came; may be NULL */
	/* Out. */
	bool is_built[IMAGE_KIND_COUNT];
};
/* Makes what is missing of kind and of what it stands on. b carries from call to call what was made
 * already. */
int image_make(const struct engine *en, enum image_kind kind, struct image_build *b,
	       const struct progress *p, struct image_info *out, struct err *e) _fallible_;

/* One build of a user's at a time: a second one of the same would only do it again, and finds it
 * made when its turn comes. Two users' builds do not wait for each other, and need not. image_make
 * takes it by itself; who removes what no build may need any more takes it here. The lock, to be
 * closed, or -1 where there is none to be had: then it goes without. */
int image_lock(const struct progress *p);

struct image_entry {
	char kind[16]; /* of the label; "stage" of a build that was broken off */
	char reference[IMAGE_REFERENCE_MAX]; /* "" : it has no name any more */
	char id[80];
	uint64_t size_bytes;
	int64_t created;
	bool is_current; /* what this program would make now */
	bool is_used;	 /* by a container, running or not */
};
/* Ours in the engine, newest first; the caller frees *list. */
int image_list(const struct engine *en, struct image_entry **list, size_t *n,
	       struct err *e) _fallible_;
/* Takes its name away, and the image with its last name. -EBUSY when a container uses it or another
 * image stands on it: then nothing has happened. */
int image_remove(const struct engine *en, const struct image_entry *entry,
		 struct err *e) _fallible_;
