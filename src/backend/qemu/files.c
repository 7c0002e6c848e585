/* What the machine is told: JSON that is made here and read in there. */
#include "backend/qemu/qemu_int.h"

#include "backend/agent_env.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define FILES_TEXT_MAX (256u << 10)
#define FILES_MODE     0644

static json_t *strings(const char *const *list, size_t n)
{
	json_t *out = json_array();

	for (size_t i = 0; i < n; i++) {
		if (json_array_append_new(out, json_string(list[i])) < 0) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

static size_t count(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

static json_t *file_json(const char *path, struct str text)
{
	return json_pack("{s:s, s:i, s:o}", "path", path, "mode", FILES_MODE, "text",
			 json_stringn(text.p ? text.p : "", text.n));
}

/* A sealed memory file of ours; its offset is where the writer left it. */
static int add_file(json_t *files, const struct agent_file *f, struct err *e)
{
	struct str text;
	int ret;

	if (lseek(f->fd, 0, SEEK_SET) < 0)
		return err_errno(e, "read \"%s\"", f->path);
	ret = io_read_all(f->fd, FILES_TEXT_MAX, &text, e);
	if (ret < 0)
		return ret;
	if (json_array_append_new(files, file_json(f->path, text)) < 0)
		ret = err_set(e, -EILSEQ, "\"%s\" is not UTF-8", f->path);
	free((void *)(uintptr_t)text.p);
	return ret;
}

static int files_json(const struct qemu_order *o, json_t *out, struct err *e)
{
	const struct plan *p = o->plan;
	struct agent_file files[AGENT_FILES_MAX];
	size_t n = 0;
	int ret = agent_files_make(files, &n, p, o->pinned, p->agent_uid, p->agent_uid, e);

	if (ret < 0)
		return ret;
	for (size_t i = 0; ret == 0 && i < n; i++)
		ret = add_file(out, &files[i], e);
	agent_files_free(files, n);
	return ret;
}

int qemu_order_make(const struct qemu_order *o, json_t **out, struct err *e)
{
	const struct plan *p = o->plan;
	_cleanup_json_ json_t *files = json_array();
	int ret = files_json(o, files, e);

	*out = NULL;
	if (ret < 0)
		return ret;
	*out = json_pack("{s:s, s:s, s:i, s:i, s:b, s:b, s:i, s:i, s:o, s:o, s:O, s:I}", "hostname",
			 p->slug, "pinned", o->pinned, "uid", (int)p->agent_uid, "gid",
			 (int)p->agent_uid, "has_writable_root", (int)p->has_writable_root,
			 "has_tty", (int)o->has_tty, "rows", 0, "columns", 0, "env",
			 strings((const char *const *)o->env, count(o->env)), "expose",
			 strings((const char *const *)p->expose, p->n_expose), "files", files,
			 "tmp_bytes", (json_int_t)o->tmp_bytes);
	return *out ? 0 : err_set(e, -EILSEQ, "what the machine is told is not UTF-8");
}

int qemu_order_finish(json_t *order, char **text, struct err *e)
{
	unsigned char seed[MACHINE_SEED_BYTES];
	char hex[2 * MACHINE_SEED_BYTES + 1];

	*text = NULL;
	if (getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return err_set(e, -EIO, "no random bytes");
	text_hex(hex, seed, sizeof(seed));
	if (json_object_set_new(order, "seed", json_string(hex)) < 0 ||
	    json_object_set_new(order, "time_ns", json_integer((json_int_t)time_realtime_ns())) < 0)
		return err_set(e, -ENOMEM, "no memory for the machine's order");
	*text = json_dumps(order, JSON_COMPACT);
	if (!*text || strlen(*text) > MACHINE_CONTROL_MAX)
		return err_set(e, -E2BIG, "what the machine is told is too long");
	return 0;
}

/* The system's roots are in it, so it is not short. */
int qemu_send_ca(int conn_fd, struct str ca_pem, struct err *e)
{
	_cleanup_close_ int bundle = memfd_create("ca", MFD_CLOEXEC), order = -1;
	_cleanup_json_ json_t *file = NULL;
	_cleanup_free_ char *text = NULL;
	struct str all = STR_NULL;
	const char letter = 'f';
	int ret;

	if (bundle < 0)
		return err_errno(e, "memfd_create");
	ret = agent_ca_write(bundle, ca_pem, e);
	if (ret == 0 && lseek(bundle, 0, SEEK_SET) < 0)
		ret = err_errno(e, "read the certificates");
	if (ret == 0)
		ret = io_read_all(bundle, MACHINE_CONTROL_MAX, &all, e);
	if (ret < 0)
		return ret;
	file = file_json(AGENT_CA_PATH, all);
	free((void *)(uintptr_t)all.p);
	text = file ? json_dumps(file, JSON_COMPACT) : NULL;
	if (!text)
		return err_set(e, -EILSEQ, "the certificates are not UTF-8");
	order = io_memfd_sealed("order", str_of(text), e);
	if (order < 0)
		return order;
	return io_send_fds(conn_fd, &letter, 1, &order, 1, MSG_NOSIGNAL) == 1
		       ? 0
		       : err_set(e, -EPIPE, "the machine went away");
}

char *qemu_session_order(char *const *argv, unsigned number, const struct backend_stdio *io)
{
	_cleanup_json_ json_t *j = json_pack("{s:o, s:i, s:b, s:i, s:i}", "argv",
					     strings((const char *const *)argv, count(argv)),
					     "number", (int)number, "tty", (int)io->has_tty, "rows",
					     (int)io->rows, "columns", (int)io->columns);

	return j ? json_dumps(j, JSON_COMPACT) : NULL;
}
