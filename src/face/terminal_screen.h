/*
 * The terminal, by way of ncurses: cells go out, keys come in. One at a time in a process.
 */
#pragma once

#include "face/terminal_ui.h"

/* -ENOTTY with a line for people. */
int screen_open(struct err *e) _fallible_;
void screen_close(void);
/* After another program, or the shell, had the terminal. */
void screen_pause(void);
void screen_resume(void);
/* The size of the terminal, into the grid, which is emptied when it is another one. */
void screen_fit(struct grid *g);
void screen_show(const struct grid *g);
void screen_ring(void);
/* The next key that has been typed, UI_KEY_NONE for one that means nothing here; -EAGAIN: none.
 */
int screen_key(int *key) _fallible_;
/* Forgets what has been typed until now. */
void screen_forget_keys(void);
