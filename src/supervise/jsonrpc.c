#include "supervise/jsonrpc.h"

#include "base/text.h"

#include <errno.h>

/* How deep brackets nest, and whether all of it is UTF-8, without a parser: jansson's recursion is
 * only let loose on what is known to be shallow. Brackets in texts do not count. */
static const char *jsonrpc_prescan(struct str text)
{
	bool is_in_text = false, is_escaped = false;
	size_t depth = 0;

	for (size_t i = 0; i < text.n;) {
		uint32_t c;
		size_t n = text_utf8_next(str_sub(text, i, text.n), &c);

		if (n == 0)
			return "it is not UTF-8";
		i += n;
		if (is_in_text) {
			is_in_text = is_escaped || c != '"';
			is_escaped = !is_escaped && c == '\\';
		} else if (c == '"') {
			is_in_text = true;
		} else if (c == '[' || c == '{') {
			if (++depth > JSONRPC_DEPTH_MAX)
				return "it is nested too deeply";
		} else if ((c == ']' || c == '}') && depth > 0) {
			depth--;
		}
	}
	return NULL;
}

json_t *jsonrpc_parse(struct str text, struct err *e)
{
	json_error_t where;
	const char *why;
	json_t *j;

	if (text.n > JSONRPC_MESSAGE_MAX) {
		(void)err_set(e, -EMSGSIZE, "it is longer than %u bytes", JSONRPC_MESSAGE_MAX);
		return NULL;
	}
	why = jsonrpc_prescan(text);
	if (why) {
		(void)err_set(e, -EINVAL, "%s", why);
		return NULL;
	}
	j = json_loadb(text.p ? text.p : "", text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
		       &where);
	/* jansson's text quotes what it stumbled over: the sender's bytes stay out of answers. */
	if (!j)
		(void)err_set(e, -EINVAL, "%s at byte %d",
			      json_error_code(&where) == json_error_duplicate_key
				      ? "a key is repeated"
			      : json_error_code(&where) == json_error_null_character
				      ? "a text holds \\u0000"
				      : "it is not JSON",
			      where.position);
	return j;
}

static bool id_is_good(const json_t *id)
{
	return json_is_integer(id) ||
	       (json_is_string(id) && json_string_length(id) <= JSONRPC_ID_MAX);
}

static void jsonrpc_bad(struct jsonrpc_message *out, const char *why)
{
	out->kind = JSONRPC_BAD;
	out->why = why;
}

void jsonrpc_look(json_t *message, struct jsonrpc_message *out)
{
	json_t *id = json_object_get(message, "id"), *method = json_object_get(message, "method");
	const char *version = json_string_value(json_object_get(message, "jsonrpc"));
	bool has_result = json_object_get(message, "result") != NULL;
	bool has_error = json_object_get(message, "error") != NULL;

	memset(out, 0, sizeof(*out));
	out->id = id_is_good(id) ? id : NULL;
	if (!json_is_object(message)) {
		jsonrpc_bad(out, "a message is an object");
	} else if (!version || strcmp(version, "2.0") != 0) {
		jsonrpc_bad(out, "\"jsonrpc\" must be \"2.0\"");
	} else if (!method && has_result != has_error) {
		out->kind = JSONRPC_RESPONSE;
	} else if (!json_is_string(method) || has_result || has_error) {
		jsonrpc_bad(out, "\"method\" must be a text, beside no \"result\" or \"error\"");
	} else if (id && !out->id) {
		jsonrpc_bad(out, "\"id\" must be an integer or a text of at most 128 bytes");
	} else {
		out->kind = id ? JSONRPC_REQUEST : JSONRPC_NOTIFICATION;
		out->method = json_string_value(method);
		out->params = json_object_get(message, "params");
		out->are_bad_params = out->params && !json_is_object(out->params);
		if (out->are_bad_params)
			out->params = NULL;
	}
}

static json_t *jsonrpc_answer(json_t *id, const char *name, json_t *value)
{
	json_t *answer = json_object();

	/* In the order in which the specification writes them; what is out of memory shows as an
	 * object without them, which no client takes for an answer. */
	(void)json_object_set_new(answer, "jsonrpc", json_string("2.0"));
	(void)json_object_set_new(answer, "id", id ? json_incref(id) : json_null());
	(void)json_object_set_new(answer, name, value);
	return answer;
}

json_t *jsonrpc_result(json_t *id, json_t *result)
{
	return jsonrpc_answer(id, "result", result);
}

json_t *jsonrpc_error(json_t *id, enum jsonrpc_code code, const char *text)
{
	return jsonrpc_answer(id, "error",
			      json_pack("{s:i, s:s}", "code", (int)code, "message", text));
}
