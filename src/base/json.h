/* References to jansson's values that end with their scope. For files that link jansson anyway. */
#pragma once

#include <jansson.h>

static inline void json_clean_p(json_t **j)
{
	json_decref(*j);
}

#define _cleanup_json_ __attribute__((cleanup(json_clean_p)))
