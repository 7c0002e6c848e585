/*
 * The real init, record and keyd with stand-ins for the roles that talk to the network or the
 * agent: the stand-in for pipelock goes through the real first steps at keyd and then, told by one
 * byte on its listening socket, behaves or misbehaves.
 */
#include "bundle/init.h"
#include "bundle/news.h"
#include "bundle/role.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "keyd/keyd_proto.h"
#include "keyd/sshwire.h"
#include "priv/priv.h"
#include "record/record.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Asks for the credential of the one bound route at several destinations; each answer is a record.
 */
static void fake_ask_headers(struct bundle_role_env *env)
{
	static const struct {
		const char *host, *path;
		uint16_t port;
		uint32_t credential;
	} asked[] = {
		{"bound.example.com", "/api/x", 443, 0}, {"bound.example.com", "/other", 443, 0},
		{"bound.example.com", "/api/x", 80, 0},	 {"other.example.com", "/api/x", 443, 0},
		{"bound.example.com", "/api/x", 443, 1},
	};

	for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
		struct keyd_request q = {.op = KEYD_OP_HEADER, .index = asked[i].credential};
		struct keyd_reply r;
		struct record record;
		struct err e = ERR_INIT;
		bool is_right;

		(void)snprintf(q.host, sizeof(q.host), "%s", asked[i].host);
		q.port = asked[i].port;
		q.data_n = (uint16_t)strlen(asked[i].path);
		memcpy(q.data, asked[i].path, q.data_n);
		if (keyd_ask(env->keyd_fd, &q, &r, KEYD_TIMEOUT_MS, &e) < 0)
			die("%s", e.text);
		is_right = r.status == KEYD_OK && r.data_n == 31 &&
			   memcmp(r.data, "Bearer s3cr3t-value-of-the-test", 31) == 0;
		record_init(&record, "egress", RECORD_NOTE,
			    is_right				       ? "header-granted"
			    : r.status == KEYD_DENIED && r.data_n == 0 ? "header-denied"
								       : "header-wrong");
		record.path[0] = (char)('0' + i);
		if (record_send(env->record_fd, &record) < 0)
			die("cannot record");
	}
}

/* --- news --- */

static uint64_t generation_in_force;
static unsigned routes_in_force;
static bool is_paused;

/* By the name of the last route: what a role does that does not take a policy as it should. */
static void fake_misbehave(const struct bundle_config *c, struct news *n)
{
	const char *host = c->policy->routes[c->policy->n_routes - 1].host;

	if (strcmp(host, "silent.example.com") == 0)
		for (;;)
			(void)poll(NULL, 0, -1);
	if (strcmp(host, "exit.example.com") == 0)
		_exit(3);
	if (strcmp(host, "lie.example.com") == 0)
		n->generation++;
}

static void fake_load(int config_fd)
{
	struct bundle_config c;
	struct err e = ERR_INIT;

	if (bundle_config_load(&c, config_fd, &e) < 0)
		die("%s", e.text);
	routes_in_force = (unsigned)c.policy->n_routes;
	is_paused = c.is_paused;
	bundle_config_free(&c);
}

/* Only pipelock misbehaves. */
static void fake_take_news(const struct bundle_role_env *env)
{
	struct bundle_config c;
	struct news n;
	struct err e = ERR_INIT;
	size_t n_fds = 1;
	int fd = -1;

	if (io_recv_fds(env->news_fd, &n, sizeof(n), &fd, &n_fds, 0) != (ssize_t)sizeof(n) ||
	    n_fds != 1 || bundle_config_load(&c, fd, &e) < 0)
		_exit(4);
	if (env->role == BUNDLE_ROLE_PIPELOCK)
		fake_misbehave(&c, &n);
	bundle_config_free(&c);
	fake_load(fd);
	(void)close(fd);
	generation_in_force = n.generation;
	(void)io_send_fds(env->news_fd, &n, sizeof(n), NULL, 0, 0);
}

/* Until fd can be read; -1: for ever. */
static void fake_wait(const struct bundle_role_env *env, int fd)
{
	struct pollfd fds[] = {{.fd = env->news_fd, .events = POLLIN},
			       {.fd = fd, .events = POLLIN}};

	do {
		(void)poll(fds, 2, -1);
		if (fds[0].revents)
			fake_take_news(env);
	} while (!fds[1].revents);
}

int egress_role_main(struct bundle_role_env *env)
{
	struct priv_limits limits = {.files = 64};
	struct err e = ERR_INIT;
	char byte;

	fake_ask_headers(env);

	if (bundle_role_seal(env, &limits, true, PRIV_SECCOMP_DIAL | PRIV_SECCOMP_PASS_FD, &e) < 0)
		die("%s", e.text);
	bundle_role_ready(env);
	do
		fake_wait(env, env->egress_fd);
	while (recv(env->egress_fd, &byte, 1, 0) > 0);
	return 0;
}

static void fake_first_steps(struct bundle_role_env *env)
{
	struct keyd_request q = {.op = KEYD_OP_LEAF_KEY};
	struct keyd_reply r;
	struct err e = ERR_INIT;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	unsigned char *p = q.data;

	q.data_n = (uint16_t)i2d_PUBKEY(key, &p);
	if (keyd_ask(env->keyd_fd, &q, &r, KEYD_TIMEOUT_MS, &e) < 0 || r.status != KEYD_OK)
		die("leaf key refused: %s", e.text);
	q = (struct keyd_request){.op = KEYD_OP_PRINTS};
	do {
		if (keyd_ask(env->keyd_fd, &q, &r, KEYD_TIMEOUT_MS, &e) < 0)
			die("%s", e.text);
		q.index++;
	} while (r.status == KEYD_OK);
	if (r.status != KEYD_END)
		die("fingerprints: status %u", r.status);
}

/* One command a connection; one byte as the answer. */
static char fake_obey(struct bundle_role_env *env, char command)
{
	struct keyd_request q = {.host = "a.example.com"};
	struct keyd_reply r;
	struct record record;
	struct err e = ERR_INIT;

	switch (command) {
	case 'm':
		q.op = KEYD_OP_MINT;
		return keyd_ask(env->keyd_fd, &q, &r, KEYD_TIMEOUT_MS, &e) == 0 &&
				       r.status == KEYD_OK && r.data_n > 100
			       ? '+'
			       : '-';
	case 'r':
		record_init(&record, "egress", RECORD_ALLOW, "ok"); /* a lie about who it is */
		return record_send(env->record_fd, &record) == 0 ? '+' : '-';
	case 'h': /* a credential is not for pipelock */
		q.op = KEYD_OP_HEADER;
		return keyd_ask(env->keyd_fd, &q, &r, KEYD_TIMEOUT_MS, &e) == 0 &&
				       r.status == KEYD_DENIED && r.data_n == 0
			       ? '+'
			       : '-';
	case 'o':
		(void)open("/etc/passwd", 0);
		return '+';
	case 'g':
		return (char)('0' + generation_in_force);
	case 'n':
		return (char)((is_paused ? 'a' : '0') + (char)routes_in_force);
	case 'x':
		(void)execl("/bin/true", "true", (char *)NULL);
		return '-';
	default:
		return '?';
	}
}

int pipelock_role_main(struct bundle_role_env *env)
{
	struct priv_limits limits = {.files = 64};
	struct err e = ERR_INIT;

	fake_load(env->config_fd);
	fake_first_steps(env);
	if (bundle_role_seal(env, &limits, false, PRIV_SECCOMP_PASS_FD | PRIV_SECCOMP_ACCEPT, &e) <
	    0)
		die("%s", e.text);
	bundle_role_ready(env);
	for (;;) {
		char command, answer;
		int fd;

		fake_wait(env, env->listen_fd);
		fd = accept4(env->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0 && errno == EAGAIN)
			continue;
		if (fd < 0)
			return 1;
		if (recv(fd, &command, 1, 0) == 1) {
			answer = fake_obey(env, command);
			(void)send(fd, &answer, 1, MSG_NOSIGNAL);
		}
		(void)close(fd);
	}
}

static struct bundle_role_env *own_env;

/* Asks for what neither may have. */
static void fake_overstep(int signo)
{
	struct keyd_request q = {.op = own_env->role == BUNDLE_ROLE_GITSSH ? KEYD_OP_HEADER
									   : KEYD_OP_SSH_SIGN};
	struct keyd_reply r;
	struct err e = ERR_INIT;

	(void)signo;
	if (keyd_ask(own_env->keyd_fd, &q, &r, KEYD_TIMEOUT_MS, &e) < 0 ||
	    r.status != KEYD_DENIED || r.data_n != 0)
		_exit(1);
}

/* Says one word to gitssh, and has a child that never ends by itself. */
int gitgate_role_main(struct bundle_role_env *env)
{
	struct priv_limits limits = {.files = 64, .processes = 16};
	struct err e = ERR_INIT;

	own_env = env;
	(void)signal(SIGUSR1, fake_overstep);
	if (bundle_role_seal(env, &limits, false, PRIV_SECCOMP_PASS_FD | PRIV_SECCOMP_EXEC, &e) < 0)
		die("%s", e.text);
	if (send(env->ssh_fd, "1", 1, 0) != 1)
		die("gitssh cannot be told");
	if (fork() == 0) {
		for (;;)
			(void)poll(NULL, 0, -1);
	}
	bundle_role_ready(env);
	for (;;)
		(void)poll(NULL, 0, -1);
}

static void fake_expect(struct bundle_role_env *env, const struct keyd_request *asked,
			enum keyd_status status)
{
	struct keyd_request q = *asked;
	struct keyd_reply r;
	struct record record;
	struct err e = ERR_INIT;
	bool is_so = keyd_ask(env->keyd_fd, &q, &r, KEYD_TIMEOUT_MS, &e) == 0 &&
		     r.status == status && (r.data_n > 0) == (status == KEYD_OK);

	record_init(&record, "gitssh", RECORD_NOTE, is_so ? "as-expected" : "unexpected");
	if (record_send(env->record_fd, &record) < 0)
		die("cannot record");
}

/* Of the login as `user` with the key of the remote. */
static void fake_sign(struct bundle_role_env *env, const char *user, enum keyd_status status)
{
	struct keyd_request q = {.op = KEYD_OP_SSH_KEY};
	struct keyd_reply key;
	struct err e = ERR_INIT;
	struct sshwire_writer w = {.p = q.data, .cap = sizeof(q.data)};

	if (keyd_ask(env->keyd_fd, &q, &key, KEYD_TIMEOUT_MS, &e) < 0)
		die("%s", e.text);
	sshwire_write_string(&w, STR_LIT("an identifier made of 32 bytes.."));
	sshwire_write_byte(&w, 50);
	sshwire_write_string(&w, str_of(user));
	sshwire_write_string(&w, STR_LIT("ssh-connection"));
	sshwire_write_string(&w, STR_LIT("publickey"));
	sshwire_write_byte(&w, 1);
	sshwire_write_string(&w, STR_LIT("ssh-ed25519"));
	sshwire_write_string(&w, str_slice(key.data, key.data_n));
	q.op = KEYD_OP_SSH_SIGN;
	q.data_n = (uint16_t)w.n;
	fake_expect(env, &q, status);
}

static void fake_ask_ssh(struct bundle_role_env *env)
{
	struct keyd_request q = {.op = KEYD_OP_SSH_KEY};

	fake_expect(env, &q, KEYD_OK);
	q.index = 1; /* no such remote */
	fake_expect(env, &q, KEYD_DENIED);
	q.op = KEYD_OP_SSH_SIGN;
	fake_expect(env, &q, KEYD_DENIED);
	fake_sign(env, "git", KEYD_OK);
	fake_sign(env, "root", KEYD_BAD_REQUEST);
}

int gitssh_role_main(struct bundle_role_env *env)
{
	struct priv_limits limits = {.files = 64, .processes = 16};
	struct record r;
	struct err e = ERR_INIT;
	char byte;

	own_env = env;
	(void)signal(SIGUSR1, fake_overstep);
	if (env->life == 1)
		fake_ask_ssh(env);
	if (bundle_role_seal(env, &limits, false, PRIV_SECCOMP_PASS_FD | PRIV_SECCOMP_FORK, &e) < 0)
		die("%s", e.text);
	bundle_role_ready(env);
	while (recv(env->stream_fd, &byte, 1, 0) > 0) {
		record_init(&r, "gitgate", RECORD_NOTE, "heard");
		if (record_send(env->record_fd, &r) < 0)
			die("cannot record");
	}
	return 0;
}

int supervise_role_main(struct bundle_role_env *env)
{
	struct priv_limits limits = {.files = 64};
	struct err e = ERR_INIT;

	if (bundle_role_seal(env, &limits, false, PRIV_SECCOMP_ACCEPT, &e) < 0)
		die("%s", e.text);
	bundle_role_ready(env);
	fake_wait(env, -1);
	return 0;
}

int main(int argc, char **argv)
{
	static int (*const mains[])(struct bundle_role_env * env) = {
		record_role_main, keyd_role_main,    egress_role_main,	 pipelock_role_main,
		gitssh_role_main, gitgate_role_main, supervise_role_main};
	struct bundle_role_env env;
	struct err e = ERR_INIT;
	enum bundle_role role;

	if (argc > 1 && strcmp(argv[1], "init") == 0)
		return init_main(argv + 2);
	if (argc < 3 || !role_by_name(str_of(argv[2]), &role))
		return 2;
	memset(&env, 0xff, sizeof(env));
	env.role = role;
	if (role_env_parse(&env, argv + 3, &e) < 0)
		die("%s", e.text);
	keyd_set_life(env.life);
	return mains[role](&env);
}
