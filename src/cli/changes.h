/* What a bottle may do now and could not when it last ran, and the other way round. */
#pragma once

#include "cli/resume.h"

#define CHANGES_SHOWN 6
#define CHANGES_BYTES 900

/* "+ ROUTE; - ROUTE; …" on one line, CHANGES_SHOWN of them and the number of the rest; nothing is
 * appended when nothing has changed. A route or git remote that says something else now is there
 * twice. */
int changes_print(const struct resume_was *was, const struct plan *now, struct buf *out) _fallible_;
