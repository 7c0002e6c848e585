/* Between the files of the relay; see docs/RELAY.md for the whole. */
#pragma once

#include "net/relay.h"

#define RELAY_HEAD_READ_BYTES	16384u
#define RELAY_IN_MAX_BYTES	(HTTP1_HEAD_MAX_BYTES + RELAY_PIECE_BYTES)
#define RELAY_KEY_MAX		320
#define RELAY_BUCKETS		256u /* of the pool of backs; a power of two */
#define RELAY_SPARE_EXCHANGES	64
#define RELAY_SPARE_BUF_BYTES	(128u << 10) /* a spare exchange keeps buffers up to this size */
#define RELAY_INTERIM_MAX	8	     /* 1xx answers before the final one */
#define RELAY_LINGER_MS		2000
#define RELAY_LINGER_BYTES	(1u << 20)
#define RELAY_TRIM_MS		2000 /* idle for so long: the connection's buffers are given back */
#define RELAY_EVICT_MS		1000 /* idle for so long: may be closed for a newcomer */
#define RELAY_ROUNDS_MAX	8    /* of one exchange's pump, each up to RELAY_PIECE_BYTES */
#define RELAY_STEPS_MAX		16   /* of one front before the others have their turn */
#define RELAY_REFUSAL_MAX_BYTES (64u << 10)

/* A descriptor with what it needs for non-blocking reading and writing, TLS or not. */
struct conn {
	struct loop_watch watch; /* first: the callback casts */
	struct loop_timer timer;
	uint64_t deadline_ns; /* 0: none. The timer fires no later, and is moved only when it fires
			       */
	struct relay *relay;
	struct tls *tls;
	struct buf in;
	int fd;
	bool is_dry;	  /* the last read emptied the socket: wait for it before reading again */
	bool wants_in;	  /* a reader waits */
	bool wants_out;	  /* a write was not taken in full */
	bool is_hung_up;  /* the peer sends no more */
	bool is_broken;	  /* the peer is gone in both directions */
	bool is_detached; /* out of the epoll set, which would report its end for ever */
	bool is_trimmed;
};

struct list {
	struct list *prev, *next;
};

enum front_state { FRONT_HTTP, FRONT_HELLO, FRONT_HANDSHAKE, FRONT_LINGER };

struct relay_front {
	struct conn c; /* first */
	struct list link;
	struct list ready_link; /* of relay.ready; self-linked when not on it */
	struct exchange *x;
	enum front_state state;
	bool is_tunnel, is_running, is_doomed;
	size_t head_seen; /* bytes of c.in in which no head's end was found */
	size_t lingered;
	uint64_t active_ns;
	struct buf hello; /* what was read before the TLS stream took over */
	uint16_t port;
	char host[TLS_HOST_MAX + 4];
	_Alignas(16) char owner[];
};

enum back_state { BACK_CONNECTING, BACK_TLS, BACK_BUSY, BACK_IDLE };

struct relay_back {
	struct conn c;	       /* first */
	struct list link;      /* of relay.backs */
	struct list idle_link; /* of its bucket */
	struct exchange *x;
	enum back_state state;
	bool is_reused;
	size_t key_n;
	char key[RELAY_KEY_MAX];
};

enum phase {
	PHASE_HEAD,   /* reading the request's head */
	PHASE_OWNER,  /* on_request or on_connect said LATER */
	PHASE_FLOW,   /* request and response flow */
	PHASE_TUNNEL, /* CONNECT: answered, TLS is being made */
	PHASE_OVER    /* nothing more but flushing what is in `down` */
};

struct keep {
	struct keep *next;
	size_t used, size;
	char data[];
};

/* One direction of an exchange: what goes out, and how it is framed. */
struct flow {
	struct buf out;
	bool is_begun;	 /* the head is in out, or was sent */
	bool is_in_hook; /* an on_*_data function runs; out ends with a gap from hook_at on */
	size_t hook_at;
	enum http1_framing framing;
	uint64_t left; /* of HTTP1_BODY_LENGTH: bytes that still have to come */
};

struct exchange {
	struct relay_exchange pub; /* first */
	struct list link;
	enum phase phase;
	bool is_pumping, is_dirty; /* dirty: an API call changed the state while pumping */
	struct flow up, down;
	/* request */
	struct buf req_raw;
	size_t up_sent;	      /* of up, bytes written to the back; kept for a replay */
	bool is_up_broken;    /* the back takes no more; it may have answered all the same */
	bool is_req_read;     /* body taken from the front in full */
	bool is_req_released; /* the hook has seen the end; up is complete */
	bool is_req_waiting;  /* RELAY_DATA_LATER */
	bool is_req_resumed;
	bool is_replayable, is_retried;
	struct http1_body req_body;
	/* back */
	struct relay_back *back;
	bool is_dialling;
	bool was_refused_pool; /* retry: no pooled back */
	unsigned attempt;
	/* response */
	struct buf res_raw;
	size_t res_head_seen;
	unsigned n_interim;
	bool is_res_begun;   /* on_response was asked */
	bool is_res_waiting; /* LATER */
	bool is_res_done;    /* all of it is in down */
	struct http1_body res_body;
	/* the end */
	bool is_refused, is_aborted, must_close_front;
	struct relay_result result;
	struct loop_timer timer;
	uint64_t deadline_ns;
	const char *deadline_reason;
	unsigned deadline_status;
	struct keep *keeps;
	size_t kept_bytes;
	char key[RELAY_KEY_MAX];
	_Alignas(16) char owner[];
};

struct relay {
	struct loop *loop;
	struct relay_config config;
	const struct relay_ops *ops;
	void *ctx;
	struct list fronts, backs, ready;
	struct list idle[RELAY_BUCKETS];
	size_t n_fronts, n_backs, n_exchanges;
	struct list spares;
	size_t n_spares;
	struct loop_watch listen_watch[4];
	size_t n_listens;
	struct loop_timer ready_timer, trim_timer, accept_timer;
	struct buf body; /* scratch for refusals' bodies */
	struct buf head; /* scratch for heads */
	bool is_closing;
};

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_is_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_add(struct list *head, struct list *item)
{
	item->next = head->next;
	item->prev = head;
	head->next->prev = item;
	head->next = item;
}

static inline void list_del(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}

#define LIST_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* --- relay_conn.c --- */
void conn_init(struct conn *c, struct relay *r, int fd);
/* 1 something was read into c->in, 0 end of stream, -EAGAIN (wants_in is set), -EPIPE and the like
 * (truncated or broken), -ENOBUFS. */
int conn_read(struct conn *c, size_t n);
/* Bytes taken; -EAGAIN (wants_out is set); -EPIPE. */
ssize_t conn_write(struct conn *c, const void *p, size_t n);
/* Writes what is in b from offset on, which is advanced. 0 all written, TLS's own buffer included.
 */
int conn_flush(struct conn *c, struct buf *b, size_t *offset);
/* Brings the epoll set in line with what is wanted. */
void conn_arm(struct conn *c);
/* Notes what the events say; false if nobody waits for any of it. */
bool conn_events(struct conn *c, uint32_t events);
void conn_deadline(struct conn *c, uint64_t ms); /* 0: none */
/* For a timer's callback: true if the deadline has passed, else re-armed. */
bool conn_is_due(struct conn *c);
bool conn_trim(struct conn *c); /* true if there was something to give back */
void conn_close(struct conn *c);

/* --- relay_front.c --- */
void front_on_event(struct loop_watch *w, uint32_t events);
/* Works on the front until nothing more can be done now. The front may be gone afterwards. */
void front_run(struct relay_front *f);
void front_later(struct relay_front *f); /* front_run() after the other connections' turn */
void front_destroy(struct relay_front *f);
void front_linger(struct relay_front *f);
/* --- relay_tunnel.c --- */
void tunnel_begin(struct exchange *x);
enum run { RUN_WAIT, RUN_AGAIN, RUN_GONE };
/* The TLS part of FRONT_HELLO and FRONT_HANDSHAKE. */
enum run tunnel_step(struct relay_front *f);
/* --- relay_exchange.c --- */
struct exchange *exchange_new(struct relay_front *f);
/* req_raw holds a complete head. */
void exchange_begin(struct exchange *x);
enum run exchange_pump(struct exchange *x);
/* on_done, then the front goes on to its next request, or lingers, or closes. */
enum run exchange_end(struct exchange *x, enum relay_outcome outcome, const char *reason);
/* Answers for the relay itself. */
void exchange_refuse(struct exchange *x, enum relay_outcome outcome, unsigned status,
		     const char *reason);
void exchange_kick(struct exchange *x);
void exchange_deadline(struct exchange *x, uint64_t ms, unsigned status, const char *reason);
void exchange_free(struct exchange *x);
/* --- relay_request.c, relay_response.c: true if something moved --- */
bool request_pump(struct exchange *x);
bool response_pump(struct exchange *x);
void response_begin(struct exchange *x); /* after on_response: forward */
/* --- relay_frame.c --- */
/* Before a refusal is written: drops what a response's hook that is running has put into out. */
void frame_take_back(struct exchange *x);
/* Shows a piece of body to the owner and puts what it releases into the flow, the head before it if
 * it is not begun. With must_begin the head goes even if nothing was released. */
enum relay_data frame_release(struct exchange *x, bool is_up, struct str in, bool is_last,
			      bool must_begin);
/* A message without body: the head alone. False if there is no room. */
bool frame_head_alone(struct exchange *x, bool is_up);
/* --- relay_back.c --- */
/* Takes one from the pool, or dials. */
void back_get(struct exchange *x);
void back_start(struct exchange *x, const struct relay_back_spec *spec);
void back_failed(struct exchange *x, const char *reason);
/* Gives x's back to the pool, or closes it. */
void back_release(struct exchange *x, bool may_reuse);
void back_destroy(struct relay_back *b);
/* Moves a connecting back on; true if something changed. */
bool back_step(struct relay_back *b);
