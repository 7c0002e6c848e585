/*
 * Theory of operation. Every policy that the bundle enforces, the first one too, goes to it as a
 * whole configuration (bundle/news.h). One at a time is at init; what is given meanwhile waits in
 * order, so generations count up by one and each answer is that of the first in the queue.
 *
 * What init does not answer is not known to be in force or not: a revocation must hold, so the
 * bundle is ended, and the bottle with it.
 */
#include "backend/keeper_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>

/* --- the configuration --- */

/* ,"git":{…},"git_folder":"…": both or neither. */
static int config_put_git(struct buf *b, const struct plan *p, const struct backend_place *place,
			  struct err *e)
{
	int ret;

	if (p->git.n_remotes == 0)
		return 0;
	if (place->git_folder[0] != '/')
		return err_set(e, -ENOTSUP,
			       "the bottle has git remotes, and its backend has no folder for "
			       "git-gate");
	ret = buf_append_str(b, STR_LIT(",\"git\":"));
	if (ret == 0)
		ret = git_policy_to_json(&p->git, b, e);
	if (ret == 0)
		ret = buf_append_str(b, STR_LIT(",\"git_folder\":"));
	if (ret == 0)
		ret = text_json(b, str_of(place->git_folder));
	return ret < 0 ? err_set(e, ret, "the git policy is too large") : 0;
}

static int config_make(const struct keeper *k, const struct policy *in_force, bool is_paused,
		       struct err *e)
{
	const struct backend_place *place = &k->place;
	const struct plan *p = k->plan;
	_cleanup_(buf_free) struct buf b, policy, git;
	int ret;

	buf_init(&b, BUNDLE_CONFIG_MAX);
	buf_init(&policy, POLICY_JSON_MAX_BYTES);
	buf_init(&git, GIT_JSON_MAX_BYTES);
	ret = policy_to_json(in_force, &policy, e);
	if (ret == 0)
		ret = config_put_git(&git, p, place, e);
	if (ret < 0)
		return ret;
	ret = buf_append_str(&b, STR_LIT("{\"version\":1,\"slug\":"));
	if (ret == 0)
		ret = text_json(&b, str_of(p->slug));
	if (ret == 0)
		ret = buf_append_str(&b, STR_LIT(",\"pinned\":"));
	if (ret == 0)
		ret = text_json(&b, str_of(place->pinned));
	if (ret == 0 && place->is_apart)
		ret = buf_append_str(&b, STR_LIT(",\"inside\":["));
	if (ret == 0 && place->is_apart)
		ret = buf_append_str(&b, buf_str(&k->policy.inside));
	if (ret == 0 && place->is_apart)
		ret = buf_append_str(&b, STR_LIT("]"));
	if (ret == 0)
		ret = buf_printf(&b, ",\"supervised\":%s,\"paused\":%s,\"uid_base\":%u,\"policy\":",
				 p->is_supervised ? "true" : "false", is_paused ? "true" : "false",
				 place->uid_base);
	if (ret == 0)
		ret = buf_append_str(&b, buf_str(&policy));
	if (ret == 0)
		ret = buf_append_str(&b, buf_str(&git));
	if (ret == 0)
		ret = buf_append_str(&b, STR_LIT("}"));
	if (ret < 0)
		return err_set(e, ret, "the policy is too large");
	return io_memfd_sealed("config", buf_str(&b), e);
}

int keeper_policy_config(struct keeper *k, struct err *e)
{
	struct keeper_policy *p = &k->policy;

	/* Once: the bundle takes no configuration that differs in anything but the policy. */
	if (k->place.is_apart && buf_len(&p->inside) == 0) {
		int ret = keeper_inside_put(&p->inside, e);

		if (ret < 0)
			return ret;
	}
	return config_make(k, &p->policy, p->is_paused, e);
}

/* --- what is in force --- */

int keeper_policy_copy(struct policy *out, const struct policy *p, struct err *e)
{
	_cleanup_(buf_free) struct buf text;
	int ret;

	buf_init(&text, POLICY_JSON_MAX_BYTES);
	ret = policy_to_json(p, &text, e);
	return ret == 0 ? policy_from_json(out, buf_str(&text), e) : ret;
}

static void update_on_timeout(struct loop_timer *t)
{
	struct keeper *k =
		(struct keeper *)(void *)((char *)t - offsetof(struct keeper, policy.timer));

	keeper_end_bundle(k, "did not take a new policy");
}

int keeper_policy_init(struct keeper *k, struct err *e)
{
	k->policy = (struct keeper_policy){.timer.fn = update_on_timeout};
	buf_init(&k->policy.inside, BUNDLE_INSIDE_JSON_MAX);
	return keeper_policy_copy(&k->policy.policy, &k->plan->policy, e);
}

static void update_free(struct keeper_update *u)
{
	policy_free(&u->policy);
	close_fd(&u->config_fd);
	free(u);
}

static struct keeper_update *update_take(struct keeper_policy *p)
{
	struct keeper_update *u = p->first;

	p->first = u->next;
	p->n_updates--;
	p->is_sent = false;
	return u;
}

void keeper_policy_free(struct keeper_policy *p)
{
	while (p->first)
		update_free(update_take(p));
	policy_free(&p->policy);
	buf_free(&p->inside);
}

/* --- a new one --- */

/* What cannot be sent will not be answered: as if init were silent. */
static void update_send(struct keeper *k)
{
	struct keeper_policy *p = &k->policy;
	char message[96];
	int n;

	if (!p->first || p->is_sent)
		return;
	n = snprintf(message, sizeof(message), "{\"command\":\"policy\",\"generation\":%llu}",
		     (unsigned long long)p->generation + 1);
	p->is_sent = true;
	loop_timer_set(k->loop, &p->timer, KEEPER_UPDATE_MS);
	if (io_send_fds(k->bundle.control_fd, message, (size_t)n, &p->first->config_fd, 1,
			MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		loop_timer_set(k->loop, &p->timer, 0);
}

int keeper_policy_apply(struct keeper *k, const struct policy *policy, bool is_paused,
			keeper_policy_fn *done, void *ctx, struct err *e)
{
	struct keeper_policy *p = &k->policy;
	struct keeper_update *u, **last;
	int ret;

	if (k->is_ending || !k->bundle.is_started)
		return err_set(e, -ESHUTDOWN, "the bottle ends");
	if (p->n_updates == KEEPER_UPDATES_MAX)
		return err_set(e, -EBUSY, "too many changes of the policy wait");
	u = mem_zalloc(sizeof(*u));
	*u = (struct keeper_update){
		.is_paused = is_paused, .config_fd = -1, .done = done, .ctx = ctx};
	ret = keeper_policy_copy(&u->policy, policy, e);
	if (ret == 0)
		ret = u->config_fd = config_make(k, &u->policy, is_paused, e);
	if (ret < 0) {
		update_free(u);
		return ret;
	}
	for (last = &p->first; *last; last = &(*last)->next)
		;
	*last = u;
	p->n_updates++;
	update_send(k);
	return 0;
}

static void update_in_force(struct keeper *k, struct keeper_update *u)
{
	struct keeper_policy *p = &k->policy;
	bool was_paused = p->is_paused;
	struct policy before = p->policy;
	struct err e = ERR_INIT;

	p->policy = u->policy;
	u->policy = before;
	p->is_paused = u->is_paused;
	p->generation++;
	if (keeper_state_write_policy(k, &e) < 0)
		log_error("%s", e.text);
	if (was_paused != p->is_paused)
		keeper_state_write(k);
}

void keeper_policy_answer(struct keeper *k, uint64_t generation, const char *text)
{
	struct keeper_policy *p = &k->policy;
	struct keeper_update *u;

	if (!p->is_sent || generation != p->generation + 1) {
		keeper_end_bundle(k, "answered for a policy that it was not given");
		return;
	}
	loop_timer_del(k->loop, &p->timer);
	u = update_take(p);
	if (text) {
		char shown[256];

		text_visible_cstr(shown, sizeof(shown), str_of(text));
		log_error("the bundle refused a policy: %s", shown);
	} else {
		update_in_force(k, u);
	}
	u->done(k, !text, u->ctx);
	update_free(u);
	update_send(k);
}

void keeper_policy_end(struct keeper *k)
{
	struct keeper_policy *p = &k->policy;

	loop_timer_del(k->loop, &p->timer);
	while (p->first) {
		struct keeper_update *u = update_take(p);

		u->done(k, false, u->ctx);
		update_free(u);
	}
}
