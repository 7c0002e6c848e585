#include "egress/creds.h"

#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <openssl/evp.h>
#include <sys/mman.h>

#define CREDS_FORMS_BYTES (96u << 10) /* all forms of the longest credential */

static const char *const reason_names[] = {
#define X(constant, name) [CREDS_##constant] = name,
	CREDS_REASONS(X)
#undef X
};
_Static_assert(ARRAY_LEN(reason_names) == CREDS_REASON_COUNT, "one name per reason");

const char *creds_reason_name(enum creds_reason r)
{
	return r < CREDS_REASON_COUNT ? reason_names[r] : "?";
}

struct creds {
	const struct policy *policy;
	creds_ask_fn ask;
	void *ctx;
	struct scrub_set *secrets, *placeholders;
	char *memory; /* a slot of KEYD_DATA_MAX for each route */
	size_t memory_size;
	size_t *lengths; /* by route; 0: not asked yet */
};

static int creds_add_placeholders(struct creds *c, struct err *e)
{
	const struct policy *p = c->policy;
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < p->n_routes; i++) {
		const struct policy_auth *a = &p->routes[i].auth;

		if (a->scheme == POLICY_AUTH_NONE)
			continue;
		if (!a->placeholder)
			return err_set(e, -EINVAL, "a route has a credential but no placeholder");
		ret = scrub_set_add(c->placeholders, str_of(a->placeholder), e);
		if (ret < 0)
			return err_prefix(e, "placeholder of %s", p->routes[i].host);
	}
	return ret;
}

int creds_new(struct creds **out, const struct policy *policy, creds_ask_fn ask, void *ctx,
	      struct err *e)
{
	struct creds *c = mem_zalloc(sizeof(*c));
	size_t slots = policy->n_routes ? policy->n_routes : 1;
	size_t n_bound = 0;
	int ret;

	*out = NULL;
	*c = (struct creds){.policy = policy, .ask = ask, .ctx = ctx};
	/* Basic has two texts that may come back. Not more is taken than is needed, since a limit
	 * on locked memory counts what is never touched as well. */
	for (size_t i = 0; i < policy->n_routes; i++)
		n_bound += policy->routes[i].auth.scheme == POLICY_AUTH_BASIC
				   ? 2
				   : policy->routes[i].auth.scheme != POLICY_AUTH_NONE;
	if (n_bound > SCRUB_SECRETS_MAX)
		n_bound = SCRUB_SECRETS_MAX;
	c->memory_size = slots * KEYD_DATA_MAX;
	c->lengths = mem_zalloc_array(slots, sizeof(*c->lengths));
	c->memory = mmap(NULL, c->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (c->memory == MAP_FAILED) {
		c->memory = NULL;
		ret = err_errno(e, "memory for credentials");
	} else {
		/* Best effort, as for the forms: see scrub_set_new(). */
		(void)mlock2(c->memory, c->memory_size, MLOCK_ONFAULT);
		(void)madvise(c->memory, c->memory_size, MADV_DONTDUMP);
		ret = scrub_set_new(&c->secrets, (n_bound + 1) * CREDS_FORMS_BYTES, e);
	}
	if (ret == 0)
		ret = scrub_set_new(&c->placeholders, (n_bound + 1) * CREDS_FORMS_BYTES / 8, e);
	if (ret == 0)
		ret = creds_add_placeholders(c, e);
	if (ret < 0) {
		creds_free(c);
		return ret;
	}
	*out = c;
	return 0;
}

void creds_free(struct creds *c)
{
	if (!c)
		return;
	scrub_set_free(c->secrets);
	scrub_set_free(c->placeholders);
	if (c->memory) {
		mem_wipe(c->memory, c->memory_size);
		(void)munmap(c->memory, c->memory_size);
	}
	free(c->lengths);
	free(c);
}

const struct scrub_set *creds_secrets(const struct creds *c)
{
	return c->secrets;
}

void creds_mask(const struct creds *c, char *p, size_t n)
{
	(void)scrub_mask(c->secrets, p, n);
	(void)scrub_mask(c->placeholders, p, n);
}

/* --- names that mean a credential --- */

/* Words of a header's name, and pairs of words. */
static const char *const auth_words[] = {
	"auth",	  "authorization", "authentication", "authenticate", "token",	  "apikey",
	"secret", "cookie",	   "cookie2",	     "password",     "passwd",	  "credential",
	"jwt",	  "bearer",	   "signature",	     "credentials",  "accesskey", "apitoken"};
static const char *const key_words[] = {
	"api",	  "access",  "subscription", "functions",   "auth",   "app",   "account",
	"secret", "license", "private",	     "application", "master", "admin", "service"};

static bool word_is_in(struct str word, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (str_ieq(word, str_of(list[i])))
			return true;
	}
	return false;
}

bool creds_is_auth_header(struct str name)
{
	struct str before = STR_NULL;
	size_t from = 0;

	/* A defence of web forms against other sites, worth nothing as a credential. */
	if (str_ieq(name, STR_LIT("x-csrf-token")) || str_ieq(name, STR_LIT("x-xsrf-token")))
		return false;
	for (size_t i = 0; i <= name.n; i++) {
		struct str word;

		if (i < name.n && name.p[i] != '-' && name.p[i] != '_' && name.p[i] != '.')
			continue;
		word = str_sub(name, from, i);
		if (word_is_in(word, auth_words, ARRAY_LEN(auth_words)))
			return true;
		if (str_ieq(word, STR_LIT("key")) &&
		    word_is_in(before, key_words, ARRAY_LEN(key_words)))
			return true;
		before = word;
		from = i + 1;
	}
	return false;
}

static const char *const query_names[] = {
	"key",
	"apikey",
	"accesskey",
	"accesstoken",
	"authtoken",
	"oauthtoken",
	"privatetoken",
	"jobtoken",
	"token",
	"jwt",
	"authorization",
	"auth",
	"clientsecret",
	"password",
	"sig",
	"signature",
	"awsaccesskeyid",
	"googleaccessid",
	"xamzsignature",
	"xamzcredential",
	"xamzsecuritytoken",
	"xgoogsignature",
	"xgoogcredential",
	"subscriptionkey",
};
#define QUERY_NAME_MAX 32

/* Lower case, unescaped, without "-" "_" "." and "[]", so that spellings of a name are one. */
static struct str query_name_fold(struct str raw, char out[QUERY_NAME_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < raw.n; i++) {
		char c = raw.p[i];

		if (c == '%' && i + 2 < raw.n && ascii_hex_value(raw.p[i + 1]) >= 0 &&
		    ascii_hex_value(raw.p[i + 2]) >= 0) {
			c = (char)(ascii_hex_value(raw.p[i + 1]) << 4 |
				   ascii_hex_value(raw.p[i + 2]));
			i += 2;
		}
		if (!ascii_is_alnum(c))
			continue;
		if (n == QUERY_NAME_MAX)
			return STR_NULL;
		out[n++] = ascii_lower(c);
	}
	return str_slice(out, n);
}

bool creds_query_has_credential(struct str query)
{
	char folded[QUERY_NAME_MAX];
	size_t from = 0;

	for (size_t i = 0; i <= query.n; i++) {
		struct str part, name;
		bool found;

		if (i < query.n && query.p[i] != '&' && query.p[i] != ';')
			continue;
		part = str_sub(query, from, i);
		from = i + 1;
		(void)str_cut(part, '=', &name, &found);
		name = query_name_fold(name, folded);
		/* A name without a value carries nothing. */
		if (found && word_is_in(name, query_names, ARRAY_LEN(query_names)))
			return true;
	}
	return false;
}

/* --- the placeholder --- */

static bool skip_scheme(struct str value, struct str scheme, struct str *rest)
{
	if (!str_istarts(value, scheme) || value.n <= scheme.n || value.p[scheme.n] != ' ')
		return false;
	*rest = str_trim(str_sub(value, scheme.n, value.n));
	return true;
}

/* RFC 7617: base64 of "user:password". Any user will do; keyd writes the operator's. */
static bool basic_holds(struct str coded, struct str placeholder)
{
	unsigned char plain[512];
	struct str pair, user, password;
	size_t pad = 0;
	bool found;
	int n;

	if (coded.n == 0 || coded.n > 640 || coded.n % 4 != 0)
		return false;
	n = EVP_DecodeBlock(plain, (const unsigned char *)coded.p, (int)coded.n);
	while (pad < 2 && coded.p[coded.n - 1 - pad] == '=')
		pad++;
	if (n < (int)pad)
		return false;
	pair = str_slice(plain, (size_t)n - pad);
	password = str_cut(pair, ':', &user, &found);
	return found && str_eq(password, placeholder);
}

static bool value_is_placeholder(const struct policy_auth *a, struct str value)
{
	struct str placeholder = str_of(a->placeholder), rest;

	switch (a->scheme) {
	case POLICY_AUTH_BEARER:
		return skip_scheme(value, STR_LIT("bearer"), &rest) && str_eq(rest, placeholder);
	case POLICY_AUTH_BASIC:
		return skip_scheme(value, STR_LIT("basic"), &rest) &&
		       basic_holds(rest, placeholder);
	case POLICY_AUTH_HEADER:
		return str_eq(value, placeholder);
	case POLICY_AUTH_NONE:
	default:
		return false;
	}
}

static struct str bound_header(const struct policy_auth *a)
{
	return a->scheme == POLICY_AUTH_HEADER ? str_of(a->header) : STR_LIT("authorization");
}

/* Keeps the bound header and every field that is no credential; *bound is the former's place. */
static enum creds_reason strip_fields(struct http1_head *h, const struct policy_auth *a,
				      size_t *bound)
{
	struct str name = bound_header(a);
	size_t n = 0, found = 0;

	for (size_t i = 0; i < h->n_fields; i++) {
		if (str_ieq(h->fields[i].name, name)) {
			if (found++ > 0 || !value_is_placeholder(a, h->fields[i].value))
				return CREDS_MISSING;
			*bound = n;
		} else if (creds_is_auth_header(h->fields[i].name)) {
			continue;
		}
		h->fields[n++] = h->fields[i];
	}
	h->n_fields = n;
	return found == 1 ? CREDS_OK : CREDS_MISSING;
}

static bool has_stray_placeholder(const struct creds *c, const struct http1_head *h, size_t bound)
{
	if (scrub_find(c->placeholders, h->host) || scrub_find(c->placeholders, h->path) ||
	    scrub_find(c->placeholders, h->query))
		return true;
	for (size_t i = 0; i < h->n_fields; i++) {
		if (i != bound && scrub_find(c->placeholders, h->fields[i].value))
			return true;
	}
	return false;
}

/* --- the credential --- */

/* What an upstream could echo: the token itself, and with Basic the coded pair as a whole, whose
 * first and last digits are in no form of the token alone. */
static int creds_learn(struct creds *c, const struct policy_auth *a, struct str value,
		       struct err *e)
{
	unsigned char plain[KEYD_DATA_MAX];
	struct str token = value, user;
	bool found = true;
	int ret = 0, n;

	if (a->scheme == POLICY_AUTH_BEARER && !skip_scheme(value, STR_LIT("bearer"), &token))
		return err_set(e, -EPROTO, "keyd gave another scheme than Bearer");
	if (a->scheme == POLICY_AUTH_BASIC) {
		if (!skip_scheme(value, STR_LIT("basic"), &token))
			return err_set(e, -EPROTO, "keyd gave another scheme than Basic");
		ret = scrub_set_add(c->secrets, token, e);
		n = EVP_DecodeBlock(plain, (const unsigned char *)token.p, (int)token.n);
		for (size_t i = token.n; n > 0 && i > 0 && token.p[i - 1] == '='; i--)
			n--;
		token = str_cut(str_slice(plain, n > 0 ? (size_t)n : 0), ':', &user, &found);
	}
	if (ret == 0)
		ret = found ? scrub_set_add(c->secrets, token, e)
			    : err_set(e, -EPROTO, "keyd gave no user and password");
	mem_wipe(plain, sizeof(plain));
	return ret;
}

static bool value_is_sendable(struct str v)
{
	for (size_t i = 0; i < v.n; i++) {
		if ((uint8_t)v.p[i] < 0x20 || v.p[i] == 0x7f)
			return false;
	}
	return v.n > 0;
}

static enum creds_reason creds_fetch(struct creds *c, size_t slot, const struct http1_head *h,
				     const struct policy_route *route, struct err *e)
{
	struct keyd_request q = {
		.op = KEYD_OP_HEADER, .index = route->auth.credential, .port = h->port};
	struct keyd_reply r = {0};
	enum creds_reason reason = CREDS_OK;
	struct str value;

	if (!str_to_cstr(q.host, sizeof(q.host), h->host) || h->path.n > sizeof(q.data)) {
		(void)err_set(e, -ENAMETOOLONG, "the path is too long to ask for its credential");
		return CREDS_DENIED;
	}
	memcpy(q.data, h->path.p, h->path.n);
	q.data_n = (uint16_t)h->path.n;
	if (c->ask(c->ctx, &q, &r, e) < 0)
		reason = CREDS_UNAVAILABLE;
	value = str_slice(r.data, r.data_n <= KEYD_DATA_MAX ? r.data_n : 0);
	if (reason == CREDS_OK && (r.status != KEYD_OK || !value_is_sendable(value))) {
		(void)err_set(e, -EACCES, "keyd gives no credential for this destination");
		reason = CREDS_DENIED;
	}
	/* What could not be masked in an answer is not sent. */
	if (reason == CREDS_OK && creds_learn(c, &route->auth, value, e) < 0)
		reason = CREDS_DENIED;
	if (reason == CREDS_OK) {
		memcpy(c->memory + slot * KEYD_DATA_MAX, value.p, value.n);
		c->lengths[slot] = value.n;
	}
	mem_wipe(&r, sizeof(r));
	return reason;
}

enum creds_reason creds_apply(struct creds *c, struct http1_head *h,
			      const struct policy_route *route, struct err *e)
{
	size_t slot, bound = SIZE_MAX;
	enum creds_reason r = CREDS_OK;

	if (route->auth.scheme == POLICY_AUTH_NONE)
		return has_stray_placeholder(c, h, bound) ? CREDS_MISPLACED : CREDS_OK;
	if (h->scheme != HTTP1_SCHEME_HTTPS)
		return CREDS_PLAIN_HTTP;
	r = strip_fields(h, &route->auth, &bound);
	if (r != CREDS_OK)
		return r;
	if (has_stray_placeholder(c, h, bound))
		return CREDS_MISPLACED;
	if (creds_query_has_credential(h->query))
		return CREDS_FOREIGN;
	slot = (size_t)(route - c->policy->routes);
	if (c->lengths[slot] == 0)
		r = creds_fetch(c, slot, h, route, e);
	if (r == CREDS_OK)
		h->fields[bound].value =
			str_slice(c->memory + slot * KEYD_DATA_MAX, c->lengths[slot]);
	return r;
}
