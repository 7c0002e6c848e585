/*
 * The agent's seccomp filter, and that of a virtual machine's monitor, as classic BPF: what a
 * hostile program could use against the kernel or its neighbours is refused with the error that
 * programs expect (so that they fall back), and system calls that this file does not know are
 * ENOSYS. Foreign ABIs (i386, x32) are killed: their numbers would walk past the table.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <linux/filter.h>

#define AGENT_FILTER_MAX 512

struct agent_filter {
	struct sock_filter code[AGENT_FILTER_MAX];
	unsigned short n;
};

int agent_filter_build(struct agent_filter *f, struct err *e) _fallible_;
/* For an agent that writes into a folder of the host's: besides, no file gets a set-user-id or
 * set-group-id bit, with which it would run as its owner there. Follows agent_filter_build(). */
int agent_filter_refuse_setid(struct agent_filter *f, struct err *e) _fallible_;
/* For a program whose files are lent to it, open, by somebody with the same uid: besides, it
 * changes of none of them what is not its content (mode, owner, times, attributes, flags), and
 * locks none; nor does it make memory outside of its address space, where no limit of it would
 * count that. Follows agent_filter_build() and agent_filter_refuse_setid(). */
int agent_filter_refuse_borrower(struct agent_filter *f, struct err *e) _fallible_;
/* Puts it on the calling thread, for good; no_new_privs must be set. */
int agent_filter_apply(const struct agent_filter *f, struct err *e) _fallible_;
/* What of it a container engine's seccomp profile can say (JSON, as of the OCI runtime
 * specification, linux.seccomp, with Docker's spelling): for the runtime to put on process 1,
 * before the filter proper is. -ENOBUFS past out's cap. */
int agent_filter_profile(struct buf *out) _fallible_;
