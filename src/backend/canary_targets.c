#include "backend/canary_targets.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/ports.h"
#include "guest/guest_host.h"
#include "net/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/socket.h>

#define CANARY_MS 30000

void canary_targets_add(struct canary_targets *t, const char *address, unsigned port,
			const char *what)
{
	if (t->n == GUEST_CLOSED_MAX)
		return;
	(void)snprintf(t->text[t->n], CANARY_TARGET_SIZE, "%s", address);
	t->list[t->n] = (struct guest_target){.address = t->text[t->n], .port = port, .what = what};
	t->n++;
}

static int add_host(struct canary_targets *t, struct err *e)
{
	struct ifaddrs *all = NULL;

	if (getifaddrs(&all) < 0)
		return err_errno(e, "read this host's addresses");
	for (struct ifaddrs *i = all; i; i = i->ifa_next) {
		char text[INET_ADDRSTRLEN];

		if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP) ||
		    t->n + CANARY_TARGETS_BESIDE > GUEST_CLOSED_MAX ||
		    !inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr,
			       text, sizeof(text)))
			continue;
		canary_targets_add(t, text, t->port, "this host");
	}
	freeifaddrs(all);
	return 0;
}

int canary_targets_make(struct canary_targets **out, struct err *e)
{
	struct canary_targets *t = mem_zalloc(sizeof(*t));
	int ret;

	*out = t;
	/* On every address of this host: whoever gets through to it is known to have got through.
	 */
	t->listen_fd = sock_listen(htonl(INADDR_ANY), &t->port, e);
	if (t->listen_fd < 0)
		return t->listen_fd;
	ret = add_host(t, e);
	canary_targets_add(t, "127.0.0.1", t->port, "this host's loopback");
	canary_targets_add(t, "1.1.1.1", 443, "the outside");
	canary_targets_add(t, "1.1.1.1", 53, "the outside");
	canary_targets_add(t, "169.254.169.254", 80, "metadata");
	return ret;
}

void canary_targets_free(struct canary_targets *t)
{
	if (!t)
		return;
	close_fd(&t->listen_fd);
	free(t);
}

int canary_targets_prove(const struct canary_targets *t, int conn_fd, const struct plan *p,
			 const char *pinned, struct err *e)
{
	unsigned answers[3] = {SERVICE_PORT_PIPELOCK};
	struct guest_canary c = {.pinned = pinned,
				 .answers = answers,
				 .n_answers = 1,
				 .closed = t->list,
				 .n_closed = t->n};
	_cleanup_close_ int visitor = -1;
	int ret;

	if (p->git.n_remotes > 0)
		answers[c.n_answers++] = SERVICE_PORT_GITGATE;
	if (p->is_supervised)
		answers[c.n_answers++] = SERVICE_PORT_SUPERVISE;
	ret = guest_canary(conn_fd, &c, CANARY_MS, -1, e);
	if (ret < 0)
		return err_prefix(e, "canary");
	visitor = accept4(t->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (visitor >= 0)
		return err_set(e, -ENOTUNIQ, "canary: a listener of the host was reached");
	return 0;
}
