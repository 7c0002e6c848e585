/* The canary's HTTP: what an allowed upstream would be, and an open proxy for the controls. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct canary_tls;

/* Makes an authority and a certificate for *.selftest.example and selftest.example; writes ca.pem
 * into the folder. NULL on failure. */
struct canary_tls *canary_tls_new(int dirfd, struct err *e);
/* One connection: TLS, then canary_http_serve(). */
void canary_http_serve_tls(struct canary_tls *t, const char *name, int fd);
/* Requests until the client goes; each whole request is one event. /echo answers with what came,
 * /redirect with 302, everything else with 200 and "canary". */
void canary_http_serve(const char *name, int fd);
/* CONNECT to anything reaches the TLS listener; an absolute-form request is one event. */
void canary_proxy_serve(const char *name, int fd, uint16_t tls_port);
