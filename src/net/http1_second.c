/*
 * llhttp (strict build) as the second opinion on a head. It is fed one complete head and stopped at
 * its end, so no state of it outlives a message.
 */
#include "net/http1_priv.h"

#include <llhttp/llhttp.h>

static int at_field(llhttp_t *p)
{
	(*(size_t *)p->data)++;
	return HPE_OK;
}

static int at_headers(llhttp_t *p)
{
	(void)p;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_header_value_complete = at_field,
	.on_headers_complete = at_headers,
};

bool http1_second_opinion(const struct http1_head *h, struct str raw, size_t n_fields_raw)
{
	size_t n_fields = 0;
	bool is_chunked;
	llhttp_t p;

	llhttp_init(&p, h->is_request ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
	p.data = &n_fields;
	/* Paused inside on_headers_complete, which is at the head's last byte. */
	if (llhttp_execute(&p, raw.p, raw.n) != HPE_PAUSED)
		return false;
	if (llhttp_get_error_pos(&p) != raw.p + raw.n &&
	    llhttp_get_error_pos(&p) != raw.p + raw.n - 1)
		return false;
	if (n_fields != n_fields_raw || p.http_major != 1 || p.http_minor != h->minor)
		return false;
	if (!h->is_request && p.status_code != h->status)
		return false;
	is_chunked = (p.flags & F_CHUNKED) != 0;
	if (h->framing == HTTP1_BODY_CHUNKED && !is_chunked)
		return false;
	if (h->framing == HTTP1_BODY_LENGTH &&
	    (is_chunked || !(p.flags & F_CONTENT_LENGTH) || p.content_length != h->content_length))
		return false;
	return h->framing != HTTP1_BODY_NONE || !h->is_request ||
	       (!is_chunked && p.content_length == 0);
}
