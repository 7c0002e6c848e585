/*
 * Content-Encoding (RFC 9110 section 8.4): gzip, deflate, br, zstd, up to two layers, streaming,
 * with caps on ratio and size. Used by pipelock to scan what is inside a coded body.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#define CONTENT_LAYERS_MAX 2
#define CONTENT_RATIO_MAX  200 /* output : input, past the first CONTENT_FREE_BYTES */
#define CONTENT_FREE_BYTES (1u << 20)

struct content_decoder;

/* True for identity or an empty value (*out NULL: nothing to decode). -ENOTSUP for an unknown or
 * too deep coding: the caller refuses the body. */
int content_decoder_new(struct content_decoder **out, struct str content_encoding,
			struct err *e) _fallible_;
/* Appends decoded bytes to out (up to its cap) and sets *used to how much of in was taken; call
 * again while *used < in.n or out was full. -EPROTO for corrupt data or data after the end,
 * -E2BIG when the ratio cap is hit. is_last with all input taken checks completeness. */
int content_decode(struct content_decoder *d, struct str in, bool is_last, struct buf *out,
		   size_t *used, struct err *e) _fallible_;
void content_decoder_free(struct content_decoder *d);
