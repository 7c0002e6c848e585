/*
 * The images of the docker backend: the bundle's, and one for each provider. An image is named by
 * what went into it: its tag is the hash of its inputs (Dockerfile, files, base, the program's
 * version), so it is built when an input has changed and at no other time, and two builds of the
 * same never differ in name.
 *
 *   claude-bottle/bundle:HASH    FROM scratch: the static bundle, git, an ssh client and the
 * libraries and certificates that they need, nothing else (no shell) claude-bottle/base:HASH
 * Debian: pulled where there is a registry, else made from Debian's archive with mmdebstrap
 *   claude-bottle/shell|claude|codex:HASH   provider templates (images/NAME/Dockerfile)
 *
 * All carry the label claude-bottle.image=KIND.
 */
#pragma once

#include "base/progress.h"
#include "engine/engine.h"

#define IMAGE_REFERENCE_MAX 256

struct image_info {
	char reference[IMAGE_REFERENCE_MAX]; /* "claude-bottle/shell:0123456789ab" or the user's own
					      */
	char id[80];			     /* "sha256:…" */
	uint64_t size_bytes;
};

/* The bundle's image, built or loaded when it is not there. */
int image_ensure_bundle(const struct engine *en, const struct progress *p, struct image_info *out,
			struct err *e) _fallible_;
/* The agent's: named is the manifest's `image` (pulled when absent; -ENOENT with one line that says
 * what to do when that fails), or NULL: the provider's template, built when absent. */
int image_ensure_agent(const struct engine *en, const char *provider, const char *named,
		       const struct progress *p, struct image_info *out, struct err *e) _fallible_;
/* The same without making anything: -ENOENT when it is not there (out->reference says what would be
 * made). For the keeper, which must not build. */
int image_find_bundle(const struct engine *en, struct image_info *out, struct err *e) _fallible_;
int image_find_agent(const struct engine *en, const char *provider, const char *named,
		     struct image_info *out, struct err *e) _fallible_;
