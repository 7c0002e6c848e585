#include "engine/engine.h"

#include <errno.h>

ssize_t engine_demux_next(struct engine_demux *d, struct str in, enum engine_stream_id *id,
			  struct str *data)
{
	size_t used = 0, run;

	*id = d->id;
	*data = STR_NULL;
	/* Frames of no bytes are allowed and carry nothing. */
	while (d->left == 0) {
		run = sizeof(d->head) - d->n_head;
		if (run > in.n - used)
			run = in.n - used;
		if (run > 0)
			memcpy(d->head + d->n_head, in.p + used, run);
		d->n_head += run;
		used += run;
		if (d->n_head < sizeof(d->head))
			return (ssize_t)used;
		if (d->head[0] > ENGINE_STDERR || d->head[1] || d->head[2] || d->head[3])
			return -EPROTO;
		d->id = (enum engine_stream_id)d->head[0];
		d->left = (uint32_t)d->head[4] << 24 | (uint32_t)d->head[5] << 16 |
			  (uint32_t)d->head[6] << 8 | d->head[7];
		d->n_head = 0;
	}
	run = d->left < in.n - used ? d->left : in.n - used;
	*id = d->id;
	*data = str_sub(in, used, used + run);
	d->left -= (uint32_t)run;
	return (ssize_t)(used + run);
}
