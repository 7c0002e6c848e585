/* What the files of the web face share; web.c says how they work together. */
#pragma once

#include "face/face.h"
#include "net/http1.h"
#include "net/loop.h"

#include <netinet/in.h>

#define WEB_CONNS_MAX 16
/* A browser opens six connections to a server, from all of its windows: some are left to decide. */
#define WEB_STREAMS_MAX	 4
#define WEB_SESSIONS_MAX 4
#define WEB_SHOWN_MAX	 64
#define WEB_TRIES_MAX	 8

#define WEB_HEAD_MAX_BYTES   16384u
#define WEB_BODY_MAX_BYTES   8192u
#define WEB_WORK_MAX_BYTES   32768u
#define WEB_ANSWER_MAX_BYTES (8u << 20)

#define WEB_TOKEN_MS	 60000u
#define WEB_READ_MS	 3000u	/* from the connection to the end of the request */
#define WEB_WRITE_MS	 20000u /* the whole answer */
#define WEB_WORK_MS	 60000u /* longer than a face waits for a keeper */
#define WEB_DRAIN_MS	 1000u
#define WEB_HEARTBEAT_MS 15000u
#define WEB_REFRESH_MS	 250u
#define WEB_IDLE_MS	 (12u * 3600u * 1000u) /* of a session */
/* What was on the screen for less cannot be granted: a click that was meant for what stood there
 * before. The page waits as long; this is for when it does not. */
#define WEB_SEEN_MS 500u

#define WEB_KEY_HEX 65 /* 256 bits */

struct web;
struct web_route;

/* A request as this session has been shown it. */
struct web_shown {
	char slug[PLACES_SLUG_MAX];
	uint64_t id, at_ns;
	uint8_t hash[CHANGE_HASH_BYTES], manifest[CHANGE_HASH_BYTES];
};

struct web_session {
	uint64_t number; /* 0: free */
	uint64_t used_ns;
	char cookie[WEB_KEY_HEX], secret[WEB_KEY_HEX];
	struct web_shown shown[WEB_SHOWN_MAX];
	size_t next_shown;
};

enum web_conn_state {
	WEB_CONN_FREE,
	WEB_CONN_READ,
	WEB_CONN_WORK,
	WEB_CONN_WRITE,
	WEB_CONN_EVENTS,
	WEB_CONN_DRAIN
};

struct web_conn {
	struct loop_watch watch, work;
	struct loop_timer timer;
	struct web *web;
	enum web_conn_state state;
	struct buf in, out, result;
	size_t seen;		/* bytes of in without the end of a head */
	size_t head_bytes;	/* 0 until the head is complete */
	struct http1_head head; /* its slices lie in in, which does not move */
	const struct web_route *route;
	uint64_t order;	  /* of acceptance */
	uint64_t session; /* its number, once it has shown that it belongs to one */
	size_t drained;
};

struct web {
	struct loop *loop;
	struct face *face;
	struct loop_watch listener, input;
	struct loop_timer refresh, heartbeat, token_timer;
	uint16_t port;
	char host[INET_ADDRSTRLEN]; /* of 127.0.0.0/8 */
	char origin[32];	    /* "http://HOST:PORT" */
	char token[WEB_KEY_HEX];    /* empty: none is good */
	unsigned tries;
	uint32_t token_ms;
	struct web_session sessions[WEB_SESSIONS_MAX];
	uint64_t n_sessions, n_accepted;
	uint64_t version; /* of what the page shows */
	bool has_warned;  /* that an owner cannot be told */
	struct web_conn conns[WEB_CONNS_MAX];
};

struct web_answer {
	unsigned status;
	const char *type; /* NULL: no body */
	struct str fixed; /* a constant body, else text */
	struct buf text;
	char cookie[160];  /* of Set-Cookie; empty: none */
	const char *allow; /* of 405 */
	bool is_bare;	   /* nothing about who answers */
	bool is_stream;	   /* what follows is endless */
};

/* Looks whether anything is new, and tells those who listen. */
void web_look(struct web *w);

/* --- web_gate.c: who may ask what --- */

int gate_random(void *out, size_t n, struct err *e) _fallible_;
/* 256 random bits as hex. */
int gate_key(char out[WEB_KEY_HEX], struct err *e) _fallible_;
/* The status to refuse with, or 0. The order matters: nothing is said to whoever came by another
 * name than our address (DNS rebinding). */
unsigned gate_host(const struct web *w, const struct http1_head *h);
unsigned gate_page(struct http1_head *h);		      /* "/" and its parts */
unsigned gate_api(const struct web *w, struct http1_head *h); /* before anybody is known */
/* The session whose cookie and secret came along, or NULL. */
struct web_session *gate_session(struct web *w, struct http1_head *h);
struct web_session *gate_session_of(struct web *w, uint64_t number);
#define WEB_COOKIE_NAME_SIZE 32
void gate_cookie_name(const struct web *w, const struct web_session *s,
		      char out[WEB_COOKIE_NAME_SIZE]);
/* Takes the one-time token, and makes a session of it. NULL, and after a few times no token is good
 * any more. */
struct web_session *gate_redeem(struct web *w, struct str token);

/* --- web_peer.c --- */

/* 0 if the other end is a process of this user's, or root's. -EPERM: of another; else the kernel
 * does not say. */
int peer_check(int conn) _fallible_;

/* --- web_conn.c: connections --- */

void conn_accept(struct web *w);
void conn_close(struct web_conn *c);
/* After this c may be gone. */
void conn_answer(struct web_conn *c, const struct web_answer *a);
void conn_close_all(struct web *w);
void conn_close_session(struct web *w, uint64_t session);
/* The version, or a heartbeat, to everyone who listens. */
void conn_tell(struct web *w, bool is_heartbeat);

/* --- web_route.c: what there is --- */

/* What is asked, once it is known by whom. */
struct web_call {
	struct web *web;
	struct web_conn *conn;
	struct web_session *session; /* NULL where none is needed */
	struct http1_head *head;
	struct str rest; /* of the path, behind the route's */
	struct str body;
};

struct web_route {
	struct str path;
	bool is_prefix;
	enum http1_method method;
	bool is_page; /* the page and its parts, which hold nothing; else of the interface */
	bool is_open; /* of the interface, but without a session */
	void (*fn)(const struct web_call *call, struct web_answer *a);
};

/* By the head alone: the route, or NULL with an answer. Sets c->session. */
const struct web_route *route_find(struct web_conn *c, struct web_answer *a);

/* --- web_answer.c --- */

/* The head and the body, as far as there is one; -ENOBUFS when that is too much. */
int answer_write(const struct web_answer *a, struct buf *out) _fallible_;
/* {"error": text}, with this status. */
void answer_error(struct web_answer *a, unsigned status, const char *text);

/* {"verdict": verdict, "text": text} */
void answer_verdict(struct web_answer *a, const char *verdict, struct str text);

/* --- web_work.c --- */

enum web_work_kind { WEB_DECIDE, WEB_REVOKE, WEB_PAUSE, WEB_STOP };

struct web_work {
	enum web_work_kind kind;
	struct face_decision decision; /* of the others: slug, id and face */
	bool is_paused;
};

/* Has it done, and c answered when it is; or a is the answer at once. w lives as long as the call.
 */
void work_start(struct web_conn *c, const struct web_work *w, struct web_answer *a);

/* --- web_show.c and web_act.c --- */

void show_state(const struct web_call *call, struct web_answer *a);
void show_request(const struct web_call *call, struct web_answer *a);
void show_bottle(const struct web_call *call, struct web_answer *a);
/* As it was shown last, or NULL. */
const struct web_shown *show_find(const struct web_session *s, const char *slug, uint64_t id);
void act_session(const struct web_call *call, struct web_answer *a);
void act_decide(const struct web_call *call, struct web_answer *a);
void act_revoke(const struct web_call *call, struct web_answer *a);
void act_pause(const struct web_call *call, struct web_answer *a);
void act_stop(const struct web_call *call, struct web_answer *a);
