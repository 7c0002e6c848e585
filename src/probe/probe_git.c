#include "probe/probe_git.h"

#include "base/clean.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/ports.h"
#include "base/text.h"
#include "base/timeutil.h"

#include <openssl/evp.h>
#include <poll.h>
#include <sys/socket.h>
#include <zlib.h>

#define GIT_CONNECT_MS	 2000
#define GIT_ANSWER_MS	 30000 /* a push: scanned here, then forwarded */
#define PACK_MAX	 (1u << 20)
#define DELTA_TYPE	 7 /* OBJ_REF_DELTA */
#define DELTA_COPY_MAX	 0x10000
#define DELTA_INSERT_MAX 127

static const char no_oid[] = "0000000000000000000000000000000000000000";

static void must(int ret)
{
	if (ret < 0)
		die("a request of git's grew too large");
}

/* --- objects --- */

static void git_hash(const char *type, struct str data, unsigned char raw[20])
{
	_cleanup_(buf_free) struct buf all;
	unsigned n;

	buf_init(&all, data.n + 64);
	must(buf_printf(&all, "%s %zu", type, data.n));
	must(buf_append(&all, "", 1));
	must(buf_append_str(&all, data));
	if (EVP_Digest(all.p + all.from, buf_len(&all), raw, &n, EVP_sha1(), NULL) != 1)
		die("SHA-1");
}

static void append_deflated(struct buf *out, struct str data)
{
	uLongf n = compressBound(data.n);
	_cleanup_free_ char *room = mem_zalloc(n);

	if (compress2((Bytef *)room, &n, (const Bytef *)data.p, data.n, 9) != Z_OK)
		die("deflate");
	must(buf_append(out, room, n));
}

static void append_head(struct buf *out, unsigned type, size_t size)
{
	unsigned char byte = (unsigned char)(type << 4 | (size & 15));

	for (size >>= 4; size; size >>= 7) {
		must(buf_append(out, (const unsigned char[]){(unsigned char)(byte | 0x80)}, 1));
		byte = size & 127;
	}
	must(buf_append(out, &byte, 1));
}

void probe_pack_init(struct probe_pack *p)
{
	p->n = 0;
	buf_init(&p->objects, PACK_MAX);
}

void probe_pack_free(struct probe_pack *p)
{
	buf_free(&p->objects);
}

void probe_pack_add(struct probe_pack *p, enum probe_object type, struct str data,
		    char oid[PROBE_OID_SIZE])
{
	static const char *const names[] = {"", "commit", "tree", "blob", "tag"};
	unsigned char raw[20];

	git_hash(names[type], data, raw);
	text_hex(oid, raw, sizeof(raw));
	append_head(&p->objects, type, data.n);
	append_deflated(&p->objects, data);
	p->n++;
}

static void append_number(struct buf *out, size_t value)
{
	do {
		unsigned char byte = value & 127;

		value >>= 7;
		if (value)
			byte |= 0x80;
		must(buf_append(out, &byte, 1));
	} while (value);
}

static void append_copy(struct buf *out, size_t from, size_t n)
{
	const unsigned char op[] = {0x80 | 0x0f | 0x30,		 (unsigned char)from,
				    (unsigned char)(from >> 8),	 (unsigned char)(from >> 16),
				    (unsigned char)(from >> 24), (unsigned char)n,
				    (unsigned char)(n >> 8)};

	if (n >= DELTA_COPY_MAX)
		die("a delta's base is too large");
	if (n > 0)
		must(buf_append(out, op, sizeof(op)));
}

void probe_pack_add_delta(struct probe_pack *p, struct str base, struct str replaces,
			  struct str with, char oid[PROBE_OID_SIZE])
{
	_cleanup_(buf_free) struct buf delta, whole;
	size_t at = str_find(base, replaces), after = at + replaces.n;
	unsigned char base_raw[20], raw[20];

	if (at == base.n || with.n > DELTA_INSERT_MAX)
		die("this is no delta");
	buf_init(&whole, PACK_MAX);
	must(buf_append_str(&whole, str_sub(base, 0, at)));
	must(buf_append_str(&whole, with));
	must(buf_append_str(&whole, str_sub(base, after, base.n)));
	git_hash("blob", base, base_raw);
	git_hash("blob", buf_str(&whole), raw);
	text_hex(oid, raw, sizeof(raw));
	buf_init(&delta, 1024);
	append_number(&delta, base.n);
	append_number(&delta, buf_len(&whole));
	append_copy(&delta, 0, at);
	must(buf_append(&delta, (const unsigned char[]){(unsigned char)with.n}, 1));
	must(buf_append_str(&delta, with));
	append_copy(&delta, after, base.n - after);
	append_head(&p->objects, DELTA_TYPE, buf_len(&delta));
	must(buf_append(&p->objects, base_raw, sizeof(base_raw)));
	append_deflated(&p->objects, buf_str(&delta));
	p->n++;
}

void probe_tree_add(struct buf *tree, const char *mode, struct str name, const char *oid)
{
	unsigned char raw[20];

	if (!text_unhex(raw, sizeof(raw), str_of(oid)))
		die("an object's name is none");
	must(buf_printf(tree, "%s ", mode));
	must(buf_append_str(tree, name));
	must(buf_append(tree, "", 1));
	must(buf_append(tree, raw, sizeof(raw)));
}

/* --- requests --- */

void probe_git_path(const struct probe_env *env, const char *repository, char *out, size_t size)
{
	if (env->is_control)
		(void)snprintf(out, size, "/git/%s.git",
			       strcmp(repository, "workspace") == 0 ? "project" : repository);
	else if (strcmp(repository, "workspace") == 0)
		(void)snprintf(out, size, "/workspace");
	else
		(void)snprintf(out, size, "/git.selftest.example/git/%s", repository);
}

static void read_reply(int fd, struct probe_reply *r)
{
	uint64_t end_ns = time_monotonic_ns() + GIT_ANSWER_MS * TIME_NS_PER_MS, now;
	struct str status;
	uint64_t number;

	while (r->n + 1 < sizeof(r->text) && (now = time_monotonic_ns()) < end_ns &&
	       io_wait(fd, POLLIN, (int)((end_ns - now) / TIME_NS_PER_MS) + 1) == 1) {
		ssize_t n = recv(fd, r->text + r->n, sizeof(r->text) - 1 - r->n, 0);

		if (n <= 0)
			break;
		r->n += (size_t)n;
	}
	r->text[r->n] = '\0';
	status = str_sub(str_slice(r->text, r->n), 9, 12);
	if (strncmp(r->text, "HTTP/1.", 7) == 0 && str_to_u64(status, 999, &number) == 0)
		r->status = (int)number;
}

void probe_git_ask(const struct probe_env *env, const char *method, const char *target,
		   const char *headers, struct str body, struct probe_reply *r)
{
	const char *host = env->is_control ? "127.0.0.1" : env->pinned;
	uint16_t port = env->is_control ? env->plain : SERVICE_PORT_GITGATE;
	_cleanup_(buf_free) struct buf out = BUF_INIT(PACK_MAX + 65536);
	_cleanup_close_ int fd = -1;

	memset(r, 0, sizeof(*r));
	fd = host ? probe_connect(host, port, GIT_CONNECT_MS) : -1;
	if (fd < 0) {
		(void)snprintf(r->error, sizeof(r->error), "git-gate: %s",
			       host ? strerror(-fd) : "no address");
		return;
	}
	must(buf_printf(&out, "%s %s HTTP/1.1\r\nHost: %s:%u\r\nConnection: close\r\n%s", method,
			target, host, port, headers));
	if (body.n > 0)
		must(buf_printf(&out, "Content-Length: %zu\r\n", body.n));
	must(buf_append(&out, "\r\n", 2));
	must(buf_append_str(&out, body));
	(void)!io_write_all(fd, out.p + out.from, buf_len(&out));
	read_reply(fd, r);
}

bool probe_git_ref(const struct probe_env *env, const char *repository, const char *ref,
		   char oid[PROBE_OID_SIZE])
{
	static struct probe_reply r;
	char path[512], target[640];
	struct str wanted = str_of(ref), text;

	oid[0] = '\0';
	probe_git_path(env, repository, path, sizeof(path));
	(void)snprintf(target, sizeof(target), "%s/info/refs?service=git-receive-pack", path);
	probe_git_ask(env, "GET", target, "", STR_NULL, &r);
	text = str_slice(r.text, r.n);
	for (size_t from = 0; from < text.n;) {
		struct str rest = str_sub(text, from, text.n);
		size_t at = str_find(rest, wanted);
		char after;

		if (at == rest.n)
			return false;
		after = at + wanted.n < rest.n ? rest.p[at + wanted.n] : '\0';
		from += at + wanted.n;
		if (at >= 41 && rest.p[at - 1] == ' ' && (after == '\n' || after == '\0'))
			return str_to_cstr(oid, PROBE_OID_SIZE, str_sub(rest, at - 41, at - 1));
	}
	return false;
}

static void append_pkt(struct buf *out, struct str text)
{
	must(buf_printf(out, "%04zx", text.n + 4));
	must(buf_append_str(out, text));
}

static void append_commands(struct buf *out, const struct probe_push *push)
{
	_cleanup_(buf_free) struct buf line;

	buf_init(&line, 1024);
	must(buf_printf(&line, "%s %s %s", push->old_oid[0] ? push->old_oid : no_oid,
			push->new_oid[0] ? push->new_oid : no_oid, push->ref));
	must(buf_append(&line, "", 1));
	must(buf_printf(&line, " report-status side-band-64k%s agent=probe",
			push->option ? " push-options" : ""));
	append_pkt(out, buf_str(&line));
	must(buf_append(out, "0000", 4));
	if (push->option) {
		append_pkt(out, str_of(push->option));
		must(buf_append(out, "0000", 4));
	}
}

static void append_pack(struct buf *out, const struct probe_pack *p)
{
	size_t from = buf_len(out);
	unsigned char raw[20];
	unsigned n;
	struct str pack;

	must(buf_append(out, "PACK\0\0\0\2\0\0", 10));
	must(buf_append(
		out, (const unsigned char[]){(unsigned char)(p->n >> 8), (unsigned char)p->n}, 2));
	must(buf_append_str(out, buf_str(&p->objects)));
	pack = str_sub(buf_str(out), from, buf_len(out));
	if (EVP_Digest(pack.p, pack.n, raw, &n, EVP_sha1(), NULL) != 1)
		die("SHA-1");
	must(buf_append(out, raw, sizeof(raw)));
}

bool probe_git_push(const struct probe_env *env, const struct probe_push *push,
		    struct probe_reply *r)
{
	_cleanup_(buf_free) struct buf body;
	char path[512], target[640], ok[PROBE_REF_MAX + 8];
	struct str text;

	buf_init(&body, PACK_MAX + 4096);
	append_commands(&body, push);
	if (push->new_oid[0])
		append_pack(&body, &push->pack);
	probe_git_path(env, push->repository, path, sizeof(path));
	(void)snprintf(target, sizeof(target), "%s/git-receive-pack", path);
	probe_git_ask(env, "POST", target,
		      "Content-Type: application/x-git-receive-pack-request\r\n"
		      "Accept: application/x-git-receive-pack-result\r\n",
		      buf_str(&body), r);
	text = str_slice(r->text, r->n);
	(void)snprintf(ok, sizeof(ok), "ok %s", push->ref);
	return str_find(text, str_of(ok)) < text.n;
}

/* A refusal's own words: what is printable of the body, without lengths and bands. */
void probe_git_describe(const struct probe_reply *r, char *out, size_t size)
{
	const char *body = strstr(r->text, "\r\n\r\n");
	struct str rest =
		body ? str_slice(body + 4, r->n - (size_t)(body + 4 - r->text)) : STR_NULL;
	size_t n = (size_t)snprintf(out, size, "status %d%s%s ", r->status, r->error[0] ? " " : "",
				    r->error);

	for (size_t i = 0; i < rest.n && n + 1 < size; i++) {
		if (rest.p[i] >= ' ' && rest.p[i] < 127)
			out[n++] = rest.p[i];
		else if (n > 0 && out[n - 1] != ' ')
			out[n++] = ' ';
	}
	out[n < size ? n : size - 1] = '\0';
}
