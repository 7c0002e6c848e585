#include "conf/schema.h"

#include "base/buf.h"
#include "base/clean.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#define FIELDS_MAX   32
#define VARIABLE_MAX 128

int schema_refuse(struct schema_ctx *c, const struct yaml_node *at, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_at(c->e, c->file, at->line, at->column, "%s", text);
}

int schema_place(struct schema_ctx *c, const struct yaml_node *at, int ret)
{
	char text[ERR_TEXT_MAX];

	if (ret >= 0 || !c->e || c->e->line)
		return ret;
	(void)snprintf(text, sizeof(text), "%s", c->e->text);
	return schema_refuse(c, at, "%s", text);
}

int schema_unsupported(struct schema_ctx *c, const struct yaml_node *value, void *out)
{
	(void)out;
	return schema_refuse(c, value, "not supported yet by this version; remove it");
}

int schema_unsupported_unless_false(struct schema_ctx *c, const struct yaml_node *value, void *out)
{
	bool is_wanted;
	int ret = schema_bool(c, value, "this key", &is_wanted);

	return ret < 0 || !is_wanted ? ret : schema_unsupported(c, value, out);
}

int schema_ignore(struct schema_ctx *c, const struct yaml_node *value, void *out)
{
	(void)c;
	(void)value;
	(void)out;
	return 0;
}

static int refuse_key(struct schema_ctx *c, const struct yaml_node *key, const char *what,
		      const struct schema_field *fields, size_t n_fields)
{
	_cleanup_(buf_free) struct buf list;
	const char *names[FIELDS_MAX], *near;
	char shown[96];

	buf_init(&list, 512);
	for (size_t i = 0; i < n_fields && i < FIELDS_MAX; i++) {
		names[i] = fields[i].name;
		(void)!buf_printf(&list, "%s%s", i ? ", " : "", fields[i].name);
	}
	near = text_nearest(key->text, names, n_fields < FIELDS_MAX ? n_fields : FIELDS_MAX);
	text_visible_cstr(shown, sizeof(shown), key->text);
	if (near)
		return schema_refuse(c, key, "unknown key \"%s\" in %s; did you mean \"%s\"?",
				     shown, what, near);
	return schema_refuse(c, key, "unknown key \"%s\" in %s; known are " STR_FMT, shown, what,
			     STR_ARG(buf_str(&list)));
}

int schema_mapping(struct schema_ctx *c, const struct yaml_node *n, const char *what,
		   const struct schema_field *fields, size_t n_fields, void *out)
{
	if (n->kind != YAML_KIND_MAPPING)
		return schema_refuse(c, n, "%s must be \"key: value\" lines, not %s", what,
				     yaml_kind_name(n));
	for (size_t i = 0; i + 1 < n->n_children; i += 2) {
		const struct schema_field *f = fields;
		int ret;

		while (f < fields + n_fields && !str_eq(n->children[i]->text, str_of(f->name)))
			f++;
		if (f == fields + n_fields)
			return refuse_key(c, n->children[i], what, fields, n_fields);
		ret = f->read(c, n->children[i + 1], out);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int schema_text(struct schema_ctx *c, const struct yaml_node *n, const char *what, struct str *out)
{
	*out = STR_NULL;
	if (n->kind != YAML_KIND_SCALAR || yaml_is_null(n))
		return schema_refuse(c, n, "%s must be text, not %s", what, yaml_kind_name(n));
	if (n->text.n == 0)
		return schema_refuse(c, n, "%s must not be empty", what);
	*out = n->text;
	return 0;
}

int schema_bool(struct schema_ctx *c, const struct yaml_node *n, const char *what, bool *out)
{
	bool is_plain = n->kind == YAML_KIND_SCALAR && n->is_plain;

	*out = false;
	if (is_plain && str_eq(n->text, STR_LIT("true")))
		*out = true;
	else if (!is_plain || !str_eq(n->text, STR_LIT("false")))
		return schema_refuse(c, n, "%s must be true or false", what);
	return 0;
}

int schema_number(struct schema_ctx *c, const struct yaml_node *n, const char *what, uint64_t min,
		  uint64_t max, uint64_t *out)
{
	*out = 0;
	if (n->kind != YAML_KIND_SCALAR || !n->is_plain || str_to_u64(n->text, max, out) < 0 ||
	    *out < min)
		return schema_refuse(c, n, "%s must be a whole number from %llu to %llu", what,
				     (unsigned long long)min, (unsigned long long)max);
	return 0;
}

int schema_size(struct schema_ctx *c, const struct yaml_node *n, const char *what, uint64_t *out)
{
	static const char units[] = "KMGT";
	struct str digits = n->text, unit;
	unsigned shift = 0;
	size_t n_digits = 0;

	*out = 0;
	if (n->kind == YAML_KIND_SCALAR && str_eq(n->text, STR_LIT("none")))
		return 0;
	while (n_digits < n->text.n && ascii_is_digit(n->text.p[n_digits]))
		n_digits++;
	digits = str_sub(n->text, 0, n_digits);
	unit = str_sub(n->text, n_digits, n->text.n);
	if (unit.n > 0) {
		const char *at = strchr(units, unit.p[0]);

		shift = at && *at ? 10 * (unsigned)(at - units + 1) : 0;
		unit = str_sub(unit, 1, unit.n);
	}
	if (n->kind != YAML_KIND_SCALAR || shift == 0 ||
	    (unit.n > 0 && !str_eq(unit, STR_LIT("iB")) && !str_eq(unit, STR_LIT("B"))) ||
	    str_to_u64(digits, UINT64_C(1) << (60 - shift), out) < 0 || *out == 0)
		return schema_refuse(
			c, n, "%s must be a size like \"512M\" or \"2GiB\", or \"none\"", what);
	*out <<= shift;
	return 0;
}

int schema_list(struct schema_ctx *c, const struct yaml_node *n, const char *what, size_t max,
		int (*read)(struct schema_ctx *c, const struct yaml_node *item, void *out),
		void *out)
{
	if (n->kind != YAML_KIND_SEQUENCE)
		return schema_refuse(c, n, "%s must be a list, not %s", what, yaml_kind_name(n));
	if (n->n_children > max)
		return schema_refuse(c, n, "%s has more than %zu items", what, max);
	for (size_t i = 0; i < n->n_children; i++) {
		int ret = read(c, n->children[i], out);

		if (ret < 0)
			return ret;
	}
	return 0;
}

int schema_choice(struct schema_ctx *c, const struct yaml_node *n, const char *what,
		  const char *const *candidates, size_t n_candidates, size_t *out)
{
	_cleanup_(buf_free) struct buf list = {0};
	struct str text;
	char shown[96];
	const char *near;
	int ret = schema_text(c, n, what, &text);

	*out = 0;
	if (ret < 0)
		return ret;
	buf_init(&list, 512);
	for (size_t i = 0; i < n_candidates; i++) {
		if (str_eq(text, str_of(candidates[i]))) {
			*out = i;
			return 0;
		}
		(void)!buf_printf(&list, "%s%s", i ? ", " : "", candidates[i]);
	}
	text_visible_cstr(shown, sizeof(shown), text);
	near = text_nearest(text, candidates, n_candidates);
	if (near)
		return schema_refuse(c, n, "%s cannot be \"%s\"; did you mean \"%s\"?", what, shown,
				     near);
	return schema_refuse(c, n, "%s cannot be \"%s\"; known are " STR_FMT, what, shown,
			     STR_ARG(buf_str(&list)));
}

int schema_path(struct schema_ctx *c, const struct yaml_node *n, const char *what, char **out)
{
	struct str text;
	int ret = schema_text(c, n, what, &text);

	*out = NULL;
	if (ret < 0)
		return ret;
	if (text.n >= PATH_MAX)
		return schema_refuse(c, n, "%s is too long for a path", what);
	if (str_starts(text, STR_LIT("~/")))
		*out = mem_printf("%s/" STR_FMT, c->home, STR_ARG(str_sub(text, 2, text.n)));
	else if (text.p[0] == '/')
		*out = str_dup(text);
	else
		return schema_refuse(c, n, "%s must be a path that starts with \"/\" or \"~/\"",
				     what);
	return 0;
}

bool schema_is_variable(struct str name)
{
	if (name.n == 0 || name.n > VARIABLE_MAX || ascii_is_digit(name.p[0]))
		return false;
	for (size_t i = 0; i < name.n; i++)
		if (!ascii_is_alnum(name.p[i]) && name.p[i] != '_')
			return false;
	return true;
}
