/*
 * The little of rtnetlink(7) that the walls need, written by hand. Everything acts on the calling
 * process's network namespace; each call uses a socket of its own.
 */
#pragma once

#include "base/err.h"

#include <linux/rtnetlink.h>
#include <netinet/in.h>

/* Sends one request (its length, type, and flags besides REQUEST and ACK are the caller's) and
 * waits for the acknowledgement. The kernel's refusal is the error, after "what: ". */
int rtnl_request(struct nlmsghdr *request, const char *what, struct err *e) _fallible_;

/* RTM_GETLINK, RTM_GETADDR or RTM_GETROUTE of a family (AF_UNSPEC: all): every message goes to fn,
 * whose first refusal ends it. -EAGAIN if something changed meanwhile: ask again. */
typedef int (*rtnl_message_fn)(void *ctx, const struct nlmsghdr *h, struct err *e);
int rtnl_dump(uint16_t type, unsigned char family, rtnl_message_fn fn, void *ctx,
	      struct err *e) _fallible_;
/* The first attribute of a type after the family's head (struct rtmsg, ifaddrmsg, ifinfomsg), NULL
 * if there is none with so long a payload. */
struct rtattr *rtnl_attribute(const struct nlmsghdr *h, size_t head_bytes, unsigned short type,
			      size_t payload_min);

int rtnl_link_up(unsigned interface, struct err *e) _fallible_;
/* address/32, of this host alone on lo. */
int rtnl_address_add(unsigned interface, struct in_addr address, struct err *e) _fallible_;
/* The only route to a host that is on the interface's link; source may be 0. Replaces one. */
int rtnl_route_add(unsigned interface, struct in_addr host, struct in_addr source,
		   struct err *e) _fallible_;
/* A permanent neighbour entry: nobody is asked for the address. */
#define RTNL_HARDWARE_BYTES 6
int rtnl_neighbour_add(unsigned interface, struct in_addr host,
		       const unsigned char hardware[RTNL_HARDWARE_BYTES], struct err *e) _fallible_;
int rtnl_loopback_up(struct err *e) _fallible_;
/* address/32 on lo. */
int rtnl_loopback_add(struct in_addr address, struct err *e) _fallible_;
/* 0 only if no interface but lo is up and no route leaves by another interface or a gateway.
 * (Kernels with tunnel modules put fallback devices such as sit0 into every new namespace; they are
 * down, and nobody inside holds the capability to raise them.) */
int rtnl_verify_sealed(struct err *e) _fallible_;
