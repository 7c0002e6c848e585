/* The images of microVMs (vm/) as the command line sees them. */
#include "backend/images.h"

#include "base/mem.h"
#include "vm/vm.h"

#include <stdio.h>
#include <stdlib.h>

static void describe(struct backend_image *out, const struct vm_stock *x)
{
	static const char *const kinds[] = {[VM_STOCK_DISK] = "squashfs",
					    [VM_STOCK_TAR] = "oci",
					    [VM_STOCK_SNAPSHOT] = "snapshot"};

	*out = (struct backend_image){.size_bytes = x->bytes,
				      .created = x->made_s,
				      .used = x->used_s,
				      .is_current = x->is_current,
				      .is_used = x->is_used};
	(void)snprintf(out->kind, sizeof(out->kind), "%s", kinds[x->kind]);
	(void)snprintf(out->reference, sizeof(out->reference), "%s", x->name);
	(void)snprintf(out->id, sizeof(out->id), "%s", x->file);
}

static int machines_list(struct backend_image **list, size_t *n, struct err *e)
{
	struct vm_stock *stock;
	int ret = vm_stock_list(&stock, n, e);

	*list = NULL;
	if (ret < 0)
		return ret;
	*list = mem_zalloc_array(*n + 1, sizeof(**list));
	for (size_t i = 0; i < *n; i++)
		describe(&(*list)[i], &stock[i]);
	free(stock);
	return 0;
}

static int machines_lock(const struct progress *progress, int *fd, struct err *e)
{
	(void)progress;
	return vm_stock_lock(fd, e);
}

static int machines_remove(const struct backend_image *x, struct err *e)
{
	return vm_stock_remove(x->id, e);
}

const struct backend_images backend_images_machines = {
	.name = "machines",
	.list = machines_list,
	.lock = machines_lock,
	.remove = machines_remove,
	.sweep = vm_stock_sweep,
};
