/*
 * egress's end of the channel to the keeper (bundle/reach.h): sockets of the host's network, to
 * what the operator named. There is no other way to them from here: where the channel has ended or
 * is full, what was asked for cannot be reached, and is never dialled by egress itself.
 *
 * Nothing waits here, and there is no time limit: whoever asks has one, and takes its question
 * back.
 */
#pragma once

#include "base/err.h"
#include "bundle/reach.h"
#include "net/loop.h"

/* Of reacher_ask() and reacher_fn, besides what the keeper found when it dialled. */
#define REACHER_GONE ENOLINK /* the channel has ended, for good */
#define REACHER_BUSY EBUSY   /* too many questions are open */

struct reacher;

/* fd >= 0: not blocking, connected or on its way, the callee's. Else -1 and the errno. */
typedef void (*reacher_fn)(void *ctx, int fd, int error);

struct reacher_question {
	enum reach_list list;
	enum reach_kind kind;
	uint16_t number; /* in the policy's list */
	uint16_t port;	 /* that would be dialled */
};

/* fd stays the caller's. life tells this process's answers from those to one that died. */
int reacher_new(struct reacher **out, struct loop *l, int fd, uint32_t life,
		struct err *e) _fallible_;
/* Open questions end without a call. */
void reacher_free(struct reacher *r);
/* A handle, and fn is called once, not before this returns; or 0, *error, and fn is not called. */
uint64_t reacher_ask(struct reacher *r, const struct reacher_question *q, reacher_fn fn, void *ctx,
		     int *error);
/* fn will not be called. Not after it was; 0 does nothing. */
void reacher_cancel(struct reacher *r, uint64_t handle);
