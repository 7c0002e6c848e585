/* Which line of what a machine has said is shown as the reason of its end. The texts are a 6.1
 * kernel's and QEMU 7.2's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend/qemu/words.c"

#include "base/clean.h"

#include <fcntl.h>

/* Of a kernel that panics, after the reason. */
#define TRACE                                                                                      \
	"[    2.583398] CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.1.0-cloud-amd64 #1\r\n"        \
	"[    2.583709] Hardware name: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2\r\n"       \
	"[    2.584054] Call Trace:\r\n"                                                           \
	"[    2.584901]  <TASK>\r\n"                                                               \
	"[    2.585114]  dump_stack_lvl+0x44/0x5c\r\n"                                             \
	"[    2.585627]  panic+0x118/0x2f4\r\n"                                                    \
	"[    2.586463]  </TASK>\r\n"                                                              \
	"[    2.587104] Kernel Offset: 0x28c00000 from 0xffffffff81000000\r\n"                     \
	"[    2.587200] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs "        \
	"]---\r\n"
#define POWER_DOWN "[    3.383252] reboot: Power down\r\n"

static const struct {
	const char *what, *console, *said, *best;
} texts[] = {
	{"nothing", "", "", ""},
	{"an image whose squashfs is corrupt",
	 "claude-bottle: machine: mount /image: Input/output error\r\n" POWER_DOWN, "",
	 "mount /image: Input/output error"},
	{"a module that is missing",
	 "claude-bottle: machine: find the disk image: No such device (module virtio_blk.ko: No "
	 "such file or directory)\r\n" POWER_DOWN,
	 "",
	 "find the disk image: No such device (module virtio_blk.ko: No such file or directory)"},
	{"no init",
	 "[    2.582249] Kernel panic - not syncing: VFS: Unable to mount root fs on "
	 "unknown-block(0,0)\r\n" TRACE,
	 "", "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"},
	{"an initramfs that is cut off",
	 "[    2.421947] Kernel panic - not syncing: No working init found.  Try passing init= "
	 "option to kernel. See Linux Documentation/admin-guide/init.rst for guidance.\r\n" TRACE,
	 "",
	 "Kernel panic - not syncing: No working init found.  Try passing init= option to kernel. "
	 "See Linux Documentation/admin-guide/init.rst for guidance."},
	{"an init that is no program",
	 "[    3.213887] init[1]: segfault at 4017a0 ip 00000000004017a0 error 14\r\n"
	 "[    3.217508] Code: Unable to access opcode bytes at 0x401776.\r\n"
	 "[    3.222537] Kernel panic - not syncing: Attempted to kill init! "
	 "exitcode=0x0000000b\r\n" TRACE,
	 "", "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"},
	{"a program that ends, which the kernel panics at",
	 "claude-bottle-bundle: guest machine: no ports\r\n"
	 "[    3.222537] Kernel panic - not syncing: Attempted to kill init! "
	 "exitcode=0x00000100\r\n" TRACE,
	 "", "claude-bottle-bundle: guest machine: no ports"},
	{"a QEMU that cannot begin", "",
	 "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory\n",
	 "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory"},
	{"a QEMU that warns and then complains", "",
	 "qemu-system-x86_64: warning: one thing\nqemu-system-x86_64: another\nMore of it\n",
	 "qemu-system-x86_64: another"},
	{"a QEMU that has only warned",
	 "[    2.582249] Kernel panic - not syncing: System is deadlocked on memory\r\n" TRACE,
	 "qemu-system-x86_64: warning: one thing\n",
	 "Kernel panic - not syncing: System is deadlocked on memory"},
	{"QEMU's end of a machine that runs", "[  9.1] EXT4-fs (vdd): mounted\r\n",
	 "qemu-system-x86_64: terminating on signal 15\n",
	 "qemu-system-x86_64: terminating on signal 15"},
	{"no line that is known", "one\r\n\r\n  two  \r\n\r\n", "", "two"},
	{"no end of the line", "one\r\ntwo", "", "two"},
	{"what would move a terminal's cursor", "\x1b[2Jgone\r\n", "", "\\x1b[2Jgone"},
};

/* In pieces of n bytes. */
static void hear_in(struct qemu_heard *h, const char *text, size_t n)
{
	for (struct str rest = str_of(text); rest.n > 0; rest = str_sub(rest, n, rest.n))
		hear(h, str_sub(rest, 0, n));
}

static void test_picks_the_line_that_tells(void **state)
{
	static const size_t pieces[] = {1, 7, 4096};
	char shown[QEMU_WORDS_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		for (size_t p = 0; p < ARRAY_LEN(pieces); p++) {
			struct qemu_words w;

			qemu_words_init(&w);
			hear_in(&w.console, texts[i].console, pieces[p]);
			hear_in(&w.said, texts[i].said, pieces[p]);
			qemu_words_best(&w, shown, sizeof(shown));
			if (strcmp(shown, texts[i].best) != 0)
				fail_msg("%s: \"%s\"", texts[i].what, shown);
		}
	}
}

/* Whatever is said, and however much of it. */
static void test_is_bounded(void **state)
{
	char chunk[WORDS_CHUNK + 1], shown[64];
	struct qemu_words w;

	(void)state;
	qemu_words_init(&w);
	hear_in(&w.console, "[ 1.0] Kernel panic - not syncing: a reason\n", 4096);
	memset(chunk, 'x', WORDS_CHUNK);
	chunk[WORDS_CHUNK] = '\0';
	for (size_t i = 0; i < 256; i++)
		hear_in(&w.console, chunk, WORDS_CHUNK);
	qemu_words_best(&w, shown, sizeof(shown));
	assert_string_equal(shown, "Kernel panic - not syncing: a reason");
	qemu_words_init(&w);
	hear_in(&w.console, chunk, WORDS_CHUNK);
	qemu_words_best(&w, shown, sizeof(shown));
	assert_true(strlen(shown) < sizeof(shown));
	assert_true(str_starts(str_of(shown), STR_LIT("xxxx")));
}

static void test_reads_to_the_end(void **state)
{
	struct qemu_words w;
	char shown[64];
	int ends[2];

	(void)state;
	qemu_words_init(&w);
	assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	assert_true(qemu_words_read(&w.said, ends[0]));
	assert_int_equal(write(ends[1], "hello", 5), 5);
	assert_true(qemu_words_read(&w.said, ends[0]));
	close_fd(&ends[1]);
	assert_false(qemu_words_read(&w.said, ends[0]));
	close_fd(&ends[0]);
	assert_false(qemu_words_read(&w.said, ends[0]));
	qemu_words_best(&w, shown, sizeof(shown));
	assert_string_equal(shown, "hello");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_picks_the_line_that_tells),
		cmocka_unit_test(test_is_bounded),
		cmocka_unit_test(test_reads_to_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
