/*
 * Who may ask what. Each rule stands against somebody:
 *
 * - another name for this address (DNS rebinding): Host is our address and our port, else 421 with
 *   an empty body;
 * - a page of another origin in the same browser: it cannot set our header without a preflight,
 * which is refused like every OPTIONS; what changes something must carry our Origin;
 * Sec-Fetch-Site, when the browser sends it, must be same-origin;
 * - a page on another port of our address, perhaps of another user of this host: for cookies and
 *   for SameSite that is the same site, so the browser may hand it our cookie. Therefore the cookie
 *   alone is good for nothing: the second half is a secret that lies in sessionStorage, which is
 *   bound to the port as well, and travels in a header;
 * - what a server that was here before has left in the browser: a service worker or a cached script
 *   would run as ours, and read the token. Nobody was here before: the address is one of 16 million
 *   (web.c), new at each start;
 * - script in the page, should there ever be any: it could not read the cookie (HttpOnly).
 *
 * The cookie has no __Host- prefix and is not Secure: browsers keep such cookies only over TLS
 * (some make an exception for loopback, not all), and there is none here. Its name has the port and
 * the session's place, so that neither two servers nor two windows take each other's away.
 */
#include "base/text.h"
#include "base/timeutil.h"
#include "face/web_int.h"

#include <stdio.h>
#include <sys/random.h>

#define WEB_COOKIES_MAX 32

int gate_random(void *out, size_t n, struct err *e)
{
	return getrandom(out, n, 0) == (ssize_t)n ? 0 : err_errno(e, "getrandom");
}

int gate_key(char out[WEB_KEY_HEX], struct err *e)
{
	uint8_t random[(WEB_KEY_HEX - 1) / 2];
	int r = gate_random(random, sizeof(random), e);

	if (r == 0)
		text_hex(out, random, sizeof(random));
	return r;
}

unsigned gate_host(const struct web *w, const struct http1_head *h)
{
	if (h->form != HTTP1_FORM_ORIGIN || h->port != w->port || !str_eq(h->host, str_of(w->host)))
		return 421;
	return 0;
}

static bool is_only(struct http1_head *h, struct str name, struct str value)
{
	const struct http1_field *f = http1_find(h, name);

	return f && http1_count(h, name) == 1 && str_eq(f->value, value);
}

/* Absent from older browsers. */
static bool is_absent_or(struct http1_head *h, struct str name, struct str value)
{
	return !http1_find(h, name) || is_only(h, name, value);
}

unsigned gate_page(struct http1_head *h)
{
	/* A link in another page may lead to "/": there is nothing in it, and no token. Its parts
	 * are for it alone: no other page may even learn that they are here. */
	if (str_eq(h->path, STR_LIT("/")))
		return is_absent_or(h, STR_LIT("sec-fetch-dest"), STR_LIT("document")) ? 0 : 403;
	return is_absent_or(h, STR_LIT("sec-fetch-site"), STR_LIT("same-origin")) ? 0 : 403;
}

unsigned gate_api(const struct web *w, struct http1_head *h)
{
	struct str origin = str_of(w->origin);

	if (!is_absent_or(h, STR_LIT("sec-fetch-site"), STR_LIT("same-origin")))
		return 403;
	if (h->method == HTTP1_GET)
		return is_absent_or(h, STR_LIT("origin"), origin) ? 0 : 403;
	if (!is_only(h, STR_LIT("origin"), origin))
		return 403;
	return is_only(h, STR_LIT("content-type"), STR_LIT("application/json")) ? 0 : 415;
}

struct web_session *gate_session_of(struct web *w, uint64_t number)
{
	for (size_t i = 0; number > 0 && i < WEB_SESSIONS_MAX; i++)
		if (w->sessions[i].number == number)
			return &w->sessions[i];
	return NULL;
}

void gate_cookie_name(const struct web *w, const struct web_session *s,
		      char out[WEB_COOKIE_NAME_SIZE])
{
	(void)snprintf(out, WEB_COOKIE_NAME_SIZE, "claude-bottle-%u-%u", w->port,
		       (unsigned)(s - w->sessions));
}

/* Some cookie of our name has this value. There may be several, as another port may have set one.
 */
static bool has_cookie(const struct web *w, struct http1_head *h, const struct web_session *s)
{
	char ours[WEB_COOKIE_NAME_SIZE];
	const struct http1_field *f = http1_find(h, STR_LIT("cookie"));
	struct str rest = f ? f->value : STR_NULL;
	bool is_more = f && http1_count(h, STR_LIT("cookie")) == 1, is_there = false;

	gate_cookie_name(w, s, ours);
	for (size_t i = 0; is_more && i < WEB_COOKIES_MAX; i++) {
		struct str pair, name;
		bool has_value;

		rest = str_cut(rest, ';', &pair, &is_more);
		pair = str_cut(str_trim(pair), '=', &name, &has_value);
		if (has_value && str_eq(name, str_of(ours)) &&
		    str_eq_consttime(pair, str_of(s->cookie)))
			is_there = true;
	}
	return is_there;
}

struct web_session *gate_session(struct web *w, struct http1_head *h)
{
	const struct http1_field *f = http1_find(h, STR_LIT("x-claude-bottle"));
	uint64_t now = loop_now_ns(w->loop);

	if (!f || http1_count(h, f->name) != 1)
		return NULL;
	for (size_t i = 0; i < WEB_SESSIONS_MAX; i++) {
		struct web_session *s = &w->sessions[i];

		if (s->number == 0 || now - s->used_ns > WEB_IDLE_MS * TIME_NS_PER_MS)
			continue;
		if (str_eq_consttime(f->value, str_of(s->secret)) && has_cookie(w, h, s)) {
			s->used_ns = now;
			return s;
		}
	}
	return NULL;
}

/* A free one, or the one that was used least lately, whose streams end. */
static struct web_session *take_session(struct web *w)
{
	struct web_session *s = &w->sessions[0];

	for (size_t i = 1; i < WEB_SESSIONS_MAX && s->number != 0; i++)
		if (w->sessions[i].number == 0 || w->sessions[i].used_ns < s->used_ns)
			s = &w->sessions[i];
	if (s->number != 0)
		conn_close_session(w, s->number);
	*s = (struct web_session){0};
	return s;
}

struct web_session *gate_redeem(struct web *w, struct str token)
{
	struct web_session *s;
	bool is_good = w->token[0] && str_eq_consttime(token, str_of(w->token));

	if (!is_good && ++w->tries < WEB_TRIES_MAX)
		return NULL;
	w->token[0] = '\0';
	loop_timer_del(w->loop, &w->token_timer);
	if (!is_good)
		return NULL;
	s = take_session(w);
	if (gate_key(s->cookie, NULL) < 0 || gate_key(s->secret, NULL) < 0)
		return NULL;
	s->number = ++w->n_sessions;
	s->used_ns = loop_now_ns(w->loop);
	return s;
}
