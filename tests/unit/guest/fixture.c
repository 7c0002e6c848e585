#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fixture.h"

#include "base/timeutil.h"
#include "guest/guest_int.h"

#include <sys/syscall.h>
#include <unistd.h>

struct scene scene;
struct container container;

static const char *missing;

static int close_here(void *ctx)
{
	struct err e = ERR_INIT;

	(void)ctx;
	return close_run(SCENE_PINNED, &e) < 0;
}

int fixture_group(void **state)
{
	(void)state;
	/* What a caller may ignore and the C library does not let one ask for. */
	(void)syscall(SYS_rt_sigaction, 32, (unsigned long[4]){1}, NULL, 8);
	missing = scene_prepare();
	if (missing)
		return 0;
	scene_make(&scene);
	scene_listen(&scene, scene.bundle_ns, SCENE_PINNED, 8888, "HTTP/1.1 403 Forbidden\r\n\r\n",
		     0);
	return scene_run(scene.agent_ns, close_here, NULL);
}

int fixture_group_end(void **state)
{
	(void)state;
	if (!missing)
		scene_free(&scene);
	return 0;
}

int fixture_test(void **state)
{
	(void)state;
	container.top[0] = '\0';
	return 0;
}

int fixture_test_end(void **state)
{
	(void)state;
	if (container.top[0])
		container_free(&container);
	return 0;
}

void fixture_need(void)
{
	if (missing) {
		print_message("skipped: %s is missing\n", missing);
		skip();
	}
}

unsigned fixture_uid(void)
{
	return scene_is_root() ? 65534 : 0;
}

void fixture_run(const char *script)
{
	fixture_need();
	container_run(&container, &scene, script);
}

void fixture_start(void)
{
	fixture_need();
	container_start(&container, &scene, fixture_uid(), false);
}

void expect_end(int status)
{
	int got = container_wait(&container);

	if (got != status)
		fail_msg("status %d instead of %d: %s", got, status, container.said);
}

void expect_said(const char *text)
{
	if (!container_says(&container, text))
		fail_msg("\"%s\" does not have \"%s\"", container.said, text);
}

void expect_dead_soon(int status)
{
	uint64_t begin_ns = time_monotonic_ns();

	expect_end(status);
	assert_in_range((time_monotonic_ns() - begin_ns) / TIME_NS_PER_MS, 0, 2000);
	/* Nobody is left who holds its output. */
	assert_false(container_says(&container, "\1 never"));
}

const char fixture_look_around[] =
	"ls -l /proc/self/fd | grep -c ' -> '\n" /* 0, 1, 2, and the folder itself */
	"grep -E '^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp|SigBlk|SigIgn):' "
	"/proc/self/status | tr '\\n' ' '; umask; pwd; cat /proc/self/limits | "
	"grep -E '(core file|open files|Max file|Max processes) ' | tr -s ' ' | cut -d' ' -f 2-5\n"
	"unshare -U true 2>&1 | grep -o 'Operation not permitted'\n"
	"for s in KILL STOP SEGV BUS FPE ILL TRAP SYS ABRT; do kill -$s 1; done; echo still\n";

void expect_isolated(void)
{
	expect_said("4\nSigBlk:\t0000000000000000 SigIgn:\t0000000000000000 "
		    "CapInh:\t0000000000000000 CapPrm:\t0000000000000000 "
		    "CapEff:\t0000000000000000 CapAmb:\t0000000000000000 NoNewPrivs:\t1 "
		    "Seccomp:\t2 ");
	expect_said("0022\n");
	expect_said(container.home);
	expect_said("core file size 0\n");
	expect_said("Operation not permitted\nstill\n");
}
