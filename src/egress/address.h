/*
 * Which addresses are inside: nothing that an agent can make egress dial may be there. The class of
 * an address is decided on its numeric form, never on a spelling, and on every IPv4 address that an
 * IPv6 address may carry in itself.
 *
 * Source of the ranges: the IANA special-purpose registries (RFC 6890 and its updates), the
 * transition mechanisms that put IPv4 into IPv6 (RFC 4291, 6052, 8215, 3056, 4380, 5214), and the
 * metadata services of the clouds.
 */
#pragma once

#include "base/err.h"

#include <sys/socket.h>

/* X(constant, name). The names are used in records. */
#define ADDRESS_CLASSES(X)                                                                         \
	X(PUBLIC, "public")                                                                        \
	X(UNSPECIFIED, "unspecified") /* and all of 0.0.0.0/8: "this network" */                   \
	X(LOOPBACK, "loopback")                                                                    \
	X(PRIVATE, "private")                                                                      \
	X(SHARED, "shared")                                                                        \
	X(LINK_LOCAL, "link-local")                                                                \
	X(SITE_LOCAL, "site-local")                                                                \
	X(UNIQUE_LOCAL, "unique-local")                                                            \
	X(METADATA, "metadata")                                                                    \
	X(PROTOCOL, "protocol-assignment")                                                         \
	X(DOCUMENTATION, "documentation")                                                          \
	X(BENCHMARK, "benchmarking")                                                               \
	X(MULTICAST, "multicast")                                                                  \
	X(BROADCAST, "broadcast")                                                                  \
	X(RESERVED, "reserved")                                                                    \
	X(TRANSITION, "ipv4-in-ipv6") /* mapped, compatible, 6to4, Teredo, local NAT64 */          \
	X(OWN, "own-interface")	      /* of this host or bundle */                                 \
	X(UNKNOWN, "unknown-family")

enum address_class {
#define X(constant, name) ADDRESS_##constant,
	ADDRESS_CLASSES(X)
#undef X
		ADDRESS_CLASS_COUNT
};

const char *address_class_name(enum address_class c);

/* Without regard to this host's own interfaces. Everything but ADDRESS_PUBLIC is inside. */
enum address_class address_classify(const struct sockaddr *sa);
/* The same of raw bytes in network order. */
enum address_class address_classify_v4(const uint8_t a[4]);
enum address_class address_classify_v6(const uint8_t a[16]);

/*
 * The addresses of this host's own interfaces, which may be public ones. They are read through a
 * netlink socket that is opened before the role seals itself, and read again when the last reading
 * is older than ADDRESS_OWN_FRESH_MS.
 */
#define ADDRESS_OWN_MAX	     4096
#define ADDRESS_OWN_FRESH_MS 5000

struct address_own {
	int netlink_fd;
	uint32_t sequence;
	uint64_t read_ns; /* 0: never */
	size_t n, cap;
	uint8_t (*list)[16]; /* IPv4 ones in mapped form */
	size_t n_extra;	     /* at the front of list: added by address_own_add() */
};

int address_own_open(struct address_own *o, struct err *e) _fallible_;
void address_own_close(struct address_own *o);
/* An address that counts as own for ever, e.g. the pinned one. Before the first reading. */
int address_own_add(struct address_own *o, const char *text, struct err *e) _fallible_;
/* Reads if the last reading is not fresh. On failure nothing may be dialled. */
int address_own_refresh(struct address_own *o, struct err *e) _fallible_;
bool address_own_has(const struct address_own *o, const struct sockaddr *sa);

/* address_classify(), then the own interfaces (o may be NULL). */
enum address_class address_check(const struct address_own *o, const struct sockaddr *sa);

/* True when the kernel would deliver a packet to sa to this host itself, whatever the interfaces
 * say (local routes of whole ranges): asked with a connected datagram socket that sends nothing.
 * True also when that cannot be found out for another reason than a missing route (-> *no_route).
 */
bool address_is_delivered_here(const struct sockaddr *sa, bool *no_route);

socklen_t address_size(const struct sockaddr *sa);
