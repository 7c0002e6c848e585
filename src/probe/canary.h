/*
 * The out-of-band witness of the escape suite: `claude-bottle-bundle canary FOLDER`. It runs on the
 * host, outside every wall, listens on all that a probe might reach, and writes down each byte that
 * arrives. A probe's verdict is what the canary saw, never what the probe's client believed.
 *
 * FOLDER gets: ca.pem (the authority of its TLS listener), targets (KEY=VALUE lines, see below;
 * written when everything listens), seen.log (one line per event: LISTENER <TAB> visible bytes).
 *
 *   tls=PORT      127.0.0.1: TLS for *.selftest.example; a small HTTP server, see canary_http.c
 *   plain=PORT    127.0.0.1: the same without TLS
 *   any=PORT      0.0.0.0 and [::]: TCP and UDP, takes anything
 *   loop=PORT     127.0.0.1: TCP and UDP, takes anything
 *   dns=PORT      127.0.0.1: TCP and UDP, an authority for selftest.example
 *   proxy=PORT    127.0.0.1: an open proxy, which is what pipelock would be with its wall gone
 *   mcp=PORT      0.0.0.0 and [::]: supervise and its page without any wall, see canary_mcp.h
 *   abstract=NAME, path=PATH   unix sockets
 *   host=ADDRESS  an IPv4 address of this host that is not loopback, if there is one
 */
#pragma once

int canary_main(int argc, char **argv);

/* Writes one event; data is made visible. */
void canary_saw(const char *listener, const void *data, unsigned long n);
