#include "requests/manifest_edit.h"

#include <errno.h>

int manifest_edit_make(struct manifest_edit *out, const char *path, const struct change *c,
		       struct err *e)
{
	(void)path;
	(void)c;
	*out = (struct manifest_edit){0};
	return err_set(e, -EINVAL, "the manifest cannot be edited yet");
}

void manifest_edit_free(struct manifest_edit *m)
{
	buf_free(&m->before);
	buf_free(&m->after);
}

int manifest_edit_diff(const struct manifest_edit *m, const char *path, struct buf *out)
{
	(void)m;
	(void)path;
	(void)out;
	return -EINVAL;
}

int manifest_edit_write(const struct manifest_edit *m, const char *path, struct err *e)
{
	(void)m;
	(void)path;
	return err_set(e, -EINVAL, "the manifest cannot be edited yet");
}
