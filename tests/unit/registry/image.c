#include "image.h"

#include "base/clean.h"
#include "base/mem.h"

#include <sys/mman.h>

char image_byte(size_t at)
{
	return (char)(at * 31 + (at >> 13));
}

static int file_of(const char *data, size_t n)
{
	int fd = memfd_create("blob", MFD_CLOEXEC);

	assert_true(fd >= 0);
	for (size_t done = 0; done < n;) {
		ssize_t wrote = write(fd, data + done, n - done);

		assert_true(wrote > 0);
		done += (size_t)wrote;
	}
	return fd;
}

void image_make(struct image *i)
{
	_cleanup_free_ char *large = mem_zalloc(IMAGE_LARGE);

	for (size_t at = 0; at < IMAGE_LARGE; at++)
		large[at] = image_byte(at);
	i->fds[0] = file_of(IMAGE_MANIFEST, strlen(IMAGE_MANIFEST));
	i->fds[1] = file_of(IMAGE_CONFIG, strlen(IMAGE_CONFIG));
	i->fds[2] = file_of(large, IMAGE_LARGE);
	i->fds[3] = file_of(SMALL_LAYER, strlen(SMALL_LAYER));
	i->argv[0] = mem_strdup(IMAGE_NAME);
	i->argv[1] = mem_strdup(IMAGE_TAG);
	i->argv[2] = mem_printf("manifest=%d," MANIFEST_DIGEST ",%zu", i->fds[0],
				strlen(IMAGE_MANIFEST));
	i->argv[3] = mem_printf("config=%d," CONFIG_DIGEST ",%zu", i->fds[1], strlen(IMAGE_CONFIG));
	i->argv[4] = mem_printf("layer=%d," LARGE_DIGEST ",%u", i->fds[2], IMAGE_LARGE);
	i->argv[5] = mem_printf("layer=%d," SMALL_DIGEST ",%zu", i->fds[3], strlen(SMALL_LAYER));
}

void image_free(struct image *i)
{
	for (size_t k = 0; k < ARRAY_LEN(i->fds); k++)
		close_fd(&i->fds[k]);
	for (size_t k = 0; k < ARRAY_LEN(i->argv); k++)
		free(i->argv[k]);
}
