#include "backend/backend.h"

#include <errno.h>
#include <stdio.h>

struct backend_check *backend_check_add(struct backend_check *checks, size_t *n, const char *name,
					bool is_ok, bool is_required, const char *text)
{
	struct backend_check *c = &checks[*n];

	/* The last one gives way. */
	if (*n + 1 < BACKEND_CHECKS_MAX)
		(*n)++;
	*c = (struct backend_check){.is_ok = is_ok, .is_required = is_required};
	(void)snprintf(c->name, sizeof(c->name), "%s", name);
	(void)snprintf(c->text, sizeof(c->text), "%s", text);
	return c;
}

int backend_checks_judge(const struct backend_check *checks, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		if (checks[i].is_required && !checks[i].is_ok)
			return err_set(e, -ENOTSUP, "%s: %s", checks[i].name, checks[i].text);
	}
	return 0;
}
