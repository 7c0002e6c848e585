#include "bundle/init_channels.h"

#include <sys/mman.h>
#include <sys/socket.h>

static int make_pair(int pair[2], bool is_wanted, struct err *e)
{
	pair[0] = pair[1] = -1;
	if (is_wanted && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, "socketpair");
	return 0;
}

int init_channels_make(struct init_channels *c, unsigned enabled, struct err *e)
{
	const unsigned all = enabled | 1u << INIT_SELF;
	bool has_git = enabled & 1u << BUNDLE_ROLE_GITGATE;
	bool has_ssh = enabled & 1u << BUNDLE_ROLE_GITSSH;
	int ret = 0;

	for (unsigned s = 0; s < INIT_SENDERS && ret == 0; s++) {
		ret = make_pair(c->record[s], (all & 1u << s) && s != BUNDLE_ROLE_RECORD, e);
		if (ret == 0)
			ret = make_pair(c->keyd[s],
					(all & 1u << s) && s != BUNDLE_ROLE_KEYD &&
						s != BUNDLE_ROLE_SUPERVISE,
					e);
	}
	if (ret == 0)
		ret = make_pair(c->egress, true, e);
	if (ret == 0)
		ret = make_pair(c->git_egress, has_git, e);
	if (ret == 0)
		ret = make_pair(c->ssh, has_ssh, e);
	if (ret == 0)
		ret = make_pair(c->dial, has_ssh, e);
	if (ret == 0)
		ret = make_pair(c->refused, enabled & 1u << BUNDLE_ROLE_SUPERVISE, e);
	if (ret < 0)
		return ret;
	c->state = memfd_create("keyd", MFD_CLOEXEC);
	return c->state < 0 ? err_errno(e, "memfd_create") : 0;
}

static void give_from_all(const int channels[INIT_SENDERS][2], const char *name,
			  struct init_argv *a)
{
	for (unsigned s = 0; s < INIT_SENDERS; s++)
		init_argv_give_numbered(a, name, s, channels[s][1]);
}

void init_channels_give(const struct init_channels *c, const struct init_fds *given,
			enum bundle_role role, struct init_argv *a)
{
	init_argv_give(a, "config", given->config);
	init_argv_give(a, "record", c->record[role][0]);
	init_argv_give(a, "keyd", c->keyd[role][0]);
	switch (role) {
	case BUNDLE_ROLE_RECORD:
		init_argv_give(a, "file", given->records);
		init_argv_give(a, "refused", c->refused[0]);
		give_from_all(c->record, "from", a);
		break;
	case BUNDLE_ROLE_KEYD:
		init_argv_give(a, "secrets", given->secrets);
		init_argv_give(a, "state", c->state);
		give_from_all(c->keyd, "ask", a);
		break;
	case BUNDLE_ROLE_EGRESS:
		init_argv_give(a, "egress", c->egress[1]);
		init_argv_give(a, "git_egress", c->git_egress[1]);
		init_argv_give(a, "dial", c->dial[1]);
		init_argv_give(a, "reach", given->reach);
		break;
	case BUNDLE_ROLE_PIPELOCK:
		init_argv_give(a, "egress", c->egress[0]);
		init_argv_give(a, "listen", given->pipelock);
		init_argv_give(a, "dns_udp", given->dns_udp);
		init_argv_give(a, "dns_tcp", given->dns_tcp);
		init_argv_give(a, "desk", given->desk_pipelock);
		init_argv_give(a, "rules", given->rules);
		break;
	case BUNDLE_ROLE_GITSSH:
		init_argv_give(a, "stream", c->ssh[1]);
		init_argv_give(a, "dial", c->dial[0]);
		break;
	case BUNDLE_ROLE_GITGATE:
		init_argv_give(a, "egress", c->git_egress[0]);
		init_argv_give(a, "listen", given->gitgate);
		init_argv_give(a, "rules", given->rules);
		init_argv_give(a, "ssh", c->ssh[0]);
		init_argv_give(a, "door", given->door);
		init_argv_give(a, "desk", given->desk_gitgate);
		break;
	case BUNDLE_ROLE_SUPERVISE:
		init_argv_give(a, "listen", given->supervise);
		init_argv_give(a, "desk", given->desk_supervise);
		init_argv_give(a, "refused", c->refused[1]);
		break;
	case BUNDLE_ROLE_COUNT:
		break;
	}
}
