/* Shared by scrub.c (the search) and scrub_forms.c (what is searched for). */
#pragma once

#include "egress/scrub.h"

struct scrub_form {
	const uint8_t *p; /* in secret memory */
	uint32_t n;
	int16_t next; /* in the list of its bucket, -1 at the end */
};

#define SCRUB_BLOCK_BITS 14
#define SCRUB_WINDOW_MAX 24

struct scrub_set {
	char *memory; /* secret */
	size_t memory_n, memory_size;
	struct scrub_form forms[SCRUB_FORMS_MAX];
	size_t n_forms, n_secrets, longest;
	/* The search; see scrub.c. */
	size_t window; /* 0: nothing to search for */
	bool starts[256];
	uint8_t shift[1u << SCRUB_BLOCK_BITS];
	int16_t bucket[1u << SCRUB_BLOCK_BITS];
};

/* Adds every form of secret to forms[]. 0, or -ENOSPC. */
int scrub_forms_add(struct scrub_set *s, struct str secret) _fallible_;
