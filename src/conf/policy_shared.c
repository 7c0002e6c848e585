#include "conf/policy_shared.h"

#include "base/clean.h"
#include "base/mem.h"

struct policy_shared *policy_shared_new(struct policy *p)
{
	struct policy_shared *s = mem_zalloc(sizeof(*s));

	*s = (struct policy_shared){.policy = p, .n_users = 1};
	return s;
}

struct policy_shared *policy_shared_use(struct policy_shared *s)
{
	s->n_users++;
	return s;
}

void policy_shared_drop(struct policy_shared **at)
{
	struct policy_shared *s = take_ptr(at);

	if (!s || --s->n_users > 0)
		return;
	policy_free(s->policy);
	free(s->policy);
	free(s);
}
