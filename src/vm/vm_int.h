/* Between the files that make what a microVM is started with. */
#pragma once

#include "vm/vm.h"

#include "base/buf.h"
#include "base/clean.h"
#include "base/tool.h"
#include "image/sha256.h"

#define VM_TOOL_MS (10 * 60 * 1000) /* for what takes seconds */

/* --- tools.c --- */

/* Runs argv[0], which is looked for with vm_tool_find(); the rest as in struct tool. */
int vm_tool_do(const char *const *argv, int in_fd, int file_fd, struct err *e) _fallible_;
/* A squashfs of a tar's content (an open file, from its beginning) into the file out_fd. */
int vm_squash(int tar_fd, int out_fd, struct err *e) _fallible_;

/* --- store.c --- */

#define VM_STORE_FOLDER "vm" /* of the cache */

/* A file of ours in the store, open for reading; -1: there is none, or it is somebody else's, or
 * none. */
int vm_store_file(int folder, const char *name);

/* A file without a name: on the disk of the cache, or in memory where that cannot be. */
int vm_scratch(const char *what, struct err *e) _fallible_;
/* Removes of the folder what begins with prefix and ends with suffix, but for keep. */
void vm_store_prune(int folder, const char *prefix, const char *suffix, const char *keep);
/* The hash of a list of texts, in which none can be mistaken for two. */
int vm_key(char key[VM_KEY_SIZE], const char *const *parts, size_t n, struct err *e) _fallible_;

/* --- use.c --- */

/* Keeps the key from being used until *fd is closed. -EBUSY: somebody uses it. */
int vm_use_none(int folder, struct str key, int *fd, struct err *e) _fallible_;
/* Where that cannot be told, yes. key: may be only how it begins (VM_SNAPSHOT_KEY). */
bool vm_use_is(int folder, struct str key);

/* --- stock.c --- */

/* Notes that what has this key was used now. */
void vm_stock_touch(int folder, struct str key);

/* --- disk.c --- */

#define VM_PROGRAM_GROUP "program"
/* Is it this program's disk that has this stem? Where that cannot be told, yes. */
bool vm_disk_is_program(const char *stem);

/* --- oci.c --- */

#define VM_LAYER_PREFIX "layer-" /* of the file beside a tar that has its digest */

/* --- kernel.c --- */

int vm_kernel_find_below(const char *root, struct vm_kernel *out, struct err *e) _fallible_;
int vm_initramfs_make_below(const char *root, const struct vm_kernel *k, int *fd,
			    char key[VM_KEY_SIZE], struct err *e) _fallible_;

/* --- modules.c --- */

#define VM_MODULES_MAX 64
struct vm_modules {
	char *paths[VM_MODULES_MAX]; /* below the folder of modules.dep, in the order of loading */
	size_t n;
};
/* dep: the content of modules.dep(5). -ENOENT: the kernel has no such module. */
int vm_modules_resolve(struct str dep, struct str builtin, struct vm_modules *out,
		       struct err *e) _fallible_;
void vm_modules_free(struct vm_modules *m);

/* --- cpio.c --- */

/* One entry of an archive of the "new" kind (newc), which the kernel unpacks. */
int vm_cpio_put(int fd, unsigned number, const char *name, unsigned mode, struct str data,
		struct err *e) _fallible_;
int vm_cpio_end(int fd, struct err *e) _fallible_;
