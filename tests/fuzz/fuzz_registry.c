/* What is asked of a registry: a path, and behind a line's end a range. Whatever is handed out was
 * named in full, and lies within its blob. */
#include "fuzz.h"

#include "registry/blobs.h"

#include <stdlib.h>

#define DIGEST "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define SIZE   1000

static const struct blobs one_image = {
	.name = "claude-bottle/agent",
	.tag = "bottle",
	.n = 2,
	.blobs = {{.kind = BLOBS_MANIFEST, .fd = -1, .digest = DIGEST, .size = SIZE},
		  {.kind = BLOBS_LAYER, .fd = -1, .digest = DIGEST, .size = SIZE}},
};

static void check_find(struct str path)
{
	const struct blobs_one *b;
	enum blobs_answer answer = blobs_find(&one_image, path, &b);

	if ((answer == BLOBS_FOUND) != (b != NULL))
		abort();
	if (answer != BLOBS_FOUND)
		return;
	if (b->kind == BLOBS_LAYER
		    ? !str_eq(path, STR_LIT("/v2/claude-bottle/agent/blobs/" DIGEST))
		    : !str_eq(path, STR_LIT("/v2/claude-bottle/agent/manifests/" DIGEST)) &&
			      !str_eq(path, STR_LIT("/v2/claude-bottle/agent/manifests/bottle")))
		abort();
}

static void check_range(struct str value, uint64_t size)
{
	uint64_t from, to;

	switch (blobs_range(value, size, &from, &to)) {
	case BLOBS_PART:
		if (from >= to || to > size)
			abort();
		break;
	case BLOBS_WHOLE:
	case BLOBS_OUTSIDE:
		if (from != 0 || to != size)
			abort();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str path, range;
	bool found;

	range = str_cut(str_slice(data, n), '\n', &path, &found);
	check_find(path);
	check_range(range, SIZE);
	check_range(range, 0);
	return 0;
}
