/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CLI_TOP_H
#define VGPU_CLI_TOP_H

/*
 * `vgpuctl top`, in three parts: what is shown (top_view.c, which knows no terminal), the terminal
 * (terminal.c), and the verb that brings samples, keys and signals to them (top.c).
 */

#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>

/* X(name, key, title, width, rank): columns from left to right; those of the highest rank are left
 * out first where there is little room. The name takes what is left. */
#define TOP_COLUMNS(X)                                                                             \
	X(name, 'n', "NAME", 0, 0)                                                                 \
	X(gpu, 'h', "GPU", -7, 7)                                                                  \
	X(state, 's', "STATE", -8, 6)                                                              \
	X(time, 'g', "GPU%", 5, 1)                                                                 \
	X(wait, 'w', "WAIT%", 5, 5)                                                                \
	X(draws, 'd', "DRAWS/s", 7, 4)                                                             \
	X(bytes, 'b', "MB/s", 6, 8)                                                                \
	X(fps, 'f', "FPS", 5, 2)                                                                   \
	X(p99, 'p', "P99ms", 5, 9)                                                                 \
	X(vram, 'v', "VRAM MiB", 11, 3)

enum top_column {
#define X(name, key, title, width, rank) TOP_##name,
	TOP_COLUMNS(X)
#undef X
		TOP_COLUMN_COUNT
};

#define TOP_LEAST_WIDTH  24
#define TOP_LEAST_HEIGHT 4
#define TOP_NO_LIMIT     0x7fffffff

struct top_view {
	json_t *last, *now; /* samples; NULL: none yet */
	enum top_column sort;
	bool reverse;
};

/* false: there is no column of that name, or of that key. */
bool top_view_sort_by_name(struct top_view *view, const char *name);
/* The same key again turns the order round. */
bool top_view_sort_by_key(struct top_view *view, int key);

/* Takes a sample, as a line of JSON; false: it is none. */
bool top_view_sample(struct top_view *view, const char *line);
/* Rates need two samples. */
bool top_view_ready(const struct top_view *view);

/*
 * Prints at most `height` lines of at most `width` characters; `before` and `after` stand around
 * the line with the titles, `end` between lines.
 */
struct top_page {
	int width, height;
	const char *before, *after, *end;
};
void top_view_print(const struct top_view *view, const struct top_page *page, FILE *out);
void top_view_finish(struct top_view *view);

/* ---- the terminal ---- */

struct terminal;

enum terminal_event {
	TERMINAL_NOTHING,
	TERMINAL_KEY,    /* *ret_key */
	TERMINAL_REDRAW, /* its size changed, or we were stopped and go on */
	TERMINAL_END,    /* a signal that ends us, *ret_key its number */
};

/* Takes standard input and output over until terminal_close(); -errno: they are no terminal. */
int terminal_open(struct terminal **ret);
/* As it was before. NULL-safe. */
void terminal_close(struct terminal *t);
/* Descriptors to wait for; returns how many, at most 2. */
unsigned terminal_poll(const struct terminal *t, struct pollfd fds[2]);
enum terminal_event terminal_next(struct terminal *t, int *ret_key);
void terminal_size(int *ret_width, int *ret_height);
/* All of a screen, which `text` begins at its top left. */
int terminal_draw(const char *text, size_t size);

#endif
