/*
 * Host names: one canonical form in, or a reason why not. Everything that decides about a host
 * compares this form, so that no other spelling of it exists behind this file.
 *
 * What is refused here has been a bypass elsewhere: a NUL in a name ("evil\0.allowed.example"),
 * addresses in decimal, octal, hex or short form, user information before an "@", letters outside
 * ASCII that a resolver maps to others.
 */
#include "conf/policy.h"

#include "base/clean.h"
#include "base/text.h"

#include <errno.h>

#define LABEL_MAX 63

/* WHATWG URL, "ends-in-a-number checker": a last label that is a number in any base makes the whole
 * an address to some client or resolver, however many labels stand before it. */
static bool is_number_label(struct str label)
{
	size_t i = 0;

	if (label.n == 0)
		return false;
	if (label.n >= 2 && label.p[0] == '0' && (label.p[1] | 0x20) == 'x') {
		for (i = 2; i < label.n && ascii_hex_value(label.p[i]) >= 0; i++)
			;
		return i == label.n;
	}
	for (i = 0; i < label.n && ascii_is_digit(label.p[i]); i++)
		;
	return i == label.n;
}

/* "::1", "fe80::1%eth0", "[::1]", "::ffff:1.2.3.4": the shape is enough, the value is not needed.
 */
static bool looks_like_v6(struct str host)
{
	size_t n_colons = 0;

	if (host.n > 0 && host.p[0] == '[')
		return true;
	for (size_t i = 0; i < host.n; i++) {
		if (host.p[i] == '%' && n_colons >= 2)
			return true;
		n_colons += host.p[i] == ':';
		if (host.p[i] != ':' && host.p[i] != '.' && ascii_hex_value(host.p[i]) < 0)
			return false;
	}
	return n_colons >= 2;
}

/* One label, lower-cased to out. False unless letters, digits and inner hyphens. */
static bool label_canonical(struct str label, char *out)
{
	if (label.n == 0 || label.n > LABEL_MAX)
		return false;
	if (label.p[0] == '-' || label.p[label.n - 1] == '-')
		return false;
	for (size_t i = 0; i < label.n; i++) {
		if (!ascii_is_alnum(label.p[i]) && label.p[i] != '-')
			return false;
		out[i] = ascii_lower(label.p[i]);
	}
	return true;
}

enum policy_reason policy_host_canonical(struct str host, char out[POLICY_HOST_MAX + 1])
{
	struct str last = STR_NULL;
	size_t at = 0;

	out[0] = '\0';
	if (looks_like_v6(host))
		return POLICY_DENY_IP_LITERAL;
	if (host.n > 0 && host.p[host.n - 1] == '.')
		host.n--;
	if (host.n == 0 || host.n > POLICY_HOST_MAX)
		return POLICY_DENY_HOST_SYNTAX;
	while (at <= host.n) {
		size_t end = at;

		while (end < host.n && host.p[end] != '.')
			end++;
		last = str_sub(host, at, end);
		if (!label_canonical(last, out + at)) {
			out[0] = '\0';
			return POLICY_DENY_HOST_SYNTAX;
		}
		out[end] = '.';
		at = end + 1;
	}
	out[host.n] = '\0';
	if (is_number_label(last)) {
		out[0] = '\0';
		return POLICY_DENY_IP_LITERAL;
	}
	return POLICY_OK;
}

/* --- what an operator may write --- */

/* Names under which anybody may have a name of their own. "*.github.io" would allow the attacker's
 * page. Not the whole public suffix list: the ones that people write by mistake. */
static const char *const shared_suffixes[] = {
	"ac.uk",
	"amazonaws.com",
	"appspot.com",
	"azurewebsites.net",
	"blogspot.com",
	"cloudfront.net",
	"co.in",
	"co.jp",
	"co.kr",
	"co.nz",
	"co.uk",
	"co.za",
	"com.ar",
	"com.au",
	"com.br",
	"com.cn",
	"com.mx",
	"com.sg",
	"com.tr",
	"com.tw",
	"deno.dev",
	"duckdns.org",
	"edgekey.net",
	"firebaseapp.com",
	"fly.dev",
	"github.io",
	"githubusercontent.com",
	"gitlab.io",
	"glitch.me",
	"gov.uk",
	"herokuapp.com",
	"lhr.life",
	"ne.jp",
	"netlify.app",
	"ngrok.io",
	"ngrok-free.app",
	"onrender.com",
	"or.jp",
	"org.au",
	"org.uk",
	"pages.dev",
	"r2.dev",
	"repl.co",
	"run.app",
	"s3.amazonaws.com",
	"serveo.net",
	"sslip.io",
	"nip.io",
	"surge.sh",
	"trycloudflare.com",
	"vercel.app",
	"web.app",
	"workers.dev",
	"windows.net",
	"core.windows.net",
};

/* RFC 3492 section 6.1 and 6.3, for the hint alone. Parameters are the RFC's. */
static unsigned punycode_adapt(unsigned delta, unsigned count, bool is_first)
{
	unsigned k = 0;

	delta = is_first ? delta / 700 : delta / 2;
	delta += delta / count;
	while (delta > 455) {
		delta /= 35;
		k += 36;
	}
	return k + 36 * delta / (delta + 38);
}

static void punycode_number(struct buf *out, unsigned q, unsigned bias)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz0123456789";

	for (unsigned k = 36;; k += 36) {
		unsigned t = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias;

		if (q < t)
			break;
		(void)!buf_append(out, &digits[t + (q - t) % (36 - t)], 1);
		q = (q - t) / (36 - t);
	}
	(void)!buf_append(out, &digits[q], 1);
}

/* Appends the A-label of one label. False if it is not UTF-8 or too long. No mapping beyond ASCII
 * case is made, so the hint is right for names that are written in lower case already. */
static bool label_to_ascii(struct str label, struct buf *out)
{
	uint32_t cps[LABEL_MAX];
	unsigned n_cps = 0, done, basic, n = 128, bias = 72, delta = 0;
	bool has_wide = false;

	for (struct str rest = label; rest.n > 0; n_cps++) {
		size_t used = n_cps < LABEL_MAX ? text_utf8_next(rest, &cps[n_cps]) : 0;

		if (used == 0 || (cps[n_cps] >= 128 && text_is_deceptive(cps[n_cps])))
			return false;
		has_wide |= cps[n_cps] >= 128;
		rest = str_sub(rest, used, rest.n);
	}
	if (!has_wide)
		return buf_append_str(out, label) == 0;
	if (buf_append(out, "xn--", 4) < 0)
		return false;
	for (basic = 0, done = 0; done < n_cps; done++) {
		char c = ascii_lower((char)cps[done]);

		if (cps[done] >= 128)
			continue;
		if (buf_append(out, &c, 1) < 0)
			return false;
		basic++;
	}
	if (basic > 0 && buf_append(out, "-", 1) < 0)
		return false;
	for (done = basic; done < n_cps; delta++, n++) {
		unsigned m = UINT32_MAX;

		for (unsigned i = 0; i < n_cps; i++)
			if (cps[i] >= n && cps[i] < m)
				m = cps[i];
		delta += (m - n) * (done + 1);
		n = m;
		for (unsigned i = 0; i < n_cps; i++) {
			delta += cps[i] < n;
			if (cps[i] != n)
				continue;
			punycode_number(out, delta, bias);
			bias = punycode_adapt(delta, done + 1, done == basic);
			delta = 0;
			done++;
		}
	}
	return true;
}

/* The whole name with its U-labels as A-labels, or false where no good hint can be given. */
static bool host_to_ascii(struct str host, struct buf *out)
{
	bool more = true;

	while (more) {
		struct str label;

		host = str_cut(host, '.', &label, &more);
		if (!label_to_ascii(label, out) || (more && buf_append(out, ".", 1) < 0))
			return false;
	}
	return true;
}

static bool has_wide_bytes(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return true;
	return false;
}

static int refuse_wide(struct str pattern, struct err *e)
{
	_cleanup_(buf_free) struct buf hint;
	char shown[POLICY_HOST_MAX * 2];

	buf_init(&hint, 1024);
	text_visible_cstr(shown, sizeof(shown), pattern);
	if (!host_to_ascii(pattern, &hint))
		return err_set(e, -EINVAL, "host \"%s\" has characters outside ASCII", shown);
	return err_set(e, -EINVAL,
		       "host \"%s\" has characters outside ASCII; if that is the name you mean, "
		       "write \"" STR_FMT "\"",
		       shown, STR_ARG(buf_str(&hint)));
}

/* The usual mistakes get an answer of their own. */
static int refuse_syntax(struct str pattern, struct err *e)
{
	char shown[POLICY_HOST_MAX * 2];

	text_visible_cstr(shown, sizeof(shown), pattern);
	if (pattern.n == 0)
		return err_set(e, -EINVAL, "host is empty");
	if (str_find(pattern, STR_LIT("://")) < pattern.n)
		return err_set(e, -EINVAL,
			       "host \"%s\" has a scheme; write the name alone, like "
			       "\"api.example.com\"",
			       shown);
	if (str_chr(pattern, '/') < pattern.n)
		return err_set(e, -EINVAL,
			       "host \"%s\" has a path; write the name alone and put paths under "
			       "\"paths\"",
			       shown);
	if (str_chr(pattern, '@') < pattern.n)
		return err_set(e, -EINVAL, "host \"%s\" has user information before \"@\"", shown);
	if (str_chr(pattern, ':') < pattern.n)
		return err_set(e, -EINVAL,
			       "host \"%s\" has a port; write the name alone and put ports under "
			       "\"ports\"",
			       shown);
	if (str_chr(pattern, '*') < pattern.n)
		return err_set(e, -EINVAL,
			       "host \"%s\": a \"*\" may only be the whole first label, like "
			       "\"*.example.com\"",
			       shown);
	return err_set(
		e, -EINVAL,
		"host \"%s\" is not a host name: labels of 1 to 63 letters, digits and inner "
		"hyphens, joined by dots, at most 253 bytes",
		shown);
}

static int check_wildcard_base(struct str pattern, const char *base, struct err *e)
{
	if (!strchr(base, '.'))
		return err_set(e, -EINVAL,
			       "host \"" STR_FMT
			       "\" would allow every name under \".%s\"; name the "
			       "hosts, or a domain with at least two labels like \"*.example.com\"",
			       STR_ARG(pattern), base);
	for (size_t i = 0; i < ARRAY_LEN(shared_suffixes); i++)
		if (strcmp(base, shared_suffixes[i]) == 0)
			return err_set(e, -EINVAL,
				       "host \"" STR_FMT
				       "\": anybody can have a name under \".%s\"; "
				       "name the hosts that you mean",
				       STR_ARG(pattern), base);
	return 0;
}

int policy_host_pattern_check(struct str pattern, struct err *e)
{
	bool is_wildcard = str_starts(pattern, STR_LIT("*."));
	struct str name = is_wildcard ? str_sub(pattern, 2, pattern.n) : pattern;
	char canonical[POLICY_HOST_MAX + 1];

	if (str_eq(pattern, STR_LIT("*")))
		return err_set(e, -EINVAL,
			       "host \"*\" would allow every name; a bottle's allowlist names what "
			       "it may reach");
	if (has_wide_bytes(pattern))
		return refuse_wide(pattern, e);
	switch (policy_host_canonical(name, canonical)) {
	case POLICY_OK:
		break;
	case POLICY_DENY_IP_LITERAL:
		return err_set(e, -EINVAL,
			       "host \"" STR_FMT "\" is an address; only names can be allowed (to "
			       "send a name to an address of your own, use egress.resolve)",
			       STR_ARG(pattern));
	case POLICY_DENY_HOST_SYNTAX:
	case POLICY_DENY_HOST:
	case POLICY_DENY_PORT:
	case POLICY_DENY_METHOD:
	case POLICY_DENY_PATH_SYNTAX:
	case POLICY_DENY_PATH:
	case POLICY_REASON_COUNT:
	default:
		return refuse_syntax(pattern, e);
	}
	return is_wildcard ? check_wildcard_base(pattern, canonical, e) : 0;
}
