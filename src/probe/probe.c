#include "probe/probe.h"

#include "probe/only.h"
#include "probe/probe_mcp.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/ports.h"
#include "base/text.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>

/* The suite answers at once; the longest wait is for one that stops this bottle instead. */
#define PROBE_ASK_MS  20000
#define PROBE_ASK_MAX 4096

/* Which of the suite's bottles a probe belongs to. */
enum probe_kind { ORDINARY, GIT, MOUNT, SUPERVISE };

static const struct {
	const struct probe *probes;
	const size_t *n;
	enum probe_kind of;
} groups[] = {
	/* Before everything else: it is about the first moment. */
	{probes_start, &n_probes_start, ORDINARY},
	{probes_network, &n_probes_network, ORDINARY},
	{probes_bundle, &n_probes_bundle, ORDINARY},
	{probes_proxy, &n_probes_proxy, ORDINARY},
	{probes_dlp, &n_probes_dlp, ORDINARY},
	{probes_credential, &n_probes_credential, ORDINARY},
	{probes_key, &n_probes_key, ORDINARY},
	{probes_kernel, &n_probes_kernel, ORDINARY},
	{probes_device, &n_probes_device, ORDINARY},
	{probes_machine, &n_probes_machine, ORDINARY},
	{probes_git, &n_probes_git, GIT},
	{probes_git_carry, &n_probes_git_carry, GIT},
	{probes_git_wall, &n_probes_git_wall, GIT},
	{probes_mount, &n_probes_mount, MOUNT},
	{probes_supervise, &n_probes_supervise, SUPERVISE},
	{probes_mcp, &n_probes_mcp, SUPERVISE},
	{probes_supervise_say, &n_probes_supervise_say, SUPERVISE},
	/* Last: here the bottle uses up what it may ask. */
	{probes_supervise_ask, &n_probes_supervise_ask, SUPERVISE},
};

/* --- reporting --- */

void probe_token(const struct probe_env *env, const char *id, const char *label,
		 char out[PROBE_TOKEN_SIZE])
{
	unsigned char digest[32];
	char text[512];
	unsigned n;

	(void)snprintf(text, sizeof(text), "%s|%s|%s|%s|%s", env->nonce,
		       env->is_control ? "c" : "a", env->uid, id, label);
	if (EVP_Digest(text, strlen(text), digest, &n, EVP_sha256(), NULL) != 1)
		die("SHA-256");
	memcpy(out, "cbt", 3);
	text_hex(out + 3, digest, 12);
}

void probe_plain_token(const struct probe_env *env, const char *word, char out[PROBE_TOKEN_SIZE])
{
	(void)snprintf(out, PROBE_TOKEN_SIZE, "%s-%s-%.16s-%.6s", word,
		       env->is_control ? "outside" : "inside", env->uid, env->nonce);
}

static void probe_print(const char *id, const char *label, const char *token, const char *what,
			uint64_t us, const char *detail)
{
	char visible[200];

	text_visible_cstr(visible, sizeof(visible), str_of(detail));
	(void)printf("%s\t%s\t%s\t%s\t%llu\t%s\n", id, label, token, what, (unsigned long long)us,
		     visible);
	(void)fflush(stdout);
}

void probe_report(const char *id, const char *label, const char *token, bool is_through,
		  uint64_t us, const char *detail)
{
	probe_print(id, label, token, is_through ? "through" : "stopped", us, detail);
}

void probe_report_wanted(const char *id, const char *label, const char *token, uint64_t us,
			 const char *detail)
{
	probe_print(id, label, token, "wanted", us, detail);
}

void probe_report_arrival(const char *id, const char *label, bool has_arrived, uint64_t us,
			  const char *detail)
{
	probe_print(id, label, "", has_arrived ? "arrived" : "wanted", us, detail);
}

void probe_skip(const char *id, const char *label, const char *why)
{
	probe_print(id, label, "", "skipped", 0, why);
}

bool probe_list_next(struct str *list, char *out, size_t size)
{
	struct str one;
	bool more;

	while (list->n > 0) {
		*list = str_cut(*list, ',', &one, &more);
		if (!more)
			*list = STR_NULL;
		if (one.n > 0 && str_to_cstr(out, size, one))
			return true;
	}
	return false;
}

char *probe_fill(const char *format, const char *token)
{
	char *out = mem_strdup("");

	for (;;) {
		const char *at = strstr(format, "%T");
		size_t n = at ? (size_t)(at - format) : strlen(format);
		char *next = mem_printf("%s%.*s%s", out, (int)n, format, at ? token : "");

		free(out);
		out = next;
		if (!at)
			return out;
		format = at + 2;
	}
}

bool probe_secret(const struct probe_env *env, char *out, size_t size)
{
	size_t n = env->secret_mask ? strlen(env->secret_mask) / 2 : 0;

	if (n == 0 || n >= size || !text_unhex(out, n, str_of(env->secret_mask)))
		return false;
	for (size_t i = 0; i < n; i++)
		out[i] ^= 0x55;
	out[n] = '\0';
	return true;
}

struct str probe_namespace_of_host(const struct probe_env *env, const char *kind)
{
	struct str rest = str_of(env->namespaces), one;
	bool more = rest.n > 0;

	while (more) {
		rest = str_cut(rest, ',', &one, &more);
		if (str_starts(one, str_of(kind)) && one.n > strlen(kind) &&
		    one.p[strlen(kind)] == ':')
			return one;
	}
	return STR_NULL;
}

static bool probe_write_file(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && io_write_all(fd, text, strlen(text)) == 0;
}

bool probe_become_root(int flags)
{
	char uid_map[32], gid_map[32];

	(void)snprintf(uid_map, sizeof(uid_map), "0 %u 1", (unsigned)geteuid());
	(void)snprintf(gid_map, sizeof(gid_map), "0 %u 1", (unsigned)getegid());
	return unshare(CLONE_NEWUSER | flags) == 0 &&
	       probe_write_file("/proc/self/uid_map", uid_map) &&
	       probe_write_file("/proc/self/setgroups", "deny") &&
	       probe_write_file("/proc/self/gid_map", gid_map);
}

/* --- the command --- */

static const struct {
	const char *key;
	enum { PROBE_TEXT, PROBE_PORT, PROBE_LARGE } kind; /* const char *, uint16_t, unsigned */
	size_t at;
} probe_keys[] = {
	{"nonce", PROBE_TEXT, offsetof(struct probe_env, nonce)},
	{"uid", PROBE_TEXT, offsetof(struct probe_env, uid)},
	{"only", PROBE_TEXT, offsetof(struct probe_env, only)},
	{"proxy_host", PROBE_TEXT, offsetof(struct probe_env, proxy_host)},
	{"proxy", PROBE_PORT, offsetof(struct probe_env, proxy)},
	{"ca", PROBE_TEXT, offsetof(struct probe_env, ca)},
	{"tls", PROBE_PORT, offsetof(struct probe_env, tls)},
	{"plain", PROBE_PORT, offsetof(struct probe_env, plain)},
	{"any", PROBE_PORT, offsetof(struct probe_env, any)},
	{"loop", PROBE_PORT, offsetof(struct probe_env, loop)},
	{"dns", PROBE_PORT, offsetof(struct probe_env, dns)},
	{"vsock", PROBE_LARGE, offsetof(struct probe_env, vsock)},
	{"host", PROBE_TEXT, offsetof(struct probe_env, host)},
	{"hosts", PROBE_TEXT, offsetof(struct probe_env, hosts)},
	{"sibling", PROBE_TEXT, offsetof(struct probe_env, sibling)},
	{"sibling_agent", PROBE_TEXT, offsetof(struct probe_env, sibling_agent)},
	{"sibling_name", PROBE_TEXT, offsetof(struct probe_env, sibling_name)},
	{"sibling_net", PROBE_TEXT, offsetof(struct probe_env, sibling_net)},
	{"sibling_ca", PROBE_TEXT, offsetof(struct probe_env, sibling_ca)},
	{"sibling_port", PROBE_PORT, offsetof(struct probe_env, sibling_port)},
	{"namespaces", PROBE_TEXT, offsetof(struct probe_env, namespaces)},
	{"role", PROBE_TEXT, offsetof(struct probe_env, role)},
	{"as", PROBE_TEXT, offsetof(struct probe_env, as)},
	{"rounds", PROBE_PORT, offsetof(struct probe_env, rounds)},
	{"ask", PROBE_PORT, offsetof(struct probe_env, ask)},
	{"git", PROBE_PORT, offsetof(struct probe_env, git)},
	{"mount", PROBE_PORT, offsetof(struct probe_env, mount)},
	{"supervise", PROBE_PORT, offsetof(struct probe_env, supervise)},
	{"mcp", PROBE_PORT, offsetof(struct probe_env, mcp)},
	{"face", PROBE_PORT, offsetof(struct probe_env, face)},
	{"face_host", PROBE_TEXT, offsetof(struct probe_env, face_host)},
	{"state", PROBE_TEXT, offsetof(struct probe_env, state)},
	{"outside", PROBE_TEXT, offsetof(struct probe_env, outside)},
	{"workspace", PROBE_TEXT, offsetof(struct probe_env, workspace)},
	{"pinned", PROBE_TEXT, offsetof(struct probe_env, pinned)},
	{"abstract", PROBE_TEXT, offsetof(struct probe_env, abstract)},
	{"path", PROBE_TEXT, offsetof(struct probe_env, path)},
	{"secret_mask", PROBE_TEXT, offsetof(struct probe_env, secret_mask)},
	{"placeholder", PROBE_TEXT, offsetof(struct probe_env, placeholder)},
	{"canary_secret", PROBE_TEXT, offsetof(struct probe_env, canary_secret)},
};

static void probe_take_argument(struct probe_env *env, const char *argument)
{
	struct str key, value;
	bool found;

	value = str_cut(str_of(argument), '=', &key, &found);
	if (str_eq(key, STR_LIT("mode"))) {
		env->is_control = str_eq(value, STR_LIT("control"));
		return;
	}
	for (size_t i = 0; found && i < ARRAY_LEN(probe_keys); i++) {
		void *field = (char *)env + probe_keys[i].at;
		uint64_t number;

		if (!str_eq(key, str_of(probe_keys[i].key)))
			continue;
		if (probe_keys[i].kind == PROBE_TEXT)
			*(const char **)field = value.p;
		else if (probe_keys[i].kind == PROBE_LARGE &&
			 str_to_u64(value, UINT32_MAX, &number) == 0)
			*(unsigned *)field = (unsigned)number;
		else if (probe_keys[i].kind == PROBE_PORT && str_to_u64(value, 65535, &number) == 0)
			*(uint16_t *)field = (uint16_t)number;
		return;
	}
	die("probe: unknown argument \"%s\"", argument);
}

/* "http://ADDRESS:PORT/mcp": the address is that of the proxy too. */
static uint16_t probe_port_of(const char *url)
{
	const char *colon = url ? strrchr(url, ':') : NULL;
	uint64_t port;

	return colon && str_to_u64(str_slice(colon + 1, strcspn(colon + 1, "/")), 65535, &port) == 0
		       ? (uint16_t)port
		       : 0;
}

/* In a bottle the agent's own environment says where the proxy is and what it holds. */
static void probe_take_environment(struct probe_env *env)
{
	struct str proxy = str_of(getenv("HTTPS_PROXY")), host;
	bool found;
	uint64_t port;

	if (str_starts(proxy, STR_LIT("http://")))
		proxy = str_sub(proxy, 7, proxy.n);
	proxy = str_cut(proxy, ':', &host, &found);
	if (found && str_ends(proxy, STR_LIT("/")))
		proxy.n--;
	if (found && str_to_u64(proxy, 65535, &port) == 0) {
		env->proxy_host = env->pinned = str_dup(host);
		env->proxy = (uint16_t)port;
	}
	env->mcp = probe_port_of(getenv(SERVICE_SUPERVISE_ENV));
	env->ca = getenv("SSL_CERT_FILE");
	env->placeholder = getenv("SELFTEST_TOKEN");
	env->canary_secret = getenv("DEPLOY_TOKEN_BACKUP");
}

/* The suite knows some targets only once this bottle is up: its own bridges, for one. Without an
 * answer the attack goes on with what is known. */
static void probe_ask(struct probe_env *env)
{
	static char line[PROBE_ASK_MAX];
	struct str rest, one;
	size_t n = 0;
	bool more = true;

	(void)printf("ask\n");
	(void)fflush(stdout);
	while (n + 1 < sizeof(line) && io_wait(STDIN_FILENO, POLLIN, PROBE_ASK_MS) == 1 &&
	       read(STDIN_FILENO, line + n, 1) == 1 && line[n] != '\n')
		n++;
	rest = str_slice(line, n);
	while (more && rest.n > 0) {
		rest = str_cut(rest, ' ', &one, &more);
		if (one.n > 0)
			probe_take_argument(env, str_dup(one));
	}
}

static enum probe_kind probe_kind_of(const struct probe_env *env)
{
	if (env->supervise)
		return SUPERVISE;
	return env->git ? GIT : env->mount ? MOUNT : ORDINARY;
}

static void probe_run_all(struct probe_env *env)
{
	for (size_t g = 0; g < ARRAY_LEN(groups); g++) {
		for (size_t i = 0; i < *groups[g].n; i++) {
			const struct probe *p = &groups[g].probes[i];

			if (groups[g].of == probe_kind_of(env) && probe_is_wanted(env->only, p->id))
				p->run(env, p->id);
		}
		if (g == 0 && env->ask)
			probe_ask(env);
	}
}

int probe_main(int argc, char **argv)
{
	struct probe_env env = {.nonce = "0", .uid = "agent", .proxy_host = "127.0.0.1"};

	log_set_role("probe");
	(void)signal(SIGPIPE, SIG_IGN);
	probe_take_environment(&env);
	for (int i = 0; i < argc; i++)
		probe_take_argument(&env, argv[i]);
	if (env.role && strcmp(env.role, "listen") == 0)
		return listen_main(&env);
	if (env.role && strcmp(env.role, "beat") == 0)
		return beat_main(&env);
	probe_run_all(&env);
	if (env.supervise)
		(void)probe_human(&env, "look");
	(void)printf("end\n");
	return 0;
}
