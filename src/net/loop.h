/*
 * The event loop of every long-lived process: epoll (level-triggered), one-shot timers in a binary
 * heap, signals through signalfd. Single-threaded; callbacks may add, change and remove any watch
 * or timer, their own included.
 */
#pragma once

#include "base/err.h"

#include <sys/epoll.h>

struct loop;

/* Embedded in its owner. fn gets the EPOLL* bits that are set. */
struct loop_watch {
	int fd; /* -1 when not added */
	uint32_t events;
	void (*fn)(struct loop_watch *w, uint32_t events);
};

struct loop_timer {
	uint64_t due_ns; /* CLOCK_MONOTONIC; 0 when not armed */
	size_t slot;	 /* of the heap */
	void (*fn)(struct loop_timer *t);
};

struct loop *loop_new(struct err *e) _fallible_;
void loop_free(struct loop *l); /* closes nothing that it was given */
/* Level-triggered. The watch must outlive its registration. */
int loop_add(struct loop *l, struct loop_watch *w, int fd, uint32_t events,
	     struct err *e) _fallible_;
/* Changes the event set; no syscall when it is the same. */
int loop_set(struct loop *l, struct loop_watch *w, uint32_t events);
/* Does not close the fd. Safe inside callbacks: no event already fetched reaches w afterwards. */
void loop_del(struct loop *l, struct loop_watch *w);
/* (Re)arms to fire once, after_ms from now. */
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t after_ms);
void loop_timer_del(struct loop *l, struct loop_timer *t);
/* Blocks these signals and calls fn from the loop for each that arrives. One set per loop. */
int loop_signals(struct loop *l, const int *signals, size_t n,
		 void (*fn)(struct loop *l, int signo, void *ctx), void *ctx,
		 struct err *e) _fallible_;
/* Monotonic time at the start of this round, without a syscall. */
uint64_t loop_now_ns(const struct loop *l);
/* Runs until loop_stop(); returns the value given there. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l, int status);
