/* How `requests` shows requests, grants and the audit. */
#pragma once

#include "face/face.h"
#include "requests/manifest_edit.h"

/* One request in full. edit (may be NULL): what "always" would do to the manifest at path. */
int requests_show_text(struct buf *out, const char *slug, const struct request *r,
		       const struct manifest_edit *edit, const char *path) _fallible_;
int requests_show_json(struct buf *out, const char *slug, const struct request *r,
		       const struct manifest_edit *edit, const char *path) _fallible_;
/* One line of the audit. */
int requests_show_audit(struct buf *out, const struct audit_line *l) _fallible_;
/* A line of face_each_told(): the time, and the agent's words behind a bar. */
int requests_show_told(struct buf *out, const char *line) _fallible_;
