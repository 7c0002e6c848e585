/*
 * Theory of operation: libssh in the child asks for identities, and for one signature. There is one
 * identity; a request for another key, or one that keyd does not sign, is answered with FAILURE,
 * which ends the login and nothing else. keyd looks at the text itself: nothing that a child says
 * here widens what can be signed.
 */
#include "gitssh/gitssh.h"

#include "keyd/sshwire.h"

#include <errno.h>

/* draft-miller-ssh-agent, section 6.1. */
#define AGENT_FAILURE		 5
#define AGENT_REQUEST_IDENTITIES 11
#define AGENT_IDENTITIES	 12
#define AGENT_SIGN_REQUEST	 13
#define AGENT_SIGN_RESPONSE	 14

static void say_identities(const struct gitssh_agent *a, struct sshwire_writer *w)
{
	sshwire_write_byte(w, AGENT_IDENTITIES);
	sshwire_write_u32(w, 1);
	sshwire_write_string(w, a->key);
	sshwire_write_string(w, STR_NULL); /* a comment */
}

static void say_signature(struct gitssh_agent *a, struct sshwire_reader *r,
			  struct sshwire_writer *w)
{
	struct str key = sshwire_read_string(r), data = sshwire_read_string(r);
	uint8_t signature[GIT_KEY_SIGNATURE_MAX];
	int n = -EPERM;

	/* Which hash of RSA's it is to be stands in the text as well, where keyd reads it. */
	(void)sshwire_read_u32(r);
	if (sshwire_reader_is_done(r) && str_eq(key, a->key) && a->signatures_left > 0) {
		a->signatures_left--;
		n = a->sign(a->ctx, data, signature, sizeof(signature));
	}
	if (n < 0) {
		sshwire_write_byte(w, AGENT_FAILURE);
		return;
	}
	sshwire_write_byte(w, AGENT_SIGN_RESPONSE);
	sshwire_write_string(w, str_slice(signature, (size_t)n));
}

static int answer(struct gitssh_agent *a, struct str message, struct buf *out)
{
	uint8_t bytes[GITSSH_AGENT_MAX], length[4];
	struct sshwire_writer w = {.p = bytes, .cap = sizeof(bytes)};
	struct sshwire_writer head = {.p = length, .cap = sizeof(length)};
	struct sshwire_reader r = sshwire_reader_of(message);
	int ret;

	switch (sshwire_read_byte(&r)) {
	case AGENT_REQUEST_IDENTITIES:
		say_identities(a, &w);
		break;
	case AGENT_SIGN_REQUEST:
		say_signature(a, &r, &w);
		break;
	default:
		sshwire_write_byte(&w, AGENT_FAILURE);
		break;
	}
	if (w.is_full)
		return -EMSGSIZE;
	sshwire_write_u32(&head, (uint32_t)w.n);
	ret = buf_append(out, length, sizeof(length));
	return ret < 0 ? ret : buf_append(out, bytes, w.n);
}

int gitssh_agent_feed(struct gitssh_agent *a, struct str bytes, struct buf *out)
{
	if (bytes.n > sizeof(a->in) - a->n)
		return -EPROTO;
	if (bytes.n > 0)
		memcpy(a->in + a->n, bytes.p, bytes.n);
	a->n += bytes.n;
	for (;;) {
		struct sshwire_reader r = sshwire_reader_of(str_slice(a->in, a->n));
		uint32_t length = sshwire_read_u32(&r);
		size_t whole = (size_t)length + 4;
		int ret;

		if (r.is_bad)
			return 0;
		if (length == 0 || whole > sizeof(a->in))
			return -EPROTO;
		if (whole > a->n)
			return 0;
		ret = answer(a, str_slice(a->in + 4, length), out);
		if (ret < 0)
			return ret;
		memmove(a->in, a->in + whole, a->n - whole);
		a->n -= whole;
	}
}
