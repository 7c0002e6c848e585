/* The decompressors behind one face, and how a format is told by its first bytes. */
#include "gitgate/archive_int.h"

#include <errno.h>
#include <stdlib.h>
#include <zstd_errors.h>

/* Memory that a file may ask of its decompressor: what the formats' own tools write at most. */
#define XZ_MEMORY_MAX	(96ull << 20)
#define ZSTD_WINDOW_LOG 27

static int z_begin(struct archive_node *n, int window)
{
	int r = n->is_z_open ? inflateReset2(&n->z, window) : inflateInit2(&n->z, window);

	n->is_z_open = true;
	if (r != Z_OK)
		return -ENOMEM;
	if (n->codec != CODEC_GZIP)
		return 0;
	n->gz = (gz_header){.extra = n->gz_extra,
			    .extra_max = sizeof(n->gz_extra),
			    .name = n->gz_name,
			    .name_max = sizeof(n->gz_name),
			    .comment = n->gz_comment,
			    .comm_max = sizeof(n->gz_comment)};
	n->is_gz_told = false;
	return inflateGetHeader(&n->z, &n->gz) == Z_OK ? 0 : -EIO;
}

int archive_codec_begin(struct archive_node *n, enum archive_codec codec)
{
	n->codec = codec;
	switch (codec) {
	case CODEC_GZIP:
		return z_begin(n, 15 + 16);
	case CODEC_ZLIB:
		return z_begin(n, 15);
	case CODEC_BARE:
		return z_begin(n, -15);
	case CODEC_ZSTD:
		if (!n->zstd)
			n->zstd = ZSTD_createDCtx();
		if (!n->zstd || ZSTD_isError(ZSTD_DCtx_reset(n->zstd, ZSTD_reset_session_only)) ||
		    ZSTD_isError(
			    ZSTD_DCtx_setParameter(n->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG)))
			return -ENOMEM;
		return 0;
	case CODEC_BZIP2:
		if (n->is_bz_open)
			(void)BZ2_bzDecompressEnd(&n->bz);
		n->bz = (bz_stream){.next_in = NULL};
		n->is_bz_open = BZ2_bzDecompressInit(&n->bz, 0, 0) == BZ_OK;
		return n->is_bz_open ? 0 : -ENOMEM;
	case CODEC_XZ:
		if (!n->is_xz_open)
			n->xz = (lzma_stream)LZMA_STREAM_INIT;
		n->is_xz_open = true;
		return lzma_stream_decoder(&n->xz, XZ_MEMORY_MAX,
					   LZMA_CONCATENATED | LZMA_IGNORE_CHECK) == LZMA_OK
			       ? 0
			       : -ENOMEM;
	case CODEC_LZMA:
		if (!n->is_xz_open)
			n->xz = (lzma_stream)LZMA_STREAM_INIT;
		n->is_xz_open = true;
		return lzma_alone_decoder(&n->xz, XZ_MEMORY_MAX) == LZMA_OK ? 0 : -ENOMEM;
	case CODEC_NONE:
		break;
	}
	return 0;
}

void archive_codec_free(struct archive_node *n)
{
	if (n->is_z_open)
		(void)inflateEnd(&n->z);
	(void)ZSTD_freeDCtx(n->zstd);
	if (n->is_bz_open)
		(void)BZ2_bzDecompressEnd(&n->bz);
	if (n->is_xz_open)
		lzma_end(&n->xz);
}

static enum archive_step z_step(struct archive_node *n, const uint8_t *in, size_t in_n,
				size_t *used, size_t *made)
{
	int r;

	n->z.next_in = (uint8_t *)(uintptr_t)in;
	n->z.avail_in = (unsigned)in_n;
	n->z.next_out = n->out;
	n->z.avail_out = sizeof(n->out);
	r = inflate(&n->z, Z_NO_FLUSH);
	*used = in_n - n->z.avail_in;
	*made = sizeof(n->out) - n->z.avail_out;
	if (r == Z_STREAM_END)
		return STEP_END;
	if (r == Z_MEM_ERROR)
		return STEP_NO_MEMORY;
	/* Others do not look at a header's check and reserved flags. */
	if (r == Z_DATA_ERROR && n->codec == CODEC_GZIP && n->gz.done == 0)
		return STEP_BEYOND_US;
	return r == Z_OK || r == Z_BUF_ERROR ? STEP_MORE : STEP_BROKEN;
}

static enum archive_step zstd_step(struct archive_node *n, const uint8_t *in, size_t in_n,
				   size_t *used, size_t *made)
{
	ZSTD_inBuffer i = {in, in_n, 0};
	ZSTD_outBuffer o = {n->out, sizeof(n->out), 0};
	size_t r = ZSTD_decompressStream(n->zstd, &o, &i);

	*used = i.pos;
	*made = o.pos;
	if (ZSTD_getErrorCode(r) == ZSTD_error_memory_allocation)
		return STEP_NO_MEMORY;
	if (ZSTD_getErrorCode(r) == ZSTD_error_frameParameter_windowTooLarge ||
	    ZSTD_getErrorCode(r) == ZSTD_error_frameParameter_unsupported ||
	    ZSTD_getErrorCode(r) == ZSTD_error_version_unsupported ||
	    ZSTD_getErrorCode(r) == ZSTD_error_dictionary_wrong)
		return STEP_BEYOND_US;
	if (ZSTD_isError(r))
		return STEP_BROKEN;
	return r == 0 ? STEP_END : STEP_MORE;
}

static enum archive_step bz_step(struct archive_node *n, const uint8_t *in, size_t in_n,
				 size_t *used, size_t *made)
{
	int r;

	n->bz.next_in = (char *)(uintptr_t)in;
	n->bz.avail_in = (unsigned)in_n;
	n->bz.next_out = (char *)n->out;
	n->bz.avail_out = sizeof(n->out);
	r = BZ2_bzDecompress(&n->bz);
	*used = in_n - n->bz.avail_in;
	*made = sizeof(n->out) - n->bz.avail_out;
	if (r == BZ_STREAM_END)
		return STEP_END;
	if (r == BZ_MEM_ERROR)
		return STEP_NO_MEMORY;
	return r == BZ_OK ? STEP_MORE : STEP_BROKEN;
}

static enum archive_step xz_step(struct archive_node *n, const uint8_t *in, size_t in_n,
				 size_t *used, size_t *made)
{
	lzma_ret r;

	n->xz.next_in = in;
	n->xz.avail_in = in_n;
	n->xz.next_out = n->out;
	n->xz.avail_out = sizeof(n->out);
	r = lzma_code(&n->xz, LZMA_RUN);
	*used = in_n - n->xz.avail_in;
	*made = sizeof(n->out) - n->xz.avail_out;
	if (r == LZMA_STREAM_END)
		return STEP_END;
	if (r == LZMA_MEMLIMIT_ERROR || r == LZMA_OPTIONS_ERROR)
		return STEP_BEYOND_US;
	if (r == LZMA_MEM_ERROR)
		return STEP_NO_MEMORY;
	return r == LZMA_OK || r == LZMA_BUF_ERROR ? STEP_MORE : STEP_BROKEN;
}

enum archive_step archive_codec_step(struct archive_node *n, const uint8_t *in, size_t in_n,
				     size_t *used, size_t *made)
{
	*used = *made = 0;
	switch (n->codec) {
	case CODEC_GZIP:
	case CODEC_ZLIB:
	case CODEC_BARE:
		return z_step(n, in, in_n, used, made);
	case CODEC_ZSTD:
		return zstd_step(n, in, in_n, used, made);
	case CODEC_BZIP2:
		return bz_step(n, in, in_n, used, made);
	case CODEC_XZ:
	case CODEC_LZMA:
		return xz_step(n, in, in_n, used, made);
	case CODEC_NONE:
		break;
	}
	return STEP_BROKEN;
}

bool archive_codec_is_over(struct archive_node *n)
{
	if (n->codec != CODEC_XZ) /* the others say so */
		return false;
	n->xz.avail_in = 0;
	n->xz.next_out = n->out;
	n->xz.avail_out = sizeof(n->out);
	return lzma_code(&n->xz, LZMA_FINISH) == LZMA_STREAM_END;
}

/* RFC 1950 section 2.2. */
static bool is_zlib_head(const uint8_t *p)
{
	return (p[0] & 0x8f) == 0x08 && (p[0] >> 4) <= 7 && (p[0] * 256 + p[1]) % 31 == 0 &&
	       (p[1] & 0x20) == 0;
}

/* The .lzma format (as XZ Utils' lzma-file-format.txt has it): properties, the dictionary's size,
 * 2^n or 2^n + 2^(n-1), and the text's, of which nothing is known or which is no more than a disk
 * holds; then a zero that the range coder begins with. */
static bool is_lzma_head(const uint8_t *p, size_t n)
{
	static const uint8_t unknown[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint32_t dictionary, top;

	if (n < 16 || p[0] >= 9 * 5 * 5 || p[13] != 0)
		return false;
	dictionary = archive_le32(p + 1);
	top = dictionary & (dictionary - 1);
	if (dictionary < 4096 || (top & (top - 1)) || (top && (dictionary ^ top) != top >> 1))
		return false;
	return memcmp(p + 5, unknown, 8) == 0 ||
	       (archive_le32(p + 5) && !p[9] && !p[10] && !p[11] && !p[12]);
}

enum archive_type archive_sniff(const uint8_t *p, size_t n)
{
	static const struct {
		const char *magic;
		size_t n;
		enum archive_type type;
	} magics[] = {
		{"\x1f\x8b\x08", 3, ARCHIVE_TYPE_GZIP},
		{"\x28\xb5\x2f\xfd", 4, ARCHIVE_TYPE_ZSTD},
		{"BZh", 3, ARCHIVE_TYPE_BZIP2},
		{"\xfd"
		 "7zXZ\0",
		 6, ARCHIVE_TYPE_XZ},
		{"PK\3\4", 4, ARCHIVE_TYPE_ZIP},
		{"PK\7\10PK\3\4", 8, ARCHIVE_TYPE_ZIP}, /* the first of a set of volumes */
		{"\x02\x21\x4c\x18", 4, ARCHIVE_TYPE_UNREADABLE}, /* lz4 -l */
		{"7z\xbc\xaf\x27\x1c", 6, ARCHIVE_TYPE_UNREADABLE},
		{"Rar!\x1a\x07", 6, ARCHIVE_TYPE_UNREADABLE},
		{"\x04\x22\x4d\x18", 4, ARCHIVE_TYPE_UNREADABLE}, /* lz4 */
		{"LZIP\1", 5, ARCHIVE_TYPE_UNREADABLE},
		{"\x89LZO\0\r\n\x1a\n", 9, ARCHIVE_TYPE_UNREADABLE},
		{"LRZI", 4, ARCHIVE_TYPE_UNREADABLE},
		{"MSCF\0\0\0\0", 8, ARCHIVE_TYPE_UNREADABLE}, /* cabinet */
	};

	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
		if (n >= magics[i].n && memcmp(p, magics[i].magic, magics[i].n) == 0)
			return magics[i].type;
	if (n >= 4 && (archive_le32(p) & 0xfffffff0u) == 0x184d2a50u) /* a frame to be skipped */
		return ARCHIVE_TYPE_ZSTD;
	/* zstd's formats before its first release */
	if (n >= 4 && ((p[0] >= 0x22 && p[0] <= 0x27) || p[0] == 0x1e) &&
	    memcmp(p + 1, "\xb5\x2f\xfd", 3) == 0)
		return ARCHIVE_TYPE_UNREADABLE;
	if (n >= 3 && p[0] == 0x1f && p[1] == 0x9d && (p[2] & 0x60) == 0) /* compress */
		return ARCHIVE_TYPE_UNREADABLE;
	if (n >= 512 && archive_tar_is_header(p))
		return ARCHIVE_TYPE_TAR;
	if (n >= 16 && is_zlib_head(p))
		return ARCHIVE_TYPE_ZLIB;
	if (is_lzma_head(p, n))
		return ARCHIVE_TYPE_LZMA;
	return ARCHIVE_TYPE_PLAIN;
}

bool archive_is_any(struct str head)
{
	return archive_sniff((const uint8_t *)head.p,
			     head.n < ARCHIVE_HEAD_BYTES ? head.n : ARCHIVE_HEAD_BYTES) !=
	       ARCHIVE_TYPE_PLAIN;
}
