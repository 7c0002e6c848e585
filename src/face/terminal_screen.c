/*
 * Theory of operation. Only what differs from the last screen is given to ncurses, which in turn
 * sends only what differs from the terminal. Nothing but single cells ever goes out (setcchar() of
 * characters that grid found printable), so no text can hold a sequence that the terminal obeys.
 *
 * A crash must not leave a terminal without echo in its alternate screen: the sequences that leave
 * it are taken from terminfo at the start and written by the handlers of the signals that a bug
 * raises, or that anybody sends, for which nothing but write() and tcsetattr() is needed.
 */
#define NCURSES_WIDECHAR 1
#include "face/terminal_screen.h"

#include "base/clean.h"

#include <curses.h>
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <term.h>
#include <termios.h>

static struct {
	SCREEN *curses;
	struct grid last;
	attr_t attrs[GRID_STYLE_COUNT];
	short pairs[GRID_STYLE_COUNT];
	struct termios before;
	char undo[256];
	size_t undo_n;
} screen;

/* All that end a process unless somebody handles them, but those that terminal.c waits for. */
static const int fatal[] = {SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,	SIGABRT,  SIGSYS,
			    SIGTRAP, SIGUSR1, SIGUSR2, SIGALRM, SIGPROF,  SIGVTALRM,
			    SIGXCPU, SIGXFSZ, SIGIO,   SIGPWR,	SIGSTKFLT};

static void put_back(int sig)
{
	(void)!write(STDOUT_FILENO, screen.undo, screen.undo_n);
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &screen.before);
	/* The default action is there again (SA_RESETHAND) and takes its turn on return. */
	(void)raise(sig);
}

static void catch_fatal(bool is_on)
{
	struct sigaction a = {.sa_handler = is_on ? put_back : SIG_DFL,
			      .sa_flags = is_on ? (int)SA_RESETHAND : 0};

	for (size_t i = 0; i < ARRAY_LEN(fatal); i++)
		(void)sigaction(fatal[i], &a, NULL);
}

static void add_undo(const char *s)
{
	size_t n = s && s != (char *)-1 ? strlen(s) : 0;

	if (screen.undo_n + n < sizeof(screen.undo)) {
		memcpy(screen.undo + screen.undo_n, n ? s : "", n);
		screen.undo_n += n;
	}
}

/* xterm's ctlseqs, "Bracketed Paste Mode"; terminfo has no capability for it everywhere, and a
 * terminal that does not know it ignores it. The codes are past those that terminfo's own keys get.
 */
#define PASTE_ON       "\033[?2004h"
#define PASTE_OFF      "\033[?2004l"
#define CODE_PASTE     2000
#define CODE_PASTE_END 2001
/* What a program before this one may have left on: reports of the mouse and of the focus, which
 * come as text that looks typed. */
#define REPORTS_OFF "\033[?1000l\033[?1002l\033[?1003l\033[?1004l\033[?1005l\033[?1006l\033[?1015l"

/* Past ncurses, which has its own buffer. */
static void put_now(const char *s)
{
	(void)!write(STDOUT_FILENO, s, strlen(s));
}

static void bracket_pastes(void)
{
	(void)define_key("\033[200~", CODE_PASTE);
	(void)define_key("\033[201~", CODE_PASTE_END);
	put_now(REPORTS_OFF PASTE_ON);
}

static void leave(void)
{
	put_now(PASTE_OFF);
	(void)endwin();
}

static void set_style(enum grid_style s, attr_t attr, short colour)
{
	screen.attrs[s] = attr;
	if (colour >= 0 && init_pair((short)(s + 1), colour, -1) == OK)
		screen.pairs[s] = (short)(s + 1);
}

/* Each style is told from plain text without a colour too. */
static void set_up_styles(void)
{
	const char *no_colour = getenv("NO_COLOR");
	bool has = has_colors() && !(no_colour && no_colour[0]) && start_color() == OK &&
		   use_default_colors() == OK;

	set_style(GRID_BOLD, A_BOLD, -1);
	set_style(GRID_DIM, has ? A_DIM : A_NORMAL, -1);
	set_style(GRID_SELECTED, A_REVERSE, -1);
	set_style(GRID_TITLE, A_BOLD, has ? COLOR_CYAN : -1);
	set_style(GRID_GOOD, A_BOLD, has ? COLOR_GREEN : -1);
	set_style(GRID_NOTE, A_NORMAL, has ? COLOR_BLUE : -1);
	set_style(GRID_WARN, A_BOLD, has ? COLOR_YELLOW : -1);
	set_style(GRID_NEVER, has ? A_BOLD : A_BOLD | A_REVERSE, has ? COLOR_RED : -1);
	set_style(GRID_AGENT, has ? A_NORMAL : A_UNDERLINE, has ? COLOR_MAGENTA : -1);
}

#define REFUSED "cannot be drawn on; \"claude-bottle requests\" lists and decides without a screen"

int screen_open(struct err *e)
{
	const char *term = getenv("TERM");

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return err_set(e, -ENOTTY, "what is no terminal " REFUSED);
	if (!term || !term[0] || strcmp(term, "dumb") == 0)
		return err_set(e, -ENOTTY, "a terminal without TERM, or a dumb one, " REFUSED);
	if (tcgetattr(STDIN_FILENO, &screen.before) < 0)
		return err_errno(e, "the terminal");
	(void)setlocale(LC_CTYPE, "");
	screen.curses = newterm(NULL, stdout, stdin);
	if (!screen.curses || !tigetstr("cup") || tigetstr("cup") == (char *)-1) {
		screen_close();
		return err_set(e, -ENOTTY, "this kind of terminal (TERM) " REFUSED);
	}
	screen.undo_n = 0;
	add_undo(PASTE_OFF);
	add_undo(tigetstr("sgr0"));
	add_undo(tigetstr("rmkx"));
	add_undo(tigetstr("cnorm"));
	add_undo(tigetstr("rmcup"));
	catch_fatal(true);
	(void)cbreak();
	(void)noecho();
	(void)nonl();
	(void)set_escdelay(25);
	(void)keypad(stdscr, TRUE);
	(void)nodelay(stdscr, TRUE);
	(void)intrflush(stdscr, FALSE);
	(void)meta(stdscr, TRUE);
	bracket_pastes();
	set_up_styles();
	return 0;
}

void screen_close(void)
{
	if (!screen.curses)
		return;
	leave();
	catch_fatal(false);
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &screen.before);
	delscreen(screen.curses);
	grid_free(&screen.last);
	screen.curses = NULL;
}

void screen_pause(void)
{
	leave();
}

void screen_resume(void)
{
	put_now(REPORTS_OFF PASTE_ON);
	(void)clearok(stdscr, TRUE);
	(void)refresh();
	grid_free(&screen.last);
}

void screen_fit(struct grid *g)
{
	struct winsize w = {0};
	int rows = LINES, cols = COLS;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row && w.ws_col) {
		rows = w.ws_row;
		cols = w.ws_col;
	}
	if (g->rows == rows && g->cols == cols)
		return;
	grid_resize(g, rows, cols);
	if (is_term_resized(g->rows, g->cols))
		(void)resizeterm(g->rows, g->cols);
	(void)clearok(stdscr, TRUE);
	grid_free(&screen.last);
}

static void show_row(const struct grid *g, int row)
{
	const struct grid_cell *cells = g->cells + (size_t)row * (size_t)g->cols;

	for (int i = 0; i < g->cols; i++) {
		cchar_t c;

		if (!cells[i].ch[0])
			continue;
		if (setcchar(&c, cells[i].ch, screen.attrs[cells[i].style],
			     screen.pairs[cells[i].style], NULL) == OK)
			(void)mvadd_wch(row, i, &c);
	}
}

void screen_show(const struct grid *g)
{
	size_t row_bytes = (size_t)g->cols * sizeof(*g->cells);
	bool is_fresh = screen.last.rows != g->rows || screen.last.cols != g->cols;

	if (is_fresh)
		grid_resize(&screen.last, g->rows, g->cols);
	for (int row = 0; row < g->rows; row++) {
		struct grid_cell *last = screen.last.cells + (size_t)row * (size_t)g->cols;
		const struct grid_cell *now = g->cells + (size_t)row * (size_t)g->cols;

		if (!is_fresh && memcmp(last, now, row_bytes) == 0)
			continue;
		memcpy(last, now, row_bytes);
		show_row(g, row);
	}
	(void)curs_set(g->cursor_row >= 0 ? 1 : 0);
	if (g->cursor_row >= 0)
		(void)move(g->cursor_row, g->cursor_col);
	(void)refresh();
}

void screen_ring(void)
{
	(void)beep();
}

static int special_key(wint_t c)
{
	static const struct {
		wint_t curses;
		int key;
	} keys[] = {{KEY_UP, UI_KEY_UP},
		    {KEY_DOWN, UI_KEY_DOWN},
		    {KEY_LEFT, UI_KEY_LEFT},
		    {KEY_RIGHT, UI_KEY_RIGHT},
		    {KEY_PPAGE, UI_KEY_PAGE_UP},
		    {KEY_NPAGE, UI_KEY_PAGE_DOWN},
		    {KEY_HOME, UI_KEY_HOME},
		    {KEY_END, UI_KEY_END},
		    {KEY_ENTER, UI_KEY_ENTER},
		    {KEY_BACKSPACE, UI_KEY_BACKSPACE},
		    {KEY_DC, UI_KEY_BACKSPACE},
		    {CODE_PASTE, UI_KEY_PASTE},
		    /* A report that was on its way: its numbers follow as letters. */
		    {KEY_MOUSE, UI_KEY_PASTE},
		    {CODE_PASTE_END, UI_KEY_PASTE_END}};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (keys[i].curses == c)
			return keys[i].key;
	}
	return UI_KEY_NONE;
}

int screen_key(int *key)
{
	wint_t c;
	int r = get_wch(&c);

	*key = UI_KEY_NONE;
	if (r == ERR)
		return -EAGAIN;
	if (r == KEY_CODE_YES)
		*key = special_key(c);
	else if (c == '\r' || c == '\n')
		*key = UI_KEY_ENTER;
	else if (c == '\t')
		*key = UI_KEY_TAB;
	else if (c == 0x1b)
		*key = UI_KEY_ESCAPE;
	else if (c < 0x110000)
		*key = (int)c;
	return 0;
}

void screen_forget_keys(void)
{
	(void)flushinp();
}
