/*
 * A route that was granted for always, written into the bottle's manifest: the file's own text with
 * lines added, everything else byte for byte as it was (comments, order, anchors). The result is
 * parsed again and must have exactly the routes of before and this one; else nothing is written.
 */
#pragma once

#include "requests/change.h"

#define MANIFEST_EDIT_MAX_BYTES (1u << 20)

struct manifest_edit {
	struct buf before, after;
	uint8_t hash[CHANGE_HASH_BYTES]; /* SHA-256 of after */
};

/* Reads path and makes the new text. -EINVAL with the reason in e where the file cannot be edited
 * safely: the human adds the lines, which e names, by hand. */
int manifest_edit_make(struct manifest_edit *out, const char *path, const struct change *c,
		       struct err *e) _fallible_;
void manifest_edit_free(struct manifest_edit *m);
/* The difference, in unified form, visible. */
int manifest_edit_diff(const struct manifest_edit *m, const char *path, struct buf *out) _fallible_;
/* Writes it beside path, syncs and renames over it, with the mode and owner of the old one; -ESTALE
 * when path no longer holds before. A symbolic link is followed once, to the user's own file. */
int manifest_edit_write(const struct manifest_edit *m, const char *path, struct err *e) _fallible_;
