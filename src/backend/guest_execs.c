#include "backend/guest_execs.h"

#include "guest/guest_host.h"

#include <errno.h>

unsigned guest_execs_next(const struct guest_execs *x)
{
	return x->n % GUEST_EXEC_MAX + 1;
}

/* Those of the keeper's that live are fewer than there are places, so that the oldest is done. */
void guest_execs_add(struct guest_execs *x, pid_t relay)
{
	unsigned number = guest_execs_next(x);

	/* The kernel gives numbers of processes again. */
	for (size_t i = 0; i < GUEST_EXECS; i++) {
		if (x->list[i].relay == relay)
			x->list[i].relay = 0;
	}
	x->list[number % GUEST_EXECS].relay = relay;
	x->list[number % GUEST_EXECS].number = number;
	x->n++;
}

int64_t guest_execs_number(const struct guest_execs *x, pid_t agent, pid_t pid)
{
	if (pid == agent)
		return 0;
	for (size_t i = 0; i < GUEST_EXECS; i++) {
		if (x->list[i].relay == pid && x->list[i].number > 0)
			return x->list[i].number;
	}
	return -ESRCH;
}

int guest_execs_signal(const struct guest_execs *x, int conn_fd, pid_t agent, pid_t pid, int signo)
{
	int64_t number = guest_execs_number(x, agent, pid);

	if (conn_fd < 0 || number < 0)
		return -ESRCH;
	return guest_signal(conn_fd, (unsigned)number, signo, NULL);
}
