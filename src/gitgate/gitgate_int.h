/* What front, workers and pushes share. The front's half runs in the role's own process, on its
 * loop; a worker is a fork that never returns to it. */
#pragma once

#include "gitgate/gitgate.h"
#include "gitgate/store.h"
#include "net/relay.h"
#include "record/record.h"

#define GITGATE_QUEUE_MAX	64
#define GITGATE_FRONTS_MAX	1024	    /* most of them may be idle, or never say a word */
#define GITGATE_UPLOAD_BODY_MAX (10u << 20) /* of a fetch's request: wants and haves */
#define GITGATE_QUEUE_MS	120000	    /* for a worker to become free */
#define GITGATE_LOCK_MS		120000	    /* for another's push or fetch to end */
#define GITGATE_UPLOAD_MS	3600000	    /* a whole clone */
#define GITGATE_GRACE_MS	2000	    /* from SIGTERM to SIGKILL */
#define GITGATE_LINGER_MS	10000	    /* of a worker whose answer is complete */
#define GITGATE_REPACK_PACKS	50

/* One request, decided: what a worker is started with. */
struct gitgate_job {
	const struct gitgate *g;
	const struct git_remote *remote;
	enum git_service service;
	bool is_advert;	    /* GET …/info/refs */
	bool is_git_client; /* by its User-Agent: plain text, which git shows */
	int desk_fd;	    /* in a push's worker, see worker_desk.h; else -1 */
};

struct gitgate_exchange;

/* A started worker, or one to be. */
struct gitgate_worker {
	struct loop_watch watch; /* of its pidfd; first member */
	struct loop_timer timer;
	struct gitgate *g;
	pid_t pid; /* and process group; 0: free */
	bool is_ending;
	struct gitgate_exchange *exchange; /* NULL: its request is over */
	struct loop_watch desk_watch;	   /* of what it asks */
	uint64_t desk_id;		   /* of what waits for an answer; 0: nothing */
};

struct gitgate {
	struct loop *loop;
	struct gitgate_config config;
	struct upstream_place upstream; /* config's, with the tool of the store */
	struct relay *relay;
	struct store *store;
	struct gitgate_worker *workers;
	unsigned workers_max;
	struct gitgate_exchange *queue_first, **queue_last;
	unsigned n_queued;
	uint64_t canary_quiet_ns; /* until then the keeper is not told of another */
};

/* Memory of one exchange of the relay's; zeroed at its start. */
struct gitgate_exchange {
	struct gitgate_job job;
	struct relay_exchange *x;
	struct gitgate_worker *worker;
	struct gitgate_exchange *queue_next;
	bool is_queued, is_recorded;
	uint64_t body_bytes;
	uint8_t id[8];
};

/* --- front.c --- */
extern const struct relay_ops gitgate_ops;

/* --- workers.c: processes --- */

/* A worker for ex: the front's end of its socketpair. -EAGAIN: queued, gitgate_workers_free() will
 * answer; -EBUSY: the queue is full; other: no process. */
int gitgate_worker_get(struct gitgate *g, struct gitgate_exchange *ex, struct err *e) _fallible_;
/* The exchange is over. is_complete: its answer was; else whatever the worker does is cut off. */
void gitgate_worker_leave(struct gitgate_exchange *ex, bool is_complete);
void gitgate_workers_kill(struct gitgate *g);
/* Closes every descriptor but these (-1: none), which need not be sorted. At most 16. */
void gitgate_close_others(const int *keep, size_t n);

/* In a fork of parent: ends when it does. */
int gitgate_die_with(pid_t parent) _fallible_;

/* --- worker.c: inside the fork --- */
_Noreturn void gitgate_worker_main(const struct gitgate_job *job, int fd);

/* --- refresh.c --- */
enum refresh_result { REFRESH_OK, REFRESH_STALE, REFRESH_FAILED };
/* Brings the mirror up to date unless somebody has just done so. text: STORE_TEXT_MAX bytes, why it
 * is stale or failed. */
enum refresh_result refresh_run(const struct gitgate_job *job, unsigned young_ms,
				char text[STORE_TEXT_MAX]);
/* The warning for a fetch out of a mirror that is stale; false: it is not. */
bool refresh_is_stale(const struct gitgate_job *job, char text[STORE_TEXT_MAX]);

/* --- report.c --- */

/* A refused request's record is sent first; false if that failed. id: of the record. */
bool gitgate_record(const struct gitgate_job *job, enum record_verdict v, const char *reason,
		    const char *method, unsigned status, const char *detail, uint8_t id[8]);
bool gitgate_record_rule(const struct gitgate_job *job, enum record_verdict v, const char *reason,
			 const char *rule, const char *method, unsigned status, const char *detail,
			 uint8_t id[8]);
/* A refusal's body and its fields: text for git, JSON for everybody else. */
struct str gitgate_refusal(struct buf *body, const char *reason, bool is_git_client,
			   const uint8_t id[8]);
unsigned gitgate_refusal_status(const char *reason);
const char *gitgate_refusal_hint(const char *reason);

/* --- push.c --- */

/* A push as the hook has it. */
struct push_input {
	const struct gitgate_job *job;
	const char *quarantine; /* NULL: nothing but deletions */
	const struct check_update *updates;
	size_t n;
	int hook_fd; /* words and verdict go here */
	int lock_fd; /* not locked yet */
};
/* Decides, forwards, answers the hook. The exit status of the process that did it. */
int push_run(const struct push_input *in);
