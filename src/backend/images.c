#include "backend/images.h"

size_t backend_images_all(const struct backend_images *out[PLAN_BACKEND_COUNT])
{
	size_t n = 0;

	for (unsigned id = PLAN_BACKEND_UNSET + 1; id < PLAN_BACKEND_COUNT; id++) {
		const struct backend *b = backend_find((enum plan_backend)id);
		bool is_new = b && b->images;

		for (size_t i = 0; is_new && i < n; i++)
			is_new = out[i] != b->images;
		if (is_new)
			out[n++] = b->images;
	}
	return n;
}
