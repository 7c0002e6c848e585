/* How an answer is written. Every one ends its connection, so there is no second request whose
 * beginning anybody could be wrong about. */
#include "base/text.h"
#include "face/web_int.h"

/* No script, style, image, frame, form or connection but the page's own; nothing that runs is made
 * of text (trusted types); no other window holds a handle of this one; nothing is kept. */
#define ANSWER_FIELDS                                                                              \
	"Content-Security-Policy: default-src 'none'; script-src 'self'; worker-src 'none'; "      \
	"style-src 'self'; connect-src 'self'; img-src 'none'; base-uri 'none'; "                  \
	"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "         \
	"trusted-types 'none'\r\n"                                                                 \
	"X-Content-Type-Options: nosniff\r\n"                                                      \
	"X-Frame-Options: DENY\r\n"                                                                \
	"Referrer-Policy: no-referrer\r\n"                                                         \
	"Cross-Origin-Opener-Policy: same-origin\r\n"                                              \
	"Cross-Origin-Resource-Policy: same-origin\r\n"                                            \
	"Cross-Origin-Embedder-Policy: require-corp\r\n"                                           \
	"Permissions-Policy: camera=(), clipboard-read=(), clipboard-write=(), "                   \
	"display-capture=(), geolocation=(), microphone=(), payment=(), usb=()\r\n"                \
	"Cache-Control: no-store\r\n"

static int write_fields(const struct web_answer *a, struct str body, struct buf *out)
{
	int r = buf_append_str(out, STR_LIT("Connection: close\r\n"));

	if (r == 0 && !a->is_stream)
		r = buf_printf(out, "Content-Length: %zu\r\n", body.n);
	if (r == 0 && !a->is_bare)
		r = buf_append_str(out, STR_LIT(ANSWER_FIELDS));
	if (r == 0 && a->type)
		r = buf_printf(out, "Content-Type: %s\r\n", a->type);
	if (r == 0 && a->allow)
		r = buf_printf(out, "Allow: %s\r\n", a->allow);
	if (r == 0 && a->cookie[0])
		r = buf_printf(out, "Set-Cookie: %s\r\n", a->cookie);
	return r == 0 ? buf_append_str(out, STR_LIT("\r\n")) : r;
}

int answer_write(const struct web_answer *a, struct buf *out)
{
	struct str body = a->fixed.n > 0 ? a->fixed : buf_str(&a->text);
	struct str phrase = http1_status_phrase(a->status);
	int r = buf_printf(out, "HTTP/1.1 %u " STR_FMT "\r\n", a->status, STR_ARG(phrase));

	if (r == 0)
		r = write_fields(a, body, out);
	return r == 0 ? buf_append_str(out, body) : r;
}

void answer_error(struct web_answer *a, unsigned status, const char *text)
{
	a->status = status;
	a->type = "application/json";
	buf_reset(&a->text);
	if (buf_append_str(&a->text, STR_LIT("{\"error\":")) < 0 ||
	    text_json(&a->text, str_of(text)) < 0 || buf_append_str(&a->text, STR_LIT("}")) < 0)
		buf_reset(&a->text);
}

void answer_verdict(struct web_answer *a, const char *verdict, struct str text)
{
	a->status = 200;
	a->type = "application/json";
	if (buf_printf(&a->text, "{\"verdict\":\"%s\",\"text\":", verdict) < 0 ||
	    text_json(&a->text, text) < 0 || buf_append_str(&a->text, STR_LIT("}")) < 0)
		answer_error(a, 500, "too much to say");
}
