/*
 * `claude-bottle selftest`: the sandbox-escape suite against the backend of this host. It uses the
 * product as a user would (manifests in a scratch home, `claude-bottle start`), so it knows nothing
 * about backends. docs/SELFTEST.md has the method.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct selftest_options {
	const char *backend; /* NULL: as start chooses */
	const char *only;    /* comma-separated ids or group letters, NULL: all */
	/* A shell command that restarts the backend's engine, for R04. NULL: that is left out. */
	const char *engine_restart;
	bool is_json;
};

enum selftest_verdict { SELFTEST_PASSED, SELFTEST_FAILED, SELFTEST_SKIPPED };

#define SELFTEST_PROBES_MAX 128
#define SELFTEST_TRIES_MAX  4096

/* Which bottle, or none, a try ran in. */
enum selftest_run {
	SELFTEST_RUN_AGENT,   /* as the ordinary user of the bottle */
	SELFTEST_RUN_ROOT,    /* as uid 0 inside */
	SELFTEST_RUN_CONTROL, /* outside, with the wall taken away */
	SELFTEST_RUN_COUNT
};

struct selftest_try {
	char id[8], label[48], token[64], detail[200];
	/* The id that its control ran under; empty: its own. An attack that is run again after a
	 * restart has the control that it had before. */
	char origin[8];
	enum selftest_run run;
	bool is_through, is_skipped;
	bool is_wanted;	 /* its token must arrive */
	bool is_support; /* a control that is here for others' sake */
	uint64_t us;
};

struct selftest_probe {
	char id[8], title[96];
	enum selftest_verdict verdict;
	char control[200]; /* "succeeded", or why not */
	char text[256];	   /* why it failed, or was skipped; of a passed one, what was left out */
	uint64_t ms;	   /* the slowest refusal */
	unsigned n_tries, n_left_out;
};

struct selftest_report {
	char backend[32];
	char note[256];	    /* the bottles' own word for what they are (struct backend, note) */
	const char *kernel; /* "own", "shared" with this host, or NULL: nobody has looked */
	struct selftest_probe probes[SELFTEST_PROBES_MAX];
	size_t n_probes;
	unsigned passed, failed, skipped;
};

/* 0 when the suite ran, whatever it found; -errno when it could not run at all. */
int selftest_run(const struct selftest_options *o, struct selftest_report *out,
		 struct err *e) _fallible_;

/* --- parts of it --- */

/* Parses what a probe run printed; appends to tries. -EPROTO when it is not whole. */
int selftest_parse_tries(struct str output, enum selftest_run run, struct selftest_try *tries,
			 size_t *n, struct err *e) _fallible_;
/* Decides each probe from its tries and from what the canary saw. */
void selftest_judge(struct selftest_report *out, const struct selftest_try *tries, size_t n,
		    struct str seen);
int selftest_print_json(const struct selftest_report *r, struct buf *out) _fallible_;
int selftest_print_text(const struct selftest_report *r, struct buf *out) _fallible_;
