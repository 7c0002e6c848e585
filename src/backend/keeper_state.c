#include "backend/keeper_int.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timeutil.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define STATE_JSON_MAX (16u << 20)

int keeper_write_file(int dirfd, const char *name, struct str data, struct err *e)
{
	_cleanup_free_ char *tmp = mem_printf("%s.new", name);
	_cleanup_close_ int fd =
		openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int ret;

	if (fd < 0)
		return err_errno(e, "create \"%s\"", name);
	ret = io_write_all(fd, data.p, data.n);
	if (ret == 0 && renameat(dirfd, tmp, dirfd, name) < 0)
		ret = -errno;
	if (ret < 0) {
		(void)unlinkat(dirfd, tmp, 0);
		errno = -ret;
		return err_errno(e, "write \"%s\"", name);
	}
	return 0;
}

static json_t *text_or_null(const char *s)
{
	json_t *j = s && s[0] ? json_string(s) : NULL; /* NULL for what is not UTF-8 */

	return j ? j : json_null();
}

json_t *keeper_state_json(const struct keeper *k)
{
	char started[TIME_RFC3339_SIZE];

	time_format_rfc3339(k->started_ns, started);
	return json_pack(
		"{s:i, s:o, s:o, s:o, s:s, s:i, s:s, s:s, s:o, s:o, s:b, s:o, s:b, s:b, s:o}",
		"version", 1, "slug", text_or_null(k->plan->slug), "agent",
		text_or_null(k->plan->agent), "bottle", text_or_null(k->plan->bottle), "backend",
		k->backend->name, "pid", (int)getpid(), "started", started, "state", k->state,
		"exit_status", k->exit_status < 0 ? json_null() : json_integer(k->exit_status),
		"reason", text_or_null(k->reason), "tty", (int)k->agent.has_tty, "limits",
		text_or_null(k->limits), "supervised", (int)k->plan->is_supervised, "paused",
		(int)k->policy.is_paused, "manifest", text_or_null(k->plan->manifest_file));
}

void keeper_state_write(const struct keeper *k)
{
	json_t *state = keeper_state_json(k);
	_cleanup_free_ char *text = state ? json_dumps(state, JSON_INDENT(1)) : NULL;
	struct err e = ERR_INIT;

	json_decref(state);
	if (!text)
		log_error("bottle.json: not UTF-8");
	else if (keeper_write_file(k->state_fd, "bottle.json", str_of(text), &e) < 0)
		log_error("%s", e.text);
}

int keeper_state_write_policy(const struct keeper *k, struct err *e)
{
	_cleanup_(buf_free) struct buf text;
	int ret;

	buf_init(&text, STATE_JSON_MAX);
	ret = policy_to_json(&k->policy.policy, &text, e);
	return ret == 0 ? keeper_write_file(k->state_fd, "policy.json", buf_str(&text), e) : ret;
}

int keeper_state_write_plan(const struct keeper *k, struct err *e)
{
	_cleanup_(buf_free) struct buf text;
	int ret;

	buf_init(&text, STATE_JSON_MAX);
	if (plan_print_json(k->plan, &text) < 0)
		return err_set(e, -E2BIG, "the plan is too large");
	ret = keeper_write_file(k->state_fd, "plan.json", buf_str(&text), e);
	if (ret == 0)
		ret = keeper_state_write_policy(k, e);
	buf_reset(&text);
	if (ret == 0)
		ret = git_policy_to_json(&k->plan->git, &text, e);
	if (ret == 0)
		ret = keeper_write_file(k->state_fd, "git.json", buf_str(&text), e);
	return ret;
}
