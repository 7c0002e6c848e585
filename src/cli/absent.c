/* Stands in for what this build lacks; any real definition wins. */
#include "backend/backend.h"
#include "backend/keeper.h"
#include "conf/plan.h"

#include <errno.h>

#define WEAK __attribute__((weak))

WEAK int plan_make(struct plan *out, const struct plan_options *opt, struct err *e)
{
	(void)opt;
	*out = (struct plan){0};
	return err_set(e, -ENOSYS, "manifests are not in this build");
}
WEAK void plan_free(struct plan *p)
{
	(void)p;
}
WEAK int plan_print_text(const struct plan *p, struct buf *out)
{
	(void)p;
	(void)out;
	return -ENOSYS;
}
WEAK int plan_print_json(const struct plan *p, struct buf *out)
{
	(void)p;
	(void)out;
	return -ENOSYS;
}
WEAK int plan_list_agents(const char *home, const char *cwd, struct plan_agent_info **out,
			  size_t *n, struct err *e)
{
	(void)home;
	(void)cwd;
	*out = NULL;
	*n = 0;
	return err_set(e, -ENOSYS, "manifests are not in this build");
}
WEAK const char *plan_backend_name(enum plan_backend b)
{
	static const char *const names[] = {"unset", "native", "docker", "smolmachines", "qemu"};

	return b < PLAN_BACKEND_COUNT ? names[b] : "?";
}
WEAK int plan_backend_parse(struct str name, enum plan_backend *out, struct err *e)
{
	for (unsigned b = PLAN_BACKEND_NATIVE; b < PLAN_BACKEND_COUNT; b++) {
		*out = (enum plan_backend)b;
		if (str_eq(name, str_of(plan_backend_name(*out))))
			return 0;
	}
	return err_set(e, -EINVAL, "unknown backend");
}
WEAK int keeper_spawn(const struct keeper_start *s, int *ready_fd, struct err *e)
{
	(void)s;
	*ready_fd = -1;
	return err_set(e, -ENOSYS, "no backend is in this build");
}
WEAK const struct backend *backend_find(enum plan_backend b)
{
	(void)b;
	return NULL;
}
