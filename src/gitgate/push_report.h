/*
 * What receive-pack answers to a push (gitprotocol-pack, "report-status"), plain or in sideband 1,
 * with what the upstream has to say to people in sideband 2.
 */
#pragma once

#include "gitgate/upstream.h"
#include "gitgate/wire.h"

#define PUSH_REPORT_MAX_BYTES (512u << 10)
#define PUSH_SAID_LINE_MAX    400

struct push_report {
	const char *const *names; /* borrowed: of the refs, as they are called there */
	struct upstream_ref_result *results;
	size_t n;
	bool *is_answered; /* one per ref */
	bool is_sideband;
	bool has_unpacked, is_unpacked;
	bool is_done;	 /* the report is complete */
	bool is_ended;	 /* and nothing will follow */
	char fatal[160]; /* what a server says before it gives up, or "" */
	uint64_t n_bytes;
	struct buf lines; /* of sideband 1 */
	struct buf line;  /* of sideband 2, not yet ended */
	struct buf *said; /* may be NULL */
	size_t n_said;
};

/* All of the results are set: not taken, and no reason yet. */
void push_report_init(struct push_report *p, bool is_sideband, const char *const *names, size_t n,
		      struct upstream_ref_result *results, struct buf *said);
void push_report_free(struct push_report *p);
/* One line of the stream. -EPROTO for what is no report, -EFBIG. */
int push_report_take(struct push_report *p, enum wire_kind kind, struct str payload,
		     struct err *e) _fallible_;
/* After the last line. 0 when all refs were taken, -EPERM when not, -ENODATA without a report. */
int push_report_finish(struct push_report *p);
