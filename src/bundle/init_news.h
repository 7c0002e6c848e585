/*
 * init's side of a policy that changes while the bundle runs (news.h): takes it from the keeper,
 * gives it to the roles that enforce it, and says when all do.
 */
#pragma once

#include "bundle/bundle.h"
#include "net/loop.h"

/* Commands that wait for the one before them; more are refused. */
#define INIT_NEWS_QUEUE 8

struct init_news;

enum init_news_state {
	NEWS_NONE,
	NEWS_SENT,   /* its answer is waited for */
	NEWS_RESTART /* started with it: it enforces it once it is ready */
};

struct init_news_role {
	struct init_news *news;
	enum bundle_role role;
	enum init_news_state state;
	bool is_running, is_ready;
	struct loop_watch watch; /* this process's channel; fd -1: none */
	struct loop_timer timer;
};

struct init_news {
	struct loop *loop;
	struct bundle_config *config; /* what roles are started with */
	int *config_fd;		      /* the same as a file */
	int control_fd;		      /* borrowed */
	/* Ends the role's process, which init starts again. */
	void (*kill)(enum bundle_role role, void *ctx);
	void *ctx;
	uint64_t generation; /* of config */
	bool is_under_way;   /* some role does not enforce it yet */
	struct init_news_role roles[BUNDLE_ROLE_COUNT];
	struct {
		uint64_t generation;
		int fd;
	} waiting[INIT_NEWS_QUEUE];
	size_t n_waiting;
};

/* What is set above stays. */
void init_news_init(struct init_news *n);
/* Before a role's process is made: *theirs is for it, as news=; -1 for a role that gets none. The
 * caller closes it once the process is there. */
int init_news_role_start(struct init_news *n, enum bundle_role role, int *theirs,
			 struct err *e) _fallible_;
void init_news_role_ready(struct init_news *n, enum bundle_role role);
/* Its process has ended. True: it did so while it owed an answer. */
bool init_news_role_end(struct init_news *n, enum bundle_role role);
/* A command of the keeper's; owns fd (-1: none came). False: it is none of a policy. */
bool init_news_take(struct init_news *n, struct str message, int fd);
