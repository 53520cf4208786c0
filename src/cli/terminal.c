/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top.h"

#include "base/cleanup.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

/* The other screen, so that what was there is there again afterwards; and no cursor. */
#define ENTER "\033[?1049h\033[?25l\033[2J"
#define LEAVE "\033[?25h\033[?1049l"
#define HOME  "\033[H"
#define CLEAR "\033[J" /* what is below */

struct terminal {
	struct termios before;
	sigset_t mask_before;
	int signals;
	bool input; /* until it ends */
};

static int write_all(const char *text, size_t size)
{
	while (size) {
		ssize_t n = write(STDOUT_FILENO, text, size);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd room = {.fd = STDOUT_FILENO, .events = POLLOUT};
			poll(&room, 1, 1000);
		} else if (n < 0 && errno != EINTR) {
			return -errno;
		}
		if (n > 0) {
			text += n;
			size -= (size_t)n;
		}
	}
	return 0;
}

static int terminal_enter(const struct terminal *t)
{
	struct termios raw = t->before;

	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
		return -errno;
	return write_all(ENTER, strlen(ENTER));
}

static void terminal_leave(const struct terminal *t)
{
	(void)write_all(LEAVE, strlen(LEAVE));
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &t->before);
}

int terminal_open(struct terminal **ret)
{
	static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGPIPE};
	cleanup_free struct terminal *t = calloc(1, sizeof(*t));
	sigset_t set;

	if (!t)
		return -ENOMEM;
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) ||
		tcgetattr(STDIN_FILENO, &t->before) < 0)
		return -ENOTTY;
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(watched) / sizeof(*watched); i++)
		sigaddset(&set, watched[i]);
	t->input = true;
	t->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (t->signals < 0)
		return -errno;
	sigprocmask(SIG_BLOCK, &set, &t->mask_before);
	int r = terminal_enter(t);
	if (r < 0) {
		close(t->signals);
		sigprocmask(SIG_SETMASK, &t->mask_before, NULL);
		return r;
	}
	*ret = TAKE_PTR(t);
	return 0;
}

void terminal_close(struct terminal *t)
{
	if (!t)
		return;
	terminal_leave(t);
	close(t->signals);
	sigprocmask(SIG_SETMASK, &t->mask_before, NULL);
	free(t);
}

unsigned terminal_poll(const struct terminal *t, struct pollfd fds[2])
{
	fds[0] = (struct pollfd){.fd = t->signals, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
	return t->input ? 2 : 1;
}

/* Stops as anybody does; it goes on here when it is continued. */
static void terminal_stop(const struct terminal *t)
{
	terminal_leave(t);
	kill(getpid(), SIGSTOP);
	(void)terminal_enter(t);
}

enum terminal_event terminal_next(struct terminal *t, int *ret_key)
{
	struct signalfd_siginfo info;
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	unsigned char key;

	if (read(t->signals, &info, sizeof(info)) == sizeof(info)) {
		*ret_key = (int)info.ssi_signo;
		if (info.ssi_signo == SIGTSTP)
			terminal_stop(t);
		return info.ssi_signo == SIGTSTP || info.ssi_signo == SIGWINCH ? TERMINAL_REDRAW
									       : TERMINAL_END;
	}
	if (!t->input || poll(&input, 1, 0) <= 0)
		return TERMINAL_NOTHING;
	if (read(STDIN_FILENO, &key, 1) != 1) {
		t->input = false;
		return TERMINAL_NOTHING;
	}
	*ret_key = key;
	return TERMINAL_KEY;
}

void terminal_size(int *ret_width, int *ret_height)
{
	struct winsize size = {0};

	(void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	*ret_width = size.ws_col ? size.ws_col : 80;
	*ret_height = size.ws_row ? size.ws_row : 24;
}

int terminal_draw(const char *text, size_t size)
{
	int r = write_all(HOME, strlen(HOME));

	if (r == 0)
		r = write_all(text, size);
	return r == 0 ? write_all(CLEAR, strlen(CLEAR)) : r;
}
