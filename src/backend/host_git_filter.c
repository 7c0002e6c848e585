#include "backend/host_git.h"

#include "base/clean.h"
#include "priv/agent_filter.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

/* A call that git does without, or its use with one argument. */
struct refusal {
	unsigned nr;
	int argument;	/* its number; ANY: the call, whatever they are */
	unsigned value; /* what it must not be; the kernel takes 32 bits of it */
	bool is_other;	/* … or must be */
};

#define ANY (-1)
#define CALL(nr)                                                                                   \
	{                                                                                          \
		(nr), ANY, 0, false                                                                \
	}

/* No socket but those that are there, so neither a network nor the user's ssh agent or engine; also
 * none to send from, since a datagram needs no connection. No signal to another process, be it by
 * way of a descriptor's owner; none of its limits, its priority, its shared memory. */
static const struct refusal refused[] = {
	CALL(SYS_socket),
	CALL(SYS_socketpair),
	CALL(SYS_connect),
	CALL(SYS_bind),
	CALL(SYS_listen),
	CALL(SYS_sendto),
	CALL(SYS_sendmsg),
	CALL(SYS_sendmmsg),
	CALL(SYS_recvmsg),
	CALL(SYS_recvmmsg),
	CALL(SYS_kill),
	CALL(SYS_tkill),
	CALL(SYS_tgkill),
	CALL(SYS_pidfd_send_signal),
	CALL(SYS_pidfd_open),
	CALL(SYS_rt_sigqueueinfo),
	CALL(SYS_rt_tgsigqueueinfo),
	{SYS_fcntl, 1, F_SETOWN, false},
	{SYS_fcntl, 1, F_SETOWN_EX, false},
	{SYS_ioctl, 1, FIOSETOWN, false},
	{SYS_ioctl, 1, SIOCSPGRP, false},
	{SYS_prlimit64, 0, 0, true},
	CALL(SYS_setpriority),
	CALL(SYS_ioprio_set),
	CALL(SYS_sched_setaffinity),
	CALL(SYS_sched_setscheduler),
	CALL(SYS_sched_setparam),
	CALL(SYS_sched_setattr),
	CALL(SYS_shmget),
	CALL(SYS_shmat),
	CALL(SYS_shmctl),
	CALL(SYS_msgget),
	CALL(SYS_msgsnd),
	CALL(SYS_msgrcv),
	CALL(SYS_msgctl),
	CALL(SYS_semget),
	CALL(SYS_semop),
	CALL(SYS_semtimedop),
	CALL(SYS_semctl),
	CALL(SYS_mq_open),
	CALL(SYS_mq_unlink),
};

#define NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ARGUMENT(n)                                                                                \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS,                                                         \
		 (unsigned)(offsetof(struct seccomp_data, args) + 8 * (size_t)(n)))
#define IF(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define RETURN(action)	   BPF_STMT(BPF_RET | BPF_K, (action))
#define REFUSE		   RETURN(SECCOMP_RET_ERRNO | EPERM)

static void put(struct agent_filter *f, const struct sock_filter *code, size_t n)
{
	memcpy(f->code + f->n, code, n * sizeof(*code));
	f->n = (unsigned short)(f->n + n);
}

static void put_refusal(struct agent_filter *f, const struct refusal *r)
{
	const struct sock_filter any[] = {IF(r->nr, 0, 1), REFUSE};
	const struct sock_filter one[] = {IF(r->nr, 0, 4), ARGUMENT(r->argument),
					  IF(r->value, r->is_other, !r->is_other), REFUSE, NUMBER};

	if (r->argument == ANY)
		put(f, any, ARRAY_LEN(any));
	else
		put(f, one, ARRAY_LEN(one));
}

int host_git_filter(struct err *e)
{
	static const struct sock_filter head = NUMBER, tail = RETURN(SECCOMP_RET_ALLOW);
	struct agent_filter base, more = {.n = 0};
	int ret = agent_filter_build(&base, e);

	static_assert(5 * ARRAY_LEN(refused) + 2 <= AGENT_FILTER_MAX, "more must hold all");
	put(&more, &head, 1);
	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		put_refusal(&more, &refused[i]);
	put(&more, &tail, 1);
	/* The agents' own looks at the architecture, and refuses whatever it does not know. */
	if (ret == 0)
		ret = agent_filter_apply(&base, e);
	return ret == 0 ? agent_filter_apply(&more, e) : ret;
}
