#pragma once

#include "backend/backend.h"

int native_probe(struct backend_check checks[BACKEND_CHECKS_MAX], size_t *n,
		 struct err *e) _fallible_;
