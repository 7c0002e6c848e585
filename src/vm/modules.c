/*
 * Which files of a kernel's modules the initramfs needs. modules.dep has a line for each module,
 * "kernel/…/virtio_net.ko: A B C", where C has to be loaded first and A last.
 */
#include "vm/vm_int.h"

#include <errno.h>
#include <stdio.h>

static const struct {
	const char *name;
	bool is_optional;
} wanted[] = {
	{"virtio_ring", false},
	{"virtio", false},
	{"virtio_pci_legacy_dev", false},
	{"virtio_pci_modern_dev", false},
	{"virtio_pci", false},
	{"virtio_blk", false},
	{"failover", false},
	{"net_failover", false},
	{"virtio_net", false},
	{"virtio_console", false},
	{"squashfs", false},
	{"overlay", false},
	{"ext4", false},
	{"rng-core", true},
	{"virtio-rng", true},
};

/* The name of a module in a path, without folders and what is behind ".ko". In names, "-" and "_"
 * are the same. */
static struct str module_of(struct str path)
{
	for (size_t at = str_chr(path, '/'); at < path.n; at = str_chr(path, '/'))
		path = str_sub(path, at + 1, path.n);
	return str_sub(path, 0, str_find(path, STR_LIT(".ko")));
}

static char dashed(char c)
{
	return c == '_' ? '-' : c;
}

static bool is_named(struct str path, struct str name)
{
	struct str module = module_of(path);

	if (module.n == path.n || module.n != name.n)
		return false;
	for (size_t i = 0; i < name.n; i++) {
		if (dashed(module.p[i]) != dashed(name.p[i]))
			return false;
	}
	return true;
}

/* The line's path, and its dependencies. */
static bool find_line(struct str dep, struct str name, struct str *path, struct str *needs)
{
	bool found = true, has_colon;
	struct str line;

	while (found) {
		dep = str_cut(dep, '\n', &line, &found);
		*needs = str_cut(line, ':', path, &has_colon);
		if (is_named(*path, name))
			return true;
	}
	return false;
}

static int add(struct vm_modules *m, struct str path, struct err *e)
{
	for (size_t i = 0; i < m->n; i++) {
		if (str_eq(str_of(m->paths[i]), path))
			return 0;
	}
	if (!str_ends(path, STR_LIT(".ko")))
		return err_set(
			e, -ENOTSUP,
			"the kernel's module \"" STR_FMT "\" is compressed, which a machine's "
			"init cannot load: the kernel of Debian 12 (linux-image-cloud-amd64) "
			"has plain ones",
			STR_ARG(path));
	if (m->n >= VM_MODULES_MAX)
		return err_set(e, -E2BIG, "the kernel's modules need more than %d others",
			       VM_MODULES_MAX);
	m->paths[m->n++] = str_dup(path);
	return 0;
}

/* The last first. */
static int add_needs(struct vm_modules *m, struct str needs, struct err *e)
{
	needs = str_trim(needs);
	while (needs.n > 0) {
		size_t from = needs.n;
		int ret;

		while (from > 0 && needs.p[from - 1] != ' ')
			from--;
		ret = add(m, str_sub(needs, from, needs.n), e);
		if (ret < 0)
			return ret;
		needs = str_trim(str_sub(needs, 0, from));
	}
	return 0;
}

static bool is_builtin(struct str builtin, struct str name)
{
	struct str path, needs;

	return find_line(builtin, name, &path, &needs);
}

static int add_wanted(struct vm_modules *m, struct str dep, struct str builtin, size_t i,
		      struct err *e)
{
	struct str name = str_of(wanted[i].name), path, needs;
	int ret;

	if (find_line(dep, name, &path, &needs)) {
		ret = add_needs(m, needs, e);
		return ret < 0 ? ret : add(m, path, e);
	}
	if (wanted[i].is_optional || is_builtin(builtin, name))
		return 0;
	return err_set(e, -ENOENT, "the kernel has no module %s", wanted[i].name);
}

int vm_modules_resolve(struct str dep, struct str builtin, struct vm_modules *out, struct err *e)
{
	*out = (struct vm_modules){.n = 0};
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		int ret = add_wanted(out, dep, builtin, i, e);

		if (ret < 0) {
			vm_modules_free(out);
			return ret;
		}
	}
	return 0;
}

void vm_modules_free(struct vm_modules *m)
{
	for (size_t i = 0; i < m->n; i++)
		free(m->paths[i]);
	m->n = 0;
}
