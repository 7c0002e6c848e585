/*
 * The agent's git configuration: whatever spelling of a declared upstream it uses, git goes to
 * git-gate instead. Nothing here is a boundary; it saves the agent from being refused.
 */
#include "conf/git_policy.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/ports.h"

#include <errno.h>
#include <stdio.h>

#define PORT_HTTPS 443
#define PORT_SSH   22

struct out {
	struct buf *b;
	int ret;
};

static void put(struct out *o, struct str text)
{
	if (o->ret == 0)
		o->ret = buf_append_str(o->b, text);
}

/* Between quotes, of a value as of a subsection (git-config(1), "Syntax"). A newline would end the
 * line: none can be here, everything has been checked. */
static void put_quoted(struct out *o, struct str text)
{
	put(o, STR_LIT("\""));
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] == '"' || text.p[i] == '\\')
			put(o, STR_LIT("\\"));
		put(o, str_sub(text, i, i + 1));
	}
	put(o, STR_LIT("\""));
}

/* Who is told each spelling of a remote. */
struct speller {
	void (*take)(struct str spelling, void *ctx);
	void *ctx;
};

/* One spelling; user may be NULL, port 0 is none, separator ":" or "/". */
static void spell(const struct speller *s, const char *scheme, const char *user,
		  const struct git_remote *r, unsigned port, const char *separator)
{
	char text[GIT_PATH_MAX + POLICY_HOST_MAX + POLICY_USER_MAX + 64];
	struct str path = str_of(r->path);
	char port_text[8] = "";

	if (str_ends(path, STR_LIT(".git")))
		path.n -= 4;
	if (path.n > 0 && path.p[0] == '/')
		path = str_sub(path, 1, path.n);
	if (port)
		(void)snprintf(port_text, sizeof(port_text), ":%u", port & 0xffff);
	(void)snprintf(text, sizeof(text), "%s%s%s%s%s%s" STR_FMT, scheme, user ? user : "",
		       user ? "@" : "", r->host, port_text, separator, STR_ARG(path));
	s->take(str_of(text), s->ctx);
}

/* A user that could stand in a URL. */
static const char *url_user(const struct git_remote *r)
{
	return r->user && git_ssh_user_check(str_of(r->user), NULL) == 0 ? r->user : NULL;
}

static void spell_https(const struct speller *s, const struct git_remote *r)
{
	const char *user = r->transport == GIT_TRANSPORT_HTTPS ? url_user(r) : NULL;
	unsigned port = r->transport == GIT_TRANSPORT_HTTPS ? r->port : PORT_HTTPS;

	spell(s, "https://", NULL, r, port, "/");
	if (port == PORT_HTTPS)
		spell(s, "https://", NULL, r, 0, "/");
	if (user)
		spell(s, "https://", user, r, port == PORT_HTTPS ? 0 : port, "/");
}

static void spell_ssh(const struct speller *s, const struct git_remote *r)
{
	unsigned port = r->transport == GIT_TRANSPORT_SSH ? r->port : PORT_SSH;
	const char *user = r->transport == GIT_TRANSPORT_SSH ? url_user(r) : "git";
	const char *const users[] = {user, NULL};

	for (size_t i = 0; i < 2; i++) {
		spell(s, "ssh://", users[i], r, port, "/");
		if (port != PORT_SSH)
			continue;
		spell(s, "ssh://", users[i], r, 0, "/");
		/* The spelling without a scheme has no place for a port. */
		spell(s, "", users[i], r, 0, ":");
		spell(s, "", users[i], r, 0, ":/");
	}
}

static void spell_all(const struct speller *s, const struct git_remote *r)
{
	if (r->transport == GIT_TRANSPORT_WORKSPACE)
		return;
	spell_https(s, r);
	spell_ssh(s, r);
}

/* --- the configuration --- */

static void put_instead(struct str spelling, void *ctx)
{
	struct out *o = ctx;

	put(o, STR_LIT("\tinsteadOf = "));
	put_quoted(o, spelling);
	put(o, STR_LIT("\n"));
}

static bool is_address(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (ascii_hex_value(s.p[i]) < 0 && s.p[i] != '.' && s.p[i] != ':')
			return false;
	return s.n > 0 && s.n < 46;
}

static void put_remote(struct out *o, const struct git_remote *r, const char *gate)
{
	char path[GIT_GATE_PATH_SIZE], url[GIT_GATE_PATH_SIZE + 80];

	git_gate_path(r, path);
	(void)snprintf(url, sizeof(url), "%s%s", gate, path);
	put(o, STR_LIT("[url "));
	put_quoted(o, str_of(url));
	put(o, STR_LIT("]\n"));
	spell_all(&(struct speller){put_instead, o}, r);
}

int git_agent_config(const struct git_policy *g, const char *pinned, struct buf *out, struct err *e)
{
	struct out o = {.b = out};
	char gate[80];

	if (!is_address(str_of(pinned)))
		return err_set(e, -EINVAL, "git-gate has no address");
	(void)snprintf(gate, sizeof(gate), strchr(pinned, ':') ? "http://[%s]:%d" : "http://%s:%d",
		       pinned, SERVICE_PORT_GITGATE);
	if (g->user_name || g->user_email)
		put(&o, STR_LIT("[user]\n"));
	if (g->user_name) {
		put(&o, STR_LIT("\tname = "));
		put_quoted(&o, str_of(g->user_name));
		put(&o, STR_LIT("\n"));
	}
	if (g->user_email) {
		put(&o, STR_LIT("\temail = "));
		put_quoted(&o, str_of(g->user_email));
		put(&o, STR_LIT("\n"));
	}
	if (g->n_remotes > 0) {
		put(&o, STR_LIT("[http "));
		put_quoted(&o, str_of(gate));
		put(&o, STR_LIT("]\n\tproxy = \"\"\n"));
	}
	for (size_t i = 0; i < g->n_remotes; i++)
		if (g->remotes[i].transport != GIT_TRANSPORT_WORKSPACE)
			put_remote(&o, &g->remotes[i], gate);
	return o.ret < 0 ? err_set(e, o.ret, "the git configuration does not fit into %zu bytes",
				   out->cap)
			 : 0;
}

/* --- the other way round --- */

struct longest {
	struct str url;
	const struct git_remote *remote, *of;
	size_t n;
};

/* Of several that begin the URL git takes the longest. */
static void take_longest(struct str spelling, void *ctx)
{
	struct longest *l = ctx;

	if (!str_starts(l->url, spelling) || spelling.n <= l->n)
		return;
	l->n = spelling.n;
	l->of = l->remote;
}

/* The path of a URL that has git-gate's port; none: "". */
static struct str path_at_gate(struct str url)
{
	static const char scheme[] = "http://";
	struct str rest = str_sub(url, sizeof(scheme) - 1, url.n), authority;
	char port[8];

	(void)snprintf(port, sizeof(port), ":%d", SERVICE_PORT_GITGATE);
	authority = str_sub(rest, 0, str_chr(rest, '/'));
	if (!str_starts(url, str_of(scheme)) || !str_ends(authority, str_of(port)))
		return STR_NULL;
	return str_sub(rest, authority.n, rest.n);
}

const struct git_remote *git_agent_remote(const struct git_policy *g, struct str url)
{
	struct longest l = {.url = url};
	_cleanup_free_ char *whole = NULL;
	const struct git_remote *r;
	struct str path, rest;

	for (size_t i = 0; i < g->n_remotes; i++) {
		l.remote = &g->remotes[i];
		spell_all(&(struct speller){take_longest, &l}, l.remote);
	}
	path = path_at_gate(url);
	if (l.of) {
		char own[GIT_GATE_PATH_SIZE];

		git_gate_path(l.of, own);
		rest = str_sub(url, l.n, url.n);
		whole = mem_printf("%s" STR_FMT, own, STR_ARG(rest));
		path = str_of(whole);
	}
	if (str_ends(path, STR_LIT("/")))
		path.n--;
	r = git_gate_find(g, path, &rest);
	return r && rest.n == 0 ? r : NULL;
}
