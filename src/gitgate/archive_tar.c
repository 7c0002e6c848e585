/*
 * Tar: v7, ustar, pax (POSIX.1-2001) and GNU's long names. Headers and padding are part of the
 * container's text. A block that is no header where one should be ends the walk: the rest is text.
 */
#include "gitgate/archive_int.h"

#include <errno.h>

enum { TAR_HEADER, TAR_DATA, TAR_NAMES, TAR_PAD };

#define BLOCK 512

/* Octal, or in base 256 (GNU). */
static uint64_t number(const uint8_t *p, size_t n)
{
	uint64_t v = 0;
	size_t i = 0;

	if (p[0] & 0x80) {
		for (i = n > 8 ? n - 8 : 1; i < n; i++)
			v = v << 8 | p[i];
		return v;
	}
	while (i < n && p[i] == ' ')
		i++;
	for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(p[i] - '0');
	return v;
}

bool archive_tar_is_header(const uint8_t *p)
{
	int64_t plain = 0, is_signed = 0;
	uint64_t want = number(p + 148, 8);

	if (p[0] == 0 && p[1] == 0 && memcmp(p + 257, "ustar", 5) != 0)
		return false;
	for (size_t i = 0; i < BLOCK; i++) {
		uint8_t b = i >= 148 && i < 156 ? ' ' : p[i];

		plain += b;
		is_signed += (int8_t)b;
	}
	return want && ((uint64_t)plain == want || is_signed == (int64_t)want);
}

static bool is_zero(const uint8_t *p)
{
	for (size_t i = 0; i < BLOCK; i++)
		if (p[i])
			return false;
	return true;
}

/* An entry's name and what it links to. */
static int names_tell(struct archive *a, unsigned level, const uint8_t *h)
{
	char path[100 + 155 + 2];
	size_t n = 0, k = strnlen((const char *)h, 100);
	int r;

	if (memcmp(h + 257, "ustar\0", 6) == 0 && h[345]) {
		n = strnlen((const char *)h + 345, 155);
		memcpy(path, h + 345, n);
		path[n++] = '/';
	}
	memcpy(path + n, h, k);
	r = archive_name(a, level, str_slice(path, n + k));
	return r < 0 ? r
		     : archive_name(a, level,
				    str_slice(h + 157, strnlen((const char *)h + 157, 100)));
}

static int header_read(struct archive *a, unsigned level)
{
	struct archive_node *n = a->node[level];
	const uint8_t *h = n->head;
	uint64_t size = number(h + 124, 12);
	int r;

	if (is_zero(h))
		return 0;
	if ((r = archive_text(a, level, str_slice(h, BLOCK))) < 0)
		return r;
	if (!archive_tar_is_header(h)) {
		n->type = ARCHIVE_TYPE_PLAIN;
		return 0;
	}
	if ((r = names_tell(a, level, h)) < 0)
		return r;
	n->kind = h[156];
	if (size == 0 || (n->kind >= '2' && n->kind <= '6'))
		return 0;
	n->left = size;
	n->pad = (BLOCK - size % BLOCK) % BLOCK;
	n->name_n = 0;
	n->state = TAR_DATA;
	if (n->kind && strchr("LKxgX", n->kind) && size <= ARCHIVE_NAME_MAX) {
		(void)archive_name_room(n);
		n->state = TAR_NAMES;
		return 0;
	}
	return archive_child_begin(a, level, "tar");
}

/* "17 path=some/name\n": the values are names, or may be. */
static int pax_tell(struct archive *a, unsigned level, struct str s)
{
	int r = 0;

	while (r == 0 && s.n > 0) {
		struct str count, record;
		bool found;
		uint64_t len;
		size_t eq;

		(void)str_cut(s, ' ', &count, &found);
		if (!found || str_to_u64(count, s.n, &len) < 0 || len <= count.n + 1)
			return archive_name(a, level, s);
		record = str_sub(s, count.n + 1, (size_t)len);
		eq = str_chr(record, '=');
		/* For what a header's own field does not hold. Attack: another size than there, for
		 * the others to see entries where we see an entry's data. */
		if (str_eq(str_sub(record, 0, eq), STR_LIT("size")) &&
		    (r = archive_limit(a, level, "unreadable-archive")) < 0)
			return r;
		r = archive_name(a, level, str_sub(record, eq + 1, record.n));
		s = str_sub(s, (size_t)len, s.n);
	}
	return r;
}

static int long_name_read(struct archive *a, unsigned level)
{
	struct archive_node *n = a->node[level];
	struct str s = str_slice(n->name, n->name_n);
	int r = archive_text(a, level, s);

	if (r < 0)
		return r;
	if (n->kind == 'L' || n->kind == 'K')
		return archive_name(a, level, str_sub(s, 0, str_chr(s, '\0')));
	return pax_tell(a, level, s);
}

static int data_feed(struct archive *a, unsigned level, struct str *in)
{
	struct archive_node *n = a->node[level];
	size_t k = n->left < in->n ? (size_t)n->left : in->n;
	struct str part = str_sub(*in, 0, k);
	int r = 0;

	if (n->state == TAR_NAMES) {
		memcpy(n->name + n->name_n, part.p, k);
		n->name_n += k;
	} else if (n->state == TAR_DATA) {
		r = archive_child_feed(a, level, part);
	} else {
		r = archive_text(a, level, part);
	}
	*in = str_sub(*in, k, in->n);
	n->left -= k;
	if (r < 0 || n->left)
		return r;
	if (n->state == TAR_NAMES)
		r = long_name_read(a, level);
	else if (n->state == TAR_DATA)
		r = archive_child_end(a, level);
	n->left = n->state == TAR_PAD ? 0 : n->pad;
	n->state = n->left ? TAR_PAD : TAR_HEADER;
	n->head_n = 0;
	return r;
}

int archive_tar_feed(struct archive *a, unsigned level, struct str in)
{
	struct archive_node *n = a->node[level];
	int r = 0;

	while (r == 0 && in.n > 0 && !a->is_stopped) {
		size_t k;

		if (n->type == ARCHIVE_TYPE_PLAIN)
			return archive_text(a, level, in);
		if (n->state != TAR_HEADER) {
			r = data_feed(a, level, &in);
			continue;
		}
		k = BLOCK - n->head_n < in.n ? BLOCK - n->head_n : in.n;
		memcpy(n->head + n->head_n, in.p, k);
		n->head_n += k;
		in = str_sub(in, k, in.n);
		if (n->head_n == BLOCK) {
			n->head_n = 0;
			r = header_read(a, level);
		}
	}
	return r;
}

int archive_tar_end(struct archive *a, unsigned level)
{
	struct archive_node *n = a->node[level];

	if (n->state == TAR_NAMES && n->name_n) /* cut short */
		return archive_text(a, level, str_slice(n->name, n->name_n));
	return n->state == TAR_HEADER ? archive_text(a, level, str_slice(n->head, n->head_n)) : 0;
}
