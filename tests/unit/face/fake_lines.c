/* The rest of face.h for the terminal's tests: records and messages that nobody made visible. */
#include "face/face.h"

int face_each_record(struct face *f, const char *slug, size_t limit, face_line_fn *fn, void *ctx,
		     struct err *e)
{
	(void)f;
	(void)slug;
	(void)limit;
	(void)e;
	(void)fn("12:00:01 block GET evil.example/\x1b[2J host-not-allowed", ctx);
	return 0;
}

int face_each_told(struct face *f, const char *slug, size_t limit, face_line_fn *fn, void *ctx,
		   struct err *e)
{
	(void)f;
	(void)slug;
	(void)limit;
	(void)e;
	(void)fn("hello \xe2\x80\xae human", ctx);
	return 0;
}
