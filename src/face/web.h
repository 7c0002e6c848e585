/*
 * The face on a web page: a small HTTP/1.1 server on loopback, for the browser of the human who
 * started it, and for nobody else (web.c: what it is afraid of, and what stands against it).
 */
#pragma once

#include "base/err.h"

struct face_web_options {
	uint16_t port;	   /* 0: one of the kernel's choice */
	uint32_t token_ms; /* how long an address is good; 0: a minute */
};

/* Prints a URL that works once, and a new one on each Enter; returns 0 after SIGINT, SIGTERM or
 * SIGHUP. It never starts a browser by itself: the URL would stand in that program's arguments,
 * where every user of this host can read it. */
int face_web(const struct face_web_options *o, struct err *e) _fallible_;
