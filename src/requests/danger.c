#include "requests/danger.h"

#include "base/clean.h"
#include "base/json.h"
#include "base/text.h"

#include <assert.h>
#include <errno.h>

static const struct {
	const char *name;
	enum danger_level level;
} rules[] = {
#define X(constant, name, level) [DANGER_##constant##_RULE] = {name, DANGER_##level},
	DANGER_RULES(X)
#undef X
};
static_assert(ARRAY_LEN(rules) == DANGER_RULE_COUNT, "one name for each rule");

static const char *const level_names[] = {
	[DANGER_NOTE] = "note",
	[DANGER_WARN] = "warning",
	[DANGER_NEVER] = "never",
};

const char *danger_rule_name(enum danger_rule r)
{
	return r < DANGER_RULE_COUNT ? rules[r].name : "unknown";
}

const char *danger_level_name(enum danger_level l)
{
	return l >= DANGER_NOTE && l <= DANGER_NEVER ? level_names[l] : "unknown";
}

void danger_judge(struct danger *out, const struct change *c, const struct danger_context *ctx)
{
	(void)c;
	(void)ctx;
	*out = (struct danger){0};
}

const struct danger_finding *danger_forbids(const struct danger *d)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->findings[i].level == DANGER_NEVER)
			return &d->findings[i];
	return NULL;
}

int danger_to_json(const struct danger *d, struct buf *out)
{
	int ret = buf_append(out, "[", 1);

	for (size_t i = 0; ret == 0 && i < d->n; i++) {
		ret = buf_printf(out, "%s{\"rule\":\"%s\",\"text\":", i ? "," : "",
				 danger_rule_name(d->findings[i].rule));
		if (ret == 0)
			ret = text_json(out, str_of(d->findings[i].text));
		if (ret == 0)
			ret = buf_append(out, "}", 1);
	}
	return ret < 0 ? ret : buf_append(out, "]", 1);
}

static int read_finding(struct danger_finding *f, const json_t *v)
{
	const char *rule = json_string_value(json_object_get(v, "rule"));
	const char *text = json_string_value(json_object_get(v, "text"));

	if (!rule || !text || json_object_size(v) != 2 ||
	    !str_to_cstr(f->text, sizeof(f->text), str_of(text)))
		return -EINVAL;
	for (size_t i = 0; i < DANGER_RULE_COUNT; i++) {
		if (strcmp(rules[i].name, rule) != 0)
			continue;
		f->rule = (enum danger_rule)i;
		f->level = rules[i].level;
		return 0;
	}
	return -EINVAL;
}

int danger_from_json(struct danger *out, struct str json, struct err *e)
{
	_cleanup_json_ json_t *root = NULL;
	json_error_t why;

	out->n = 0;
	if (str_eq(json, STR_LIT("[]")))
		return 0;
	if (json.n <= CHANGE_JSON_MAX_BYTES)
		root = json_loadb(json.p ? json.p : "", json.n, JSON_REJECT_DUPLICATES, &why);
	if (!json_is_array(root) || json_array_size(root) > DANGER_FINDINGS_MAX)
		return err_set(e, -EINVAL, "danger: not a list of findings");
	for (size_t i = 0; i < json_array_size(root); i++)
		if (read_finding(&out->findings[out->n++], json_array_get(root, i)) < 0)
			return err_set(e, -EINVAL, "danger: finding %zu cannot be read", i + 1);
	return 0;
}
