/* The command lines of smolvm, which are not the same in all versions. What is known is a table; a
 * version that is not in it is not guessed. */
#pragma once

#include "base/err.h"

#include <stdbool.h>

enum dialect_verb {
	DIALECT_CREATE, /* name, from: the Smolfile */
	DIALECT_START,	/* name */
	DIALECT_EXEC,	/* name, has_input, has_tty, command */
	DIALECT_CP,	/* from, to: one of them "NAME:PATH" */
	DIALECT_STATUS, /* name */
	DIALECT_LS,
	DIALECT_STOP,	/* name */
	DIALECT_DELETE, /* name */
	DIALECT_COUNT
};

struct dialect_version {
	unsigned major, minor, patch;
};

#define DIALECT_WORDS_MAX 12
struct dialect {
	const char *name;		     /* for people: which versions */
	struct dialect_version first, until; /* of it; until is not any more */
	/* Words, and among them "{…}" for what the caller has. */
	const char *words[DIALECT_COUNT][DIALECT_WORDS_MAX];
};
/* The versions that have one, for a line. */
#define DIALECT_KNOWN "0.8.x, and 1.0.2 and later 1.x"

struct dialect_args {
	const char *name, *from, *to;
	bool has_input, has_tty;
	char *const *command; /* NULL-terminated */
};

/* What `smolvm --version` says: "smolvm 1.0.2". -EINVAL for anything else, a pre-release included.
 */
int dialect_read_version(struct str said, struct dialect_version *v, struct err *e) _fallible_;
/* NULL: not known. */
const struct dialect *dialect_find(const struct dialect_version *v);
/* From 0.8.1 on the tool follows its terminal's size; before, the guest has to be told. */
bool dialect_follows_size(const struct dialect_version *v);
/* The argv for program: words of the table and of a, which both outlive it; the array is the
 * caller's to free. */
char **dialect_argv(const struct dialect *d, enum dialect_verb verb, const char *program,
		    const struct dialect_args *a);
