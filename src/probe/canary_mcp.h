/*
 * The witness as a supervise without any wall: an MCP server that grants what it is asked, and a
 * face that decides for whoever comes. What it would show a human, and write into a log, goes as it
 * is into FOLDER/shown.
 */
#pragma once

#include <stdbool.h>

/* Makes FOLDER/shown; false: it could not. */
bool canary_mcp_open(const char *folder);
/* Requests until the client goes, each of them answered with 200:
 *   /api/…  "approved", and one event of the canary's
 *   /mcp    tools/list has other tools each time, one of which takes the wall down;
 *           recent_refusals is the tail of all that the canary has seen; every other call, and
 *           everything else that is JSON-RPC or not, is granted
 *   else    logged, with what is escaped in it unescaped */
void canary_mcp_serve(const char *name, int fd);
