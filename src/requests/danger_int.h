/* Between the files of danger. Hosts are canonical; a wildcard's is what stands behind "*.". */
#pragma once

#include "requests/danger.h"

/* --- danger_hosts.c: tables --- */

/* name is below suffix, or is it. */
bool danger_is_below(struct str name, struct str suffix);
/* Why it lies inside ("is only known inside a network"), or NULL. */
const char *danger_inside(struct str host);
/* What is done there with what is sent ("takes files that anybody can fetch"), or NULL. Services
 * that take something only in a body count where methods has one that carries one. */
const char *danger_uploads(struct str host, uint32_t methods, bool is_wildcard);
/* Anybody can have a name under it: in a cloud's zone, of which not all suffixes are listed, and
 * not below one that is. */
bool danger_is_shared_zone(struct str name);

/* --- danger_suffix.c: the public suffix list --- */

/* False: there is no list here, and nothing can be said. */
bool danger_suffixes_known(void);
bool danger_is_public_suffix(struct str name);
/* The suffix of a name that was registered with somebody who lets anybody have one ("github.io"),
 * or an empty one. */
struct str danger_private_suffix(struct str name);
/* What was registered: "example.co.uk" of "a.example.co.uk"; all of it where nothing was. A part of
 * name. Without a list its last two labels. */
struct str danger_registrable(struct str name);

/* --- danger_alike.c --- */

/* Letters that look like others, for people: "mixes Latin and Cyrillic letters", or NULL. */
const char *danger_scripts(struct str host);
/* Does host look like known, whose owner is another? Says how ("differs from it in one letter"), or
 * NULL. */
const char *danger_alike(struct str host, struct str known);
/* The same among hosts that developers use; *known: which. */
const char *danger_alike_known(struct str host, char known[POLICY_HOST_MAX + 1]);
