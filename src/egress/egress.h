/*
 * The role's working parts without its process: an HTTP/1.1 intermediary that takes requests in
 * absolute form from connections that it is given, and answers them from outside.
 * egress_role_main() puts it into a sealed process; see docs/EGRESS.md.
 */
#pragma once

#include "conf/policy_shared.h"
#include "egress/creds.h"
#include "egress/resolver.h"
#include "net/relay.h"

struct egress_config {
	struct policy_shared *policy; /* used until the end, whatever follows it */
	const char *pinned;	      /* the bundle's own address, always inside; may be NULL */
	/* The host's addresses, where its network is not ours: inside as well. */
	const char (*inside)[46];
	size_t n_inside;
	struct reacher *reacher; /* borrowed, see resolver.h; NULL where it is ours */
	const char *ca_file;	 /* PEM; NULL: only policy->ca_pem */
	const struct sockaddr_storage *servers; /* name servers, with port */
	size_t n_servers;
	creds_ask_fn ask; /* for credentials */
	void *ask_ctx;
	int record_fd;
	const char *rule; /* in all of its records: which of several it is; static, may be NULL */
	unsigned dns_ms, body_ms, response_ms, stream_ms; /* 0: defaults */
};

struct egress;

/* Opens all that needs the file system; afterwards only sockets are made. */
int egress_new(struct egress **out, struct loop *l, const struct egress_config *config,
	       struct err *e) _fallible_;
void egress_free(struct egress *g);
/* One end of a stream socketpair, owned from here on in every case. */
void egress_serve(struct egress *g, int fd);
/* This policy decides from now on; g becomes a user of it. It differs from the first one only in
 * grants. What it would not allow, of the exchanges under way, is over when this returns; the rest
 * goes on. See renew.h. */
void egress_renew(struct egress *g, struct policy_shared *policy);
/* Everything is refused from now on ("network-paused") and what is under way ends; or no longer. */
void egress_pause(struct egress *g, bool is_paused);
/* For others that dial under the same policy and checks. */
struct resolver *egress_resolver(struct egress *g);
