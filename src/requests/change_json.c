/*
 * The canonical form. What change_from_json() has read is written again and must be the same bytes:
 * so it need not look for unknown keys, another order or another spelling.
 */
#include "requests/change.h"

#include "base/clean.h"
#include "base/text.h"
#include "requests/canon.h"

#include <errno.h>
#include <openssl/sha.h>

static int put(struct buf *out, const char *literal)
{
	return buf_append_str(out, str_of(literal));
}

static int put_text(struct buf *out, const char *key, const char *value)
{
	int ret = put(out, key);

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
	int ret = put(out, ",");

	return ret < 0 ? ret : policy_destination_to_json(r, out);
}

static int put_release(struct buf *out, const struct change *c)
{
	int ret = put_hex(out, "hash", c->hash, sizeof(c->hash));

	if (ret == 0)
		ret = put_hex(out, "record", c->record, sizeof(c->record));
	if (ret == 0)
		ret = put_route(out, &c->route);
	if (ret == 0)
		ret = put_text(out, ",\"rule\":", c->rule);
	if (ret == 0)
		ret = put_text(out, ",\"where\":", c->where);
	return ret < 0 ? ret : put_text(out, ",\"shown\":", c->shown);
}

static int put_push(struct buf *out, const struct change *c)
{
	int ret = put_hex(out, "hash", c->hash, sizeof(c->hash));

	if (ret == 0)
		ret = put_text(out, ",\"host\":", c->route.host ? c->route.host : "");
	if (ret == 0)
		ret = put_text(out, ",\"remote\":", c->remote);
	if (ret == 0)
		ret = put_text(out, ",\"ref\":", c->ref);
	if (ret == 0)
		ret = put_text(out, ",\"old\":", c->old_oid);
	if (ret == 0)
		ret = put_text(out, ",\"new\":", c->new_oid);
	return ret < 0 ? ret : put_text(out, ",\"shown\":", c->shown);
}

int change_to_json(const struct change *c, struct buf *out)
{
	int ret = put_text(out, "{\"kind\":", change_kind_name(c->kind));

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
		ret = put_text(out, ",\"words\":", c->words);
		break;
	default:
		ret = -EINVAL;
	}
	return ret < 0 ? ret : buf_append(out, "}", 1);
}

static void get_route(struct canon *c, struct ask *a)
{
	char name[16];
	enum policy_method m;
	size_t n = 0;

	canon_expect(c, ",\"host\":");
	canon_string(c, a->host, sizeof(a->host));
	canon_expect(c, ",\"ports\":[");
	do
		a->ports[a->n_ports++] = (uint16_t)canon_number(c, 65535);
	while (a->n_ports < ASK_PORTS_MAX && canon_next_is(c, ","));
	canon_expect(c, "],\"methods\":[");
	do {
		canon_string(c, name, sizeof(name));
		if (policy_method_parse(str_of(name), &m))
			a->methods |= 1u << m;
	} while (n++ < POLICY_METHOD_COUNT && canon_next_is(c, ","));
	canon_expect(c, "],\"paths\":[");
	do
		canon_string(c, a->paths[a->n_paths++], ASK_PATH_SIZE);
	while (a->n_paths < ASK_PATHS_MAX && canon_next_is(c, ","));
	canon_expect(c, "]");
}

static void get_text(struct canon *c, const char *key, char *out, size_t size)
{
	canon_expect(c, key);
	canon_string(c, out, size);
}

static void get_release(struct canon *c, struct ask *a)
{
	canon_expect(c, ",\"hash\":");
	canon_hex(c, a->hash, sizeof(a->hash));
	canon_expect(c, ",\"record\":");
	canon_hex(c, a->record, sizeof(a->record));
	get_route(c, a);
	get_text(c, ",\"rule\":", a->rule, sizeof(a->rule));
	get_text(c, ",\"where\":", a->where, sizeof(a->where));
	get_text(c, ",\"shown\":", a->shown, sizeof(a->shown));
}

static void get_push(struct canon *c, struct ask *a)
{
	canon_expect(c, ",\"hash\":");
	canon_hex(c, a->hash, sizeof(a->hash));
	get_text(c, ",\"host\":", a->host, sizeof(a->host));
	get_text(c, ",\"remote\":", a->remote, sizeof(a->remote));
	get_text(c, ",\"ref\":", a->ref, sizeof(a->ref));
	get_text(c, ",\"old\":", a->old_oid, sizeof(a->old_oid));
	get_text(c, ",\"new\":", a->new_oid, sizeof(a->new_oid));
	get_text(c, ",\"shown\":", a->shown, sizeof(a->shown));
}

static bool get_ask(struct str json, struct ask *a)
{
	struct canon c = {.rest = json};

	if (canon_next_is(&c, "{\"kind\":\"egress\"")) {
		a->kind = ASK_EGRESS;
		get_route(&c, a);
	} else if (canon_next_is(&c, "{\"kind\":\"release\"")) {
		a->kind = ASK_RELEASE;
		get_release(&c, a);
	} else if (canon_next_is(&c, "{\"kind\":\"push\"")) {
		a->kind = ASK_PUSH;
		get_push(&c, a);
	} else {
		a->kind = ASK_CAPABILITY;
		get_text(&c, "{\"kind\":\"capability\",\"words\":", a->reason, sizeof(a->reason));
	}
	canon_expect(&c, "}");
	return !c.is_bad && c.rest.n == 0;
}

int change_from_json(struct change *out, struct str json, struct err *e)
{
	_cleanup_(buf_free) struct buf again = BUF_INIT(CHANGE_JSON_MAX_BYTES);
	struct ask a = {0};
	int ret;

	*out = (struct change){0};
	if (json.n > CHANGE_JSON_MAX_BYTES || !get_ask(json, &a))
		return err_set(e, -EINVAL, "change: not in canonical form");
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
