/* The witness as a git server without any wall: it takes and gives what it is asked for. */
#pragma once

#include "base/buf.h"

/* Makes FOLDER/git with the repositories that the probes know; false: this host has no git. */
bool canary_git_open(const char *folder);
/* Whether a request is for it. */
bool canary_git_is_for(struct str request);
/* The whole answer to a whole request, through `git http-backend`. */
void canary_git_answer(struct str request, struct buf *out);
/* How much of text is a whole body in chunks; SIZE_MAX: it is not whole yet. */
size_t canary_git_chunked_length(struct str text);
