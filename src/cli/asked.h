/*
 * What the agent of a supervised bottle has asked for, in a line for the human on standard error.
 * Nothing where there is no such thing, or none that can be read: `requests` says why. dir: the
 * bottle's state folder.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Requests that wait for the human now. */
size_t asked_pending(int dir, const char *slug);
/* The same in words, and where they are decided. */
void asked_show_pending(int dir, const char *slug);
/* What ended without a decision since then (seconds since the epoch). */
void asked_show_undecided(int dir, const char *slug, uint64_t since);
/* What was granted, and is in force again when the bottle is. */
void asked_show_grants(int dir, const char *slug);
