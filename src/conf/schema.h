/*
 * Reading values out of a manifest's tree: each reader says, with file, line and column, what it
 * expected. A mapping is read through a table of its keys, so that an unknown key is always an
 * error, with "did you mean".
 */
#pragma once

#include "conf/yaml_tree.h"

struct schema_ctx {
	const char *file;
	const char *home; /* for "~/" */
	struct err *e;
};

struct schema_field {
	const char *name;
	/* out is what was given to schema_mapping(). */
	int (*read)(struct schema_ctx *c, const struct yaml_node *value, void *out);
};

/* For read: a key of the design that this version does not serve; refused, never ignored. */
int schema_unsupported(struct schema_ctx *c, const struct yaml_node *value, void *out) _fallible_;
/* The same, but "false" is accepted: nothing is asked for. */
int schema_unsupported_unless_false(struct schema_ctx *c, const struct yaml_node *value,
				    void *out) _fallible_;
/* For read: any value, for others to interpret. */
int schema_ignore(struct schema_ctx *c, const struct yaml_node *value, void *out) _fallible_;

int schema_mapping(struct schema_ctx *c, const struct yaml_node *n, const char *what,
		   const struct schema_field *fields, size_t n_fields, void *out) _fallible_;
/* An error at a node. */
int schema_refuse(struct schema_ctx *c, const struct yaml_node *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Turns an error without a place, in c->e, into one at the node. */
int schema_place(struct schema_ctx *c, const struct yaml_node *at, int ret);

/* Text that is not empty. */
int schema_text(struct schema_ctx *c, const struct yaml_node *n, const char *what,
		struct str *out) _fallible_;
int schema_bool(struct schema_ctx *c, const struct yaml_node *n, const char *what,
		bool *out) _fallible_;
int schema_number(struct schema_ctx *c, const struct yaml_node *n, const char *what, uint64_t min,
		  uint64_t max, uint64_t *out) _fallible_;
/* "512M", "2GiB", "none" (0): powers of 1024. */
int schema_size(struct schema_ctx *c, const struct yaml_node *n, const char *what,
		uint64_t *out) _fallible_;
/* A list of at most max items; for each, read. */
int schema_list(struct schema_ctx *c, const struct yaml_node *n, const char *what, size_t max,
		int (*read)(struct schema_ctx *c, const struct yaml_node *item, void *out),
		void *out) _fallible_;
/* One of the candidates; its index. */
int schema_choice(struct schema_ctx *c, const struct yaml_node *n, const char *what,
		  const char *const *candidates, size_t n_candidates, size_t *out) _fallible_;
/* An absolute path, "~/" replaced by the home; the caller frees. */
int schema_path(struct schema_ctx *c, const struct yaml_node *n, const char *what,
		char **out) _fallible_;
/* Letters, digits and "_", not starting with a digit. */
bool schema_is_variable(struct str name);
