/* Where the bottles of this user are kept. */
#pragma once

#include "base/err.h"

#include <stdbool.h>

#define PLACES_PATH_MAX 1024
#define PLACES_SLUG_MAX 64

/* $HOME if absolute, else the password file's. */
int places_home(char out[PLACES_PATH_MAX], struct err *e) _fallible_;
/* $XDG_STATE_HOME/claude-bottle/bottles, by default ~/.local/state/claude-bottle/bottles. */
int places_bottles_path(char out[PLACES_PATH_MAX], struct err *e) _fallible_;
/* The same as an open folder; made (0700) when may_create, else -ENOENT without an error when it
 * does not exist. Refused when somebody else owns it or may write into it: what lies there decides
 * what we signal and remove. */
int places_bottles_open(bool may_create, int *fd, struct err *e) _fallible_;
/* A name that may be a slug: [a-z0-9-], no leading hyphen, shorter than PLACES_SLUG_MAX. */
bool places_slug_is_valid(const char *s);
