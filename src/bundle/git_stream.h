/*
 * How git-gate gets a duplex stream to `git upload-pack` or `git receive-pack` of an upstream that
 * is not https. Over one SOCK_SEQPACKET channel per server (gitssh for ssh remotes; the keeper, as
 * git-gate's `door`, for the host's own repository), fixed-size requests, no replies: each brings
 * its own two descriptors, so that any of git-gate's workers may ask and no answer can be taken for
 * another's.
 *
 *   [0]  one end of a stream socketpair: the git protocol (version 0), raw, both ways
 *   [1]  the write end of a pipe: if the stream fails, one line of why, at most
 *        GIT_STREAM_WHY_MAX bytes, from a hostile server's mouth perhaps: shown escaped
 *
 * The server closes both when the stream has ended. A request that is malformed costs that request.
 * A remote is a place in the git policy's list, never an address or a path.
 */
#pragma once

#include <stdint.h>

enum git_service { GIT_UPLOAD_PACK = 1, GIT_RECEIVE_PACK };

struct git_stream_request {
	uint16_t remote;
	uint16_t service; /* enum git_service */
	uint32_t zero;
};
_Static_assert(sizeof(struct git_stream_request) == 8, "no padding");

#define GIT_STREAM_WHY_MAX 512

/* gitssh asks egress for a connection in the same way: remote, service 0, one descriptor: a stream
 * socketpair's end on which egress answers with one struct git_dial_reply (and the TCP socket with
 * it when status is 0). gitssh keeps its end open for as long as the connection is in use: when the
 * bottle is paused, egress shuts it down; when that end is closed, egress forgets it. After a
 * status of 1 egress closes. */
struct git_dial_reply {
	uint32_t status; /* 0, or 1: text says why */
	char text[252];	 /* NUL-terminated */
};
