/*
 * The YAML head of a manifest as a small tree in which every node knows its line and column. A
 * narrow YAML: one document of mappings, sequences and scalars. Anchors, aliases, tags, directives,
 * merge keys, duplicate keys and keys that are not plain text are errors, and so is anything past
 * the caps: a manifest must mean one thing, and reading it must cost little.
 */
#pragma once

#include "base/err.h"

#define YAML_HEAD_MAX_BYTES (64u << 10)
#define YAML_FILE_MAX_BYTES (1u << 20)
#define YAML_DEPTH_MAX	    12
#define YAML_NODES_MAX	    8192

enum yaml_kind { YAML_KIND_SCALAR, YAML_KIND_SEQUENCE, YAML_KIND_MAPPING };

struct yaml_node {
	enum yaml_kind kind;
	struct str text; /* of a scalar; NUL-terminated, without a NUL inside */
	bool is_plain;	 /* a scalar without quotes: may stand for true, 12 or nothing */
	bool is_flow;	 /* a sequence or mapping in brackets */
	unsigned line, column;
	unsigned end_line;	     /* the last line that something of it stands in */
	struct yaml_node **children; /* of a mapping: key, value, key, value … */
	size_t n_children, cap_children;
};

struct yaml_doc {
	char *file;		/* as errors shall name it */
	struct yaml_node *root; /* a mapping; NULL when the head is empty */
	struct str body;	/* what follows the head; into the text that was given */
	unsigned body_line;
};

/* Takes a whole file: a first line "---", the head, a line "---", the body. The text must outlive
 * the document. */
int yaml_doc_parse(struct yaml_doc *out, const char *file, struct str text,
		   struct err *e) _fallible_;
void yaml_doc_free(struct yaml_doc *d);
/* The value of a mapping's key, or NULL. */
const struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key);
/* "a mapping", "a list", "text", for errors. */
const char *yaml_kind_name(const struct yaml_node *n);
/* A plain scalar that YAML reads as nothing: empty, "~" or "null". */
bool yaml_is_null(const struct yaml_node *n);
