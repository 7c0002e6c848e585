#include "conf/policy_read.h"

#include "base/text.h"

#include <errno.h>

/* Before the parser, which recurses: no deeper than the form itself ever is. */
static bool is_shallow(struct str json, unsigned depth_max)
{
	unsigned depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < json.n; i++) {
		char c = json.p[i];

		if (in_string && c == '\\')
			i++;
		else if (c == '"')
			in_string = !in_string;
		else if (!in_string && (c == '{' || c == '[') && ++depth > depth_max)
			return false;
		else if (!in_string && (c == '}' || c == ']') && depth > 0)
			depth--;
	}
	return true;
}

int policy_read_root(struct str json, size_t max, unsigned depth_max, json_t **out, struct err *e)
{
	json_error_t why;

	*out = NULL;
	if (json.n > max)
		return err_set(e, -EFBIG, "policy: larger than %zu bytes", max);
	if (!is_shallow(json, depth_max))
		return err_set(e, -EINVAL, "policy: nested deeper than %u", depth_max);
	*out = json_loadb(json.p ? json.p : "", json.n, JSON_REJECT_DUPLICATES, &why);
	if (!*out)
		return err_set(e, -EINVAL, "policy: not JSON: line %d: %s", why.line, why.text);
	return 0;
}

int policy_read_keys(const json_t *object, const char *what, const char *const *known,
		     struct err *e)
{
	const char *key;
	json_t *value;

	if (!json_is_object(object))
		return err_set(e, -EINVAL, "policy: %s must be an object", what);
	json_object_foreach((json_t *)object, key, value)
	{
		const char *const *k = known;

		while (*k && strcmp(*k, key) != 0)
			k++;
		if (!*k) {
			char shown[64];

			text_visible_cstr(shown, sizeof(shown), str_of(key));
			return err_set(e, -EINVAL, "policy: unknown key \"%s\" in %s", shown, what);
		}
	}
	return 0;
}

int policy_read_string(const json_t *object, const char *key, size_t max, struct str *out,
		       struct err *e)
{
	const json_t *v = json_object_get(object, key);

	*out = STR_NULL;
	if (!json_is_string(v))
		return err_set(e, -EINVAL, "policy: \"%s\" must be a string", key);
	*out = str_slice(json_string_value(v), json_string_length(v));
	if (out->n > max || (out->n > 0 && memchr(out->p, '\0', out->n)))
		return err_set(e, -EINVAL, "policy: \"%s\" is too long", key);
	return 0;
}

int policy_read_u64(const json_t *object, const char *key, uint64_t max, uint64_t *out,
		    struct err *e)
{
	const json_t *v = json_object_get(object, key);
	json_int_t n = json_integer_value(v);

	*out = 0;
	if (!json_is_integer(v) || n < 0 || (uint64_t)n > max)
		return err_set(e, -EINVAL, "policy: \"%s\" must be a number from 0 to %llu", key,
			       (unsigned long long)max);
	*out = (uint64_t)n;
	return 0;
}

int policy_read_unsigned(const json_t *object, const char *key, unsigned max, unsigned *out,
			 struct err *e)
{
	uint64_t n;
	int ret = policy_read_u64(object, key, max, &n, e);

	*out = (unsigned)n;
	return ret;
}

int policy_read_bool(const json_t *object, const char *key, bool *out, struct err *e)
{
	const json_t *v = json_object_get(object, key);

	*out = json_is_true(v);
	return json_is_boolean(v)
		       ? 0
		       : err_set(e, -EINVAL, "policy: \"%s\" must be true or false", key);
}

int policy_read_list(const json_t *object, const char *key, size_t max, const json_t **out,
		     struct err *e)
{
	*out = json_object_get(object, key);
	if (!json_is_array(*out))
		return err_set(e, -EINVAL, "policy: \"%s\" must be a list", key);
	if (json_array_size(*out) > max)
		return err_set(e, -EINVAL, "policy: \"%s\" has more than %zu items", key, max);
	return 0;
}
