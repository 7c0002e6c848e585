#include "supervise/args.h"

#include "base/clean.h"
#include "base/text.h"
#include "conf/git_policy.h"
#include "conf/policy.h"

#include <stdarg.h>

static __attribute__((format(printf, 2, 3))) void args_wrong(struct args *a, const char *fmt, ...)
{
	va_list ap;

	if (a->wrong[0])
		return;
	va_start(ap, fmt);
	(void)vsnprintf(a->wrong, sizeof(a->wrong), fmt, ap);
	va_end(ap);
}

bool args_has(const struct args *a, const char *name)
{
	return json_object_get(a->object, name) != NULL;
}

void args_required(struct args *a, const char *name)
{
	if (!args_has(a, name))
		args_wrong(a, "\"%s\" is missing", name);
}

/* The argument, or NULL after something went wrong: whoever reads on reads nothing. */
static json_t *args_get(const struct args *a, const char *name)
{
	return a->wrong[0] ? NULL : json_object_get(a->object, name);
}

void args_only(struct args *a, const char *const *names)
{
	const char *key;
	json_t *value;
	size_t n = 0;

	while (names[n])
		n++;
	json_object_foreach(a->object, key, value)
	{
		const char *near = text_nearest(str_of(key), names, n);
		char shown[64];

		if (near && strcmp(near, key) == 0)
			continue;
		text_visible_cstr(shown, sizeof(shown), str_of(key));
		args_wrong(a, "there is no argument \"%s\"%s%s%s", shown,
			   near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	}
}

/* --- one value --- */

static void args_put_text(struct args *a, const char *name, json_t *value, char *out, size_t size)
{
	struct str text = str_slice(json_string_value(value), json_string_length(value));

	if (!json_is_string(value))
		args_wrong(a, "\"%s\" must be a text", name);
	else if (text.n == 0)
		args_wrong(a, "\"%s\" is empty", name);
	else if (text.n >= size)
		args_wrong(a, "\"%s\" is %zu bytes long; at most %zu are accepted", name, text.n,
			   size - 1);
	else if (!str_to_cstr(out, size, text))
		args_wrong(a, "\"%s\" holds a NUL", name);
}

void args_text(struct args *a, const char *name, bool is_required, char *out, size_t size)
{
	json_t *value = args_get(a, name);

	if (value)
		args_put_text(a, name, value, out, size);
	else if (is_required)
		args_wrong(a, "\"%s\" is missing", name);
}

static bool args_put_integer(struct args *a, const char *name, json_t *value, uint64_t min,
			     uint64_t max, uint64_t *out)
{
	json_int_t v = json_integer_value(value);

	if (json_is_integer(value) && v >= 0 && (uint64_t)v >= min && (uint64_t)v <= max) {
		*out = (uint64_t)v;
		return true;
	}
	if (max > INT32_MAX)
		args_wrong(a, "\"%s\" must be a whole number from %llu on", name,
			   (unsigned long long)min);
	else
		args_wrong(a, "\"%s\" must be a whole number from %llu to %llu", name,
			   (unsigned long long)min, (unsigned long long)max);
	return false;
}

void args_integer(struct args *a, const char *name, uint64_t min, uint64_t max, uint64_t *out)
{
	json_t *value = args_get(a, name);

	if (value)
		(void)args_put_integer(a, name, value, min, max, out);
}

void args_wait(struct args *a, unsigned *wait_ms)
{
	uint64_t seconds = ARGS_WAIT_DEFAULT;

	args_integer(a, "wait_seconds", 0, ARGS_WAIT_MAX, &seconds);
	*wait_ms = (unsigned)seconds * 1000;
}

void args_record(struct args *a, uint8_t record[8])
{
	json_t *value = args_get(a, "record");

	if (value &&
	    !text_unhex(record, 8, str_slice(json_string_value(value), json_string_length(value))))
		args_wrong(a, "\"record\" must be the 16 hex digits that a refusal or "
			      "recent_refusals calls \"record\"");
}

/* --- egress --- */

/* The usual mistakes get their own words; the keeper decides what a host is. */
static void args_host(struct args *a, struct ask *q)
{
	char canonical[POLICY_HOST_MAX + 1];
	struct str host;

	args_text(a, "host", true, q->host, POLICY_HOST_MAX + 1);
	host = str_of(q->host);
	for (size_t i = 0; i < host.n; i++) {
		if ((unsigned char)host.p[i] <= ' ' || strchr("/\\@?#\x7f", host.p[i])) {
			args_wrong(a, "\"host\" must be a host name alone, such as "
				      "\"api.example.com\": no scheme, path, user or space");
			return;
		}
	}
	if (host.n > 0 && policy_host_canonical(host, canonical) == POLICY_DENY_IP_LITERAL)
		args_wrong(a, "\"host\" is an address; only names can be allowed");
	else if (memchr(q->host, ':', host.n))
		args_wrong(a, "\"host\" must not hold a port: give it in \"ports\"");
}

/* A list of 1 to max; NULL: absent, or wrong. */
static json_t *args_list(struct args *a, const char *name, size_t max)
{
	json_t *list = args_get(a, name);

	if (!list)
		return NULL;
	if (json_is_array(list) && json_array_size(list) > 0 && json_array_size(list) <= max)
		return list;
	args_wrong(a, "\"%s\" must be a list of 1 to %zu", name, max);
	return NULL;
}

static void args_ports(struct args *a, struct ask *q)
{
	json_t *list = args_list(a, "ports", ASK_PORTS_MAX);

	for (size_t i = 0; i < json_array_size(list); i++) {
		uint64_t port;

		if (!args_put_integer(a, "ports", json_array_get(list, i), 1, UINT16_MAX, &port))
			return;
		q->ports[q->n_ports++] = (uint16_t)port;
	}
}

static void args_methods(struct args *a, struct ask *q)
{
	json_t *list = args_list(a, "methods", POLICY_METHOD_COUNT);

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);
		enum policy_method m;

		if (!policy_method_parse(
			    str_slice(json_string_value(item), json_string_length(item)), &m)) {
			args_wrong(a, "\"methods\" may hold GET, HEAD, POST, PUT, PATCH, DELETE "
				      "and OPTIONS, in capitals");
			return;
		}
		q->methods |= 1u << m;
	}
}

static void args_paths(struct args *a, struct ask *q)
{
	json_t *list = args_list(a, "paths", ASK_PATHS_MAX);

	for (size_t i = 0; i < json_array_size(list); i++) {
		char *path = q->paths[q->n_paths++];
		struct err e = ERR_INIT;

		args_put_text(a, "paths", json_array_get(list, i), path, ASK_PATH_SIZE);
		if (!a->wrong[0] && policy_path_pattern_check(str_of(path), &e) < 0)
			args_wrong(a, "\"paths\": %s", e.text);
	}
}

void args_egress(struct args *a, struct ask *q)
{
	q->kind = ASK_EGRESS;
	args_only(a, (const char *const[]){"host", "ports", "methods", "paths", "record", "reason",
					   "wait_seconds", NULL});
	args_text(a, "reason", true, q->reason, sizeof(q->reason));
	if (!args_has(a, "record")) {
		args_host(a, q);
		args_ports(a, q);
		args_methods(a, q);
		args_paths(a, q);
		return;
	}
	if (args_has(a, "host") || args_has(a, "ports") || args_has(a, "methods") ||
	    args_has(a, "paths"))
		args_wrong(a, "give \"record\" alone, or \"host\" with \"ports\", \"methods\" and "
			      "\"paths\"");
	args_record(a, q->record);
}

/* --- the others --- */

void args_release(struct args *a, struct ask *q)
{
	q->kind = ASK_RELEASE;
	args_only(a, (const char *const[]){"record", "reason", "wait_seconds", NULL});
	args_text(a, "reason", true, q->reason, sizeof(q->reason));
	args_required(a, "record");
	args_record(a, q->record);
}

/* A whole object name: what a decision is bound to cannot be an abbreviation. */
static void args_commit(struct args *a, struct ask *q)
{
	uint8_t ignored[(GIT_OID_SIZE - 1) / 2];

	args_text(a, "commit", true, q->new_oid, GIT_OID_SIZE);
	if (!text_unhex(ignored, sizeof(ignored), str_of(q->new_oid)))
		args_wrong(a, "\"commit\" must be a whole commit id, %d hex digits",
			   GIT_OID_SIZE - 1);
	str_lower_into(q->new_oid, str_of(q->new_oid));
}

void args_push(struct args *a, struct ask *q)
{
	q->kind = ASK_PUSH;
	args_only(a, (const char *const[]){"record", "remote", "ref", "commit", "reason",
					   "wait_seconds", NULL});
	args_text(a, "reason", true, q->reason, sizeof(q->reason));
	if (!args_has(a, "record")) {
		args_text(a, "remote", true, q->remote, GIT_NAME_MAX + 1);
		args_text(a, "ref", true, q->ref, sizeof(q->ref));
		if (!a->wrong[0] && !str_starts(str_of(q->ref), STR_LIT("refs/")))
			args_wrong(a, "\"ref\" must be a whole one, such as \"refs/heads/main\"");
		args_commit(a, q);
		return;
	}
	if (args_has(a, "remote") || args_has(a, "ref") || args_has(a, "commit"))
		args_wrong(a, "give \"record\" alone, or \"remote\", \"ref\" and \"commit\"");
	args_record(a, q->record);
}

/* Words for a human, both of them: what is asked for is no more than what is said. */
void args_capability(struct args *a, struct ask *q)
{
	char what[ARGS_WORDS_SIZE] = "", reason[ARGS_WORDS_SIZE] = "";

	q->kind = ASK_CAPABILITY;
	args_only(a, (const char *const[]){"what", "reason", "wait_seconds", NULL});
	args_text(a, "what", true, what, sizeof(what));
	args_text(a, "reason", true, reason, sizeof(reason));
	(void)snprintf(q->reason, sizeof(q->reason), "%s - reason: %s", what, reason);
}
