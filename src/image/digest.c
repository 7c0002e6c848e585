#include "image/digest.h"

#include "base/cache.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Its number changes with image_program_trim(), and with the lines below. */
#define DIGEST_FORMAT  "claude-bottle program digest 1"
#define DIGEST_KEY_MAX 256
#define DIGEST_DIGITS  (DIGEST_SIZE - 1)
/* Two writes within one tick of a file system's clock leave the same time; the coarsest tick is of
 * two seconds. */
#define DIGEST_SETTLE_NS (2 * TIME_NS_PER_SEC)

static char known_key[DIGEST_KEY_MAX], known_hex[DIGEST_SIZE];

static void digest_key(char out[DIGEST_KEY_MAX], const struct stat *st)
{
	(void)snprintf(out, DIGEST_KEY_MAX,
		       DIGEST_FORMAT "\n%" PRIuMAX " %" PRIuMAX " %" PRIdMAX " %" PRIdMAX
				     ".%09ld %" PRIdMAX ".%09ld\n",
		       (uintmax_t)st->st_dev, (uintmax_t)st->st_ino, (intmax_t)st->st_size,
		       (intmax_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
		       (intmax_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

/* The text behind the key, and a line's end behind it. */
static bool digest_take(struct str text, const char *key, char hex[DIGEST_SIZE])
{
	size_t n = strlen(key);
	struct str digits = str_sub(text, n, n + DIGEST_DIGITS);

	if (text.n != n + DIGEST_DIGITS + 1 || !str_starts(text, str_of(key)) ||
	    text.p[text.n - 1] != '\n')
		return false;
	for (size_t i = 0; i < digits.n; i++) {
		if (!ascii_is_digit(digits.p[i]) && (digits.p[i] < 'a' || digits.p[i] > 'f'))
			return false;
	}
	return str_to_cstr(hex, DIGEST_SIZE, digits);
}

static bool digest_read(const char *key, char hex[DIGEST_SIZE])
{
	_cleanup_close_ int folder = cache_open(), fd = -1;
	char text[DIGEST_KEY_MAX + DIGEST_SIZE + 1];
	struct stat st;
	ssize_t n;

	if (folder < 0)
		return false;
	/* A FIFO would make the opening wait. */
	fd = openat(folder, DIGEST_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    (st.st_mode & 0077))
		return false;
	n = read(fd, text, sizeof(text));
	return n > 0 && digest_take(str_slice(text, (size_t)n), key, hex);
}

static void digest_remember(const char *key, const char *hex)
{
	(void)snprintf(known_key, sizeof(known_key), "%s", key);
	(void)snprintf(known_hex, sizeof(known_hex), "%s", hex);
}

bool digest_find(const struct stat *st, char hex[DIGEST_SIZE])
{
	char key[DIGEST_KEY_MAX];

	digest_key(key, st);
	if (strcmp(key, known_key) != 0) {
		if (!digest_read(key, hex))
			return false;
		digest_remember(key, hex);
	}
	(void)snprintf(hex, DIGEST_SIZE, "%s", known_hex);
	return true;
}

bool digest_is_settled(const struct stat *st)
{
	uint64_t changed_ns =
		(uint64_t)st->st_ctim.tv_sec * TIME_NS_PER_SEC + (uint64_t)st->st_ctim.tv_nsec;

	return st->st_ctim.tv_sec >= 0 && changed_ns + DIGEST_SETTLE_NS < time_realtime_ns();
}

void digest_keep(const struct stat *before, const struct stat *after, const char *hex)
{
	char key[DIGEST_KEY_MAX], now[DIGEST_KEY_MAX], text[DIGEST_KEY_MAX + DIGEST_SIZE + 1];
	_cleanup_close_ int folder = -1;

	digest_key(key, before);
	digest_key(now, after);
	if (strcmp(key, now) != 0 || !digest_is_settled(after))
		return;
	digest_remember(key, hex);
	folder = cache_open();
	if (folder < 0)
		return;
	(void)snprintf(text, sizeof(text), "%s%s\n", key, hex);
	(void)!io_write_file_atomic(folder, DIGEST_FILE, str_of(text), 0600, NULL);
}
