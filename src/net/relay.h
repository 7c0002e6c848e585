/*
 * An HTTP/1.1 intermediary as an engine: it accepts connections (fronts), reads requests from them
 * strictly, asks its owner about each, passes them to a connection towards the upstream (a back)
 * and brings the answer home. pipelock and egress are owners: they decide; the relay moves bytes.
 * See docs/RELAY.md for the state machine.
 *
 *   front ── exchange ── back        one exchange at a time on each; both sides kept alive
 *
 * Single-threaded, on one loop. No owner function may block for long. Owner functions are called
 * from the loop or from within relay_continue() and its like; an owner may call any relay function
 * from inside them except relay_free().
 *
 * Lifetimes: an exchange lives from the first byte of a request until on_done() returns; after that
 * no function may be called for it: an owner with something pending for it (relay_continue, a DNS
 * question) drops that in on_done().
 */
#pragma once

#include "net/http1.h"
#include "net/loop.h"
#include "net/tls.h"

struct relay;
struct relay_front; /* a connection from the agent's side */

/* What a front may send. */
#define RELAY_ACCEPT_CONNECT	    0x01u /* then TLS inside, see on_connect */
#define RELAY_ACCEPT_ABSOLUTE_HTTP  0x02u /* "GET http://host/path" */
#define RELAY_ACCEPT_ABSOLUTE_HTTPS 0x04u /* "GET https://host/path": egress, from pipelock */
#define RELAY_ACCEPT_ORIGIN	    0x08u /* "GET /path", outside a CONNECT */

struct relay_config {
	unsigned accept;       /* RELAY_ACCEPT_* */
	bool back_is_absolute; /* requests to the back in absolute-form (pipelock → egress) */
	struct tls_server *tls_server; /* for CONNECT; borrowed */
	size_t fronts_max;	       /* further connections are closed at once; 0: 1024 */
	size_t backs_max;	       /* all backs, busy and idle; 0: 1024 */
	size_t idle_backs_max;	       /* kept in the pool per key; 0: 16 */
	/* The most that an on_*_data function may have put into out and not yet be sent: how much
	 * an owner may hold back and then release at once, plus a piece of RELAY_PIECE_BYTES; 0: 2
	 * MiB. */
	size_t out_max_bytes;
	size_t owner_bytes;	  /* memory per exchange for the owner, zeroed at its start */
	size_t front_owner_bytes; /* the same per front */
	/* Time-outs; 0 takes the default in brackets. */
	unsigned head_ms;     /* from the first byte of a request to its last header byte [10000] */
	unsigned body_ms;     /* between two reads of a request body [30000] */
	unsigned idle_ms;     /* a front without a request [75000] */
	unsigned tls_ms;      /* a TLS handshake, either side [10000] */
	unsigned dial_ms;     /* until connected, the owner's part (DNS) included [10000] */
	unsigned response_ms; /* until the response's head [600000]: models think for minutes */
	unsigned stream_ms;   /* between two reads of a response body [300000] */
	unsigned later_ms;    /* an owner's RELAY_LATER [0: for ever, the owner keeps the time] */
	unsigned back_idle_ms; /* a pooled back [30000] */
};

#define RELAY_PIECE_BYTES 65536 /* the most that one call of on_*_data is given */

enum relay_step {
	RELAY_FORWARD, /* go on */
	RELAY_LATER,   /* the owner will call relay_continue() or relay_refuse() */
	RELAY_REFUSE   /* the owner has called relay_refuse() */
};

enum relay_data {
	RELAY_DATA_OK,	  /* what may flow now was appended to out */
	RELAY_DATA_PASS,  /* `in` may flow unchanged and now; out was not touched (saves the copy).
			   * Not  together with anything held back */
	RELAY_DATA_LATER, /* request only, at is_last: like RELAY_LATER; the owner keeps what it
			   * holds back, and after relay_continue() is called once more with an
			   * empty in and is_last */
	RELAY_DATA_REFUSE /* the owner has called relay_refuse() */
};

enum relay_outcome {
	RELAY_DONE,	    /* answered in full from upstream */
	RELAY_TUNNEL,	    /* CONNECT: TLS is up, requests follow as exchanges of their own */
	RELAY_REFUSED,	    /* relay_refuse(): by the owner */
	RELAY_BAD_REQUEST,  /* not acceptable HTTP or TLS from the front: reason says which */
	RELAY_BAD_RESPONSE, /* not acceptable HTTP from the back */
	RELAY_DIAL_FAILED,  /* also: the upstream's TLS */
	RELAY_BACK_CLOSED,  /* the response ended early */
	RELAY_FRONT_CLOSED, /* the agent went away */
	RELAY_TIMED_OUT,    /* reason: "head-timeout", "body-timeout", "response-timeout", … */
	RELAY_SHUTDOWN,	    /* relay_free(), relay_front_close() */
	RELAY_OUTCOME_COUNT
};

const char *relay_outcome_name(enum relay_outcome o);

struct relay_result {
	enum relay_outcome outcome;
	const char *reason;   /* static text: an http1 or tls reason's name, or the owner's; "ok" */
	unsigned status;      /* what the front was sent; 0 for none */
	uint64_t bytes_up;    /* body bytes sent to the back */
	uint64_t bytes_down;  /* body bytes sent to the front */
	uint64_t duration_us; /* from the first byte of the request */
	uint64_t first_byte_us; /* to the response's head from the back; 0 for none */
	bool is_back_reused;
};

/*
 * One request and its answer. Owners read all of it and may change what is marked (owner). Text of
 * req and res lives until on_done(); new text must, too: relay_keep().
 */
struct relay_exchange {
	struct http1_head req; /* (owner) in on_request: fields, path, query, host, port, scheme */
	struct http1_head res; /* (owner) in on_response: fields, status, phrase */
	bool has_req, has_res; /* parsed */
	bool is_connect;
	bool is_in_tunnel; /* came inside a CONNECT's TLS; host and port are that CONNECT's */
	/* (owner) in on_request: backs are shared between exchanges with the same key. Default:
	 * "scheme://host:port" of req after on_request. */
	struct str pool_key;
	bool is_unpooled; /* (owner) a fresh back, closed afterwards */
	/* (owner) on_*_data releases exactly as many bytes as it is given over the whole body
	 * (masks in place or changes nothing): Content-Length is kept. Otherwise: exact length when
	 * all was released before the head had to go, chunked if not. */
	bool req_keeps_length, res_keeps_length;
	/* (owner) in on_request, on_response: do not call on_*_data, pass the body on. */
	bool req_skips_data, res_skips_data;
	/* (owner) in on_response: do not send the head before the first byte of body was released
	 * or the body is complete; so that a small body can still be refused with a clean status.
	 */
	bool res_holds_head;
	struct relay_front *front;
	struct relay *relay;
	uint64_t start_ns; /* CLOCK_MONOTONIC */
};

/* How to reach the back for this exchange. Zeroed before dial() is called. */
struct relay_back_spec {
	int fd;			/* non-blocking; the relay owns it from now on */
	bool is_connecting;	/* connect() gave EINPROGRESS */
	struct tls_client *tls; /* NULL: plain */
	char tls_host[TLS_HOST_MAX + 1];
};

enum relay_dial { RELAY_DIAL_NOW, RELAY_DIAL_LATER, RELAY_DIAL_NONE };

struct relay_ops {
	/* CONNECT host:port (x->req.host, .port). FORWARD: "200", then a TLS server handshake in
	 * which SNI must equal host without letter case; then requests whose Host must equal it
	 * too. The owner may replace x->req.host by its canonical form. REFUSE after
	 * relay_refuse(). LATER is allowed. NULL: never. */
	enum relay_step (*on_connect)(struct relay_exchange *x);
	/* The head was parsed; identity (CONNECT name = Host) is checked. Required. */
	enum relay_step (*on_request)(struct relay_exchange *x);
	/* Body bytes as they arrive; is_last exactly once, with or without bytes. Not called for
	 * requests without body. The back is dialled only when the first byte has been released, or
	 * at the end. NULL: passes. */
	enum relay_data (*on_request_data)(struct relay_exchange *x, struct str in, bool is_last,
					   struct buf *out);
	/* A back is needed, and none is pooled. attempt counts from 0: after a failed connect or
	 * TLS handshake it is called again for another address; NONE ends it (after NONE with
	 * attempt 0 the owner may have called relay_refuse() for an answer of its own, else 502).
	 * LATER: the owner calls relay_dial_done() or relay_refuse(). Required. */
	enum relay_dial (*dial)(struct relay_exchange *x, unsigned attempt,
				struct relay_back_spec *spec);
	/* The response's head; interim responses (1xx) are not shown. NULL: forward. LATER allowed.
	 */
	enum relay_step (*on_response)(struct relay_exchange *x);
	/* As on_request_data. Streams: each piece is given as it arrives and what is released is
	 * written at once. After REFUSE a head already sent means that the front is aborted. */
	enum relay_data (*on_response_data)(struct relay_exchange *x, struct str in, bool is_last,
					    struct buf *out);
	/* Makes the JSON body of a refusal that the relay itself decides on (bad HTTP, time-outs,
	 * dial errors). May leave body empty: then {"blocked":true,"reason":"…"}. May be NULL. */
	void (*refusal_body)(struct relay_exchange *x, unsigned status, const char *reason,
			     struct buf *body);
	/* Exactly once for every exchange, as its last call. Before the last byte of a refusal or
	 * of an answer can be known to have arrived. Required. */
	void (*on_done)(struct relay_exchange *x, const struct relay_result *r);
	/* A front was closed: the last call for it. May be NULL. */
	void (*on_front_closed)(struct relay_front *f);
};

/* ops and config's pointers are borrowed. */
int relay_new(struct relay **out, struct loop *l, const struct relay_config *config,
	      const struct relay_ops *ops, void *ctx, struct err *e) _fallible_;
/* Ends every exchange (RELAY_SHUTDOWN) and closes every connection. */
void relay_free(struct relay *r);
void *relay_ctx(const struct relay *r);

/* Accepts from a listening socket (non-blocking) for as long as the relay lives; borrowed. */
int relay_listen(struct relay *r, int listen_fd, struct err *e) _fallible_;
/* Serves one connection that is there already, e.g. egress's end of a socketpair. The relay owns
 * fd in every case. NULL when a cap is reached: fd is closed. */
struct relay_front *relay_front_add(struct relay *r, int fd);
void relay_front_close(struct relay_front *f); /* at once; its exchange ends as RELAY_SHUTDOWN */
/* fn may end f and its exchange, e.g. when a rule is revoked while its tunnel is open. */
void relay_front_each(struct relay *r, void (*fn)(struct relay_front *f, void *arg), void *arg);
/* The exchange that is under way on it, its head read and not refused yet; or NULL. What the owner
 * thinks differently about now may be ended outside of its functions: by relay_refuse(), or a
 * CONNECT, which may have its 200 already, by relay_front_close(). */
struct relay_exchange *relay_front_exchange(struct relay_front *f);
/* The front is closed when x has ended. */
void relay_close_after(struct relay_exchange *x);
/* Closes idle pooled backs: all, or those whose key begins with prefix. */
void relay_backs_drop(struct relay *r, struct str prefix);
size_t relay_front_count(const struct relay *r);
size_t relay_exchange_count(const struct relay *r);
size_t relay_back_count(const struct relay *r);

/* The owner's memory: config.owner_bytes, config.front_owner_bytes. */
void *relay_owner(struct relay_exchange *x);
void *relay_front_owner(struct relay_front *f);
/* Of the tunnel: the CONNECT name and port; host.n is 0 outside of one. */
struct str relay_front_tunnel(const struct relay_front *f, uint16_t *port);
int relay_front_fd(const struct relay_front *f); /* for getpeername(); never to read or write */

/* Copies into memory that lives until on_done(). p is NULL past RELAY_KEEP_MAX_BYTES in sum. */
#define RELAY_KEEP_MAX_BYTES (256u << 10)
struct str relay_keep(struct relay_exchange *x, struct str s);

/* Answers the front with status and a JSON body (copied; empty: made as for the relay's own
 * refusals) and ends the exchange; reason is static text, for on_done. The front stays open when
 * the request was read in full, else it is closed after a short lingering. If the response's head
 * was sent already, the front is aborted. May be called from every owner function but on_done(),
 * which must then return its REFUSE; or later, after LATER. A status of 200 is allowed (an owner
 * that answers itself). Not more than once for an exchange. */
void relay_refuse(struct relay_exchange *x, unsigned status, const char *reason, struct str body);
/* As relay_refuse(), with fields (NUL-terminated lines "Name: value\r\n", static or kept), e.g.
 * Content-Type other than application/json. With fields an empty body is sent as it is. */
void relay_refuse_fields(struct relay_exchange *x, unsigned status, const char *reason,
			 struct str fields, struct str body);
/* After a RELAY_LATER or RELAY_DATA_LATER. */
void relay_continue(struct relay_exchange *x);
/* After RELAY_DIAL_LATER. spec->fd < 0: failed, reason is static text for on_done. */
void relay_dial_done(struct relay_exchange *x, const struct relay_back_spec *spec,
		     const char *reason);
/* After TLS_CERT_LATER; the conn_ctx of tls_cert_fn is the struct relay_front. */
void relay_cert_ready(struct relay_front *f);
