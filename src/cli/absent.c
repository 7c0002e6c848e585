/* Stands in for what this build lacks; any real definition wins. */
#include "backend/backend.h"
#include "backend/keeper.h"

#include <errno.h>

#define WEAK __attribute__((weak))

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
