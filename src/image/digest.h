/*
 * The hash of the bundle's executable, remembered between starts: each start needs it for the name
 * of the bundle's image, and it is of 20 MB. It is kept in this process (the keeper is forked from
 * the one that asked first) and in the user's cache, under all that the kernel says of the file
 * that a later writer cannot put back: device, inode, size, and the time of its last change.
 *
 * Whoever can write that cache is the user, who could as well have replaced the executable.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#define DIGEST_FILE "program.digest"
#define DIGEST_SIZE 65 /* of the hexadecimal text */

/* Of the file that st is of. What is in the cache and is not exactly what digest_keep() writes is
 * passed over. */
bool digest_find(const struct stat *st, char hex[DIGEST_SIZE]);
/* before, after: of the file around its reading. Nothing is kept of a file that was changed
 * meanwhile or only just now. */
void digest_keep(const struct stat *before, const struct stat *after, const char *hex);
/* It was changed long enough ago that its times tell a later change from this one. */
bool digest_is_settled(const struct stat *st);
