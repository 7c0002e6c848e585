/*
 * How this host reaches the network, for what is fetched in a build or for it.
 */
#pragma once

#include "base/buf.h"

#include <jansson.h>

#define IMAGE_CA_MAX  (4u << 20)
#define IMAGE_URL_MAX 512
#define IMAGE_HOST_CA ".host-ca.crt" /* what fetch-package calls image_host_ca()'s */

/* Adds to a build's arguments what Docker keeps in no image by itself: the proxies of the
 * environment, if a container can reach them. */
void image_host_proxies(json_t *args);
/* The registry that npm uses here; false: its default, or one that would tell a password. */
bool image_host_registry(char out[IMAGE_URL_MAX]);
/* The certificates that this host trusts beside those of the image below; out is initialised here,
 * also on failure. */
int image_host_ca(struct buf *out, struct err *e) _fallible_;
