/* The host is trusted; see orders.c. */
#include "guest/machine_int.h"

#include "base/text.h"

#include <arpa/inet.h>

#define ORDER_EXPOSE_MAX   4000
#define ORDER_HOSTNAME_MAX 63

/* Exactly these keys, each of them there. */
static int order_keys(json_t *j, const char *const *known, struct err *e)
{
	int ret = orders_known_keys(j, known, e);

	for (; ret == 0 && *known; known++) {
		if (!json_object_get(j, *known))
			ret = orders_bad(e, *known);
	}
	return ret;
}

static int order_load(struct str text, json_t **out, struct err *e)
{
	json_error_t ignored;

	*out = json_loadb(text.n > 0 ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &ignored);
	return json_is_object(*out) ? 0 : orders_bad(e, "it is not a JSON object");
}

static int order_bool(const json_t *j, const char *key, bool *out, struct err *e)
{
	const json_t *v = json_object_get(j, key);

	*out = json_is_true(v);
	return json_is_boolean(v) ? 0 : orders_bad(e, key);
}

static int order_unsigned(const json_t *j, const char *key, unsigned max, unsigned *out,
			  struct err *e)
{
	uint64_t value = 0;
	int ret = orders_number(j, key, max, &value, e);

	*out = (unsigned)value;
	return ret;
}

static int order_size(const json_t *j, bool *has_tty, unsigned short *rows, unsigned short *columns,
		      const char *tty, struct err *e)
{
	unsigned r = 0, c = 0;
	int ret = order_bool(j, tty, has_tty, e);

	if (ret == 0)
		ret = order_unsigned(j, "rows", USHRT_MAX, &r, e);
	if (ret == 0)
		ret = order_unsigned(j, "columns", USHRT_MAX, &c, e);
	*rows = (unsigned short)r;
	*columns = (unsigned short)c;
	return ret;
}

/* --- 'm' --- */

static bool order_is_hostname(const char *name)
{
	struct str s = str_of(name);

	if (s.n == 0 || s.n > ORDER_HOSTNAME_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (!ascii_is_alnum(s.p[i]) && s.p[i] != '-' && s.p[i] != '.' && s.p[i] != '_')
			return false;
	}
	return true;
}

static int order_names(struct machine_orders *o, struct err *e)
{
	struct machine_order *m = &o->order;
	const char *seed = json_string_value(json_object_get(o->json, "seed"));
	struct in_addr ignored;

	m->hostname = json_string_value(json_object_get(o->json, "hostname"));
	m->pinned = json_string_value(json_object_get(o->json, "pinned"));
	if (!text_unhex(m->seed, sizeof(m->seed), str_of(seed)))
		return orders_bad(e, "seed");
	if (!order_is_hostname(m->hostname))
		return orders_bad(e, "hostname");
	if (!m->pinned || inet_pton(AF_INET, m->pinned, &ignored) != 1)
		return orders_bad(e, "pinned");
	return 0;
}

static int order_expose(struct machine_orders *o, const json_t *list, struct err *e)
{
	size_t n = json_array_size(list);

	if (!json_is_array(list) || n > MACHINE_EXPOSE_MAX)
		return orders_bad(e, "expose");
	for (size_t i = 0; i < n; i++) {
		const char *path = json_string_value(json_array_get(list, i));

		if (!path || path[0] != '/' || !orders_is_path(path + 1, ORDER_EXPOSE_MAX))
			return orders_bad(e, "expose");
		o->expose[i] = path;
	}
	o->order.expose = o->expose;
	o->order.n_expose = n;
	return 0;
}

static int order_file(json_t *j, struct machine_file *out, struct err *e)
{
	struct guest_file f;
	int ret = orders_file(j, &f, e);

	if (ret < 0)
		return ret;
	if (strncmp(f.path, "/etc/", 5) != 0 || !orders_is_path(f.path + 5, GUEST_PATH_MAX))
		return orders_bad(e, "files");
	*out = (struct machine_file){f.path, f.mode, f.text};
	return 0;
}

static int order_files(struct machine_orders *o, const json_t *list, struct err *e)
{
	size_t n = json_array_size(list);

	if (!json_is_array(list) || n > MACHINE_FILES_MAX)
		return orders_bad(e, "files");
	for (size_t i = 0; i < n; i++) {
		int ret = order_file(json_array_get(list, i), &o->files[i], e);

		if (ret < 0)
			return ret;
	}
	o->order.files = o->files;
	o->order.n_files = n;
	return 0;
}

int machine_orders_parse(struct machine_orders *o, struct str text, struct err *e)
{
	static const char *const known[] = {"time_ns", "seed",	    "hostname", "pinned",
					    "uid",     "gid",	    "rows",	"has_writable_root",
					    "has_tty", "columns",   "env",	"expose",
					    "files",   "tmp_bytes", NULL};
	struct machine_order *m = &o->order;
	int ret;

	memset(o, 0, sizeof(*o));
	ret = order_load(text, &o->json, e);
	if (ret == 0)
		ret = order_keys(o->json, known, e);
	if (ret == 0)
		ret = order_names(o, e);
	if (ret == 0)
		ret = orders_number(o->json, "time_ns", INT64_MAX, &m->time_ns, e);
	if (ret == 0)
		ret = order_unsigned(o->json, "uid", INT_MAX, &m->uid, e);
	if (ret == 0)
		ret = order_unsigned(o->json, "gid", INT_MAX, &m->gid, e);
	if (ret == 0)
		ret = order_bool(o->json, "has_writable_root", &m->has_writable_root, e);
	if (ret == 0)
		ret = order_size(o->json, &m->has_tty, &m->rows, &m->columns, "has_tty", e);
	if (ret == 0)
		ret = orders_env(json_object_get(o->json, "env"), o->env, e);
	if (ret == 0)
		ret = order_expose(o, json_object_get(o->json, "expose"), e);
	if (ret == 0)
		ret = order_files(o, json_object_get(o->json, "files"), e);
	if (ret == 0)
		ret = orders_number(o->json, "tmp_bytes", INT64_MAX, &m->tmp_bytes, e);
	/* Which a file system in memory would take for no limit. */
	if (ret == 0 && m->tmp_bytes == 0)
		ret = orders_bad(e, "tmp_bytes");
	m->env = (const char *const *)o->env;
	m->n_env = json_array_size(json_object_get(o->json, "env"));
	return ret;
}

void machine_orders_free(struct machine_orders *o)
{
	json_decref(o->json);
	o->json = NULL;
}

/* --- 'f' --- */

int machine_file_parse(struct str text, json_t **json, struct machine_file *out, struct err *e)
{
	int ret = order_load(text, json, e);

	return ret == 0 ? order_file(*json, out, e) : ret;
}

/* --- 'S' --- */

int machine_start_parse(struct machine_start *s, struct str text, struct err *e)
{
	static const char *const known[] = {"argv", "number", "tty", "rows", "columns", NULL};
	struct machine_session *m = &s->session;
	int ret;

	memset(s, 0, sizeof(*s));
	ret = order_load(text, &s->json, e);
	if (ret == 0)
		ret = order_keys(s->json, known, e);
	if (ret == 0)
		ret = orders_argv(json_object_get(s->json, "argv"), s->argv, e);
	if (ret == 0)
		ret = order_unsigned(s->json, "number", GUEST_EXEC_MAX, &m->number, e);
	if (ret == 0 && m->number == 0)
		ret = orders_bad(e, "number");
	m->argv = s->argv;
	return ret < 0 ? ret : order_size(s->json, &m->has_tty, &m->rows, &m->columns, "tty", e);
}

void machine_start_free(struct machine_start *s)
{
	json_decref(s->json);
	s->json = NULL;
}
