/*
 * Upstreams as people paste them, and the host keys that pin the ssh ones.
 *
 * What stands here reaches git, an ssh server's command line and an HTTP request: so the alphabet
 * is small and the spelling is one. "ext::", "file:", "-oProxyCommand=…" and paths that climb have
 * all been ways to run something.
 */
#include "conf/git_policy.h"

#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>

#define UPSTREAM_MAX  (GIT_PATH_MAX + POLICY_HOST_MAX + POLICY_USER_MAX + 32)
#define PORT_HTTPS    443
#define PORT_SSH      22
#define PORT_CLEAR    80
#define SSH_USER_MAX  64
#define KEY_BLOB_MAX  1024
#define RSA_BITS_MIN  2048
#define RSA_BYTES_MIN (RSA_BITS_MIN / 8)

/* --- upstreams --- */

static bool is_one_of(char c, const char *also)
{
	return ascii_is_alnum(c) || (c && strchr(also, c));
}

int git_ssh_user_check(struct str user, struct err *e)
{
	if (user.n == 0 || user.n > SSH_USER_MAX || user.p[0] == '-')
		return err_set(e, -EINVAL,
			       "the user must have 1 to %d characters and not begin with \"-\"",
			       SSH_USER_MAX);
	for (size_t i = 0; i < user.n; i++)
		if (!is_one_of(user.p[i], "-._+"))
			return err_set(
				e, -EINVAL,
				"the user must be letters, digits, \"-\", \".\", \"_\", \"+\" "
				"alone");
	return 0;
}

static int refuse(struct str text, const char *why, struct err *e)
{
	char shown[256];

	text_visible_cstr(shown, sizeof(shown), text);
	return err_set(e, -EINVAL,
		       "upstream \"%s\" %s; expected https://HOST/PATH, ssh://USER@HOST/PATH or "
		       "USER@HOST:PATH",
		       shown, why);
}

/* A password would be shown by every error that follows. */
static int refuse_password(struct err *e)
{
	return err_set(e, -EINVAL,
		       "the upstream holds a password; secrets never stand in a manifest: give a "
		       "token_ref (https) or a key (ssh)");
}

static const char *path_flaw(struct str path, bool is_https)
{
	struct str rest = path, seg = STR_NULL;
	bool more = true;

	if (path.n > GIT_PATH_MAX)
		return "has a path that is too long";
	for (size_t i = 0; i < path.n; i++)
		if (!is_one_of(path.p[i], "-._~/+@"))
			return "has a character in its path other than letters, digits and "
			       "\"-._~/+@\"";
	if (!is_https && str_chr(path, '~') < path.n)
		return "has a \"~\"; write the whole path as the server knows it";
	if (path.n > 0 && path.p[0] == '/')
		rest = str_sub(path, 1, path.n);
	while (more) {
		rest = str_cut(rest, '/', &seg, &more);
		if (seg.n == 0)
			return "has no path, or an empty part in it (\"//\", or a \"/\" at its "
			       "end)";
		if (str_eq(seg, STR_LIT(".")) || str_eq(seg, STR_LIT("..")))
			return "has a \".\" or \"..\" in its path";
		if (seg.p[0] == '-')
			return "has a part that begins with \"-\" in its path";
	}
	/* The gate knows a repository with and without ".git": one name each. */
	if (str_ends(seg, STR_LIT(".git")))
		seg.n -= 4;
	return seg.n == 0 || str_ends(seg, STR_LIT(".git"))
		       ? "ends in \".git\" after a \"/\" or another \".git\""
		       : NULL;
}

/* [user@]host, and a port where the form has one. */
static int parse_authority(struct str all, struct str authority, bool may_port,
			   struct git_remote *r, struct err *e)
{
	char canonical[POLICY_HOST_MAX + 1];
	struct str user = STR_NULL, host = authority, port_text;
	bool has_user = false, has_port = false;
	uint64_t port = 0;
	int ret;

	if (str_chr(authority, '@') < authority.n) {
		host = str_cut(authority, '@', &user, &has_user);
		if (str_chr(user, ':') < user.n || str_chr(host, '@') < host.n)
			return refuse_password(e);
		ret = git_ssh_user_check(user, e);
		if (ret < 0)
			return ret;
	}
	port_text = may_port ? str_cut(host, ':', &host, &has_port) : STR_NULL;
	if (has_port && (str_to_u64(port_text, 65535, &port) < 0 || port == 0))
		return refuse(all, "has a port that is no number from 1 to 65535", e);
	if (str_chr(host, '*') < host.n)
		return refuse(all, "must name one exact host", e);
	ret = policy_host_pattern_check(host, e);
	if (ret < 0)
		return ret;
	if (policy_host_canonical(host, canonical) != POLICY_OK)
		return refuse(all, "has no host name", e);
	/* The name under which git-gate has the host's own repository. */
	if (strcmp(canonical, "workspace") == 0)
		return refuse(all,
			      "names the host \"workspace\", which stands for your own repository",
			      e);
	if (has_port)
		r->port = (uint16_t)port;
	r->host = mem_strdup(canonical);
	r->user = has_user ? str_dup(user) : NULL;
	return 0;
}

static int parse_scheme(struct str text, size_t at, struct str *rest, struct git_remote *r,
			struct err *e)
{
	struct str scheme = str_sub(text, 0, at);

	*rest = str_sub(text, at + 3, text.n);
	if (str_eq(scheme, STR_LIT("https"))) {
		r->transport = GIT_TRANSPORT_HTTPS;
		r->port = PORT_HTTPS;
		return 0;
	}
	if (str_eq(scheme, STR_LIT("ssh"))) {
		r->transport = GIT_TRANSPORT_SSH;
		r->port = PORT_SSH;
		return 0;
	}
	if (str_ieq(scheme, STR_LIT("http")) || str_ieq(scheme, STR_LIT("git")))
		return refuse(text, "would be sent in clear", e);
	return refuse(text, "has a scheme that is not served (lower-case https or ssh only)", e);
}

static int parse(struct str text, struct git_remote *r, struct err *e)
{
	size_t at = str_find(text, STR_LIT("://")), slash = str_chr(text, '/');
	struct str rest, authority, path;
	const char *flaw;
	int ret;

	if (text.n == 0 || text.n > UPSTREAM_MAX)
		return err_set(e, -EINVAL, "an upstream has 1 to %d bytes", UPSTREAM_MAX);
	/* "HOST::…" is git's way to name a helper program. */
	if (text.p[0] == '-' || str_find(text, STR_LIT("::")) < text.n)
		return refuse(text, "is no address of a repository", e);
	if (at < text.n && at < slash) {
		ret = parse_scheme(text, at, &rest, r, e);
		if (ret < 0)
			return ret;
		authority = str_sub(rest, 0, str_chr(rest, '/'));
		path = str_sub(rest, authority.n, rest.n);
	} else {
		bool found;

		path = str_cut(text, ':', &authority, &found);
		if (!found || slash < authority.n)
			return refuse(text, "is a path on this host, not an address", e);
		r->transport = GIT_TRANSPORT_SSH;
		r->port = PORT_SSH;
	}
	ret = parse_authority(text, authority, at < text.n && at < slash, r, e);
	if (ret < 0)
		return ret;
	if (r->transport == GIT_TRANSPORT_HTTPS && r->port == PORT_CLEAR)
		return refuse(text, "has port 80, where requests go in clear", e);
	flaw = path_flaw(path, r->transport == GIT_TRANSPORT_HTTPS);
	if (flaw)
		return refuse(text, flaw, e);
	r->path = str_dup(path);
	if (r->transport == GIT_TRANSPORT_SSH && !r->user)
		r->user = mem_strdup("git");
	return 0;
}

int git_upstream_parse(struct str text, struct git_remote *r, struct err *e)
{
	struct git_remote one = {0};
	int ret = parse(text, &one, e);

	if (ret < 0) {
		free(one.host);
		free(one.user);
		free(one.path);
		return ret;
	}
	r->transport = one.transport;
	r->port = one.port;
	r->host = one.host;
	r->user = one.user;
	r->path = one.path;
	return 0;
}

/* --- host keys --- */

/* RFC 4648 section 4, in the one form: padded, no bits left over. The length, or -1. */
static int base64_decode(struct str text, unsigned char *out, size_t size)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789+/";
	uint32_t bits = 0;
	size_t n = 0, held = 0, pad = 0;

	if (text.n == 0 || text.n % 4 != 0)
		return -1;
	while (pad < 2 && text.p[text.n - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < text.n - pad; i++) {
		const char *at = text.p[i] ? strchr(digits, text.p[i]) : NULL;

		if (!at)
			return -1;
		bits = bits << 6 | (uint32_t)(at - digits);
		held += 6;
		if (held < 8)
			continue;
		held -= 8;
		if (n == size)
			return -1;
		out[n++] = (unsigned char)(bits >> held);
	}
	return bits & ((1u << held) - 1) ? -1 : (int)n;
}

/* A string of RFC 4251 section 5 at the front of *rest. */
static bool take_string(struct str *rest, struct str *out)
{
	const unsigned char *p = (const unsigned char *)rest->p;
	size_t n;

	if (rest->n < 4)
		return false;
	n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
	if (n > rest->n - 4)
		return false;
	*out = str_sub(*rest, 4, 4 + n);
	*rest = str_sub(*rest, 4 + n, rest->n);
	return true;
}

/* A positive mpint of at least RSA_BITS_MIN bits. */
static bool is_modulus(struct str n)
{
	if (n.n > 0 && n.p[0] == 0)
		n = str_sub(n, 1, n.n);
	else if (n.n > 0 && (n.p[0] & 0x80))
		return false;
	return n.n > RSA_BYTES_MIN || (n.n == RSA_BYTES_MIN && (n.p[0] & 0x80));
}

/* RFC 8709, RFC 5656 section 3.1, RFC 4253 section 6.6. */
static bool is_key_body(struct str type, struct str body)
{
	static const struct {
		const char *type, *curve;
		size_t point;
	} curves[] = {
		{"ecdsa-sha2-nistp256", "nistp256", 65},
		{"ecdsa-sha2-nistp384", "nistp384", 97},
		{"ecdsa-sha2-nistp521", "nistp521", 133},
	};
	struct str first, second;

	if (!take_string(&body, &first))
		return false;
	if (str_eq(type, STR_LIT("ssh-ed25519")))
		return body.n == 0 && first.n == 32;
	if (!take_string(&body, &second) || body.n != 0)
		return false;
	if (str_eq(type, STR_LIT("ssh-rsa"))) /* e, n */
		return first.n > 0 && is_modulus(second);
	for (size_t i = 0; i < ARRAY_LEN(curves); i++)
		if (str_eq(type, str_of(curves[i].type)))
			return str_eq(first, str_of(curves[i].curve)) &&
			       second.n == curves[i].point && second.p[0] == 4;
	return false;
}

static bool is_key_type(struct str type)
{
	static const char *const types[] = {"ssh-ed25519", "ecdsa-sha2-nistp256",
					    "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
					    "ssh-rsa"};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (str_eq(type, str_of(types[i])))
			return true;
	return false;
}

int git_host_key_check(struct str text, struct err *e)
{
	unsigned char blob[KEY_BLOB_MAX];
	struct str type, key, inner, rest;
	bool found;
	int n;

	key = str_cut(text, ' ', &type, &found);
	if (text.n > GIT_HOST_KEY_MAX || !found || key.n == 0 || str_chr(key, ' ') < key.n)
		return err_set(
			e, -EINVAL,
			"a host key is \"TYPE BASE64\", like \"ssh-ed25519 AAAA…\": the last "
			"two fields of its line in known_hosts");
	if (!is_key_type(type))
		return err_set(e, -EINVAL,
			       "the host key's type is not served; use ssh-ed25519, "
			       "ecdsa-sha2-nistp256, -nistp384, -nistp521 or ssh-rsa");
	n = base64_decode(key, blob, sizeof(blob));
	rest = str_slice(blob, n < 0 ? 0 : (size_t)n);
	if (n < 0 || !take_string(&rest, &inner) || !str_eq(inner, type) ||
	    !is_key_body(type, rest))
		return err_set(e, -EINVAL,
			       "the host key is damaged: its base64 is not a key of the type that "
			       "stands before it%s",
			       str_eq(type, STR_LIT("ssh-rsa")) ? " (with 2048 bits or more)" : "");
	return 0;
}
