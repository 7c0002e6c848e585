#include "backend/agent_env.h"

#include "backend/agent_clone.h"
#include "backend/walled/bwrap.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/ports.h"

#include <errno.h>
#include <fcntl.h>

#define AGENT_CA_MAX	    (4u << 20)
#define AGENT_GITCONFIG_MAX 65536

static const char *const env_proxies[] = {"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY",
					  "https_proxy", "http_proxy", "all_proxy"};
static const char *const env_cas[] = {"NODE_EXTRA_CA_CERTS",
				      "SSL_CERT_FILE",
				      "REQUESTS_CA_BUNDLE",
				      "CURL_CA_BUNDLE",
				      "GIT_SSL_CAINFO",
				      "CARGO_HTTP_CAINFO",
				      "PIP_CERT",
				      "AWS_CA_BUNDLE",
				      "DENO_CERT"};

struct env_list {
	char **v;
	size_t n, size;
};

/* Sets or replaces. */
static void env_put(struct env_list *l, const char *name, const char *value)
{
	size_t length = strlen(name), i;

	for (i = 0; i < l->n; i++) {
		if (strncmp(l->v[i], name, length) == 0 && l->v[i][length] == '=')
			break;
	}
	l->v = mem_grow_array(l->v, &l->size, l->n + 2, sizeof(*l->v));
	if (i == l->n)
		l->n++;
	free(l->v[i]);
	l->v[i] = mem_printf("%s=%s", name, value);
}

static char *supervise_url(const char *pinned)
{
	return mem_printf("http://%s:%d/mcp", pinned, SERVICE_PORT_SUPERVISE);
}

char **agent_env_make(const struct plan *p, const char *pinned)
{
	const char *user = p->agent_uid == 0 ? "root" : "agent";
	_cleanup_free_ char *proxy = mem_printf("http://%s:%d", pinned, SERVICE_PORT_PIPELOCK);
	_cleanup_free_ char *direct = mem_printf("localhost,127.0.0.1,::1,%s", pinned);
	_cleanup_free_ char *clone = agent_clone_folder(p);
	_cleanup_free_ char *folder = clone ? mem_printf(AGENT_HOME "/%s", clone) : NULL;
	struct env_list l = {0};

	env_put(&l, "PATH", AGENT_PATH);
	env_put(&l, "HOME", AGENT_HOME);
	env_put(&l, "USER", user);
	env_put(&l, "LOGNAME", user);
	env_put(&l, "SHELL", "/bin/bash");
	env_put(&l, "TERM", "xterm-256color");
	env_put(&l, "LANG", "C.UTF-8");
	if (p->canary)
		env_put(&l, AGENT_CANARY_ENV, p->canary);
	for (size_t i = 0; i < p->n_env; i++)
		env_put(&l, p->env[i].name, p->env[i].value);
	for (size_t i = 0; i < ARRAY_LEN(env_proxies); i++)
		env_put(&l, env_proxies[i], proxy);
	if (folder)
		env_put(&l, AGENT_WORKSPACE_ENV, folder);
	else if (p->workspace == PLAN_WORKSPACE_MOUNT && p->workspace_path)
		env_put(&l, AGENT_WORKSPACE_ENV, p->workspace_path);
	if (p->is_supervised) {
		_cleanup_free_ char *url = supervise_url(pinned);

		env_put(&l, SERVICE_SUPERVISE_ENV, url);
	}
	env_put(&l, "NO_PROXY", direct);
	env_put(&l, "no_proxy", direct);
	/* Node's own fetch looks at the proxy variables only when told to (24+). */
	env_put(&l, "NODE_USE_ENV_PROXY", "1");
	for (size_t i = 0; i < ARRAY_LEN(env_cas); i++)
		env_put(&l, env_cas[i], AGENT_CA_PATH);
	return l.v;
}

void agent_env_free(char **env)
{
	for (char **v = env; v && *v; v++) {
		mem_wipe(*v, strlen(*v));
		free(*v);
	}
	free(env);
}

static int file_put(struct agent_file *files, size_t *n, const char *path, struct str data,
		    struct err *e)
{
	int fd = *n < AGENT_FILES_MAX ? bwrap_memfd("etc", data, e)
				      : err_set(e, -E2BIG, "too many files for the bottle's /etc");

	if (fd < 0)
		return fd;
	files[(*n)++] = (struct agent_file){path, fd};
	return 0;
}

static int file_put_text(struct agent_file *files, size_t *n, const char *path, char *text,
			 struct err *e)
{
	_cleanup_free_ char *owned = text;

	return file_put(files, n, path, str_of(owned), e);
}

/* The system's roots first, so that the bundle's end is the bottle's own authority. A host without
 * any is no error: everything is intercepted. */
int agent_ca_write(int fd, struct str ca_pem, struct err *e)
{
	static const char *const roots[] = {"/etc/ssl/certs/ca-certificates.crt",
					    "/etc/pki/tls/certs/ca-bundle.crt",
					    "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};
	_cleanup_(buf_free) struct buf all;
	int ret = 0;

	buf_init(&all, 2 * AGENT_CA_MAX);
	for (size_t i = 0; i < ARRAY_LEN(roots) && buf_len(&all) == 0; i++) {
		struct str pem;

		if (io_read_file(AT_FDCWD, roots[i], AGENT_CA_MAX, &pem, NULL) < 0)
			continue;
		ret = buf_append_str(&all, pem);
		free((void *)(uintptr_t)pem.p);
	}
	if (ret == 0)
		ret = buf_append_str(&all, STR_LIT("\n"));
	if (ret == 0)
		ret = buf_append_str(&all, ca_pem);
	if (ret < 0)
		return err_set(e, ret, "the CA bundle is too large");
	ret = io_write_all(fd, buf_str(&all).p, buf_len(&all));
	return ret < 0 ? err_set(e, ret, "write the CA bundle") : 0;
}

/* Who commits, where the manifest does not say: the agent, by its name, and never the human. */
static int put_default_identity(struct buf *text, const struct plan *p)
{
	int ret = 0;

	if (!p->git.user_name)
		ret = buf_printf(text, "[user]\n\tname = \"%s (agent)\"\n", p->agent);
	if (ret == 0 && !p->git.user_email)
		ret = buf_printf(text, "[user]\n\temail = \"%s@claude-bottle.invalid\"\n",
				 p->agent);
	return ret;
}

/* The upstreams' addresses lead to git-gate. In the system's place, which the agent's own
 * configuration goes before. */
static int file_put_git(struct agent_file *files, size_t *n, const struct plan *p,
			const char *pinned, struct err *e)
{
	_cleanup_(buf_free) struct buf text = BUF_INIT(AGENT_GITCONFIG_MAX);
	int ret;

	if (p->git.n_remotes == 0 && p->workspace == PLAN_WORKSPACE_NONE)
		return 0;
	ret = git_agent_config(&p->git, pinned, &text, e);
	if (ret == 0 && put_default_identity(&text, p) < 0)
		ret = err_set(e, -ENOBUFS, "the agent's git configuration is too large");
	return ret == 0 ? file_put(files, n, AGENT_GITCONFIG, buf_str(&text), e) : ret;
}

static int file_put_mcp(struct agent_file *files, size_t *n, const struct plan *p,
			const char *pinned, struct err *e)
{
	_cleanup_free_ char *url = supervise_url(pinned);

	if (!p->is_supervised)
		return 0;
	return file_put_text(files, n, PLAN_MCP_FILE,
			     mem_printf("{\"mcpServers\":{\"" PLAN_MCP_NAME
					"\":{\"type\":\"http\",\"url\":\"%s\"}}}\n",
					url),
			     e);
}

int agent_files_make(struct agent_file files[AGENT_FILES_MAX], size_t *n, const struct plan *p,
		     const char *pinned, unsigned uid, unsigned gid, struct err *e)
{
	const char *user = uid == 0 ? "root" : "agent";
	const char *root = uid == 0 ? "" : "root:x:0:0:root:/root:/usr/sbin/nologin\n";
	const char *wheel = gid == 0 ? "" : "root:x:0:\n";
	int ret;

	*n = 0;
	ret = file_put_text(
		files, n, "/etc/passwd",
		mem_printf("%s%s:x:%u:%u:agent:" AGENT_HOME ":/bin/bash\n"
			   "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
			   root, user, uid, gid),
		e);
	if (ret == 0)
		ret = file_put_text(files, n, "/etc/group",
				    mem_printf("%s%s:x:%u:\nnogroup:x:65534:\n", wheel, user, gid),
				    e);
	if (ret == 0)
		ret = file_put_text(files, n, "/etc/hosts",
				    mem_printf("127.0.0.1 localhost\n::1 localhost\n%s bundle\n"
					       "127.0.1.1 %s\n",
					       pinned, p->slug),
				    e);
	if (ret == 0)
		ret = file_put_text(
			files, n, "/etc/resolv.conf",
			mem_printf("nameserver %s\noptions timeout:1 attempts:1\n", pinned), e);
	if (ret == 0)
		ret = file_put(files, n, "/etc/nsswitch.conf",
			       STR_LIT("passwd: files\ngroup: files\nshadow: files\n"
				       "hosts: files dns\nnetworks: files\nprotocols: files\n"
				       "services: files\n"),
			       e);
	if (ret == 0)
		ret = file_put_text(files, n, "/etc/hostname", mem_printf("%s\n", p->slug), e);
	if (ret == 0) /* no bottle carries the host's identity */
		ret = file_put(files, n, "/etc/machine-id", STR_LIT("uninitialized\n"), e);
	if (ret == 0)
		ret = file_put_git(files, n, p, pinned, e);
	if (ret == 0)
		ret = file_put_mcp(files, n, p, pinned, e);
	if (ret < 0)
		agent_files_free(files, *n);
	return ret;
}

void agent_files_free(struct agent_file *files, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close_fd(&files[i].fd);
}
