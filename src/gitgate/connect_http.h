/*
 * One request to an https upstream, by egress: HTTP/1.1 in absolute form over a stream of its own,
 * as pipelock's requests go. egress decides on host, port, method and path again, and puts the
 * credential where the placeholder stands. Nothing is followed: no redirect, no challenge.
 */
#pragma once

#include "gitgate/connect.h"
#include "net/http1.h"

struct connect_http {
	const struct upstream_place *place;
	const struct git_remote *remote;
	enum git_service service;
	struct wire_clock clock;
	int fd;
	bool is_post, is_chunked, has_head;
	bool is_certain; /* of a failure: the upstream has done nothing */
	struct buf in;
	size_t seen; /* of in, without a head's end */
	char *head_text;
	struct http1_head head;
	struct http1_body body;
	size_t used; /* of in: what connect_http_read() has given out */
};

#define CONNECT_HTTP_CHUNKED UINT64_MAX

void connect_http_init(struct connect_http *h, const struct upstream_place *p,
		       const struct git_remote *r, enum git_service service,
		       const struct wire_clock *clock);
void connect_http_free(struct connect_http *h);
/* GET info/refs, in version 2 for upload-pack if the upstream can. */
int connect_http_get(struct connect_http *h, struct err *e) _fallible_;
/* The head of POST git-<service>; length of its body or CONNECT_HTTP_CHUNKED. */
int connect_http_post(struct connect_http *h, uint64_t length, struct err *e) _fallible_;
/* A piece of the body. 0; 1 when the upstream has answered without waiting for more. */
int connect_http_send(struct connect_http *h, struct str piece, struct err *e) _fallible_;
int connect_http_send_end(struct connect_http *h, struct err *e) _fallible_;
/* Waits for the answer's head; anything but the one that is wanted is an error that says what the
 * upstream, or egress, said. */
int connect_http_answer(struct connect_http *h, struct err *e) _fallible_;
/* 1 with data, which is valid until the next call; 0 at the body's end. */
int connect_http_read(struct connect_http *h, struct str *data, struct err *e) _fallible_;

/* A whole POST, until the head of its answer. */
int connect_http_post_whole(struct connect_http *h, struct str body, struct err *e) _fallible_;

/* Each line of the body. 0 to go on, 1: enough. */
typedef int (*connect_http_line_fn)(void *ctx, enum wire_kind kind, struct str payload,
				    struct err *e);
/* 0 at the body's end, 1 when fn said so. -EPROTO for what is no line. */
int connect_http_lines(struct connect_http *h, uint64_t max_bytes, connect_http_line_fn fn,
		       void *ctx, struct err *e) _fallible_;
