/* An image that a Docker engine has, copied out of a container that never ran. The engine here
 * answers by the book; a real one is in the integration tests. */
#include "../engine/fake_engine.h"

#include "vm_world.h"

#include "image/tar.h"

#define ID "sha256:00000000000000000000000000000000000000000000000000000000000000aa"

#define ANSWER(status, body)                                                                       \
	"HTTP/1.1 " status "\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" body

/* What the test tells the engine's processes, in fake_shared.flags. */
enum { IS_GONE = 1, IS_LEFT_OVER = 2, IS_CUT = 4 };

static void send_tree(struct fake *f, int fd)
{
	_cleanup_close_ int tar = memfd_create("tree", MFD_CLOEXEC);
	struct str text;

	fake_require(f, tar_file(tar, "etc/motd", 0644, STR_LIT("of the engine\n"), NULL) == 0,
		     "write a tar");
	fake_require(f, tar_end(tar, NULL) == 0 && lseek(tar, 0, SEEK_SET) == 0, "end a tar");
	fake_require(f, io_read_all(tar, 1u << 20, &text, NULL) == 0, "read a tar");
	fake_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2048\r\n\r\n");
	if (atomic_load(&f->shared->flags) & IS_CUT)
		text.n = 700;
	fake_send(fd, text);
	free((char *)text.p);
}

static void serve(struct fake *f, int fd, unsigned n)
{
	unsigned flags = atomic_load(&f->shared->flags);
	char head[8192];

	(void)n;
	fake_read_request(f, fd, head, sizeof(head));
	if (strncmp(head, "GET /version", 12) == 0) {
		fake_say(fd, ANSWER("200 OK", "{\"ApiVersion\":\"1.41\"}"));
	} else if (strstr(head, "/info HTTP")) {
		fake_say(fd, ANSWER("200 OK", "{}"));
	} else if (strstr(head, "/images/") && (flags & IS_GONE)) {
		fake_say(fd, ANSWER("404 Not Found", "{\"message\":\"No such image\"}"));
	} else if (strstr(head, "/images/")) {
		fake_say(fd, ANSWER("200 OK", "{\"Id\":\"" ID "\",\"Size\":1}"));
	} else if (strstr(head, "/containers/create") && (flags & IS_LEFT_OVER)) {
		(void)atomic_fetch_and(&f->shared->flags, ~(unsigned)IS_LEFT_OVER);
		fake_say(fd, ANSWER("409 Conflict", "{\"message\":\"name in use\"}"));
	} else if (strstr(head, "/containers/create")) {
		fake_say(fd, ANSWER("201 Created", "{\"Id\":\"cc\",\"Warnings\":[]}"));
	} else if (strstr(head, "/export HTTP")) {
		send_tree(f, fd);
	} else {
		fake_require(f, strncmp(head, "DELETE ", 7) == 0, head);
		fake_say(fd, "HTTP/1.1 204 No Content\r\n\r\n");
	}
}

static void engine_start(struct fake *f, unsigned flags)
{
	_cleanup_free_ char *host = NULL;

	fake_start(f, serve);
	atomic_store(&f->shared->flags, flags);
	host = mem_printf("unix://%s", f->en.socket);
	assert_int_equal(setenv("DOCKER_HOST", host, 1), 0);
}

static void assert_motd(const char *disk, const char *expected)
{
	_cleanup_close_ int fd = open(disk, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *text = TOOL_SAYS(fd, "rdsquashfs", "-c", "etc/motd", TOOL_FILE);

	assert_string_equal(text, expected);
}

/* The provider's own, which is looked for under the name that it would be built under, and one that
 * is named. A container that a broken copy has left is in nobody's way. */
static void copies(const char *named, unsigned flags)
{
	struct vm_image image, found;
	struct err e = ERR_INIT;
	struct fake f = {0};

	NEED_TOOL("tar2sqfs");
	engine_start(&f, flags);
	if (vm_image_ensure("shell", named, VM_IMAGE_TAR | VM_IMAGE_DISK, NULL, &image, &e) < 0)
		fail_msg("%s", e.text);
	assert_motd(image.disk, "of the engine\n");
	assert_true(fake_saw(&f, "\"NetworkDisabled\": true") ||
		    fake_saw(&f, "\"NetworkDisabled\":true"));
	assert_true(fake_saw(&f, "DELETE /v1.41/containers/claude-bottle-export-"));
	assert_false(fake_saw(&f, "/start"));
	assert_int_equal(vm_image_find("shell", named, VM_IMAGE_DISK, &found, NULL), 0);
	assert_string_equal(found.key, image.key);
	fake_stop(&f);
	/* Of a name only the engine knows what it stands for; of the provider's all is known. */
	assert_int_equal(vm_image_find("shell", named, VM_IMAGE_DISK, &found, &e),
			 named ? -ENOENT : 0);
}

static void test_provider(void **state)
{
	(void)state;
	copies(NULL, 0);
}

static void test_named(void **state)
{
	(void)state;
	copies("me/agent:1", IS_LEFT_OVER);
}

/* An archive that was not asked for is kept of the one that others are made of. */
static void test_archives(void **state)
{
	struct vm_image image;
	struct fake f = {0};

	(void)state;
	NEED_TOOL("tar2sqfs");
	engine_start(&f, 0);
	assert_int_equal(vm_image_ensure("claude", NULL, VM_IMAGE_DISK, NULL, &image, NULL), 0);
	assert_int_equal(vm_image_find("claude", NULL, VM_IMAGE_DISK, &image, NULL), 0);
	assert_int_equal(vm_image_find("claude", NULL, VM_IMAGE_TAR, &image, NULL), -ENOENT);
	assert_int_equal(vm_image_ensure("shell", NULL, VM_IMAGE_DISK, NULL, &image, NULL), 0);
	assert_int_equal(vm_image_find("shell", NULL, VM_IMAGE_TAR, &image, NULL), 0);
	fake_stop(&f);
}

static void test_copy_is_cut(void **state)
{
	struct vm_image image;
	struct err e = ERR_INIT;
	struct fake f = {0};

	(void)state;
	engine_start(&f, IS_CUT);
	assert_true(vm_image_ensure("shell", "me/agent:1", VM_IMAGE_TAR, NULL, &image, &e) < 0);
	assert_has(e.text, "copy an image");
	assert_true(fake_saw(&f, "DELETE /v1.41/containers/claude-bottle-export-"));
	assert_true(access(in_world("claude-bottle/vm/making"), F_OK) < 0);
	fake_stop(&f);
}

static void test_not_there(void **state)
{
	struct vm_image image;
	struct err e = ERR_INIT;
	struct fake f = {0};

	(void)state;
	engine_start(&f, IS_GONE);
	assert_int_equal(vm_image_find("shell", "me/agent:1", VM_IMAGE_DISK, &image, &e), -ENOENT);
	assert_has(e.text, "me/agent:1");
	fake_stop(&f);
	assert_int_equal(setenv("DOCKER_HOST", "unix:///nobody/here.sock", 1), 0);
	assert_int_equal(vm_image_ensure("shell", "me/agent:1", VM_IMAGE_DISK, NULL, &image, &e),
			 -ENOENT);
	assert_has(e.text, "me/agent:1");
	assert_has(e.text, "by its absolute path");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_provider, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_named, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_archives, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_copy_is_cut, world_make, world_remove),
		cmocka_unit_test_setup_teardown(test_not_there, world_make, world_remove),
	};

	return cmocka_run_group_tests_name("vm-engine", tests, NULL, NULL);
}
