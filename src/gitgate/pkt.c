#include "gitgate/pkt.h"

#include <errno.h>
#include <stdio.h>

/* -1: not four hex digits. */
static int pkt_length(const char *p)
{
	int length = 0;

	for (int i = 0; i < PKT_HEAD_BYTES; i++) {
		int digit = ascii_hex_value(p[i]);

		if (digit < 0)
			return -1;
		length = length << 4 | digit;
	}
	return length;
}

enum pkt_kind pkt_next(struct str in, struct str *data, size_t *used)
{
	int length;

	*data = STR_NULL;
	*used = 0;
	if (in.n < PKT_HEAD_BYTES) {
		for (size_t i = 0; i < in.n; i++) {
			if (ascii_hex_value(in.p[i]) < 0)
				return PKT_BAD;
		}
		return PKT_MORE;
	}
	length = pkt_length(in.p);
	if (length < 0 || length == 3 || length > PKT_MAX_BYTES)
		return PKT_BAD;
	if (length < PKT_HEAD_BYTES) {
		*used = PKT_HEAD_BYTES;
		return length == 0 ? PKT_FLUSH : length == 1 ? PKT_DELIM : PKT_END;
	}
	if (in.n < (size_t)length)
		return PKT_MORE;
	*used = (size_t)length;
	*data = str_sub(in, PKT_HEAD_BYTES, (size_t)length);
	return PKT_DATA;
}

int pkt_write(struct buf *out, struct str data)
{
	char head[PKT_HEAD_BYTES + 1];
	int ret;

	if (data.n > PKT_DATA_MAX)
		return -EMSGSIZE;
	if (buf_room(out) < data.n + PKT_HEAD_BYTES)
		return -ENOBUFS;
	(void)snprintf(head, sizeof(head), "%04x", (unsigned)(data.n + PKT_HEAD_BYTES) & 0xffffu);
	ret = buf_append(out, head, PKT_HEAD_BYTES);
	return ret < 0 ? ret : buf_append_str(out, data);
}

int pkt_write_flush(struct buf *out)
{
	return buf_append_str(out, STR_LIT("0000"));
}
