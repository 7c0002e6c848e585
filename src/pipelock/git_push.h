/* Pushes over git's smart HTTP, which go through git-gate or not at all. */
#pragma once

#include "net/http1.h"

/* Whether a server could take the request for the beginning or the body of a push, in any spelling
 * that one might fold: escapes (also twice escaped), letter case, path parameters, parameters
 * beside and around `service`. Fetches are none, nor is a page about git-receive-pack. */
bool git_push_is(const struct http1_head *head);
