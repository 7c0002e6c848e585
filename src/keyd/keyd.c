/*
 * keyd: custody. Theory of operation: one SOCK_SEQPACKET channel per asker; a request is a fixed
 * struct, answered in place. What an asker may ask *now* is a bit set: requests that are right only
 * once (a leaf key, the fingerprints at start) are taken out of it when they have been answered,
 * and come back only when init says that the asker is a new process. Anything else closes the
 * asker's channel for this process and tells init, which kills the asker: a sibling that asks for
 * what it may not have has been taken over.
 */
#include "keyd/keyd_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "priv/priv.h"
#include "record/record.h"

#include <errno.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#define KEYD_INIT    BUNDLE_ROLE_COUNT
#define KEYD_BIT(op) (1u << (op))

static const unsigned permitted_at_start[KEYD_ASKERS] = {
	[BUNDLE_ROLE_RECORD] = KEYD_BIT(KEYD_OP_SIGN),
	[BUNDLE_ROLE_KEYD] = 0,
	[BUNDLE_ROLE_EGRESS] = KEYD_BIT(KEYD_OP_HEADER),
	[BUNDLE_ROLE_PIPELOCK] =
		KEYD_BIT(KEYD_OP_CA) | KEYD_BIT(KEYD_OP_LEAF_KEY) | KEYD_BIT(KEYD_OP_PRINTS),
	/* git-gate holds no secret, and asks for none: what it scans for, pipelock's way. */
	[BUNDLE_ROLE_GITGATE] = KEYD_BIT(KEYD_OP_PRINTS),
	[BUNDLE_ROLE_GITSSH] = KEYD_BIT(KEYD_OP_SSH_KEY) | KEYD_BIT(KEYD_OP_SSH_SIGN),
	[KEYD_INIT] = KEYD_BIT(KEYD_OP_CA) | KEYD_BIT(KEYD_OP_LIFE),
};

static struct keyd keyd;

static unsigned keyd_asker_index(const struct keyd_asker *a)
{
	return (unsigned)(a - a->keyd->askers);
}

static void keyd_reply_with_der(struct keyd_reply *r, int n)
{
	r->status = n > 0 ? KEYD_OK : KEYD_FAILED;
	r->data_n = n > 0 ? (uint32_t)n : 0;
}

/* DNS name as policy_host_canonical() leaves it; what is signed is never agent text as it came. */
static bool keyd_host_is_canonical(const char *host, size_t size)
{
	char canonical[POLICY_HOST_MAX + 1];
	size_t n = strnlen(host, size);

	return n > 0 && n < size &&
	       policy_host_canonical(str_slice(host, n), canonical) == POLICY_OK &&
	       strcmp(host, canonical) == 0;
}

static void keyd_mint(struct keyd *k, struct keyd_asker *a, const struct keyd_request *q,
		      struct keyd_reply *r)
{
	struct err e = ERR_INIT;

	(void)a;
	if (!keyd_host_is_canonical(q->host, sizeof(q->host))) {
		r->status = KEYD_BAD_REQUEST;
		return;
	}
	keyd_reply_with_der(r, ca_mint(k->ca, q->host, r->data, sizeof(r->data), &e));
	if (r->status != KEYD_OK)
		log_error("%s", e.text);
}

static void keyd_leaf_key(struct keyd *k, struct keyd_asker *a, const struct keyd_request *q,
			  struct keyd_reply *r)
{
	struct err e = ERR_INIT;

	if (ca_set_leaf_key(k->ca, str_slice(q->data, q->data_n), &e) < 0) {
		log_error("%s", e.text);
		r->status = KEYD_BAD_REQUEST;
		return;
	}
	a->permitted &= ~KEYD_BIT(KEYD_OP_LEAF_KEY);
	a->permitted |= KEYD_BIT(KEYD_OP_MINT);
}

static void keyd_prints(struct keyd *k, struct keyd_asker *a, const struct keyd_request *q,
			struct keyd_reply *r)
{
	struct keyd_prints prints = {.key = k->vault.key};
	const struct vault_secret *s;
	struct err e = ERR_INIT;

	if (q->index >= k->vault.n) {
		r->status = KEYD_END;
		a->permitted &= ~KEYD_BIT(KEYD_OP_PRINTS);
		return;
	}
	s = &k->vault.secrets[q->index];
	if (scan_print_make(&prints.print, &k->vault.key, (enum scan_kind)s->kind, s->index,
			    s->value, &e) < 0) {
		log_error("%s", e.text);
		r->status = KEYD_FAILED;
		return;
	}
	memcpy(r->data, &prints, sizeof(prints));
	r->data_n = sizeof(prints);
}

static const struct policy_route *keyd_bound_route_of(const struct policy *policy,
						      const struct keyd_request *q)
{
	struct str host = str_slice(q->host, strnlen(q->host, sizeof(q->host)));
	struct str path = str_slice(q->data, q->data_n);

	for (int m = 0; m < POLICY_METHOD_COUNT; m++) {
		struct policy_decision d =
			policy_decide(policy, host, q->port, (enum policy_method)m, path);

		if (d.reason == POLICY_OK && d.route->auth.scheme != POLICY_AUTH_NONE &&
		    d.route->auth.credential == q->index)
			return d.route;
	}
	return NULL;
}

/* The route that this credential is bound to, if it covers the destination: one of the agent's, or
 * an upstream of git-gate's. */
static const struct policy_route *keyd_bound_route(const struct keyd *k,
						   const struct keyd_request *q)
{
	const struct policy_route *r = keyd_bound_route_of(k->config.policy, q);

	return r ? r : keyd_bound_route_of(&k->git_routes, q);
}

/* The header's value for a route's scheme, into out. Its length, or -errno. */
static int keyd_header_value(const struct policy_auth *auth, struct str token, char *out,
			     size_t size)
{
	char pair[KEYD_DATA_MAX];
	int n;

	if (auth->scheme == POLICY_AUTH_BASIC) {
		n = snprintf(pair, sizeof(pair), "%s:" STR_FMT, auth->user ? auth->user : "",
			     STR_ARG(token));
		if (n < 0 || (size_t)n >= sizeof(pair) || (size_t)n / 3 * 4 + 16 > size)
			return -EMSGSIZE;
		memcpy(out, "Basic ", 6);
		n = 6 + EVP_EncodeBlock((unsigned char *)out + 6, (unsigned char *)pair, n);
		mem_wipe(pair, sizeof(pair));
		return n;
	}
	n = snprintf(out, size, "%s" STR_FMT, auth->scheme == POLICY_AUTH_BEARER ? "Bearer " : "",
		     STR_ARG(token));
	return n < 0 || (size_t)n >= size ? -EMSGSIZE : n;
}

static void keyd_header(struct keyd *k, struct keyd_asker *a, const struct keyd_request *q,
			struct keyd_reply *r)
{
	const struct policy_route *route = keyd_bound_route(k, q);
	struct str token = vault_credential(&k->vault, q->index);
	int n;

	(void)a;
	if (!route || token.n == 0) {
		r->status = KEYD_DENIED;
		return;
	}
	n = keyd_header_value(&route->auth, token, (char *)r->data, sizeof(r->data));
	keyd_reply_with_der(r, n);
}

static void keyd_sign(struct keyd *k, struct keyd_asker *a, const struct keyd_request *q,
		      struct keyd_reply *r)
{
	struct err e = ERR_INIT;

	(void)a;
	if (q->data_n != 32) {
		r->status = KEYD_BAD_REQUEST;
		return;
	}
	if (ca_sign(k->ca, q->data, r->data, r->data + 64, &e) < 0)
		r->status = KEYD_FAILED;
	else
		r->data_n = 96;
}

static void keyd_certificate(struct keyd *k, struct keyd_asker *a, const struct keyd_request *q,
			     struct keyd_reply *r)
{
	(void)a;
	(void)q;
	keyd_reply_with_der(r, ca_certificate(k->ca, r->data, sizeof(r->data)));
}

/* A life that this keyd has not heard of before it knew any is only noted: it may itself be the new
 * process, and its siblings' first steps long done. */
static void keyd_life(struct keyd *k, struct keyd_asker *a, const struct keyd_request *q,
		      struct keyd_reply *r)
{
	struct keyd_asker *of;

	(void)a;
	if (q->index >= BUNDLE_ROLE_COUNT || q->asker_life == 0) {
		r->status = KEYD_BAD_REQUEST;
		return;
	}
	of = &k->askers[q->index];
	if (of->life != 0 && of->life != q->asker_life)
		of->permitted = permitted_at_start[q->index];
	of->life = q->asker_life;
}

static void (*const handlers[KEYD_OP_COUNT])(struct keyd *k, struct keyd_asker *a,
					     const struct keyd_request *q, struct keyd_reply *r) = {
	[KEYD_OP_CA] = keyd_certificate,    [KEYD_OP_LEAF_KEY] = keyd_leaf_key,
	[KEYD_OP_MINT] = keyd_mint,	    [KEYD_OP_PRINTS] = keyd_prints,
	[KEYD_OP_HEADER] = keyd_header,	    [KEYD_OP_SIGN] = keyd_sign,
	[KEYD_OP_LIFE] = keyd_life,	    [KEYD_OP_SSH_KEY] = keyd_git_key,
	[KEYD_OP_SSH_SIGN] = keyd_git_sign,
};

/* The asker asked for what it may not have, or spoke another language. */
static void keyd_condemn(struct keyd_asker *a, uint32_t op)
{
	struct keyd *k = a->keyd;
	unsigned index = keyd_asker_index(a);
	struct keyd_reply notice = {.status = KEYD_DENIED, .data_n = sizeof(uint32_t)};
	struct record r;

	record_init(&r, "keyd", RECORD_BLOCK, "keyd-request-refused");
	(void)snprintf(
		r.detail, sizeof(r.detail), "%s asked for operation %u",
		index < BUNDLE_ROLE_COUNT ? bundle_role_name((enum bundle_role)index) : "init", op);
	if (k->record_fd >= 0 && record_send(k->record_fd, &r) < 0)
		log_error("cannot record: %s", r.detail);
	log_error("%s", r.detail);
	a->permitted = 0;
	memcpy(notice.data, &index, sizeof(uint32_t));
	if (index != KEYD_INIT && k->askers[KEYD_INIT].watch.fd >= 0)
		(void)io_send_fds(k->askers[KEYD_INIT].watch.fd, &notice,
				  offsetof(struct keyd_reply, data) + sizeof(uint32_t), NULL, 0,
				  MSG_DONTWAIT);
}

static void keyd_answer(struct keyd_asker *a, const struct keyd_request *q, bool is_whole)
{
	struct keyd *k = a->keyd;
	struct keyd_reply r;
	ssize_t n;

	memset(&r, 0, offsetof(struct keyd_reply, data));
	if (!is_whole || q->op == 0 || q->op >= KEYD_OP_COUNT || q->data_n > sizeof(q->data) ||
	    q->life != a->life || !(a->permitted & KEYD_BIT(q->op))) {
		keyd_condemn(a, is_whole ? q->op : 0);
		r.status = KEYD_DENIED;
		r.id = is_whole ? q->id : 0;
	} else {
		r.status = KEYD_OK;
		r.id = q->id;
		handlers[q->op](k, a, q, &r);
	}
	n = io_send_fds(a->watch.fd, &r, offsetof(struct keyd_reply, data) + r.data_n, NULL, 0,
			MSG_DONTWAIT);
	if (n < 0)
		log_warn("an answer was not taken: %s", strerror((int)-n));
	mem_wipe(&r, sizeof(r));
}

/* One request, if there is one. False when the channel is empty, or closed: that is init's end. */
static bool keyd_serve_one(struct keyd_asker *a)
{
	struct keyd_request q;
	ssize_t n = io_recv_fds(a->watch.fd, &q, sizeof(q), NULL, NULL, MSG_DONTWAIT);
	bool is_whole = n == (ssize_t)sizeof(q);

	if (n == -EAGAIN)
		return false;
	if (n == 0) {
		loop_stop(a->keyd->loop, 0);
		return false;
	}
	/* What a process asked that has died since. */
	if (!is_whole || q.life >= a->life)
		keyd_answer(a, &q, is_whole);
	return true;
}

static void keyd_on_request(struct loop_watch *w, uint32_t events)
{
	struct keyd_asker *a =
		(struct keyd_asker *)((char *)w - offsetof(struct keyd_asker, watch));
	struct keyd_asker *init = &a->keyd->askers[KEYD_INIT];

	(void)events;
	/* init says that a role is a new process before it starts it, so by the time that the role
	 * asks, init's word is in the queue: it has to be heard first. */
	while (a != init && init->watch.fd >= 0 && keyd_serve_one(init))
		;
	(void)keyd_serve_one(a);
}

static void keyd_on_signal(struct loop *l, int signo, void *ctx)
{
	(void)signo;
	(void)ctx;
	loop_stop(l, 0);
}

static int keyd_start(struct keyd *k, const struct bundle_role_env *env, struct err *e)
{
	int ret = bundle_config_load(&k->config, env->config_fd, e);

	if (ret == 0)
		ret = vault_open(&k->vault, env->secrets_fd, e);
	if (ret == 0)
		ret = keyd_git_open(k, e);
	if (ret == 0)
		ret = ca_open(&k->ca, env->state_fd, k->config.slug, e);
	if (ret < 0)
		return ret;
	k->record_fd = env->record_fd;
	k->loop = loop_new(e);
	if (!k->loop)
		return e->code;
	for (unsigned i = 0; i < KEYD_ASKERS; i++) {
		struct keyd_asker *a = &k->askers[i];

		*a = (struct keyd_asker){.keyd = k, .permitted = permitted_at_start[i]};
		a->watch = (struct loop_watch){.fd = -1, .fn = keyd_on_request};
		/* After a restart of keyd itself the siblings run on and need no first steps. */
		if (i == BUNDLE_ROLE_PIPELOCK && ca_has_leaf_key(k->ca))
			a->permitted |= KEYD_BIT(KEYD_OP_MINT);
		if (env->asker_fds[i] < 0)
			continue;
		ret = loop_add(k->loop, &a->watch, env->asker_fds[i], EPOLLIN, e);
		if (ret < 0)
			return ret;
	}
	return loop_signals(k->loop, (int[]){SIGTERM}, 1, keyd_on_signal, NULL, e);
}

int keyd_role_main(struct bundle_role_env *env)
{
	struct priv_limits limits = {.files = 32};
	struct err e = ERR_INIT;
	int status;

	if (keyd_start(&keyd, env, &e) < 0)
		die("%s", e.text);
	/* pwrite for the kept state, which is a memory file. */
	limits.file_size_bytes = 64 << 10;
	if (bundle_role_seal(env, &limits, false, PRIV_SECCOMP_FILE, &e) < 0)
		die("%s", e.text);
	bundle_role_ready(env);
	status = loop_run(keyd.loop);
	policy_free(&keyd.git_routes);
	vault_close(&keyd.vault);
	ca_free(keyd.ca);
	return status;
}
