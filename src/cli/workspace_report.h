/* What an agent left in a workspace, for people. */
#pragma once

/* The report of the bottle whose state folder dir is, on standard error: the first of its lines.
 * Nothing when there is none. slug: NULL when the folder is about to go, and then all of it. */
void workspace_report_show(int dir, const char *slug);
