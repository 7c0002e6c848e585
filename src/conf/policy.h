/*
 * What a bottle may reach: the resolved, validated form that pipelock and egress enforce and that
 * `policy check` explains. No regular expressions; one linear pass; nothing is allowed unless a
 * route says so. An empty, missing or malformed policy allows nothing.
 *
 * Travels from the host to the bundle as JSON (policy_to_json / policy_from_json), which is parsed
 * as strictly as if it were hostile. It holds references to credentials, never their values.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <netinet/in.h>

#define POLICY_HOST_MAX	   253
#define POLICY_ROUTES_MAX  512
#define POLICY_PORTS_MAX   16
#define POLICY_PATHS_MAX   64
#define POLICY_PATH_MAX	   1024
#define POLICY_DNS_MAX	   4
#define POLICY_RESOLVE_MAX 256
#define POLICY_HEADER_MAX  64
#define POLICY_USER_MAX	   128
/* The bundle knows 64 fingerprints in all: credentials, their placeholders, the canary. */
#define POLICY_CREDENTIALS_MAX 30
#define POLICY_PLACEHOLDER_MIN 24
#define POLICY_PLACEHOLDER_MAX 64
#define POLICY_CA_MAX_BYTES    (1u << 20)
#define POLICY_JSON_MAX_BYTES  (4u << 20)
#define POLICY_GRANT_MAX       INT64_MAX

/* RFC 9110 methods that a route may name; CONNECT and TRACE never. */
enum policy_method {
	POLICY_METHOD_GET,
	POLICY_METHOD_HEAD,
	POLICY_METHOD_POST,
	POLICY_METHOD_PUT,
	POLICY_METHOD_PATCH,
	POLICY_METHOD_DELETE,
	POLICY_METHOD_OPTIONS,
	POLICY_METHOD_COUNT
};

enum policy_auth_scheme {
	POLICY_AUTH_NONE,
	POLICY_AUTH_BEARER, /* Authorization: Bearer TOKEN */
	POLICY_AUTH_BASIC,  /* Authorization: Basic base64(user:TOKEN) */
	POLICY_AUTH_HEADER  /* <header>: TOKEN, e.g. x-api-key */
};

enum policy_on_match { POLICY_MATCH_BLOCK, POLICY_MATCH_REDACT, POLICY_MATCH_SUPERVISE };

struct policy_auth {
	enum policy_auth_scheme scheme;
	char *header;	     /* lower case; of POLICY_AUTH_HEADER, else "authorization" */
	char *user;	     /* of POLICY_AUTH_BASIC */
	char *placeholder;   /* what the agent holds instead; unique to the bottle */
	unsigned credential; /* index into the secrets that keyd was given */
};

/* One allowed destination. A request must meet all of it. */
struct policy_route {
	char *host; /* lower-case A-label; "*.example.com": every name below example.com */
	uint16_t ports[POLICY_PORTS_MAX]; /* at least one */
	size_t n_ports;
	uint32_t methods; /* bit 1 << enum policy_method; at least one */
	/* Path patterns against the path without its query. "*" matches within one segment, a last
	 * segment "**" anything below; no pattern: every path. Escapes of the request's path are
	 * compared by the byte that they stand for. */
	char **paths;
	size_t n_paths;
	struct policy_auth auth;
	enum policy_on_match on_match;
	bool may_websocket;
	/* Not of the manifest but granted: the request's number (requests/store.h); 0: the
	 * manifest's. Grants stand behind all of the manifest's routes and have no auth. is_once:
	 * each request by it has to be spent at the keeper first. */
	uint64_t grant;
	bool is_once;
	char *origin_file; /* of the manifest, for `policy why`; the agent never sees it */
	unsigned origin_line;
};

/* The operator's own answer for a name; such an address may lie inside, since the operator named
 * it. Only for this exact name; port 0 keeps the port that was asked for. */
struct policy_resolve {
	char *host;
	struct sockaddr_storage address; /* port 0: unchanged */
};

struct policy {
	struct policy_route *routes;
	size_t n_routes;
	struct policy_resolve *resolve;
	size_t n_resolve;
	/* The operator's own resolvers instead of the host's; at most POLICY_DNS_MAX, each with its
	 * port. */
	struct sockaddr_storage *dns;
	size_t n_dns;
	char *ca_pem; /* extra roots for upstreams, of egress.ca; NULL for none */
	struct policy_index
		*index; /* of routes by host; policy_from_json makes it, NULL is slower */
};

/* In the order in which they are checked. The names (policy_reason_name) are part of the wire
 * format of refusals and records; never renumber a name's meaning. */
enum policy_reason {
	POLICY_OK,
	POLICY_DENY_HOST_SYNTAX, /* not a host name in canonical form */
	POLICY_DENY_IP_LITERAL,	 /* any spelling of an address; only names can be allowed */
	POLICY_DENY_HOST,	 /* no route names the host */
	POLICY_DENY_PORT,
	POLICY_DENY_METHOD,
	POLICY_DENY_PATH_SYNTAX, /* not canonical: dot segments, %2f, %2e, %5c, %00, "\", "//" … */
	POLICY_DENY_PATH,
	POLICY_REASON_COUNT
};

const char *policy_reason_name(enum policy_reason r); /* "host-not-allowed", … */
const char *policy_method_name(enum policy_method m); /* "GET" */
/* False for an unknown method; methods are case-sensitive (RFC 9110 section 9.1). */
bool policy_method_parse(struct str name, enum policy_method *out)
	__attribute__((warn_unused_result));

struct policy_decision {
	enum policy_reason reason;
	const struct policy_route
		*route; /* on POLICY_OK the route; else the nearest one, or NULL */
};

/* For CONNECT: may some request to this host and port be allowed? The host is compared in
 * canonical lower-case form; the caller passes what policy_host_canonical() returned. */
struct policy_decision policy_decide_authority(const struct policy *p, struct str host,
					       uint16_t port);
/* For a request. path is the origin-form path with or without query. Among several routes that
 * allow it, exactly one wins: one with auth before one without, then a standing one (the manifest's
 * or a grant that is not for once) before one for once, then the first in the policy's order, which
 * is the manifest's with the grants behind it. So a grant never takes a credential from a request,
 * and none is spent for what is allowed anyway. Dot segments, controls, backslashes, broken
 * escapes and bytes past ASCII are refused everywhere; as soon as one route of the host and port
 * restricts paths, everything that policy_path_is_canonical() refuses is. Neither allocates. */
struct policy_decision policy_decide(const struct policy *p, struct str host, uint16_t port,
				     enum policy_method method, struct str path);
/* RFC 1035/5890 letters, digits, hyphen; labels of 1-63 bytes; lower-cased into out; one trailing
 * dot removed; every address spelling (decimal, octal, hex, short, bracketed v6) is
 * POLICY_DENY_IP_LITERAL; U-labels, userinfo, NUL, space and any other byte
 * POLICY_DENY_HOST_SYNTAX. */
enum policy_reason policy_host_canonical(struct str host, char out[POLICY_HOST_MAX + 1]);
/* As written by an operator: additionally "*.name" with at least two labels under a name that is
 * not a public suffix of one label; U-labels are refused with their A-label as hint. */
int policy_host_pattern_check(struct str pattern, struct err *e) _fallible_;
/* True if the origin-form path (query excluded) is in the one canonical form that can be matched
 * safely: no empty or dot segment, no ";", no escaped "/", "\", ".", ";" or "%". */
bool policy_path_is_canonical(struct str path);
/* What a route may hold, for whoever builds one: the manifest and policy_from_json(). A path
 * pattern starts with "/", has no query, escape or parameter, and "**" only as its last segment. */
int policy_path_pattern_check(struct str pattern, struct err *e) _fallible_;
/* A header that may carry a credential: a lower-case token (RFC 9110 section 5.6.2) that is not one
 * of the message's own framing. */
int policy_header_check(struct str header, struct err *e) _fallible_;
int policy_user_check(struct str user, struct err *e) _fallible_; /* RFC 7617: no ":" */
int policy_placeholder_check(struct str placeholder, struct err *e) _fallible_;
/* "1.2.3.4", "1.2.3.4:443", "2001:db8::1", "[2001:db8::1]:443", in plain decimal or hex form. */
int policy_address_parse(struct str text, struct sockaddr_storage *out, struct err *e) _fallible_;
/* The same form; out holds at least POLICY_ADDRESS_SIZE bytes. */
#define POLICY_ADDRESS_SIZE 64
void policy_address_format(const struct sockaddr_storage *a, char out[POLICY_ADDRESS_SIZE]);
const char *policy_scheme_name(enum policy_auth_scheme s); /* "bearer"; "none" */
bool policy_scheme_parse(struct str name, enum policy_auth_scheme *out)
	__attribute__((warn_unused_result));
const char *policy_on_match_name(enum policy_on_match m); /* "block" */
bool policy_on_match_parse(struct str name, enum policy_on_match *out)
	__attribute__((warn_unused_result));

void policy_free(struct policy *p); /* leaves an empty policy, which allows nothing */
/* Unknown and repeated keys, anything out of range and any nesting that the form does not have are
 * errors; out is then an empty policy. */
int policy_from_json(struct policy *out, struct str json, struct err *e) _fallible_;
int policy_to_json(const struct policy *p, struct buf *out, struct err *e) _fallible_;
/* True if one can follow the other while a bundle runs (bundle/news.h): the manifest's routes are
 * the same in the same order, and so is all but the routes of grants behind them. */
bool policy_differs_only_in_grants(const struct policy *a, const struct policy *b)
	__attribute__((warn_unused_result));
/* Where a route leads, without what else it says: "host":…,"ports":[…],"methods":[…],"paths":[…].
 * One spelling: what a human grants is hashed in it (requests/change.h). */
int policy_destination_to_json(const struct policy_route *r, struct buf *out) _fallible_;
