/* One worker's request in progress: shared by worker.c (HTTP on both sides), cgi.c (git
 * http-backend) and worker_pump.c (what flows between them). */
#pragma once

#include "gitgate/commands.h"
#include "gitgate/gitgate_int.h"
#include "gitgate/hook.h"
#include "net/http1.h"

#define WORKER_FLOW_BYTES 262144 /* of each buffer between two descriptors */
#define WORKER_PIECE	  65536
#define WORKER_CGI_HEAD	  8192

struct worker {
	const struct gitgate_job *job;
	int fd; /* to the front */
	char mirror[STORE_PATH_MAX];
	/* the request */
	struct buf raw; /* from the front, not decoded yet */
	struct http1_head head;
	struct http1_body body;
	struct buf up;		  /* for git */
	struct commands commands; /* of a push */
	/* git */
	struct git_child git;
	bool is_started, is_git_done;
	struct buf from_git; /* the CGI head, then what is not framed yet */
	bool has_cgi_head;
	/* the answer */
	struct buf down;
	bool is_warning_due; /* a fetch from a stale mirror */
	char warning[STORE_TEXT_MAX];
	/* the hook of a push */
	int hook_fd; /* -1: none, or handed over to the judge */
	int lock_fd;
	struct hook_request *hook;
	pid_t judge; /* 0: none */
	uint64_t deadline_ns;
};

/* --- worker.c --- */

/* Sends a whole small answer and lets the front take it. */
void worker_answer(struct worker *w, unsigned status, struct str content_type, struct str body);
/* Refuses with a record; before anything was sent. */
void worker_refuse(struct worker *w, const char *reason, const char *detail);

/* --- cgi.c --- */

/* Starts git http-backend for the request. */
int cgi_start(struct worker *w, struct err *e) _fallible_;
/* Moves bytes from w->from_git to w->down, as HTTP. -EPROTO: not what http-backend says. */
int cgi_translate(struct worker *w, struct err *e) _fallible_;
/* The end of the answer's body. */
int cgi_finish(struct worker *w) _fallible_;

/* --- worker_pump.c --- */

/* Runs the request to its end. 0: the answer is complete; else it must not look so. */
int worker_pump(struct worker *w, struct err *e) _fallible_;
