#include "carry/carry.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/ports.h"
#include "bundle/bundle.h"
#include "bundle/role.h"
#include "carry/carrier.h"
#include "priv/priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>

#define CARRY_MEMORY_MAX (384u << 20)
#define CARRY_FILES_MAX	 4096 /* two of each connection, one of each flow */
#define CARRY_WORDS_MAX	 8

static const struct {
	const char *name;
	uint16_t port;
	bool is_optional;
} services[] = {
	{"pipelock", SERVICE_PORT_PIPELOCK, false},  {"dns_udp", SERVICE_PORT_DNS, false},
	{"dns_tcp", SERVICE_PORT_DNS, false},	     {"gitgate", SERVICE_PORT_GITGATE, true},
	{"supervise", SERVICE_PORT_SUPERVISE, true},
};
_Static_assert(CARRIER_CONNECTIONS_MAX * 2 * 4 + CARRIER_FLOWS_MAX + 64 < CARRY_FILES_MAX,
	       "room for whatever four listeners hold at once");

static void carry_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l, 0);
}

static int carry_open(struct loop **l, struct carrier **c, char *const *words, struct err *e)
{
	const char *to = role_argument(words, "to");
	struct in_addr address;

	if (!to || inet_pton(AF_INET, to, &address) != 1)
		return err_set(e, -EINVAL, "to= is no IPv4 address");
	*l = loop_new(e);
	if (!*l)
		return e->code;
	*c = carrier_new(*l, address, &(struct carrier_limits){0});
	for (size_t i = 0; i < ARRAY_LEN(services); i++) {
		int fd, ret = role_fd_argument(words, services[i].name, &fd, e);

		if (ret == -ENOENT && services[i].is_optional) {
			*e = ERR_INIT;
			continue;
		}
		if (ret == 0)
			ret = io_set_nonblock(fd, true);
		if (ret == 0)
			ret = carrier_add(*c, fd, services[i].port, e);
		if (ret < 0)
			return ret;
	}
	return loop_signals(*l, (int[]){SIGTERM, SIGINT}, 2, carry_on_signal, NULL, e);
}

static int carry_seal(char *const *words, struct err *e)
{
	const struct priv_limits limits = {
		.files = CARRY_FILES_MAX,
		.address_space_bytes = priv_is_instrumented() ? 0 : CARRY_MEMORY_MAX,
	};
	const char *text = role_argument(words, "uid");
	uint64_t uid = 0; /* keep it */

	if (text && str_to_u64(str_of(text), UINT32_MAX - 1, &uid) < 0)
		return err_set(e, -EINVAL, "uid=%s is none", text);
	return bundle_role_seal(&(struct bundle_role_env){.uid = (unsigned)uid}, &limits, true,
				PRIV_SECCOMP_ACCEPT | PRIV_SECCOMP_DIAL, e);
}

int carry_main(int argc, char **argv)
{
	char *words[CARRY_WORDS_MAX + 1] = {NULL};
	struct err e = ERR_INIT;
	struct carrier *c = NULL;
	struct loop *l = NULL;
	int status;

	log_set_role("carry");
	if (argc > CARRY_WORDS_MAX)
		die("carry: a backend starts it");
	for (int i = 0; i < argc; i++)
		words[i] = argv[i];
	if (carry_open(&l, &c, words, &e) < 0 || carry_seal(words, &e) < 0)
		die("%s", e.text);
	status = loop_run(l);
	carrier_free(c);
	loop_free(l);
	return status;
}
