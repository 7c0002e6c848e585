/* Between the files that make images. */
#pragma once

#include "image/image.h"

#include "base/clean.h"
#include "image/host.h"
#include "image/program.h"

#define IMAGE_OURS	  "claude-bottle/"
#define IMAGE_STAGE	  "stage" /* the label of what is not whole */
#define IMAGE_TAG_DIGITS  16
#define IMAGE_PROGRAM_MAX (512u << 20)
#define IMAGE_ID_MAX	  80
#define IMAGE_FILES_MAX	  3

/* --- the templates (names.c) --- */

struct image_template {
	const char *name;
	const char *dockerfile;
	struct {
		const char *name, *text;
	} files[IMAGE_FILES_MAX]; /* further ones of the context, up to one without a name */
	int below;		  /* an enum image_kind, or -1 */
	bool has_program;	  /* the bundle's executable is in the context */
	bool needs_host;	  /* IMAGE_HOST_CA and NPM_REGISTRY, in a stage of its own */
};
extern const struct image_template image_templates[IMAGE_KIND_COUNT];

#define IMAGE_BASE_PULLED_NAME "debian"
#define IMAGE_BASE_PULLED_TAG  "bookworm-slim"

/* The references of kind and of all that it stands on. */
struct image_names {
	char reference[IMAGE_KIND_COUNT][IMAGE_REFERENCE_MAX];
};
/* program_hash: of the bundle's executable; may be NULL where no kind that is asked for has it. */
int image_names_make(struct image_names *out, const char *version, const char *machine,
		     const char *program_hash, struct err *e) _fallible_;
/* The same of this program on this machine. program, for a build, is the caller's to free, also on
 * failure; NULL: the executable's hash will do. */
int image_names_here(struct image_names *out, struct image_program *program, bool has_program,
		     struct err *e) _fallible_;

/* --- what a builder says (said.c) --- */

#define SAID_LINE_MAX 512
#define SAID_IDS_MAX  64

struct image_said {
	const char *name;
	const struct progress *progress;
	struct buf *log; /* or NULL */
	char line[SAID_LINE_MAX];
	size_t n_line;
	/* Of the step: its last line, and the first that complains. */
	char last[SAID_LINE_MAX], why[SAID_LINE_MAX];
	char step[32]; /* for progress */
	unsigned n_step, n_steps;
	char ids[SAID_IDS_MAX][16]; /* of what the steps have left */
	size_t n_ids;
	char id[IMAGE_ID_MAX]; /* of the whole */
};
void image_said_init(struct image_said *s, const char *name, const struct progress *p,
		     struct buf *log);
/* For engine_stream(). */
int image_said_event(void *said, const json_t *event);
/* Makes of the engine's error the line that tells why: what the step said last. */
void image_said_fail(const struct image_said *s, struct err *e);

/* --- building --- */

struct image_job {
	const struct engine *en;
	const struct image_names *names;
	const struct image_program *program; /* or NULL */
	const struct progress *progress;
	struct buf *log;
};
/* Builds kind out of its template on the image with the id below; id is the new image's, which has
 * no name yet. Nothing is left of one that fails, nor of its stages. */
int image_build_one(const struct image_job *job, enum image_kind kind, const char *below,
		    char id[IMAGE_ID_MAX], struct err *e) _fallible_;
int image_base_make(const struct image_job *job, char id[IMAGE_ID_MAX], struct err *e) _fallible_;

/* --- calls of the engine (calls.c) --- */

/* ref: a reference that was parsed, or an id. */
int image_inspect(const struct engine *en, const char *ref, struct image_info *out, json_t **whole,
		  struct err *e) _fallible_;
/* Gives the image of this id a reference of ours. */
int image_name(const struct engine *en, const char *id, const char *reference,
	       struct err *e) _fallible_;
/* The image, unless it has a name, and those below it that have none; what is in use stays. */
void image_drop(const struct engine *en, const char *id);
int image_pull(const struct engine *en, struct str name, struct str version,
	       const struct progress *p, struct err *e) _fallible_;
