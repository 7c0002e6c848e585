/*
 * A stream to a service of an upstream, on which git's own protocol is spoken, whatever the way
 * there is.
 *
 *   upload-pack     git fetch ── git-connect ── connector ── gitssh, keeper
 *                                               (a fork)  └─ egress, by HTTP
 *   receive-pack    upstream_push() ─────────────────────── gitssh, keeper
 *                          └─────────────────── connector ── egress, by HTTP
 *
 * The connector is a process of its own, because it parses what an upstream says and lives as long
 * as git does. It gives git a list of refs that it made itself (advert.h), looks at what flows, and
 * ends with a report.
 */
#pragma once

#include "gitgate/advert.h"
#include "gitgate/upstream.h"
#include "gitgate/wire.h"

#define CONNECT_FIRST_MS   25000  /* to the first word: egress may take 20 s for name and address */
#define CONNECT_REFS_MS	   120000 /* for a list of refs */
#define CONNECT_SILENCE_MS 60000
#define CONNECT_PUSH_MS	   300000 /* hooks of the upstream run between the pack and the report */
#define CONNECT_LINGER_MS  5000
#define CONNECT_MAX_BYTES  (8ull << 30) /* of one fetch */

/* From the connector, in one write. */
struct connect_report {
	int code;	 /* 0, or what went wrong */
	bool is_certain; /* push: the upstream has not done anything */
	char text[ERR_TEXT_MAX];
	char head[GIT_REF_MAX + 1]; /* fetch: for the mirror's HEAD, or "" */
};

struct connection {
	int fd;	       /* does not block */
	int report_fd; /* from the connector, or -1 */
	int why_fd;    /* from gitssh or the keeper, when there is no connector; or -1 */
	pid_t pid;     /* of the connector, or -1 */
	int pid_fd;
};

#define CONNECTION_NONE ((struct connection){-1, -1, -1, -1, -1})

int connect_open(struct connection *out, const struct upstream_place *p, const struct git_remote *r,
		 enum git_service service, uint64_t deadline_ns, struct err *e) _fallible_;
/* Ends it, at once if it must. The report is zeroed when nothing was reported. */
void connect_close(struct connection *c, struct connect_report *out);

/* What the connector is made of; each returns when all is over, or with an error for the report. */
struct connector {
	const struct upstream_place *place;
	const struct git_remote *remote;
	struct wire_clock clock;
	int git_fd;	 /* git's side: does not block */
	int upstream_fd; /* of a raw stream, or -1 */
	int why_fd;	 /* of a raw stream, or -1 */
	struct connect_report report;
};
int connect_raw_fetch(struct connector *k, struct err *e) _fallible_;
int connect_https_fetch(struct connector *k, struct err *e) _fallible_;
int connect_https_push(struct connector *k, struct err *e) _fallible_;

/* A stream of gitssh's or the keeper's. */
int connect_raw_open(const struct upstream_place *p, const struct git_remote *r,
		     enum git_service service, int *stream_fd, int *why_fd,
		     struct err *e) _fallible_;
/* What was said about the stream's end, made visible; "" if nothing. Waits a little for it. */
void connect_raw_why(int why_fd, char *out, size_t size);
/* For the first answer, with the refs. */
void connect_clock_refs(struct wire_clock *c);
/* After the first answer of an https upstream, in version 0: git's requests become those that such
 * an upstream can answer without remembering anything (connect_stateless.c). */
int connect_stateless_fetch(struct connector *k, struct wire_reader *r, struct err *e) _fallible_;
/* advert_overlay() where it is due; sets the report's head. */
int connect_advert_finish(struct connector *k, struct advert *a, struct err *e) _fallible_;
