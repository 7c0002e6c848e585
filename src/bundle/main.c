/* claude-bottle-bundle: one file, several lives. Only init is started by hand or by a host. */
#include "bundle/init.h"
#include "bundle/role.h"

#include "base/io.h"
#include "base/log.h"
#include "cell/cell.h"
#include "gitgate/gitgate.h"
#include "guest/guest.h"
#include "keyd/keyd_proto.h"
#include "probe/canary.h"
#include "probe/probe.h"
#include "registry/registry.h"
#include "scan/scan.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <unistd.h>

static int main_init(int argc, char **argv)
{
	(void)argc;
	log_set_role("init");
	return init_main(argv);
}

static int main_role(int argc, char **argv)
{
	static int (*const mains[])(struct bundle_role_env * env) = {
		[BUNDLE_ROLE_RECORD] = record_role_main,
		[BUNDLE_ROLE_KEYD] = keyd_role_main,
		[BUNDLE_ROLE_EGRESS] = egress_role_main,
		[BUNDLE_ROLE_PIPELOCK] = pipelock_role_main,
		[BUNDLE_ROLE_GITSSH] = gitssh_role_main,
		[BUNDLE_ROLE_GITGATE] = gitgate_role_main,
		[BUNDLE_ROLE_SUPERVISE] = supervise_role_main,
	};
	struct bundle_role_env env;
	struct err e = ERR_INIT;
	enum bundle_role role;

	_Static_assert(sizeof(mains) / sizeof(mains[0]) == BUNDLE_ROLE_COUNT, "one main per role");
	if (argc < 1 || !role_by_name(str_of(argv[0]), &role))
		die("role: init starts roles, with their descriptors; see claude-bottle(1)");
	log_set_role(bundle_role_name(role));
	memset(&env, 0xff, sizeof(env)); /* every descriptor -1 */
	env.role = role;
	if (role_env_parse(&env, argv + 1, &e) < 0)
		die("%s", e.text);
	keyd_set_life(env.life);
	return mains[role](&env);
}

static int main_compile_rules(int argc, char **argv)
{
	struct err e = ERR_INIT;
	struct buf out;

	(void)argv;
	if (argc != 0)
		die("compile-rules writes the compiled rule database to standard output");
	buf_init(&out, 64u << 20);
	if (scan_compile(&out, &e) < 0)
		die("%s", e.text);
	if (io_write_all(STDOUT_FILENO, out.p + out.from, buf_len(&out)) < 0)
		die("cannot write the rule database");
	buf_free(&out);
	return 0;
}

static int main_rules_key(int argc, char **argv)
{
	char key[65];

	(void)argv;
	if (argc != 0)
		die("rules-key takes no argument");
	scan_cache_key(key);
	return printf("%s\n", key) > 0 ? 0 : 1;
}

static int main_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return printf("claude-bottle-bundle %s\n", CLAUDE_BOTTLE_VERSION) > 0 ? 0 : 1;
}

static const struct {
	const char *name;
	int (*fn)(int argc, char **argv);
	const char *help;
} commands[] = {
	{"init", main_init, "start a bundle from descriptors (NAME=FD ..., or fds=SOCKET)"},
	{"role", main_role, "what init re-executes itself as"},
	{"compile-rules", main_compile_rules, "write the compiled scan rules to standard output"},
	{"rules-key", main_rules_key, "print the name of the compiled rules' cache entry"},
	{"probe", probe_main, "attack, from inside a bottle (claude-bottle selftest)"},
	{"canary", canary_main, "witness, on the host (claude-bottle selftest)"},
	{"guest", guest_main, "inside an agent's container: its first process, and what closes it"},
	{"registry", registry_main, "hand out one image, while a microVM fetches it"},
	{"cell", cell_main, "around a virtual machine's monitor: its first process"},
	{"version", main_version, "print the version"},
};

/* Before anything else uses OpenSSL. Otherwise its first use reads a configuration file, and what a
 * bundle does must not depend on one; and it makes some thousand error texts, which only roles that
 * speak TLS show to anybody. */
static void main_start_openssl(int argc, char **argv)
{
	bool is_tls = argc > 2 && strcmp(argv[1], "role") == 0 &&
		      (strcmp(argv[2], "egress") == 0 || strcmp(argv[2], "pipelock") == 0);
	uint64_t options = OPENSSL_INIT_NO_LOAD_CONFIG;

	if (!is_tls)
		options |= OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS;
	if (OPENSSL_init_crypto(options, NULL) != 1)
		die("OpenSSL cannot be initialised");
}

/* Under these names git starts a copy of this file, in git-gate's folder: as its hook, as its ssh.
 * They have none of a role's powers, and nothing of them needs OpenSSL. */
static const struct {
	const char *name;
	int (*fn)(int argc, char **argv);
} called_by_git[] = {
	{"pre-receive", git_hook_main},
	{"git-connect", git_connect_main},
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 0 && i < sizeof(called_by_git) / sizeof(called_by_git[0]); i++) {
		if (strcmp(base_name(argv[0]), called_by_git[i].name) == 0)
			return called_by_git[i].fn(argc, argv);
	}
	main_start_openssl(argc, argv);
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].fn(argc - 2, argv + 2);
	}
	(void)fprintf(stderr,
		      "usage: claude-bottle-bundle COMMAND\n\n"
		      "The services of one bottle. claude-bottle starts it; there is nothing in "
		      "here to run by hand.\n\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		(void)fprintf(stderr, "  %-14s %s\n", commands[i].name, commands[i].help);
	return 2;
}
