#include "requests/who.h"

#include "base/text.h"

#include <pwd.h>
#include <stdio.h>

#define WHO_ENTRY_BYTES 4096

void who_name(uid_t uid, char out[STORE_WHO_MAX])
{
	char text[WHO_ENTRY_BYTES], name[48] = "";
	struct passwd entry, *found = NULL;

	if (getpwuid_r(uid, &entry, text, sizeof(text), &found) == 0 && found)
		text_visible_cstr(name, sizeof(name), str_of(found->pw_name));
	(void)snprintf(out, STORE_WHO_MAX, "uid %u%s%s%s", (unsigned)uid, name[0] ? " (" : "", name,
		       name[0] ? ")" : "");
}
