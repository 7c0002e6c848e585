/*
 * bubblewrap's command line as data. Its options go through a memory file (--args), so that the
 * host's process list shows neither an environment nor the files that are bound.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#define BWRAP_KEEP_MAX 24
#define BWRAP_ARGV_MAX 512
/* Descriptors that bubblewrap itself reads lie at this number or above: below, whoever starts it
 * may have fixed ones for the command. */
#define BWRAP_FD_MIN 64

struct bwrap {
	struct buf text; /* the options, NUL-separated */
	int args_fd;
	char *argv[BWRAP_ARGV_MAX + 1];
	size_t n_argv;
	int keep[BWRAP_KEEP_MAX]; /* descriptors that survive the exec; not owned */
	size_t n_keep;
};

/* The absolute path of bwrap in the system's folders (PATH is not consulted), or NULL. */
const char *bwrap_find(void);
/* io_memfd_sealed(), there. */
int bwrap_memfd(const char *name, struct str data, struct err *e) _fallible_;
/* fd moved there; -errno with fd closed. */
int bwrap_raise_fd(int fd, struct err *e) _fallible_;

void bwrap_init(struct bwrap *b);
void bwrap_free(struct bwrap *b);

/* Options, up to NULL. What does not fit shows in bwrap_seal(). */
void bwrap_put(struct bwrap *b, const char *const *options);
#define BWRAP_PUT(b, ...) bwrap_put((b), (const char *const[]){__VA_ARGS__, NULL})
/* An option with a descriptor, which is kept, and perhaps a path. */
void bwrap_put_fd(struct bwrap *b, const char *option, int fd, const char *dest);
void bwrap_keep(struct bwrap *b, int fd);
/* An environment of nothing but these, "NAME=value". */
void bwrap_put_env(struct bwrap *b, char *const *env);
/* Namespaces of its own for all but the network, no way to further ones, no capability; it ends
 * with the process that starts it. */
void bwrap_put_namespaces(struct bwrap *b);
/* /usr read-only, on hosts that merged it /bin and its like as links into it; /proc and a /dev of
 * the harmless devices. */
void bwrap_put_system(struct bwrap *b);

/* The options are complete; what follows are the words of the command. */
int bwrap_seal(struct bwrap *b, struct err *e) _fallible_;
int bwrap_put_word(struct bwrap *b, const char *word, struct err *e) _fallible_;
/* In a child: becomes it, with no other descriptors than the standard ones and the kept ones.
 * Returns only with an error. */
int bwrap_become(const struct bwrap *b, char *const *env, struct err *e);
