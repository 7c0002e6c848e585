/*
 * The keeper is trusted, but what it hands over must be exactly what the contract says: an order
 * that is not understood to its last key is not carried out.
 */
#include "guest/guest_int.h"

#include "base/clean.h"
#include "base/io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#define ORDERS_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

int orders_bad(struct err *e, const char *what)
{
	return err_set(e, -EPROTO, "the keeper's order makes no sense: %s", what);
}

/* --- one value --- */

int orders_known_keys(json_t *j, const char *const *known, struct err *e)
{
	const char *key;
	json_t *value;

	json_object_foreach(j, key, value)
	{
		size_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			return orders_bad(e, "an unknown key");
	}
	return 0;
}

int orders_number(const json_t *j, const char *key, uint64_t max, uint64_t *out, struct err *e)
{
	const json_t *v = json_object_get(j, key);

	if (!json_is_integer(v) || json_integer_value(v) < 0 ||
	    (uint64_t)json_integer_value(v) > max)
		return orders_bad(e, key);
	*out = (uint64_t)json_integer_value(v);
	return 0;
}

static bool orders_is_address(const char *text)
{
	struct in6_addr ignored;

	return text && (inet_pton(AF_INET, text, &ignored) == 1 ||
			inet_pton(AF_INET6, text, &ignored) == 1);
}

/* --- the canary's --- */

static int orders_parse_answers(struct orders *o, const json_t *list, struct err *e)
{
	if (!json_is_array(list) || json_array_size(list) > GUEST_ANSWERS_MAX)
		return orders_bad(e, "answers");
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_int_t port = json_integer_value(json_array_get(list, i));

		if (port < 1 || port > 65535)
			return orders_bad(e, "answers");
		o->answers[i] = (unsigned)port;
	}
	o->canary.answers = o->answers;
	o->canary.n_answers = json_array_size(list);
	return 0;
}

static int orders_parse_closed(struct orders *o, const json_t *list, struct err *e)
{
	static const char *const known[] = {"address", "port", "what", NULL};

	if (!json_is_array(list) || json_array_size(list) > GUEST_CLOSED_MAX)
		return orders_bad(e, "closed");
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *j = json_array_get(list, i);
		struct guest_target *t = &o->closed[i];
		const json_t *what;
		uint64_t port;

		if (!json_is_object(j) || orders_known_keys(j, known, e) < 0 ||
		    orders_number(j, "port", 65535, &port, e) < 0)
			return orders_bad(e, "closed");
		t->address = json_string_value(json_object_get(j, "address"));
		t->port = (unsigned)port;
		what = json_object_get(j, "what");
		t->what = json_string_value(what);
		if (!orders_is_address(t->address) || port == 0 || (what && !t->what))
			return orders_bad(e, "closed");
	}
	o->canary.closed = o->closed;
	o->canary.n_closed = json_array_size(list);
	return 0;
}

static int orders_parse_canary(struct orders *o, struct err *e)
{
	static const char *const known[] = {"pinned", "answers", "closed", NULL};
	struct in_addr ignored;
	int ret = orders_known_keys(o->json, known, e);

	if (ret < 0)
		return ret;
	o->canary.pinned = json_string_value(json_object_get(o->json, "pinned"));
	if (!o->canary.pinned || inet_pton(AF_INET, o->canary.pinned, &ignored) != 1)
		return orders_bad(e, "pinned");
	ret = orders_parse_answers(o, json_object_get(o->json, "answers"), e);
	return ret < 0 ? ret : orders_parse_closed(o, json_object_get(o->json, "closed"), e);
}

/* --- the agent's --- */

int orders_argv(const json_t *list, char **out, struct err *e)
{
	size_t n = json_array_size(list);

	if (n == 0 || n > GUEST_ARGV_MAX)
		return orders_bad(e, "argv");
	for (size_t i = 0; i < n; i++) {
		/* jansson has refused \u0000, so a string is what a C string is. */
		out[i] = (char *)(uintptr_t)json_string_value(json_array_get(list, i));
		if (!out[i])
			return orders_bad(e, "argv");
	}
	out[n] = NULL;
	return out[0][0] == '\0' ? orders_bad(e, "argv") : 0;
}

int orders_env(const json_t *list, char **out, struct err *e)
{
	size_t n = json_array_size(list);

	if (!json_is_array(list) || n > GUEST_ENV_MAX)
		return orders_bad(e, "env");
	for (size_t i = 0; i < n; i++) {
		out[i] = (char *)(uintptr_t)json_string_value(json_array_get(list, i));
		if (!out[i] || out[i][0] == '=' || !strchr(out[i], '='))
			return orders_bad(e, "env");
	}
	out[n] = NULL;
	return 0;
}

bool orders_is_path(const char *path, size_t max)
{
	struct str rest = str_of(path), part;
	bool more = true;

	if (!path || rest.n == 0 || rest.n > max)
		return false;
	while (more) {
		rest = str_cut(rest, '/', &part, &more);
		if (part.n == 0 || str_eq(part, STR_LIT(".")) || str_eq(part, STR_LIT("..")))
			return false;
	}
	return true;
}

int orders_file(json_t *j, struct guest_file *f, struct err *e)
{
	static const char *const known[] = {"path", "mode", "text", NULL};
	const json_t *text = json_object_get(j, "text");
	uint64_t mode;

	if (!json_is_object(j) || orders_known_keys(j, known, e) < 0 ||
	    orders_number(j, "mode", 0777, &mode, e) < 0 || !json_is_string(text))
		return orders_bad(e, "files");
	f->path = json_string_value(json_object_get(j, "path"));
	f->mode = (unsigned)mode;
	f->text = str_slice(json_string_value(text), json_string_length(text));
	return f->path ? 0 : orders_bad(e, "files");
}

static int orders_parse_files(struct orders *o, const json_t *list, struct err *e)
{
	if (!json_is_array(list) || json_array_size(list) > GUEST_FILES_MAX)
		return orders_bad(e, "files");
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct guest_file *f = &o->files[i];
		int ret = orders_file(json_array_get(list, i), f, e);

		if (ret < 0)
			return ret;
		if (!orders_is_path(f->path, GUEST_PATH_MAX))
			return orders_bad(e, "files");
	}
	o->go.files = o->files;
	o->go.n_files = json_array_size(list);
	return 0;
}

/* The files of a machine's own, which are no order of guest init's. */
static int orders_parse_place(struct orders *o, struct err *e)
{
	static const char *const known[] = {"files", NULL};
	int ret = orders_known_keys(o->json, known, e);

	return ret < 0 ? ret : orders_parse_files(o, json_object_get(o->json, "files"), e);
}

static int orders_parse_go(struct orders *o, struct err *e)
{
	static const char *const known[] = {"argv", "env", "tty", "files", "limits", NULL};
	static const char *const known_limits[] = {"files", "file_size_bytes", "processes", NULL};
	json_t *tty = json_object_get(o->json, "tty");
	json_t *limits = json_object_get(o->json, "limits");
	struct guest_limits *l = &o->go.limits;
	int ret = orders_known_keys(o->json, known, e);

	o->go.argv = o->argv;
	o->go.env = o->env;
	if (ret == 0)
		ret = orders_argv(json_object_get(o->json, "argv"), o->argv, e);
	if (ret == 0)
		ret = orders_env(json_object_get(o->json, "env"), o->env, e);
	if (ret == 0 && !json_is_boolean(tty))
		ret = orders_bad(e, "tty");
	o->go.has_tty = json_is_true(tty);
	if (ret == 0)
		ret = orders_parse_files(o, json_object_get(o->json, "files"), e);
	if (ret == 0 && !json_is_object(limits))
		ret = orders_bad(e, "limits");
	if (ret == 0)
		ret = orders_known_keys(limits, known_limits, e);
	if (ret == 0)
		ret = orders_number(limits, "files", INT64_MAX, &l->files, e);
	if (ret == 0)
		ret = orders_number(limits, "file_size_bytes", INT64_MAX, &l->file_size_bytes, e);
	return ret < 0 ? ret : orders_number(limits, "processes", INT64_MAX, &l->processes, e);
}

/* --- the message --- */

static int orders_read_json(int fd, json_t **out, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	json_error_t ignored;
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	/* Unsealed, it could change between the look and the use. */
	if (seals < 0 || (seals & ORDERS_SEALS) != ORDERS_SEALS)
		return orders_bad(e, "its memory file is not sealed");
	if (fstat(fd, &st) < 0)
		return err_errno(e, "look at the keeper's order");
	if (st.st_size > (off_t)GUEST_JSON_MAX)
		return orders_bad(e, "it is too long");
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return err_set(e, -ENOMEM, "no memory for the keeper's order");
	for (off_t n = 0; n < st.st_size;) {
		ssize_t got = pread(fd, text + n, (size_t)(st.st_size - n), n);

		if (got <= 0)
			return err_set(e, -EIO, "read the keeper's order");
		n += got;
	}
	*out = json_loadb(text, (size_t)st.st_size, JSON_REJECT_DUPLICATES, &ignored);
	return json_is_object(*out) ? 0 : orders_bad(e, "it is not a JSON object");
}

int orders_take(int file, char letter, struct orders *o, struct err *e)
{
	int ret;

	memset(o, 0, sizeof(*o));
	ret = orders_read_json(file, &o->json, e);
	if (ret < 0)
		return ret;
	ret = letter == 'c'   ? orders_parse_canary(o, e)
	      : letter == 'g' ? orders_parse_go(o, e)
			      : orders_parse_place(o, e);
	if (ret == 0)
		o->letter = letter;
	return ret;
}

int orders_receive(int sock, struct orders *o, struct err *e)
{
	_cleanup_close_ int file = -1;
	size_t n_fds = 1;
	char letter[2];
	ssize_t got;

	memset(o, 0, sizeof(*o));
	got = io_recv_fds(sock, letter, sizeof(letter), &file, &n_fds, 0);
	if (got == 0 || got == -ECONNRESET)
		return 0;
	if (got < 0)
		return err_set(e, (int)got, "the keeper's message cannot be taken");
	if (n_fds == 0)
		file = -1;
	if (got != 1 || n_fds != 1)
		return orders_bad(e, "not one letter and one file");
	if (letter[0] != 'c' && letter[0] != 'g')
		return orders_bad(e, "an unknown letter");
	return orders_take(file, letter[0], o, e);
}

int orders_receive_pass(int sock, struct orders_pass *p, struct err *e)
{
	unsigned char message[GUEST_PASS_BYTES + 1];
	uint32_t exec;
	ssize_t got = io_recv_fds(sock, message, sizeof(message), NULL, NULL, 0);

	*p = (struct orders_pass){.signo = 0};
	if (got == 0 || got == -ECONNRESET)
		return 0;
	if (got < 0)
		return err_set(e, (int)got, "the keeper's message cannot be taken");
	if (got != GUEST_PASS_BYTES || message[0] != 'p')
		return orders_bad(e, "no signal to pass on");
	memcpy(&exec, message + 2, sizeof(exec));
	exec = ntohl(exec);
	if (message[1] == 0 || message[1] > SIGRTMAX || exec > GUEST_EXEC_MAX)
		return orders_bad(e, "no such signal");
	*p = (struct orders_pass){.exec = exec, .signo = message[1]};
	return 1;
}

void orders_free(struct orders *o)
{
	json_decref(o->json);
	o->json = NULL;
}
