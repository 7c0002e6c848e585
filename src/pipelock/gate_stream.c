/*
 * Theory of operation: a stream feeds what it is given through the content decoder, if there is
 * one, into a scan stream, and looks at the findings after each piece. In a request anything that
 * cannot be scanned blocks. In a response only the bottle's own secrets block: credential shapes
 * stand in every README, so they are noted; and what exhausts a limit is blocked only where a
 * credential was sent and could be echoed (is_strict), else the scan ends with a note, or else a
 * long download of well-compressed zeroes could never be finished.
 */
#include "pipelock/gate_int.h"

#include <errno.h>

static bool gate_stream_note(struct gate_stream *s, const char *rule)
{
	s->has_note = true;
	memcpy(s->note_rule, rule, strnlen(rule, sizeof(s->note_rule) - 1));
	return true;
}

/* Ends the scan of a response that cannot be scanned further, or blocks it. */
static bool gate_stream_doubt(struct gate_stream *s, enum gate_reason reason,
			      struct gate_verdict *v)
{
	const char *scanner = s->place == SCAN_PLACE_RESPONSE ? "response" : "body";

	if (s->is_strict) {
		s->is_blocked = true;
		return gate_block(v, reason, scanner);
	}
	gate_stream_close(s);
	return gate_stream_note(s, gate_reason_name(reason));
}

bool gate_stream_open(struct gate *g, struct gate_stream *s, enum scan_place place,
		      struct str content_encoding, struct gate_verdict *v)
{
	bool is_response = place == SCAN_PLACE_RESPONSE;
	bool is_bound = v->route && v->route->auth.scheme != POLICY_AUTH_NONE;

	memset(s, 0, offsetof(struct gate_stream, findings));
	s->findings.route = v->route;
	s->findings.n = s->findings.n_home = 0;
	s->findings.is_full = false;
	s->gate = g;
	s->place = place;
	s->is_strict = !is_response || is_bound;
	if (content_decoder_new(&s->decoder, content_encoding, NULL) < 0)
		return gate_block(v,
				  is_response ? GATE_RESPONSE_CODING_UNSUPPORTED
					      : GATE_BODY_CODING_UNSUPPORTED,
				  is_response ? "response" : "body");
	s->scan = scan_stream_open(g->engine, place, gate_on_finding, &s->findings);
	if (!s->scan) {
		gate_stream_close(s);
		return gate_block(v, GATE_SCAN_LIMIT, is_response ? "response" : "body");
	}
	return true;
}

/* Attack: a canary in an answer, which is graver elsewhere, hides what stands beside it. */
static const struct scan_finding *gate_stream_secret(const struct gate_findings *fs)
{
	for (unsigned i = 0; i < fs->n; i++) {
		if (fs->list[i].kind == SCAN_KIND_SECRET)
			return &fs->list[i];
	}
	return NULL;
}

/* What has been found since the last piece. */
static bool gate_stream_judge(struct gate_stream *s, struct gate_verdict *v)
{
	const struct scan_finding *worst = gate_worst(&s->findings), *secret;

	if (!worst && !s->findings.is_full)
		return true;
	if (s->place != SCAN_PLACE_RESPONSE) {
		s->is_blocked = true;
		return worst ? gate_block_finding(v, s->place, worst)
			     : gate_block(v, GATE_SCAN_LIMIT, "body");
	}
	secret = gate_stream_secret(&s->findings);
	if (secret) {
		s->is_blocked = true;
		return gate_block_finding(v, s->place, secret);
	}
	s->findings.n = 0;
	s->findings.is_full = false;
	if (worst && worst->kind == SCAN_KIND_LIMIT)
		return gate_stream_doubt(s, GATE_SCAN_LIMIT, v);
	return gate_stream_note(s, worst ? worst->rule : "many");
}

/* True when a response's stream has used up its budget slowly: see GATE_RENEW_PIECES. */
static bool gate_stream_is_worn(const struct gate_stream *s)
{
	const struct scan_finding *worst = gate_worst(&s->findings);

	return s->place == SCAN_PLACE_RESPONSE && s->fed > GATE_RENEW_PIECES && worst &&
	       worst->kind == SCAN_KIND_LIMIT;
}

static bool gate_stream_scan(struct gate_stream *s, struct str text, struct gate_verdict *v)
{
	int ret = scan_stream_feed(s->scan, text);

	s->fed++;
	if (gate_stream_is_worn(s)) {
		scan_stream_close(s->scan);
		s->findings.n = 0;
		s->findings.is_full = false;
		s->fed = 1;
		s->scan =
			scan_stream_open(s->gate->engine, s->place, gate_on_finding, &s->findings);
		ret = s->scan ? scan_stream_feed(s->scan, text) : -ENOBUFS;
	}
	if (!gate_stream_judge(s, v))
		return false;
	return ret < 0 && (s->scan || s->is_strict) ? gate_stream_doubt(s, GATE_SCAN_LIMIT, v)
						    : true;
}

static bool gate_stream_decode(struct gate_stream *s, struct str piece, bool is_last,
			       struct gate_verdict *v)
{
	struct buf *out = &s->gate->decoded;
	bool is_response = s->place == SCAN_PLACE_RESPONSE;

	while (s->scan) {
		size_t used = 0, n;
		int ret;

		buf_reset(out);
		ret = content_decode(s->decoder, piece, is_last, out, &used, NULL);
		n = buf_len(out);
		if (ret < 0)
			return gate_stream_doubt(s,
						 ret == -E2BIG ? GATE_SCAN_LIMIT
						 : is_response ? GATE_RESPONSE_CODING_CORRUPT
							       : GATE_BODY_CODING_CORRUPT,
						 v);
		if (n > 0 && !gate_stream_scan(s, buf_str(out), v))
			return false;
		piece = str_sub(piece, used, piece.n);
		if (piece.n == 0 && buf_room(out) > 0)
			return true;
		/* Neither taken nor given: the decoder is stuck, which it must not be. */
		if (used == 0 && n == 0)
			return gate_stream_doubt(s, GATE_SCAN_LIMIT, v);
	}
	return true;
}

bool gate_stream_feed(struct gate_stream *s, struct str piece, bool is_last, struct gate_verdict *v)
{
	bool may_pass;
	int ret;

	if (s->is_blocked)
		return false;
	if (!s->scan)
		return true;
	may_pass = s->decoder ? gate_stream_decode(s, piece, is_last, v)
			      : piece.n == 0 || gate_stream_scan(s, piece, v);
	if (!may_pass || !is_last || !s->scan)
		return may_pass;
	ret = scan_stream_end(s->scan);
	if (!gate_stream_judge(s, v))
		return false;
	return ret < 0 && s->scan ? gate_stream_doubt(s, GATE_SCAN_LIMIT, v) : true;
}

void gate_stream_close(struct gate_stream *s)
{
	if (s->scan)
		scan_stream_close(s->scan);
	s->scan = NULL;
	content_decoder_free(s->decoder);
	s->decoder = NULL;
}
