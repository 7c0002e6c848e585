/*
 * The canonical form. What change_from_json() has read is written again and must be the same bytes:
 * so it need not look for unknown keys, another order or another spelling.
 */
#include "requests/change.h"

#include "base/clean.h"
#include "base/json.h"
#include "base/text.h"

#include <errno.h>
#include <openssl/sha.h>

static int put_text(struct buf *out, const char *key, const char *value)
{
	int ret = buf_printf(out, ",\"%s\":", key);

	return ret < 0 ? ret : text_json(out, str_of(value));
}

static int put_hex(struct buf *out, const char *key, const uint8_t *p, size_t n)
{
	char hex[CHANGE_HASH_HEX];

	text_hex(hex, p, n);
	return buf_printf(out, ",\"%s\":\"%s\"", key, hex);
}

static int put_route(struct buf *out, const struct policy_route *r)
{
	const char *comma = "";
	int ret = put_text(out, "host", r->host);

	if (ret == 0)
		ret = buf_printf(out, ",\"ports\":[");
	for (size_t i = 0; ret == 0 && i < r->n_ports; i++)
		ret = buf_printf(out, "%s%u", i ? "," : "", r->ports[i]);
	if (ret == 0)
		ret = buf_printf(out, "],\"methods\":[");
	for (unsigned m = 0; ret == 0 && m < POLICY_METHOD_COUNT; m++) {
		if (!(r->methods & 1u << m))
			continue;
		ret = buf_printf(out, "%s\"%s\"", comma, policy_method_name((enum policy_method)m));
		comma = ",";
	}
	if (ret == 0)
		ret = buf_printf(out, "],\"paths\":[");
	for (size_t i = 0; ret == 0 && i < r->n_paths; i++) {
		if (i > 0)
			ret = buf_append(out, ",", 1);
		if (ret == 0)
			ret = text_json(out, str_of(r->paths[i]));
	}
	return ret < 0 ? ret : buf_append(out, "]", 1);
}

static int put_release(struct buf *out, const struct change *c)
{
	int ret = put_hex(out, "hash", c->hash, sizeof(c->hash));

	if (ret == 0)
		ret = put_hex(out, "record", c->record, sizeof(c->record));
	if (ret == 0)
		ret = put_route(out, &c->route);
	if (ret == 0)
		ret = put_text(out, "rule", c->rule);
	if (ret == 0)
		ret = put_text(out, "where", c->where);
	return ret < 0 ? ret : put_text(out, "shown", c->shown);
}

static int put_push(struct buf *out, const struct change *c)
{
	int ret = put_hex(out, "hash", c->hash, sizeof(c->hash));

	if (ret == 0)
		ret = put_text(out, "host", c->route.host ? c->route.host : "");
	if (ret == 0)
		ret = put_text(out, "remote", c->remote);
	if (ret == 0)
		ret = put_text(out, "ref", c->ref);
	if (ret == 0)
		ret = put_text(out, "old", c->old_oid);
	if (ret == 0)
		ret = put_text(out, "new", c->new_oid);
	return ret < 0 ? ret : put_text(out, "shown", c->shown);
}

int change_to_json(const struct change *c, struct buf *out)
{
	int ret = buf_printf(out, "{\"kind\":\"%s\"", change_kind_name(c->kind));

	if (ret < 0)
		return ret;
	switch (c->kind) {
	case ASK_EGRESS:
		ret = put_route(out, &c->route);
		break;
	case ASK_RELEASE:
		ret = put_release(out, c);
		break;
	case ASK_PUSH:
		ret = put_push(out, c);
		break;
	case ASK_CAPABILITY:
		ret = put_text(out, "words", c->words);
		break;
	default:
		ret = -EINVAL;
	}
	return ret < 0 ? ret : buf_append(out, "}", 1);
}

/* What is missing, of another type or too long stays empty; then the bytes will differ. */
static void get_text(const json_t *root, const char *key, char *out, size_t size)
{
	const json_t *v = json_object_get(root, key);

	if (json_is_string(v))
		(void)!str_to_cstr(out, size, str_of(json_string_value(v)));
}

static void get_hex(const json_t *root, const char *key, uint8_t *out, size_t n)
{
	const json_t *v = json_object_get(root, key);

	if (json_is_string(v))
		(void)!text_unhex(out, n, str_of(json_string_value(v)));
}

static void get_route(const json_t *root, struct ask *a)
{
	const json_t *ports = json_object_get(root, "ports"), *paths;
	const json_t *methods = json_object_get(root, "methods");
	size_t n = json_array_size(ports);

	get_text(root, "host", a->host, sizeof(a->host));
	for (size_t i = 0; i < n && i < ASK_PORTS_MAX; i++)
		a->ports[a->n_ports++] = (uint16_t)json_integer_value(json_array_get(ports, i));
	n = json_array_size(methods);
	for (size_t i = 0; i < n && i < POLICY_METHOD_COUNT; i++) {
		const char *name = json_string_value(json_array_get(methods, i));
		enum policy_method m;

		if (name && policy_method_parse(str_of(name), &m))
			a->methods |= 1u << m;
	}
	paths = json_object_get(root, "paths");
	n = json_array_size(paths);
	for (size_t i = 0; i < n && i < ASK_PATHS_MAX; i++) {
		const char *path = json_string_value(json_array_get(paths, i));

		(void)!str_to_cstr(a->paths[a->n_paths++], ASK_PATH_SIZE, str_of(path));
	}
}

static void get_ask(const json_t *root, struct ask *a)
{
	char kind[16] = "";

	get_text(root, "kind", kind, sizeof(kind));
	for (enum ask_kind k = ASK_EGRESS; k <= ASK_CAPABILITY; k++)
		if (strcmp(kind, change_kind_name(k)) == 0)
			a->kind = k;
	get_hex(root, "hash", a->hash, sizeof(a->hash));
	get_hex(root, "record", a->record, sizeof(a->record));
	get_route(root, a);
	get_text(root, "rule", a->rule, sizeof(a->rule));
	get_text(root, "where", a->where, sizeof(a->where));
	get_text(root, "shown", a->shown, sizeof(a->shown));
	get_text(root, "remote", a->remote, sizeof(a->remote));
	get_text(root, "ref", a->ref, sizeof(a->ref));
	get_text(root, "old", a->old_oid, sizeof(a->old_oid));
	get_text(root, "new", a->new_oid, sizeof(a->new_oid));
	get_text(root, "words", a->reason, sizeof(a->reason));
}

int change_from_json(struct change *out, struct str json, struct err *e)
{
	_cleanup_json_ json_t *root = NULL;
	_cleanup_(buf_free) struct buf again = BUF_INIT(CHANGE_JSON_MAX_BYTES);
	struct ask a = {0};
	json_error_t why;
	int ret;

	*out = (struct change){0};
	if (json.n > CHANGE_JSON_MAX_BYTES)
		return err_set(e, -EINVAL, "change: larger than %d bytes", CHANGE_JSON_MAX_BYTES);
	root = json_loadb(json.p ? json.p : "", json.n, JSON_REJECT_DUPLICATES, &why);
	if (!root)
		return err_set(e, -EINVAL, "change: not JSON: %s", why.text);
	get_ask(root, &a);
	ret = change_from_ask(out, &a, e);
	if (ret < 0)
		return ret;
	ret = change_to_json(out, &again);
	if (ret == 0 && str_eq(buf_str(&again), json))
		return 0;
	change_free(out);
	return err_set(e, -EINVAL, "change: not in canonical form");
}

int change_key(const struct change *c, uint8_t key[CHANGE_HASH_BYTES])
{
	_cleanup_(buf_free) struct buf json = BUF_INIT(CHANGE_JSON_MAX_BYTES);
	int ret = change_to_json(c, &json);

	if (ret < 0)
		return ret;
	(void)SHA256((const unsigned char *)buf_str(&json).p, buf_len(&json), key);
	return 0;
}
