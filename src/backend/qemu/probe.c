/* doctor: each thing that the qemu backend needs, with what to install or set where it is not
 * there. That a machine boots is tried by the first start, not here. */
#include "backend/qemu/qemu_int.h"

#include "backend/walled/walled.h"
#include "base/clean.h"
#include "base/io.h"
#include "base/text.h"
#include "base/tool.h"
#include "image/bootstrap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROBE_VERSION_MAX 160
#define PROBE_VERSION_MS  3000

/* Its own word for its version, up to the copyright; empty if it does not say. */
static void ask_version(char *out, size_t size)
{
	static const char *const argv[] = {QEMU_PROGRAM, "--version", NULL};
	struct tool t = {.argv = argv, .in_fd = -1, .file_fd = -1};
	char said[PROBE_VERSION_MAX];
	int ends[2];
	struct str line;
	bool found;
	ssize_t got = -1;

	out[0] = '\0';
	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	t.out_fd = ends[1];
	if (tool_do(&t, PROBE_VERSION_MS, NULL) == 0 && io_set_nonblock(ends[0], true) == 0)
		got = read(ends[0], said, sizeof(said));
	(void)close(ends[0]);
	(void)close(ends[1]);
	(void)str_cut(str_slice(said, got > 0 ? (size_t)got : 0), '\n', &line, &found);
	text_visible_cstr(out, size, line);
}

int qemu_host_check(struct err *e)
{
	char id[128];
	int ret = qemu_program_id(id, sizeof(id), e);

	if (ret == 0 && !vm_tool_find("mkfs.ext4"))
		ret = err_set(e, -ENOENT, "mkfs.ext4 is not installed (package e2fsprogs)");
	return ret;
}

static bool add_program(struct backend_check *checks, size_t *n)
{
	char version[PROBE_VERSION_MAX], text[BACKEND_WHY_MAX];
	bool is_ok = access(QEMU_PROGRAM, X_OK) == 0;

	if (is_ok) {
		ask_version(version, sizeof(version));
		(void)snprintf(text, sizeof(text), "%s: %.100s", QEMU_PROGRAM, version);
	} else {
		(void)snprintf(text, sizeof(text),
			       "%s is not there: apt-get install qemu-system-x86", QEMU_PROGRAM);
	}
	backend_check_add(checks, n, "QEMU", is_ok, true, text);
	return is_ok;
}

static bool add_kernel(struct backend_check *checks, size_t *n)
{
	struct vm_kernel kernel;
	struct err e = ERR_INIT;
	bool is_ok = vm_kernel_find(&kernel, &e) == 0;

	backend_check_add(checks, n, "guest kernel", is_ok, true, is_ok ? kernel.release : e.text);
	return is_ok;
}

static bool add_tools(struct backend_check *checks, size_t *n)
{
	static const struct {
		const char *tool, *package;
		bool is_required;
	} tools[] = {{"tar2sqfs", "squashfs-tools-ng", true},
		     {"mkfs.ext4", "e2fsprogs", true},
		     {"mmdebstrap", "mmdebstrap", false}};
	struct err e = ERR_INIT;
	bool is_all = true;

	for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
		const char *path = vm_tool_find(tools[i].tool);
		char text[256];

		if (path)
			(void)snprintf(text, sizeof(text), "%s", path);
		else
			(void)snprintf(text, sizeof(text), "apt-get install %s", tools[i].package);
		backend_check_add(checks, n, tools[i].tool, path != NULL, tools[i].is_required,
				  text);
		is_all = is_all && (path || !tools[i].is_required);
	}
	/* An engine's image, or a file's, needs none of it. */
	if (bootstrap_check(&e) < 0)
		backend_check_add(checks, n, "image making", false, false, e.text);
	return is_all;
}

static void add_accel(struct backend_check *checks, size_t *n)
{
	char why[QEMU_WHY_MAX], text[256];
	bool is_kvm = false, is_known = qemu_accel_known(&is_kvm, why);

	if (!is_known)
		(void)snprintf(text, sizeof(text), "/dev/kvm is there; the first start tries it");
	else
		(void)snprintf(text, sizeof(text), "%s: %s",
			       is_kvm ? "boots" : "machines are emulated, which is slow", why);
	backend_check_add(checks, n, "KVM", is_kvm || !is_known, false, text);
}

int qemu_probe(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n, struct err *e)
{
	int ret = walled_probe(checks, n, true, e);
	bool is_ok = add_program(checks, n);

	is_ok = add_kernel(checks, n) && is_ok;
	is_ok = add_tools(checks, n) && is_ok;
	add_accel(checks, n);
	if (ret < 0)
		return ret;
	return is_ok ? 0 : err_set(e, -ENOSYS, "this host lacks what virtual machines need");
}
