#pragma once

/* $XDG_CACHE_HOME/claude-bottle, else ~/.cache/claude-bottle, made when it is not there, as an open
 * folder that is ours and that nobody else may write to. -1 when there is none to be had: what is
 * in a cache can be had without it. */
int cache_open(void);
