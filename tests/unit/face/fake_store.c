#include "base/text.h"
#include "requests/manifest_edit.h"
#include "requests/store.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
void request_free(struct request *r)
{
	free(r->change.route.host);
	free(r->change.route.paths[0]);
	free(r->change.route.paths);
}
void change_summary(const struct change *c, char *out, size_t size)
{
	(void)snprintf(out, size, "GET, POST https://%s/**", c->route.host);
}
int change_to_json(const struct change *c, struct buf *out)
{
	return buf_printf(out,
			  "{\"kind\":\"egress\",\"host\":\"%s\",\"ports\":[443],\"methods\":["
			  "\"GET\",\"POST\"],\"paths\":[\"/**\"]}",
			  c->route.host);
}
const char *danger_level_name(enum danger_level l)
{
	return l == DANGER_NEVER ? "never" : l == DANGER_WARN ? "warning" : "note";
}
int danger_to_json(const struct danger *d, struct buf *out)
{
	int r = buf_printf(out, "[");
	for (size_t i = 0; r == 0 && i < d->n; i++)
		r = buf_printf(out, "%s{\"rule\":\"x\",\"level\":\"%s\",\"text\":\"%s\"}",
			       i ? "," : "", danger_level_name(d->findings[i].level),
			       d->findings[i].text);
	return r == 0 ? buf_printf(out, "]") : r;
}
int manifest_edit_make(struct manifest_edit *out, const char *path, const struct change *c,
		       struct err *e)
{
	(void)c;
	(void)out;
	return err_set(e, -EINVAL, "%s: cannot be edited", path);
}
void manifest_edit_free(struct manifest_edit *m)
{
	(void)m;
}
int manifest_edit_diff(const struct manifest_edit *m, const char *path, struct buf *out)
{
	(void)m;
	(void)path;
	(void)out;
	return -EINVAL;
}
