/*
 * The request of a push (gitprotocol-pack(5), "Reference Update Request and Packfile Transfer") as
 * far as it is not the pack's objects: shallow lines, commands with their capabilities, a flush,
 * the pack's header. Read strictly and as a whole before git gets any of it; what follows, the
 * pack, is only counted.
 */
#pragma once

#include "gitgate/check.h"

#define COMMANDS_HEAD_MAX	(512u << 10) /* of everything before the pack */
#define COMMANDS_SHALLOW_MAX	4096
#define COMMANDS_LINE_MAX	1536 /* one command with its capabilities */
#define COMMANDS_CAPABILITY_MAX 256  /* bytes of one */

/* X(constant, name) */
#define COMMANDS_REASONS(X)                                                                        \
	X(OK, "ok")                                                                                \
	X(BAD_LINE, "bad-pkt-line")                                                                \
	X(BAD_COMMAND, "bad-push-command")                                                         \
	X(BAD_REF, "bad-ref-name")                                                                 \
	X(BAD_CAPABILITY, "unknown-push-capability")                                               \
	X(BAD_SHALLOW, "bad-shallow-line")                                                         \
	X(PUSH_OPTIONS, "push-options-refused")                                                    \
	X(PUSH_CERT, "signed-push-refused")                                                        \
	X(OBJECT_FORMAT, "object-format-refused")                                                  \
	X(TOO_MANY, "too-many-refs")                                                               \
	X(TOO_LARGE, "push-head-too-large")                                                        \
	X(BAD_PACK, "bad-pack-header")                                                             \
	X(TOO_MANY_OBJECTS, "too-many-objects")                                                    \
	X(PACK_TOO_LARGE, "pack-too-large")                                                        \
	X(TRAILING, "bytes-after-push")                                                            \
	X(CUT, "push-cut-short")

enum commands_reason {
#define X(constant, name) COMMANDS_##constant,
	COMMANDS_REASONS(X)
#undef X
		COMMANDS_REASON_COUNT
};
const char *commands_reason_name(enum commands_reason r);

enum commands_state {
	COMMANDS_LINES,	 /* shallow lines and commands */
	COMMANDS_HEADER, /* of the pack */
	COMMANDS_PACK,	 /* anything, up to the limit */
	COMMANDS_END	 /* nothing more may come: there is no pack */
};

struct commands {
	enum commands_state state;
	uint64_t pack_max_bytes, pack_bytes;
	size_t n_shallow;
	bool is_atomic, has_report, has_side_band, is_quiet;
	bool has_pack_wanted; /* a command that is no deletion */
	uint32_t n_objects;   /* of the pack's header */
	size_t n_updates;
	struct check_update updates[CHECK_UPDATES_MAX];
	struct buf head; /* what has come and is not released yet; read up to `at` */
	size_t at;
};

void commands_init(struct commands *c, uint64_t pack_max_bytes);
void commands_free(struct commands *c);
/* The next bytes of the request. What git may have now, if anything, is appended to out: nothing
 * before all of the head has been read, then everything. OK, or why the push ends here; -ENOBUFS of
 * out counts as TOO_LARGE, so give it in.n + COMMANDS_HEAD_MAX of room. */
enum commands_reason commands_feed(struct commands *c, struct str in, struct buf *out)
	__attribute__((warn_unused_result));
/* At the request's end: OK when it was complete as far as can be seen from here. A lone flush,
 * git's way to try out the connection, is complete: n_updates is 0. */
enum commands_reason commands_end(const struct commands *c) __attribute__((warn_unused_result));

#define COMMANDS_ZERO_OID "0000000000000000000000000000000000000000"
static inline bool commands_is_zero(const char *oid)
{
	return strcmp(oid, COMMANDS_ZERO_OID) == 0;
}
