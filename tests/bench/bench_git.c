/*
 * How long a push takes to be looked at: a history of text-like files, the same each time, made
 * with git fast-import in a scratch folder; all of it is new. Beside it, in the same run, what git
 * alone needs to show every object: `git cat-file --batch --batch-all-objects`. As JSON lines.
 *
 * BENCH_GIT_MB (256): bytes of files; 1024 makes some 200,000 objects.
 */
#include "base/clean.h"
#include "base/io.h"
#include "base/timeutil.h"
#include "gitgate/check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define FILE_BYTES 16384
#define FOLDERS	   64
#define FILES	   4096
#define PER_COMMIT 2
#define DEADLINE_S 3600
#define NO_OID	   "0000000000000000000000000000000000000000"

static uint64_t rng = 88172645463325252u;

static uint32_t rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 11) % below;
}

/* Lines of C-like words, with numbers and a hash here and there. */
static size_t text_make(char *out, size_t want)
{
	static const char *const words[] = {
		"return",  "struct", "if (",   "buffer", "size_t",   "value =", "0x1f;",  "}",
		"/* the",  "next",   "entry",  "of */",	 "static",   "int",	"check(", "name,",
		"offset)", "+ 1;",   "else {", "while",	 "(true)",   "const",	"char *", "p->n",
		"import",  "self.",  "def",    "None:",	 "\"text\"", "[i]",	"!=",	  "NULL"};
	size_t n = 0;

	while (n + 128 < want) {
		for (uint32_t k = 2 + rnd(8); k > 0; k--)
			n += (size_t)snprintf(out + n, 32, "%s ", words[rnd(ARRAY_LEN(words))]);
		if (rnd(40) == 0)
			n += (size_t)snprintf(out + n, 48, "%08x%08x%08x%08x%08x", rnd(~0u),
					      rnd(~0u), rnd(~0u), rnd(~0u), rnd(~0u));
		out[n++] = '\n';
	}
	return n;
}

static void history_write(FILE *to, uint64_t bytes)
{
	static char text[FILE_BYTES];
	unsigned commits = 0;

	for (uint64_t done = 0; done < bytes; commits++) {
		fprintf(to,
			"commit refs/heads/x\ncommitter A U Thor <author@example.com> %u +0000\n"
			"data 16\nChange %8u\n\n",
			1600000000 + commits * 60, commits);
		for (unsigned i = 0; i < PER_COMMIT; i++) {
			uint32_t file = rnd(FILES);
			size_t n = text_make(text, FILE_BYTES);

			fprintf(to, "M 100644 inline src/module%u/part%u/file%u.c\ndata %zu\n",
				file % FOLDERS, file % 7, file, n);
			(void)fwrite(text, 1, n, to);
			fputc('\n', to);
			done += n;
		}
	}
	fprintf(to, "done\n");
}

static int history_make(const struct git_run_env *git, uint64_t bytes, char tip[GIT_OID_SIZE],
			struct err *e)
{
	static const char *const init[] = {"init", "-q", "--bare", NULL};
	static const char *const import[] = {"fast-import", "--quiet", "--done", NULL};
	static const char *const show[] = {"rev-parse", "refs/heads/x", NULL};
	static const char *const drop[] = {"update-ref", "-d", "refs/heads/x", NULL};
	_cleanup_(buf_free) struct buf out;
	uint64_t deadline = time_monotonic_ns() + DEADLINE_S * TIME_NS_PER_SEC;
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct git_child child;
	FILE *to;
	int r;

	buf_init(&out, 65536);
	if ((r = git_run(git, init, STR_NULL, &out, NULL, deadline, e)) != 0 ||
	    (r = git_run_start(git, import, (int[]){-1, null, 2}, -1, &child, e)) < 0)
		return r < 0 ? r : -1;
	to = fdopen(take_fd(&child.in_fd), "w");
	if (!to)
		return err_errno(e, "fdopen");
	history_write(to, bytes);
	(void)fclose(to);
	if ((r = git_run_wait(&child, deadline, e)) != 0)
		return r < 0 ? r : -1;
	buf_reset(&out);
	if ((r = git_run(git, show, STR_NULL, &out, NULL, deadline, e)) != 0 ||
	    !str_to_cstr(tip, GIT_OID_SIZE, str_trim(str_sub(buf_str(&out), 0, 40))))
		return r < 0 ? r : -1;
	return git_run(git, drop, STR_NULL, &out, NULL, deadline, e);
}

static int peer_run(const struct git_run_env *git, double *seconds, struct err *e)
{
	static const char *const show[] = {"cat-file", "--batch", "--batch-all-objects", "--buffer",
					   NULL};
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	uint64_t began = time_monotonic_ns();
	struct git_child child;
	int r = git_run_start(git, show, (int[]){null, null, 2}, -1, &child, e);

	if (r == 0)
		r = git_run_wait(&child, began + DEADLINE_S * TIME_NS_PER_SEC, e);
	*seconds = (double)(time_monotonic_ns() - began) / 1e9;
	return r;
}

static void emit(const char *name, double value, const char *unit, double peer)
{
	printf("{\"name\":\"%s\",\"value\":%.3f,\"unit\":\"%s\"", name, value, unit);
	if (peer > 0)
		printf(",\"peer\":\"git cat-file\",\"peer_value\":%.3f,\"ratio\":%.3f", peer,
		       value / peer);
	printf("}\n");
}

static int measure(struct git_run_env *git, const char *tip, struct err *e)
{
	static struct check_report report;
	static struct check_update update = {.ref = "refs/heads/x", .old_oid = NO_OID};
	struct git_remote remote = {.transport = GIT_TRANSPORT_WORKSPACE,
				    .path = (char *)(uintptr_t) "",
				    .object_max_bytes = GIT_OBJECT_MAX_BYTES};
	struct git_policy policy = {.remotes = NULL};
	struct check_input in = {.policy = &policy,
				 .remote = &remote,
				 .git = git,
				 .updates = &update,
				 .n_updates = 1,
				 .objects_max = CHECK_OBJECTS_MAX,
				 .deadline_ns = time_monotonic_ns() + DEADLINE_S * TIME_NS_PER_SEC};
	struct rusage self, children;
	double peer, ours, mb;
	int r;

	memcpy(update.new_oid, tip, GIT_OID_SIZE);
	if ((r = scan_engine_new(&in.engine, STR_NULL, e)) < 0)
		return r;
	(void)getrusage(RUSAGE_SELF, &self);
	r = peer_run(git, &peer, e);
	if (r == 0)
		r = check_push(&in, &report, e);
	scan_engine_free(in.engine);
	if (r != 0)
		return r;
	if (report.n_findings)
		return err_set(e, -1, "a finding in clean text: %s %s:%llu (%s)",
			       report.findings[0].rule, report.findings[0].path,
			       (unsigned long long)report.findings[0].line,
			       report.findings[0].decoders);
	mb = (double)report.n_bytes / 1e6;
	ours = (double)report.duration_us / 1e6;
	emit("git_check_bytes", mb / ours, "MB/s", mb / peer);
	emit("git_check_objects", (double)report.n_objects / ours, "objects/s",
	     (double)report.n_objects / peer);
	fprintf(stderr, "    %.0f MB, %llu objects: %.1f s; git cat-file %.1f s\n", mb,
		(unsigned long long)report.n_objects, ours, peer);
	emit("git_check_memory_before", (double)self.ru_maxrss / 1024, "MiB", 0);
	(void)getrusage(RUSAGE_SELF, &self);
	(void)getrusage(RUSAGE_CHILDREN, &children);
	emit("git_check_memory_peak", (double)self.ru_maxrss / 1024, "MiB", 0);
	emit("git_check_memory_peak_of_git", (double)children.ru_maxrss / 1024, "MiB", 0);
	return 0;
}

int main(void)
{
	char folder[] = "/tmp/cb-bench-git-XXXXXX", repo[sizeof(folder) + 8], tip[GIT_OID_SIZE];
	const char *mb = getenv("BENCH_GIT_MB");
	struct git_run_env git = {.repo = repo};
	struct err e = ERR_INIT;
	int r;

	if (!mkdtemp(folder))
		return 1;
	(void)snprintf(repo, sizeof(repo), "%s/r.git", folder);
	r = history_make(&git, (mb ? strtoull(mb, NULL, 10) : 256) << 20, tip, &e);
	if (r == 0)
		r = measure(&git, tip, &e);
	if (r != 0)
		fprintf(stderr, "bench_git: %d %s\n", r, e.text);
	return io_remove_tree(AT_FDCWD, folder, &e) < 0 || r != 0;
}
