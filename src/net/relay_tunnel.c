/*
 * CONNECT: after the 200, nothing but a TLS ClientHello is accepted. It is read in whole before
 * OpenSSL sees a byte, so that SSH, plain HTTP or noise inside a CONNECT ends with a reason; the
 * SNI is then checked again in OpenSSL's own view of the hello (tls_ctx.c).
 */
#include "net/relay_priv.h"

#include <errno.h>

void tunnel_begin(struct exchange *x)
{
	struct relay_front *f = x->pub.front;
	struct http1_head *h = &x->pub.req;

	if (!str_to_cstr(f->host, sizeof(f->host), h->host) || !f->c.relay->config.tls_server) {
		exchange_refuse(x, RELAY_BAD_REQUEST, 400, "bad-host");
		return;
	}
	f->port = h->port;
	if (buf_append_str(&x->down.out, STR_LIT("HTTP/1.1 200 Connection Established\r\n\r\n")) !=
	    0) {
		exchange_refuse(x, RELAY_BAD_REQUEST, 500, "out-of-memory");
		return;
	}
	x->result.status = 200;
	x->phase = PHASE_TUNNEL;
	f->state = FRONT_HELLO;
	conn_deadline(&f->c, f->c.relay->config.tls_ms);
}

static enum run hello_step(struct relay_front *f)
{
	struct tls_client_hello hello;
	enum tls_reason reason;
	size_t sent = 0;
	int ret;

	ret = conn_flush(&f->c, &f->x->down.out, &sent);
	buf_consume(&f->x->down.out, sent);
	if (ret == -EAGAIN)
		return RUN_WAIT;
	if (ret < 0)
		return exchange_end(f->x, RELAY_FRONT_CLOSED, "closed");
	if (buf_len(&f->c.in) > 0) {
		reason = tls_client_hello_parse(buf_str(&f->c.in), &hello);
		if (reason != TLS_OK && reason != TLS_INCOMPLETE)
			return exchange_end(f->x, RELAY_BAD_REQUEST, tls_reason_name(reason));
		if (reason == TLS_OK) {
			f->hello = f->c.in;
			buf_init(&f->c.in, RELAY_IN_MAX_BYTES);
			f->c.tls = tls_server_stream(f->c.relay->config.tls_server, f->c.fd,
						     &f->hello, str_of(f->host), f);
			if (!f->c.tls)
				return exchange_end(f->x, RELAY_BAD_REQUEST, "out-of-memory");
			f->state = FRONT_HANDSHAKE;
			return RUN_AGAIN;
		}
	}
	ret = conn_read(&f->c, RELAY_HEAD_READ_BYTES);
	if (ret == 1)
		return RUN_AGAIN;
	if (ret == -EAGAIN)
		return RUN_WAIT;
	return exchange_end(f->x, RELAY_FRONT_CLOSED, "closed");
}

static enum run handshake_step(struct relay_front *f)
{
	int ret = tls_handshake(f->c.tls);

	if (ret == -EINPROGRESS)
		return RUN_WAIT;
	if (ret == -EAGAIN) {
		f->c.wants_in = true;
		f->c.wants_out = tls_wants_write(f->c.tls);
		return RUN_WAIT;
	}
	if (ret < 0) {
		enum tls_reason reason = tls_reason(f->c.tls);

		return exchange_end(f->x,
				    reason == TLS_CLOSED ? RELAY_FRONT_CLOSED : RELAY_BAD_REQUEST,
				    tls_reason_name(reason));
	}
	f->state = FRONT_HTTP;
	f->is_tunnel = true;
	f->c.is_dry = false;
	if (buf_len(&f->hello) == 0)
		buf_free(&f->hello);
	return exchange_end(f->x, RELAY_TUNNEL, "ok");
}

enum run tunnel_step(struct relay_front *f)
{
	return f->state == FRONT_HELLO ? hello_step(f) : handshake_step(f);
}

void relay_cert_ready(struct relay_front *f)
{
	front_run(f);
}
