/*
 * Zip (APPNOTE.TXT), by its local headers, in the order in which they stand: the central directory
 * at the end is part of the container's text. Whatever lies between entries is text as well, and is
 * searched for the next header: data descriptors, what was put in front or behind, entries whose
 * size is not known. A directory that points into the middle of another entry finds there only what
 * has been looked at as that entry.
 *
 * Attack: most programs believe the directory, so a local header may lie to us. An entry that does
 * not decompress by its method, or not to the size that is told, or that is not followed by another
 * header, is one that we could not read.
 */
#include "gitgate/archive_int.h"

#include <errno.h>

enum { ZIP_GAP, ZIP_HEADER, ZIP_STORED, ZIP_PACKED, ZIP_SKIP };

#define HEADER_BYTES	 30
#define DESCRIPTOR_BYTES 24 /* the longest data descriptor; its own magic number is optional */

static const uint8_t zip_magic[4] = {'P', 'K', 3, 4};

/* Bytes until the next header's magic number is complete; head_n counts how much of it has been. */
static size_t gap_length(struct archive_node *n, const uint8_t *p, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (n->head_n == 0) {
			const uint8_t *q = memchr(p + i, 'P', size - i);

			if (!q)
				return size;
			i = (size_t)(q - p);
		}
		if (p[i] == zip_magic[n->head_n])
			n->head_n++;
		else
			n->head_n = p[i] == 'P' ? 1 : 0;
		if (n->head_n == 4)
			return i + 1;
	}
	return size;
}

/* An entry is over: one more magic number comes at once, or behind a descriptor. n->left counts
 * what has come, n->kind is the last byte of it. */
static int next_look(struct archive *a, unsigned level, struct str in)
{
	struct archive_node *n = a->node[level];

	for (size_t i = 0; i < in.n && n->is_next_due; i++) {
		uint8_t b = (uint8_t)in.p[i];

		if (n->left > 0 && n->kind == 'P' && b == 'K') {
			n->is_next_due = false;
		} else if (n->left++ > n->pad) {
			n->is_next_due = false;
			return archive_limit(a, level, "unreadable-archive");
		}
		n->kind = b;
	}
	return 0;
}

static int gap_feed(struct archive *a, unsigned level, struct str *in)
{
	struct archive_node *n = a->node[level];
	int r = next_look(a, level, *in);
	size_t k;

	if (r < 0)
		return r;
	k = gap_length(n, (const uint8_t *)in->p, in->n);
	r = archive_text(a, level, str_sub(*in, 0, k));
	*in = str_sub(*in, k, in->n);
	if (n->head_n == 4) {
		memcpy(archive_name_room(n), zip_magic, 4);
		n->name_n = 4;
		n->head_n = 0;
		n->state = ZIP_HEADER;
	}
	return r;
}

/* Zip64: sizes that do not fit the header stand in an extra field. */
static bool zip64_size(const uint8_t *extra, size_t n, bool has_plain_size, uint64_t *size)
{
	while (n >= 4) {
		size_t len = archive_le16(extra + 2), at = has_plain_size ? 8 : 0;

		if (len > n - 4)
			return false;
		if (archive_le16(extra) == 1 && len >= at + 8) {
			*size = (uint64_t)archive_le32(extra + 4 + at) |
				(uint64_t)archive_le32(extra + 8 + at) << 32;
			return true;
		}
		extra += 4 + len;
		n -= 4 + len;
	}
	return false;
}

static enum archive_codec method_codec(unsigned method)
{
	return method == 8    ? CODEC_BARE
	       : method == 12 ? CODEC_BZIP2
	       : method == 93 ? CODEC_ZSTD
	       : method == 95 ? CODEC_XZ
			      : CODEC_NONE;
}

static void gap_begin(struct archive_node *n, bool is_next_due)
{
	n->state = ZIP_GAP;
	n->is_next_due = is_next_due;
	n->left = 0;
}

/* The header is complete: what follows it. */
static int entry_begin(struct archive *a, unsigned level)
{
	struct archive_node *n = a->node[level];
	const uint8_t *h = n->name;
	unsigned flags = archive_le16(h + 6), method = archive_le16(h + 8);
	size_t name_n = archive_le16(h + 26), extra_n = archive_le16(h + 28);
	bool is_open_ended = flags & 8;
	uint64_t size = archive_le32(h + 18);
	int r = archive_name(a, level, str_slice(h + HEADER_BYTES, name_n));

	if (size == UINT32_MAX && !zip64_size(h + HEADER_BYTES + name_n, extra_n,
					      archive_le32(h + 22) == UINT32_MAX, &size))
		is_open_ended = true;
	is_open_ended = is_open_ended && (size == 0 || size == UINT32_MAX);
	n->left = is_open_ended ? UINT64_MAX : size;
	n->name_n = 0;
	n->pad = flags & 8 ? DESCRIPTOR_BYTES : 0;
	if (r < 0 || n->left == 0 || (method == 0 && is_open_ended && !(flags & 1))) {
		/* Stored and of unknown size: more than a descriptor is more than is known. */
		gap_begin(n, true);
		return r;
	}
	if (flags & 1 || (method != 0 && method_codec(method) == CODEC_NONE)) {
		/* Whatever size it tells, what follows is searched for headers. */
		gap_begin(n, false);
		return archive_limit(a, level, "unreadable-archive");
	}
	if (method == 0) {
		n->state = ZIP_STORED;
		return archive_child_begin(a, level, "zip");
	}
	n->state = ZIP_PACKED;
	if ((r = archive_codec_begin(n, method_codec(method))) < 0)
		return r;
	return archive_child_begin(a, level, "zip");
}

static int header_feed(struct archive *a, unsigned level, struct str *in)
{
	struct archive_node *n = a->node[level];
	size_t want = HEADER_BYTES, k;
	int r;

	if (n->name_n >= HEADER_BYTES)
		want += (size_t)archive_le16(n->name + 26) + archive_le16(n->name + 28);
	if (want > ARCHIVE_NAME_MAX) {
		gap_begin(n, false);
		n->name_n = 0;
		return archive_limit(a, level, "unreadable-archive");
	}
	k = want - n->name_n < in->n ? want - n->name_n : in->n;
	memcpy(n->name + n->name_n, in->p, k);
	n->name_n += k;
	if ((r = archive_text(a, level, str_sub(*in, 0, k))) < 0)
		return r;
	*in = str_sub(*in, k, in->n);
	if (n->name_n < HEADER_BYTES)
		return 0;
	want = HEADER_BYTES + (size_t)archive_le16(n->name + 26) + archive_le16(n->name + 28);
	return n->name_n == want ? entry_begin(a, level) : 0;
}

/* n->left of it have not been taken, and are text. */
static int entry_end(struct archive *a, unsigned level)
{
	struct archive_node *n = a->node[level];

	if (n->left && n->left != UINT64_MAX)
		n->state = ZIP_SKIP;
	else
		gap_begin(n, true);
	return archive_child_end(a, level);
}

static int packed_feed(struct archive *a, unsigned level, struct str *in)
{
	struct archive_node *n = a->node[level];
	size_t k = n->left < in->n ? (size_t)n->left : in->n, used;
	bool is_known = n->left != UINT64_MAX;
	enum archive_step step;
	int r = archive_unpack(a, level, str_sub(*in, 0, k), &used, &step);

	if (r < 0 || a->is_stopped)
		return r;
	/* What a broken entry had in this piece is text, all of it. */
	if (step == STEP_BROKEN || step == STEP_BEYOND_US)
		used = 0;
	*in = str_sub(*in, used, in->n);
	n->left -= is_known ? used : 0;
	if (step == STEP_MORE && is_known && n->left == 0 && archive_codec_is_over(n))
		step = STEP_END;
	if (step == STEP_MORE && !(is_known && n->left == 0))
		return 0;
	if ((step != STEP_END || (is_known && n->left)) &&
	    (r = archive_limit(a, level, "unreadable-archive")) < 0)
		return r;
	return entry_end(a, level);
}

static int sized_feed(struct archive *a, unsigned level, struct str *in)
{
	struct archive_node *n = a->node[level];
	size_t k = n->left < in->n ? (size_t)n->left : in->n;
	int r = n->state == ZIP_STORED ? archive_child_feed(a, level, str_sub(*in, 0, k))
				       : archive_text(a, level, str_sub(*in, 0, k));

	*in = str_sub(*in, k, in->n);
	n->left -= k;
	if (r < 0 || n->left)
		return r;
	return entry_end(a, level);
}

int archive_zip_feed(struct archive *a, unsigned level, struct str in)
{
	struct archive_node *n = a->node[level];
	int r = 0;

	while (r == 0 && in.n > 0 && !a->is_stopped) {
		if (n->state == ZIP_GAP)
			r = gap_feed(a, level, &in);
		else if (n->state == ZIP_HEADER)
			r = header_feed(a, level, &in);
		else if (n->state == ZIP_PACKED)
			r = packed_feed(a, level, &in);
		else
			r = sized_feed(a, level, &in);
	}
	return r;
}

int archive_zip_end(struct archive *a, unsigned level)
{
	(void)a;
	(void)level;
	return 0; /* whatever came has been handed on */
}
