/*
 * The little of rtnetlink(7) that the wall needs, written by hand: bring `lo` up, give it one
 * address, and prove that nothing else is there. Acts on the calling process's network namespace.
 */
#pragma once

#include "base/err.h"

#include <netinet/in.h>

int rtnl_loopback_up(struct err *e) _fallible_;
/* address/32 on lo. */
int rtnl_loopback_add(struct in_addr address, struct err *e) _fallible_;
/* 0 only if no interface but lo is up and no route leaves by another interface or a gateway.
 * (Kernels with tunnel modules put fallback devices such as sit0 into every new namespace; they are
 * down, and nobody inside holds the capability to raise them.) */
int rtnl_verify_sealed(struct err *e) _fallible_;
