/*
 * What every microVM backend needs of this host: a kernel and its initramfs, an image as a root
 * disk or as an OCI layer, disks for the home and for what is exposed. Made once, kept in the
 * user's cache below "vm/" (stock.c has the names) under the hash of all that went in, so that a
 * change makes another file and two starts never race for one; each is whole before it has its
 * name. Nothing here is secret.
 *
 * File systems are made by the distribution's own tools (mmdebstrap, tar2sqfs, mkfs.ext4), found in
 * /usr/bin, /usr/sbin, /bin, /sbin only, run with a fixed environment; what they say on standard
 * error is the reason of a failure.
 */
#pragma once

#include "base/err.h"
#include "base/progress.h"
#include "conf/plan.h"

#define VM_KEY_SIZE 65 /* hexadecimal SHA-256 */
#define VM_DISK_BYTES                                                                              \
	(UINT64_C(16) << 30)		  /* how large a disk whose content varies says that       \
					      it is: a hole behind what is in it */
#define VM_HOME_BYTES (UINT64_C(8) << 30) /* of the agent's home */

/* --- store.c --- */

/* The cache's folder "vm", which nobody else may write to. -ENOENT: there is no cache. */
int vm_store_open(struct err *e) _fallible_;
/* The same file for reading alone, from its beginning: a monitor takes no other for a disk that is
 * not to be written. A memory file must allow seals, and nobody writes to it any more. */
int vm_reopen(int fd, struct err *e) _fallible_;

/* --- kernel.c --- */

struct vm_kernel {
	char release[128]; /* "6.1.0-…-cloud-amd64" */
	char path[256];	   /* of the kernel itself */
};
/* The newest kernel of the distribution's for clouds (/boot/vmlinuz-*-cloud-*) whose modules are
 * there. -ENOENT: none, and which package to install. */
int vm_kernel_find(struct vm_kernel *out, struct err *e) _fallible_;
/* A cpio archive (newc) of the init that is built in (src/machine/) and the modules that it loads,
 * in their order. *fd: sealed memory file; key: the hash of its content. */
int vm_initramfs_make(const struct vm_kernel *k, int *fd, char key[VM_KEY_SIZE],
		      struct err *e) _fallible_;

/* --- image.c --- */

struct vm_image {
	char key[VM_KEY_SIZE]; /* of everything that went in */
	char name[256];	       /* for people: "shell", "/home/u/root.tar" */
	char tar[4096];	       /* the root file system; empty unless it was asked for */
	char disk[4096];       /* squashfs; likewise */
	uint64_t disk_bytes;
};
enum { VM_IMAGE_TAR = 1, VM_IMAGE_DISK = 2 }; /* forms */
/* A machine's snapshot is a file of the store, too: how its image's key begins, ".", anything of
 * a-z, 0-9 and ".", and this. It is of no use without the image's disk. */
#define VM_SNAPSHOT_KEY	   32
#define VM_SNAPSHOT_SUFFIX ".state"
#define VM_DISK_SUFFIX	   ".sqfs"

/* named: the manifest's `image`, which for these backends is the absolute path of a root file
 * system's tar archive, or with an engine at hand a reference; NULL: the provider's template, from
 * the engine where one answers and has it, else made here from the distribution's archive with the
 * packages of images/shell. Takes long the first time. The images hold /home/agent of uid 1000. */
int vm_image_ensure(const char *provider, const char *named, unsigned forms,
		    const struct progress *progress, struct vm_image *out,
		    struct err *e) _fallible_;
/* The same without making anything: -ENOENT when it is not there. For the keeper. */
int vm_image_find(const char *provider, const char *named, unsigned forms, struct vm_image *out,
		  struct err *e) _fallible_;

/* --- disk.c --- */

/* The bundle's executable as a squashfs (claude-bottle-bundle, 0555), kept under its hash: an open
 * read-only descriptor. */
int vm_disk_program(int *fd, char key[VM_KEY_SIZE], struct err *e) _fallible_;
/* What is exposed, files and folders, each at its own path, as a squashfs in a memory file or an
 * unlinked one, VM_DISK_BYTES long. n 0: an empty disk. Links are kept as links; what is no file,
 * folder or link is left out. -EFBIG past max_bytes. */
int vm_disk_expose(char *const *paths, size_t n, uint64_t max_bytes, int *fd,
		   struct err *e) _fallible_;
/* The same as a tar archive without the first slash of each path: for a machine that unpacks it.
 */
int vm_tar_expose(char *const *paths, size_t n, uint64_t max_bytes, int *fd,
		  struct err *e) _fallible_;
/* An ext4 at path (0600), size_bytes long and as good as empty on the host's disk, whose root
 * folder is uid's; made when it is not there, else as it is. Open for reading and writing. */
int vm_disk_home(const char *path, uint64_t size_bytes, unsigned uid, unsigned gid, int *fd,
		 struct err *e) _fallible_;

/* --- use.c --- */

/* Holds what has this key, so that nobody removes it as long as *fd is open, and notes that it was
 * used. *fd: -1, or what holds others already. Open files of it only then. */
int vm_use(const char key[VM_KEY_SIZE], int *fd, struct err *e) _fallible_;

/* --- stock.c: what is in the store, for people --- */

#define VM_STOCK_MAX 512
#define VM_FILE_MAX  256 /* a name in the store */
enum vm_stock_kind { VM_STOCK_DISK, VM_STOCK_TAR, VM_STOCK_SNAPSHOT };
struct vm_stock {
	enum vm_stock_kind kind;
	char file[VM_FILE_MAX];
	char name[4096]; /* vm_image's; of a snapshot: its image's, or "" when that is gone */
	bool is_named;	 /* by people, not by us */
	uint64_t bytes;	 /* that the disk has for it */
	int64_t made_s, used_s;
	bool is_current, is_used;
};
/* Newest first; the caller frees. -ENODEV: there is no cache; -E2BIG past VM_STOCK_MAX. */
int vm_stock_list(struct vm_stock **list, size_t *n, struct err *e) _fallible_;
/* Nobody makes an image until it is closed; *fd is -1 when there is no store. -EBUSY: somebody does
 * just now. Does not wait. */
int vm_stock_lock(int *fd, struct err *e) _fallible_;
/* With the lock: one file of the list; with a disk, its snapshots. -EBUSY: in use. 0 also if it is
 * gone. */
int vm_stock_remove(const char *file, struct err *e) _fallible_;
/* Removes (is_dry: counts) what was half-made by somebody who is gone. */
int vm_stock_sweep(bool is_dry, size_t *n, struct err *e) _fallible_;

/* --- oci.c --- */

/* An image as a registry hands it out: the root file system as one layer, uncompressed, and above
 * it one with GUEST_BUNDLE (guest.h) and the folder for its socket; a configuration that starts
 * `GUEST_BUNDLE guest wait` as root; the manifest that names them by their digests. */
struct vm_oci_blob {
	int fd;		 /* read-only */
	char digest[72]; /* "sha256:…" */
	uint64_t size;
};
enum { VM_OCI_MANIFEST, VM_OCI_CONFIG, VM_OCI_ROOT, VM_OCI_PROGRAM, VM_OCI_COUNT };
struct vm_oci {
	struct vm_oci_blob blobs[VM_OCI_COUNT];
};
/* image: with its tar, whose digest is remembered beside it. */
int vm_oci_make(const struct vm_image *image, struct vm_oci *out, struct err *e) _fallible_;
void vm_oci_free(struct vm_oci *o);

/* --- tools.c; for `doctor` too --- */

/* Whether a tool is there: its path, until the next call, or NULL. */
const char *vm_tool_find(const char *name);
