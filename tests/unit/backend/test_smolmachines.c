/* What the smolmachines backend says to the tool, and what it takes from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/smolmachines/home.c" /* NOLINT: the unit under test */
#include "backend/smolmachines/smolfile.h"
#include "base/clean.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "cb-worker-abcdef"

/* --- versions --- */

static void test_versions(void **state)
{
	static const struct {
		const char *said, *dialect; /* NULL: none */
	} known[] = {
		{"smolvm 0.8.0\n", "0.8"},   {"smolvm 0.8.17", "0.8"},	{"smolvm 1.0.2\n", "1.0.2"},
		{"smolvm 1.29.0", "1.0.2"},  {"smolvm 0.7.99\n", NULL}, {"smolvm 0.9.0\n", NULL},
		{"smolvm 1.0.0\n", NULL},    {"smolvm 1.0.1\n", NULL},	{"smolvm 2.0.0\n", NULL},
		{"smolvm 9999.0.0\n", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		struct dialect_version v;
		struct err e = ERR_INIT;
		const struct dialect *d;

		assert_int_equal(dialect_read_version(str_of(known[i].said), &v, &e), 0);
		d = dialect_find(&v);
		if (known[i].dialect)
			assert_string_equal(d->name, known[i].dialect);
		else
			assert_null(d);
	}
}

static void test_what_is_no_version(void **state)
{
	static const char *const all[] = {
		"",
		"smolvm",
		"smolvm ",
		"smolvm 1",
		"smolvm 1.2",
		"smolvm 1.2.",
		"smolvm 1.2.3.4",
		"smolvm v1.0.2",
		"smolvm 1.0.2-rc.1",
		"smolvm 1.0.2+git",
		"smolvm 01.0.x",
		"smolvm 1..2",
		"smolvm 10000.0.0",
		"smolvm -1.0.2",
		"smolvm 1.0.2 \x1b[1m",
		"1.0.2",
		"other 1.0.2",
		"\nsmolvm 1.0.2",
		"smolvm\t1.0.2",
		"smolvm 99999999999999999999.0.0",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct dialect_version v;
		struct err e = ERR_INIT;

		assert_int_equal(dialect_read_version(str_of(all[i]), &v, &e), -EINVAL);
		assert_non_null(strstr(e.text, "0.8.x, and 1.0.2 and later 1.x"));
		assert_null(strchr(e.text, '\n'));
		assert_null(strchr(e.text, 0x1b));
	}
}

static void test_who_follows_the_size(void **state)
{
	(void)state;
	assert_false(dialect_follows_size(&(struct dialect_version){0, 8, 0}));
	assert_true(dialect_follows_size(&(struct dialect_version){0, 8, 1}));
	assert_true(dialect_follows_size(&(struct dialect_version){1, 0, 2}));
}

/* --- command lines --- */

static char *joined(const struct dialect *d, enum dialect_verb verb, const struct dialect_args *a)
{
	char **argv = dialect_argv(d, verb, "/p", a), *out = mem_strdup("");

	for (size_t i = 0; argv[i]; i++) {
		char *longer = mem_printf("%s%s%s", out, i > 0 ? " " : "", argv[i]);

		free(out);
		out = longer;
	}
	free(argv);
	return out;
}

static void test_command_lines(void **state)
{
	static char *const command[] = {(char *)"a", (char *)"-b", (char *)"{name}", NULL};
	static const struct dialect_args plain = {
		.name = NAME, .from = "/in/f", .to = NAME ":/g", .command = command};
	static const struct dialect_args with_terminal = {
		.name = NAME, .has_input = true, .has_tty = true, .command = command};
	static const struct {
		struct dialect_version v;
		enum dialect_verb verb;
		const struct dialect_args *args;
		const char *line;
	} all[] = {
		{{0, 8, 0}, DIALECT_CREATE, &plain, "/p machine create " NAME " --smolfile /in/f"},
		{{0, 8, 0}, DIALECT_START, &plain, "/p machine start --name " NAME},
		{{0, 8, 0}, DIALECT_EXEC, &plain, "/p machine exec --name " NAME " -- a -b {name}"},
		{{0, 8, 0},
		 DIALECT_EXEC,
		 &with_terminal,
		 "/p machine exec --name " NAME " -i -t -- a -b {name}"},
		{{0, 8, 0}, DIALECT_CP, &plain, "/p machine cp /in/f " NAME ":/g"},
		{{0, 8, 0}, DIALECT_STATUS, &plain, "/p machine status --name " NAME " --json"},
		{{0, 8, 0}, DIALECT_LS, &plain, "/p machine ls --json"},
		{{0, 8, 0}, DIALECT_STOP, &plain, "/p machine stop --name " NAME},
		{{0, 8, 0}, DIALECT_DELETE, &plain, "/p machine delete " NAME " -f"},
		{{1, 0, 2},
		 DIALECT_CREATE,
		 &plain,
		 "/p machine create --name " NAME " --smolfile /in/f"},
		{{1, 0, 2}, DIALECT_START, &plain, "/p machine start --name " NAME},
		{{1, 0, 2},
		 DIALECT_EXEC,
		 &with_terminal,
		 "/p machine exec --name " NAME " -i -t -- a -b {name}"},
		{{1, 0, 2}, DIALECT_CP, &plain, "/p machine cp /in/f " NAME ":/g"},
		{{1, 0, 2}, DIALECT_STATUS, &plain, "/p machine status --name " NAME " --json"},
		{{1, 0, 2}, DIALECT_STOP, &plain, "/p machine stop --name " NAME},
		{{1, 0, 2}, DIALECT_DELETE, &plain, "/p machine delete --name " NAME " -f"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		_cleanup_free_ char *line =
			joined(dialect_find(&all[i].v), all[i].verb, all[i].args);

		assert_string_equal(line, all[i].line);
	}
}

/* --- Smolfiles --- */

static int render(const struct smolfile *f, char *out, size_t size)
{
	_cleanup_(buf_free) struct buf text = BUF_INIT(SMOLFILE_MAX);
	int ret = smolfile_render(f, &text, &(struct err){0});

	(void)snprintf(out, size, STR_FMT, STR_ARG(buf_str(&text)));
	return ret;
}

static void test_a_whole_smolfile(void **state)
{
	static const char *const one[] = {"/b", NULL}, *const two[] = {"x", "y z", NULL},
				 *const none[] = {NULL};
	const struct smolfile f = {.image = "10.209.0.2:5000/a/b@sha256:00",
				   .entrypoint = one,
				   .cmd = two,
				   .env = none,
				   .workdir = "/w",
				   .cpus = 2,
				   .memory_mib = 512,
				   .volumes = NULL,
				   .allow_cidrs = (const char *const[]){"10.209.0.2/32", NULL}};
	char out[1024];

	(void)state;
	assert_int_equal(render(&f, out, sizeof(out)), 0);
	assert_string_equal(out, "image = \"10.209.0.2:5000/a/b@sha256:00\"\n"
				 "entrypoint = [\"/b\"]\n"
				 "cmd = [\"x\", \"y z\"]\n"
				 "env = []\n"
				 "workdir = \"/w\"\n"
				 "cpus = 2\n"
				 "memory = 512\n"
				 "\n[network]\n"
				 "allow_cidrs = [\"10.209.0.2/32\"]\n");
	assert_int_equal(render(&(struct smolfile){.image = "x"}, out, sizeof(out)), 0);
	assert_string_equal(out, "image = \"x\"\n");
}

static void test_hostile_text(void **state)
{
	static const struct {
		const char *text, *written; /* NULL: refused */
	} all[] = {
		{"\"\n[network]\nallow_cidrs = [\"0.0.0.0/0\"]",
		 "\\\"\\n[network]\\nallow_cidrs = [\\\"0.0.0.0/0\\\"]"},
		{"\\u0041", "\\\\u0041"},
		{"\b\t\n\f\r\x01\x1f\x7f", "\\b\\t\\n\\f\\r\\u0001\\u001F\\u007F"},
		{"\xc2\x85\xc2\xa0", "\\u0085\xc2\xa0"},
		{"'''\"\"\"#", "'''\\\"\\\"\\\"#"},
		{"\xf0\x9f\x99\x82", "\xf0\x9f\x99\x82"},
		{"\xff", NULL},
		{"a\xc3", NULL},
		{"\xed\xa0\x80", NULL},	    /* half of a pair */
		{"\xc0\x80", NULL},	    /* longer than it need be */
		{"\xf4\x90\x80\x80", NULL}, /* past the last one */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		const struct smolfile f = {.image = all[i].text};
		char out[256], wanted[256];

		assert_int_equal(render(&f, out, sizeof(out)), all[i].written ? 0 : -EILSEQ);
		if (!all[i].written)
			continue;
		(void)snprintf(wanted, sizeof(wanted), "image = \"%s\"\n", all[i].written);
		assert_string_equal(out, wanted);
	}
}

/* --- what it says --- */

/* --- the installation --- */

/* Where the program lies in folder; home is the user's. */
static int find_in(const char *folder, const char *home, struct smol_install *i, struct err *e)
{
	_cleanup_free_ char *path = mem_printf("%s/smolvm", folder);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755), ret;

	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(setenv("CLAUDE_BOTTLE_SMOLVM", path, 1), 0);
	assert_int_equal(setenv("HOME", home, 1), 0);
	*e = ERR_INIT;
	ret = smol_find(i, e);
	(void)unlink(path);
	return ret;
}

/* The cell sees the folder that the tool lies in: never more than that was made for. */
static void test_a_folder_of_its_own(void **state)
{
	char home[] = "/tmp/cb-smol-find-XXXXXX";
	_cleanup_free_ char *own = NULL;
	struct smol_install i;
	struct err e;

	(void)state;
	assert_non_null(mkdtemp(home));
	own = mem_printf("%s/own", home);
	assert_int_equal(mkdir(own, 0755), 0);
	assert_int_equal(find_in(own, home, &i, &e), 0);
	assert_string_equal(i.folder, own);
	assert_int_equal(find_in(home, home, &i, &e), -EINVAL);
	assert_non_null(strstr(e.text, "put it into a folder of its own"));
	assert_int_equal(find_in(home, own, &i, &e), -EINVAL); /* a home below */
	assert_int_equal(find_in("/tmp", home, &i, &e), -EINVAL);
	(void)rmdir(own);
	(void)rmdir(home);
}

/* --- the agent's home, as the cell has left it --- */

enum kept { KEPT_FILE, KEPT_FOLDER, KEPT_LINK, KEPT_SECOND_NAME, KEPT_TOO_LONG, KEPT_COUNT };

static void leave(int home, enum kept how)
{
	_cleanup_close_ int fd = -1;

	if (how == KEPT_FOLDER) {
		assert_int_equal(mkdirat(home, SMOL_KEPT, 0700), 0);
		assert_int_equal(mkdirat(home, SMOL_KEPT "/deep", 0700), 0);
		return;
	}
	if (how == KEPT_LINK) {
		assert_int_equal(symlinkat("/etc/passwd", home, SMOL_KEPT), 0);
		return;
	}
	fd = openat(home, SMOL_KEPT, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	if (how == KEPT_SECOND_NAME)
		assert_int_equal(linkat(home, SMOL_KEPT, home, "second", 0), 0);
	if (how == KEPT_TOO_LONG)
		assert_int_equal(ftruncate(fd, (off_t)VM_HOME_BYTES + 1), 0);
}

static void test_only_a_file_is_kept(void **state)
{
	char folder[] = "/tmp/cb-smol-home-XXXXXX";
	_cleanup_free_ char *home = NULL, *kept = NULL;
	_cleanup_close_ int fd = -1;
	struct bottle b = {.cell = CELL_INIT};

	(void)state;
	assert_non_null(mkdtemp(folder));
	b.walled.state_dir = folder;
	home = mem_printf("%s/" SMOL_HOME_FOLDER, folder);
	kept = mem_printf("%s/" SMOL_KEPT, folder);
	assert_int_equal(mkdir(home, 0700), 0);
	fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int how = KEPT_COUNT - 1; how >= 0; how--) {
		struct err e = ERR_INIT;

		leave(fd, (enum kept)how);
		assert_int_equal(home_take(&b, &e), how == KEPT_FILE ? 0 : -EPERM);
		assert_int_equal(access(kept, F_OK), how == KEPT_FILE ? 0 : -1);
	}
	assert_int_equal(io_remove_tree(AT_FDCWD, folder, NULL), 0);
}

/* --- how large the tool's home grows --- */

#define SPACE_MAX (256u << 10)

/* Below top, a folder of which the file is in. */
static void fill_folder(const char *top, const char *folder, size_t bytes)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", top, folder),
			    *name = mem_printf("%s/file", path), *data = mem_zalloc(bytes);
	_cleanup_close_ int fd = -1;

	memset(data, 'x', bytes);
	assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, data, bytes), 0);
	/* A hole takes nothing. */
	assert_int_equal(ftruncate(fd, 1 << 30), 0);
}

static void test_what_counts(void **state)
{
	char top[] = "/tmp/cb-smol-space-XXXXXX";
	_cleanup_free_ char *link = NULL, *shut = NULL;
	int folder;

	(void)state;
	assert_non_null(mkdtemp(top));
	link = mem_printf("%s/link", top);
	shut = mem_printf("%s/one", top);
	assert_int_equal(symlink("/usr", link), 0);
	fill_folder(top, "one", SPACE_MAX / 2);
	assert_false(smol_space_is_past(top, SPACE_MAX));
	fill_folder(top, "two", SPACE_MAX * 3 / 4);
	assert_true(smol_space_is_past(top, SPACE_MAX));
	fill_folder(top, "two", 1);
	assert_false(smol_space_is_past(top, SPACE_MAX));
	assert_false(smol_space_is_past("/tmp/nonexistent", SPACE_MAX));
	/* Root sees all; nobody else what may not be opened, or only be listed. */
	for (mode_t mode = 0; geteuid() != 0 && mode <= 0400; mode += 0400) {
		assert_int_equal(chmod(shut, mode), 0);
		assert_true(smol_space_is_past(top, SPACE_MAX));
	}
	/* Deeper than any tool goes. */
	folder = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 80; i++) {
		int deeper;

		assert_int_equal(mkdirat(folder, "d", 0700), 0);
		deeper = openat(folder, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		(void)close(folder);
		folder = deeper;
	}
	(void)close(folder);
	assert_true(smol_space_is_past(top, UINT64_MAX - 1));
	assert_int_equal(io_remove_tree(AT_FDCWD, top, NULL), 0);
}

static pid_t child_that_waits(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		(void)pause();
		_exit(1);
	}
	return pid;
}

/* As what stands for a command in a cell: it ends with the watch. */
static pid_t child_that_holds(const struct bottle *b)
{
	pid_t pid = fork();

	if (pid == 0) {
		(void)close(b->watch_end_fd);
		_exit(io_wait(b->watch_fd, 0, 20000) != 1);
	}
	return pid;
}

enum victim { NOBODY, BRIDGE, WATCH, HOLD };

/* What is said of a bottle that ends because its home takes SPACE_MAX, or because one is killed. */
static void watch_a_bottle(const char *home, enum victim victim, const char *reason)
{
	uint64_t max_bytes = victim == NOBODY ? SPACE_MAX / 2 : 4 * SPACE_MAX;
	struct bottle b = {.home = (char *)(uintptr_t)home,
			   .cell = CELL_INIT,
			   .guest_fd = -1,
			   .bridge = child_that_waits()};
	int status = 0;

	b.walled.wall.registry_fd = -1;
	assert_int_equal(smol_watch_prepare(&b, NULL), 0);
	b.hold = child_that_holds(&b);
	assert_int_equal(smol_watch_start(&b, max_bytes, NULL), 0);
	if (victim != NOBODY) {
		const pid_t pids[] = {[BRIDGE] = b.bridge, [WATCH] = b.watch, [HOLD] = b.hold};

		(void)usleep(100000);
		assert_int_equal(waitpid(b.hold, &status, WNOHANG), 0);
		(void)kill(pids[victim], SIGKILL);
	}
	assert_int_equal(waitpid(b.hold, &status, 0), b.hold);
	assert_string_equal(smol_reason(&b, status), reason);
	smol_kill(&b);
	(void)close(b.watch_fd);
}

static void test_the_watch(void **state)
{
	char top[] = "/tmp/cb-smol-space-XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(top));
	fill_folder(top, "one", SPACE_MAX);
	watch_a_bottle(top, NOBODY,
		       "the bottle was stopped: smolvm has written more into its folder than a "
		       "machine can need");
	watch_a_bottle(top, BRIDGE,
		       "the bottle was stopped: the process that speaks with smolvm was killed");
	watch_a_bottle(top, WATCH,
		       "the bottle was stopped: the process that watches over smolvm was killed");
	watch_a_bottle(top, HOLD,
		       "the bottle was stopped: the process that stands for the agent was killed");
	assert_int_equal(io_remove_tree(AT_FDCWD, top, NULL), 0);
}

static void test_what_it_says(void **state)
{
	struct str json = STR_LIT("{\n  \"name\": \"x\",\n  \"state\": \"running\",\n"
				  "  \"ports\": 0,\n  \"mounts\": 1,\n  \"network\": true\n}\n");

	(void)state;
	assert_true(smol_says(json, "state", "\"running\""));
	assert_false(smol_says(json, "state", "\"stopped\""));
	assert_true(smol_says(json, "network", "true"));
	assert_false(smol_denies(json, "ports", "0"));
	assert_true(smol_denies(json, "mounts", "0"));
	/* Silence is neither. */
	assert_false(smol_says(json, "policy", "0"));
	assert_false(smol_denies(json, "policy", "0"));
	assert_false(smol_says(STR_NULL, "state", "\"running\""));
	assert_false(smol_denies(STR_LIT("\"ports\":"), "ports", "0"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_what_is_no_version),
		cmocka_unit_test(test_who_follows_the_size),
		cmocka_unit_test(test_command_lines),
		cmocka_unit_test(test_a_whole_smolfile),
		cmocka_unit_test(test_hostile_text),
		cmocka_unit_test(test_a_folder_of_its_own),
		cmocka_unit_test(test_only_a_file_is_kept),
		cmocka_unit_test(test_what_counts),
		cmocka_unit_test(test_the_watch),
		cmocka_unit_test(test_what_it_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
