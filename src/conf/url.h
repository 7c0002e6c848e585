/* A URL as a human types it for `policy check`, cut up the way that pipelock sees a request. */
#pragma once

#include "base/err.h"

struct url {
	struct str host; /* as written */
	uint16_t port;	 /* 443, or 80 after "http:" */
	struct str path; /* with its query, without a fragment; "/" when absent */
};

/* Without a scheme, https. Points into text. */
int url_parse(struct str text, struct url *out, struct err *e) _fallible_;
